"""Models of the smaller formats that could reach outside or use up memory are found; their honest twins are safe."""

from __future__ import annotations

import time

import pytest
from bounds import HANG
from hostile_others import (
    ENTITY,
    INCLUDE,
    LAUGHS,
    PARAMETER_ENTITY,
    coreml,
    crfsuite,
    layer,
    lightgbm,
    linked,
    network,
    openvino,
    pmml,
    spacy,
    xgboost,
)
from wire_builder import field, fields

from assay.formats.registry import all_formats
from assay.service.examine import inspect
from assay.spec.finding import Finding, Severity
from assay.trees import Tree

DOING = (Severity.EXECUTE, Severity.WRITE, Severity.NETWORK, Severity.READ, Severity.EXHAUST)
PICKLE = b"\x80\x04\x8c\x02os\x8c\x06system\x93."


def found(files: dict[str, bytes] | bytes, unknown: tuple[str, ...] = ()) -> list[Finding]:
    """Findings above a note; looking takes no two seconds."""
    start = time.process_time()
    report = inspect(Tree.of(files if isinstance(files, dict) else {"model": files}), all_formats())
    assert time.process_time() - start < HANG
    assert report.unknown == unknown
    findings = [finding for finding in report.all_findings if finding.severity is not Severity.NOTE]
    assert all(finding.effect for finding in findings if finding.severity in DOING)
    return findings


def rules(files: dict[str, bytes] | bytes) -> set[tuple[str, Severity]]:
    return {(finding.rule, finding.severity) for finding in found(files)}


@pytest.mark.parametrize("declaration", [ENTITY, PARAMETER_ENTITY, LAUGHS], ids=["entity", "parameter", "laughs"])
def test_a_document_type_is_found_and_nothing_in_it_is_followed(declaration: str) -> None:
    assert ("openvino-doctype", Severity.READ) in rules(openvino(layer(), before=declaration))
    assert ("pmml-doctype", Severity.READ) in rules(pmml(before=declaration))
    assert found(openvino(layer())) == []
    assert found(pmml()) == []


def test_another_document_put_in_is_found() -> None:
    assert rules(openvino(layer(), inside=INCLUDE)) == {("openvino-include", Severity.READ)}
    assert rules(pmml(inside=INCLUDE)) == {("pmml-include", Severity.READ)}
    assert found(pmml(inside="<Extension><include/></Extension>")) == []


def test_a_network_that_needs_an_extension_is_not_vouched_for() -> None:
    assert rules(openvino(layer("Evil", "extension"))) == {("openvino-extension", Severity.INCOMPLETE)}
    assert found(openvino(layer("Relu", "opset13"))) == []


def test_weights_of_another_kind_are_looked_at_for_themselves() -> None:
    report = inspect(Tree.of({"m.xml": openvino(layer()), "m.bin": PICKLE}), all_formats())

    assert [item.format for item in report.descriptions] == ["openvino", "pickle"]


def test_a_function_named_like_a_class_is_not_vouched_for() -> None:
    assert rules(pmml(function="org.example.Evil")) == {("pmml-foreign-function", Severity.INCOMPLETE)}
    assert found(pmml(function="my.own")) == []
    assert found(pmml(function="log10")) == []


def test_deep_documents_take_no_endless_time() -> None:
    assert rules(pmml(depth=50_000)) == {("pmml-incomplete", Severity.INCOMPLETE)}
    assert found(pmml(depth=300)) == []


@pytest.mark.parametrize(
    ("hostile", "rule"),
    [
        (xgboost(left=(0, -1, -1)), "xgboost-tree-shape"),
        (xgboost(left=(1, 1 << 30, -1)), "xgboost-tree-shape"),
        (xgboost(num_class="2147483647"), "xgboost-huge-count"),
        (xgboost(num_target="-5"), "xgboost-huge-count"),
        (xgboost(num_feature="4294967295"), "xgboost-huge-count"),
        (lightgbm(leaves=2_000_000_000), "lightgbm-leaf-count"),
        (lightgbm(num_class="2147483647"), "lightgbm-huge-count"),
        (lightgbm(num_tree_per_iteration="99999999999"), "lightgbm-huge-count"),
        (lightgbm(max_feature_idx="2147483647"), "lightgbm-huge-count"),
    ],
)
def test_counts_and_indices_of_boosted_trees_that_cannot_be_true_are_found(hostile: bytes, rule: str) -> None:
    assert (rule, Severity.EXHAUST) in rules(hostile)


def test_ordinary_boosted_trees_are_safe() -> None:
    assert found(xgboost()) == []
    assert found(xgboost(num_class="3", num_feature="1000000")) == []
    assert found(lightgbm()) == []


def test_deep_json_of_a_booster_is_not_vouched_for() -> None:
    findings = found(xgboost(deep=100_000), unknown=("model",))

    assert {finding.severity for finding in findings} == {Severity.INCOMPLETE}


@pytest.mark.parametrize("place", ["../other.mlmodel", "/nonexistent/x", "file:///nonexistent"])
def test_a_core_ml_model_linked_from_elsewhere_is_found(place: str) -> None:
    assert rules(linked(place)) == {("coreml-external-escape", Severity.READ)}
    assert rules(linked("other.mlmodel")) == {("coreml-linked-model", Severity.INCOMPLETE)}


def test_core_ml_classes_of_the_application_are_only_noted() -> None:
    assert found(network(500, field(10, "AppsOwnLayer"))) == []
    assert found(coreml(555, fields((10, "AppsOwnModel")))) == []


@pytest.mark.parametrize(
    ("config", "rule", "severity"),
    [
        ('@architectures = "acme.Evil.v1"', "spacy-foreign-function", Severity.INCOMPLETE),
        ('@layers = "evil.v1"', "spacy-foreign-function", Severity.INCOMPLETE),
        ('[components.x]\nfactory = "evil"', "spacy-foreign-component", Severity.INCOMPLETE),
        ('[components.x]\nfactory = "llm_ner"', "spacy-llm", Severity.NETWORK),
    ],
)
def test_spacy_pipelines_that_need_more_than_spacy_are_found(config: str, rule: str, severity: Severity) -> None:
    assert (rule, severity) in rules(spacy(config))


def test_ordinary_spacy_pipelines_are_safe_and_hide_nothing() -> None:
    honest = '@architectures = "spacy.Tagger.v2"\n@optimizers = "Adam.v1"\n@layers = "chain.v1"\n'

    assert found(spacy(honest)) == []
    assert rules(spacy(transformer__model=b"\x81\xa5shims\x91\xc5\x01\x00PK\x03\x04....archive/data.pkl")) == {
        ("spacy-nested-pickle", Severity.INCOMPLETE)
    }
    report = inspect(Tree.of(spacy(setup=b"import os", ner__tool=b"\x7fELF", ner__moves=PICKLE)), all_formats())
    assert set(report.unknown) == {"p/setup", "p/ner/tool"}
    assert "pickle" in {item.format for item in report.descriptions}


def test_a_crfsuite_model_that_lies_about_its_size_is_found() -> None:
    assert rules(crfsuite(size=1 << 30)) == {("crfsuite-size", Severity.INCOMPLETE)}
    assert rules(crfsuite(features=1 << 30)) == {("crfsuite-incomplete", Severity.INCOMPLETE)}
    assert found(crfsuite()) == []
