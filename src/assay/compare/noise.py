"""What libraries and clocks leave in files beside the model: told, and told apart from change.

A place is noise only when its name says so *and* what stands there looks like it: a key called ``created`` that holds
a number of layers is a setting. Names that mean something elsewhere are noise in stated files alone.
"""

from __future__ import annotations

import re
from posixpath import basename

from assay.compare.values import Change

STAMPS: dict[str, str] = {
    **dict.fromkeys(
        (
            "transformers_version", "_diffusers_version", "peft_version", "sentence_transformers_version",
            "adapter_transformers_version", "_sklearn_version", "sklearn_version", "_skops_version", "skops_version",
            "mlflow_version", "keras_version", "_keras_version", "tensorflow_version", "tf_version", "torch_version",
            "pytorch_version", "pytorch-lightning_version", "lightning_version", "onnx_version", "numpy_version",
            "pandas_version", "xgb_version", "xgboost_version", "lgb_version", "lightgbm_version", "catboost_version",
            "spacy_version", "spacy_git_version", "python_version", "databricks_runtime", "producer_version",
            "_pandas_version", "_xgboost_version", "library_version", "cloudpickle_version", "joblib_version",
        ),
        "a library's own stamp",
    ),
    **dict.fromkeys(
        ("run_id", "model_uuid", "model_id", "experiment_id", "_commit_hash", "_id", "uuid", "artifact_uid"),
        "an id of the run or of the file",
    ),
    **dict.fromkeys(("utc_time_created", "date_saved", "timestamp", "created_at", "saved_at"), "a time"),
    **dict.fromkeys(("model_size_bytes", "total_size"), "a size, which follows from the content"),
    "_stop_words_id": "an address in the memory of the process that saved it",
    "_name_or_path": "where it was loaded from when it was saved",
    "_from_model_config": "where the settings came from",
}  # fmt: skip
"""Names that are noise in every document, to why; only scalars under them count."""

LOCAL: dict[str, dict[str, str]] = {
    "tokenizer_config.json": {
        "name_or_path": "where it was loaded from when it was saved",
        "tokenizer_file": "a path on the machine that saved it",
        "special_tokens_map_file": "a path on the machine that saved it",
        "is_local": "where it was loaded from when it was saved",
        "local_files_only": "where it was loaded from when it was saved",
    },
    "config.json": {"_attn_implementation_autoset": "how it was run when it was saved"},
    "adapter_config.json": {"inference_mode": "whether training goes on; set anew by whoever loads it"},
    "config_sentence_transformers.json": {"__version__": "a library's own stamp"},
    "MLmodel": {
        "artifact_path": "where the run kept it",
        "saved_input_example_info": "about an example that is kept beside it",
        "prompts": "kept beside the model, and not used by it",
    },
    "meta.json": {
        **dict.fromkeys(("author", "email", "url", "description", "parent_package"), "about the package"),
        **dict.fromkeys(("name", "version"), "the package's own name and number"),
        "license": "a licence changes what may be done with a model, not what it computes",
        "sources": "what it was trained on",
        "performance": "what was measured does not change what is computed",
    },
    "metadata.json": {"git_sha": "of the code that saved it"},
}
"""Names that are noise in one file only; whatever stands under them counts."""

_TIMES = re.compile(r"(?:^|_)(?:created|created_at|timestamp|date|datetime|time|modified|saved|saved_at|updated_at)$")
_CHECKSUMS = re.compile(r"(?:^|_)(?:sha\d*|sha256sum|md5|checksum|digest|hash|commit|guid|uuid)$")
_LIBRARIES = re.compile(
    r"^_?(?:torch|pytorch|tensorflow|tf|keras|onnx|onnxruntime|numpy|scipy|sklearn|scikit_learn|pandas|xgboost|lightgbm|"
    r"catboost|transformers|tokenizers|safetensors|diffusers|peft|python|cuda|mlflow|joblib|cloudpickle|spacy|"
    r"sentence_transformers|accelerate|exporter|generator)_?version$"
)
_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d.*)?|\d{10}(\.\d+)?|\d{13}|\w{3} \w{3} +\d+ \d\d:\d\d:\d\d.*\d{4}")
_HEX = re.compile(r"(?:sha\d+[:-])?[0-9a-fA-F]{7,128}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_VERSION = re.compile(r"v?\d+(?:\.\d+)*(?:[.+-]?[0-9A-Za-z]+)*")


def noise(path: str, change: Change) -> str | None:
    """Why a change in a document is noise; None when it may mean something."""
    names = [key for key in change.keys if isinstance(key, str)]
    if not names:
        return None
    local = LOCAL.get(basename(path), {})
    for name in names:
        if name in local:
            return local[name]
    last = names[-1] if change.keys[-1] == names[-1] else ""
    values = [value for value in (change.old, change.new) if value is not None]
    if any(isinstance(value, (dict, list, tuple)) for value in values):
        return None
    return STAMPS.get(last) or _looks(last.lower(), values)


def _looks(name: str, values: list[object]) -> str | None:
    """What a name and the values under it agree on."""
    texts = [str(value) for value in values]
    for names, shape, why in (
        (_TIMES, _DATE, "a time"),
        (_CHECKSUMS, _HEX, "a checksum or an id, which follows from something else"),
        (_LIBRARIES, _VERSION, "a library's own stamp"),
    ):
        if names.search(name) and texts and all(shape.fullmatch(text) for text in texts):
            return why
    return None
