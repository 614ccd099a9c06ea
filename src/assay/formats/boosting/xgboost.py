"""XGBoost models: JSON, UBJSON and the old binary layout.

``parameter_count`` is the number of leaf values (times the outputs per leaf for vector leaves), or of weights for a
linear booster; split thresholds and statistics are not counted.

What a document means is in ``xgboost_model``; the binary layout in ``xgboost_binary``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from assay.containers import ubjson
from assay.containers.documents import plain, read_json
from assay.containers.guard import guarded
from assay.errors import BadFormat
from assay.formats.boosting import xgboost_binary
from assay.formats.boosting.tabular import feature_ports, setting
from assay.formats.boosting.xgboost_model import KEPT, Booster, booster_of, condensed
from assay.spec.description import Description, Port
from assay.spec.finding import Finding, Severity
from assay.spec.json import Json
from assay.trees import Tree, Window

MAX_JSON = 256 << 20
MAX_JSON_VALUES = 32_000_000
"""Numbers and names of a JSON model; trees are condensed as they are read, so only one's numbers exist at a time."""

_FIRST = rb"(?:attributes|feature_names|feature_types|gradient_booster|learner_model_param|objective)"
"""Keys are sorted; a configuration alone, which is no model, begins with ``generic_param`` instead."""
_JSON = re.compile(
    rb'(?:\xef\xbb\xbf)?\s*\{\s*(?:"version"\s*:\s*\[[\d,\s]*\]\s*,\s*)?'
    rb'(?:"learner"\s*:\s*\{\s*"' + _FIRST + rb'"|"(?:Config|Model)"\s*:\s*\{\s*"learner"\s*:)'
)
_LENGTH = rb"(?:L\0{7}|l\0{3}|I\0|[iU])[\x05-\x13]"
_UBJ = re.compile(
    rb"\{" + _LENGTH + rb"(?:learner\{" + _LENGTH + _FIRST + rb"|(?:Config|Model)\{" + _LENGTH + rb"learner\{)"
)
_TASKS = {
    "binary": "binary-classification",
    "multi": "multiclass-classification",
    "reg": "regression",
    "count": "regression",
    "rank": "ranking",
    "survival": "survival-analysis",
}
_DTYPES = {"q": "float32", "float": "float32", "int": "int64", "i": "bool", "c": "categorical"}
"""XGBoost's feature types; ``q`` is quantitative, ``i`` an indicator."""


class XGBoostFormat:
    """Describes XGBoost boosters (``gbtree``, ``dart``, ``gblinear``) in any of their three encodings."""

    name = "xgboost"
    covers = "file"

    def detect(self, tree: Tree) -> Sequence[tuple[str, ...]]:
        """One group per file."""
        return [(path,) for path in tree if _encoding(tree.head(path))]

    def describe(self, tree: Tree, paths: tuple[str, ...]) -> Description:
        """Objective, trees, features, attributes and settings of one booster.

        Raises:
            BadFormat: there is no learner in it.
        """
        path = paths[0]
        encoding = _encoding(tree.head(path))
        window = tree.open(path)
        with guarded("an XGBoost model", path):
            if encoding == "binary":
                booster = xgboost_binary.read(window, xgboost_binary.recognise(tree.head(path)) or 0)
            elif encoding == "ubj":
                booster = _from_ubj(window)
            else:
                document = read_json(window, MAX_JSON, condense=condensed, max_values=MAX_JSON_VALUES)
                booster = booster_of(document.value, path)
                if document.repeated:
                    keys = ", ".join(document.repeated[:5])
                    booster.report("xgboost-repeated-key", Severity.MISLEAD, f"keys occur twice: {keys}", path)
            return _description(booster, paths, encoding or "json")


def _encoding(head: bytes) -> str | None:
    if _JSON.match(head):
        return "json"
    if _UBJ.match(head):
        return "ubj"
    return "binary" if xgboost_binary.recognise(head) is not None else None


def _from_ubj(window: Window) -> Booster:
    document, error = ubjson.salvage(window, keep=KEPT, object_hook=condensed)
    try:
        booster = booster_of(document, window.path)
    except BadFormat:
        raise (error or BadFormat(f"{window.path}: no learner in the UBJSON document", path=window.path)) from None
    if error is not None:
        booster.report("xgboost-incomplete", Severity.INCOMPLETE, error.message, window.path)
    return booster


def _description(booster: Booster, paths: tuple[str, ...], encoding: str) -> Description:
    linear = booster.weights is not None
    leaves = sum(tree.leaves * tree.leaf_size for tree in booster.trees)
    types = [_DTYPES.get(kind, kind) for kind in booster.feature_types]
    hyperparameters: dict[str, Json] = {"booster": booster.kind, "objective": booster.objective}
    hyperparameters |= booster.objective_parameters | booster.parameters
    stated = {
        "base_score": booster.base_score,
        "num_class": booster.num_class or None,
        "num_target": booster.num_target if (booster.num_target or 0) > 1 else None,
        "num_parallel_tree": booster.parallel_trees,
    }
    hyperparameters |= {key: value for key, value in stated.items() if value is not None}
    score = setting(booster.attributes.get("best_score"))
    return Description(
        format="xgboost",
        paths=paths,
        format_version=encoding,
        framework="xgboost",
        framework_version=booster.version,
        architecture=booster.kind,
        task=_TASKS.get((booster.objective or "").partition(":")[0]),
        parameter_count=booster.weights if linear else leaves,
        inputs=feature_ports(booster.feature_names, types, width=booster.num_feature),
        outputs=_outputs(booster),
        hyperparameters={key: value for key, value in hyperparameters.items() if value is not None},
        metrics={"best_score": float(score)} if isinstance(score, (int, float)) else {},
        requirements=("xgboost",),
        metadata=_metadata(booster),
        findings=_findings(booster, paths[0], encoding),
    )


def _outputs(booster: Booster) -> tuple[Port, ...]:
    if booster.objective is None:
        return ()
    if booster.objective == "multi:softmax":
        return (Port("prediction", "float32", (None,)),)
    width = max(booster.num_class or 0, booster.num_target or 0)
    return (Port("prediction", "float32", (None, width) if width > 1 else (None,)),)


def _metadata(booster: Booster) -> dict[str, Json]:
    metadata: dict[str, Json] = {"boosted_rounds": booster.rounds, "features": booster.num_feature}
    if booster.weights is None:
        metadata |= {
            "trees": len(booster.trees),
            "nodes": sum(tree.nodes for tree in booster.trees),
            "leaves": sum(tree.leaves for tree in booster.trees),
            "max_depth": max((tree.depth for tree in booster.trees), default=0),
        }
    if "best_iteration" in booster.attributes:
        metadata["best_iteration"] = setting(booster.attributes["best_iteration"])
    if booster.attributes:
        metadata["attributes"] = plain(booster.attributes)
    return {key: value for key, value in metadata.items() if value is not None}


def _findings(booster: Booster, path: str, encoding: str) -> tuple[Finding, ...]:
    if encoding != "binary":
        return tuple(booster.findings)
    message = "the binary layout is not read by XGBoost 3"
    return (*booster.findings, Finding("xgboost-old-binary", Severity.NOTE, message, path))
