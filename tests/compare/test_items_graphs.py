"""Graphs, boosted trees and Keras models: what computes differently is told, what was saved again is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import lightgbm
import numpy as np
import onnx
import pytest
import xgboost
from item_diffs import behaviours, items_between, notes
from onnx import TensorProto, helper, numpy_helper

from assay.compare.boosted import between
from assay.spec.changes import Area, Effect, Item

pytestmark = pytest.mark.framework

SQUARE = (np.eye(3, dtype="float32"), 2 * np.eye(3, dtype="float32"))


def model(
    *,
    names: tuple[str, str] = ("w1", "w2"),
    uses: tuple[int, int] = (0, 1),
    weights: tuple[np.ndarray, np.ndarray] = SQUARE,
    act: str = "Relu",
    axis: int = 0,
    opset: int = 17,
    hidden: str = "h",
    batch: str = "N",
    **head: Any,
) -> onnx.ModelProto:
    nodes = [
        helper.make_node("MatMul", ["x", names[uses[0]]], [hidden]),
        helper.make_node(act, [hidden], ["a"]),
        helper.make_node("MatMul", ["a", names[uses[1]]], ["b"]),
        helper.make_node("Softmax", ["b"], ["y"], axis=axis),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", TensorProto.FLOAT, [batch, 3])],
        [value("y", TensorProto.FLOAT, [batch, 3])],
        [numpy_helper.from_array(array, name) for array, name in zip(weights, names, strict=True)],
    )
    labels = head.pop("labels", None)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], **head)
    if labels:
        helper.set_model_props(made, {"labels": labels})
    return made


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., list[Item]]:
    """``saved(old, new)``: what is told of two models, each saved by a function of a path."""

    def compare(old: Callable[[Path], Any], new: Callable[[Path], Any], name: str, other: str = "") -> list[Item]:
        for side, save, called in (("old", old, name), ("new", new, other or name)):
            (tmp_path / side).mkdir(exist_ok=True)
            save(tmp_path / side / called)
        return items_between(tmp_path / "old", tmp_path / "new")

    return compare


def to_onnx(made: onnx.ModelProto) -> Callable[[Path], None]:
    return lambda path: onnx.save(made, path)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"act": "Tanh"}, (Area.GRAPH, "m.onnx: nodes")),
        ({"axis": 1}, (Area.GRAPH, "m.onnx: node 3 Softmax: axis")),
        ({"opset": 18}, (Area.GRAPH, "m.onnx: opset.ai.onnx")),
        ({"labels": "cat,dog"}, (Area.METADATA, "m.onnx: metadata.labels")),
        ({"weights": SQUARE[::-1], "names": ("v1", "v2")}, (Area.GRAPH, "m.onnx")),
    ],
    ids=["operator", "attribute", "opset", "properties", "renamed-tensors-changed-places"],
)
def test_one_change_of_a_graph_is_one_difference(saved, change: dict[str, Any], expected) -> None:
    assert behaviours(saved(to_onnx(model()), to_onnx(model(**change)), "m.onnx")) == [expected]


def test_tensors_used_in_other_places_are_another_graph(saved) -> None:
    found = behaviours(saved(to_onnx(model()), to_onnx(model(uses=(1, 0))), "m.onnx"))

    assert [area for area, _ in found] == [Area.GRAPH, Area.GRAPH]


@pytest.mark.parametrize(
    "change",
    [
        {"producer_name": "another"},
        {"producer_version": "9"},
        {"hidden": "renamed"},
        {"names": ("v1", "v2")},
        {"batch": "M"},
        {"ir_version": 8},
        {"doc_string": "words"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_names_and_stamps_of_a_graph_are_notes(saved, change: dict[str, Any]) -> None:
    items = saved(to_onnx(model()), to_onnx(model(**change)), "m.onnx")

    assert behaviours(items) == []
    assert items != []


X = np.random.default_rng(1).normal(size=(80, 4))
Y = (X[:, 0] + X[:, 1] > 0).astype(int)


def test_data_beside_a_graph_may_as_well_stand_in_it(tmp_path: Path) -> None:
    wide = tuple(np.random.default_rng(at).normal(size=(3, 3)).astype("float32") for at in range(2))
    (tmp_path / "apart").mkdir()
    onnx.save(model(weights=wide), tmp_path / "one.onnx")
    kept = {"save_as_external_data": True, "location": "m.data", "size_threshold": 0}
    onnx.save(model(weights=wide), tmp_path / "apart" / "m.onnx", **kept)
    assert behaviours(items_between(tmp_path / "one.onnx", tmp_path / "apart")) == []

    (tmp_path / "other").mkdir()
    onnx.save(model(weights=wide, act="Tanh"), tmp_path / "other" / "m.onnx", **kept)
    assert behaviours(items_between(tmp_path / "one.onnx", tmp_path / "other")) == [(Area.GRAPH, "m.onnx: nodes")]


def boosted(rounds: int, **params: Any) -> xgboost.Booster:
    settings = {"max_depth": 2, "objective": "binary:logistic", **params}
    return xgboost.train(settings, xgboost.DMatrix(X, Y), rounds)


def lights(rounds: int, **params: Any) -> lightgbm.Booster:
    settings = {"verbose": -1, "objective": "binary", "min_data_in_leaf": 5, **params}
    return lightgbm.train(settings, lightgbm.Dataset(X, Y), rounds)


@pytest.mark.parametrize(
    ("train", "name"), [(boosted, "m.ubj"), (boosted, "m.json"), (lights, "m.txt")], ids=["ubj", "json", "txt"]
)
def test_training_that_went_on_is_told_by_its_trees(saved, train, name: str) -> None:
    items = saved(train(3).save_model, train(5).save_model, name)

    assert behaviours(items) == [(Area.ARCHITECTURE, f"{name}: trees")]
    told = next(item for item in items if item.area is Area.ARCHITECTURE)
    assert (told.old, told.new) == (3, 5)
    assert told.text == "2 trees added, the first 3 are the same: training went on"


@pytest.mark.parametrize(
    ("train", "name", "change"),
    [(boosted, "m.ubj", {"eta": 0.1}), (boosted, "m.json", {"eta": 0.1}), (lights, "m.txt", {"learning_rate": 0.3})],
    ids=["ubj", "json", "txt"],
)
def test_other_leaves_are_other_trees(saved, train, name: str, change) -> None:
    items = saved(train(3).save_model, train(3, **change).save_model, name)

    assert behaviours(items) == [(Area.ARCHITECTURE, f"{name}: trees")]


def test_one_form_of_a_booster_and_the_other_say_the_same(saved) -> None:
    booster = boosted(3)

    assert behaviours(saved(booster.save_model, booster.save_model, "m.json", "m.ubj")) == []


def cats(rounds: int, seed: int = 1, before: Any = None) -> Any:
    catboost = pytest.importorskip("catboost")
    made = catboost.CatBoostClassifier(iterations=rounds, random_seed=seed, verbose=0, allow_writing_files=False)
    return made.fit(X, Y, init_model=before)


def cat_file(model: Any, form: str = "cbm") -> Callable[[Path], None]:
    return lambda path: model.save_model(str(path), format=form)


@pytest.mark.parametrize("form", ["cbm", "json"])
def test_catboost_trees_are_compared_and_ids_and_times_of_the_training_are_notes(saved, form: str) -> None:
    name = f"m.{form}"
    first = cats(6)

    again = saved(cat_file(first, form), cat_file(cats(6), form), name)
    assert behaviours(again) == []
    assert (Area.METADATA, f"{name}: model_guid") in notes(again)
    other = saved(cat_file(first, form), cat_file(cats(6, seed=2), form), name)
    assert behaviours(other) == [(Area.ARCHITECTURE, f"{name}: trees")]
    longer = saved(cat_file(first, form), cat_file(cats(3, before=first), form), name)
    assert [item.text for item in longer if item.path.endswith("trees")] == [
        "3 trees added, the first 6 are the same: training went on"
    ]


def test_both_forms_of_a_catboost_model_say_the_same(saved) -> None:
    first, other = cats(6), cats(6, seed=2)

    assert behaviours(saved(cat_file(first), cat_file(first, "json"), "m.cbm", "m.json")) == []
    assert behaviours(saved(cat_file(first), cat_file(other, "json"), "m.cbm", "m.json")) == [
        (Area.ARCHITECTURE, "m.json: trees")
    ]


def test_one_leaf_of_a_catboost_model_counts(saved) -> None:
    first = cats(6)

    def edited(path: Path) -> None:
        cat_file(first, "json")(path)
        document = json.loads(path.read_text())
        document["oblivious_trees"][2]["leaf_values"][0] += 1e-9
        path.write_text(json.dumps(document))

    (found,) = [one for one in saved(cat_file(first), edited, "m.cbm", "m.json") if one.path.endswith("trees")]
    assert found.text == "1 of 6 trees differs"


def test_categories_of_catboost_are_said_not_to_be_understood(saved) -> None:
    catboost = pytest.importorskip("catboost")
    table = [[str(row % 3), float(row)] for row in range(len(Y))]

    def fitted(seed: int) -> Any:
        made = catboost.CatBoostClassifier(iterations=3, random_seed=seed, verbose=0, allow_writing_files=False)
        return made.fit(table, Y, cat_features=[0])

    items = saved(cat_file(fitted(1)), cat_file(fitted(2)), "m.cbm")
    assert any((item.why or "").startswith("not understood") for item in items if item.effect is Effect.BEHAVIOUR)


def test_trees_inside_an_estimator_are_told_as_trees(saved) -> None:
    few, many = (
        lightgbm.LGBMClassifier(n_estimators=count, min_child_samples=5, verbose=-1).fit(X, Y) for count in (3, 5)
    )

    items = saved(lambda path: joblib.dump(few, path), lambda path: joblib.dump(many, path), "m.joblib")

    assert any(item.text and item.text.startswith("2 trees added") for item in items)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("ab", "ab", None),
        ("abc", "ab", "1 tree taken away at the end, the first 2 are the same"),
        ("abc", "axc", "1 of 3 trees differs"),
        ("abc", "axcd", "1 of 3 trees differs; 3 trees before, 4 now"),
    ],
)
def test_lists_of_trees_are_told_in_words(old: str, new: str, text: str | None) -> None:
    assert between(list(old), list(new)) == text


@pytest.fixture(scope="module")
def keras() -> Any:
    return pytest.importorskip("keras")


def network(keras: Any, activation: str = "relu", optimizer: str = "adam") -> Any:
    keras.utils.set_random_seed(1)
    keras.backend.clear_session()
    layers = [keras.Input((3,), name="inp"), keras.layers.Dense(4, activation=activation, name="one")]
    made = keras.Sequential([*layers, keras.layers.Dense(2, name="two")], name="net")
    made.compile(optimizer, "mse")
    return made


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
@pytest.mark.filterwarnings("ignore")
def test_names_that_keras_made_by_counting_are_no_difference(saved, keras, name: str) -> None:
    """Two models of one process: the second one's layers are called ``dense_2`` and ``dense_3``."""

    def counted(rate: float = 0.1) -> Any:
        layers = [keras.Input((3,)), keras.layers.Dense(4), keras.layers.Dropout(rate), keras.layers.Dense(2)]
        return keras.Sequential(layers, name="net")

    keras.backend.clear_session()
    first, second = counted(), counted()
    second.set_weights(first.get_weights())

    assert first.layers[0].name != second.layers[0].name
    assert behaviours(saved(first.save, second.save, name)) == []
    found = behaviours(saved(first.save, counted(0.5).save, name))
    assert [(area, path.rpartition(".")[2]) for area, path in found] == [(Area.ARCHITECTURE, "rate")]


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
@pytest.mark.filterwarnings("ignore")
def test_keras_models_differ_by_their_layers_and_not_by_their_training(saved, keras, name: str) -> None:
    first = network(keras)

    assert behaviours(saved(first.save, network(keras).save, name)) == []
    assert behaviours(saved(first.save, network(keras, optimizer="sgd").save, name)) == []
    found = behaviours(saved(first.save, network(keras, "tanh").save, name))
    assert [(area, path.rpartition(".")[2]) for area, path in found] == [(Area.ARCHITECTURE, "activation")]


def test_a_key_value_pair_of_gguf_is_judged_by_its_name(saved) -> None:
    gguf = pytest.importorskip("gguf")

    def write(**change: Any) -> Callable[[Path], None]:
        said = {"name": "n", "context": 16, "tokens": ["a", "b", "c"], "template": "{{ x }}", **change}

        def save(path: Path) -> None:
            writer = gguf.GGUFWriter(str(path), "llama")
            writer.add_name(said["name"])
            writer.add_context_length(said["context"])
            writer.add_tokenizer_model("gpt2")
            writer.add_token_list(said["tokens"])
            writer.add_chat_template(said["template"])
            writer.add_tensor("t", np.ones((4, 4), "float32"))
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()

        return save

    def told(**change: Any) -> list[tuple[Area, str]]:
        return behaviours(saved(write(), write(**change), "m.gguf"))

    assert told(name="m") == []
    assert told(context=32) == [(Area.CONFIG, "m.gguf: llama.context_length")]
    assert told(tokens=["a", "c", "b"]) == [(Area.TOKENIZER, "m.gguf: tokenizer.ggml.tokens")]
    assert told(template="{{ y }}") == [(Area.TOKENIZER, "m.gguf: tokenizer.chat_template")]


def test_an_array_of_text_in_an_archive_counts(saved) -> None:
    def write(word: str, save: Callable[..., None] = np.savez) -> Callable[[Path], None]:
        return lambda path: save(path, x=X, labels=np.array(["a", word]))

    assert behaviours(saved(write("b"), write("b", np.savez_compressed), "m.npz")) == []
    assert [area for area, _ in behaviours(saved(write("b"), write("c"), "m.npz"))] == [Area.CONFIG]
    assert notes(saved(write("b"), write("b", np.savez_compressed), "m.npz")) != []
