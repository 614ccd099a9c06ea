"""Inside the clean environment: look at the files, load them as ``assay.load`` does after its gate, ask the example.

The gate itself was outside, over the same bytes: nothing comes in here that the policies do not let be loaded.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from assay.errors import AssayError, InvalidInput
from assay.formats.registry import all_formats
from assay.loaders.calling import Call, calls_of
from assay.loaders.examples import answers, decode
from assay.loaders.registry import choose_loader
from assay.service.examine import inspect
from assay.service.loading import build
from assay.spec.example import Example, Output, to_json
from assay.spec.inspection import Inspection
from assay.trees import Tree
from assay.trees.window import FileSource

_MAX_MESSAGE = 600
_NEEDS = re.compile(r"requires? (?:the )?[`'\"]?([\w.-]+)[`'\"]? (?:library|package|module)", re.IGNORECASE)
# How libraries say it that do not let Python say it.
_SCRIPTED = "The following operation failed in the TorchScript interpreter."
# What TorchScript's errors begin with; after the place in the program, the last line says what happened.


def attempt(
    task: Mapping[str, Any],
    since_start: Callable[[], float],
    importing: Callable[[], float],
    report: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """Load, then ask.

    Args:
        task: ``what``, ``folder``, ``entries``, ``permitted``, ``example``.
        since_start: seconds since the process began.
        importing: seconds spent importing so far.
        report: keeps what was seen so far, in case that asking ends the process.

    Returns:
        ``load_seconds``, ``import_seconds``, ``outputs``, ``failure``, as far as it came.
    """
    logging.disable(logging.WARNING)
    folder = Path(task["folder"])
    seen: dict[str, Any] = {}
    during = "load"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            inspection = _look(folder, task)
            model = build(folder, inspection, choose=choose_loader, what=task["what"])
            seen |= {"load_seconds": since_start(), "import_seconds": importing()}
            if task["example"] is not None:
                report(seen)
                during = "example"
                seen["outputs"] = list(_ask(model, Example.parse(task["example"]), folder, inspection, task["what"]))
    except BaseException as error:  # noqa: BLE001 - whatever foreign code raises is what was seen
        seen["failure"] = _failure(error, during)
    return seen


def _look(folder: Path, task: Mapping[str, Any]) -> Inspection:
    tree = Tree({entry: FileSource(folder / entry) for entry in task["entries"]})
    inspection = inspect(tree, all_formats())
    permitted = frozenset(task["permitted"])
    described = tuple(replace(found, permitted=permitted) for found in inspection.descriptions)
    return replace(inspection, descriptions=described) if permitted else inspection


def _ask(model: object, example: Example, folder: Path, inspection: Inspection, what: str) -> Iterator[dict[str, Any]]:
    def tokenizer() -> Any:
        return build(folder, inspection, choose=choose_loader, what=what, part="tokenizer")

    calls = {call.name: call for call in calls_of(model, tokenizer)}
    inputs = decode(example.inputs)
    for output in example.outputs:
        call = _named(calls, output)
        answer = answers(call.run(inputs), what=f"what {call.name} gives")
        yield {"call": call.name, "value": to_json(answer)}


def _named(calls: Mapping[str, Call], output: Output) -> Call:
    if output.call is None:
        return next(iter(calls.values()))
    if output.call not in calls:
        raise InvalidInput(
            f"the example asks {output.call}, and what was loaded has {', '.join(calls)}", code="not-callable"
        )
    return calls[output.call]


def _failure(error: BaseException, during: str) -> dict[str, str]:
    """What was raised: a module that is not there, wherever in the chain of causes it shows, or anything else."""
    message = error.message if isinstance(error, AssayError) else f"{type(error).__name__}: {error}"
    lines = message.strip().splitlines() or [type(error).__name__]
    lines = lines[-1:] if lines[0].endswith(_SCRIPTED) else lines
    body = {"kind": "error", "message": lines[0][:_MAX_MESSAGE], "module": "", "during": during}
    chain = list(_chain(error))
    missing: list[ImportError] = [cause for cause in chain if isinstance(cause, ModuleNotFoundError)]
    for cause in missing or [cause for cause in chain if isinstance(cause, ImportError)]:
        named = _NEEDS.search(str(cause))
        module = cause.name or (named[1] if named and not missing else "")
        first = str(cause).strip().splitlines() or [""]
        return {**body, "kind": "import", "message": first[0][:_MAX_MESSAGE], "module": module}
    return body


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__
