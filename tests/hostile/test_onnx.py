"""ONNX models that reach outside are found in every place that can hold a tensor or an operator; honest ones are safe."""

from __future__ import annotations

import io
import time
import zipfile
from pathlib import Path

import pytest
from bounds import HANG
from hostile_onnx import (
    attribute,
    external,
    function,
    graph,
    holders,
    laughing,
    looping,
    model,
    node,
    operators,
    tensor,
)

from assay.formats.registry import all_formats
from assay.service.examine import inspect
from assay.spec.finding import Finding, Severity
from assay.trees import Tree

DOING = (Severity.EXECUTE, Severity.WRITE, Severity.NETWORK, Severity.READ, Severity.EXHAUST)


def found(data: bytes, unknown: tuple[str, ...] = (), **sides: bytes) -> list[Finding]:
    """Findings above a note about a model in a folder, with side files."""
    files = {"m/model.onnx": data, **{f"m/{name}": side for name, side in sides.items()}}
    report = inspect(Tree.of(files), all_formats())
    assert report.unknown == unknown
    findings = [finding for finding in report.all_findings if finding.severity is not Severity.NOTE]
    assert all(finding.effect for finding in findings if finding.severity in DOING)
    return findings


def rules(data: bytes, unknown: tuple[str, ...] = (), **sides: bytes) -> set[tuple[str, Severity]]:
    return {(finding.rule, finding.severity) for finding in found(data, unknown, **sides)}


@pytest.mark.parametrize(
    "location",
    [
        "../nonexistent",
        "a/../../nonexistent",
        "/nonexistent/x",
        "C:\\nonexistent",
        "..\\nonexistent",
        "a\\x",
        "file:///nonexistent",
        "https://invalid.example/x",
        "x\0.bin",
        "",
        "*/0000000000000000",
    ],
)
def test_external_data_outside_the_folder_is_found_in_every_holder(location: str) -> None:
    for data in holders(external(location=location)):
        assert ("onnx-external-escape", Severity.READ) in rules(data)
    for data in holders(external(location="weights")):
        assert found(data, weights=bytes(8)) == []
    for data in holders(tensor("w", (2,), bytes(8))):
        assert found(data) == []


def test_a_base_folder_elsewhere_is_found() -> None:
    data = model(graph((5, external(location="weights", basepath="/nonexistent"))))

    assert rules(data, ("m/weights",), weights=bytes(8)) == {("onnx-external-escape", Severity.READ)}


@pytest.mark.parametrize("key", ["__class__", "tofile", "Location"])
def test_a_key_that_no_writer_uses_is_found(key: str) -> None:
    for data in holders(external(location="weights", **{key: "x"})):
        assert rules(data, weights=bytes(8)) == {("onnx-external-key", Severity.MISLEAD)}
    for data in holders(external(location="weights", offset="0", length="8", checksum="0", prepacked_0="a|0|8|0")):
        assert found(data, weights=bytes(8)) == []


@pytest.mark.parametrize(
    ("keys", "rule", "severity"),
    [
        ({"offset": "-1"}, "onnx-external-range", Severity.MISLEAD),
        ({"offset": "9" * 30}, "onnx-external-range", Severity.MISLEAD),
        ({"offset": "4", "length": "8"}, "onnx-external-range", Severity.MISLEAD),
        ({"length": "1e3"}, "onnx-external-range", Severity.MISLEAD),
        ({"length": "9999999999999"}, "onnx-huge-tensor", Severity.EXHAUST),
    ],
)
def test_a_range_outside_the_side_file_is_found(keys: dict[str, str], rule: str, severity: Severity) -> None:
    for data in holders(external(location="weights", **keys)):
        assert (rule, severity) in rules(data, weights=bytes(8))


def test_a_missing_side_file_is_not_vouched_for() -> None:
    for data in holders(external(location="gone")):
        assert rules(data) == {("onnx-external-missing", Severity.INCOMPLETE)}


def test_a_side_file_of_another_kind_is_looked_at_for_itself() -> None:
    data = model(graph((5, external(dims=(4,), location="weights"))))
    pickled = b"\x80\x04\x8c\x02os\x8c\x06system\x93."

    report = inspect(Tree.of({"m/model.onnx": data, "m/weights": pickled}), all_formats())

    assert [item.format for item in report.descriptions] == ["onnx", "pickle"]


@pytest.mark.parametrize(
    ("name", "domain", "rule", "severity"),
    [
        ("PyOp", "ai.onnx.contrib", "onnx-python-operator", Severity.EXECUTE),
        ("PythonOp", "com.microsoft", "onnx-python-operator", Severity.EXECUTE),
        ("PyCustomOp", "somebody", "onnx-python-operator", Severity.EXECUTE),
        ("EPContext", "com.microsoft", "onnx-engine", Severity.EXECUTE),
        ("Snpe", "com.microsoft", "onnx-engine", Severity.EXECUTE),
        ("OpenAIAudioToText", "com.microsoft.extensions", "onnx-service", Severity.NETWORK),
        ("AzureTritonInvoker", "com.microsoft.extensions", "onnx-service", Severity.NETWORK),
        ("Anything", "evil.example", "onnx-unknown-domain", Severity.INCOMPLETE),
        ("Anything", "com.microsoft", "onnx-unknown-operator", Severity.INCOMPLETE),
        ("Anything", "", "onnx-unknown-operator", Severity.INCOMPLETE),
    ],
)
def test_an_operator_that_does_more_than_compute_is_found_in_every_place(
    name: str, domain: str, rule: str, severity: Severity
) -> None:
    for data in operators(node(name, domain), domain):
        assert (rule, severity) in rules(data)


@pytest.mark.parametrize(
    ("name", "domain"),
    [
        ("Gemm", ""),
        ("TreeEnsembleClassifier", "ai.onnx.ml"),
        ("FusedConv", "com.microsoft"),
        ("Conv", "com.microsoft.nchwc"),
        ("Adam", "ai.onnx.preview.training"),
        ("Conv", "com.ms.internal.nhwc"),
        ("SentencepieceTokenizer", "ai.onnx.contrib"),
    ],
)
def test_ordinary_operators_are_safe(name: str, domain: str) -> None:
    for data in operators(node(name, domain), domain):
        assert found(data) == []


def test_only_functions_that_are_there_count_as_the_model_s_own() -> None:
    own = function("Mine", node())
    domains = ("", "local")

    assert found(model(graph((1, node("Mine", "local"))), (25, own), domains=domains)) == []
    assert rules(model(graph((1, node("Other", "local"))), (25, own), domains=domains)) == {
        ("onnx-unknown-domain", Severity.INCOMPLETE)
    }


def test_functions_that_grow_without_bounds_are_found_at_once() -> None:
    start = time.process_time()
    assert rules(laughing(60)) == {("onnx-function-growth", Severity.EXHAUST)}
    assert rules(looping()) == {("onnx-function-loop", Severity.EXHAUST)}
    assert time.process_time() - start < HANG
    assert found(laughing(3)) == []


def test_huge_and_contradictory_tensors_are_found() -> None:
    for data in holders(tensor("w", (1 << 40,), b"")):
        assert ("onnx-huge-tensor", Severity.EXHAUST) in rules(data)
    for data in holders(tensor("w", (3,), bytes(8))):
        assert ("onnx-data-length", Severity.MISLEAD) in rules(data)


def test_graphs_nested_without_end_and_truncated_files_are_not_vouched_for() -> None:
    inner = graph()
    for _ in range(60):
        inner = graph((1, node("If", "", attribute("then_branch", (6, inner)))))
    whole = model(graph((5, tensor("w", (2,), bytes(8)))))

    assert ("onnx-deep-subgraphs", Severity.INCOMPLETE) in rules(model(inner))
    assert ("onnx-truncated", Severity.INCOMPLETE) in rules(whole[:-9])
    assert found(whole) == []


def test_a_zipped_model_and_one_in_json_are_not_taken_for_understood() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("model.onnx", model(graph()))
    for name, data in (("m.zip", buffer.getvalue()), ("m.json", b'{"irVersion": "8", "graph": {"node": []}}')):
        report = inspect(Tree.of({name: data}), all_formats())
        assert report.unknown == (name,)


@pytest.mark.framework
@pytest.mark.filterwarnings("ignore")
def test_models_that_onnx_itself_writes_are_safe(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    numpy = pytest.importorskip("numpy")
    helper = onnx.helper
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Scaler", ["r"], ["y"], domain="ai.onnx.ml", offset=[0.0], scale=[1.0]),
    ]
    weight = onnx.numpy_helper.from_array(numpy.ones((64, 64), "f4"), "w")
    ports = [helper.make_tensor_value_info(name, 1, [None, 64]) for name in ("x", "y")]
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    made = helper.make_model(helper.make_graph(nodes, "g", ports[:1], ports[1:], [weight]), opset_imports=imports)
    onnx.save(made, tmp_path / "plain.onnx")
    onnx.save(made, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)

    assert found((tmp_path / "plain.onnx").read_bytes()) == []
    data = {"m.data": (tmp_path / "m.data").read_bytes()}
    assert found((tmp_path / "m.onnx").read_bytes(), **data) == []
