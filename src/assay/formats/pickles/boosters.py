"""Boosted trees inside pickles: the native models that wrappers of LightGBM, XGBoost and CatBoost carry as bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from assay.containers import ubjson
from assay.containers.pickle.values import Blob
from assay.errors import AssayError
from assay.formats.boosting import catboost_model, xgboost_binary
from assay.formats.boosting.lightgbm_text import describe_window, recognise
from assay.formats.boosting.tabular import feature_ports
from assay.formats.boosting.xgboost_model import KEPT, Booster, booster_of, condensed
from assay.formats.pickles.arrays import bytes_of
from assay.formats.pickles.tensors import Index
from assay.spec.description import Port
from assay.spec.finding import Finding, Severity
from assay.spec.json import Json
from assay.trees import BytesWindow, Window

MAX_BOOSTERS = 16

_BINARY_HEADER = 136


@dataclass(frozen=True, slots=True)
class Embedded:
    """One native model.

    Args:
        name: path in the graph.
        library: ``lightgbm``, ``xgboost`` or ``catboost``.
        facts: number of trees, objective, features.
        hyperparameters: as the model says.
        inputs: features.
        task: what it does.
        parameter_count: leaves.
    """

    name: str
    library: str
    facts: Mapping[str, Json] = field(default_factory=dict)
    hyperparameters: Mapping[str, Json] = field(default_factory=dict)
    inputs: tuple[Port, ...] = ()
    task: str | None = None
    parameter_count: int | None = None


def find(graph: Index, window: Window) -> tuple[list[Embedded], list[Finding]]:
    """The native models among the long texts and bytes of a graph; ones that cannot be read are findings."""
    models: list[Embedded] = []
    findings: list[Finding] = []
    for name, value in graph.texts:
        inner = _window(value, window)
        if inner is None or len(models) + len(findings) >= MAX_BOOSTERS:
            continue
        head = inner.read(0, 4096)
        try:
            if recognise(head):
                models.append(_lightgbm(name, inner, findings))
            elif head[:4] == catboost_model.MAGIC:
                models.append(_catboost(name, inner, findings))
            elif head[:1] == b"{" and (b"learner" in head or b"Model" in head or b"Config" in head):
                models.append(_xgboost(name, inner, findings))
            elif head[:4] == b"binf" or (b"gbtree" in head and xgboost_binary.recognise(head) is not None):
                booster = xgboost_binary.read(inner, xgboost_binary.recognise(head) or 0)
                models.append(_from_booster(name, booster, findings))
        except AssayError as error:
            message = f"the model inside {name!r} is not readable: {error.message}"
            findings.append(Finding("pickle-embedded-model", Severity.INCOMPLETE, message[:400], window.path))
    return models, findings


def _window(value: object, window: Window) -> Window | None:
    if isinstance(value, Blob):
        return window.sub(value.offset, value.length)
    if isinstance(value, str):
        head = value[:64]
        if not head.startswith(("tree", "gbdt")):
            return None
        return BytesWindow(value.encode("utf-8", "replace"), window.path)
    data = bytes_of(value)
    return BytesWindow(data, window.path) if data else None


def _lightgbm(name: str, inner: Window, findings: list[Finding]) -> Embedded:
    said = describe_window(inner, (inner.path,) if inner.path else ())
    findings.extend(said.findings)
    return Embedded(name, "lightgbm", said.metadata, said.hyperparameters, said.inputs, said.task, said.parameter_count)


def _xgboost(name: str, inner: Window, findings: list[Finding]) -> Embedded:
    document, error = ubjson.salvage(inner, keep=KEPT, object_hook=condensed)
    if isinstance(document, dict) and "Model" in document:
        document = document["Model"]
    booster = booster_of(document, inner.path)
    if error is not None:
        booster.report("xgboost-incomplete", Severity.INCOMPLETE, error.message, inner.path)
    return _from_booster(name, booster, findings)


def _from_booster(name: str, booster: Booster, findings: list[Finding]) -> Embedded:
    findings.extend(booster.findings)
    settings: dict[str, Json] = {"booster": booster.kind, "objective": booster.objective, **booster.parameters}
    facts: dict[str, Json] = {"trees": len(booster.trees), "features": booster.num_feature}
    leaves = sum(tree.leaves * tree.leaf_size for tree in booster.trees)
    ports = feature_ports(booster.feature_names, (), width=booster.num_feature)
    task = {"binary": "binary-classification", "multi": "multiclass-classification", "reg": "regression"}
    return Embedded(
        name,
        "xgboost",
        facts,
        {key: value for key, value in settings.items() if value is not None},
        ports,
        task.get((booster.objective or "").partition(":")[0]),
        leaves or None,
    )


def _catboost(name: str, inner: Window, findings: list[Finding]) -> Embedded:
    model = catboost_model.from_core(inner)
    findings.extend(model.findings)
    facts: dict[str, Json] = {"trees": model.trees, "features": len(model.features)}
    return Embedded(name, "catboost", facts, parameter_count=model.leaf_values or None)
