"""CatBoost models: ``.cbm`` files and the JSON export.

``parameter_count`` is the number of leaf values (leaves times outputs).

What the bytes hold is in ``catboost_model``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from assay.containers.documents import plain, read_json
from assay.containers.guard import guarded
from assay.formats.boosting.catboost_model import DOCUMENTS, MAGIC, Feature, Model, condensed, from_core, from_export
from assay.formats.boosting.tabular import MAX_NAME, MAX_PORTS, setting
from assay.spec.description import Description, Port
from assay.spec.json import Json
from assay.trees import Tree

MAX_JSON = 256 << 20
MAX_JSON_VALUES = 32_000_000

_EXPORT = re.compile(
    rb'\s*\{\s*"(?:features_info"\s*:\s*\{\s*"(?:float_features|categorical_features|cat_features_hash|ctrs|text_features'
    rb'|embedding_features)"|ctr_data"\s*:\s*\{\s*"\{\\"identifier\\")'
)
_VERSION = re.compile(r"CatBoost release (\d+(?:\.\d+)+)|Branch: (?:tags/)?v?(\d+(?:\.\d+)+)")
_TASKS = {
    "binary-classification": {"Logloss", "CrossEntropy", "Focal"},
    "multiclass-classification": {"MultiClass", "MultiClassOneVsAll"},
    "multilabel-classification": {"MultiLogloss", "MultiCrossEntropy"},
    "survival-analysis": {"Cox", "SurvivalAft"},
}
_RANKING = re.compile(r"Pair|Rank|Query")
_DTYPES = {"float": "float32", "categorical": "categorical", "text": "string", "embedding": "float32"}


class CatBoostFormat:
    """Describes CatBoost models."""

    name = "catboost"
    covers = "file"

    def detect(self, tree: Tree) -> Sequence[tuple[str, ...]]:
        """One group per file."""
        return [(path,) for path in tree if _is_core(tree, path) or _EXPORT.match(tree.head(path))]

    def describe(self, tree: Tree, paths: tuple[str, ...]) -> Description:
        """Trees, features, loss, classes and training settings of one model.

        Raises:
            BadFormat: there is no model core, or no features in the export.
        """
        path = paths[0]
        with guarded("a CatBoost model", path):
            if _is_core(tree, path):
                return _description(from_core(tree.open(path)), paths, "cbm")
            document = read_json(tree.open(path), MAX_JSON, condense=condensed, max_values=MAX_JSON_VALUES)
            return _description(from_export(document.value, path), paths, "json")


def _is_core(tree: Tree, path: str) -> bool:
    return tree.head(path)[:4] == MAGIC and tree.size(path) > 12


def _description(model: Model, paths: tuple[str, ...], encoding: str) -> Description:
    parameters = _mapping(model.info.get("params"))
    objective = _mapping(_mapping(parameters.get("metrics")).get("objective_metric")) or _mapping(
        parameters.get("loss_function")
    )
    loss = objective.get("type")
    loss = loss if isinstance(loss, str) else None
    version = _VERSION.search(str(model.info.get("catboost_version_info", "")))
    shape = (None, model.dimension) if model.dimension > 1 else (None,)
    return Description(
        format="catboost",
        paths=paths,
        format_version=encoding,
        framework="catboost",
        framework_version=(version[1] or version[2]) if version else None,
        architecture="symmetric trees"
        if parameters and _policy(parameters) == "SymmetricTree"
        else _policy(parameters),
        task=_task(loss),
        parameter_count=model.leaf_values,
        inputs=_ports(model.features),
        outputs=(Port("prediction", "float64", shape),),
        hyperparameters=_hyperparameters(parameters, loss, objective),
        metrics=_metrics(_mapping(model.info.get("training"))),
        requirements=("catboost",),
        metadata=_metadata(model),
        findings=tuple(model.findings),
    )


def _policy(parameters: Mapping[str, Any]) -> str | None:
    policy = _mapping(parameters.get("tree_learner_options")).get("grow_policy")
    return str(policy)[:100] if policy else None


def _task(loss: str | None) -> str | None:
    if loss is None:
        return None
    for task, losses in _TASKS.items():
        if loss in losses:
            return task
    return "ranking" if _RANKING.search(loss) else "regression"


def _ports(features: list[Feature]) -> tuple[Port, ...]:
    ordered = sorted(features, key=lambda feature: feature.place)
    named = any(feature.name or feature.kind != "float" for feature in ordered)
    if not named or len(ordered) > MAX_PORTS:
        return (Port("features", "float32", (None, len(ordered))),) if ordered else ()
    return tuple(
        Port(
            (feature.name or str(feature.place))[:MAX_NAME],
            _DTYPES[feature.kind],
            (None, feature.size) if feature.kind == "embedding" else (None,),
        )
        for feature in ordered
    )


def _hyperparameters(parameters: Mapping[str, Any], loss: str | None, objective: Mapping[str, Any]) -> dict[str, Json]:
    found: dict[str, Json] = {}
    sections = (parameters, *(parameters.get(key) for key in ("boosting_options", "tree_learner_options")))
    for section in sections:
        for key, value in _mapping(section).items():
            if not isinstance(value, (dict, list)):
                found[str(key)] = plain(value)
    if loss:
        found["loss_function"] = plain(loss)
        found |= {f"loss_function.{key}": setting(value) for key, value in _mapping(objective.get("params")).items()}
    return found


def _metrics(training: Mapping[str, Any]) -> dict[str, float]:
    errors = _mapping(training.get("metrics"))
    tests = errors.get("test_best_error")
    groups = [("learn", errors.get("learn_best_error"))]
    groups += (
        [(f"test{index or ''}", group) for index, group in enumerate(tests[:20])] if isinstance(tests, list) else []
    )
    return {
        f"{where} {name}"[:MAX_NAME]: float(value)
        for where, group in groups
        for name, value in _mapping(group).items()
        if isinstance(value, (int, float)) and math.isfinite(value)
    }


def _metadata(model: Model) -> dict[str, Json]:
    kinds: dict[str, int] = {}
    for feature in model.features:
        kinds[feature.kind] = kinds.get(feature.kind, 0) + 1
    classes = _mapping(model.info.get("class_params")) or _mapping(model.info.get("multiclass_params"))
    user = {
        key: plain(value)
        for key, value in model.info.items()
        if key not in (*DOCUMENTS, "catboost_version_info", "model_guid", "train_finish_time")
    }
    metadata: dict[str, Json] = {
        "trees": model.trees,
        "leaves": model.leaves,
        "max_depth": model.depth,
        "features": plain(kinds),
        "outputs": model.dimension,
        "class_names": plain(classes.get("class_names")),
        "guid": plain(model.info.get("model_guid")),
        "trained_at": plain(model.info.get("train_finish_time")),
        "parts": plain(model.parts) if model.parts else None,
        "info": plain(user) if user else None,
    }
    return {key: value for key, value in metadata.items() if value is not None}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
