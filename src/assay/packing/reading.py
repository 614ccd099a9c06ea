"""Reading packed bytes: any range of a blob, decoding the blocks that it touches and no others.

Every block is compared with its digest, so that what is read is what was packed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from assay.errors import IntegrityError
from assay.packing import codec
from assay.packing.codec import BLOCK
from assay.packing.segments import Block, Segment, decode_block, read_table, table_size
from assay.trees import Source

Bytes = NDArray[np.uint8]
MAX_DEPTH = 8
"""Bases of bases that a reader follows; writers stay below (``kin.MAX_DEPTH``)."""


class Shelf(Protocol):
    """Where segments are found, whatever pack they lie in."""

    def find(self, segment: bytes) -> tuple[Segment, Source] | None:
        """A segment by its id, and the pack that holds it; None when none does.

        Raises:
            StorageError: the place failed.
        """
        ...


class Decoder:
    """Gives blocks back; safe for several threads.

    Args:
        shelf: where segments are found.
    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def block(self, segment: bytes, number: int, into: Bytes, *, depth: int = 0) -> None:
        """Decode block *number* of a segment into *into*, which has exactly its length.

        Raises:
            IntegrityError: it is damaged, or it or a base of it is not here (code ``segment-missing``).
            BadFormat: it is damaged in a way that shows in its form.
        """
        found = self._shelf.find(segment)
        if found is None or depth > MAX_DEPTH:
            raise IntegrityError(
                f"segment {segment.hex()[:12]} is in no pack here, or has more than {MAX_DEPTH} bases",
                code="segment-missing",
                hint="assay verify --all says which versions are hit",
            )
        held, pack = found
        block = self._blocks(held, pack)[number]
        stored = memoryview(pack.read(held.offset + block.offset, block.length))
        base = None
        if held.base is not None and codec.needs_base(stored):
            base = np.empty(len(into), np.uint8)
            self.block(held.base, number, base, depth=depth + 1)
        decode_block(held, block, stored, into, base=base)

    def _blocks(self, held: Segment, pack: Source) -> list[Block]:
        size = table_size(held.size)
        return read_table(held, pack.read(held.offset + held.stored - size, size))


class PackedSource:
    """A packed blob's bytes.

    Args:
        decoder: gives blocks.
        parts: ids and sizes of the segments that make up the blob, in order.
    """

    def __init__(self, decoder: Decoder, parts: Sequence[tuple[bytes, int]]) -> None:
        self._decoder = decoder
        self._parts = parts
        self._ends = list(accumulate(size for _, size in parts))

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self._ends[-1] if self._ends else 0

    def read(self, offset: int, length: int) -> bytes:
        """The bytes in [offset, offset + length), cut off at the end."""
        into = bytearray(max(0, min(length, self.size - offset)))
        self.read_into(offset, memoryview(into))
        return bytes(into)

    def read_into(self, offset: int, into: memoryview) -> int:
        """Fill *into* from the bytes at *offset*; how many were written."""
        wanted = max(0, min(len(into), self.size - offset))
        target, done = np.frombuffer(into, np.uint8), 0
        while done < wanted:
            done += self._piece(offset + done, target[done:wanted])
        return wanted

    def _piece(self, at: int, into: Bytes) -> int:
        """Fill the beginning of *into* from the one block that holds the byte at *at*."""
        number = bisect_right(self._ends, at)
        segment, size = self._parts[number]
        within = at - (self._ends[number] - size)
        block, skipped = divmod(within, BLOCK)
        length = min(BLOCK, size - block * BLOCK)
        count = min(length - skipped, len(into))
        if count == length:
            self._decoder.block(segment, block, into[:count])
        else:
            whole = np.empty(length, np.uint8)
            self._decoder.block(segment, block, whole)
            into[:count] = whole[skipped : skipped + count]
        return count
