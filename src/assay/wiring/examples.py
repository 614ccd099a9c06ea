"""Golden examples as people give them: with a live model, as a pair, or in a file beside the model."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.errors import AssayError, InvalidInput, NotFound
from assay.later import later
from assay.spec import example as golden
from assay.spec.example import (
    ANY,
    DEFAULTS,
    MAX_EXAMPLE,
    Array,
    Items,
    Named,
    Output,
    Table,
    Tolerance,
    Value,
    tolerance,
)

if TYPE_CHECKING:
    import numpy as np

    from assay.loaders import calling
    from assay.loaders import examples as encoding
else:
    np = later("numpy")
    calling = later("assay.loaders.calling")
    encoding = later("assay.loaders.examples")

Allowed = float | Mapping[str, float | tuple[float, float | None]] | None


@dataclass(frozen=True, slots=True)
class Example:
    """Inputs for a model, and what it gives for them.

    Args:
        inputs: a tuple is the model's arguments, a dictionary its keyword arguments or named inputs, all else its one
            argument.
        outputs: what it gives; asked from the live model when None.
        tolerance: how far numbers may be off: relative to the expected ones, or array type (``float32``, ``*``) to that
            or to a pair of relative and absolute. By default as ``docs/spec/statements.md`` says.
    """

    inputs: object
    outputs: object = None
    tolerance: Allowed = None


def example_of(model: object, given: object) -> golden.Example:
    """The golden example of a push: outputs as given, else as the live model gives them now.

    Args:
        model: the live object, or the path that is pushed.
        given: an ``Example``, a pair of inputs and outputs, else the inputs. A live model must answer to the inputs of
            a pair: two arguments would be taken for one otherwise, and nobody would know before it is rehearsed.

    Raises:
        InvalidInput: it cannot be kept exactly (codes ``example-value``, ``example-too-large``), or the model cannot be
            asked (codes ``not-callable``, ``example-failed``, ``example-without-outputs``).
    """
    stored = isinstance(model, (str, Path))
    if not isinstance(given, Example):
        pair = isinstance(given, tuple) and len(given) == 2
        if pair and isinstance(given, tuple) and not stored:
            _check_answers(model, given[0])
        given = Example(given[0], given[1]) if pair and isinstance(given, tuple) else Example(given)
    inputs = encoding.encode(given.inputs, what="the example's input")
    modules = encoding.modules_of(inputs)
    if given.outputs is not None:
        value = encoding.encode(given.outputs, what="the example's output")
        calls: tuple[Output, ...] = (Output(None, value),)
    elif stored:
        raise InvalidInput(
            "an example of files needs its outputs: nothing is run at push",
            code="example-without-outputs",
            hint="example=(inputs, outputs)",
        )
    else:
        calls = tuple(_captured(model, given.inputs))
    allowed = _tolerances(given.tolerance) or _defaults(calls)
    return golden.Example(inputs, calls, allowed, given.outputs is None, modules)


def _check_answers(model: object, inputs: object) -> None:
    """Whether a live model answers to the first of a pair.

    Raises:
        InvalidInput: it does not (code ``example-failed``).
    """
    call = calling.live_calls(model)[0]
    try:
        call.run(inputs)
    except Exception as error:  # the model's own code
        raise InvalidInput(
            f"two values are inputs and outputs, and the model does not answer to the first alone: {call.name} raised "
            f"{_reason(error)}; nothing was stored",
            code="example-failed",
            hint="two arguments are example=assay.Example((a, b))",
        ) from error


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]


def _captured(model: object, inputs: object) -> list[Output]:
    found: list[Output] = []
    for call in calling.live_calls(model):
        try:
            answer = call.run(inputs)
        except AssayError as error:
            raise InvalidInput(f"{error.message}; nothing was stored", code=error.code, hint=error.hint) from error
        except Exception as error:  # the model's own code
            if found:  # predict_proba of a classifier that has none
                continue
            raise InvalidInput(
                f"the model does not answer to the example: {call.name} raised {_reason(error)}; nothing was stored",
                code="example-failed",
                hint="a tuple is its arguments, a dictionary its keyword arguments or named inputs",
            ) from error
        found.append(Output(call.name, encoding.answers(answer, what=f"what {call.name} gives")))
    return found


def _tolerances(given: Allowed) -> dict[str, Tolerance]:
    if given is None:
        return {}
    if isinstance(given, (int, float)):
        return {ANY: tolerance(float(given))}
    found = {}
    for name, allowed in given.items():
        if name != ANY and name not in DEFAULTS:
            raise InvalidInput(
                f"no tolerance for {name!r}: expected one of {', '.join(DEFAULTS)} or {ANY}", code="bad-tolerance"
            )
        found[name] = tolerance(*allowed) if isinstance(allowed, tuple) else tolerance(float(allowed))
    return found


def _defaults(outputs: tuple[Output, ...]) -> dict[str, Tolerance]:
    """The defaults of the types that the outputs have, stated with the example so that later releases judge alike."""
    types = {name for output in outputs for name in _types(output.value)}
    return {name: DEFAULTS[name] for name in sorted(types & set(DEFAULTS))}


def _types(value: Value) -> set[str]:
    if isinstance(value, Array):
        return {value.dtype}
    if isinstance(value, Table):
        return {name for column in value.columns for name in _types(column.values)}
    if isinstance(value, Named):
        return {name for one in value.values.values() for name in _types(one)}
    return {name for one in value.values for name in _types(one)} if isinstance(value, Items) else set()


def read_example(file: Path) -> golden.Example:
    """The golden example in a file: ``inputs`` and ``outputs`` in an ``.npz`` archive or a JSON object.

    In an archive, ``inputs.NAME`` and ``outputs.NAME`` are named ones. In JSON, lists are plain Python lists, and
    ``{"dtype": "float32", "values": [[…]]}`` is an array; ``tolerance`` may be stated.

    Raises:
        NotFound: there is no such file (code ``path-not-found``).
        InvalidInput: it holds no example (code ``bad-example``).
    """
    if not file.is_file():
        raise NotFound(f"there is no file {file}", code="path-not-found")
    if file.stat().st_size > 16 * MAX_EXAMPLE:
        raise InvalidInput(f"{file.name} is too large for an example", code="example-too-large")
    try:
        body = _archive(file) if file.suffix == ".npz" else _document(json.loads(file.read_text("utf-8")))
    except (ValueError, OSError, zipfile.BadZipFile, TypeError, KeyError) as error:
        raise _unread(file, str(error)) from error
    if "inputs" not in body or "outputs" not in body:
        raise _unread(file, f"it holds {', '.join(body) or 'nothing'}")
    return example_of(file, Example(body["inputs"], body["outputs"], body.get("tolerance")))


def _archive(file: Path) -> dict[str, Any]:
    body: dict[str, Any] = {}
    with np.load(file, allow_pickle=False) as archive:
        for name in archive.files:
            part, dot, inner = name.partition(".")
            if dot:
                body.setdefault(part, {})[inner] = archive[name]
            else:
                body[part] = archive[name]
    return body


def _document(body: Any) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise TypeError("it is no JSON object")
    return {name: value if name == "tolerance" else _arrays(value) for name, value in body.items()}


def _arrays(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {"dtype", "values"}:
            return np.asarray(value["values"], dtype=str(value["dtype"]))
        return {name: _arrays(one) for name, one in value.items()}
    if isinstance(value, list) and any(isinstance(one, dict) for one in value):
        return [_arrays(one) for one in value]
    return value


def _unread(file: Path, why: str) -> InvalidInput:
    return InvalidInput(
        f"{file.name} holds no example: {why:.200}; expected inputs and outputs",
        code="bad-example",
        hint="numpy.savez('example.npz', inputs=X, outputs=y), or a JSON object with both",
    )
