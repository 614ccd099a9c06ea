"""TensorFlow files whose graphs reach outside are found in every place; the graphs of every honest model are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hostile_tensorflow import (
    checkpoint,
    compiled,
    everywhere,
    in_function,
    model,
    notes,
    old_saver,
    printing,
    saver,
    with_op,
)
from tensorflow_files import graph, node

from assay.formats.registry import all_formats
from assay.formats.tensorflow.ops import PUBLISHED, RISKY, known_ops
from assay.service.examine import inspect
from assay.spec.finding import Finding, Severity
from assay.trees import Tree

DOING = (Severity.EXECUTE, Severity.WRITE, Severity.NETWORK, Severity.READ)


def found(files: dict[str, bytes], unknown: tuple[str, ...] = ()) -> list[Finding]:
    """Findings above a note."""
    report = inspect(Tree.of(files), all_formats())
    assert report.unknown == unknown
    findings = [finding for finding in report.all_findings if finding.severity is not Severity.NOTE]
    assert all(finding.effect for finding in findings if finding.severity in DOING)
    return findings


def rules(files: dict[str, bytes]) -> set[tuple[str, Severity]]:
    return {(finding.rule, finding.severity) for finding in found(files)}


@pytest.mark.parametrize(
    ("op", "severity"),
    [
        ("PyFunc", Severity.EXECUTE),
        ("PyFuncStateless", Severity.EXECUTE),
        ("EagerPyFunc", Severity.EXECUTE),
        ("XlaCustomCallV2", Severity.EXECUTE),
        ("RemoteCall", Severity.EXECUTE),
        ("WriteFile", Severity.WRITE),
        ("DebugIdentityV2", Severity.WRITE),
        ("CacheDataset", Severity.WRITE),
        ("DataServiceDatasetV2", Severity.NETWORK),
        ("RpcClient", Severity.NETWORK),
        ("CollectiveReduceV2", Severity.NETWORK),
        ("ReadFile", Severity.READ),
        ("MatchingFiles", Severity.READ),
        ("ImmutableConst", Severity.READ),
        ("TextLineDataset", Severity.READ),
        ("TFRecordDataset", Severity.READ),
        ("Abort", Severity.EXHAUST),
        ("MlirPassthroughOp", Severity.INCOMPLETE),
    ],
)
def test_an_operation_that_reaches_outside_is_found_in_every_place(op: str, severity: Severity) -> None:
    for files in everywhere(op):
        assert ("tensorflow-risky-op", severity) in rules(files), sorted(files)


def test_an_operation_nobody_knows_is_not_vouched_for() -> None:
    for files in everywhere("SomebodysOwnOp"):
        assert rules(files) == {("tensorflow-custom-op", Severity.INCOMPLETE)}
    for files in everywhere("Tanh"):
        assert found(files) == []


def test_a_function_used_like_an_operation_is_the_graph_s_own() -> None:
    nodes = [node("x", "Placeholder"), node("y", "my_function", "x")]

    assert found(model(graph(*nodes, functions={"my_function": [node("z", "Relu", "x")]}))) == []
    assert rules(model(graph(*nodes))) == {("tensorflow-custom-op", Severity.INCOMPLETE)}


def test_operations_of_published_libraries_are_only_noted() -> None:
    assert found(model(with_op("SentencepieceTokenizeOp", "x"))) == []
    assert known_ops() & PUBLISHED.keys() == set()


def test_the_saver_of_every_model_is_honest_and_one_that_brings_its_file_name_is_not() -> None:
    assert found(model(saver())) == []
    assert found(checkpoint(old_saver())) == []
    assert found(model(saver("part"), saver="file:0")) == []
    assert found(checkpoint(saver("model"))) == []

    for files in (model(saver("/nonexistent/x")), checkpoint(saver("/nonexistent/x"))):
        assert rules(files) == {
            ("tensorflow-file-name", Severity.WRITE),
            ("tensorflow-file-name", Severity.READ),
        }


def test_printing_to_a_file_is_writing() -> None:
    assert ("tensorflow-risky-op", Severity.WRITE) in rules(model(printing("file:///nonexistent/x")))
    assert found(model(printing("stderr"))) == []


def test_a_compiled_module_that_calls_native_code_is_not_vouched_for() -> None:
    assert rules(model(compiled(b"ML\xefR..vhlo.custom_call_v1.."))) == {
        ("tensorflow-native-call", Severity.INCOMPLETE)
    }
    assert found(model(compiled(b"ML\xefR..vhlo.add_v1.."))) == []


@pytest.mark.parametrize("name", ["../../nonexistent", "/nonexistent", "gs://invalid/x", "..\\x"])
def test_an_asset_outside_its_folder_is_found(name: str) -> None:
    plain = graph(node("x", "Placeholder"))

    assert ("tensorflow-asset-escape", Severity.READ) in rules(model(plain, assets={"x:0": name}))
    assert found(model(plain, {"m/assets/words.txt": b"a\nb"}, assets={"x:0": "words.txt"})) == []


def test_an_asset_of_another_kind_is_looked_at_for_itself() -> None:
    plain = graph(node("x", "Placeholder"))
    pickled = b"cos\nsystem\n(S'true'\ntR."
    binary = b"\x80\x04\x8c\x02os\x8c\x06system\x93."

    for data in (pickled, binary):
        for assets in ({}, {"x:0": "words.txt"}):
            files = model(plain, {"m/assets/words.txt": data, "m/variables/more.bin": data}, assets=assets)
            report = inspect(Tree.of(files), all_formats())
            pickles = {path for item in report.descriptions if item.format == "pickle" for path in item.paths}
            assert {"m/assets/words.txt", "m/variables/more.bin"} <= pickles | set(report.unknown)


def test_every_note_about_a_keras_object_is_looked_at() -> None:
    plain = graph(node("x", "Placeholder"))
    layer = {"class_name": "Dense", "config": {"name": "d", "units": 1}, "trainable": True}
    bad = {"class_name": "Lambda", "config": {"name": "l", "function_type": "lambda"}, "trainable": True}
    own = {"class_name": "Encoder", "config": {}, "trainable": True}

    assert ("keras-lambda", Severity.EXECUTE) in rules(model(plain, {"m/keras_metadata.pb": notes(layer, layer, bad)}))
    assert found(model(plain, {"m/keras_metadata.pb": notes(own, layer, layer)})) == []


def test_a_damaged_graph_is_not_vouched_for() -> None:
    whole = in_function("Relu")

    assert ("tensorflow-unreadable", Severity.INCOMPLETE) in rules({"frozen.pb": whole[:-3]})


def test_the_lists_of_operations_do_not_contradict_each_other() -> None:
    assert {"SaveV2", "RestoreV2", "MergeV2Checkpoints", "StatefulPartitionedCall"} <= known_ops() - RISKY.keys()
    assert not {"ReadFile", "WriteFile", "PyFunc", "EagerPyFunc", "MatchingFiles", "ImmutableConst"} - RISKY.keys()


@pytest.mark.framework
@pytest.mark.filterwarnings("ignore")
def test_models_that_tensorflow_itself_writes_are_safe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    tf = pytest.importorskip("tensorflow")
    words = tmp_path / "words.txt"
    words.write_text("a\nb\n")

    class Custom(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = tf.Variable(tf.ones((3, 2)))
            self.asset = tf.saved_model.Asset(str(words))
            given = tf.lookup.TextFileInitializer(self.asset, tf.string, 0, tf.int64, 1, delimiter=" ")
            del given
            keys = tf.constant(["a", "b"])
            self.table = tf.lookup.StaticHashTable(
                tf.lookup.KeyValueTensorInitializer(keys, tf.constant([1, 2], tf.int64)), -1
            )

        @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)])
        def __call__(self, text: Any) -> Any:
            parts = tf.strings.split(tf.strings.lower(tf.strings.regex_replace(text, "[^a-z ]", "")))
            ids = self.table.lookup(parts.to_tensor(""))
            total = tf.zeros((3,))
            for _ in tf.range(3):
                total += tf.cast(tf.reduce_sum(ids), tf.float32)
            tf.print(total)
            return tf.linalg.matvec(self.weight, total, transpose_a=True), tf.image.resize(
                tf.random.stateless_uniform((1, 4, 4, 3), (1, 2)), (2, 2)
            )

    tf.saved_model.save(Custom(), str(tmp_path / "m"))
    keras = tf.keras
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, "relu")])
    network.export(str(tmp_path / "k"))
    tf.train.Checkpoint(w=tf.Variable(1.0)).save(str(tmp_path / "c/model"))
    lite = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "k")).convert()
    odd = {"lite": found({"m.tflite": lite})}
    for name in ("m", "k", "c"):
        folder = tmp_path / name
        files = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        odd[name] = found(files)

    assert {name: findings for name, findings in odd.items() if findings} == {}
