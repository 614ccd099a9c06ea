"""HDF5 object headers: the list of messages that make a group or a dataset.

Source of the layout: "HDF5 File Format Specification Version 3.0", IV.A (versions 1 and 2, continuation blocks) and
IV.A.2.p (shared messages).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from assay.containers.hdf5.reader import Cursor, Reader

MAX_BLOCK = 64 << 20
"""Bytes of one block of an object header: an attribute of a version 2 header may be large, not that large."""

MAX_BLOCKS = 4096
"""Blocks of one object header."""

DATASPACE = 0x01
LINK_INFO = 0x02
DATATYPE = 0x03
OLD_FILL_VALUE = 0x04
FILL_VALUE = 0x05
LINK = 0x06
EXTERNAL_FILES = 0x07
LAYOUT = 0x08
FILTERS = 0x0B
ATTRIBUTE = 0x0C
CONTINUATION = 0x10
SYMBOL_TABLE = 0x11
ATTRIBUTE_INFO = 0x15

_SHARED = 0x02
_SHARE_COMMITTED = 2


@dataclass(frozen=True, slots=True)
class Message:
    """One message of an object header.

    Args:
        kind: number of the message type.
        data: its body.
        address: where the body begins.
    """

    kind: int
    data: bytes
    address: int


def read_header(reader: Reader, address: int) -> list[Message]:
    """The messages of the object header at *address*; shared ones are fetched from where they lie.

    Raises:
        BadFormat: there is no object header, it disobeys its layout, or a shared message cannot be resolved.
        LimitExceeded: it has more blocks or bytes than are read.
    """
    messages = []
    for message, flags in _messages(reader, address):
        if not flags & _SHARED:
            messages.append(message)
            continue
        target = shared_address(reader.over(message.data), reader)
        found = [m for m, f in _messages(reader, target) if m.kind == message.kind and not f & _SHARED]
        if not found:
            raise reader.bad(f"shared message of type {message.kind} is not there", target)
        messages.append(found[0])
    return messages


def shared_address(cursor: Cursor, reader: Reader) -> int:
    """The object header that a shared message points to.

    Raises:
        BadFormat: it lies in the file's shared message heap, which is not supported.
    """
    version, kind = cursor.number(1), cursor.number(1)
    if version == 1:
        cursor.take(6)
    elif version == 3 and kind != _SHARE_COMMITTED:
        raise reader.bad(f"shared message of kind {kind} is not supported", 0)
    return cursor.address()


def _messages(reader: Reader, address: int) -> Iterator[tuple[Message, int]]:
    head = reader.read(address, 4)
    if head == b"OHDR":
        yield from _version_2(reader, address)
    elif head[0] == 1:
        yield from _version_1(reader, address)
    else:
        raise reader.bad(f"expected an object header, found {head!r}", address)


def _version_1(reader: Reader, address: int) -> Iterator[tuple[Message, int]]:
    cursor = reader.cursor(address, 12)
    cursor.take(2)
    left = cursor.number(2)
    cursor.take(4)
    blocks = deque([(address + 16, cursor.number(4))])
    seen = 0
    while blocks and left > 0:
        start, size = blocks.popleft()
        seen = _count_block(reader, start, size, seen)
        block = reader.cursor(start, size)
        while block.left >= 8 and left > 0:
            kind, length, flags = block.number(2), block.number(2), block.number(1)
            block.take(3)
            place = start + block.at
            data = block.take(length)
            left -= 1
            reader.step()
            if kind == CONTINUATION:
                blocks.append(_continuation(reader, data))
            elif kind:
                yield Message(kind, data, place), flags


def _version_2(reader: Reader, address: int) -> Iterator[tuple[Message, int]]:
    cursor = reader.cursor(address, min(40, reader.window.size - reader.superblock.base - address), b"OHDR")
    version, flags = cursor.number(1), cursor.number(1)
    if version != 2:
        raise reader.bad(f"object header version {version}, expected 2", address)
    cursor.take((16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0))
    size = cursor.number(1 << (flags & 3))
    blocks = deque([(address + cursor.at, size)])
    ordered = 2 if flags & 0x04 else 0
    seen = 0
    while blocks:
        start, size = blocks.popleft()
        seen = _count_block(reader, start, size, seen)
        block = reader.cursor(start, size)
        while block.left >= 4 + ordered:
            kind, length, message_flags = block.number(1), block.number(2), block.number(1)
            block.take(ordered)
            place = start + block.at
            data = block.take(length)
            reader.step()
            if kind == CONTINUATION:
                # A continuation block is signed in front and has a checksum behind, which are no messages.
                place, length = _continuation(reader, data)
                if length < 8 or reader.read(place, 4) != b"OCHK":
                    raise reader.bad("expected a continuation block", place)
                blocks.append((place + 4, length - 8))
            elif kind:
                yield Message(kind, data, place), message_flags


def _continuation(reader: Reader, data: bytes) -> tuple[int, int]:
    cursor = reader.over(data)
    return cursor.address(), cursor.length()


def _count_block(reader: Reader, start: int, size: int, seen: int) -> int:
    if seen >= MAX_BLOCKS or size > MAX_BLOCK:
        raise reader.bad(f"object header of more than {MAX_BLOCKS} blocks or a block of {size:,} bytes", start)
    return seen + 1
