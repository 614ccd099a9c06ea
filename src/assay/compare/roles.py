"""What a file is for, judged by its name, where that alone decides whether it can change behaviour."""

from __future__ import annotations

import re
from posixpath import basename

from assay.compare.gathering import Judgement
from assay.spec.changes import Area, Effect
from assay.spec.kinds import kind_of

_TRAINING = "used only to go on training"
_LOG = "what training wrote down about itself"
_TEXT = r"\.(?:md|markdown|txt|rst|html?|pdf|adoc)"
"""Endings of files that people read; a text for people by another name may be a prompt."""
_ABOUT = "about the model; nothing that runs it reads it"

_NAMED: dict[str, Judgement] = {
    **dict.fromkeys(
        ("optimizer.pt", "optimizer.bin", "scheduler.pt", "scheduler.bin", "scaler.pt", "rng_state.pth"),
        Judgement(Area.FILES, Effect.NOTE, _TRAINING),
    ),
    "training_args.bin": Judgement(Area.PARAMS, Effect.NOTE, _TRAINING),
    **dict.fromkeys(
        ("trainer_state.json", "training_args.json", "train_args.json"), Judgement(Area.PARAMS, Effect.NOTE, _LOG)
    ),
    **dict.fromkeys(
        ("all_results.json", "train_results.json", "eval_results.json", "test_results.json", "eval_results.txt"),
        Judgement(Area.METRICS, Effect.NOTE, "what was measured does not change what is computed"),
    ),
    **dict.fromkeys(
        (".gitattributes", ".gitignore", ".assayignore", ".ds_store", ".gitkeep"),
        Judgement(Area.FILES, Effect.NOTE, "for tools that keep files, not for the model"),
    ),
    **dict.fromkeys(
        ("input_example.json", "serving_input_example.json", "serving_input_payload.json"),
        Judgement(Area.METADATA, Effect.NOTE, "an example kept beside the model"),
    ),
    "data_config.json": Judgement(Area.PARAMS, Effect.NOTE, "which data it was trained on"),
    "fingerprint.pb": Judgement(Area.METADATA, Effect.NOTE, "checksums that follow from the content"),
    "registered_model_meta": Judgement(Area.METADATA, Effect.NOTE, "where it was registered"),
}
_PATTERNS: tuple[tuple[re.Pattern[str], Judgement], ...] = (
    (re.compile(r"rng_state_\d+\.pth"), Judgement(Area.FILES, Effect.NOTE, _TRAINING)),
    (re.compile(r"events\.out\.tfevents\..*"), Judgement(Area.FILES, Effect.NOTE, _LOG)),
    (
        re.compile(r".*\.log|(?:train|training)[_-]?(?:log|history)s?\.(?:tsv|csv|txt)|history\.(?:tsv|csv)"),
        Judgement(Area.FILES, Effect.NOTE, _LOG),
    ),
    (
        re.compile(rf"(?:licen[cs]e|copying|notice|unlicense)(?:-[a-z0-9.-]+?)?(?:{_TEXT})?"),
        Judgement(Area.LICENCE, Effect.NOTE, "a licence changes what may be done with a model, not what it computes"),
    ),
    (
        re.compile(
            rf"(?:readme|changelog|changes|authors|contributing|citation|model_?card|usage)(?:{_TEXT})?|citation\.cff"
        ),
        Judgement(Area.METADATA, Effect.NOTE, _ABOUT),
    ),
    (
        re.compile(r".*\.(?:pdf|png|jpe?g|gif|svg|webp|docx|bib)"),
        Judgement(Area.METADATA, Effect.NOTE, _ABOUT),
    ),
)
_REQUIREMENTS = frozenset(
    {"requirements.txt", "conda.yaml", "conda.yml", "environment.yml", "environment.yaml", "python_env.yaml"}
)
_GENERATION = frozenset({"generation_config.json"})
_PREPROCESSING = frozenset(
    {
        "preprocessor_config.json",
        "processor_config.json",
        "image_processor_config.json",
        "video_preprocessor_config.json",
        "feature_extractor_config.json",
        "sentence_bert_config.json",
    }
)
_PIPELINE = frozenset({"modules.json", "model_index.json", "schema.json"})
_TOKENIZER = frozenset(
    {
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.txt",
        "vocab.json",
        "merges.txt",
        "chat_template.jinja",
        "chat_template.json",
        "tokenizer.model",
        "spiece.model",
        "sentencepiece.bpe.model",
        "source.spm",
        "target.spm",
    }
)


def decided(path: str) -> Judgement | None:
    """What a difference in the file is about, when its name alone decides that; None when its content must be read."""
    name = basename(path).lower()
    found = _NAMED.get(name)
    if found is not None:
        return found
    return next((judgement for pattern, judgement in _PATTERNS if pattern.fullmatch(name)), None)


def area_of(path: str) -> Area:
    """What the settings in a file are about, by its name."""
    name = basename(path)
    for names, area in (
        (_REQUIREMENTS, Area.DEPENDENCIES),
        (_GENERATION, Area.GENERATION),
        (_PREPROCESSING, Area.PREPROCESSING),
        (_TOKENIZER, Area.TOKENIZER),
        (_PIPELINE, Area.PIPELINE),
    ):
        if name in names:
            return area
    return {"code": Area.CODE, "weight.config": Area.CONFIG}.get(kind_of(path), Area.FILES)


def is_requirements(path: str) -> bool:
    """Whether the file says what must be installed."""
    return basename(path) in _REQUIREMENTS


def is_tokenizer(path: str) -> bool:
    """Whether the file is part of a tokenizer."""
    return basename(path) in _TOKENIZER
