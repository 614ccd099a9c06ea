"""Every framework: a live object is saved, loaded back through the formats and the registry, and predicts the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.loaders.registry import choose_loader
from assay.ports.loaders import Saved
from assay.service.loading import build
from assay.spec.inspection import Inspection

Load = Callable[[Path], Any]
Save = Callable[..., tuple[Path, Saved]]
Bytes = Callable[[Path], dict[str, bytes]]

# Frameworks warn about themselves and about each other when they are imported; that is not what is tested here.
pytestmark = [pytest.mark.framework, pytest.mark.filterwarnings("ignore")]

ROWS = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
LABELS = (ROWS.sum(axis=1) > 0).astype(int)


def test_a_torch_module_comes_back_as_its_state_dict_with_tied_weights_under_both_names(load: Load, save: Save) -> None:
    import torch

    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = torch.nn.Linear(4, 4, bias=False)
            self.outer = torch.nn.Linear(4, 4, bias=False)
            self.outer.weight = self.inner.weight

    model = Tied()

    folder, saved = save(model)
    state = load(folder)

    assert sorted(path.name for path in folder.iterdir()) == ["assay_model.json", "model.safetensors"]
    assert "torch" in saved.modules
    fresh = Tied()
    fresh.load_state_dict(state)
    rows = torch.from_numpy(ROWS)
    assert torch.equal(fresh.outer(fresh.inner(rows)), model.outer(model.inner(rows)))


def test_tensors_that_are_views_of_one_storage_are_saved_each_with_its_own_values(load: Load, save: Save) -> None:
    import torch

    whole = torch.arange(12.0).reshape(3, 4)
    state = {"whole": whole, "row": whole[1], "turned": whole.T}

    found = load(save(state)[0])

    assert {name: value.tolist() for name, value in found.items()} == {
        name: value.tolist() for name, value in state.items()
    }


def test_a_state_dict_with_something_else_than_tensors_is_not_saved(save: Save) -> None:
    import torch

    from assay.errors import InvalidInput

    with pytest.raises(InvalidInput, match="tensors only, found int under 'epoch'"):
        save({"weight": torch.zeros(2), "epoch": 3})


def test_torchscript_is_saved_as_it_is_and_predicts_the_same(load: Load, save: Save) -> None:
    import torch

    model = torch.jit.trace(torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.ReLU()), torch.from_numpy(ROWS))

    loaded = load(save(model)[0])

    assert torch.equal(loaded(torch.from_numpy(ROWS)), model(torch.from_numpy(ROWS)))


def test_a_torch_checkpoint_file_is_loaded_with_its_nested_values(load: Load, tmp_path: Path) -> None:
    import torch

    for index, kind in enumerate((True, False)):
        folder = tmp_path / str(index)
        folder.mkdir()
        value = {"epoch": 3, "model": {"w": torch.arange(3.0)}}
        torch.save(value, folder / "last.ckpt", _use_new_zipfile_serialization=kind)

        loaded = load(folder)

        assert loaded["epoch"] == 3
        assert torch.equal(loaded["model"]["w"], value["model"]["w"])


def _tiny_bert(folder: Path) -> tuple[Any, Any]:
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film"]
    vocabulary = folder / "words.txt"
    vocabulary.write_text("\n".join(words))
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=16, num_labels=3,
    )  # fmt: skip
    return BertForSequenceClassification(config).eval(), BertTokenizer(str(vocabulary))


def test_a_transformers_model_keeps_its_head_and_its_tokenizer(
    load: Load, save: Save, look: Callable[[Path], Inspection], tmp_path: Path
) -> None:
    import torch

    model, tokenizer = _tiny_bert(tmp_path)
    tokens = tokenizer("good film", return_tensors="pt")

    folder, saved = save((model, tokenizer))
    loaded = load(folder)

    assert type(loaded) is type(model)
    assert not loaded.training
    assert torch.equal(loaded(**tokens).logits, model(**tokens).logits)
    assert (folder / "model.safetensors").is_file()
    assert {"transformers", "torch"} <= set(saved.modules)
    again = build(folder, look(folder), choose=choose_loader, what="the folder", part="tokenizer")
    assert again("good film").input_ids == tokenizer("good film").input_ids


def test_a_transformers_pipeline_is_saved_with_everything_it_uses(load: Load, save: Save, tmp_path: Path) -> None:
    from transformers import TextClassificationPipeline

    model, tokenizer = _tiny_bert(tmp_path)
    pipeline = TextClassificationPipeline(model=model, tokenizer=tokenizer)

    folder, _ = save(pipeline)

    assert type(load(folder)) is type(model)
    assert (folder / "tokenizer_config.json").is_file()


def test_a_sentence_transformer_embeds_the_same(load: Load, save: Save, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer

    model, tokenizer = _tiny_bert(tmp_path)
    base = tmp_path / "base"
    model.bert.save_pretrained(base)
    tokenizer.save_pretrained(base)
    words = Transformer(str(base))
    live = SentenceTransformer(modules=[words, Pooling(16)], device="cpu")

    folder, _ = save(live)
    loaded = load(folder)

    assert type(loaded) is SentenceTransformer
    assert np.allclose(loaded.encode(["good film"]), live.encode(["good film"]))


def test_a_scikit_learn_pipeline_predicts_the_same(load: Load, save: Save) -> None:
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import KBinsDiscretizer, StandardScaler

    columns = ColumnTransformer([("scale", StandardScaler(), [0, 1]), ("bins", KBinsDiscretizer(3), [2, 3])])
    model = Pipeline([("columns", columns), ("forest", RandomForestClassifier(5, random_state=0))]).fit(ROWS, LABELS)

    folder, saved = save(model)
    loaded = load(folder)

    assert [path.name for path in folder.iterdir()] == ["model.skops"]
    assert (loaded.predict_proba(ROWS) == model.predict_proba(ROWS)).all()
    assert saved.hyperparameters["forest__n_estimators"] == 5
    assert {"sklearn", "numpy"} <= set(saved.modules)


@pytest.mark.parametrize("name", ["HistGradientBoostingClassifier", "GradientBoostingClassifier"])
def test_boosted_trees_of_scikit_learn_predict_the_same(name: str, load: Load, save: Save) -> None:
    import sklearn.ensemble

    model = getattr(sklearn.ensemble, name)().fit(ROWS, LABELS)

    loaded = load(save(model)[0])

    assert (loaded.predict_proba(ROWS) == model.predict_proba(ROWS)).all()


def test_an_estimator_with_custom_code_is_not_saved_and_the_message_says_which(save: Save) -> None:
    from sklearn.preprocessing import FunctionTransformer

    from assay.errors import InvalidInput

    with pytest.raises(InvalidInput, match=r"double") as caught:
        save(FunctionTransformer(double).fit(ROWS))

    assert caught.value.code == "unsaveable"


def double(rows: np.ndarray) -> np.ndarray:
    return rows * 2


def test_an_onnx_model_runs_and_gives_the_same(load: Load, save: Save) -> None:
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.arange(8, dtype=np.float32).reshape(4, 2), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])], [weights],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)

    session = load(save(model)[0])

    assert isinstance(session, onnxruntime.InferenceSession)
    assert np.allclose(session.run(None, {"x": ROWS})[0], ROWS @ np.arange(8).reshape(4, 2), atol=1e-5)
    assert isinstance(model, onnx.ModelProto)


def test_a_keras_model_predicts_the_same(load: Load, save: Save) -> None:
    import keras

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "relu"), keras.layers.Dense(1)])

    loaded = load(save(model)[0])

    assert np.allclose(loaded.predict(ROWS, verbose=0), model.predict(ROWS, verbose=0))


def test_a_keras_hdf5_model_with_any_suffix_predicts_the_same(load: Load, tmp_path: Path) -> None:
    import keras

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    folder = tmp_path / "h5"
    folder.mkdir()
    model.save(folder / "model.h5")
    (folder / "model.h5").rename(folder / "weights.bin")

    loaded = load(folder)

    assert np.allclose(loaded.predict(ROWS, verbose=0), model.predict(ROWS, verbose=0))


def test_a_saved_model_gives_its_signature(load: Load, tmp_path: Path) -> None:
    import keras
    import tensorflow as tf

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    folder = tmp_path / "export"
    model.export(folder, verbose=False)

    loaded = load(folder)

    signature = loaded.signatures["serving_default"]
    (name,) = signature.structured_input_signature[1]
    (result,) = signature(**{name: tf.constant(ROWS)}).values()
    assert np.allclose(result.numpy(), model.predict(ROWS, verbose=0), atol=1e-6)


def test_a_tflite_model_is_ready_to_run(load: Load, tmp_path: Path) -> None:
    import keras
    import tensorflow as tf

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    folder = tmp_path / "lite"
    folder.mkdir()
    (folder / "model.tflite").write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())

    interpreter = load(folder)

    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], ROWS[:1])
    interpreter.invoke()
    result = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    assert np.allclose(result, model.predict(ROWS[:1], verbose=0), atol=1e-5)


def test_an_xgboost_booster_predicts_the_same(load: Load, save: Save) -> None:
    import xgboost

    data = xgboost.DMatrix(ROWS, LABELS)
    model = xgboost.train({"max_depth": 2, "objective": "binary:logistic"}, data, 3)

    folder, saved = save(model)
    loaded = load(folder)

    assert type(loaded) is xgboost.Booster
    assert (loaded.predict(data) == model.predict(data)).all()
    assert [path.name for path in folder.iterdir()] == ["model.ubj"]
    assert "xgboost" in saved.modules


def test_an_xgboost_wrapper_comes_back_as_the_wrapper(load: Load, save: Save) -> None:
    import xgboost

    model = xgboost.XGBClassifier(n_estimators=3, max_depth=2).fit(ROWS, LABELS)

    folder, saved = save(model)
    loaded = load(folder)

    assert type(loaded) is xgboost.XGBClassifier
    assert (loaded.predict(ROWS) == model.predict(ROWS)).all()
    assert saved.hyperparameters["max_depth"] == 2


def test_a_lightgbm_model_comes_back_as_its_booster(load: Load, save: Save) -> None:
    import lightgbm

    model = lightgbm.LGBMClassifier(n_estimators=3, min_child_samples=2, verbose=-1).fit(ROWS, LABELS)

    folder, saved = save(model)
    loaded = load(folder)

    assert type(loaded) is lightgbm.Booster
    assert np.allclose(loaded.predict(ROWS), model.predict_proba(ROWS)[:, 1])
    assert any("Booster" in note for note in saved.notes)
    assert saved.hyperparameters["classes_"] == [0, 1]


def test_a_catboost_model_predicts_the_same(load: Load, save: Save) -> None:
    catboost = pytest.importorskip("catboost")
    model = catboost.CatBoostClassifier(iterations=3, depth=2, verbose=0, allow_writing_files=False).fit(ROWS, LABELS)

    loaded = load(save(model)[0])

    assert (loaded.predict(ROWS) == model.predict(ROWS)).all()


def test_a_dictionary_of_arrays_comes_back_as_tensors(load: Load, save: Save) -> None:
    arrays = {"b": np.arange(6.0).reshape(2, 3), "a": np.array(3, dtype=np.int64)}

    found = load(save(arrays)[0])

    assert {name: value.tolist() for name, value in found.items()} == {"b": [[0, 1, 2], [3, 4, 5]], "a": 3}


def test_npz_files_are_loaded_without_their_pickles(load: Load, tmp_path: Path) -> None:
    from assay.errors import Refused

    for name, value in (("plain", np.arange(3)), ("objects", np.array([None, {}], dtype=object))):
        folder = tmp_path / name
        folder.mkdir()
        np.savez(folder / "w.npz", a=value)

    assert load(tmp_path / "plain")["a"].tolist() == [0, 1, 2]
    with pytest.raises(Refused, match="pickled objects"):
        load(tmp_path / "objects")


def _models() -> dict[str, Callable[[], object]]:
    def torch_state() -> object:
        import torch

        torch.manual_seed(0)
        linear = torch.nn.Linear(3, 3)
        return {"a": linear.weight, "b": linear.weight, "c": linear.weight}

    def scikit() -> object:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        texts = ["good film", "bad film", "good", "bad"]
        model = make_pipeline(TfidfVectorizer(stop_words=["a", "the", "of", "and"]), LogisticRegression())
        return model.fit(texts, [1, 0, 1, 0])

    def keras_model() -> object:
        import keras

        keras.utils.set_random_seed(0)
        layers = [keras.Input((4,), name="in"), keras.layers.Dense(2, name="out")]
        return keras.Sequential(layers, name="m")

    def booster() -> object:
        import xgboost

        return xgboost.XGBClassifier(n_estimators=2, random_state=0).fit(ROWS, LABELS)

    def lightgbm_model() -> object:
        import lightgbm

        return lightgbm.LGBMRegressor(n_estimators=2, verbose=-1, random_state=0, n_jobs=1).fit(ROWS, LABELS)

    return {"torch": torch_state, "scikit-learn": scikit, "keras": keras_model, "xgboost": booster,
            "lightgbm": lightgbm_model}  # fmt: skip


@pytest.mark.parametrize("name", list(_models()))
def test_the_same_model_is_saved_as_the_same_bytes(name: str, save: Save, bytes_of: Bytes) -> None:
    make = _models()[name]

    # Both models are alive at once: objects at the same address would hide addresses in what is written.
    models = [make(), make()]
    first, second = save(models[0], "first")[0], save(models[1], "second")[0]

    assert bytes_of(first) == bytes_of(second)
