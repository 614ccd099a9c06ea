"""Settings path by path: JSON, JSON lines, YAML, TOML and INI, whatever the order of keys and the spacing."""

from __future__ import annotations

import configparser
import json
import re
import tomllib
from collections import Counter
from collections.abc import Mapping
from posixpath import basename, splitext
from typing import Any

from assay.compare.gathering import Gathered, Judge, Judgement
from assay.compare.noise import noise
from assay.compare.roles import area_of
from assay.compare.values import Change, changes
from assay.containers.documents import Document, parse_yaml, read_json
from assay.containers.guard import guarded
from assay.errors import AssayError
from assay.spec.changes import Area, Effect, ItemKind
from assay.trees import Window

MAX_DOCUMENT = 32 << 20
"""Bytes of a document that is compared path by path."""

_TRAINING = re.compile(
    r"(?:\w+_)?(?:dropout|pdrop|layerdrop)(?:_prob|_rate|_p)?|initializer_(?:range|factor|std)|gradient_checkpointing"
)
"""Settings of transformers that inference does not read: what is left out while training, and how weights began."""
_MADE = re.compile(r"_\d+$")
_YAML = frozenset({".yaml", ".yml"})
_SUFFIXES = _YAML | {".json", ".jsonl", ".toml", ".ini", ".cfg"}
_SAME = "the same values, written differently"


def is_document(path: str) -> bool:
    """Whether an entry holds settings that are compared path by path."""
    return splitext(path)[1].lower() in _SUFFIXES or basename(path) == "MLmodel"


def read(window: Window, path: str) -> Document:
    """The document in an entry.

    Raises:
        AssayError: it is none, or too long.
    """
    suffix = splitext(path)[1].lower()
    if suffix == ".json":
        return read_json(window, MAX_DOCUMENT)
    with guarded("a document", path):
        text = window.read(0, MAX_DOCUMENT + 1).decode("utf-8-sig")
        if len(text) > MAX_DOCUMENT:
            raise ValueError(f"longer than {MAX_DOCUMENT:,} bytes")
        if suffix == ".jsonl":
            return Document([json.loads(line, parse_constant=str) for line in text.splitlines() if line.strip()])
        if suffix in {".ini", ".cfg"}:
            parser = configparser.RawConfigParser(strict=True, delimiters=("=",))
            setattr(parser, "optionxform", str)  # noqa: B010 - the library's own way to keep letters as they are
            parser.read_string(text)
            return Document({name: dict(parser.items(name)) for name in parser.sections()})
        if suffix == ".toml":
            return Document(_plain(tomllib.loads(text)))
        return Document(parse_yaml(text, path))


def compare_documents(gathered: Gathered, old: Window, new: Window, path: str, judge: Judge | None = None) -> None:
    """Note what changed between two documents whose bytes differ."""
    try:
        before, after = read(old, path), read(new, path)
    except AssayError as error:
        gathered.unread(path, error.message, area_of(path))
        return
    if set(before.repeated) != set(after.repeated):
        why = "readers differ in which of two equal keys they take"
        judged = Judgement(area_of(path), Effect.BEHAVIOUR, why)
        gathered.add(judged, path, ItemKind.CHANGED, list(before.repeated), list(after.repeated), "keys occur twice")
    found, cut = changes(*(numbered(_one_name(one.value, path)) for one in (before, after)))
    if not found and before.repeated == after.repeated:
        gathered.add(Judgement(area_of(path), Effect.NOTE, _SAME), path, ItemKind.CHANGED)
    gathered.changes(path, found, judge or judge_document(path), cut=cut)


def judge_document(path: str) -> Judge:
    """What changes in a document are about, by the file's name and the way to them."""
    area = area_of(path)
    name = basename(path)

    def judge(change: Change) -> Judgement:
        why = noise(path, change)
        if why is not None:
            return Judgement(Area.DEPENDENCIES if "library" in why else Area.METADATA, Effect.NOTE, why)
        first = change.keys[0] if change.keys else None
        if name == "config.json" and isinstance(first, str) and _TRAINING.fullmatch(first):
            return Judgement(Area.PARAMS, Effect.NOTE, "acts only while it is trained")
        if name == "config.json" and first in {"architectures", "model_type"}:
            return Judgement(Area.ARCHITECTURE)
        if name == "MLmodel" and first == "signature":
            return Judgement(Area.SIGNATURE)
        if name.endswith(".index.json") and first == "weight_map":
            return Judgement(Area.FORMAT, Effect.NOTE, "which file holds a tensor, not what it holds")
        if name == "adapter_config.json" and first == "base_model_name_or_path":
            return Judgement(Area.LINEAGE, Effect.BEHAVIOUR, "an adapter works on this model alone")
        return Judgement(area)

    return judge


def _one_name(value: Any, path: str) -> Any:
    """A document in which a setting that was renamed by its library has its new name."""
    if basename(path) == "config.json" and isinstance(value, Mapping) and "dtype" not in value:
        return {("dtype" if key == "torch_dtype" else key): item for key, item in value.items()}
    return value


def numbered(value: Any) -> Any:
    """A document in which what Keras numbers is numbered in order: shared objects, and layers nobody gave a name.

    Policies of dtypes are left without a number: it says nothing whether two layers share one.
    """
    numbers: dict[Any, int] = {}
    names = _counted(value)

    def walk(one: Any) -> Any:
        if isinstance(one, list):
            return [walk(item) for item in one]
        if isinstance(one, str):
            return names.get(one, one)
        if not isinstance(one, dict):
            return one
        made = {key: walk(item) for key, item in one.items()}
        shared = one.get("shared_object_id")
        if one.get("class_name") == "DTypePolicy":
            made.pop("shared_object_id", None)
        elif isinstance(shared, int):
            made["shared_object_id"] = numbers.setdefault(shared, len(numbers))
        return made

    return walk(value)


def _counted(value: Any) -> dict[str, str]:
    """Names that Keras made of a class and a counter, to those it would make in a new process: all start at none."""
    counts: Counter[str] = Counter()
    names: dict[str, str] = {}

    def walk(one: Any) -> None:
        if isinstance(one, list):
            for item in one:
                walk(item)
        elif isinstance(one, dict):
            kind, settings = one.get("class_name"), one.get("config")
            name = settings.get("name") if isinstance(settings, dict) else None
            if isinstance(kind, str) and isinstance(name, str) and name not in names:
                base = _MADE.sub("", name)
                if base == _snake(kind):
                    names[name] = f"{base}_{counts[base]}" if counts[base] else base
                    counts[base] += 1
            for item in one.values():
                walk(item)

    walk(value)
    return names if len(set(names.values())) == len(names) else {}


def _snake(name: str) -> str:
    """A class's name as Keras makes a layer's of it: ``Conv2DTranspose`` gives ``conv2d_transpose``."""
    return re.sub(
        r"([a-z])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", re.sub(r"\W+", "", name))
    ).lower()


def _plain(value: Any) -> Any:
    """TOML's dates as text."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value if isinstance(value, (str, int, float, bool)) else str(value)
