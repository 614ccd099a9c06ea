"""What an XGBoost model document says, whether it was written as JSON or as UBJSON.

    {"version": [3, 2, 0],
     "learner": {"attributes": {...}, "feature_names": [...], "feature_types": [...],
                 "gradient_booster": {"name": "gbtree", "model": {...}}      gblinear: model.weights
                                     {"name": "dart", "gbtree": {...}, "weight_drop": [...]},
                 "learner_model_param": {"base_score", "num_class", "num_feature", "num_target"},
                 "objective": {"name": ..., "<kind>_param": {...}}}}

A booster's whole state (what pickling a ``Booster`` keeps) is ``{"Config": ..., "Model": the document above}``.
Numbers are written as text. Source: the model schema in XGBoost's documentation, "Introduction to Model IO".

Not here: bytes (``containers``), the old binary layout (``xgboost_binary``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from assay.containers.ubjson import TypedArray
from assay.errors import BadFormat
from assay.formats.boosting.tabular import setting
from assay.spec.finding import Finding, Severity
from assay.spec.json import Json

MAX_LEVELS = 2048
"""Levels of a tree that are walked for its depth; trained trees have a few dozen."""
MAX_OUTPUTS = 1 << 20
"""Classes or targets that a model may state."""

MAX_FEATURES = 1 << 30
MAX_NODES = 1 << 26


@dataclass(frozen=True, slots=True)
class TreeShape:
    """One tree: nodes and leaves reachable from its root, depth in edges, numbers per leaf.

    ``regular`` is False when child indices lead outside, meet, or go round in a circle.
    """

    nodes: int
    leaves: int
    depth: int
    leaf_size: int = 1
    regular: bool = True


@dataclass(slots=True)
class Booster:
    """A booster as its document describes it; filled step by step, None where nothing is said."""

    kind: str | None = None
    version: str | None = None
    objective: str | None = None
    objective_parameters: dict[str, Json] = field(default_factory=dict)
    base_score: Json = None
    num_feature: int | None = None
    num_class: int | None = None
    num_target: int | None = None
    feature_names: list[str] = field(default_factory=list)
    feature_types: list[str] = field(default_factory=list)
    attributes: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, Json] = field(default_factory=dict)
    stated_trees: int | None = None
    parallel_trees: int | None = None
    rounds: int | None = None
    trees: list[TreeShape] = field(default_factory=list)
    weights: int | None = None
    findings: list[Finding] = field(default_factory=list)

    def report(self, rule: str, severity: Severity, message: str, path: str) -> None:
        """Add a finding."""
        does = "use up memory or time" if severity is Severity.EXHAUST else ""
        self.findings.append(Finding(rule, severity, message, path, effect=does))


def shape_of(left: Any, right: Any, leaf_size: int = 1) -> TreeShape:
    """The shape of a tree from the child indices of its nodes (-1: none), root first.

    Raises:
        ValueError: the two do not have the same number of elements, or are not numbers.
    """
    lefts, rights = (np.asarray(side, dtype=np.int64).reshape(-1) for side in (left, right))
    count = len(lefts)
    if len(rights) != count or count > MAX_NODES:
        raise ValueError(f"{count} left children, {len(rights)} right children")
    if count == 0:
        return TreeShape(0, 0, 0, leaf_size)
    level, nodes, leaves, depth, regular = np.zeros(1, dtype=np.int64), 0, 0, 0, True
    while True:
        nodes += len(level)
        inner = level[lefts[level] >= 0]
        leaves += len(level) - len(inner)
        if not len(inner):
            return TreeShape(nodes, leaves, depth, leaf_size, regular)
        following = np.concatenate((lefts[inner], rights[inner]))
        inside = (following >= 0) & (following < count)
        level = following[inside]
        depth += 1
        regular = regular and bool(inside.all())
        # More nodes than the tree has, seen from the root, means that paths meet or turn in circles.
        if nodes + len(level) > count or depth >= MAX_LEVELS:
            return TreeShape(nodes, leaves, depth, leaf_size, regular=False)


TREE_ARRAYS = ("left_children", "right_children")
KEPT = (*TREE_ARRAYS, "version")
"""Keys whose elements the summary needs when they are typed arrays."""


def condensed(body: dict[str, Any]) -> Any:
    """An object hook: trees become ``TreeShape`` as soon as they are read, everything else stays."""
    if "left_children" not in body:
        return body
    parameters = body.get("tree_param")
    size = _integer(parameters.get("size_leaf_vector")) if isinstance(parameters, dict) else None
    try:
        left, right = (_elements(body.get(key)) for key in TREE_ARRAYS)
        return shape_of(left, right, max(1, size or 1))
    except (ValueError, TypeError, OverflowError):
        return TreeShape(0, 0, 0, regular=False)


def booster_of(document: Any, path: str) -> Booster:
    """The booster a document (read with ``condensed``) describes.

    Raises:
        BadFormat: there is no ``learner`` object in it.
    """
    booster = Booster()
    body = document if isinstance(document, dict) else {}
    if isinstance(body.get("Model"), dict):
        collect_parameters(body.get("Config"), booster.parameters)
        body = body["Model"]
    learner = body.get("learner")
    if not isinstance(learner, dict):
        raise BadFormat(f"{path}: expected an XGBoost model with an object 'learner', found none", path=path)
    version = _elements(body.get("version"))
    if version is not None and not isinstance(version, TypedArray):
        booster.version = ".".join(str(part) for part in version[:4])[:40] or None
    _learner(learner, booster)
    outer = learner.get("gradient_booster")
    if isinstance(outer, dict):
        _gradient_booster(outer, booster)
    check(booster, path)
    return booster


def check(booster: Booster, path: str) -> None:
    """Report where the parts of a booster contradict each other."""
    if booster.kind is None:
        booster.report("xgboost-no-booster", Severity.INCOMPLETE, "the model does not say which booster it is", path)
    if booster.stated_trees is not None and booster.stated_trees != len(booster.trees):
        message = f"states {booster.stated_trees:,} trees, holds {len(booster.trees):,}"
        booster.report("xgboost-tree-count", Severity.MISLEAD, message, path)
    irregular = sum(not tree.regular for tree in booster.trees)
    if irregular:
        message = f"{irregular:,} trees have child indices that lead outside, meet or go round in a circle"
        booster.report("xgboost-tree-shape", Severity.EXHAUST, message, path)
    sizes = (("classes", booster.num_class, MAX_OUTPUTS), ("targets", booster.num_target, MAX_OUTPUTS))
    for what, count, most in (*sizes, ("features", booster.num_feature, MAX_FEATURES)):
        if count is not None and not 0 <= count <= most:
            message = f"states {count:,} {what}, for which memory is set aside"
            booster.report("xgboost-huge-count", Severity.EXHAUST, message, path)
    for what, found in (("names", len(booster.feature_names)), ("types", len(booster.feature_types))):
        if found and booster.num_feature and found != booster.num_feature:
            message = f"{found:,} feature {what} for {booster.num_feature:,} features"
            booster.report("xgboost-feature-count", Severity.MISLEAD, message, path)


def collect_parameters(body: Any, into: dict[str, Json], depth: int = 8) -> None:
    """Gather the scalars of every ``*_param`` object in a saved configuration, at most *depth* levels down."""
    if not isinstance(body, dict) or depth == 0:
        return
    for key, value in body.items():
        if isinstance(value, dict):
            if str(key).endswith(("_param", "_params")):
                into.update({str(k): setting(v) for k, v in value.items() if not isinstance(v, (dict, list))})
            collect_parameters(value, into, depth - 1)
        elif isinstance(value, list):
            for item in value[:16]:
                collect_parameters(item, into, depth - 1)


def _learner(learner: Mapping[str, Any], booster: Booster) -> None:
    booster.feature_names = _texts(learner.get("feature_names"))
    booster.feature_types = _texts(learner.get("feature_types"))
    attributes = learner.get("attributes")
    if isinstance(attributes, dict):
        booster.attributes = {str(key): value for key, value in attributes.items() if isinstance(value, str)}
    parameters = learner.get("learner_model_param")
    if isinstance(parameters, dict):
        booster.num_feature = _integer(parameters.get("num_feature"))
        booster.num_class = _integer(parameters.get("num_class"))
        booster.num_target = _integer(parameters.get("num_target"))
        booster.base_score = _base_score(parameters.get("base_score"))
    objective = learner.get("objective")
    if isinstance(objective, dict):
        name = objective.get("name")
        booster.objective = name if isinstance(name, str) else None
        for key, value in objective.items():
            if isinstance(value, dict):
                booster.objective_parameters.update({str(k): setting(v) for k, v in value.items()})
            elif key != "name":
                booster.objective_parameters[key] = setting(value)


def _gradient_booster(outer: Mapping[str, Any], booster: Booster) -> None:
    name = outer.get("name")
    booster.kind = name if isinstance(name, str) else None
    inner = outer.get("gbtree")
    model = inner.get("model") if isinstance(inner, dict) else outer.get("model")
    if not isinstance(model, dict):
        return
    weights = _elements(model.get("weights"))
    if weights is not None:
        booster.weights = weights.count if isinstance(weights, TypedArray) else len(weights)
        booster.rounds = _integer(model.get("boosted_rounds"))
        return
    parameters = model.get("gbtree_model_param")
    if isinstance(parameters, dict):
        booster.stated_trees = _integer(parameters.get("num_trees"))
        booster.parallel_trees = _integer(parameters.get("num_parallel_tree"))
    trees = model.get("trees")
    booster.trees = [tree for tree in trees if isinstance(tree, TreeShape)] if isinstance(trees, list) else []
    booster.rounds = _rounds(model, booster)


def _rounds(model: Mapping[str, Any], booster: Booster) -> int | None:
    borders = model.get("iteration_indptr")
    found = borders.count if isinstance(borders, TypedArray) else len(borders) if isinstance(borders, list) else 0
    if found:
        return found - 1
    groups = max(1, booster.num_class or 1) * max(1, booster.num_target or 1)
    per_round = groups * max(1, booster.parallel_trees or 1)
    return len(booster.trees) // per_round if booster.trees else None


def _elements(value: Any) -> Any:
    if isinstance(value, TypedArray):
        return value if value.values is None else value.values
    return value if isinstance(value, list) else None


def _texts(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


def _integer(value: Any) -> int | None:
    try:
        return int(value) if isinstance(value, (int, str)) else None
    except ValueError:
        return None


def _base_score(value: Any) -> Json:
    """The intercept: one number, or one per output; written as ``5E-1``, since 3.1 as ``[5E-1]``."""
    if isinstance(value, str) and value.startswith("["):
        try:
            numbers = json.loads(value)
        except ValueError:
            return setting(value)
        return setting(numbers[0] if len(numbers) == 1 else numbers)
    return setting(value)
