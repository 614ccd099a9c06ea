"""A transformers ``config.json``: architecture, task, settings, labels, and the signature they imply."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from assay.containers.documents import plain
from assay.formats.huggingface.code import report_class, report_code
from assay.formats.huggingface.folder import Folder
from assay.spec.description import Port
from assay.spec.finding import Severity
from assay.spec.json import Json

MAX_LABELS = 25_000
"""Labels kept; the largest image classifiers have 21,843."""

_TASKS = {
    # how a class of transformers ends, and the hub's word for what it does
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForMultipleChoice": "multiple-choice",
    "ForNextSentencePrediction": "next-sentence-prediction",
    "ForMaskedLM": "fill-mask",
    "ForCausalLM": "text-generation",
    "LMHeadModel": "text-generation",
    "ForImageClassification": "image-classification",
    "ForZeroShotImageClassification": "zero-shot-image-classification",
    "ForObjectDetection": "object-detection",
    "ForSemanticSegmentation": "image-segmentation",
    "ForInstanceSegmentation": "image-segmentation",
    "ForUniversalSegmentation": "image-segmentation",
    "ForDepthEstimation": "depth-estimation",
    "ForVideoClassification": "video-classification",
    "ForAudioClassification": "audio-classification",
    "ForCTC": "automatic-speech-recognition",
    "ForSpeechSeq2Seq": "automatic-speech-recognition",
    "ForTextToWaveform": "text-to-audio",
    "ForTextToSpeech": "text-to-speech",
    "ForVisualQuestionAnswering": "visual-question-answering",
    "ForDocumentQuestionAnswering": "document-question-answering",
    "ForTableQuestionAnswering": "table-question-answering",
    "ForTimeSeriesPrediction": "time-series-forecasting",
    "Model": "feature-extraction",
}
_FIRST_RELEASES = {"hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "output_attentions"}
_SPEECH = {"whisper", "speech_to_text", "speech-encoder-decoder", "moonshine"}
_ELSEWHERE = {
    "architectures",
    "auto_map",
    "custom_pipelines",
    "id2label",
    "label2id",
    "model_type",
    "transformers_version",
    "torch_dtype",
    "dtype",
    "_name_or_path",
}
_WITH_LABELS = {"text-classification", "token-classification", "image-classification", "audio-classification"}
_PER_TOKEN = {"token-classification"}
_WITH_VOCABULARY = {"text-generation", "fill-mask", "text2text-generation"}


@dataclass(slots=True)
class Config:
    """What ``config.json`` and ``generation_config.json`` say; empty where they say nothing."""

    architecture: str | None = None
    task: str | None = None
    version: str | None = None
    hyperparameters: dict[str, Json] = field(default_factory=dict)
    inputs: tuple[Port, ...] = ()
    outputs: tuple[Port, ...] = ()
    metadata: dict[str, Json] = field(default_factory=dict)


def is_config(config: Mapping[str, Json]) -> bool:
    """Whether a ``config.json`` is one of transformers."""
    if isinstance(config.get("model_type"), str) or isinstance(config.get("transformers_version"), str):
        return "_diffusers_version" not in config
    if "_class_name" in config:
        return False
    # The first releases named neither class nor type; these settings together are theirs alone.
    return bool(_names(config.get("architectures"))) or config.keys() >= _FIRST_RELEASES


def read_config(folder: Folder, *, task: str | None = None) -> Config:
    """Understand the configuration in *folder*; a *task* stated elsewhere wins over the one the class implies."""
    raw = folder.object("config.json")
    report_code(folder, "config.json", raw)
    architectures = _names(raw.get("architectures"))
    model_type = raw.get("model_type")
    config = Config(version=_version(raw.get("transformers_version")))
    config.architecture = architectures[0] if architectures else model_type if isinstance(model_type, str) else None
    if config.architecture is None:
        folder.report("no-architecture", Severity.NOTE, "the configuration names no architecture", "config.json")
    config.task = task or _task(architectures, model_type, raw)
    config.hyperparameters = {
        key[:200]: plain(value) for key, value in raw.items() if key not in _ELSEWHERE and value is not None
    }
    dtype = raw.get("dtype") or raw.get("torch_dtype")
    metadata = config.metadata
    if isinstance(model_type, str):
        metadata["model_type"] = model_type[:200]
    if len(architectures) > 1:
        metadata["architectures"] = plain(architectures)
    if isinstance(dtype, str):
        metadata["dtype"] = dtype.removeprefix("torch.")[:40]
    if isinstance(raw.get("_name_or_path"), str) and raw["_name_or_path"]:
        metadata["name_or_path"] = plain(raw["_name_or_path"])
    labels = _labels(raw.get("id2label"))
    if labels and not all(re.fullmatch(r"LABEL_\d+", label) for label in labels):
        metadata["class_names"] = plain(labels, text=200, items=MAX_LABELS)
    quantization = raw.get("quantization_config")
    if isinstance(quantization, Mapping):
        metadata["quantization"] = plain(quantization.get("quant_method") or quantization.get("quant_type"))
    generation = folder.object("generation_config.json")
    if generation:
        metadata["generation"] = plain(generation)
    _report_cross_encoder(folder, raw)
    config.inputs, config.outputs = _ports(config, raw, len(labels))
    return config


def _task(architectures: Sequence[str], model_type: Json, raw: Mapping[str, Json]) -> str | None:
    for name in architectures:
        if name.endswith("ForConditionalGeneration"):
            if model_type in _SPEECH:
                return "automatic-speech-recognition"
            return "image-text-to-text" if "vision_config" in raw else "text2text-generation"
        for ending, task in _TASKS.items():
            if name.endswith(ending):
                return task
    return None


def _labels(value: Json) -> list[str]:
    """Label names in the order of their ids."""
    if not isinstance(value, Mapping):
        return []
    numbered = [(int(key), str(label)) for key, label in value.items() if key.isascii() and key.isdigit()]
    return [label for _, label in sorted(numbered)[:MAX_LABELS]]


def _ports(config: Config, raw: Mapping[str, Json], labels: int) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """The signature of the common classes: tokens or pixels in, logits or hidden states out."""
    dtype = str(config.metadata.get("dtype", "float32"))
    inputs: tuple[Port, ...] = ()
    image = raw.get("image_size")
    sizes = [size for size in (image if isinstance(image, list) else [image, image]) if type(size) is int]
    if isinstance(raw.get("vocab_size"), int) and "vision_config" not in raw:
        inputs = (
            Port("input_ids", "int64", ("batch", "sequence")),
            Port("attention_mask", "int64", ("batch", "sequence")),
        )
    elif len(sizes) == 2:
        channels = raw.get("num_channels", 3)
        inputs = (Port("pixel_values", dtype, ("batch", channels if isinstance(channels, int) else None, *sizes)),)
    outputs: tuple[Port, ...] = ()
    width: Json = None
    if config.task in _WITH_LABELS:
        # Old files keep the library's two default labels beside a count that is right.
        width = raw.get("num_labels") or labels or 2
    elif config.task in _WITH_VOCABULARY:
        width = raw.get("vocab_size")
    if isinstance(width, int):
        per_token = config.task in _PER_TOKEN | _WITH_VOCABULARY
        outputs = (Port("logits", dtype, ("batch", "sequence", width) if per_token else ("batch", width)),)
    hidden = raw.get("hidden_size")
    if config.task == "feature-extraction" and inputs and isinstance(hidden, int):
        outputs = (Port("last_hidden_state", dtype, ("batch", "sequence", hidden)),)
    return inputs, outputs


def _report_cross_encoder(folder: Folder, raw: Mapping[str, Json]) -> None:
    """A cross encoder's activation is a dotted name that is imported."""
    settings = raw.get("sentence_transformers")
    named = settings.get("activation_fn") if isinstance(settings, Mapping) else None
    for name in (named, raw.get("sbert_ce_default_activation_function")):
        if isinstance(name, str):
            report_class(folder, "config.json", "activation", name)


def _names(value: Json) -> list[str]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        return []
    return [item[:200] for item in value[:16] if isinstance(item, str) and item]


def _version(value: Json) -> str | None:
    return value[:60] if isinstance(value, str) and value else None
