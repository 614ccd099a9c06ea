"""Files of settings that need a second look: what a setting means may depend on the tensors beside it."""

from __future__ import annotations

from collections.abc import Mapping
from posixpath import basename
from typing import Any

from assay.compare.documents import judge_document
from assay.compare.gathering import Judge, Judgement
from assay.compare.noise import noise
from assay.compare.sides import Compared
from assay.compare.values import Change
from assay.containers.documents import parse_json
from assay.containers.guard import guarded
from assay.spec.changes import Area, Effect
from assay.trees import Window

MAX_HEADER = 100 << 20
"""Bytes of a safetensors header; the format's own limit."""

_OF_TENSORS = Judgement(Area.METADATA, Effect.NOTE, "the tensors themselves say it, and are compared")
_TRAINING = Judgement(Area.PARAMS, Effect.NOTE, "used only to go on training")


def judge_settings(path: str, old: Compared, new: Compared) -> Judge | None:
    """How changes in a document of the tree are judged; None for other files."""
    general = judge_document(path)
    if basename(path) != "config.json":
        return general
    dtypes = tuple(next(iter(side.inspection.dtypes), None) for side in (old, new))

    def judge(change: Change) -> Judgement:
        if change.keys[-1:] == ("dtype",) and _says(change, dtypes):
            return _OF_TENSORS
        return general(change)

    return judge


def judge_keras(path: str) -> Judge:
    """Changes in the documents of a Keras archive."""

    def judge(change: Change) -> Judgement:
        if change.keys[:1] == ("compile_config",):
            return _TRAINING
        why = noise(path, change)
        if why:
            return Judgement(Area.DEPENDENCIES if "library" in why else Area.METADATA, Effect.NOTE, why)
        return Judgement(Area.ARCHITECTURE)

    return judge


def safetensors_metadata(window: Window) -> Mapping[str, Any]:
    """The free text metadata in the header of a safetensors file.

    Raises:
        BadFormat: it has no header that can be read.
    """
    with guarded("a safetensors file", window.path):
        length = int.from_bytes(window.exactly(0, 8), "little")
        if length > MAX_HEADER:
            raise ValueError(f"a header of {length:,} bytes")
        value = parse_json(window.exactly(8, length), window.path).value
        metadata = value.get("__metadata__") if isinstance(value, Mapping) else None
        return dict(metadata) if isinstance(metadata, Mapping) else {}


def _says(change: Change, dtypes: tuple[str | None, ...]) -> bool:
    """Whether a setting says of each side what its tensors are; one that is absent says nothing."""
    said = (change.old, change.new)
    return all(
        value is None or str(value).removeprefix("torch.") == dtype for value, dtype in zip(said, dtypes, strict=True)
    )
