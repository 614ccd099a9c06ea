"""HDF5 indexes: B-trees of both versions and the fractal heap that new-style groups keep their links in.

Source of the layout: "HDF5 File Format Specification Version 3.0", III.A (B-trees), III.D (local heap), III.G
(fractal heap).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from assay.containers.hdf5.reader import Reader, bytes_for

MAX_DEPTH = 32
"""Levels of a B-tree or of indirect heap blocks."""

MAX_HEAP_BLOCK = 64 << 20
"""Bytes of one block of a heap."""

GROUP_NODES = 0
CHUNK_NODES = 1


def tree_1(reader: Reader, address: int, kind: int, key_size: int) -> Iterator[tuple[bytes, int]]:
    """The leaves of a version 1 B-tree, in order.

    Args:
        reader: the file.
        address: the root node.
        kind: ``GROUP_NODES`` or ``CHUNK_NODES``.
        key_size: bytes of a key.

    Yields:
        The key in front of each child of a leaf node, and the child's address.

    Raises:
        BadFormat: a node disobeys the layout; nodes that contain themselves do so too, because levels must fall.
    """
    stack: list[tuple[int, int | None]] = [(address, None)]
    pointer = reader.superblock.offset_size
    while stack:
        node, expected = stack.pop()
        cursor = reader.cursor(node, 8 + 2 * pointer, b"TREE")
        node_kind, level, used = cursor.number(1), cursor.number(1), cursor.number(2)
        if node_kind != kind or level > MAX_DEPTH or (expected is not None and level != expected):
            raise reader.bad(f"B-tree node of kind {node_kind} and level {level} is out of place", node)
        body = reader.cursor(node + 8 + 2 * pointer, used * (key_size + pointer) + key_size)
        children = []
        for _ in range(used):
            key = body.take(key_size)
            children.append((key, body.address()))
        reader.step(used)
        if level == 0:
            yield from children
        else:
            stack.extend((child, level - 1) for _, child in reversed(children))


def tree_2(reader: Reader, address: int) -> Iterator[bytes]:
    """The records of a version 2 B-tree; the order is of no importance to us.

    Raises:
        BadFormat: a node disobeys the layout.
    """
    cursor = reader.cursor(address, 16 + reader.superblock.offset_size + 2, b"BTHD")
    cursor.take(2)
    node_size, record_size, depth = cursor.number(4), cursor.number(2), cursor.number(2)
    cursor.take(2)
    root, used = cursor.address(), cursor.number(2)
    if depth > MAX_DEPTH or record_size == 0 or node_size > MAX_HEAP_BLOCK:
        raise reader.bad(f"B-tree of depth {depth} with nodes of {node_size:,} bytes", address)
    most = max(0, node_size - 10) // record_size
    count_size = bytes_for(most)
    # Bytes of the number of records below a child, per depth of the parent; leaves have none.
    total_sizes = [0]
    below = most
    for level in range(1, depth + 1):
        pointer = reader.superblock.offset_size + count_size + (total_sizes[level - 1] if level > 1 else 0)
        here = max(0, node_size - 10 - pointer) // (record_size + pointer)
        below = (here + 1) * below + here
        total_sizes.append(bytes_for(below))
    stack = [(root, used, depth)] if used and root != reader.undefined else []
    while stack:
        node, used, level = stack.pop()
        pointer = reader.superblock.offset_size + count_size + (total_sizes[level - 1] if level > 1 else 0)
        size = 6 + used * record_size + ((used + 1) * pointer if level else 0)
        body = reader.cursor(node, size, b"BTIN" if level else b"BTLF")
        body.take(2)
        reader.step(used)
        for _ in range(used):
            yield body.take(record_size)
        for _ in range(used + 1 if level else 0):
            child, child_used = body.address(), body.number(count_size)
            body.take(pointer - reader.superblock.offset_size - count_size)
            stack.append((child, child_used, level - 1))


def local_heap(reader: Reader, address: int) -> bytes:
    """The data segment of the local heap at *address*: the names of an old-style group.

    Raises:
        BadFormat: there is none.
    """
    sizes = reader.superblock
    cursor = reader.cursor(address, 8 + 2 * sizes.length_size + sizes.offset_size, b"HEAP")
    cursor.take(4)
    size, _free = cursor.length(), cursor.length()
    if size > MAX_HEAP_BLOCK:
        raise reader.bad(f"local heap of {size:,} bytes", address)
    return reader.read(cursor.address(), size)


@dataclass(frozen=True, slots=True)
class _Shape:
    """The doubling table of a fractal heap: row r holds ``width`` blocks of ``start * 2 ** max(0, r - 1)`` bytes."""

    width: int
    start: int
    largest: int
    offset_bytes: int

    def block(self, row: int) -> int:
        return self.start << max(0, row - 1)

    def row_offset(self, row: int) -> int:
        return 0 if row == 0 else (self.width * self.start) << (row - 1)

    @property
    def direct_rows(self) -> int:
        return (self.largest.bit_length() - self.start.bit_length()) + 2


class FractalHeap:
    """Objects by heap id: links and attributes of objects that have many.

    Args:
        reader: the file.
        address: the heap's header.

    Raises:
        BadFormat: the header disobeys the layout, or the heap is filtered (which no writer we know does).
    """

    def __init__(self, reader: Reader, address: int) -> None:
        sizes = reader.superblock
        self._reader = reader
        cursor = reader.cursor(address, 22 + 12 * sizes.length_size + 3 * sizes.offset_size, b"FRHP")
        cursor.take(1)
        _id_length, filters, _flags = cursor.number(2), cursor.number(2), cursor.number(1)
        self._max_managed = cursor.number(4)
        cursor.take(10 * sizes.length_size + 2 * sizes.offset_size)
        width, start, largest = cursor.number(2), cursor.length(), cursor.length()
        bits = cursor.number(2)
        cursor.take(2)
        self._root, self._rows = cursor.address(), cursor.number(2)
        plain = 0 < start <= largest <= MAX_HEAP_BLOCK and start & (start - 1) == 0 and largest & (largest - 1) == 0
        if filters or not plain or not 0 < width <= 1024 or bits > 64:
            raise reader.bad("fractal heap is filtered or out of shape", address)
        self._shape = _Shape(width, start, largest, (bits + 7) // 8)
        self._length_bytes = min(bytes_for(largest), bytes_for(self._max_managed))
        self._blocks: dict[int, bytes] = {}

    def object(self, heap_id: bytes) -> bytes:
        """The object with a heap id.

        Raises:
            BadFormat: there is none, or it is a huge object, which is not supported.
        """
        reader = self._reader
        cursor = reader.over(heap_id)
        kind = cursor.number(1) >> 4 & 3
        if kind == 2:
            length = (heap_id[0] & 15) + 1
            return cursor.take(length)
        if kind != 0:
            raise reader.bad("a huge object of a fractal heap is not supported", self._root)
        offset, length = cursor.number(self._shape.offset_bytes), cursor.number(self._length_bytes)
        address, size, first = self._locate(offset)
        block = self._blocks.get(address)
        if block is None:
            block = self._blocks[address] = reader.read(address, size)
            if block[:4] != b"FHDB":
                raise reader.bad("expected a direct block of a fractal heap", address)
        reader.step()
        found = block[offset - first : offset - first + length]
        if len(found) != length:
            raise reader.bad("an object of a fractal heap crosses its block", address)
        return found

    def _locate(self, offset: int) -> tuple[int, int, int]:
        """Address, size and first heap offset of the direct block that holds *offset*."""
        reader, shape = self._reader, self._shape
        if self._rows == 0:
            return self._root, shape.start, 0
        node, first, rows = self._root, 0, self._rows
        for _ in range(MAX_DEPTH):
            inner = offset - first
            row = 0 if inner < shape.width * shape.start else (inner // (shape.width * shape.start)).bit_length()
            if row >= rows:
                break
            column = (inner - shape.row_offset(row)) // shape.block(row)
            place = row * shape.width + column
            pointer = reader.superblock.offset_size
            if reader.read(node, 4) != b"FHIB":
                raise reader.bad("expected an indirect block of a fractal heap", node)
            head = 5 + pointer + shape.offset_bytes
            child = reader.over(reader.read(node + head + place * pointer, pointer)).address()
            first += shape.row_offset(row) + column * shape.block(row)
            if row < shape.direct_rows:
                return child, shape.block(row), first
            # An indirect block of row r spans as many bytes as one block of that row: so many rows of its own.
            rows = (shape.block(row) // (shape.width * shape.start)).bit_length()
            node = child
        raise reader.bad(f"a fractal heap has no offset {offset}", self._root)
