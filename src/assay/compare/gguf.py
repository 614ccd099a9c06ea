"""The key-value part of GGUF files: architecture, tokenizer, and what is said about the model.

Source of the layout: the GGUF specification of ggml, versions 2 and 3. Tensors are left to the comparison of tensors.
"""

from __future__ import annotations

import struct
from typing import Any

from assay.compare.archives import Part
from assay.compare.gathering import Gathered, Judgement
from assay.compare.texts import diff
from assay.compare.tokenizers import compare_vocabularies
from assay.compare.values import Change, changes
from assay.containers.guard import guarded
from assay.errors import AssayError
from assay.spec.changes import Area, Effect, ItemKind
from assay.trees import Window

MAX_HEADER = 256 << 20
MAX_ENTRIES = 20_000_000

_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TOKENS = "tokenizer.ggml.tokens"
_TEMPLATE = "tokenizer.chat_template"
_LAYOUT = frozenset({"general.alignment"})
_NOTE = Judgement(Area.METADATA, Effect.NOTE, "about the model; runtimes do not read it")
_BEHAVING = frozenset({"general.architecture", "general.quantization_version"})


def compare_gguf(gathered: Gathered, part: Part) -> None:
    """Note what changed between the key-value parts of two GGUF files."""
    try:
        with guarded("a GGUF file", part.path):
            old, new = pairs(part.old), pairs(part.new)
    except AssayError as error:
        gathered.unread(part.path, error.message, Area.CONFIG)
        return
    before, after = old.pop(_TOKENS, None), new.pop(_TOKENS, None)
    if before != after:
        numbered = [
            {str(name): at for at, name in enumerate(tokens)} if isinstance(tokens, list) else {}
            for tokens in (before, after)
        ]
        compare_vocabularies(gathered, numbered[0], numbered[1], f"{part.path}: {_TOKENS}")
    one, other = old.get(_TEMPLATE), new.get(_TEMPLATE)
    if isinstance(one, str) and isinstance(other, str) and one != other:
        old.pop(_TEMPLATE), new.pop(_TEMPLATE)
        judged = Judgement(Area.TOKENIZER)
        gathered.add(judged, f"{part.path}: {_TEMPLATE}", ItemKind.CHANGED, text=diff(one, other))
    found, cut = changes(old, new)
    gathered.changes(part.path, found, judge, cut=cut)


def judge(change: Change) -> Judgement:
    """What a change of one key is about."""
    key = str(change.keys[0]) if change.keys else ""
    if key in _LAYOUT:
        return Judgement(Area.FORMAT, Effect.NOTE, "how it was packed, not what it holds")
    if key in {"general.license", "general.license.name", "general.license.link"}:
        why = "a licence changes what may be done with a model, not what it computes"
        return Judgement(Area.LICENCE, Effect.NOTE, why)
    if key.startswith("general.") and key not in _BEHAVING:
        return _NOTE
    if key.startswith("split."):
        return Judgement(Area.FORMAT, Effect.NOTE, "which file holds a tensor, not what it holds")
    if key.startswith("tokenizer."):
        return Judgement(Area.TOKENIZER)
    return Judgement(Area.ARCHITECTURE if key == "general.architecture" else Area.CONFIG)


def pairs(window: Window) -> dict[str, Any]:
    """Every key with its value.

    Raises:
        ValueError: not GGUF of a version that is read, or too long.
    """
    head = window.exactly(0, 24)
    order = "<" if int.from_bytes(head[4:8], "little") < 1 << 16 else ">"
    version, _, count = struct.unpack(f"{order}IQQ", head[4:])
    if head[:4] != b"GGUF" or version not in (2, 3):
        raise ValueError(f"GGUF version {version}")
    reader = _Reader(window, order)
    found: dict[str, Any] = {}
    for _ in range(count):
        name = reader.text()
        found[name] = reader.value(reader.number("I"), 0)
    return found


class _Reader:
    """Values one after another; reads ahead in blocks."""

    def __init__(self, window: Window, order: str) -> None:
        self.window = window
        self.order = order
        self.at = 24
        self._data = b""
        self._start = 24
        self._entries = 0

    def take(self, length: int) -> bytes:
        end = self.at - self._start + length
        if end > len(self._data):
            if self.at + length > min(self.window.size, MAX_HEADER):
                raise ValueError("its key-value part is longer than is read")
            self._start = self.at
            self._data = self.window.read(self.at, max(length, 1 << 20))
            end = length
            if end > len(self._data):
                raise ValueError("it ends in its key-value part")
        data = self._data[end - length : end]
        self.at += length
        return data

    def number(self, code: str) -> Any:
        layout = struct.Struct(self.order + code)
        return layout.unpack(self.take(layout.size))[0]

    def text(self) -> str:
        return self.take(self.number("Q")).decode("utf-8", "backslashreplace")

    def value(self, kind: int, depth: int) -> Any:
        self._entries += 1
        if self._entries > MAX_ENTRIES or depth > 8:
            raise ValueError("too many values")
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            inner, count = self.number("I"), self.number("Q")
            if inner in _SCALARS:
                width = struct.calcsize(_SCALARS[inner])
                return list(struct.unpack(f"{self.order}{count}{_SCALARS[inner]}", self.take(count * width)))
            return [self.value(inner, depth + 1) for _ in range(count)]
        return self.number(_SCALARS[kind])
