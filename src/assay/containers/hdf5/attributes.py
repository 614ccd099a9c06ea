"""Attributes of HDF5 objects: small named values in the header, or in a fractal heap when there are many.

Source of the layout: "HDF5 File Format Specification Version 3.0", IV.A.2.m (attribute), IV.A.2.v (attribute info).
"""

from __future__ import annotations

from collections.abc import Iterator

from assay.containers.hdf5.headers import (
    ATTRIBUTE,
    ATTRIBUTE_INFO,
    DATASPACE,
    DATATYPE,
    Message,
    read_header,
    shared_address,
)
from assay.containers.hdf5.indexes import FractalHeap, tree_2
from assay.containers.hdf5.reader import Cursor, Reader
from assay.containers.hdf5.types import AttributeValue, Heap, decode, read_dataspace, read_datatype
from assay.errors import BadFormat, LimitExceeded

MAX_ELEMENTS = 1_000_000
"""Elements of one attribute that are decoded."""

Found = tuple[str, AttributeValue]


def read_attributes(reader: Reader, heap: Heap, messages: list[Message]) -> Iterator[Found | BadFormat]:
    """The attributes that *messages* hold or point to; an error stands for one that cannot be read."""
    for message in messages:
        try:
            if message.kind == ATTRIBUTE:
                yield _attribute(reader, heap, message.data)
            elif message.kind == ATTRIBUTE_INFO:
                yield from _dense(reader, heap, message.data)
        except BadFormat as error:
            yield error


def _dense(reader: Reader, heap: Heap, data: bytes) -> Iterator[Found | BadFormat]:
    cursor = reader.over(data)
    cursor.take(1)
    cursor.take(2 if cursor.number(1) & 1 else 0)
    address, index = cursor.address(), cursor.address()
    if reader.undefined in {address, index}:
        return
    fractal = FractalHeap(reader, address)
    for record in tree_2(reader, index):
        try:
            # A record of kind 8: eight bytes of heap id, then message flags.
            if len(record) > 8 and record[8] & 2:
                raise reader.bad("a shared attribute is not supported", address)
            yield _attribute(reader, heap, fractal.object(record[:8]))
        except BadFormat as error:
            yield error


def _attribute(reader: Reader, heap: Heap, data: bytes) -> Found:
    cursor = reader.over(data)
    version, flags = cursor.number(1), cursor.number(1)
    if version not in {1, 2, 3}:
        raise reader.bad(f"attribute version {version} is not known", 0)
    name_size, type_size, space_size = cursor.number(2), cursor.number(2), cursor.number(2)
    cursor.take(1 if version == 3 else 0)
    padding = 8 if version == 1 else 1
    name = _padded(cursor, name_size, padding).split(b"\0", 1)[0].decode("utf-8", "replace")
    raw_type = _padded(cursor, type_size, padding)
    raw_space = _padded(cursor, space_size, padding)
    if version > 1 and flags & 1:
        raw_type = _committed(reader, raw_type, DATATYPE)
    if version > 1 and flags & 2:
        raw_space = _committed(reader, raw_space, DATASPACE)
    kind, space = read_datatype(reader.over(raw_type)), read_dataspace(reader.over(raw_space))
    if space.null:
        return name, None
    if space.count > MAX_ELEMENTS:
        raise LimitExceeded(f"attribute {name!r} of {space.count:,} elements", path=reader.window.path)
    raw = cursor.take(space.count * kind.size)
    reader.step(1 + space.count)
    values = [decode(kind, raw[at : at + kind.size], heap) for at in range(0, len(raw), max(1, kind.size))]
    return name, values if space.dims else (values[0] if values else None)


def _padded(cursor: Cursor, size: int, padding: int) -> bytes:
    data = cursor.take(size)
    cursor.take(min(-size % padding, cursor.left))
    return data


def _committed(reader: Reader, raw: bytes, kind: int) -> bytes:
    address = shared_address(reader.over(raw), reader)
    for message in read_header(reader, address):
        if message.kind == kind:
            return message.data
    raise reader.bad(f"no message of type {kind}", address)
