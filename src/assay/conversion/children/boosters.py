"""XGBoost models in other encodings to UBJSON, inside the sandbox."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from assay.conversion.children.comparing import Compared, unequal
from assay.errors import InvalidInput
from assay.loaders.boosters import XGBoostLoader
from assay.loaders.frameworks import need, reason
from assay.spec.description import Description

ROWS = 256
MAX_FEATURES = 1_000_000


def to_ubj(folder: Path, description: Description, result: Path) -> Compared:
    """Read, write, read back, and compare the whole model and its predictions.

    Raises:
        BadFormat: this XGBoost does not read the file.
        IntegrityError: it is not the same (code ``not-equal``).
    """
    xgboost = need("xgboost", extra="xgboost", what="convert an XGBoost model")
    model: Any = XGBoostLoader().load(folder, description, (description,))
    named = result.with_name("written.ubj")
    try:
        model.save_model(str(named))
        again = xgboost.Booster(model_file=str(named))
    except Exception as error:
        raise InvalidInput(f"XGBoost cannot write it ({reason(error)})", code="not-convertible") from error
    named.replace(result)
    compared = Compared(methods=["state", "outputs"], tools={"xgboost": str(xgboost.__version__)})
    documents = [json.loads(bytes(one.save_raw("json"))) for one in (model, again)]
    compared.arrays = _same(documents[0], documents[1], "the model")
    trees = [one.get_dump(with_stats=True, dump_format="json") for one in (model, again)]
    if trees[0] != trees[1]:
        raise unequal("a tree is not the tree of the original")
    _predictions(xgboost, model, again, compared)
    return compared


def _predictions(xgboost: Any, model: Any, again: Any, compared: Compared) -> None:
    width = int(model.num_features())
    if not 0 < width <= MAX_FEATURES:
        compared.notes.append(f"{width} features: predictions were not compared, trees were")
        return
    random = np.random.default_rng(0)
    rows = random.normal(scale=10.0, size=(ROWS, width)).astype(np.float32)
    rows[random.random(rows.shape) < 0.1] = np.nan
    matrix = xgboost.DMatrix(rows, feature_names=model.feature_names, feature_types=model.feature_types)
    for words, options in (("the prediction", {}), ("the margin", {"output_margin": True})):
        try:
            expected = model.predict(matrix, **options)
        except xgboost.core.XGBoostError as error:
            compared.notes.append(f"{words} of made-up rows cannot be had ({reason(error)}): trees were compared")
            continue
        compared.answers(expected, again.predict(matrix, **options), words)


def _same(first: Any, second: Any, where: str) -> int:
    """Compare two JSON documents; the number of lists of numbers in them."""
    if type(first) is not type(second):
        raise unequal(f"{where} is another kind of value")
    if isinstance(first, dict):
        if first.keys() != second.keys():
            raise unequal(f"{where} has other fields")
        return sum(_same(first[key], second[key], f"{where}.{key}") for key in first)
    if isinstance(first, list):
        if len(first) != len(second):
            raise unequal(f"{where} has {len(second)} items, it had {len(first)}")
        nested = sum(
            _same(one, two, f"{where}[{index}]") for index, (one, two) in enumerate(zip(first, second, strict=True))
        )
        return nested + (not any(isinstance(item, (dict, list)) for item in first))
    if first != second:
        raise unequal(f"{where} is {second!r:.60}, it was {first!r:.60}")
    return 0
