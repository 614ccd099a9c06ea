"""The attributes of a node of a TensorFlow graph: the names, texts and functions in them, and where they reach outside.

Source: the field numbers of ``node_def.proto``, ``attr_value.proto`` and ``tensor.proto``.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from assay.containers.protobuf.message import BYTES, Field
from assay.spec.finding import Finding, Severity

MAX_TEXT = 1000
"""Characters of a name."""

MAX_TEXTS = 10_000
"""Elements of a constant of text that are read."""

MAX_MODULE = 256 << 20
"""Bytes of a compiled module that are looked through."""

_STRING = 7  # DT_STRING
_WRITES = "write a file that the artifact names"


def attributes(node: Field) -> Iterator[tuple[str, Field]]:
    """Names and values of the attributes of a node."""
    for part in node:
        if part.number == 5:
            key, value = pair(part)
            if value is not None:
                yield key, value


def pair(entry: Field) -> tuple[str, Field | None]:
    """Key and value of an entry of a map."""
    key, value = "", None
    for part in entry:
        if part.number == 1:
            key = part.text(MAX_TEXT)
        elif part.number == 2:
            value = part
    return key, value


def calls(node: Field) -> list[str]:
    """Functions that a node's attributes name, alone or in lists."""
    found: list[str] = []
    for _, value in attributes(node):
        for part in value:
            if part.number == 10 and part.wire == BYTES:
                found += [inner.text(MAX_TEXT) for inner in part if inner.number == 1 and inner.wire == BYTES]
            elif part.number == 1 and part.wire == BYTES:
                functions = [inner for inner in part if inner.number == 9 and inner.wire == BYTES]
                found += [last.text(MAX_TEXT) for inner in functions for last in inner if last.number == 1]
    return found


def texts(node: Field) -> list[str] | None:
    """Elements of a constant of text that may be a name of a file; None when they are stored in another way."""
    found: list[str] = []
    for key, value in attributes(node):
        for tensor in value if key == "value" else ():
            if tensor.number != 8 or tensor.wire != BYTES:
                continue
            parts = list(islice(tensor, MAX_TEXTS))
            if not any(part.number == 1 and part.wire != BYTES and part.integer == _STRING for part in parts):
                continue
            if len(parts) == MAX_TEXTS or any(part.number == 4 for part in parts):
                return None
            found += [part.text(MAX_TEXT) for part in parts if part.number == 8 and part.wire == BYTES]
    return found


def reaching(op: str, node: Field) -> Iterator[Finding]:
    """Findings about operations that only reach outside with certain attributes."""
    path = node.reader.window.path
    for key, value in attributes(node) if op in {"PrintV2", "XlaCallModule"} else ():
        for part in value:
            if part.number != 2 or part.wire != BYTES:
                continue
            if op == "PrintV2" and key == "output_stream":
                stream = part.text(MAX_TEXT)
                if stream.startswith("file:"):
                    text = "operation PrintV2 writes to a file"
                    seen = stream[:200]
                    yield Finding("tensorflow-risky-op", Severity.WRITE, text, path, node.offset, seen, _WRITES)
            # A compiled module computes, unless it calls native code by name.
            elif key == "module" and (part.size > MAX_MODULE or b"custom_call" in part.read(MAX_MODULE)):
                text = "operation XlaCallModule holds a module that calls native code by name, or is too large to say"
                yield Finding("tensorflow-native-call", Severity.INCOMPLETE, text, path, node.offset)
