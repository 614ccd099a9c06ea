"""The fixed path table of manifest profile 1: what an entry is, judged by its path alone.

This is identity, not understanding: content is never looked at, and **no line may change once released**. A file that
the table misjudges is still stored, described and loaded the same; only its layer's media type is plain.

Kinds are those of ModelPack: ``weight.config`` (settings a model needs), ``weight``, ``code``, ``doc``, ``dataset``.
"""

from __future__ import annotations

from collections.abc import Iterable
from posixpath import basename, splitext

KINDS = ("weight.config", "weight", "code", "doc", "dataset")
"""Layer kinds in manifest order (the order ModelPack's reference tool uses, data sets last)."""

_WEIGHTS = {
    ".safetensors": "safetensors",
    ".gguf": "gguf",
    ".onnx": "onnx",
    ".pt": "pt",
    ".pth": "pt",
    ".pt2": "pt",
    ".ckpt": "pt",
    ".jit": "pt",
    ".ptl": "pt",
    ".bin": "bin",
    ".h5": "h5",
    ".hdf5": "h5",
    ".keras": "keras",
    ".pb": "pb",
    ".tflite": "tflite",
    ".pkl": "pickle",
    ".pickle": "pickle",
    ".joblib": "joblib",
    ".skops": "skops",
    ".ubj": "xgboost",
    ".xgb": "xgboost",
    ".cbm": "catboost",
    ".mlmodel": "coreml",
    ".npz": "npz",
    ".npy": "npy",
    ".msgpack": "msgpack",
    ".ftz": "fasttext",
    ".ggml": "ggml",
    ".model": "",
    ".index": "",
    ".meta": "",
    ".tar": "",
    ".dat": "",
    ".db": "",
    ".engine": "tensorrt",
    ".nemo": "nemo",
    ".mar": "torchserve",
    ".zip": "",
}
_CONFIG = frozenset(
    ".json .jsonl .yaml .yml .toml .ini .cfg .conf .xml .jinja .jinja2 .txt .vocab .merges .properties .spm "
    ".pbtxt .prototxt .lock".split()
)
_CODE = frozenset(
    ".py .ipynb .sh .bash .c .cc .cpp .cu .cuh .h .hpp .java .js .ts .go .rs .jl .r .lua .scala .so .dll .dylib".split()
)
_DOC = frozenset(".md .markdown .rst .pdf .html .htm .png .jpg .jpeg .gif .svg .webp .docx .bib .adoc .log".split())
_DATASET = frozenset(".csv .tsv .parquet .arrow .feather .avro .tfrecord .tfrecords .mds".split())
_DOC_NAMES = frozenset(
    "readme license licence notice copying authors changelog contributing citation.cff model_card usage".split()
)
_CONFIG_NAMES = frozenset("mlmodel manifest.json vocab.txt merges.txt requirements.txt checkpoint modelfile".split())
_FORMAT_ORDER = tuple(dict.fromkeys(name for name in _WEIGHTS.values() if name))


def kind_of(path: str) -> str:
    """The layer kind of an entry.

    >>> kind_of("model.safetensors"), kind_of("tokenizer/vocab.txt"), kind_of("LICENSE"), kind_of("weights")
    ('weight', 'weight.config', 'doc', 'weight')
    """
    name = basename(path).lower()
    stem, suffix = splitext(name)
    if name in _CONFIG_NAMES or name.startswith("."):
        return "weight" if suffix in _WEIGHTS or name.startswith(".data-") else "weight.config"
    if name in _DOC_NAMES or stem in _DOC_NAMES:
        return "doc"
    for kind, suffixes in (("weight.config", _CONFIG), ("code", _CODE), ("doc", _DOC), ("dataset", _DATASET)):
        if suffix in suffixes:
            return kind
    return "weight"


def model_format(paths: Iterable[str]) -> str | None:
    """The value of ``config.format``: the first format of the table that a weight entry's suffix names.

    >>> model_format(["config.json", "pytorch_model.bin", "model.safetensors"])
    'safetensors'
    """
    suffixes = {splitext(basename(path).lower())[1] for path in paths if kind_of(path) == "weight"}
    found = {_WEIGHTS[suffix] for suffix in suffixes if _WEIGHTS.get(suffix)}
    return next((name for name in _FORMAT_ORDER if name in found), None)
