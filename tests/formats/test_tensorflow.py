"""SavedModels, checkpoints and frozen graphs described without TensorFlow."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_files import bundle, constant, entry, graph, meta_graph, node, proto, saved_model, signature, table

from assay.errors import AssayError, BadFormat
from assay.formats.tensorflow.checkpoint import TensorFlowCheckpointFormat
from assay.formats.tensorflow.frozen import FrozenGraphFormat
from assay.formats.tensorflow.ops import RISKY, known_ops
from assay.formats.tensorflow.savedmodel import SavedModelFormat
from assay.ports.formats import Format
from assay.spec.description import Description, Port
from assay.spec.finding import Severity
from assay.spec.json import canonical
from assay.spec.tensor import Extent
from assay.testing.formats import FormatContract
from assay.trees import Tree
from assay.trees.window import FileSource

KERNEL = np.arange(6, dtype="f4")
VARIABLES = {
    "w/.ATTRIBUTES/VARIABLE_VALUE": ("float32", (2, 3), KERNEL.tobytes()),
    "w/.OPTIMIZER_SLOT/optimizer/m/.ATTRIBUTES/VARIABLE_VALUE": ("float32", (2, 3), bytes(24)),
    "optimizer/iter/.ATTRIBUTES/VARIABLE_VALUE": ("int64", (), bytes(8)),
    "save_counter/.ATTRIBUTES/VARIABLE_VALUE": ("int64", (), bytes(8)),
    "_CHECKPOINTABLE_OBJECT_GRAPH": ("string", (), b"graph"),
}
SERVING = signature({"x": ("float32", (-1, 2))}, {"y": ("float32", (-1, 3))})
PLAIN = graph(node("x", "Placeholder"), functions={"f": [node("y", "MatMul", "x"), node("z", "Relu", "y")]})


def model(pb: bytes, **files: bytes) -> dict[str, bytes]:
    index, data = bundle(VARIABLES)
    return {
        "m/saved_model.pb": pb,
        "m/variables/variables.index": index,
        "m/variables/variables.data-00000-of-00001": data,
        **{f"m/{name}": content for name, content in files.items()},
    }


def describe(files: dict[str, bytes], form: Format | None = None) -> Description:
    tree, form = Tree.of(files), form or SavedModelFormat()
    groups = form.detect(tree)
    assert len(groups) == 1
    found = form.describe(tree, groups[0])
    canonical([dict(found.metadata), dict(found.hyperparameters)])
    return found


def rules(found: Description) -> set[tuple[str, Severity]]:
    return {(finding.rule, finding.severity) for finding in found.findings}


def test_a_saved_model_tells_versions_signature_ops_and_variables() -> None:
    assets = {"file:0": "vocabulary.txt"}
    pb = saved_model(meta_graph(PLAIN, signatures={"serving_default": SERVING}, assets=assets))

    found = describe(model(pb, **{"assets/vocabulary.txt": b"a", "fingerprint.pb": proto((7, "id"))}))

    assert found.paths == (
        "m/assets/vocabulary.txt",
        "m/fingerprint.pb",
        "m/saved_model.pb",
        "m/variables/variables.data-00000-of-00001",
        "m/variables/variables.index",
    )
    assert (found.format_version, found.framework_version) == ("1", "2.9.1")
    assert found.inputs == (Port("x", "float32", (None, 2)),)
    assert found.outputs == (Port("y", "float32", (None, 3)),)
    assert found.metadata["tags"] == [["serve"]]
    assert found.metadata["ops"] == {"Placeholder": 1, "MatMul": 1, "Relu": 1}
    assert found.metadata["fingerprint"] == "id"
    assert found.requirements == ("tensorflow==2.9.1",)
    assert found.parameter_count == 6
    assert found.metadata["optimizer_tensors"] == 3
    assert not found.findings


def test_the_bytes_at_an_extent_are_the_variable() -> None:
    files = model(saved_model(meta_graph(PLAIN)))

    spec = next(s for s in describe(files).tensors if s.name == "w/.ATTRIBUTES/VARIABLE_VALUE")

    assert spec.extent is not None
    assert files[spec.extent.path][spec.extent.offset :][: spec.extent.length] == KERNEL.tobytes()


def test_the_variables_of_a_saved_model_are_no_checkpoint_of_their_own() -> None:
    files = model(saved_model(meta_graph(PLAIN)))

    assert not TensorFlowCheckpointFormat().detect(Tree.of(files))
    assert not FrozenGraphFormat().detect(Tree.of(files))
    del files["m/saved_model.pb"]
    assert len(TensorFlowCheckpointFormat().detect(Tree.of(files))) == 1


def test_keras_layers_are_read_from_the_notes_of_the_root_object() -> None:
    config = {"name": "net", "layers": [{"class_name": "Dense", "config": {"name": "d", "units": 3}}]}
    notes = {"class_name": "Sequential", "trainable": True, "config": config, "training_config": {"loss": "mse"}}
    root = proto((4, proto((1, "_tf_keras_sequential"), (3, json.dumps(notes)))))
    variable = proto((7, proto((1, 1), (3, 1), (6, "d/kernel"))))
    pb = saved_model(meta_graph(PLAIN, objects=proto((1, root), (1, variable))))
    elsewhere = proto((1, proto((2, 0), (4, "_tf_keras_sequential"), (5, json.dumps(notes)))))

    inside = describe(model(pb))
    beside = describe(model(saved_model(meta_graph(PLAIN)), **{"keras_metadata.pb": elsewhere}))

    for found in (inside, beside):
        assert (found.architecture, found.task) == ("Sequential", "regression")
        assert [(c.name, c.kind) for c in found.components] == [("d", "Dense")]
    assert inside.metadata["trainable_variables"] == 1


def test_a_lambda_in_the_notes_of_keras_is_a_finding() -> None:
    config = {"layers": [{"class_name": "Lambda", "config": {"function_type": "lambda"}}]}
    notes = json.dumps({"class_name": "Sequential", "trainable": True, "config": config})
    beside = proto((1, proto((2, 0), (4, "_tf_keras_sequential"), (5, notes))))

    found = describe(model(saved_model(meta_graph(PLAIN)), **{"keras_metadata.pb": beside}))

    assert {("keras-lambda", Severity.EXECUTE), ("keras-lambda-code", Severity.EXECUTE)} <= rules(found)


@pytest.mark.parametrize(("op", "severity"), [
    ("ReadFile", Severity.READ), ("WriteFile", Severity.WRITE), ("MatchingFiles", Severity.READ),
    ("PyFunc", Severity.EXECUTE), ("EagerPyFunc", Severity.EXECUTE), ("ImmutableConst", Severity.READ),
    ("DebugIdentityV2", Severity.WRITE), ("DataServiceDatasetV2", Severity.NETWORK),
])  # fmt: skip
def test_an_operation_that_reaches_outside_is_found_in_graph_library_checkpoint_and_frozen_graph(
    op: str, severity: Severity
) -> None:
    main = graph(node("a", "Const"), node("b", op))
    library = graph(node("a", "Const"), functions={"f": [node("b", op)]})
    index, data = bundle(VARIABLES)

    for found in (
        describe(model(saved_model(meta_graph(main)))),
        describe(model(saved_model(meta_graph(PLAIN), meta_graph(library, tags=("train",))))),
        describe(
            {"x.index": index, "x.data-00000-of-00001": data, "x.meta": meta_graph(main)}, TensorFlowCheckpointFormat()
        ),
        describe({"f.pb": library}, FrozenGraphFormat()),
    ):
        assert rules(found) == {("tensorflow-risky-op", severity)}


def test_saving_and_restoring_its_own_variables_is_no_finding_and_unknown_operations_are() -> None:
    ops = graph(node("a", "SaveV2"), node("b", "RestoreV2"), node("c", "MyCustomOp"))

    found = describe(model(saved_model(meta_graph(ops))))

    assert [(f.rule, f.severity, f.evidence) for f in found.findings] == [
        ("tensorflow-custom-op", Severity.INCOMPLETE, "MyCustomOp")
    ]
    assert {"SaveV2", "MatMul", "ReadFile"} <= known_ops()
    assert "SaveV2" not in RISKY


def test_printing_to_a_file_is_a_finding() -> None:
    ops = graph(node("p", "PrintV2", output_stream=proto((2, "file:///tmp/x"))))

    assert rules(describe(model(saved_model(meta_graph(ops))))) == {("tensorflow-risky-op", Severity.WRITE)}


def test_a_frozen_graph_gives_constants_inputs_and_outputs() -> None:
    data = graph(
        node("x", "Placeholder", dtype=proto((6, 1)), shape=proto((7, b""))),
        node("w", "Const", value=constant("float32", (2, 3), KERNEL.tobytes())),
        node("splat", "Const", value=constant("float32", (100,), KERNEL[:1].tobytes())),
        node("y", "MatMul", "x", "w", T=proto((6, 1))),
        node("out", "AddV2", "y", "splat:0", "^x", T=proto((6, 1))),
    )

    found = describe({"model.pb": data}, FrozenGraphFormat())

    weight, splat = found.tensors
    assert weight.extent is not None
    assert data[weight.extent.offset :][: weight.extent.length] == KERNEL.tobytes()
    assert (splat.shape, splat.extent) == ((100,), None)
    assert [port.name for port in found.inputs] == ["x"]
    assert found.outputs == (Port("out", "float32"),)


def test_a_checkpoint_whose_names_begin_with_a_dot_is_found_with_its_state_file() -> None:
    index, data = bundle({
        "conv/kernel": ("float32", (6,), KERNEL.tobytes()),
        "conv/kernel/Adam": ("float32", (6,), bytes(24)),
        "conv/kernel/Adam_1": ("float32", (6,), bytes(24)),
        "beta1_power": ("float32", (), bytes(4)),
        "global_step": ("int64", (), bytes(8)),
    })  # fmt: skip
    files = {
        "run/.index": index,
        "run/.data-00000-of-00001": data,
        "run/.meta": meta_graph(graph(node("x", "Placeholder")), version="1.12.0"),
        "run/checkpoint": b'model_checkpoint_path: "/home/me/run/"\n',
        "run/notes.index": b"not one",
    }

    groups = TensorFlowCheckpointFormat().detect(Tree.of(files))
    found = describe(files, TensorFlowCheckpointFormat())

    assert groups == [("run/.index", "run/.data-00000-of-00001", "run/.meta", "run/checkpoint")]
    assert found.parameter_count == 6
    assert found.framework_version == "1.12.0"
    assert found.metadata["optimizer_tensors"] == 4


def test_two_checkpoints_of_a_folder_share_nothing_and_the_newest_has_the_state_file() -> None:
    index, data = bundle({"w": ("float32", (6,), KERNEL.tobytes())})
    files = {f"{name}{end}": content for name in ("a-1", "a-2") for end, content in
             ((".index", index), (".data-00000-of-00001", data))}  # fmt: skip
    files["checkpoint"] = b'model_checkpoint_path: "a-2"\nall_model_checkpoint_paths: "a-1"\n'

    assert TensorFlowCheckpointFormat().detect(Tree.of(files)) == [
        ("a-1.index", "a-1.data-00000-of-00001"),
        ("a-2.index", "a-2.data-00000-of-00001", "checkpoint"),
    ]


def _index(*entries: tuple[str, bytes], shards: int = 1) -> bytes:
    return table({b"": proto((1, shards)), **{name.encode(): value for name, value in entries}})


@pytest.mark.parametrize(("index", "rule", "severity"), [
    (_index(("w", entry("float32", (2,), 1 << 40, 8))), "tf-checkpoint-truncated", Severity.INCOMPLETE),
    (_index(("w", entry("float32", (3,), 0, 8))), "tf-checkpoint-size", Severity.MISLEAD),
    (_index(("w", entry("float32", (2,), 0, 8, shard=5))), "tf-checkpoint-entry", Severity.MISLEAD),
    (_index(("w", entry("float32", (2,), 0, 8)), shards=3), "tf-checkpoint-missing-shard", Severity.INCOMPLETE),
    (_index(("w", entry("float32", (-1,), 0, 8))), "tf-checkpoint-entry", Severity.INCOMPLETE),
    (_index(("w", b"\xff")), "tf-checkpoint-entry", Severity.INCOMPLETE),
    (_index(("w" * 5000, entry("float32", (2,), 0, 8))), "tf-checkpoint-entry", Severity.INCOMPLETE),
])  # fmt: skip
def test_an_index_that_lies_is_a_finding_and_gives_no_extent(index: bytes, rule: str, severity: Severity) -> None:
    found = describe({"x.index": index, "x.data-00000-of-00001": bytes(8)}, TensorFlowCheckpointFormat())

    assert (rule, severity) in rules(found)
    assert rule == "tf-checkpoint-missing-shard" or all(spec.extent is None for spec in found.tensors)


def test_a_tensor_stored_in_parts_is_listed_once_without_an_extent() -> None:
    index = table(
        {b"": proto((1, 1)), b"w": entry("float32", (2,), 0, 0, sliced=True), b"\0w": entry("float32", (1,), 0, 4)}
    )

    found = describe({"x.index": index, "x.data-00000-of-00001": bytes(8)}, TensorFlowCheckpointFormat())

    assert [(spec.name, spec.extent) for spec in found.tensors] == [("w", None)]
    assert found.metadata["sliced_tensors"] == 1
    assert not found.findings


def test_a_truncated_saved_model_keeps_what_was_understood() -> None:
    pb = saved_model(meta_graph(PLAIN, signatures={"serving_default": SERVING}))

    found = describe(model(pb[:-10]))

    assert not found.complete
    assert found.parameter_count == 6
    assert found.framework_version == "2.9.1"

    frozen = describe({"f.pb": FROZEN[:-3]}, FrozenGraphFormat())
    assert rules(frozen) == {("tensorflow-unreadable", Severity.INCOMPLETE)}
    assert [port.name for port in frozen.inputs] == ["x"]


def test_variables_without_an_index_are_a_finding() -> None:
    files = model(saved_model(meta_graph(PLAIN)))
    del files["m/variables/variables.index"]

    assert ("tf-checkpoint-index", Severity.INCOMPLETE) in rules(describe(files))


@pytest.mark.parametrize("form", [SavedModelFormat(), TensorFlowCheckpointFormat(), FrozenGraphFormat()])
def test_other_files_are_left_alone(form: Format) -> None:
    onnx = proto((1, 8), (2, "pytorch"), (7, b""))
    sentencepiece = proto((1, proto((1, "<unk>"), (3, 2))))
    files = {"a": b"", "b.index": b"x" * 100, "c.pb": onnx, "d": sentencepiece, "e": b"\n\x05hello\x12"}

    assert not form.detect(Tree.of(files))


MODEL = model(saved_model(meta_graph(PLAIN, signatures={"serving_default": SERVING})))
FROZEN = graph(node("x", "Placeholder"), node("w", "Const", value=constant("float32", (6,), KERNEL.tobytes())))


@settings(deadline=None, max_examples=200)
@given(
    edits=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1 << 16), st.integers(0, 255)), max_size=6),
    cut=st.integers(0, 1 << 16),
)
def test_mutated_files_give_descriptions_or_our_errors(edits: list[tuple[int, int, int]], cut: int) -> None:
    files = {
        **MODEL,
        "frozen.pb": FROZEN,
        "x.index": MODEL["m/variables/variables.index"],
        "x.data-00000-of-00001": b"1",
    }
    names = ["m/saved_model.pb", "m/variables/variables.index", "frozen.pb"]
    changed = {name: bytearray(files[name]) for name in names}
    for which, place, value in edits:
        data = changed[names[which]]
        data[place % len(data)] = value
    files |= {name: bytes(data) for name, data in changed.items()}
    files["x.index"] = files["m/variables/variables.index"]
    files["frozen.pb"] = files["frozen.pb"][: cut % (2 * len(FROZEN))]
    tree = Tree.of(files)

    for form in (SavedModelFormat(), TensorFlowCheckpointFormat(), FrozenGraphFormat()):
        for group in form.detect(tree):
            try:
                found = form.describe(tree, group)
            except AssayError:
                continue
            assert len(found.tensors) < 100
            for spec in found.tensors:
                assert spec.extent is None or spec.extent.offset + spec.extent.length <= tree.size(spec.extent.path)


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=400))
def test_random_messages_give_descriptions_or_our_errors(noise: bytes) -> None:
    for form, path, data in (
        (SavedModelFormat(), "saved_model.pb", b"\x08\x01\x12" + noise),
        (FrozenGraphFormat(), "f.pb", b"\n" + noise),
        (TensorFlowCheckpointFormat(), "x.index", noise),
    ):
        try:
            found = form.describe(Tree.of({path: data}), (path,))
        except AssayError:
            continue
        assert found.paths == (path,)


@pytest.mark.real
def test_the_saved_model_of_basic_pitch_is_described(real_folder: Callable[..., Path]) -> None:
    folder = real_folder("basic-pitch==0.4.0", "basic_pitch/saved_models/icassp_2022/nmp")
    tree = Tree({str(f.relative_to(folder)): FileSource(f) for f in folder.rglob("*") if f.is_file()})

    found = SavedModelFormat().describe(tree, SavedModelFormat().detect(tree)[0])

    assert (found.framework_version, found.architecture, found.parameter_count) == ("2.4.1", "Functional", 16_872)
    assert found.inputs == (Port("input_2", "float32", (None, 43844, 1)),)
    assert [port.name for port in found.outputs] == ["contour", "note", "onset"]
    assert found.complete
    assert not {f.severity for f in found.findings} - {Severity.NOTE, Severity.EXECUTE}


@pytest.mark.real
def test_the_checkpoint_of_musicnn_is_described(real_folder: Callable[..., Path]) -> None:
    folder = real_folder("musicnn==0.1.0", "musicnn/MTT_musicnn")
    tree = Tree({str(f.relative_to(folder)): FileSource(f) for f in folder.rglob("*") if f.is_file()})

    groups = TensorFlowCheckpointFormat().detect(tree)
    found = TensorFlowCheckpointFormat().describe(tree, groups[0])

    assert groups == [(".index", ".data-00000-of-00001", ".meta", "checkpoint")]
    assert len(found.tensors) == 150
    assert (found.framework_version, found.parameter_count) == ("1.12.0", 792_079)
    assert found.tensors[0].extent == Extent(".data-00000-of-00001", 0, 4)
    assert not found.findings


def test_an_index_that_is_no_table_is_an_error_of_ours() -> None:
    with pytest.raises(BadFormat):
        TensorFlowCheckpointFormat().describe(Tree.of({"x.index": b"x" * 100}), ("x.index",))


class TestContractOfSavedModel(FormatContract):
    by_content = False

    def make_format(self) -> Format:
        return SavedModelFormat()

    def make_files(self) -> Mapping[str, bytes]:
        return MODEL


class TestContractOfTensorFlowCheckpoint(FormatContract):
    by_content = False

    def make_format(self) -> Format:
        return TensorFlowCheckpointFormat()

    def make_files(self) -> Mapping[str, bytes]:
        return {
            "x.index": MODEL["m/variables/variables.index"],
            "x.data-00000-of-00001": MODEL["m/variables/variables.data-00000-of-00001"],
        }


class TestContractOfFrozenGraph(FormatContract):
    def make_format(self) -> Format:
        return FrozenGraphFormat()

    def make_files(self) -> Mapping[str, bytes]:
        return {"f.pb": FROZEN}
