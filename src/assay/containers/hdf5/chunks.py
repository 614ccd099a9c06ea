"""Elements of chunked HDF5 datasets: finding the chunks and putting them together.

Source of the layout: "HDF5 File Format Specification Version 3.0", III.A (chunk B-trees), VII.C (fixed arrays), and
IV.A.2.i for the implicit and the single chunk index.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from assay.containers.hdf5.indexes import CHUNK_NODES, tree_1, tree_2
from assay.containers.hdf5.layout import Layout, Storage, undo
from assay.containers.hdf5.reader import Cursor, Reader, bytes_for
from assay.containers.hdf5.types import Dataspace
from assay.errors import BadFormat, LimitExceeded

MAX_CHUNK = 1 << 32
"""Bytes of one chunk, as in the library."""

MAX_ELEMENTS_BYTES = 1 << 33
"""Bytes of one dataset put together in memory."""

MAX_LEFTOVERS = 4096
"""Chunks outside the present shape that are passed over."""

MAX_RATIO = 1100
"""Bytes of a dataset per byte of the file: deflate cannot do more (1032), and fill values are rarely stored."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """One stored chunk: its place in the dataset counted in elements, and its bytes in the file."""

    offset: tuple[int, ...]
    address: int
    size: int
    mask: int


def assemble(reader: Reader, space: Dataspace, item: int, storage: Storage) -> bytes:
    """All elements of a chunked dataset in C order, as stored (byte order is left alone).

    Args:
        reader: the file.
        space: of the dataset.
        item: bytes of one element.
        storage: how it is stored.

    Raises:
        BadFormat: the index, a filter or a chunk is unsupported or damaged.
        LimitExceeded: the dataset or one chunk is larger than is read.
    """
    layout, shape = storage.layout, space.dims
    size, chunk_size = prod(shape) * item, prod(layout.chunk) * item
    room = (reader.window.size + 1024) * MAX_RATIO
    if size > min(MAX_ELEMENTS_BYTES, room) or chunk_size > min(MAX_CHUNK, room):
        raise LimitExceeded(
            f"{reader.window.path}: an HDF5 dataset of {size:,} bytes in chunks of {chunk_size:,} is too large to read",
            path=reader.window.path,
        )
    if len(layout.chunk) != len(shape):
        raise BadFormat(
            f"{reader.window.path}: HDF5 chunks of rank {len(layout.chunk)} in a dataset of rank {len(shape)}",
            path=reader.window.path,
        )
    out = np.zeros((*shape, item), np.uint8)
    if len(storage.fill) == item and any(storage.fill):
        out[...] = np.frombuffer(storage.fill, np.uint8)
    cells = prod(-(-size // step) for size, step in zip(shape, layout.chunk, strict=True))
    for number, chunk in enumerate(chunks(reader, space, item, storage)):
        # A cell stored twice would let a small file ask for endless inflating; leftovers of a larger shape are few.
        if number >= cells + MAX_LEFTOVERS:
            raise BadFormat(f"{reader.window.path}: more HDF5 chunks than the dataset has", path=reader.window.path)
        _place(reader, chunk, chunk_size, storage, out)
    return out.tobytes()


def chunks(reader: Reader, space: Dataspace, item: int, storage: Storage) -> Iterator[Chunk]:
    """The stored chunks of a dataset, in the order of its index.

    Raises:
        BadFormat: the index is of a kind that is not supported, or disobeys its layout.
    """
    layout = storage.layout
    if layout.address is None:
        return
    size = prod(layout.chunk) * item
    if layout.index == "b-tree-1":
        yield from _tree_1(reader, layout, len(space.dims))
    elif layout.index == "single":
        stored, mask = layout.single or (size, 0)
        yield Chunk((0,) * len(space.dims), layout.address, stored, mask)
    elif layout.index == "implicit":
        for number, offset in enumerate(_grid(space, layout.chunk)):
            reader.step()
            yield Chunk(offset, layout.address + number * size, size, 0)
    elif layout.index == "fixed-array":
        yield from _fixed_array(reader, layout, space, size)
    elif layout.index == "b-tree-2":
        yield from _tree_2(reader, layout, len(space.dims), size, filtered=bool(storage.filters))
    else:
        raise reader.bad(f"chunk index {layout.index} is not supported", layout.address)


def _place(reader: Reader, chunk: Chunk, size: int, storage: Storage, out: npt.NDArray[np.uint8]) -> None:
    if any(start >= limit for start, limit in zip(chunk.offset, out.shape, strict=False)):
        # Chunks beyond the current extent are left over from a dataset that was made smaller.
        return
    raw = reader.window.exactly(reader.superblock.base + chunk.address, chunk.size)
    data = undo(storage.filters, chunk.mask, raw, size, reader.window.path)
    block = np.frombuffer(data, np.uint8).reshape((*storage.layout.chunk, out.shape[-1]))
    target = tuple(
        slice(start, min(start + step, limit))
        for start, step, limit in zip(chunk.offset, storage.layout.chunk, out.shape, strict=False)
    )
    source = tuple(slice(0, part.stop - part.start) for part in target)
    out[target] = block[source]


def _grid(space: Dataspace, chunk: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Places of the chunks in C order, over the largest shape: that is how array-like indexes count them."""
    counts = [-(-size // step) for size, step in zip(space.limits, chunk, strict=True)]
    for number in range(prod(counts)):
        left, places = number, []
        for count, step in zip(reversed(counts), reversed(chunk), strict=True):
            left, place = divmod(left, count)
            places.append(place * step)
        yield tuple(reversed(places))


def _tree_1(reader: Reader, layout: Layout, rank: int) -> Iterator[Chunk]:
    for key, address in tree_1(reader, layout.address or 0, CHUNK_NODES, 8 + 8 * (rank + 1)):
        cursor = reader.over(key)
        size, mask = cursor.number(4), cursor.number(4)
        yield Chunk(tuple(cursor.number(8) for _ in range(rank)), address, size, mask)


def _tree_2(reader: Reader, layout: Layout, rank: int, size: int, *, filtered: bool) -> Iterator[Chunk]:
    for record in tree_2(reader, layout.address or 0):
        cursor = reader.over(record)
        address, stored, mask = cursor.address(), size, 0
        if filtered:
            stored, mask = cursor.number(_size_bytes(size)), cursor.number(4)
        yield Chunk(tuple(cursor.number(8) * step for step in layout.chunk[:rank]), address, stored, mask)


def _fixed_array(reader: Reader, layout: Layout, space: Dataspace, size: int) -> Iterator[Chunk]:
    sizes = reader.superblock
    head = reader.cursor(layout.address or 0, 8 + sizes.length_size + sizes.offset_size, b"FAHD")
    head.take(1)
    filtered, entry, page_bits = head.number(1) == 1, head.number(1), head.number(1)
    count, block = head.length(), head.address()
    if block == reader.undefined:
        return
    start = block + 6 + sizes.offset_size
    offsets = _grid(space, layout.chunk)
    per_page = 1 << min(page_bits, 62)
    if count <= per_page:
        cursor = reader.cursor(start, count * entry)
        yield from _entries(reader, cursor, offsets, count, entry, size, filtered=filtered)
        return
    pages = -(-count // per_page)
    bitmap = reader.read(start, (pages + 7) // 8)
    start += len(bitmap) + 4
    for page in range(pages):
        here = min(per_page, count - page * per_page)
        if bitmap[page // 8] >> (7 - page % 8) & 1:
            cursor = reader.cursor(start + page * (per_page * entry + 4), here * entry)
            yield from _entries(reader, cursor, offsets, here, entry, size, filtered=filtered)
        else:
            for _ in zip(range(here), offsets, strict=False):
                reader.step()


def _entries(
    reader: Reader,
    cursor: Cursor,
    offsets: Iterator[tuple[int, ...]],
    count: int,
    entry: int,
    size: int,
    *,
    filtered: bool,
) -> Iterator[Chunk]:
    reader.step(count)
    for _, offset in zip(range(count), offsets, strict=False):
        address, stored, mask = cursor.address(), size, 0
        if filtered:
            stored, mask = cursor.number(entry - reader.superblock.offset_size - 4), cursor.number(4)
        if address != reader.undefined:
            yield Chunk(offset, address, stored, mask)


def _size_bytes(size: int) -> int:
    """Bytes of a filtered chunk's stored size: one more than its plain size needs, at most eight."""
    return min(8, 1 + bytes_for(size))
