"""File names that a graph brings along are found; those of the caller and of the model's own assets are honest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from assay.errors import Refused
from assay.formats.tensorflow.file_names import FileNames, Node
from assay.spec.finding import Severity


def judge(nodes: dict[str, Node], *, inner: dict[str, Node] | None = None, assets: tuple[str, ...] = ()) -> list[str]:
    names = FileNames()
    for scope, found in (("", nodes), ("inner", inner or {})):
        for name, node in found.items():
            names.add(scope, name, node)
    return [finding.severity.value for finding in names.judge(assets, "saved_model.pb")]


def constant(*texts: str) -> Node:
    return Node("Const", texts=list(texts))


SAVER = {
    "model": constant("model"),
    "filename": Node("PlaceholderWithDefault", ["model"]),
    "part": constant("_temp_1/part"),
    "join": Node("StringJoin", ["filename", "part"]),
    "sharded": Node("ShardedFilename", ["join"]),
    "save": Node("SaveV2", ["sharded", "part"]),
    "restore": Node("RestoreV2", ["filename"]),
}


def test_a_saver_as_tensorflow_writes_it_is_honest() -> None:
    assert judge(SAVER) == []


@pytest.mark.parametrize(
    ("change", "severity"),
    [
        ({"model": constant("/home/me/.profile")}, "write"),
        ({"model": constant("../../x")}, "write"),
        ({"part": constant("/../../x")}, "write"),
        ({"filename": constant("x")}, "write"),
        ({"join": Node("DecodeBase64", ["filename"])}, "write"),
        ({"part": Node("Const", texts=None)}, "write"),
        ({"filename2": constant("gs://bucket/x"), "restore": Node("RestoreV2", ["filename2"])}, "read"),
    ],
)
def test_a_saver_with_a_name_of_its_own_is_found(change: dict[str, Node], severity: str) -> None:
    assert severity in judge({**SAVER, **change})


def test_a_name_handed_to_a_function_that_saves_is_found() -> None:
    inner = {"save": Node("SaveV2", ["file_prefix"])}

    assert (
        judge({"call": Node("PartitionedCall", ["given"], calls=["inner"]), "given": Node("Placeholder")}, inner=inner)
        == []
    )
    assert judge({"call": Node("PartitionedCall", ["c"], calls=["inner"]), "c": constant("/etc/x")}, inner=inner) == [
        "write"
    ]


def test_a_table_filled_from_an_asset_is_honest_and_from_another_file_is_not() -> None:
    table = {
        "file": constant("/where/it/lay/vocabulary.txt"),
        "t": Node("InitializeTableFromTextFileV2", ["h", "file"]),
    }

    assert judge(table, assets=("file:0",)) == []
    assert set(judge(table)) == {Severity.READ.value}


@pytest.mark.framework
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("how", ["table", "asset", "save", "restore", "graph"])
def test_a_saved_model_that_opens_files_of_its_own_choice_is_refused(how: str, tmp_path: Path) -> None:
    import tensorflow as tf

    import assay

    secret = tmp_path / "secret.txt"
    secret.write_text("alpha\nbeta\n")
    raw = tf.raw_ops

    class Model(tf.Module):  # type: ignore[misc] # TensorFlow has no types
        def __init__(self) -> None:
            super().__init__()
            if how == "asset":
                lines, number = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER
                source = tf.lookup.TextFileInitializer(str(secret), tf.string, lines, tf.int64, number)
                self.table = tf.lookup.StaticHashTable(source, -1)

        def __call__(self, x: Any) -> Any:
            if how == "asset":
                return self.table.lookup(tf.constant(["beta"])) + tf.cast(x[0], tf.int64)
            if how == "table":
                table = raw.HashTableV2(key_dtype=tf.string, value_dtype=tf.int64)
                raw.InitializeTableFromTextFileV2(
                    table_handle=table, filename=str(secret), key_index=-2, value_index=-1
                )
            elif how == "save":
                raw.SaveV2(prefix=str(tmp_path / "out"), tensor_names=["a"], shape_and_slices=[""], tensors=[x])
            elif how == "restore":
                raw.RestoreV2(
                    prefix=str(tmp_path / "in"), tensor_names=["a"], shape_and_slices=[""], dtypes=[tf.float32]
                )
            else:
                raw.DatasetFromGraph(graph_def=b"anything")
            return x

    model = Model()
    call = tf.function(model.__call__, input_signature=[tf.TensorSpec([1], tf.float32)])
    folder = tmp_path / "model"
    tf.saved_model.save(model, str(folder), signatures=call.get_concrete_function())
    if how == "asset":
        assert assay.load(folder).signatures  # type: ignore[attr-defined] # the asset in its place is honest
        from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

        definition = SavedModel.FromString((folder / "saved_model.pb").read_bytes())
        definition.meta_graphs[0].asset_file_def[0].filename = "../../secret.txt"
        (folder / "saved_model.pb").write_bytes(definition.SerializeToString())

    with pytest.raises(Refused) as caught:
        assay.load(folder)

    assert caught.value.code == "not-safe"
