"""Keras models in HDF5 to ``.keras`` archives, inside the sandbox."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from assay.conversion.children.comparing import Compared, unequal
from assay.errors import InvalidInput
from assay.loaders.frameworks import need, reason
from assay.loaders.keras import KerasLoader
from assay.loaders.reproducible import settle_keras
from assay.spec.description import Description

ROWS = 4
FREE = 32
"""Size that a dimension of an input gets where the model leaves it open."""
TOLERANCE = 1e-5
"""Relative difference of outputs: the same weights in the same layers, computed by threads in any order."""


def to_keras(folder: Path, description: Description, result: Path) -> Compared:
    """Read in safe mode, write, read back in safe mode, and compare every weight and the outputs.

    Raises:
        Refused: it holds code of its own.
        InvalidInput: Keras cannot write it (code ``not-convertible``).
        IntegrityError: it is not the same (code ``not-equal``).
    """
    keras = need("keras", extra="tensorflow", what="convert a Keras model")
    model: Any = KerasLoader().load(folder, description, (description,))
    named = result.with_name("written.keras")
    try:
        model.save(str(named))
        settle_keras(named)
        again: Any = keras.saving.load_model(str(named), compile=False, safe_mode=True)
    except Exception as error:
        raise InvalidInput(f"Keras cannot write it ({reason(error)})", code="not-convertible") from error
    named.replace(result)
    compared = Compared(methods=["tensors"], tolerance=TOLERANCE, tools={"keras": str(keras.__version__)})
    if _plain(model.get_config()) != _plain(again.get_config()):
        raise unequal("the layers are not configured like the original's")
    _weights(model, again, compared)
    _outputs(model, again, compared)
    if description.hyperparameters or description.metadata.get("optimizer_tensors"):
        compared.dropped.append(("the training", "compile settings and the state of the optimizer"))
    return compared


def _plain(config: Any) -> Any:
    """Settings as JSON has them: a shape may be a tuple here and a list there."""
    return json.loads(json.dumps(config, default=repr, sort_keys=True))


def _weights(model: Any, again: Any, compared: Compared) -> None:
    if len(model.weights) != len(again.weights):
        raise unequal(f"it has {len(again.weights)} weights, the original {len(model.weights)}")
    for one, two in zip(model.weights, again.weights, strict=True):
        first, second = np.asarray(one), np.asarray(two)
        if one.path != two.path or first.dtype != second.dtype or first.shape != second.shape:
            raise unequal(f"weight {two.path!r:.200} is not {one.path!r:.200} of the original")
        if first.tobytes() != second.tobytes():
            raise unequal(f"weight {one.path!r:.200} does not have the bits of the original")
        compared.arrays += 1


def _outputs(model: Any, again: Any, compared: Compared) -> None:
    random = np.random.default_rng(0)
    try:
        inputs = [_input(tensor, random) for tensor in model.inputs]
        expected = model(inputs if len(inputs) > 1 else inputs[0], training=False)
    except Exception as error:  # noqa: BLE001 - made-up inputs need not suit
        compared.notes.append(f"outputs were not compared: made-up inputs do not suit ({reason(error)}); weights were")
        return
    found = again(inputs if len(inputs) > 1 else inputs[0], training=False)
    for index, (one, two) in enumerate(zip(_listed(expected), _listed(found), strict=True)):
        compared.answers(np.asarray(one), np.asarray(two), f"output {index}")
    compared.methods.append("outputs")


def _input(tensor: Any, random: Any) -> Any:
    shape = [ROWS, *(size or FREE for size in tensor.shape[1:])]
    if "int" in str(tensor.dtype):
        return random.integers(0, 2, size=shape).astype(str(tensor.dtype))
    return random.normal(size=shape).astype(str(tensor.dtype))


def _listed(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [value[key] for key in sorted(value)]
    return list(value) if isinstance(value, (list, tuple)) else [value]
