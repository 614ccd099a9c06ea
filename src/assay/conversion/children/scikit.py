"""scikit-learn pickles and joblib files to skops or ONNX, inside the sandbox."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from assay.conversion.children.comparing import Compared, same_state
from assay.errors import AssayError, InvalidInput
from assay.loaders.frameworks import need, reason
from assay.loaders.reproducible import settle_skops
from assay.loaders.sklearn import PickleLoader, read_skops
from assay.spec.description import Description

METHODS = ("predict", "predict_proba", "decision_function", "transform", "score_samples")
ROWS = 64
ONNX_TOLERANCE = 1e-3
"""Relative difference that ONNX may have: it computes in single precision."""
_TEXTS = (
    "the quick brown fox jumps over the lazy dog",
    "this is good",
    "you are a terrible person and i hate you",
    "",
    "Grüße aus Köln, 東京 and 12345!",
    "a b c d e f g",
)


def to_skops(folder: Path, description: Description, result: Path) -> Compared:
    """Read through the restricted unpickler, write, read back, and compare every value and the answers.

    Raises:
        Refused: the file names what we do not run.
        InvalidInput: skops cannot hold it (code ``not-convertible``).
        IntegrityError: it is not the same (code ``not-equal``).
    """
    skops = need("skops.io", extra="sklearn", what="write a skops file")
    model = PickleLoader().load(folder, description, (description,))
    try:
        skops.dump(model, result)
        settle_skops(result)
    except Exception as error:
        raise InvalidInput(f"skops cannot hold it ({reason(error)})", code="not-convertible") from error
    try:
        again = read_skops(result)
    except AssayError as error:
        raise InvalidInput(f"it would not load as skops: {error.message}", code="not-convertible") from error
    compared = Compared(methods=["state"], tools=_versions("sklearn", "skops"))
    compared.arrays = same_state(model, again)
    answers(model, again, compared)
    return compared


def to_onnx(folder: Path, description: Description, result: Path) -> Compared:
    """Translate with skl2onnx, and compare answers within ``ONNX_TOLERANCE``.

    Raises:
        As ``to_skops``; MissingDependency also when skl2onnx is not installed.
    """
    what = "convert a scikit-learn model to ONNX"
    skl2onnx = need("skl2onnx", what=what)
    types = need("skl2onnx.common.data_types", distribution="skl2onnx", what=what)
    runtime = need("onnxruntime", extra="onnx", what=what)
    model: Any = PickleLoader().load(folder, description, (description,))
    width = _width(model)
    if not width:
        raise InvalidInput("it does not say how many numbers it takes", code="not-convertible")
    try:
        options = {id(model): {"zipmap": False}} if hasattr(model, "predict_proba") else None
        written = skl2onnx.to_onnx(model, initial_types=[("X", types.FloatTensorType([None, width]))], options=options)
        result.write_bytes(written.SerializeToString())
        session = runtime.InferenceSession(str(result), providers=["CPUExecutionProvider"])
    except Exception as error:
        raise InvalidInput(f"skl2onnx cannot translate it ({reason(error)})", code="not-convertible") from error
    compared = Compared(methods=["outputs"], tolerance=ONNX_TOLERANCE, tools=_versions("sklearn", "skl2onnx"))
    rows = np.random.default_rng(0).normal(size=(ROWS, width)).astype(np.float32)
    found = session.run(None, {"X": rows})
    first = "transform" if hasattr(model, "transform") and not hasattr(model, "predict") else "predict"
    for name, ours in zip((first, "predict_proba"), found, strict=False):
        if hasattr(model, name):
            theirs = np.asarray(getattr(model, name)(rows))
            compared.answers(theirs.reshape(ours.shape).astype(ours.dtype), ours, name)
    if not compared.outputs:
        raise InvalidInput("it gives no answers that could be compared", code="not-convertible")
    return compared


def answers(model: Any, again: Any, compared: Compared) -> None:
    """Compare what two models answer to the same made-up inputs."""
    asked = False
    for name in METHODS:
        if not hasattr(model, name):
            continue
        for words, rows in _inputs(model):
            try:
                expected, repeated = (getattr(model, name)(rows) for _ in range(2))
            except Exception as error:  # noqa: BLE001 - these inputs are not for this model
                compared.unsuited.append(f"{name} of {words}: {reason(error)}")
                continue
            if not _repeats(expected, repeated):
                compared.notes.append(f"{name} is random and was not compared")
                break
            compared.answers(expected, getattr(again, name)(rows), f"{name} of {words}")
            asked = True
    if asked:
        compared.methods.append("outputs")
    elif compared.unsuited:
        compared.notes.append(f"its answers were not compared, its values were: {compared.unsuited[0]}")


def _inputs(model: Any) -> Iterator[tuple[str, Any]]:
    """Inputs of the shape that a model asks for."""
    width = _width(model)
    names = getattr(model, "feature_names_in_", None)
    if not width:
        yield "texts", list(_TEXTS)
        return
    random = np.random.default_rng(0)
    numbers = random.normal(size=(ROWS, width))
    for words, rows in (
        ("random numbers", numbers),
        ("positive numbers", np.abs(numbers)),
        ("small whole numbers", random.integers(0, 3, size=(ROWS, width)).astype(np.float64)),
    ):
        yield words, _named(rows, names)


def _width(model: Any) -> int:
    """How many numbers a row has, 0 when the model does not say; libraries call it differently."""
    for name in ("n_features_in_", "n_features_", "_n_features"):
        try:
            width = getattr(model, name, None)
        except Exception:  # noqa: BLE001, S112 - a property that does not work says nothing
            continue
        if isinstance(width, (int, np.integer)) and width > 0:
            return int(width)
    return 0


def _named(rows: Any, names: Any) -> Any:
    if names is None or len(names) != rows.shape[1]:
        return rows
    try:
        pandas = need("pandas", what="name the columns")
    except AssayError:
        return rows
    return pandas.DataFrame(rows, columns=list(names))


def _repeats(first: Any, second: Any) -> bool:
    try:
        Compared().answers(first, second, "it")
    except AssayError:
        return False
    return True


def _versions(*modules: str) -> dict[str, str]:
    return {name: str(need(name, what="say its version").__version__) for name in modules}
