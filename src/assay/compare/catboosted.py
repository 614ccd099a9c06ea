"""CatBoost models as trees and what stands beside them, the same whether they were kept as ``.cbm`` or as JSON.

A tree is its splits (column and border) and its leaf values. Only columns of numbers are understood: categories, texts
and embeddings are looked up in tables behind the trees, and a model that has them is not compared here.

Slots of the core: ``model.fbs`` and ``features.fbs`` of CatBoost (see ``formats.boosting.catboost_model``).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from assay.containers.documents import parse_json, read_json
from assay.containers.flatbuffers import FlatBuffer, Table
from assay.containers.guard import guarded
from assay.trees import Window

MAGIC = b"CBM1"
MAX_JSON = 256 << 20
MAX_INFO = 64 << 20
MAX_COLUMNS = 200_000
MAX_TREES = 1 << 22
_OTHER_COLUMNS = {4: "categories", 6: "categories", 7: "categories", 12: "texts", 13: "texts", 18: "embeddings"}
"""Slots of what is no column of numbers."""
_OTHER_NAMES = ("categorical_features", "ctrs", "text_features", "embedding_features")
_DOCUMENTS = frozenset({"params", "training", "class_params", "multiclass_params", "output_options"})
_TRAINING = frozenset({"params", "training"})

Split = tuple[int, float]
Parts = tuple[list[str], dict[str, Any], dict[str, Any]]


def catboost_parts(window: Window) -> Parts:
    """A model as digests of its trees, what else prediction may read, and settings of the training.

    Raises:
        AssayError: it cannot be read, or has columns that are not understood.
    """
    with guarded("a CatBoost model", window.path):
        if window.read(0, 4) == MAGIC:
            return _core(window)
        value = read_json(window, MAX_JSON).value
        if not isinstance(value, Mapping):
            raise TypeError("no object")
        return _export(value)


def _core(window: Window) -> Parts:
    size = int.from_bytes(window.exactly(4, 4), "little")
    root = FlatBuffer(window.sub(8, size)).root()
    trees = root.table(1)
    if trees is None:
        raise ValueError("no trees")
    for slot, what in _OTHER_COLUMNS.items():
        if trees.tables(slot, limit=MAX_COLUMNS):
            raise ValueError(f"columns of {what} are not understood")
    if size + 8 < window.size:
        raise ValueError("tables behind the trees are not understood")
    columns = [_column(row) for row in trees.tables(5, limit=MAX_COLUMNS)]
    info = {row.string(0) or "": row.string(1, limit=MAX_INFO) or "" for row in root.tables(2, limit=MAX_COLUMNS)}
    steps = trees.vector(10, 4)
    if steps and steps.count:
        raise ValueError("trees that are not symmetric are not understood")
    bias = trees.numbers(16, "d", limit=MAX_COLUMNS) or (trees.scalar(15, "d"),)
    settings = {
        "outputs": max(1, trees.integer(0)),
        "scale": trees.scalar(14, "d", default=1.0),
        "bias": [float(value) for value in bias],
        "columns": [_said(column) for column in columns],
    }
    return _together(_symmetric(trees, columns), settings, info)


def _column(row: Table) -> dict[str, Any]:
    return {
        "place": row.integer(2, default=-1),
        "name": row.string(4) or "",
        "borders": [float(value) for value in row.numbers(3, "f", limit=MAX_TREES)],
        "missing": row.integer(5, "b"),
    }


def _said(column: Mapping[str, Any]) -> dict[str, Any]:
    """A column without its borders, which stand in the trees that use them."""
    return {name: value for name, value in column.items() if name != "borders"}


def _symmetric(trees: Table, columns: Sequence[Mapping[str, Any]]) -> list[str]:
    every: list[Split] = [(column["place"], border) for column in columns for border in column["borders"]]
    outputs = max(1, trees.integer(0))
    splits, values = trees.integers(1, limit=MAX_TREES), trees.numbers(8, "d", limit=MAX_TREES * 16)
    found, at, leaf = [], 0, 0
    for depth in trees.integers(2, limit=MAX_TREES):
        if not 0 <= depth <= 32:
            raise ValueError(f"a tree of depth {depth}")
        count = (1 << depth) * outputs
        if at + depth > len(splits) or leaf + count > len(values):
            raise ValueError("fewer splits or leaves than its trees need")
        found.append(_tree([every[place] for place in splits[at : at + depth]], values[leaf : leaf + count]))
        at, leaf = at + depth, leaf + count
    return found


def _tree(splits: Sequence[Split], leaves: Sequence[float]) -> str:
    """A digest of what prediction reads of a tree; borders are 32-bit floats, leaves 64-bit."""
    digest = hashlib.sha256()
    for place, border in splits:
        digest.update(struct.pack("<qf", place, border))
    digest.update(struct.pack(f"<{len(leaves)}d", *leaves))
    return digest.hexdigest()


_MISSING = {"AsIs": 0, "AsFalse": 1, "AsTrue": 2}


def _export(value: Mapping[str, Any]) -> Parts:
    about = value["features_info"]
    for name in _OTHER_NAMES:
        if about.get(name):
            raise ValueError(f"{name.replace('_', ' ')} are not understood")
    if value.get("ctr_data") or "oblivious_trees" not in value:
        raise ValueError("trees that are not symmetric, or tables behind them, are not understood")
    columns = about.get("float_features", [])
    places = {column["feature_index"]: column["flat_feature_index"] for column in columns}
    trees = [
        _tree(
            [(places[split["float_feature_index"]], float(split["border"])) for split in tree["splits"] or ()],
            [float(leaf) for leaf in tree["leaf_values"]],
        )
        for tree in value["oblivious_trees"]
    ]
    scale, bias = value.get("scale_and_bias", (1.0, 0.0))
    used = [tree["leaf_values"] for tree in value["oblivious_trees"]]
    outputs = max(1, len(used[0]) >> len(value["oblivious_trees"][0]["splits"] or ())) if used else 1
    settings = {
        "outputs": outputs,
        "scale": float(scale),
        "bias": [float(one) for one in (bias if isinstance(bias, list) else [bias])],
        "columns": [
            {
                "place": column["flat_feature_index"],
                "name": column.get("feature_id") or "",
                "missing": _MISSING[column.get("nan_value_treatment", "AsIs")],
            }
            for column in columns
        ],
    }
    return _together(trees, settings, dict(value.get("model_info", {})))


def _together(trees: list[str], settings: dict[str, Any], info: Mapping[str, Any]) -> Parts:
    """Trees and settings with the info map, whose documents are parsed."""
    parsed = {key: _document(key, value) for key, value in info.items()}
    training = {key: parsed.pop(key) for key in _TRAINING & parsed.keys()}
    params = training.get("params")
    if isinstance(params, Mapping) and "loss_function" in params:
        settings["loss_function"] = params["loss_function"]
    return trees, {**settings, **parsed}, training


def _document(key: str, value: Any) -> Any:
    if key in _DOCUMENTS and isinstance(value, str):
        return parse_json(value.encode("utf-8", "replace"), key).value
    return value
