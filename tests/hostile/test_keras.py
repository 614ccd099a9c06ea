"""Keras files that could do something when loaded: each is found, wherever it hides; its honest twin is not."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hostile_keras import (
    CODE,
    archive,
    dense,
    external_link,
    external_storage,
    h5,
    obj,
    sequential,
    virtual,
    weights,
    wrapped,
)

from assay.formats.keras.classes import has_class, has_function, part_of
from assay.formats.registry import all_formats
from assay.service.examine import inspect
from assay.spec.finding import Finding, Severity
from assay.trees import Tree

DOING = (Severity.EXECUTE, Severity.WRITE, Severity.NETWORK, Severity.READ)


def found(data: bytes, name: str = "model.keras") -> list[Finding]:
    """Findings above a note."""
    report = inspect(Tree.of({name: data}), all_formats())
    assert report.unknown == ()
    findings = [finding for finding in report.all_findings if finding.severity is not Severity.NOTE]
    assert all(finding.effect for finding in findings if finding.severity in DOING)
    return findings


def rules(data: bytes, name: str = "model.keras") -> set[tuple[str, Severity]]:
    return {(finding.rule, finding.severity) for finding in found(data, name)}


HOSTILE: list[tuple[str, Any, Any, str, Severity]] = [
    # what it is, the hostile object, its honest twin, rule, severity
    ("a Lambda", obj("Lambda", config={"function": CODE}), dense(), "keras-lambda", Severity.EXECUTE),
    (
        "a Lambda under another module",
        obj("Lambda", "keras.src.layers.core.lambda_layer"),
        obj("Dense", "keras.src.layers.core.dense"),
        "keras-lambda",
        Severity.EXECUTE,
    ),
    (
        "a Lambda by its registered name",
        obj("Dense", registered_name="keras>Lambda"),
        obj("Dense", registered_name="Dense"),
        "keras-lambda",
        Severity.EXECUTE,
    ),
    (
        "a Lambda without a module",
        {"class_name": "Lambda", "config": {"function_type": "lambda"}},
        {"class_name": "Dense", "config": {"name": "d"}},
        "keras-lambda",
        Severity.EXECUTE,
    ),
    (
        "marshalled code",
        {"class_name": "__lambda__", "config": {"value": CODE}},
        {"class_name": "__bytes__", "config": {"value": "text"}},
        "keras-lambda-code",
        Severity.EXECUTE,
    ),
    (
        "marshalled code without a word about it",
        dense(note=CODE),
        dense(note="a base64-like note"),
        "keras-lambda-code",
        Severity.EXECUTE,
    ),
    (
        "a foreign function",
        obj("function", "os", "system"),
        obj("function", "builtins", "relu"),
        "keras-foreign-module",
        Severity.EXECUTE,
    ),
    (
        "a foreign class",
        obj("Popen", "subprocess", registered_name="Popen"),
        obj("Adam", "keras.optimizers"),
        "keras-foreign-module",
        Severity.EXECUTE,
    ),
    (
        "a module that begins like Keras",
        obj("Dense", "keras_evil"),
        obj("Dense", "keras.layers"),
        "keras-foreign-module",
        Severity.EXECUTE,
    ),
    (
        "a type specification from elsewhere",
        obj("__typespec__", "os", [], spec_name="system", registered_name=None),
        obj("__typespec__", "tensorflow.python.framework.tensor", [], spec_name="TensorSpec", registered_name=None),
        "keras-foreign-module",
        Severity.EXECUTE,
    ),
    (
        "a download",
        obj("function", "keras.utils", "get_file"),
        obj("function", "keras.activations", "gelu"),
        "keras-dangerous-function",
        Severity.NETWORK,
    ),
    (
        "the safety switch",
        obj("function", "keras.config", "enable_unsafe_deserialization"),
        obj("function", "keras.losses", "huber"),
        "keras-dangerous-function",
        Severity.EXECUTE,
    ),
    (
        "a utility of Keras",
        obj("function", "keras.src.utils.file_utils", "extract_archive"),
        obj("function", "keras.ops", "relu"),
        "keras-dangerous-function",
        Severity.EXECUTE,
    ),
    (
        "a class of a part that models do not need",
        obj("CSVLogger", "keras.callbacks"),
        obj("CosineDecay", "keras.optimizers.schedules"),
        "keras-dangerous-function",
        Severity.EXECUTE,
    ),
    ("a torch module", obj("TorchModuleWrapper"), obj("Wrapper"), "keras-torch-module", Severity.EXECUTE),
    (
        "a SavedModel by path",
        obj("TFSMLayer", config={"filepath": "/nonexistent"}),
        obj("Rescaling", config={"scale": 1.0}),
        "keras-saved-model-layer",
        Severity.EXECUTE,
    ),
    ("a JAX function", obj("JaxLayer"), obj("Layer"), "keras-jax-layer", Severity.EXECUTE),
    (
        "a vocabulary by path",
        obj("StringLookup", config={"vocabulary": "/nonexistent/words.txt"}),
        obj("StringLookup", config={"vocabulary": ["a", "b"]}),
        "keras-vocabulary-path",
        Severity.READ,
    ),
    (
        "whole numbers by address",
        obj("IntegerLookup", config={"vocabulary": "https://invalid.example/words"}),
        obj("IntegerLookup", config={"vocabulary": [1, 2]}),
        "keras-vocabulary-path",
        Severity.NETWORK,
    ),
    (
        "weights of words by path",
        obj("TextVectorization", config={"idf_weights": "weights.txt"}),
        obj("TextVectorization", config={"idf_weights": [0.5]}),
        "keras-vocabulary-path",
        Severity.READ,
    ),
    (
        "a TensorFlow symbol that writes",
        obj("TFOpLambda", None, {"function": "io.write_file"}),
        obj("TFOpLambda", None, {"function": "math.add"}),
        "keras-foreign-op",
        Severity.EXECUTE,
    ),
    (
        "a TensorFlow symbol nobody knows",
        obj("TFOpLambda", None, {"function": "sysconfig.get_lib"}),
        obj("TFOpLambda", None, {"function": "concat"}),
        "keras-unknown-op",
        Severity.INCOMPLETE,
    ),
    (
        "a class of the author's",
        obj("Encoder", None, registered_name="Custom>Encoder"),
        obj("MultiHeadAttention"),
        "keras-custom-object",
        Severity.INCOMPLETE,
    ),
    (
        "a name that is no layer",
        obj("os", "keras.src.layers.layer"),
        obj("Layer", "keras.src.layers.layer"),
        "keras-custom-object",
        Severity.INCOMPLETE,
    ),
    (
        "a function of the author's",
        obj("function", "builtins", "my_loss"),
        obj("function", "builtins", "mean_squared_error"),
        "keras-custom-object",
        Severity.INCOMPLETE,
    ),
]


@pytest.mark.parametrize(("bad", "good", "rule", "severity"), [row[1:] for row in HOSTILE], ids=[r[0] for r in HOSTILE])
def test_an_object_is_found_wherever_it_hides_and_its_twin_is_not(
    bad: Any, good: Any, rule: str, severity: Severity
) -> None:
    for config in wrapped(bad):
        assert (rule, severity) in rules(archive(config))
        assert (rule, severity) in rules(h5(config), "model.h5")
    assert (rule, severity) in rules(h5(sequential(dense()), {"loss": bad}), "model.h5")
    for config in wrapped(good):
        assert found(archive(config)) == []
        assert found(h5(config), "model.h5") == []


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (external_link, "hdf5-external-link"),
        (external_storage, "hdf5-external-storage"),
        (virtual, "hdf5-virtual-dataset"),
    ],
    ids=["a link", "storage", "a virtual dataset"],
)
def test_weights_that_lie_in_other_files_are_found(data: Callable[[], bytes], rule: str) -> None:
    inner = archive(sequential(dense()), {})
    with zipfile.ZipFile(io.BytesIO(inner)) as file:
        config = file.read("config.json").decode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("metadata.json", json.dumps({"keras_version": "3.9.0"}))
        file.writestr("config.json", config)
        file.writestr("model.weights.h5", data())

    assert (rule, Severity.READ) in rules(data(), "model.weights.h5")
    assert (rule, Severity.READ) in rules(buffer.getvalue())
    assert found(weights(), "model.weights.h5") == []


def test_an_archive_without_metadata_is_looked_at_too() -> None:
    assert ("keras-lambda", Severity.EXECUTE) in rules(archive(sequential(obj("Lambda")), metadata=False))


def test_a_second_configuration_is_found() -> None:
    buffer = io.BytesIO(archive(sequential(dense())))
    with zipfile.ZipFile(buffer, "a") as file, pytest.warns(UserWarning, match="Duplicate name"):
        file.writestr("config.json", json.dumps(sequential(obj("Lambda"))))

    assert ("zip-duplicate-member", Severity.MISLEAD) in rules(buffer.getvalue())


def test_a_member_that_keras_does_not_have_is_not_vouched_for() -> None:
    config = sequential(dense())

    assert rules(archive(config, {"extra.pkl": b"N."})) == {("keras-extra-member", Severity.INCOMPLETE)}
    assert found(archive(config, {"assets/layers/string_lookup/vocabulary.txt": b"a\nb"})) == []


def test_a_configuration_that_cannot_be_read_is_not_vouched_for() -> None:
    for text in ("{", "[" * 100_000, '{"class_name": "Lambda"'):
        assert ("keras-config", Severity.INCOMPLETE) in rules(archive(text))


def test_the_list_of_classes_names_nothing_that_runs_code_or_opens_files() -> None:
    for name in ("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "Popen"):
        assert not has_class(name)
    for name in ("get_file", "load_model", "deserialize", "get", "custom_gradient"):
        assert not has_function(name)
    assert [part_of(name) for name in ("keras.api._v2.keras.layers", "tf_keras.src.engine.base", "kerasx")] == [
        "layers",
        "engine",
        None,
    ]


def _honest(keras: Any) -> dict[str, Any]:
    """Models of many kinds, freshly made."""
    layers = keras.layers
    given = keras.Input((8,), name="x")
    rnn = keras.Sequential(
        [
            keras.Input((5, 4)),
            layers.Bidirectional(layers.LSTM(3, return_sequences=True)),
            layers.TimeDistributed(layers.Dense(2)),
            layers.RNN([layers.GRUCell(2), layers.SimpleRNNCell(2)]),
        ]
    )
    tokens = keras.Input((6,), dtype="int32")
    embedded = layers.Embedding(10, 4)(tokens)
    attended = layers.MultiHeadAttention(2, 2)(embedded, embedded)
    normed = layers.LayerNormalization()(embedded + attended)
    pooled = layers.GlobalAveragePooling1D()(keras.ops.relu(normed) * 2.0)
    words = keras.Input((1,), dtype="string")
    looked = layers.StringLookup(vocabulary=["a", "b"], output_mode="one_hot")(words)
    vectored = layers.TextVectorization(vocabulary=["a", "b"], output_mode="multi_hot")(words)
    numbers = layers.IntegerLookup(vocabulary=[1, 2, 3])(keras.Input((1,), dtype="int64"))
    del numbers
    compiled = keras.Sequential([keras.Input((4,)), layers.Dense(3, "softmax", kernel_regularizer="l2")])
    compiled.compile(
        keras.optimizers.AdamW(keras.optimizers.schedules.CosineDecay(0.1, 10)),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=0.1),
        metrics=["accuracy", keras.metrics.AUC(), keras.metrics.F1Score()],
    )
    mixed = keras.Sequential([keras.Input((4,)), layers.Dense(3, dtype="mixed_float16", kernel_constraint="non_neg")])
    mixed.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(momentum=0.9)), loss="mse")
    image = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.Rescaling(1 / 255),
            layers.RandomFlip(),
            layers.RandomRotation(0.1),
            layers.Conv2D(4, 3, activation="gelu", kernel_initializer="he_normal"),
            layers.BatchNormalization(),
            layers.SeparableConv2D(4, 3),
            layers.GroupNormalization(2),
            layers.Dropout(0.1),
            layers.GlobalMaxPooling2D(),
            layers.Dense(1, activation=keras.activations.sigmoid),
        ]
    )
    inner = keras.Sequential([keras.Input((8,)), layers.Dense(4, activation="swish")], name="inner")
    split = keras.ops.split(inner(given), 2, axis=-1)
    return {
        "rnn": rnn,
        "attention": keras.Model(tokens, layers.Dense(2)(pooled)),
        "words": keras.Model(words, [looked, vectored]),
        "compiled": compiled,
        "mixed": mixed,
        "image": image,
        "nested": keras.Model(given, keras.ops.concatenate(split) + keras.ops.mean(split[0], axis=-1, keepdims=True)),
        "normed": keras.Sequential([keras.Input((3,)), layers.Normalization(mean=[0.0] * 3, variance=[1.0] * 3)]),
        "norms": keras.Sequential([keras.Input((3,)), layers.SpectralNormalization(layers.Dense(2)), layers.PReLU()]),
    }


@pytest.mark.framework
@pytest.mark.filterwarnings("ignore")
def test_models_that_keras_itself_writes_are_safe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    keras = pytest.importorskip("keras")
    odd = {}
    for name, model in _honest(keras).items():
        model.save(tmp_path / f"{name}.keras")
        odd[name] = found((tmp_path / f"{name}.keras").read_bytes(), f"{name}.keras")
        if name not in {"words", "nested", "attention"}:
            model.save(tmp_path / f"{name}.h5")
            odd[f"{name}.h5"] = found((tmp_path / f"{name}.h5").read_bytes(), f"{name}.h5")
        model.save_weights(tmp_path / f"{name}.weights.h5")
        odd[f"{name}.weights"] = found((tmp_path / f"{name}.weights.h5").read_bytes(), f"{name}.weights.h5")

    assert {name: findings for name, findings in odd.items() if findings} == {}
