"""OpenVINO networks: constants located in the weight file, signature and operators, without OpenVINO."""

from __future__ import annotations

import contextlib
import json
from xml.sax.saxutils import quoteattr

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import AssayError
from assay.formats.openvino import MAX_FINDINGS_PER_RULE, OpenVinoFormat
from assay.ports.formats import Format
from assay.spec.description import Description, Port
from assay.spec.finding import Severity
from assay.spec.tensor import Extent
from assay.trees import Tree


def port(precision: str, dims: list[int]) -> str:
    return f'<port id="0" precision="{precision}">{"".join(f"<dim>{size}</dim>" for size in dims)}</port>'


def layer(name: str, kind: str, inner: str = "", opset: str = "opset1") -> str:
    return f'<layer id="0" name={quoteattr(name)} type="{kind}" version="{opset}">{inner}</layer>'


def const(name: str, element: str, shape: str, offset: object, size: object) -> str:
    data = f'<data element_type="{element}" shape="{shape}" offset="{offset}" size="{size}"/>'
    return layer(name, "Const", f"{data}<output>{port('FP32', [1])}</output>")


def network(*layers: str, tail: str = "", version: str = "11") -> bytes:
    body = "".join(layers)
    return f'<?xml version="1.0"?>\n<net name="demo" version="{version}"><layers>{body}</layers>{tail}</net>'.encode()


PARAMETER = layer("x", "Parameter", '<data shape="?,3,1..8" element_type="f16"/><output></output>')
RESULT = layer("out/sink_port_0", "Result", f"<input>{port('FP32', [-1, 10])}</input>")
RT_INFO = (
    '<rt_info><MO_version value="2024.1-abc"/><Runtime_version value="2024.2-def"/>'
    '<conversion_parameters><framework value="onnx"/></conversion_parameters></rt_info>'
)


def describe(data: bytes, weights: bytes | None = b"") -> Description:
    files = {"m.xml": data} if weights is None else {"m.xml": data, "m.bin": weights}
    tree = Tree.of(files)
    (group,) = OpenVinoFormat().detect(tree)
    assert group == tuple(files)
    return OpenVinoFormat().describe(tree, group)


def rules(description: Description) -> dict[str, Severity]:
    return {finding.rule: finding.severity for finding in description.findings}


def test_it_is_a_format_that_describes_files() -> None:
    assert isinstance(OpenVinoFormat(), Format)
    assert (OpenVinoFormat().name, OpenVinoFormat().covers) == ("openvino", "file")


def test_a_network_shows_signature_operators_constants_and_its_conversion() -> None:
    layers = (
        PARAMETER,
        const("w", "f32", "2, 3", 0, 24),
        const("h", "f16", "4", 24, 8),
        const("q", "u4", "3", 32, 2),
        const("s", "boolean", "", 34, 1),
        layer("mm", "MatMul", opset="opset8"),
        RESULT,
    )
    description = describe(network(*layers, tail=RT_INFO), bytes(35))
    assert description.findings == ()
    assert (description.framework_version, description.format_version) == ("2024.2", "11")
    assert description.metadata["name"] == "demo"
    assert description.inputs == (Port("x", "float16", (None, 3, "1..8")),)
    assert description.outputs == (Port("out", "float32", (None, 10)),)
    assert [(spec.name, spec.dtype, spec.shape, spec.extent) for spec in description.tensors] == [
        ("w", "float32", (2, 3), Extent("m.bin", 0, 24)),
        ("h", "float16", (4,), Extent("m.bin", 24, 8)),
        ("q", "uint4", (3,), Extent("m.bin", 32, 2)),
        ("s", "bool", (), Extent("m.bin", 34, 1)),
    ]
    assert description.metadata["ops"] == {"Const": 4, "Parameter": 1, "MatMul": 1, "Result": 1}
    assert description.metadata["converted_from"] == "onnx"
    assert description.metadata["properties"]["MO_version"] == "2024.1-abc"  # type: ignore[index,call-overload]


def test_bodies_of_loops_and_branches_are_walked_under_their_layers_name() -> None:
    def body(word: str, name: str) -> str:
        return f"<{word}><layers>{PARAMETER}{const(name, 'i8', '2', 0, 2)}{RESULT}</layers></{word}>"

    nested = layer("loop", "Loop", body("body", "a") + '<data execution="1"/>')
    branch = layer("if", "If", body("then_body", "b") + body("else_body", "b"))
    description = describe(network(nested, branch, const("c", "i8", "2", 0, 2)), bytes(2))
    assert [spec.name for spec in description.tensors] == ["loop/a", "if/then_body/b", "if/else_body/b", "c"]
    assert (description.inputs, description.outputs) == ((), ())
    assert description.metadata["ops"]["Const"] == 4  # type: ignore[index,call-overload]


def test_weights_of_old_versions_are_flat_arrays() -> None:
    blobs = '<blobs><weights offset="0" size="8" precision="FP16"/><biases offset="8" size="4"/></blobs>'
    description = describe(network(layer("conv", "Convolution", blobs), version="7"), bytes(12))
    assert [(spec.name, spec.dtype, spec.shape) for spec in description.tensors] == [
        ("conv.weights", "float16", (4,)),
        ("conv.biases", "float32", (1,)),
    ]
    assert description.findings == ()


@pytest.mark.parametrize(
    ("constant", "rule", "severity"),
    [
        (const("w", "f32", "2", 0, 4), "openvino-data-length", Severity.MISLEAD),
        (const("w", "f32", "2", 8, 8), "openvino-data-range", Severity.MISLEAD),
        (const("w", "f32", "999999999999", 0, 4), "openvino-huge-tensor", Severity.EXHAUST),
        (const("w", "f32", ",".join(["999999999999"] * 9), 0, 4), "openvino-huge-tensor", Severity.EXHAUST),
        (const("w", "f32", "-2", 0, 8), "openvino-constant", Severity.INCOMPLETE),
        (const("w", "f32", "2", "9" * 40, 8), "openvino-constant", Severity.INCOMPLETE),
        (const("w", "f33", "2", 0, 8), "openvino-unknown-dtype", Severity.INCOMPLETE),
        (layer("c", "Custom", opset="my_extension"), "openvino-extension", Severity.INCOMPLETE),
    ],
)
def test_oddities_are_findings_beside_what_was_understood(constant: str, rule: str, severity: Severity) -> None:
    description = describe(network(constant, PARAMETER), bytes(8))
    assert rules(description) == {rule: severity}
    assert all(spec.extent is None for spec in description.tensors)
    assert [port.name for port in description.inputs] == ["x"]


def test_missing_weights_are_reported() -> None:
    description = describe(network(const("w", "f32", "2", 0, 8)), None)
    assert rules(description) == {"openvino-weights-missing": Severity.INCOMPLETE}
    assert description.tensors[0].extent is None


def test_a_truncated_network_keeps_what_came_before() -> None:
    data = network(const("w", "f32", "2", 0, 8), RESULT)
    description = describe(data[: data.index(b"Result")], bytes(8))
    assert rules(description) == {"openvino-malformed": Severity.INCOMPLETE}
    assert [spec.name for spec in description.tensors] == ["w"]


def test_a_document_type_is_refused_and_said() -> None:
    entity = b'<!DOCTYPE net [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    description = describe(entity + b'<net name="&x;" version="11"><layers/></net>')
    assert rules(description)["openvino-doctype"] is Severity.READ
    assert not description.complete


def test_a_flood_of_equal_findings_is_cut() -> None:
    description = describe(network(*(const(f"w{number}", "f32", "2", 0, 4) for number in range(100))))
    assert len(description.findings) == MAX_FINDINGS_PER_RULE


@pytest.mark.parametrize("data", [b"", b"<html/>", b"<net/>", b'<net version="x"/>', b'{"net": 11}', b"<?xml"])
def test_other_files_are_not_claimed(data: bytes) -> None:
    assert OpenVinoFormat().detect(Tree.of({"m.xml": data, "m.bin": b""})) == []


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_mutated_networks_end_in_descriptions_or_our_errors(data: st.DataObject) -> None:
    seed = network(PARAMETER, const("w", "f32", "2", 0, 8), layer("l", "Loop", "<body></body>"), RESULT, tail=RT_INFO)
    mutable = bytearray(seed)
    for _ in range(data.draw(st.integers(0, 5))):
        mutable[data.draw(st.integers(0, len(mutable) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(mutable)))
    tree = Tree.of({"m.xml": bytes(mutable[:cut]), "m.bin": bytes(8)}, limit=1 << 20)
    OpenVinoFormat().detect(tree)
    with contextlib.suppress(AssayError):
        description = OpenVinoFormat().describe(tree, ("m.xml", "m.bin"))
        json.dumps(description.metadata, allow_nan=False)
