"""Models that reach for files, the network or Python through what their framework offers are refused before it runs."""

from __future__ import annotations

import json
import shutil
import socket
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from assay.errors import BadFormat, CouldNot, MissingDependency, Refused

Load = Callable[[Path], Any]

pytestmark = [pytest.mark.framework, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    made.mkdir()
    return made


# TorchScript --------------------------------------------------------------------------------------------------------

PLAIN = "torch.add(x, x)"


def scripted(file: Path, returned: str) -> None:
    """A scripted module whose stored source is changed to return *returned*."""
    import torch

    class Double(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.add(x, x)

    torch.jit.save(torch.jit.script(Double()), str(file))
    rewritten = file.with_suffix(".new")
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(rewritten, "w") as new:
        for member in old.namelist():
            data = old.read(member)
            if member.endswith(".py"):
                assert PLAIN.encode() in data
                data = data.replace(PLAIN.encode(), returned.encode())
            new.writestr(member, data)
    rewritten.rename(file)


@pytest.mark.parametrize(
    "call",
    [
        'torch.from_file("{marker}", True, 4)',
        'torch . # a comment\n from_file ("{marker}", True, 4)',
        'ops.aten.save(x, "{marker}")',
        'ops.prim.rpc_sync("worker", "{marker}")',
    ],
)
def test_torchscript_that_names_operators_reaching_beyond_tensors_is_refused(
    call: str, load: Load, folder: Path, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    scripted(folder / "m.pt", call.replace("{marker}", str(marker)))

    with pytest.raises(Refused) as caught:
        load(folder)

    assert caught.value.details["rule"] == "torchscript-reaching-op"
    assert not marker.exists()


def test_torchscript_that_maps_a_file_while_it_is_loaded_gets_none(load: Load, folder: Path, tmp_path: Path) -> None:
    import torch

    class Sleeper(torch.nn.Module):
        def __init__(self, path: str) -> None:
            super().__init__()
            self.path = path
            self.x = torch.ones(2)

        @torch.jit.export
        def __getstate__(self) -> tuple[torch.Tensor, str, bool]:
            return (self.x, self.path, self.training)

        @torch.jit.export
        def __setstate__(self, state: tuple[torch.Tensor, str, bool]) -> None:
            self.path = state[1]
            self.x = torch.from_file(self.path, True, 4)
            self.training = state[2]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.x

    marker = tmp_path / "marker"
    torch.jit.save(torch.jit.script(Sleeper(str(marker))), str(folder / "m.pt"))
    marker.unlink(missing_ok=True)

    with pytest.raises(Refused):
        load(folder)

    assert not marker.exists()


def test_torchscript_that_only_computes_loads(load: Load, folder: Path) -> None:
    import torch

    scripted(folder / "m.pt", PLAIN)

    assert load(folder)(torch.ones(2)).tolist() == [2.0, 2.0]


# Hugging Face -------------------------------------------------------------------------------------------------------


def bert(folder: Path) -> None:
    from transformers import BertConfig, BertModel

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=10, **sizes)).save_pretrained(folder)


@pytest.mark.parametrize("absolute", [True, False])
def test_an_index_that_names_weights_outside_the_folder_is_refused(
    absolute: bool, load: Load, folder: Path, tmp_path: Path
) -> None:
    from safetensors import safe_open

    bert(folder)
    outside = tmp_path / "outside.safetensors"
    (folder / "model.safetensors").rename(outside)
    with safe_open(outside, "np") as tensors:
        names = list(tensors.keys())
    where = str(outside) if absolute else "../outside.safetensors"
    index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(names, where)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    with pytest.raises(Refused) as caught:
        load(folder)

    assert caught.value.code == "path-escape"


@pytest.mark.parametrize("key", ["vocab", "vocab_file", "merges_file", "fast_tokenizer_files", "init_inputs"])
def test_a_tokenizer_whose_settings_name_files_elsewhere_is_refused(key: str, folder: Path, tmp_path: Path) -> None:
    from assay.loaders.transformers import check_settings

    secret = tmp_path / "tokenizer.1.json"
    secret.write_text("secret")
    value = str(secret) if key in ("vocab", "vocab_file", "merges_file") else [str(secret)]
    (folder / "tokenizer_config.json").write_text(json.dumps({key: value}))

    with pytest.raises(Refused) as caught:
        check_settings(folder)

    assert caught.value.code == "path-escape"


def test_where_a_tokenizer_lay_on_the_machine_that_saved_it_does_not_matter(folder: Path) -> None:
    from assay.loaders.transformers import check_settings

    stale = {"tokenizer_file": "/gone/elsewhere/tokenizer.json", "special_tokens_map_file": "/no/such/map.json"}
    (folder / "tokenizer_config.json").write_text(json.dumps(stale))

    check_settings(folder)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("config.json", {"activation_function": "torch.utils.collect_env.main"}),
        ("config.json", {"sentence_transformers": {"activation_fn": "torch.utils.collect_env.main"}}),
        ("config.json", {"sbert_ce_default_activation_function": "os.getcwd"}),
        ("whitespacetokenizer_config.json", {"tokenizer_class": "antigravity.geohash"}),
    ],
)
def test_settings_that_make_sentence_transformers_call_what_they_name_are_refused(
    name: str, settings: dict[str, Any], load: Load, folder: Path
) -> None:
    modules = [{"idx": 0, "name": "0", "path": "0", "type": "sentence_transformers.models.Dense"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "config_sentence_transformers.json").write_text("{}")
    (folder / "0").mkdir()
    (folder / "0" / name).write_text(json.dumps({"in_features": 2, "out_features": 2, **settings}))

    with pytest.raises(Refused) as caught:
        load(folder)

    assert caught.value.code in {"custom-code", "unsafe-model"}


@pytest.mark.parametrize(
    "kind",
    ["sentence_transformers.util.torch", "sentence_transformers.SentenceTransformer", "sentence_transformers.x.Y"],
)
def test_modules_that_are_no_layers_of_sentence_transformers_are_refused(kind: str, load: Load, folder: Path) -> None:
    (folder / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": kind}]))
    (folder / "config_sentence_transformers.json").write_text("{}")

    with pytest.raises((Refused, BadFormat)) as caught:
        load(folder)

    assert caught.value.code in {"custom-code", "library-mismatch", "unsafe-model"}


def routed(folder: Path, types: dict[str, str], file: str = "router_config.json") -> Path:
    """A router whose modules are of these classes; the folder of the model has a module's settings in ``inner``."""
    modules = [{"idx": 0, "name": "0", "path": "0", "type": "sentence_transformers.models.Router"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "config_sentence_transformers.json").write_text("{}")
    (folder / "0" / "inner").mkdir(parents=True)
    (folder / "0" / file).write_text(json.dumps({"types": types, "structure": {"query": [*types]}, "parameters": {}}))
    return folder / "0" / "inner"


@pytest.mark.parametrize("file", ["router_config.json", "config.json"])
@pytest.mark.parametrize(
    "types",
    [
        {"inner": "joblib._store_backends.numpy_pickle"},
        {"../../../blobs/ab": "sentence_transformers.models.Dense"},
        {"/elsewhere": "sentence_transformers.models.Dense"},
        {"inner": "sentence_transformers.util.torch"},
    ],
)
def test_modules_inside_a_module_are_refused_like_those_of_the_list(
    file: str, types: dict[str, str], folder: Path
) -> None:
    routed(folder, types, file)

    with pytest.raises((Refused, BadFormat)) as caught:
        load_sentences(folder)

    assert caught.value.code in {"custom-code", "path-escape", "library-mismatch"}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("config.json", {"activation_function": "torch.utils.collect_env.main"}),
        ("router_config.json", {"types": {"x": "os.path"}}),
        ("config.json", {"text_config": {"trust_remote_code": True}}),
    ],
)
def test_settings_of_modules_inside_a_module_are_looked_through(
    name: str, settings: dict[str, Any], folder: Path
) -> None:
    inner = routed(folder, {"inner": "sentence_transformers.models.Dense"})
    (inner / name).write_text(json.dumps(settings))

    with pytest.raises(Refused) as caught:
        load_sentences(folder)

    assert caught.value.code == "custom-code"


def test_settings_too_long_to_be_looked_through_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    routed(folder, {"inner": "os.path"})
    monkeypatch.setattr("assay.loaders.sentence_transformers.MAX_SETTINGS", 40)

    with pytest.raises(BadFormat, match="more than 40 bytes"):
        load_sentences(folder)


def test_a_library_that_imports_whatever_a_folder_names_is_not_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    routed(folder, {"inner": "sentence_transformers.models.Dense"})
    library = SimpleNamespace(__version__="5.1.0")
    monkeypatch.setattr("assay.loaders.sentence_transformers.need", lambda *given, **named: library)

    with pytest.raises(MissingDependency, match=r"6\.0 is needed .* found 5.1.0"):
        load_sentences(folder)


def load_sentences(folder: Path) -> object:
    """By the loader alone, whatever the formats find."""
    from assay.loaders.sentence_transformers import SentenceTransformersLoader
    from assay.spec.description import Description

    described = Description(format="sentence-transformers", paths=("modules.json", "config_sentence_transformers.json"))
    return SentenceTransformersLoader().load(folder, described, [described])


# Keras --------------------------------------------------------------------------------------------------------------


def keras_model(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """A model of one activation whose configuration is changed."""
    import keras

    given = keras.Input((1000,))
    keras.Model(given, keras.layers.Activation("relu")(given)).save(folder / "old.keras")
    with zipfile.ZipFile(folder / "old.keras") as old, zipfile.ZipFile(folder / "m.keras", "w") as new:
        for member in old.namelist():
            data = old.read(member)
            new.writestr(member, json.dumps(change(json.loads(data))) if member == "config.json" else data)
    (folder / "old.keras").unlink()


def with_activation(config: dict[str, Any], module: str, name: str) -> dict[str, Any]:
    function = {"class_name": "function", "module": module, "config": name, "registered_name": name}
    for layer in config["config"]["layers"]:
        if layer["class_name"] == "Activation":
            layer["config"]["activation"] = function
    return config


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("keras.applications.vgg16", "decode_predictions"),
        ("keras.datasets.mnist", "load_data"),
        ("keras.src.utils.file_utils", "extract_archive"),
        ("tensorflow.keras.utils", "text_dataset_from_directory"),
    ],
)
def test_a_keras_function_that_fetches_or_reads_is_refused(
    module: str, name: str, load: Load, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached: list[object] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *given, **_: reached.append(given))
    keras_model(folder, lambda config: with_activation(config, module, name))

    with pytest.raises(Refused) as caught:
        load(folder)

    assert caught.value.details["rule"] == "keras-dangerous-function"
    assert reached == []


def test_a_harmful_object_behind_many_harmless_ones_is_refused(load: Load, folder: Path) -> None:
    custom = [{"class_name": f"mine>A{number}", "config": {}} for number in range(300)]
    keras_model(folder, lambda config: {"a": custom, **with_activation(config, "keras.utils", "get_file")})

    with pytest.raises(Refused) as caught:
        load(folder)

    assert caught.value.code == "unsafe-model"


@pytest.mark.parametrize("module", ["keras.activations", "keras.ops", "builtins"])
def test_a_keras_function_that_computes_loads(module: str, load: Load, folder: Path) -> None:
    keras_model(folder, lambda config: with_activation(config, module, "relu"))

    assert load(folder).predict(np.ones((1, 1000)), verbose=0).shape == (1, 1000)


# Libraries that are known not to keep their promise -------------------------------------------------------------------


def test_a_skops_that_builds_other_types_than_it_lists_is_not_used(
    load: Load, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import skops
    import skops.io
    from sklearn.linear_model import LinearRegression

    skops.io.dump(LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0]), folder / "m.skops")
    load(folder)
    monkeypatch.setattr(skops, "__version__", "0.11.0")

    with pytest.raises(CouldNot) as caught:
        load(folder)

    assert caught.value.code == "unsafe-library"


def test_a_booster_that_could_not_be_read_whole_is_not_given_to_its_library(load: Load, folder: Path) -> None:
    import lightgbm

    data = np.arange(200.0).reshape(100, 2)
    booster = lightgbm.train({"verbose": -1}, lightgbm.Dataset(data, data[:, 0]), 3)
    booster.save_model(folder / "m.txt")
    whole = (folder / "m.txt").read_bytes()
    (folder / "m.txt").write_bytes(whole[: whole.index(b"Tree=2")])

    with pytest.raises(Refused) as caught:
        load(folder)

    assert caught.value.code == "unsafe-model"
    shutil.rmtree(folder)


def test_a_binding_that_runs_chat_templates_unconfined_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    from assay.loaders.gguf import GgufLoader
    from assay.spec.description import Description

    monkeypatch.setitem(sys.modules, "llama_cpp", SimpleNamespace(__version__="0.2.71"))  # type: ignore[arg-type] # enough
    (tmp_path / "m.gguf").write_bytes(b"GGUF")

    with pytest.raises(CouldNot) as caught:
        GgufLoader().load(tmp_path, Description(format="gguf", paths=("m.gguf",)), ())

    assert caught.value.code == "unsafe-library"
