"""Core ML models and packages: signature, layers, programs and weights, without coremltools."""

from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_builder import field, fields, varint

from assay.errors import AssayError, BadFormat
from assay.formats.coreml import index as coreml_index
from assay.formats.coreml.files import CoreMlFormat
from assay.formats.onnx.files import OnnxFormat
from assay.ports.formats import Format
from assay.spec.description import Description, Port
from assay.spec.finding import Severity
from assay.spec.tensor import TensorSpec
from assay.trees import Tree
from assay.trees.window import FileSource

FLOAT32 = 65568
PACKAGE = "basic_pitch/saved_models/icassp_2022/nmp.mlpackage"


def array_port(name: str, shape: list[int], data_type: int = FLOAT32, *more: tuple[int, Any]) -> bytes:
    array = fields((1, b"".join(map(varint, shape))), (2, data_type), *more)
    return fields((1, name), (3, field(5, array)))


DESCRIPTION = fields(
    (1, array_port("x", [1, 3])),
    (10, array_port("y", [1])),
    (100, fields((1, "a demo"), (2, "1.2"), (3, "somebody"), (4, "MIT"), (100, fields((1, "key"), (2, "value"))))),
)


def model(kind: int, body: bytes, description: bytes = DESCRIPTION) -> bytes:
    return fields((1, 7), (2, description), (kind, body))


def floats(*values: float) -> bytes:
    return field(1, struct.pack(f"<{len(values)}f", *values))


def layer(name: str, kind: int, body: bytes) -> bytes:
    return field(1, fields((1, name), (2, "x"), (3, "y"), (kind, body)))


def tensor_type(data_type: int, *shape: int) -> bytes:
    dims = [(3, field(1, field(1, size))) for size in shape]
    return fields((1, data_type), (2, len(shape)), *dims)


def value(data_type: int, shape: tuple[int, ...], *content: tuple[int, bytes]) -> bytes:
    return fields((2, field(1, tensor_type(data_type, *shape))), *content)


def blob(file: str, offset: int) -> tuple[int, bytes]:
    return 5, fields((1, file), (2, offset))


def inline(kind: int, payload: bytes) -> tuple[int, bytes]:
    return 3, field(1, field(kind, field(1, payload)))


def const(name: str, content: bytes, kind: str = "const", key: str = "val") -> bytes:
    return field(3, fields((1, kind), (3, field(1, name)), (5, fields((1, key), (2, content)))))


def program(*operations: bytes) -> bytes:
    block = fields((1, "CoreML5"), (2, b"".join(operations)))
    return fields((1, 1), (2, fields((1, "main"), (2, field(3, block)))))


def blob_file(payload: bytes) -> bytes:
    record = struct.pack("<IIQQ", 0xDEADBEEF, 2, len(payload), 128)
    return struct.pack("<II", 1, 2).ljust(64, b"\0") + record.ljust(64, b"\0") + payload


def describe(data: bytes, **sides: bytes) -> Description:
    files = {"m.mlmodel": data, **{f"weights/{name}.bin": side for name, side in sides.items()}}
    tree = Tree.of(files)
    (group,) = CoreMlFormat().detect(tree)
    assert group[0] == "m.mlmodel"
    return CoreMlFormat().describe(tree, group)


def rules(description: Description) -> dict[str, Severity]:
    return {finding.rule: finding.severity for finding in description.findings}


def content(tree: Tree, spec: TensorSpec) -> bytes:
    assert spec.extent is not None
    return tree.source(spec.extent.path).read(spec.extent.offset, spec.extent.length)


def test_it_is_a_format_that_describes_files() -> None:
    assert isinstance(CoreMlFormat(), Format)
    assert (CoreMlFormat().name, CoreMlFormat().covers) == ("coreml", "file")


@pytest.mark.real
def test_a_real_network_shows_its_layers_and_every_weight(real_model: Callable[[str, str, str], Path]) -> None:
    file = real_model("kraken==7.1.1", "kraken/blla.mlmodel", "77a638a83c9e")
    tree = Tree({"blla.mlmodel": FileSource(file)})
    (group,) = CoreMlFormat().detect(tree)
    description = CoreMlFormat().describe(tree, group)
    assert (description.architecture, description.metadata["kind"]) == (None, "neuralNetwork")
    assert description.inputs == (Port("input", "float64", (1, 3, 1800, 0)),)
    assert description.metadata["ops"] == {
        "convolution": 7,
        "activation": 7,
        "custom:groupnorm": 6,
        "biDirectionalLSTM": 4,
        "permute": 2,
    }
    by_name = {spec.name: spec for spec in description.tensors}
    assert by_name["C_0_conv.weights"].shape == (64, 3, 7, 7)
    assert by_name["L_10.backward.forget.recursion"].shape == (32, 32)
    # The weights make up the file: nothing of it was missed, and almost none of it was read.
    assert sum(spec.nbytes or 0 for spec in description.tensors) > 0.99 * file.stat().st_size
    assert tree.budget.used < 0.05 * file.stat().st_size
    array = np.frombuffer(content(tree, by_name["C_0_conv.weights"]), np.float32)
    assert np.isfinite(array).all()
    assert 0.001 < array.std() < 1
    assert set(rules(description)) == {"coreml-custom-layer"}


@pytest.mark.real
def test_a_real_package_is_one_group_with_its_weights(real_folder: Callable[[str, str], Path]) -> None:
    folder = real_folder("basic-pitch==0.4.0", PACKAGE)
    tree = Tree({f"p/{file.relative_to(folder)}": FileSource(file) for file in folder.rglob("*") if file.is_file()})
    (group,) = CoreMlFormat().detect(tree)
    weights = "p/Data/com.apple.CoreML/weights/weight.bin"
    assert group == ("p/Data/com.apple.CoreML/model.mlmodel", weights, "p/Manifest.json")
    description = CoreMlFormat().describe(tree, group)
    assert description.findings == ()
    assert (description.metadata["kind"], description.framework_version) == ("mlProgram", "7.0")
    assert description.metadata["source"] == "tensorflow==2.12.0"
    assert description.metadata["ops"]["conv"] == 32  # type: ignore[index,call-overload]
    assert description.outputs[0] == Port("Identity", "float32", (1, 172, 264))
    spec = next(spec for spec in description.tensors if spec.name.endswith("_Sqrt"))
    assert (spec.dtype, spec.shape) == ("float32", (309, 1, 1))
    assert spec.extent is not None
    assert spec.extent.path == weights
    # Square roots of the lengths of constant-Q filters: positive, falling as the frequency rises.
    lengths = np.frombuffer(content(tree, spec), np.float32)
    assert (lengths > 1).all()
    assert (np.diff(lengths) <= 0).all()


def test_signature_authorship_and_flexible_shapes_are_read() -> None:
    ports = fields(
        (
            1,
            array_port(
                "flexible", [1, 3], FLOAT32, (31, field(1, fields((1, 1), (2, 8))) + field(1, fields((1, 3), (2, 3))))
            ),
        ),
        (1, fields((1, "picture"), (3, field(4, fields((1, 640), (2, 480), (3, 20)))))),
        (1, fields((1, "count"), (3, field(1, b"")))),
        (10, fields((1, "probabilities"), (3, field(6, field(2, b""))))),
    )
    description = describe(model(500, layer("a", 130, b""), ports + field(100, fields((3, "somebody"), (4, "MIT")))))
    assert description.inputs == (
        Port("flexible", "float32", (None, 3)),
        Port("picture", "image", (480, 640)),
        Port("count", "int64", ()),
    )
    assert description.outputs == (Port("probabilities", "dictionary"),)
    assert description.licenses == ("MIT",)
    assert description.metadata["author"] == "somebody"


def test_weights_are_typed_shaped_and_located() -> None:
    convolution = fields(
        (1, 2), (2, 1), (20, varint(1) + varint(3)), (90, floats(1, 2, 3, 4, 5, 6)), (91, floats(7, 8))
    )
    dense = fields((1, 2), (2, 3), (20, field(2, struct.pack("<6e", *range(6)))))
    quantised = fields((1, 4), (2, 2), (20, fields((30, bytes(4)), (40, field(1, 4)))))
    transposed = fields((1, 4), (2, 2), (20, varint(1) + varint(1)), (60, 1), (90, floats(*range(8))))
    data = model(
        403,
        layer("c", 100, convolution)
        + layer("d", 140, dense)
        + layer("q", 140, quantised)
        + layer("t", 100, transposed)
        + field(100, fields((1, "cat"), (1, "dog"))),
    )
    tree = Tree.of({"m.mlmodel": data})
    description = CoreMlFormat().describe(tree, ("m.mlmodel",))
    assert [(spec.name, spec.dtype, spec.shape) for spec in description.tensors] == [
        ("c.weights", "float32", (2, 1, 1, 3)),
        ("c.bias", "float32", (2,)),
        ("d.weights", "float16", (3, 2)),
        ("q.weights", "uint4", (2, 4)),
        ("t.weights", "float32", (2, 4, 1, 1)),
    ]
    assert content(tree, description.tensors[1]) == struct.pack("<2f", 7, 8)
    assert description.task == "classification"
    assert description.metadata["class_names"] == ["cat", "dog"]
    assert description.findings == ()


def test_networks_in_branches_and_models_in_pipelines_are_walked() -> None:
    inner = layer("b", 250, fields((1, varint(2)), (2, floats(1, 2))))
    branch = model(500, layer("if", 605, fields((1, inner), (2, inner))))
    data = model(202, fields((1, branch), (1, model(604, b"")), (2, "net"), (2, "scale")))
    description = describe(data)
    assert [spec.name for spec in description.tensors] == ["net/if/1/b.bias", "net/if/2/b.bias"]
    kinds = {part.name: part.kind for part in description.components}
    assert kinds["net"] == "neuralNetwork"
    assert kinds["scale"] == "scaler"


def test_tree_ensembles_and_linear_models_are_counted_and_listed() -> None:
    nodes = b"".join(field(1, fields((1, tree), (2, number))) for tree in (0, 1, 5) for number in range(3))
    trees = describe(model(402, fields((1, nodes), (101, field(1, varint(3) + varint(4))))))
    assert (trees.metadata["trees"], trees.metadata["nodes"], trees.metadata["class_names"]) == (3, 9, [3, 4])
    linear = describe(model(300, fields((1, field(1, struct.pack("<2d", 1, 2))), (2, struct.pack("<d", 3)))))
    assert [(spec.name, spec.dtype, spec.shape) for spec in linear.tensors] == [
        ("weights.0", "float64", (2,)),
        ("offset", "float64", (1,)),
    ]


def test_programs_have_constants_inline_and_in_their_weight_file() -> None:
    payload = struct.pack("<4f", 1, 2, 3, 4)
    data = model(
        502,
        program(
            const("w", value(11, (2, 2), blob("@model_path/weights/weight.bin", 64))),
            const("f", value(11, (2,), inline(1, payload[:8]))),
            const("h", value(10, (3,), inline(7, bytes(6)))),
            const("i", value(23, (2,), inline(2, b"\x01\x02"))),
            const("mode", value(2, (), inline(4, b"same"))),
            const(
                "lut", value(31, (4,), blob("@model_path/weights/weight.bin", 64)), "constexpr_lut_to_dense", "indices"
            ),
            field(3, fields((1, "conv"), (3, field(1, "y")))),
        ),
    )
    tree = Tree.of({"m.mlmodel": data, "weights/weight.bin": blob_file(payload)})
    (group,) = CoreMlFormat().detect(tree)
    assert group == ("m.mlmodel", "weights/weight.bin")
    description = CoreMlFormat().describe(tree, group)
    specs = {spec.name: spec for spec in description.tensors}
    assert {name: (spec.dtype, spec.shape) for name, spec in specs.items()} == {
        "w": ("float32", (2, 2)),
        "f": ("float32", (2,)),
        "h": ("float16", (3,)),
        "i": ("int32", (2,)),
        "lut.indices": ("uint8", (4,)),
    }
    assert content(tree, specs["w"]) == payload
    assert content(tree, specs["f"]) == payload[:8]
    assert specs["i"].extent is None
    assert rules(description) == {"coreml-data-length": Severity.MISLEAD}  # the table states 4 bytes, the record 16


DEEP = b""
for _ in range(30):
    DEEP = layer("if", 605, field(1, DEEP))


@pytest.mark.parametrize(
    ("data", "rule", "severity"),
    [
        (
            model(500, layer("a", 130, b""), field(1, field(3, field(5, field(31, 1))))),
            "coreml-malformed",
            Severity.INCOMPLETE,
        ),
        (model(500, DEEP), "coreml-malformed", Severity.INCOMPLETE),
        (model(500, layer("c", 500, field(10, "My"))), "coreml-custom-layer", Severity.NOTE),
        (model(555, field(10, "My")), "coreml-outside", Severity.NOTE),
        (model(500, field(1, field(1, "no kind"))), "coreml-malformed", Severity.INCOMPLETE),
        (model(500, layer("d", 140, field(20, field(1, bytes(6))))), "coreml-data-length", Severity.MISLEAD),
        (model(501, bytes(5000)), "coreml-unlisted-weights", Severity.INCOMPLETE),
        (model(500, layer("a", 130, b""))[:-2], "coreml-truncated", Severity.INCOMPLETE),
        (model(502, program(const("w", value(11, (1,), blob("../w", 0))))), "coreml-external-escape", Severity.READ),
        (
            model(502, program(const("w", value(11, (1,), blob("w", 0))))),
            "coreml-external-missing",
            Severity.INCOMPLETE,
        ),
        (model(502, program(const("w", value(11, (2,), inline(7, b"1234"))))), "coreml-data-length", Severity.MISLEAD),
        (model(502, program(const("w", value(11, (1 << 40,) * 2)))), "coreml-huge-tensor", Severity.EXHAUST),
    ],
)
def test_oddities_are_findings(data: bytes, rule: str, severity: Severity) -> None:
    description = describe(data)
    assert rules(description)[rule] is severity
    assert description.format_version == "7"


@pytest.mark.parametrize(
    ("kind", "body"),
    [(500, layer("a", 130, b"") * 11), (502, program(field(3, b"") * 11))],
    ids=["layers", "operations"],
)
def test_layers_and_operations_are_bounded(kind: int, body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coreml_index, "MAX_LAYERS", 10)
    assert rules(describe(model(kind, body))) == {"coreml-limit": Severity.INCOMPLETE}


@pytest.mark.parametrize("offset", [0, 60, 4096, 2**63])
def test_weight_records_that_are_not_there_are_reported(offset: int) -> None:
    data = model(502, program(const("w", value(11, (1,), blob("@model_path/weights/a.bin", offset)))))
    assert rules(describe(data, a=blob_file(bytes(4)))) == {"coreml-external-range": Severity.MISLEAD}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x08\x06",
        fields((1, 8), (2, "pytorch"), (7, fields((1, fields((4, "Relu")))))),  # ONNX
        fields((1, 1), (2, fields((1, fields((1, "serve")))))),  # SavedModel
        fields((1, 6), (2, DESCRIPTION), (500, b""), (502, b"")),
        b"\x08text that starts with a backspace",
    ],
)
def test_other_files_are_not_claimed(data: bytes) -> None:
    assert CoreMlFormat().detect(Tree.of({"m.mlmodel": data})) == []


def test_core_ml_is_not_claimed_as_onnx() -> None:
    assert OnnxFormat().detect(Tree.of({"m.onnx": model(500, layer("a", 130, b""))})) == []


def test_a_file_without_a_kind_of_model_is_refused() -> None:
    with pytest.raises(BadFormat, match="no kind"):
        CoreMlFormat().describe(Tree.of({"m": fields((1, 7), (2, DESCRIPTION))}), ("m",))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_mutated_models_end_in_descriptions_or_our_errors(data: st.DataObject) -> None:
    network = model(
        500, layer("d", 140, fields((1, 2), (2, 3), (20, floats(*range(6))))) + layer("l", 420, field(20, b""))
    )
    mil = model(502, program(const("w", value(11, (1,), blob("@model_path/weights/a.bin", 64)))))
    mutable = bytearray(data.draw(st.sampled_from([network, mil])))
    for _ in range(data.draw(st.integers(0, 6))):
        mutable[data.draw(st.integers(0, len(mutable) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(mutable)))
    tree = Tree.of({"m": bytes(mutable[:cut]), "weights/a.bin": blob_file(bytes(4))}, limit=1 << 20)
    CoreMlFormat().detect(tree)
    with contextlib.suppress(AssayError):
        description = CoreMlFormat().describe(tree, ("m",))
        assert len({spec.name for spec in description.tensors}) == len(description.tensors)
        json.dumps(description.metadata, allow_nan=False)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_end_in_descriptions_or_our_errors(data: bytes) -> None:
    tree = Tree.of({"m": b"\x08\x07" + data, "Manifest.json": data}, limit=1 << 20)
    CoreMlFormat().detect(tree)
    with contextlib.suppress(AssayError):
        CoreMlFormat().describe(tree, ("m",))
