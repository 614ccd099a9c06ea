"""HDF5 data layouts and filters: where a dataset's bytes lie, and what was done to them.

Source of the layout: "HDF5 File Format Specification Version 3.0", IV.A.2.i (data layout), IV.A.2.l (filter
pipeline), IV.A.2.e and f (fill values).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

import numpy as np

from assay.containers.hdf5.headers import FILL_VALUE, Message
from assay.containers.hdf5.reader import Cursor, Reader
from assay.containers.hdf5.types import MAX_RANK
from assay.errors import BadFormat

MAX_FILTERS = 32
"""Filters of one pipeline, as in the library."""

DEFLATE, SHUFFLE, FLETCHER32 = 1, 2, 3

_FILTER_NAMES = {
    1: "deflate",
    2: "shuffle",
    3: "fletcher32",
    4: "szip",
    5: "nbit",
    6: "scaleoffset",
    32000: "lzf",
    32001: "blosc",
    32004: "lz4",
    32008: "bitshuffle",
    32013: "zfp",
    32015: "zstd",
    32026: "blosc2",
}
_INDEXES = {1: "single", 2: "implicit", 3: "fixed-array", 4: "extensible-array", 5: "b-tree-2"}


@dataclass(frozen=True, slots=True)
class Filter:
    """One step of a pipeline.

    Args:
        number: registered filter number.
        name: well-known name, else what the file says.
        values: client data.
    """

    number: int
    name: str
    values: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the elements lie.

    Args:
        kind: ``compact``, ``contiguous``, ``chunked`` or ``virtual``.
        address: of the bytes or of the chunk index; None when nothing was allocated.
        size: stored bytes of a compact or contiguous dataset, as stated; None where the version does not state it.
        chunk: shape of a chunk.
        index: how chunks are found: ``b-tree-1``, ``single``, ``implicit``, ``fixed-array``, ``extensible-array`` or
            ``b-tree-2``.
        page_bits: of a fixed array.
        single: stored bytes and filter mask of a single filtered chunk.
    """

    kind: str
    address: int | None = None
    size: int | None = None
    chunk: tuple[int, ...] = ()
    index: str = ""
    page_bits: int = 0
    single: tuple[int, int] | None = None


@dataclass(slots=True)
class Storage:
    """How a dataset is stored: layout, filters, fill value, files outside."""

    layout: Layout
    filters: tuple[Filter, ...] = ()
    fill: bytes = b""
    outside: tuple[str, ...] = field(default=())


def read_layout(reader: Reader, message: Message) -> Layout:
    """Decode a data layout message.

    Raises:
        BadFormat: unknown version or class.
    """
    cursor = reader.over(message.data)
    version = cursor.number(1)
    if version in {1, 2}:
        return _old_layout(reader, message, cursor)
    kind = cursor.number(1)
    if version not in {3, 4, 5} or kind > 3:
        raise reader.bad(f"data layout version {version} of class {kind} is not known", message.address)
    if kind == 0:
        size = cursor.number(2)
        return Layout("compact", message.address + cursor.at, size)
    if kind == 1:
        return Layout("contiguous", _allocated(reader, cursor), cursor.length())
    if kind == 3:
        return Layout("virtual")
    if version == 3:
        rank = _rank(cursor, cursor.number(1))
        address = _allocated(reader, cursor)
        return Layout("chunked", address, chunk=_dims(cursor, rank, 4)[:-1], index="b-tree-1")
    return _new_chunks(reader, cursor)


def read_filters(cursor: Cursor) -> tuple[Filter, ...]:
    """Decode a filter pipeline message.

    Raises:
        BadFormat: more filters than the library allows.
    """
    version, count = cursor.number(1), cursor.number(1)
    if count > MAX_FILTERS or version not in {1, 2}:
        raise BadFormat(f"{cursor.path}: HDF5 filter pipeline version {version} of {count} filters", path=cursor.path)
    if version == 1:
        cursor.take(6)
    filters = []
    for _ in range(count):
        number = cursor.number(2)
        name_length = cursor.number(2) if version == 1 or number >= 256 else 0
        cursor.take(2)
        values = cursor.number(2)
        name = cursor.take(-(-name_length // 8) * 8 if version == 1 else name_length)
        data = tuple(cursor.number(4) for _ in range(values))
        if version == 1 and values % 2:
            cursor.take(min(4, cursor.left))
        said = name.split(b"\0", 1)[0].decode("utf-8", "replace")
        filters.append(Filter(number, _FILTER_NAMES.get(number) or said or f"filter {number}", data))
    return tuple(filters)


def read_fill(reader: Reader, message: Message) -> bytes:
    """The bytes of a fill value, empty when there is none.

    Raises:
        BadFormat: the message ends early.
    """
    cursor = reader.over(message.data)
    if message.kind == FILL_VALUE:
        version = cursor.number(1)
        if version < 3:
            cursor.take(2)
            if not cursor.number(1) and version == 2:
                return b""
        elif not cursor.number(1) & 0x20:
            return b""
    return cursor.take(cursor.number(4)) if cursor.left >= 4 else b""


def undo(filters: tuple[Filter, ...], mask: int, raw: bytes, size: int, path: str) -> bytes:
    """The *size* bytes of a chunk before its filters were applied.

    Args:
        filters: the pipeline as it was applied when writing.
        mask: bit i says that filter i was left out for this chunk.
        raw: the stored bytes.
        size: bytes of the chunk's elements.
        path: for messages.

    Raises:
        BadFormat: a filter is not supported, or the bytes do not decode to *size*.
    """
    for index, step in reversed(list(enumerate(filters))):
        if mask >> index & 1:
            continue
        if step.number == FLETCHER32:
            raw = raw[:-4]
        elif step.number == DEFLATE:
            inflater = zlib.decompressobj()
            # One byte more than expected shows a lie without inflating a bomb.
            try:
                raw = inflater.decompress(raw, size + 4 + 1)
            except zlib.error as error:
                raise BadFormat(f"{path}: an HDF5 chunk does not inflate ({error})", path=path) from None
        elif step.number == SHUFFLE:
            raw = _unshuffle(raw, step.values[0] if step.values else 1)
        else:
            raise BadFormat(f"{path}: HDF5 filter {step.name} is not supported", path=path)
    if len(raw) != size:
        raise BadFormat(f"{path}: an HDF5 chunk decodes to {len(raw)} bytes, expected {size}", path=path)
    return raw


def _unshuffle(raw: bytes, width: int) -> bytes:
    count = len(raw) // max(1, width)
    if width <= 1 or count == 0:
        return raw
    planes = np.frombuffer(raw, np.uint8, count * width).reshape(width, count)
    return planes.T.tobytes() + raw[count * width :]


def _allocated(reader: Reader, cursor: Cursor) -> int | None:
    address = cursor.address()
    return None if address == reader.undefined else address


def _rank(cursor: Cursor, rank: int) -> int:
    if not 1 <= rank <= MAX_RANK + 1:
        raise BadFormat(f"{cursor.path}: HDF5 data layout of rank {rank}", path=cursor.path)
    return rank


def _dims(cursor: Cursor, rank: int, width: int) -> tuple[int, ...]:
    dims = tuple(cursor.number(width) for _ in range(rank))
    if 0 in dims:
        raise BadFormat(f"{cursor.path}: HDF5 chunk with an empty dimension: {dims}", path=cursor.path)
    return dims


def _old_layout(reader: Reader, message: Message, cursor: Cursor) -> Layout:
    rank, kind = cursor.number(1), cursor.number(1)
    cursor.take(5)
    address = None if kind == 0 else _allocated(reader, cursor)
    if kind == 0:
        cursor.take(4 * min(rank, MAX_RANK))
        size = cursor.number(4)
        return Layout("compact", message.address + cursor.at, size)
    if kind == 1:
        return Layout("contiguous", address)
    return Layout("chunked", address, chunk=_dims(cursor, _rank(cursor, rank), 4)[:-1], index="b-tree-1")


def _new_chunks(reader: Reader, cursor: Cursor) -> Layout:
    flags, rank, width = cursor.number(1), _rank(cursor, cursor.number(1)), cursor.number(1)
    chunk = _dims(cursor, rank, min(width, 8))[:-1]
    index = _INDEXES.get(cursor.number(1), "unknown")
    single, page_bits = None, 0
    if index == "single" and flags & 2:
        single = (cursor.length(), cursor.number(4))
    elif index == "fixed-array":
        page_bits = cursor.number(1)
    elif index == "extensible-array":
        cursor.take(5)
    elif index == "b-tree-2":
        cursor.take(6)
    address = _allocated(reader, cursor)
    return Layout("chunked", address, chunk=chunk, index=index, page_bits=page_bits, single=single)
