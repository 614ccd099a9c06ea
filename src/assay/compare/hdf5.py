"""HDF5 files: groups, attributes and what no tensor stands for.

Keras keeps its settings as JSON in attributes of the root; those are compared path by path. Datasets that the
description lists are left to the comparison of tensors; addresses, chunks and filters are how it was packed.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from assay.compare.archives import Part
from assay.compare.covered import Cover
from assay.compare.documents import numbered
from assay.compare.gathering import Gathered, Judgement
from assay.compare.values import Change, changes
from assay.containers.documents import parse_json
from assay.containers.guard import guarded
from assay.containers.hdf5.file import Dataset, File, Group
from assay.errors import AssayError, BadFormat
from assay.spec.changes import Area, Effect
from assay.spec.finding import Severity

MAX_OBJECTS = 200_000
MAX_READ = 64 << 20
"""Bytes of one dataset that are read here, because no tensor of the description stands for it."""

_NOTES = {
    "keras_version": Judgement(Area.DEPENDENCIES, Effect.NOTE, "a library's own stamp"),
    "training_config": Judgement(Area.PARAMS, Effect.NOTE, "used only to go on training"),
    "optimizer_weights": Judgement(Area.PARAMS, Effect.NOTE, "used only to go on training"),
}
_ORDER = Judgement(Area.METADATA, Effect.NOTE, "names of tensors, which are compared as tensors")


def compare_hdf5(gathered: Gathered, part: Part) -> None:
    """Note what changed between two HDF5 files."""
    try:
        with guarded("an HDF5 file", part.path):
            before, after = _content(File(part.old), part.before), _content(File(part.new), part.after)
    except AssayError as error:
        gathered.unread(part.path, error.message, Area.CONFIG)
        return
    found, cut = changes(before, after)
    gathered.changes(part.path, found, judge, cut=cut)


def judge(change: Change) -> Judgement:
    """What a change in an HDF5 file is about."""
    names = [str(key) for key in change.keys]
    for name in names:
        if name in _NOTES:
            return _NOTES[name]
    if names and names[0].split("/")[0] in {"optimizer", "optimizer_weights"}:
        return _NOTES["optimizer_weights"]
    if names and (names[-1] in {"layer_names", "weight_names"} or _names_only(change)):
        return _ORDER
    if "model_config" in names:
        return Judgement(Area.ARCHITECTURE)
    return Judgement(Area.CONFIG)


def _names_only(change: Change) -> bool:
    """Whether a group says nothing but the names of its weights, or what its layer is called."""
    if change.keys[-1:] == ("name",) and str(change.keys[0]).endswith("/vars"):
        return True
    told = [value for value in (change.old, change.new) if value is not None]
    return all(isinstance(value, dict) and set(value) <= {"weight_names"} for value in told) and bool(told)


def _content(file: File, cover: Cover) -> dict[str, Any]:
    """Everything but tensors, as one document: attributes and loose datasets per object."""
    content: dict[str, Any] = dict(_attributes(file.root))
    shapes = {(spec.name.strip("/"), spec.shape) for spec in cover.specs}
    for count, (path, item) in enumerate(file.walk()):
        if count > MAX_OBJECTS:
            raise BadFormat(f"more than {MAX_OBJECTS:,} objects")
        said = _attributes(item)
        if isinstance(item, Dataset) and not _held(path, item, cover, shapes):
            if file.reader.window.size and _bytes(item) > MAX_READ:
                raise BadFormat(f"{path} holds {_bytes(item):,} bytes that no tensor stands for")
            said["(elements)"] = f"{item.dtype}{list(item.shape)} {hashlib.sha256(item.read()).hexdigest()[:16]}"
        if said:
            content[path] = said
    lost = [finding for finding in file.findings if finding.severity is Severity.INCOMPLETE]
    if lost:
        raise BadFormat(lost[0].message)
    return content


def _held(path: str, item: Dataset, cover: Cover, shapes: set[tuple[str, tuple[int, ...]]]) -> bool:
    """Whether one of the description's tensors is this dataset: by place, by name, or by shape."""
    if (path, item.shape) in shapes and item.dtype not in {"string", "object", "opaque", "compound"}:
        return True
    return cover.holds((item.extent.offset, item.extent.length) if item.extent else None, item.shape, item.dtype)


def _bytes(item: Dataset) -> int:
    count = 1
    for size in item.shape:
        count *= size
    return count * item.kind.size


def _attributes(item: Group | Dataset) -> dict[str, Any]:
    return {name: _parsed(value, name) for name, value in item.attributes.items()}


def _parsed(value: Any, name: str) -> Any:
    """JSON in an attribute as what it says."""
    if isinstance(value, str) and value[:1] in {"{", "["}:
        try:
            return numbered(parse_json(value.encode(), name).value)
        except (AssayError, json.JSONDecodeError):
            return value
    return value
