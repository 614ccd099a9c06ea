"""What a framework is shown of a folder that was not pushed is what was looked at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import assay
from assay.errors import AssayError

pytestmark = [pytest.mark.framework, pytest.mark.filterwarnings("ignore")]


def bert(folder: Path) -> None:
    from transformers import BertConfig, BertModel

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=10, **sizes)).save_pretrained(folder)


def test_a_hidden_link_to_weights_elsewhere_is_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    bert(folder)
    (folder / "model.safetensors").rename(tmp_path / "elsewhere")
    (folder / "model.safetensors").symlink_to(tmp_path / "elsewhere")
    (folder / ".assayignore").write_text("model.safetensors\n")

    with pytest.raises(AssayError):
        assay.load(folder)


def test_a_hidden_folder_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    bert(folder)
    (tmp_path / "elsewhere").mkdir()
    (folder / "model.safetensors").rename(tmp_path / "elsewhere" / "w.safetensors")
    (folder / "sub").symlink_to(tmp_path / "elsewhere")
    (folder / "model.safetensors.index.json").write_text(
        '{"metadata": {"total_size": 1}, "weight_map": {"embeddings.word_embeddings.weight": "sub/w.safetensors"}}'
    )
    (folder / ".assayignore").write_text("sub\n")

    with pytest.raises(AssayError):
        assay.load(folder)


def test_a_model_with_side_files_loads_beside_hidden_files(tmp_path: Path) -> None:
    import onnx

    given = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [4])
    result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [4])
    weights = onnx.numpy_helper.from_array(np.arange(4, dtype="float32"), "w")
    node = onnx.helper.make_node("Add", ["x", "w"], ["y"])
    graph = onnx.helper.make_graph([node], "g", [given], [result], [weights])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save_model(model, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    (tmp_path / "notes.tmp").write_text("mine")
    (tmp_path / ".assayignore").write_text("*.tmp\n")

    session = assay.load(tmp_path)

    assert session.run(None, {"x": np.ones(4, "float32")})[0].tolist() == [1.0, 2.0, 3.0, 4.0]  # type: ignore[attr-defined] # ONNX Runtime's


def test_one_file_of_a_folder_loads_alone(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(3))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "b.bin").write_bytes(b"x")

    found = assay.load(tmp_path / "a.npy")

    assert isinstance(found, np.ndarray)
    assert found.tolist() == [0, 1, 2]


def test_a_file_that_was_put_into_a_snapshot_is_not_shown_to_the_framework(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_HOME", str(tmp_path / "home"))
    bert(tmp_path / "model")
    assay.push(tmp_path / "model", "bert")
    assay.load("bert")
    (snapshot,) = (tmp_path / "home" / "snapshots").iterdir()
    (snapshot / "adapter_config.json").write_text("{}")

    assay.load("bert")

    assert not (snapshot / "adapter_config.json").exists()
