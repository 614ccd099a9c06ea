"""A blob in a bucket as a source: much at once by parallel ranges, little at a time with some read ahead."""

from __future__ import annotations

from concurrent.futures import Executor

from assay.blobs.bucket.objects import BucketObjects
from assay.blobs.far import RecentBlocks, wait_for_all

AHEAD = 256 << 10
"""Bytes fetched for a small read: parsers ask for a few bytes here, the next few there."""
_KEPT = 8
"""Fetched blocks that are kept."""


class BucketSource:
    """The bytes of one object, which never changes.

    Args:
        objects: where it lies.
        key: its name.
        size: its length.
        pool: who fetches ranges.
        mark: see ``mark_of``.
    """

    def __init__(self, objects: BucketObjects, key: str, size: int, pool: Executor, *, mark: str = "") -> None:
        self.mark = mark
        self._objects = objects
        self._key = key
        self._size = size
        self._pool = pool
        self._recent = RecentBlocks(_KEPT)

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self._size

    def read(self, offset: int, length: int) -> bytes:
        """The bytes in [offset, offset + length), cut off at the end.

        Raises:
            NotFound: it is gone (code ``object-missing``).
            StorageError: the place failed.
        """
        end = min(offset + length, self._size)
        if end <= offset:
            return b""
        first, last = offset // AHEAD, (end - 1) // AHEAD
        if last - first <= 1:
            data = b"".join(self._recent.get(number, self._block) for number in range(first, last + 1))
            return data[offset - first * AHEAD : end - first * AHEAD]
        buffer = bytearray(end - offset)
        self.read_into(offset, memoryview(buffer))
        return bytes(buffer)

    def read_into(self, offset: int, into: memoryview) -> int:
        """Fill *into* from the bytes at *offset*; how many were written.

        Raises:
            NotFound: it is gone (code ``object-missing``).
            StorageError: the place failed.
        """
        count = max(0, min(len(into), self._size - offset))
        piece = self._objects.options.piece
        if count <= piece:
            if count:
                self._objects.read_into(self._key, offset, into[:count])
            return count
        jobs = [
            self._pool.submit(
                self._objects.read_into, self._key, offset + start, into[start : min(start + piece, count)]
            )
            for start in range(0, count, piece)
        ]
        wait_for_all(jobs)
        return count

    def _block(self, number: int) -> bytes:
        start = number * AHEAD
        return self._objects.get_range(self._key, start, min(AHEAD, self._size - start))
