"""What must not be loaded is refused with the reason and the way out, and what cannot be loaded says so."""

from __future__ import annotations

import json
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.errors import BadFormat, InvalidInput, MissingDependency, NotFound, Refused
from assay.loaders.registry import all_loaders, all_savers, choose_loader, choose_saver
from assay.ports.loaders import Loader, Saver
from assay.service.loading import build
from assay.spec.description import Description
from assay.spec.inspection import Inspection

Load = Callable[[Path], Any]
Look = Callable[[Path], Inspection]

# Frameworks warn about themselves and about each other when they are imported; that is not what is tested here.
pytestmark = [pytest.mark.filterwarnings("ignore")]
framework = pytest.mark.framework


class Touch:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


@framework
@pytest.mark.parametrize("zipped", [True, False])
def test_a_torch_checkpoint_that_calls_something_is_refused_and_nothing_happens(
    zipped: bool, load: Load, tmp_path: Path
) -> None:
    import torch

    folder, marker = tmp_path / "model", tmp_path / "marker"
    folder.mkdir()
    torch.save({"w": torch.zeros(2), "x": Touch(marker)}, folder / "m.pt", _use_new_zipfile_serialization=zipped)

    with pytest.raises(Refused) as caught:
        load(folder)

    assert caught.value.code == "unsafe-pickle"
    assert "system" in caught.value.message
    assert "safetensors" in (caught.value.hint or "")
    assert not marker.exists()


@framework
def test_a_whole_pickled_module_is_refused_by_the_name_of_its_class(load: Load, tmp_path: Path) -> None:
    import torch

    torch.save(torch.nn.Linear(2, 2), tmp_path / "m.pt")

    with pytest.raises(Refused, match=r"torch\.nn\.modules\.linear\.Linear"):
        load(tmp_path)


@framework
def test_a_damaged_torch_file_is_a_bad_format(load: Load, tmp_path: Path) -> None:
    import torch

    torch.save({"w": torch.zeros(1000)}, tmp_path / "m.pt")
    data = bytearray((tmp_path / "m.pt").read_bytes())
    data[data.index(b"data.pkl") + 120] ^= 0xFF
    (tmp_path / "m.pt").write_bytes(bytes(data))

    with pytest.raises((BadFormat, Refused)):
        load(tmp_path)


@framework
def test_an_exported_program_is_refused_because_torch_would_unpickle_it(load: Load, tmp_path: Path) -> None:
    import torch

    torch.export.save(torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(1, 2),)), tmp_path / "m.pt2")

    with pytest.raises(Refused) as caught:
        load(tmp_path)

    assert caught.value.code == "unsafe-loader"


def _bert(folder: Path, **changes: object) -> None:
    from transformers import BertConfig, BertModel

    config = BertConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    BertModel(config).save_pretrained(folder)
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, **changes}))


CUSTOM = "class Thing:\n    pass\nopen({marker!r}, 'w')\n"


@framework
@pytest.mark.parametrize(
    "changes",
    [
        {"auto_map": {"AutoConfig": "code.Thing", "AutoModel": "code.Thing"}, "model_type": "thing", "architectures": ["Thing"]},
        {"_attn_implementation_internal": "someone/kernel"},
        {"attn_implementation": "someone/kernel"},
        {"text_config": {"trust_remote_code": True}},
    ],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_a_transformers_folder_that_asks_for_code_is_refused(
    changes: dict[str, object], load: Load, tmp_path: Path
) -> None:
    folder, marker = tmp_path / "model", tmp_path / "marker"
    folder.mkdir()
    _bert(folder, **changes)
    (folder / "code.py").write_text(CUSTOM.format(marker=str(marker)))

    with pytest.raises(Refused) as caught:
        load(folder)

    assert caught.value.code == "custom-code"
    assert not marker.exists()


@framework
def test_weights_that_are_not_in_the_files_are_said_to_be_untrained(
    load: Load, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _bert(tmp_path, architectures=["BertForSequenceClassification"])

    model = load(tmp_path)

    assert type(model).__name__ == "BertForSequenceClassification"
    assert "2 weights are not in the files and start untrained: classifier.bias, classifier.weight" in caplog.text


@framework
def test_code_beside_a_model_of_transformers_own_class_is_ignored(load: Load, tmp_path: Path) -> None:
    folder, marker = tmp_path / "model", tmp_path / "marker"
    folder.mkdir()
    _bert(folder, auto_map={"AutoModel": "code.Thing"})
    (folder / "code.py").write_text(CUSTOM.format(marker=str(marker)))

    model = load(folder)

    assert type(model).__module__.startswith("transformers.")
    assert not marker.exists()


@framework
def test_a_pickle_inside_a_transformers_folder_is_refused(load: Load, tmp_path: Path) -> None:
    import torch

    folder, marker = tmp_path / "model", tmp_path / "marker"
    folder.mkdir()
    _bert(folder)
    (folder / "model.safetensors").unlink()
    torch.save({"x": Touch(marker)}, folder / "pytorch_model.bin")

    with pytest.raises((BadFormat, Refused)):
        load(folder)

    assert not marker.exists()


@framework
def test_an_unknown_part_is_named_with_those_there_are(look: Look, tmp_path: Path) -> None:
    _bert(tmp_path)

    with pytest.raises(NotFound, match="tokenizer, processor"):
        build(tmp_path, look(tmp_path), choose=choose_loader, what="the folder", part="soul")


@framework
def test_a_sentence_transformer_with_a_foreign_module_is_refused(load: Load, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    _bert(folder)
    modules = [{"idx": 0, "name": "0", "path": "", "type": "antigravity.Flight"}]
    (folder / "modules.json").write_text(json.dumps(modules))

    with pytest.raises(Refused, match="antigravity"):
        load(folder)

    assert "antigravity" not in sys.modules


def test_an_adapter_is_refused_with_the_name_of_its_base(load: Load, tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    config = {"peft_type": "LORA", "base_model_name_or_path": "org/base-7b", "r": 4, "task_type": "CAUSAL_LM"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    save_file(
        {"base_model.model.q.lora_A.weight": np.zeros((4, 8), np.float32)}, tmp_path / "adapter_model.safetensors"
    )

    with pytest.raises(Refused, match="org/base-7b") as caught:
        load(tmp_path)

    assert caught.value.code == "needs-base-model"
    assert "PeftModel" in (caught.value.hint or "")


@framework
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_keras_model_with_a_lambda_layer_is_refused(suffix: str, load: Load, tmp_path: Path) -> None:
    import keras

    layers = [keras.Input((2,)), keras.layers.Lambda(lambda x: x * 2), keras.layers.Dense(1)]
    keras.Sequential(layers).save(tmp_path / f"m{suffix}")

    with pytest.raises(Refused) as caught:
        load(tmp_path)

    assert caught.value.code == "unsafe-model"
    assert "run code" in caught.value.message


@framework
def test_keras_weights_alone_say_that_the_model_is_missing(load: Load, tmp_path: Path) -> None:
    import keras

    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save_weights(tmp_path / "m.weights.h5")

    with pytest.raises(BadFormat) as caught:
        load(tmp_path)

    assert caught.value.code == "weights-only"
    assert "load_weights" in (caught.value.hint or "")


@framework
def test_a_saved_model_that_reads_files_is_refused(load: Load, tmp_path: Path) -> None:
    import tensorflow as tf

    class Reader(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
        def __call__(self, name: Any) -> Any:
            return tf.io.read_file(name)

    folder = tmp_path / "model"
    tf.saved_model.save(Reader(), folder)

    with pytest.raises(Refused, match="read other files"):
        load(folder)


@framework
@pytest.mark.real
def test_a_saved_model_that_todays_tensorflow_cannot_restore_still_predicts(
    load: Load, real_folder: Callable[..., Path]
) -> None:
    folder = real_folder("basic-pitch==0.4.0", "basic_pitch/saved_models/icassp_2022/nmp")

    model = load(folder)

    result = model.signatures["serving_default"](input_2=np.zeros((1, 43844, 1), np.float32))
    assert {name: value.shape.as_list() for name, value in result.items()} == {
        "contour": [1, 172, 264], "note": [1, 172, 88], "onset": [1, 172, 88]
    }  # fmt: skip


@framework
def test_a_skops_file_with_foreign_types_is_refused_by_their_names(load: Load, tmp_path: Path) -> None:
    import skops.io
    from sklearn.preprocessing import FunctionTransformer

    skops.io.dump(FunctionTransformer(os.path.join), tmp_path / "m.skops")

    with pytest.raises(Refused, match=r"posixpath\.join") as caught:
        load(tmp_path)

    assert caught.value.code == "unsafe-types"


@framework
@pytest.mark.parametrize("name", ["m.pkl", "m.joblib"])
def test_a_pickle_beyond_the_list_is_refused_with_a_way_out(name: str, load: Load, tmp_path: Path) -> None:
    import joblib

    folder, marker = tmp_path / "model", tmp_path / "marker"
    folder.mkdir()
    if name == "m.pkl":
        (folder / name).write_bytes(pickle.dumps([Touch(marker)]))
    else:
        joblib.dump([np.arange(3), Touch(marker)], folder / name)

    with pytest.raises(Refused, match=r"posix\.system") as caught:
        load(folder)

    assert caught.value.code == "unsafe-pickle"
    assert caught.value.details["global"] == "posix.system"
    assert "skops" in (caught.value.hint or "")
    assert not marker.exists()


@framework
def test_a_library_version_that_differs_is_a_log_line_not_an_error(
    load: Load, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from sklearn.linear_model import LinearRegression

    model = LinearRegression().fit(np.eye(2), [1, 2])
    data = pickle.dumps(model)
    import sklearn

    version = sklearn.__version__.encode()
    assert data.count(version) == 1
    (tmp_path / "m.pkl").write_bytes(data.replace(version, b"1.0.0"[: len(version)].ljust(len(version), b"0")))

    assert load(tmp_path).coef_.shape == (2,)
    assert "Trying to unpickle estimator LinearRegression" in caplog.text


@framework
def test_an_mlflow_model_is_loaded_by_the_loader_of_what_it_holds(load: Load, tmp_path: Path) -> None:
    import skops.io
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    text = (
        "flavors:\n  python_function:\n    loader_module: os.path\n    model_path: model.skops\n"
        "  sklearn:\n    pickled_model: model.skops\n    sklearn_version: 1.9.1\n    serialization_format: skops\n"
        "mlflow_version: 3.1.0\n"
    )
    (tmp_path / "MLmodel").write_text(text)
    skops.io.dump(model, tmp_path / "model.skops")

    loaded = load(tmp_path)

    assert loaded.predict([[0.0], [1.0]]).tolist() == [0, 1]


def test_an_mlflow_model_that_is_python_code_is_refused(load: Load, tmp_path: Path) -> None:
    text = "flavors:\n  python_function:\n    loader_module: evil\n    code: code\nmlflow_version: 3.1.0\n"
    (tmp_path / "MLmodel").write_text(text)
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "evil.py").write_text("")

    with pytest.raises(Refused) as caught:
        load(tmp_path)

    assert caught.value.code == "custom-code"
    assert "evil" not in sys.modules


def _description(form: str, *paths: str) -> Description:
    return Description(format=form, paths=paths)


def _inspection(*descriptions: Description) -> Inspection:
    sizes = {path: 1 for found in descriptions for path in found.paths}
    return Inspection(descriptions, (), (), sizes)


def test_the_leading_description_is_loaded_although_others_could_be() -> None:
    inspection = _inspection(_description("transformers", "config.json"), _description("safetensors", "w.safetensors"))

    loader, description = choose_loader(inspection)

    assert description.format == "transformers"
    assert "transformers" in loader.formats


def test_a_description_without_a_loader_gives_way_to_one_with() -> None:
    inspection = _inspection(_description("coreml", "a.mlmodel"), _description("onnx", "a.onnx"))

    assert choose_loader(inspection)[1].format == "onnx"


def test_several_models_of_one_format_are_not_guessed_among() -> None:
    inspection = _inspection(_description("joblib", "model.joblib"), _description("joblib", "vectorizer.joblib"))

    with pytest.raises(InvalidInput, match=r"model\.joblib, vectorizer\.joblib") as caught:
        choose_loader(inspection)

    assert caught.value.code == "ambiguous-model"
    assert choose_loader(inspection, part="vectorizer.joblib")[1].paths == ("vectorizer.joblib",)


def test_a_part_that_is_not_there_is_not_found() -> None:
    with pytest.raises(NotFound) as caught:
        choose_loader(_inspection(_description("joblib", "a")), part="b")

    assert caught.value.code == "part-not-found"


@pytest.mark.parametrize(("formats", "message"), [((), "nothing here"), (("coreml", "openvino"), "coreml, openvino")])
def test_what_has_no_loader_says_what_can_be_done_with_it(formats: tuple[str, ...], message: str) -> None:
    inspection = _inspection(*(_description(form, f"{form}.x") for form in formats))

    with pytest.raises(NotFound, match=message) as caught:
        choose_loader(inspection)

    assert caught.value.code == "no-loader"
    assert "assay.pull" in (caught.value.hint or "")


def test_a_missing_framework_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    (tmp_path / "m.onnx").write_bytes(b"")
    description = _description("onnx", "m.onnx")
    loader, _ = choose_loader(_inspection(description))

    with pytest.raises(MissingDependency, match="onnxruntime") as caught:
        loader.load(tmp_path, description, [description])

    assert caught.value.hint == "pip install 'assay[onnx]'"


@pytest.mark.parametrize("path", ["../secret.npz", "/etc/passwd"])
def test_a_path_that_leaves_the_folder_is_refused(path: str, tmp_path: Path) -> None:
    description = _description("npz", path)
    loader, _ = choose_loader(_inspection(description))

    with pytest.raises(Refused, match="leaves the artifact"):
        loader.load(tmp_path, description, [description])


def test_an_unknown_object_is_not_saved_and_the_hint_says_push_the_path() -> None:
    for value in (object(), {}, {"a": 1}, [1], "text", 3):
        with pytest.raises(InvalidInput) as caught:
            choose_saver(value)
        assert caught.value.code == "unknown-model"
        assert "push the path" in (caught.value.hint or "")


def test_every_loader_and_saver_keeps_its_port_and_no_two_claim_a_format() -> None:
    formats = [form for loader in all_loaders() for form in loader.formats]

    assert all(isinstance(loader, Loader) for loader in all_loaders())
    assert all(isinstance(saver, Saver) for saver in all_savers())
    assert len(formats) == len(set(formats))


def test_every_format_a_loader_names_exists() -> None:
    from assay.formats.registry import all_formats

    known = {form.name for form in all_formats()}

    assert {form for loader in all_loaders() for form in loader.formats} <= known


def test_a_plugin_is_found_by_its_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import EntryPoint

    from assay.loaders import registry
    from assay.ports import plugins

    class Mine:
        formats = ("mine",)

        def load(self, folder: Path, description: Description, descriptions: object) -> object:
            return "mine"

    class Broken:
        pass

    points = [EntryPoint("mine", "tests", "assay.loaders"), EntryPoint("broken", "tests", "assay.loaders")]
    monkeypatch.setattr(EntryPoint, "load", lambda self: Mine if self.name == "mine" else Broken)
    monkeypatch.setattr(plugins, "entry_points", lambda group: points if group == "assay.loaders" else [])
    registry.all_loaders.cache_clear()
    try:
        with pytest.warns(UserWarning, match="broken .* is left out"):
            loaders = registry.all_loaders()
    finally:
        registry.all_loaders.cache_clear()

    assert isinstance(loaders[-1], Mine)


def test_asking_about_objects_imports_no_framework() -> None:
    import subprocess

    code = (
        "import sys\nfrom assay.loaders.registry import all_loaders, all_savers\nall_loaders()\n"
        "[saver.accepts(object()) for saver in all_savers()]\n"
        "names = 'torch sklearn onnx onnxruntime tensorflow keras transformers xgboost lightgbm safetensors skops joblib'\n"
        "print([name for name in names.split() if name in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
