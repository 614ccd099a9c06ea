"""What a CatBoost model holds, from its flatbuffer core or its JSON export.

    cbm: "CBM1", u32 size of the core, core, parts named by the core (tables of categorical statistics)
    core (root of the buffer)    0 format, 1 trees, 2 info (key, value), 3 ids of the parts
    trees                        0 dimension, 2 tree sizes, 4 categorical, 5 float features, 8 leaf values,
                                 10 step nodes (empty when all trees are symmetric), 12 text, 16 biases, 18 embedding
                                 features
    feature                      flat index at slot 2 (float) or 1, name at slot 4 (float) or 2, 3: used or dimension

The info map holds JSON documents: ``params``, ``training``, ``class_params``. Sources: ``model.fbs``, ``features.fbs``
and ``json_model_helpers`` of CatBoost; slots above 14 were read off files written by CatBoost 1.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from assay.containers.documents import parse_json
from assay.containers.flatbuffers import FlatBuffer, Table
from assay.errors import BadFormat, LimitExceeded
from assay.spec.finding import Finding, Severity
from assay.trees import Window

MAGIC = b"CBM1"
MAX_INFO = 1 << 24
"""Bytes of one entry of the info map; ``training`` keeps every metric of every iteration."""
MAX_ENTRIES = 10_000
MAX_FEATURES = 200_000
MAX_TREES = 1 << 22
DOCUMENTS = ("params", "training", "class_params", "multiclass_params", "output_options")
"""Keys of the info map whose values are JSON documents."""

_SYMMETRIC = 32


@dataclass(frozen=True, slots=True)
class Feature:
    """One input column: place among all columns, name, kind (``float``, ``categorical``, ``text``, ``embedding``)."""

    place: int
    name: str
    kind: str
    size: int | None = None


@dataclass(slots=True)
class Model:
    """A CatBoost model; filled step by step.

    Attributes:
        trees, leaves, leaf_values, depth: counts over all trees; ``leaves`` and ``depth`` are None where not known.
        info: the info map; values that are JSON documents are parsed.
    """

    dimension: int = 1
    trees: int = 0
    leaves: int | None = None
    leaf_values: int = 0
    depth: int | None = None
    features: list[Feature] = field(default_factory=list)
    parts: tuple[str, ...] = ()
    info: dict[str, Any] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def report(self, rule: str, severity: Severity, message: str, path: str) -> None:
        """Add a finding."""
        self.findings.append(Finding(rule, severity, message, path))


def from_core(window: Window) -> Model:
    """The model in a ``.cbm`` file.

    Raises:
        BadFormat: the core is not there.
    """
    size = int.from_bytes(window.exactly(4, 4), "little")
    if size > window.size - 8:
        message = f"expected {size:,} bytes of model core, found {window.size - 8:,}"
        raise BadFormat(f"{window.path}: {message}", path=window.path, offset=4)
    root = FlatBuffer(window.sub(8, size)).root()
    model = Model()
    trees = root.table(1)
    steps = (lambda: _trees(trees, model), lambda: _features(trees, model)) if trees else ()
    for step in (*steps, lambda: _info(root, model, window.path)):
        try:
            step()
        except BadFormat as error:
            model.report("catboost-incomplete", Severity.INCOMPLETE, error.message, window.path)
    model.parts = root.strings(3, limit=MAX_ENTRIES)
    if model.parts and size + 8 >= window.size:
        model.report(
            "catboost-parts-missing", Severity.INCOMPLETE, "the parts behind the core are missing", window.path
        )
    return model


def _trees(table: Table, model: Model) -> None:
    model.dimension = max(1, table.integer(0))
    sizes = table.integers(2, limit=MAX_TREES)
    model.trees = len(sizes)
    values = table.vector(8, 8)
    model.leaf_values = values.count if values else 0
    model.leaves = model.leaf_values // model.dimension
    steps = table.vector(10, 4)
    if not (steps and steps.count):  # symmetric trees: the size is the depth
        model.depth = max(sizes, default=0)
        expected = sum(1 << size for size in sizes if 0 <= size <= _SYMMETRIC) * model.dimension
        if expected != model.leaf_values or any(not 0 <= size <= _SYMMETRIC for size in sizes):
            path = table.buffer.window.path
            message = f"symmetric trees need {expected:,} leaf values, found {model.leaf_values:,}"
            model.report("catboost-leaf-count", Severity.MISLEAD, message, path)


def _features(table: Table, model: Model) -> None:
    for slot, kind in ((5, "float"), (4, "categorical"), (12, "text"), (18, "embedding")):
        place, name = (2, 4) if kind == "float" else (1, 2)
        for row in table.tables(slot, limit=MAX_FEATURES):
            size = row.integer(3) or None if kind == "embedding" else None
            model.features.append(Feature(row.integer(place, default=-1), row.string(name) or "", kind, size))


def _info(root: Table, model: Model, path: str) -> None:
    for pair in root.tables(2, limit=MAX_ENTRIES):
        key = pair.string(0) or ""
        try:
            model.info[key] = _value(key, pair.string(1, limit=MAX_INFO) or "", path)
        except LimitExceeded as error:
            model.report("catboost-incomplete", Severity.INCOMPLETE, f"{key}: {error.message}", path)
        except BadFormat as error:
            model.report("catboost-info", Severity.MISLEAD, f"{key}: {error.message}", path)


def _value(key: str, value: Any, path: str) -> Any:
    if isinstance(value, str) and key in DOCUMENTS:
        return parse_json(value.encode("utf-8", "replace"), f"{path}!{key}").value
    return value


@dataclass(frozen=True, slots=True)
class _Grown:
    """A tree, or a branch of one, of the JSON export: leaf values, leaves, levels below."""

    values: int
    leaves: int
    depth: int


def condensed(body: dict[str, Any]) -> Any:
    """An object hook: trees of the JSON export become their counts as soon as they are read."""
    leaf_values = body.get("leaf_values")
    if isinstance(leaf_values, list) and "splits" in body:
        splits = body["splits"]
        depth = len(splits) if isinstance(splits, list) else 0
        return _Grown(len(leaf_values), 1 << min(depth, _SYMMETRIC), depth)
    if "left" in body and "right" in body:
        sides = [side for side in (body["left"], body["right"]) if isinstance(side, _Grown)]
        depth = 1 + max((side.depth for side in sides), default=0)
        return _Grown(sum(side.values for side in sides), sum(side.leaves for side in sides), depth)
    if "value" in body and "weight" in body and len(body) == 2:
        return _Grown(len(body["value"]) if isinstance(body["value"], list) else 1, 1, 0)
    return body


def from_export(document: Any, path: str) -> Model:
    """The model in a JSON export (read with ``condensed``).

    Raises:
        BadFormat: there are no features in it.
    """
    body = document if isinstance(document, dict) else {}
    features = body.get("features_info")
    if not isinstance(features, dict):
        raise BadFormat(f"{path}: expected a CatBoost model with an object 'features_info', found none", path=path)
    model = Model()
    for kind in ("float", "categorical", "text", "embedding"):
        rows = features.get(f"{kind}_features")
        if isinstance(rows, list):
            model.features += [_exported(row, kind) for row in rows if isinstance(row, dict)]
    trees = body.get("oblivious_trees", body.get("trees"))
    grown = [tree for tree in trees if isinstance(tree, _Grown)] if isinstance(trees, list) else []
    model.trees, model.leaves = len(grown), sum(tree.leaves for tree in grown)
    model.leaf_values, model.depth = sum(tree.values for tree in grown), max((tree.depth for tree in grown), default=0)
    model.dimension = max(1, model.leaf_values // model.leaves) if model.leaves else 1
    info = body.get("model_info")
    for key, value in info.items() if isinstance(info, Mapping) else ():
        try:
            model.info[key] = _value(key, value, path)
        except BadFormat as error:
            model.report("catboost-info", Severity.MISLEAD, f"{key}: {error.message}", path)
    if not grown:
        model.report("catboost-no-trees", Severity.INCOMPLETE, "no trees could be read", path)
    return model


def _exported(row: dict[str, Any], kind: str) -> Feature:
    place, name, size = row.get("flat_feature_index"), row.get("feature_id"), row.get("dimension")
    return Feature(
        place if isinstance(place, int) else -1,
        name if isinstance(name, str) else "",
        kind,
        size if isinstance(size, int) and size > 0 else None,
    )
