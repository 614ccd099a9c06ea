"""Core ML programs (MIL): operations, and constants that lie in the program or in its weight file.

Source of the layout: MIL.proto of coremltools and its "blob v2" weight file: 64-byte records that say, at the offset a
constant names, where its bytes lie.
"""

from __future__ import annotations

import posixpath
import struct
from dataclasses import dataclass
from math import prod

from assay.containers.locations import escaping
from assay.containers.protobuf.message import BYTES, Field
from assay.errors import NotFound
from assay.formats.coreml.index import MAX_DEPTH, Index
from assay.formats.coreml.schema import PROGRAM_TYPES
from assay.spec.finding import Severity
from assay.spec.json import Json
from assay.spec.tensor import Extent

MAX_RANK = 64

_MODEL_FOLDER = "@model_path/"
_BLOB_RECORD = struct.Struct("<IIQQ")
_BLOB_SENTINEL = 0xDEADBEEF
_LARGEST_COUNT = 1 << 63
_PLAIN_LISTS = {1: {"float32"}, 6: {"float64"}}  # TensorValue.floats, .doubles: fixed width, packed


@dataclass(slots=True)
class _Value:
    """A ``Value``: its element type and shape, and where it lies."""

    dtype: str = ""
    bits: int = 0
    shape: tuple[int, ...] = ()
    inline: Field | None = None
    inline_kind: int = 0
    file: str | None = None
    offset: int = 0


def read_program(message: Field, index: Index, scope: str) -> None:
    """Functions of a ``Program``: operations and constants of each.

    Raises:
        LimitExceeded: there are more fields or tensors than may be visited, or blocks nest deeper than ``MAX_DEPTH``.
        BadFormat: this is no such message.
    """
    functions: list[Json] = []
    for part in message:
        if part.number != 2:
            continue
        name, function = _entry(part)
        functions.append(name)
        if function is None:
            continue
        for each in function:
            if each.number == 3:
                _, block = _entry(each)
                if block is not None:
                    _read_block(block, index, scope if name == "main" else f"{scope}{name}/", 0)
    index.facts["functions"] = functions[:100]


def _entry(message: Field) -> tuple[str, Field | None]:
    """Key and value of one entry of a map field with text keys."""
    key, value = "", None
    for part in message:
        if part.number == 1:
            key = part.text(512)
        elif part.number == 2:
            value = part
    return key, value


def _read_block(message: Field, index: Index, scope: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise message.reader.fail(message.start, f"more than {MAX_DEPTH} nested blocks")
    for part in message:
        if part.number == 3:
            index.layer(part, lambda operation: _read_operation(operation, index, scope, depth))


def _read_operation(message: Field, index: Index, scope: str, depth: int) -> None:
    kind, output = "", ""
    attributes: list[Field] = []
    blocks: list[Field] = []
    for part in message:
        match part.number:
            case 1:
                kind = part.text(256)
            case 3 if not output:
                output = next((each.text(512) for each in part if each.number == 1), "")
            case 4:
                blocks.append(part)
            case 5:
                attributes.append(part)
    index.operators[kind] += 1
    if kind == "const" or kind.startswith("constexpr_"):
        for attribute in attributes:
            key, value = _entry(attribute)
            if value is not None and key != "name":
                name = f"{scope}{output}" if key == "val" else f"{scope}{output}.{key}"
                _constant(_read_value(value), name, index, message.offset)
    for number, block in enumerate(blocks):
        _read_block(block, index, f"{scope}{output or kind}/{number}/", depth + 1)


def _read_value(message: Field) -> _Value:
    value = _Value()
    for part in message:
        if part.number == 2:
            for each in part:
                if each.number == 1:
                    _read_tensor_type(each, value)
        elif part.number == 3:
            tensor = next((each for each in part if each.number == 1), None)
            for each in tensor or ():
                value.inline_kind, value.inline = (
                    each.number,
                    next((inner for inner in each if inner.number == 1), None),
                )
        elif part.number == 5:
            for each in part:
                if each.number == 1:
                    value.file = each.text(1024)
                elif each.number == 2:
                    value.offset = each.integer
    return value


def _read_tensor_type(message: Field, value: _Value) -> None:
    shape: list[int] = []
    for part in message:
        if part.number == 1:
            value.dtype, value.bits = PROGRAM_TYPES.get(part.integer, (f"mil-type-{part.integer}", 0))
        elif part.number == 3 and len(shape) <= MAX_RANK:
            constant = next((each for each in part if each.number == 1), None)
            shape.append(next((each.integer for each in constant if each.number == 1), 0) if constant else -1)
    if len(shape) > MAX_RANK:
        raise message.reader.fail(message.start, f"more than {MAX_RANK} dimensions")
    value.shape = tuple(shape)


def _constant(value: _Value, name: str, index: Index, offset: int) -> None:
    if value.dtype in {"", "string"} or any(size < 0 for size in value.shape):
        return  # a list, a tuple or a text: a setting, no tensor
    count = prod(value.shape)
    if count >= _LARGEST_COUNT:
        index.report("coreml-huge-tensor", Severity.EXHAUST, f"constant {name!r} states {count:.3g} elements", offset)
        return
    expected = (count * value.bits + 7) // 8 if value.bits else None
    extent = None
    if value.file is not None:
        extent = _blob_extent(value, name, expected, index, offset)
    elif value.inline is not None and value.inline.wire == BYTES:
        plain = value.inline_kind == 7 or value.dtype in _PLAIN_LISTS.get(value.inline_kind, ())
        if plain and value.inline.size == expected:
            extent = Extent(index.path, value.inline.offset, value.inline.size)
        elif plain and expected is not None:
            _wrong_length(name, expected, value.inline.size, index, offset)
    index.add(name, value.dtype, value.shape, extent)


def _wrong_length(name: str, expected: int, found: int, index: Index, offset: int) -> None:
    text = f"constant {name!r} needs {expected:,} bytes for its shape, {found:,} are there"
    index.report("coreml-data-length", Severity.MISLEAD, text, offset)


def _blob_extent(value: _Value, name: str, expected: int | None, index: Index, offset: int) -> Extent | None:
    location = (value.file or "").removeprefix(_MODEL_FOLDER)
    reason = escaping(location)
    if reason:
        text = f"constant {name!r}: the location of its weight file {reason}"
        index.report("coreml-external-escape", Severity.READ, text, offset)
        return None
    side = posixpath.normpath(index.tree.sibling(index.path, location))
    try:
        window = index.tree.open(side)
    except NotFound:
        text = f"constant {name!r}: its weight file {location[:200]!r} is missing"
        index.report("coreml-external-missing", Severity.INCOMPLETE, text, offset)
        return None
    index.side_files.add(side)
    raw = window.read(value.offset, _BLOB_RECORD.size)
    if len(raw) < _BLOB_RECORD.size:
        text = f"constant {name!r}: its weight record at {value.offset:,} lies outside the {window.size:,} bytes"
        index.report("coreml-external-range", Severity.MISLEAD, text, offset)
        return None
    sentinel, _, size, first = _BLOB_RECORD.unpack(raw)
    if sentinel != _BLOB_SENTINEL or first + size > window.size:
        text = f"constant {name!r}: its weight record at {value.offset:,} is not valid"
        index.report("coreml-external-range", Severity.MISLEAD, text, offset)
        return None
    if expected is not None and size != expected:
        _wrong_length(name, expected, size, index, offset)
        return None
    return Extent(side, first, size) if expected is not None else None
