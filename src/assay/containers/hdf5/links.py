"""Links of an HDF5 group, in each of the three ways they are stored.

Source of the layout: "HDF5 File Format Specification Version 3.0", III.B and III.C (symbol tables), IV.A.2.c and
IV.A.2.g (link info and link messages), III.A.2 (records 5 of version 2 B-trees).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from assay.containers.hdf5.headers import LINK, LINK_INFO, SYMBOL_TABLE, Message
from assay.containers.hdf5.indexes import GROUP_NODES, FractalHeap, local_heap, tree_1, tree_2
from assay.containers.hdf5.reader import Cursor, Reader

MAX_NAME = 64 << 10
"""Bytes of one link name."""

_SOFT, _EXTERNAL = 1, 64
_CACHED_SOFT = 2


@dataclass(frozen=True, slots=True)
class Link:
    """One name in a group.

    Args:
        name: its name.
        address: the object header, for a hard link.
        soft: path of a soft link.
        external: file and path of a link out of this file.
        unknown: kind of a user-defined link.
    """

    name: str
    address: int | None = None
    soft: str | None = None
    external: tuple[str, str] | None = None
    unknown: int | None = None


def links(reader: Reader, messages: list[Message]) -> Iterator[Link]:
    """The links of the group that *messages* describe, in the order of the file.

    Raises:
        BadFormat: an index or a link disobeys its layout; links given before stay valid.
    """
    for message in messages:
        if message.kind == LINK:
            yield read_link(reader.over(message.data))
        elif message.kind == SYMBOL_TABLE:
            cursor = reader.over(message.data)
            yield from _symbols(reader, cursor.address(), cursor.address())
        elif message.kind == LINK_INFO:
            cursor = reader.over(message.data)
            cursor.take(1)
            cursor.take(8 if cursor.number(1) & 1 else 0)
            heap, index = cursor.address(), cursor.address()
            if reader.undefined not in {heap, index}:
                fractal = FractalHeap(reader, heap)
                for record in tree_2(reader, index):
                    # A record of kind 5: four bytes of hash, then the heap id.
                    yield read_link(reader.over(fractal.object(record[4:])))


def read_link(cursor: Cursor) -> Link:
    """Decode a link message.

    Raises:
        BadFormat: it ends early.
    """
    cursor.take(1)
    flags = cursor.number(1)
    kind = cursor.number(1) if flags & 8 else 0
    cursor.take((8 if flags & 4 else 0) + (1 if flags & 0x10 else 0))
    name = cursor.take(min(cursor.number(1 << (flags & 3)), MAX_NAME)).decode("utf-8", "replace")
    if kind == 0:
        return Link(name, address=cursor.address())
    value = cursor.take(cursor.number(2))
    if kind == _SOFT:
        return Link(name, soft=value.decode("utf-8", "replace"))
    if kind == _EXTERNAL:
        file, _, path = value[1:].rstrip(b"\0").partition(b"\0")
        return Link(name, external=(file.decode("utf-8", "replace"), path.decode("utf-8", "replace")))
    return Link(name, unknown=kind)


def _symbols(reader: Reader, tree: int, heap: int) -> Iterator[Link]:
    names = local_heap(reader, heap)
    sizes = reader.superblock
    entry = 2 * sizes.offset_size + 24
    for _key, node in tree_1(reader, tree, GROUP_NODES, sizes.length_size):
        cursor = reader.cursor(node, 8, b"SNOD")
        cursor.take(2)
        count = cursor.number(2)
        body = reader.cursor(node + 8, count * entry)
        reader.step(count)
        for _ in range(count):
            name, address, cached = _name(reader, names, body.address()), body.address(), body.number(4)
            body.take(4)
            scratch = body.take(16)
            if cached == _CACHED_SOFT:
                yield Link(name, soft=_name(reader, names, int.from_bytes(scratch[:4], "little")))
            else:
                yield Link(name, address=address)


def _name(reader: Reader, names: bytes, offset: int) -> str:
    end = names.find(b"\0", offset, offset + MAX_NAME)
    if end < 0:
        raise reader.bad(f"a link name at {offset} of the local heap has no end", 0)
    return names[offset:end].decode("utf-8", "replace")
