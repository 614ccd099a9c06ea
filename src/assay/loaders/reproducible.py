"""Making what frameworks write the same, byte for byte, for the same model.

Zip members carry the time of writing, skops names its members by memory addresses, Keras writes the date, the
safetensors library writes metadata in any order. Content that is equal must have equal bytes, or every push would be a
new version.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_ADDRESSES = frozenset({"_stop_words_id"})
"""Attributes in which scikit-learn keeps the memory address of another one, to notice later that it was exchanged."""

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The first time a zip can say."""


def rewrite_zip(file: Path, change: Callable[[str, bytes], tuple[str, bytes]] | None = None) -> None:
    """Write a zip again: members sorted by name, stored, without times, each changed by *change* (name and bytes)."""
    fresh = file.with_name(f"{file.name}.fresh")
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(fresh, "w", zipfile.ZIP_STORED) as new:
        members = {}
        for name in old.namelist():
            wanted, data = change(name, old.read(name)) if change else (name, old.read(name))
            members[wanted] = data
        for name in sorted(members):
            info = zipfile.ZipInfo(name, EPOCH)
            info.external_attr = 0o644 << 16
            new.writestr(info, members[name])
    fresh.replace(file)


def settle_keras(file: Path) -> None:
    """Take the date out of a ``.keras`` archive."""

    def change(name: str, data: bytes) -> tuple[str, bytes]:
        if name != "metadata.json":
            return name, data
        body = {key: value for key, value in json.loads(data).items() if key != "date_saved"}
        return name, json.dumps(body).encode()

    rewrite_zip(file, change)


def settle_skops(file: Path) -> None:
    """Take memory addresses and the order of sets out of a skops archive.

    Objects are numbered in the order of the schema, and attributes that hold addresses become None.
    """
    with zipfile.ZipFile(file) as archive:
        schema = json.loads(archive.read("schema.json"))
    _sort_sets(schema)
    _forget_addresses(schema)
    numbers: dict[str, str] = {}
    files: dict[str, str] = {}
    _number(schema, numbers, files)
    text = json.dumps(schema, indent=1).encode()

    def change(name: str, data: bytes) -> tuple[str, bytes]:
        return ("schema.json", text) if name == "schema.json" else (files.get(name, name), data)

    rewrite_zip(file, change)


def sort_safetensors_header(file: Path) -> None:
    """Put the metadata in a safetensors header in order of their names; the header keeps its length."""
    with file.open("r+b") as handle:
        length = int.from_bytes(handle.read(8), "little")
        header = json.loads(handle.read(length))
        metadata = header.get("__metadata__")
        if not isinstance(metadata, dict) or len(metadata) < 2:
            return
        header["__metadata__"] = dict(sorted(metadata.items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) <= length:
            handle.seek(8)
            handle.write(text.ljust(length))


def _number(value: Any, numbers: dict[str, str], files: dict[str, str]) -> None:
    """Replace ``__id__`` values and member names, both made of addresses, by numbers counted up."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            if "__id__" in item:
                item["__id__"] = int(numbers.setdefault(str(item["__id__"]), str(len(numbers) + 1)))
            name = item.get("file")
            if isinstance(name, str) and "__loader__" in item:
                suffix = Path(name).suffix
                item["file"] = files.setdefault(name, f"{len(files) + 1}{suffix}")
            stack.extend(reversed(list(item.values())))
        elif isinstance(item, list):
            stack.extend(reversed(item))


def _forget_addresses(value: Any) -> None:
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            for name in _ADDRESSES & item.keys():
                if isinstance(item[name], dict) and item[name].get("__loader__") == "JsonNode":
                    item[name]["content"] = "null"
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)


def _sort_sets(value: Any) -> None:
    if isinstance(value, dict):
        for item in value.values():
            _sort_sets(item)
        content = value.get("content")
        if value.get("__loader__") == "SetNode" and isinstance(content, list):
            content.sort(key=_without_ids)
    elif isinstance(value, list):
        for item in value:
            _sort_sets(item)


def _without_ids(value: Any) -> str:
    def strip(item: Any) -> Any:
        if isinstance(item, Mapping):
            return {key: strip(inner) for key, inner in item.items() if key not in ("__id__", "file")}
        return [strip(inner) for inner in item] if isinstance(item, list) else item

    return json.dumps(strip(value), sort_keys=True)
