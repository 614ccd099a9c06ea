"""ONNX models are described as onnx and ONNX Runtime see them, hostile ones included, without either."""

from __future__ import annotations

import contextlib
import json
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_builder import field, fields

from assay.containers.protobuf.message import message
from assay.errors import AssayError, BadFormat
from assay.formats.onnx import graph as onnx_graph
from assay.formats.onnx.files import OnnxFormat
from assay.formats.onnx.graph import MAX_ATTRIBUTES, MAX_DEPTH, MAX_FINDINGS_PER_RULE
from assay.formats.onnx.tensors import HUGE_BYTES
from assay.formats.onnx.trees import distinct
from assay.ports.formats import Format
from assay.spec.description import Description, Port
from assay.spec.finding import Severity
from assay.spec.tensor import TensorSpec
from assay.trees import BytesWindow, Tree
from assay.trees.window import FileSource

RealModel = Callable[[str, str, str], Path]

REAL = {
    "magika-1": ("magika==0.5.1", "magika/models/standard_v1/model.onnx", "71892ac28ffe"),
    "magika-3.2": ("magika==0.6.1", "magika/models/standard_v3_2/model.onnx", "ba4f37274433"),
    "magika-3.3": ("magika==0.6.3", "magika/models/standard_v3_3/model.onnx", "fe2d2eb49c5f"),
    "silero-5": ("silero-vad==5.1.2", "silero_vad/data/silero_vad.onnx", "2623a2953f6f"),
    "silero-6": ("silero-vad==6.0.0", "silero_vad/data/silero_vad.onnx", "597d30b3ec07"),
    "rapidocr": ("rapidocr==3.4.0", "rapidocr/models/ch_PP-OCRv4_rec_infer.onnx", "48fc40f24f6d"),
    "hatesonar": ("hatesonar==0.1.0", "hatesonar/model/model.onnx", "3d881e00b16e"),
    "basic-pitch": ("basic-pitch==0.4.0", "basic_pitch/saved_models/icassp_2022/nmp.onnx", "2c3c1d144bfa"),
    "wakeword": ("openwakeword==0.4.0", "openwakeword/resources/models/hey_jarvis_v0.1.onnx", "94a13cfe6007"),
}


def tensor(name: str, dims: list[int], data_type: int, raw: bytes | None = None, *more: tuple[int, Any]) -> bytes:
    parts = [*((1, size) for size in dims), (2, data_type), (8, name)]
    if raw is not None:
        parts.append((9, raw))
    return fields(*parts, *more)


def node(operator: str, output: str = "y", domain: str = "", attributes: tuple[bytes, ...] = ()) -> bytes:
    parts = fields((1, "x"), (2, output), (4, operator))
    return parts + b"".join(field(5, each) for each in attributes) + (field(7, domain) if domain else b"")


def external(name: str, dims: list[int], **keys: str) -> bytes:
    pairs = b"".join(field(13, fields((1, key), (2, value))) for key, value in keys.items())
    return tensor(name, dims, 1) + pairs + field(14, 1)


def graph(*parts: tuple[int, Any]) -> bytes:
    return fields((2, "small"), *parts)


def model(graph_bytes: bytes, *parts: tuple[int, Any], opsets: tuple[str, ...] = ("",)) -> bytes:
    imports = [(8, fields((1, domain), (2, 17))) for domain in opsets]
    return fields((1, 8), (2, "builder"), (3, "1.0"), (7, graph_bytes), *imports, *parts)


SMALL = model(graph((1, node("Relu")), (5, tensor("w", [2, 3], 1, bytes(24)))))


def describe(data: bytes, **sides: bytes) -> Description:
    tree = Tree.of({"m.onnx": data, **{name.replace("__", "."): side for name, side in sides.items()}})
    (group,) = OnnxFormat().detect(tree)
    assert group[0] == "m.onnx"
    return OnnxFormat().describe(tree, group)


def rules(description: Description) -> dict[str, Severity]:
    return {finding.rule: finding.severity for finding in description.findings}


def tree_of(file: Path) -> Tree:
    return Tree({file.name: FileSource(file)})


def described(file: Path) -> tuple[Tree, Description]:
    tree = tree_of(file)
    (group,) = OnnxFormat().detect(tree)
    return tree, OnnxFormat().describe(tree, group)


def content(tree: Tree, spec: TensorSpec) -> bytes | None:
    return tree.source(spec.extent.path).read(spec.extent.offset, spec.extent.length) if spec.extent else None


def protos(message: Any) -> list[Any]:
    """Every ``TensorProto`` below a message, wherever it hides."""
    found = []
    for descriptor, value in message.ListFields():
        if descriptor.message_type is None:
            continue
        for each in value if isinstance(value, (list, tuple)) or hasattr(value, "append") else [value]:
            found += [each] if each.DESCRIPTOR.name == "TensorProto" else protos(each)
    return found


def test_it_is_a_format_that_describes_files() -> None:
    assert isinstance(OnnxFormat(), Format)
    assert (OnnxFormat().name, OnnxFormat().covers) == ("onnx", "file")


@pytest.mark.real
@pytest.mark.framework
@pytest.mark.parametrize("name", REAL)
def test_every_tensor_of_a_real_model_is_found_with_the_bytes_onnx_reads(name: str, real_model: RealModel) -> None:
    import onnx
    from onnx import numpy_helper

    file = real_model(*REAL[name])
    tree, description = described(file)
    expected = Counter()
    for proto in protos(onnx.load(file)):
        array = numpy_helper.to_array(proto)
        expected[str(array.dtype), array.shape, array.tobytes()] += 1
    found = Counter()
    for spec in description.tensors:
        data = content(tree, spec)
        # Integers in varint fields have no extent: compare those by shape alone.
        if data is None:
            matches = [key for key in expected if key[:2] == (spec.dtype, spec.shape)]
            assert matches
            continue
        found[spec.dtype, spec.shape, data] += 1
    assert not found - expected
    assert expected.total() == len(description.tensors)
    assert len({spec.name for spec in description.tensors}) == len(description.tensors)
    assert all(spec.dtype.startswith("int") for spec in description.tensors if spec.extent is None)
    assert description.findings == ()


@pytest.mark.real
@pytest.mark.framework
@pytest.mark.parametrize("name", [name for name in REAL if name != "hatesonar"])
def test_the_signature_of_a_real_model_is_that_of_its_onnxruntime_session(name: str, real_model: RealModel) -> None:
    import onnxruntime

    file = real_model(*REAL[name])
    _, description = described(file)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    words = {"float32": "float", "int64": "int64", "int32": "int32"}
    for ports, values in ((description.inputs, session.get_inputs()), (description.outputs, session.get_outputs())):
        assert [port.name for port in ports] == [value.name for value in values]
        assert [f"tensor({words[port.dtype]})" for port in ports] == [value.type for value in values]
    assert [port.shape for port in description.inputs] == [tuple(value.shape) for value in session.get_inputs()]


@pytest.mark.real
def test_silero_has_all_its_constants_in_nested_graphs(real_model: RealModel) -> None:
    _, description = described(real_model(*REAL["silero-5"]))
    assert len(description.tensors) == 345
    assert all("/" in spec.name for spec in description.tensors if spec.size > 100)
    assert description.metadata["subgraphs"] == 50
    assert description.metadata["ops"]["If"] == 25  # type: ignore[index,call-overload]
    assert (description.framework, description.architecture) == ("spox", None)


@pytest.mark.real
def test_two_releases_of_silero_name_their_tensors_alike(real_model: RealModel) -> None:
    old, new = (described(real_model(*REAL[name]))[1] for name in ("silero-5", "silero-6"))
    assert [spec.name for spec in old.tensors] == [spec.name for spec in new.tensors]


@pytest.mark.real
def test_a_long_dictionary_in_the_metadata_is_shortened(real_model: RealModel) -> None:
    _, description = described(real_model(*REAL["rapidocr"]))
    assert description.metadata["ops"]["Constant"] == 420  # type: ignore[index,call-overload]
    assert description.metadata["properties"]["character"].endswith("… (26,264 bytes)")  # type: ignore[index,call-overload,union-attr]
    assert description.parameters == 2_690_352


@pytest.mark.real
def test_a_classical_pipeline_shows_its_predictor_classes_and_vocabulary(real_model: RealModel) -> None:
    _, description = described(real_model(*REAL["hatesonar"]))
    assert (description.architecture, description.task) == ("LinearClassifier", "classification")
    assert (description.framework, description.framework_version) == ("skl2onnx", "1.19.1")
    assert description.outputs[1] == Port("output_probability", "sequence(map(int64,float32))")
    # 28,302 inverse document frequencies, three times as many coefficients, 3 intercepts and one shape.
    assert description.parameters == 4 * 28_302 + 3
    parts = {part.kind: part for part in description.components}
    assert parts["TfIdfVectorizer"].fitted["pool_strings"] == "string[28302]"
    assert parts["ai.onnx.ml.LinearClassifier"].hyperparameters["classes"] == [0, 1, 2]
    assert parts["ai.onnx.ml.LinearClassifier"].fitted["coefficients"] == "float[84906]"
    assert description.metadata["opsets"] == {"ai.onnx": 21, "ai.onnx.ml": 1, "com.microsoft": 1}


@pytest.mark.real
def test_a_real_model_is_described_reading_only_what_is_not_tensor_data(real_model: RealModel) -> None:
    file = real_model(*REAL["rapidocr"])
    tree, _ = described(file)
    assert tree.budget.used < 0.05 * file.stat().st_size


@pytest.mark.framework
def test_all_element_types_are_named_and_measured_as_onnx_does() -> None:
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    names = [
        "FLOAT UINT8 INT8 UINT16 INT16 INT32 INT64 BOOL FLOAT16 DOUBLE UINT32 UINT64 COMPLEX64 COMPLEX128 BFLOAT16",
        "FLOAT8E4M3FN FLOAT8E4M3FNUZ FLOAT8E5M2 FLOAT8E5M2FNUZ UINT4 INT4 FLOAT4E2M1",
    ]
    tensors = []
    for name in " ".join(names).split():
        data_type = getattr(TensorProto, name)
        values = np.arange(6).astype(helper.tensor_dtype_to_np_dtype(data_type)).reshape(2, 3)
        tensors.append(numpy_helper.from_array(values, name))
    proto = helper.make_model(helper.make_graph([], "types", [], [], tensors))
    tree = Tree.of({"m.onnx": proto.SerializeToString()})
    description = OnnxFormat().describe(tree, ("m.onnx",))
    assert description.findings == ()
    for spec, initialiser in zip(
        description.tensors, onnx.load_from_string(tree.open("m.onnx").read()).graph.initializer, strict=True
    ):
        array = numpy_helper.to_array(initialiser)
        assert (spec.name, spec.shape) == (initialiser.name, (2, 3))
        assert spec.dtype == str(array.dtype)
        assert content(tree, spec) == initialiser.raw_data
        assert spec.nbytes == len(initialiser.raw_data)


@pytest.mark.framework
def test_loop_scan_and_function_bodies_are_walked() -> None:
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    def constant(name: str, value: float) -> Any:
        return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.full(3, value, np.float32)))

    body = helper.make_graph([constant("c", 1.0)], "body", [], [], [numpy_helper.from_array(np.ones(4), "w")])
    inner = helper.make_graph([helper.make_node("Loop", [], ["l"], name="deep", body=body)], "inner", [], [])
    nodes = [
        helper.make_node("Scan", [], ["s"], name="scan", body=inner, num_scan_inputs=1),
        helper.make_node("Loop", [], ["t"], name="loop", body=body),
        helper.make_node("MyGelu", ["x"], ["g"], domain="my.own"),
        helper.make_node("Constant", [], ["f"], value_float=2.5),
        helper.make_node("Constant", [], ["i"], value_ints=[1, 2, 3]),
    ]
    function = helper.make_function(
        "my.own", "MyGelu", ["x"], ["y"], [constant("half", 0.5)], [helper.make_opsetid("", 17)]
    )
    main = helper.make_graph(
        nodes, "main", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, None])], []
    )
    proto = helper.make_model(
        main, functions=[function], opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("my.own", 1)]
    )
    tree = Tree.of({"m.onnx": proto.SerializeToString()})
    description = OnnxFormat().describe(tree, ("m.onnx",))
    shapes = {spec.name: (spec.dtype, spec.shape) for spec in description.tensors}
    assert shapes == {
        "scan/body/deep/body/c": ("float32", (3,)),
        "scan/body/deep/body/w": ("float64", (4,)),
        "loop/body/c": ("float32", (3,)),
        "loop/body/w": ("float64", (4,)),
        "f": ("float32", ()),
        "i": ("int64", (3,)),
        "my.own.MyGelu/half": ("float32", (3,)),
    }
    by_name = {spec.name: spec for spec in description.tensors}
    assert content(tree, by_name["f"]) == struct.pack("<f", 2.5)
    assert content(tree, by_name["my.own.MyGelu/half"]) == np.full(3, 0.5, np.float32).tobytes()
    assert description.inputs == (Port("x", "float32", ("batch", 3, None)),)
    assert description.metadata["functions"] == ["my.own.MyGelu"]
    assert description.metadata["subgraphs"] == 3
    assert description.findings == ()


@pytest.mark.framework
def test_tensors_in_side_files_get_extents_there_and_the_side_files_join_the_group(tmp_path: Path) -> None:
    import numpy as np
    import onnx
    from onnx import helper, numpy_helper

    arrays = {f"w{number}": np.random.default_rng(number).random((64, 8), np.float32) for number in range(3)}
    initialisers = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    proto = helper.make_model(helper.make_graph([], "external", [], [], initialisers))
    onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    (tmp_path / "readme.txt").write_text("nothing to do with it")
    tree = Tree({file.name: FileSource(file) for file in tmp_path.iterdir()})
    assert OnnxFormat().detect(tree) == [("m.onnx", "m.data")]
    description = OnnxFormat().describe(tree, ("m.onnx", "m.data"))
    assert description.paths == ("m.data", "m.onnx")
    assert description.findings == ()
    for spec in description.tensors:
        assert spec.extent is not None
        assert spec.extent.path == "m.data"
        assert content(tree, spec) == arrays[spec.name].tobytes()


@pytest.mark.framework
def test_a_tree_ensemble_shows_its_trees_and_classes() -> None:
    import numpy as np
    from onnx import TensorProto, helper

    attributes: dict[str, Any] = {
        "nodes_treeids": [0, 0, 0, 1, 1, 1, 7],
        "nodes_values": [0.5] * 7,
        "classlabels_strings": ["cat", "dog"],
        "post_transform": "SOFTMAX",
    }
    trees = helper.make_node("TreeEnsembleClassifier", ["x"], ["l", "p"], domain="ai.onnx.ml", name="t", **attributes)
    ports = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 4])]
    proto = helper.make_model(
        helper.make_graph([trees], "forest", ports, []),
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)],
    )
    description = describe(proto.SerializeToString())
    assert (description.architecture, description.task) == ("TreeEnsembleClassifier", "classification")
    assert description.metadata["trees"] == 3
    (component,) = description.components
    assert component.hyperparameters == {"classes": ["cat", "dog"], "post_transform": "SOFTMAX", "trees": 3}
    assert component.fitted["nodes_values"] == "float[7]"
    assert np.isfinite(description.metadata["nodes"])  # type: ignore[call-overload]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 300), max_size=200), st.integers(0, 3))
def test_tree_ids_are_told_apart_packed_or_not_and_in_runs_of_any_length(values: list[int], spoiler: int) -> None:
    run = b"".join(field(8, number) for number in values)
    between = (b"", field(3, 4), field(8, "\x05\x06"), field(2, "x"))[spoiler]
    attribute = message(BytesWindow(field(1, "name") + run + between + field(7, 1.5) * len(values) + run))
    assert distinct(attribute, 8) == {*values, *((5, 6) if spoiler == 2 else ())}


def test_a_forest_of_many_nodes_is_counted_in_few_steps() -> None:
    ids = b"".join(field(8, number // 100) for number in range(100_000))
    attribute = message(BytesWindow(field(1, "nodes_treeids") + ids + field(20, 7)), max_fields=200)
    assert distinct(attribute, 8) == set(range(1000))


def test_inputs_that_are_initialisers_are_not_inputs() -> None:
    float_type = fields((1, field(1, 1)))
    ports = [(11, fields((1, name), (2, float_type))) for name in ("x", "w")]
    description = describe(model(graph((1, node("MatMul")), (5, tensor("w", [1], 1, bytes(4))), *ports)))
    assert [port.name for port in description.inputs] == ["x"]


def test_values_that_are_no_tensors_have_a_word_for_their_type() -> None:
    floats = field(1, field(1, 1))
    types = {
        "sequence(float32)": field(4, field(1, floats)),
        "optional(sequence(float32))": field(9, field(1, field(4, field(1, floats)))),
        "map(string,float32)": field(5, fields((1, 8), (2, floats))),
        "sparse(float32)": field(8, field(1, 1)),
        "opaque(my.Kind)": field(7, fields((1, "my"), (2, "Kind"))),
        "unknown": b"",
    }
    ports = [(11, fields((1, word), (2, data))) for word, data in types.items()]
    description = describe(model(graph((1, node("Relu")), *ports)))
    assert [port.dtype for port in description.inputs] == list(types)


def test_packed_floats_have_an_extent_and_varints_have_none() -> None:
    floats = tensor("f", [3], 1) + field(4, struct.pack("<3f", 1, 2, 3))
    doubles = tensor("d", [2], 11) + field(10, struct.pack("<2d", 1, 2))
    integers = tensor("i", [3], 6) + field(5, b"\x01\x02\x03")
    halves = tensor("h", [2], 10) + field(5, b"\x01\x02")
    unpacked = tensor("u", [2], 1) + field(4, 1.0) + field(4, 2.0)
    data = model(graph((1, node("Relu")), *((5, each) for each in (floats, doubles, integers, halves, unpacked))))
    tree = Tree.of({"m.onnx": data})
    description = OnnxFormat().describe(tree, ("m.onnx",))
    assert description.findings == ()
    assert {spec.name: content(tree, spec) for spec in description.tensors} == {
        "f": struct.pack("<3f", 1, 2, 3),
        "d": struct.pack("<2d", 1, 2),
        "i": None,
        "h": None,
        "u": None,
    }


def test_sparse_initialisers_are_listed_as_values_and_indices() -> None:
    sparse = fields((1, tensor("s", [2], 1, bytes(8))), (2, tensor("", [2], 7, bytes(16))), (3, 100))
    description = describe(model(graph((1, node("Relu")), (15, sparse))))
    assert [(spec.name, spec.shape) for spec in description.tensors] == [("s.values", (2,)), ("s.indices", (2,))]
    assert description.metadata["sparse"] == {"s": [100]}


def test_quantised_models_say_so() -> None:
    description = describe(
        model(graph((1, node("QLinearConv")), (1, node("DequantizeLinear")), (5, tensor("w", [4], 3, bytes(4)))))
    )
    assert description.metadata["quantization"] == {
        "operators": {"QLinearConv": 1, "DequantizeLinear": 1},
        "dtypes": {"int8": 1},
    }


def test_producer_texts_and_properties_are_kept() -> None:
    data = model(
        graph((1, node("Relu")), (10, "graph text")),
        (4, "my.domain"),
        (5, 3),
        (6, "model text"),
        (14, fields((1, "task"), (2, "detect"))),
        (14, fields((1, "license"), (2, "MIT"))),
    )
    description = describe(data)
    assert (description.framework, description.framework_version, description.format_version) == ("builder", "1.0", "8")
    assert (description.task, description.licenses) == ("detect", ("MIT",))
    assert description.requirements == ("onnxruntime",)
    expected = {
        "description": "model text",
        "graph_description": "graph text",
        "domain": "my.domain",
        "model_version": 3,
    }
    assert expected.items() <= description.metadata.items()
    json.dumps(description.metadata, allow_nan=False)


def test_equal_names_are_made_unique() -> None:
    values = [fields((1, "value"), (5, tensor("", [1], 1, bytes(4)))) for _ in range(3)]
    nodes = [(1, node("Constant", "c", attributes=(value,))) for value in values]
    description = describe(model(graph(*nodes)))
    assert [spec.name for spec in description.tensors] == ["c", "c#2", "c#3"]


@pytest.mark.parametrize(
    "location",
    [
        "../w.bin",
        "a/../../w.bin",
        "/etc/passwd",
        "C:/w.bin",
        "..\\w.bin",
        "w\0.bin",
        "http://h/w",
        "file:w",
        "",
        "*/_ORT_MEM_ADDR_/*",
    ],
)
def test_a_side_file_outside_the_folder_is_never_followed(location: str) -> None:
    data = model(graph((1, node("Relu")), (5, external("w", [1], location=location))))
    description = describe(data, w__bin=bytes(4))
    assert rules(description) == {"onnx-external-escape": Severity.READ}
    assert description.tensors[0].extent is None


@pytest.mark.parametrize("place", ["initialiser", "sparse", "attribute", "subgraph", "function"])
def test_escaping_side_files_are_found_wherever_a_tensor_hides(place: str) -> None:
    evil = external("w", [1], location="../../secret")
    constant = node("Constant", attributes=(fields((1, "value"), (5, evil)),))
    parts: dict[str, bytes] = {
        "initialiser": model(graph((1, node("Relu")), (5, evil))),
        "sparse": model(graph((1, node("Relu")), (15, field(1, evil)))),
        "attribute": model(graph((1, constant))),
        "subgraph": model(graph((1, node("If", attributes=(fields((1, "then_branch"), (6, graph((5, evil)))),))))),
        "function": model(graph((1, node("Relu"))), (25, fields((1, "F"), (7, constant), (10, "d")))),
    }
    assert rules(describe(parts[place]))["onnx-external-escape"] is Severity.READ


@pytest.mark.parametrize(
    ("keys", "rule"),
    [
        ({"location": "none.bin"}, "onnx-external-missing"),
        ({"location": "w.bin", "offset": "8"}, "onnx-external-range"),
        ({"location": "w.bin", "offset": "-4"}, "onnx-external-range"),
        ({"location": "w.bin", "offset": "9" * 30}, "onnx-external-range"),
        ({"location": "w.bin", "length": "400"}, "onnx-external-range"),
        ({"location": "w.bin", "length": "4"}, "onnx-data-length"),
        ({"location": "w.bin", "length": str(HUGE_BYTES)}, "onnx-huge-tensor"),
        ({"location": "w.bin", "surprise": "1"}, "onnx-external-key"),
    ],
)
def test_side_files_must_hold_what_is_stated(keys: dict[str, str], rule: str) -> None:
    description = describe(model(graph((1, node("Relu")), (5, external("w", [2], **keys)))), w__bin=bytes(8))
    assert rule in rules(description)
    assert (description.tensors[0].extent is None) == (rule != "onnx-external-key")


DEEP = graph((1, node("Relu")))
for _ in range(MAX_DEPTH + 5):
    DEEP = graph((1, node("If", attributes=(fields((1, "b"), (6, DEEP)),))))


@pytest.mark.parametrize(
    ("data", "rule", "severity"),
    [
        (model(graph((1, node("PyOp")))), "onnx-python-operator", Severity.EXECUTE),
        (
            model(graph((1, node("Mine", domain="evil.corp"))), opsets=("evil.corp",)),
            "onnx-unknown-domain",
            Severity.INCOMPLETE,
        ),
        (model(graph((1, node("Relu", domain="ai.onnx.ml")))), "onnx-domain-not-imported", Severity.MISLEAD),
        (model(graph((1, node("R")), (5, tensor("w", [2], 1, bytes(4))))), "onnx-data-length", Severity.MISLEAD),
        (model(graph((1, node("R")), (5, tensor("w", [2], 1)))), "onnx-data-length", Severity.MISLEAD),
        (model(graph((1, node("R")), (5, tensor("w", [-1], 1, b"")))), "onnx-dimensions", Severity.MISLEAD),
        (model(graph((1, node("R")), (5, tensor("w", [1 << 40], 1, b"")))), "onnx-huge-tensor", Severity.EXHAUST),
        (model(graph((1, node("R")), (5, tensor("w", [1 << 62] * 9, 1, b"")))), "onnx-huge-tensor", Severity.EXHAUST),
        (model(graph((1, node("R")), (5, tensor("w", [1] * 100, 1, b"")))), "onnx-malformed", Severity.INCOMPLETE),
        (model(graph((1, node("R")), (5, tensor("w", [1], 99, b"")))), "onnx-unknown-dtype", Severity.INCOMPLETE),
        (
            model(graph((1, node("R")), (5, tensor("w", [1], 1, bytes(4), (4, 1.0))))),
            "onnx-double-data",
            Severity.MISLEAD,
        ),
        (model(graph((1, node("R")), (5, tensor("w", [1], 1, None, (3, b""))))), "onnx-segment", Severity.INCOMPLETE),
        (model(graph((1, node("R")), *[(5, tensor("w", [0], 1, b""))] * 2)), "onnx-duplicate-tensor", Severity.MISLEAD),
        (model(DEEP), "onnx-deep-subgraphs", Severity.INCOMPLETE),
        (SMALL[:-20], "onnx-truncated", Severity.INCOMPLETE),
        (SMALL + b"\xff\xff", "onnx-malformed", Severity.INCOMPLETE),
        (model(graph((1, node("R"))), (7, graph((1, node("R"))))), "onnx-second-graph", Severity.MISLEAD),
        (model(graph((1, node("R"))), (30, "new")), "onnx-unknown-field", Severity.NOTE),
        (SMALL + field(8, fields((1, ""), (2, 3))), "onnx-duplicate-opset", Severity.MISLEAD),
    ],
)
def test_oddities_are_findings_beside_what_was_understood(data: bytes, rule: str, severity: Severity) -> None:
    description = describe(data)
    assert rules(description)[rule] is severity
    assert description.framework == "builder"


def test_a_flood_of_equal_findings_is_summed_up() -> None:
    bad = [(5, tensor(f"w{number}", [2], 1, b"")) for number in range(500)]
    description = describe(model(graph((1, node("Relu")), *bad)))
    assert len(description.findings) == MAX_FINDINGS_PER_RULE + 1
    assert description.findings[-1].message.endswith("480 more like these")


def test_operators_and_their_attributes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    crowded = describe(model(graph((1, node("Relu")), (1, field(5, b"") * (MAX_ATTRIBUTES + 1)))))
    assert rules(crowded) == {"onnx-malformed": Severity.INCOMPLETE}
    monkeypatch.setattr(onnx_graph, "MAX_NODES", 10)
    assert rules(describe(model(graph(*[(1, node("Relu"))] * 11)))) == {"onnx-limit": Severity.INCOMPLETE}


def test_a_damaged_node_does_not_hide_its_neighbours() -> None:
    description = describe(model(graph((1, node("Relu")), (1, b"\x22\x50x"), (1, node("Gelu")))))
    assert description.metadata["ops"] == {"Relu": 1, "Gelu": 1}
    assert rules(description) == {"onnx-malformed": Severity.INCOMPLETE}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x08\x01",
        b"\x08\x01" + b"text" * 20,
        fields((1, 1), (2, fields((1, fields((1, "serve")))))),  # SavedModel
        fields((1, fields((1, "x"), (2, "Placeholder")))),  # GraphDef
        fields((1, 6), (2, fields((1, fields((1, "in"))))), (502, fields((1, 1)))),  # Core ML
        fields((1, fields((1, "<unk>"), (2, 0.0)))),  # SentencePiece
        fields((1, 8), (7, b"not a graph at all")),
        b'{"json": true}',
    ],
)
def test_other_files_are_not_claimed(data: bytes) -> None:
    assert OnnxFormat().detect(Tree.of({"m.onnx": data})) == []


def test_a_file_without_a_graph_is_refused() -> None:
    with pytest.raises(BadFormat, match="no graph"):
        OnnxFormat().describe(Tree.of({"m.onnx": field(1, 8)}), ("m.onnx",))


def test_two_models_that_share_a_side_file_leave_it_in_one_group() -> None:
    data = model(graph((1, node("Relu")), (5, external("w", [1], location="w.bin"))))
    tree = Tree.of({"a.onnx": data, "b.onnx": data, "w.bin": bytes(4)})
    assert OnnxFormat().detect(tree) == [("a.onnx", "w.bin"), ("b.onnx",)]
    assert OnnxFormat().describe(tree, ("b.onnx",)).tensors[0].extent is not None


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_mutated_models_end_in_descriptions_or_our_errors(data: st.DataObject) -> None:
    sparse = fields((1, tensor("s", [1], 1, bytes(4))), (2, tensor("", [1], 7, bytes(8))), (3, 9))
    branch = fields((1, "then_branch"), (6, graph((1, node("Relu")), (5, external("e", [1], location="w.bin")))))
    seed = model(
        graph((1, node("If", attributes=(branch,))), (5, tensor("w", [2], 1, bytes(8))), (15, sparse)),
        (25, fields((1, "F"), (7, node("Relu")), (10, "d"))),
    )
    mutable = bytearray(seed)
    for _ in range(data.draw(st.integers(0, 6))):
        mutable[data.draw(st.integers(0, len(mutable) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(mutable)))
    tree = Tree.of({"m.onnx": bytes(mutable[:cut]), "w.bin": bytes(4)}, limit=1 << 20)
    with contextlib.suppress(AssayError):
        OnnxFormat().detect(tree)
        description = OnnxFormat().describe(tree, ("m.onnx",))
        assert len(description.tensors) <= len(seed)
        assert len({spec.name for spec in description.tensors}) == len(description.tensors)
        json.dumps(description.metadata, allow_nan=False)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_end_in_descriptions_or_our_errors(data: bytes) -> None:
    tree = Tree.of({"m.onnx": data}, limit=1 << 20)
    OnnxFormat().detect(tree)
    with contextlib.suppress(AssayError):
        OnnxFormat().describe(tree, ("m.onnx",))
