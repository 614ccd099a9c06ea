"""A blob in a bucket as a source: much at once by parallel ranges, little at a time with some read ahead."""

from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import Executor
from threading import Lock

from assay.blobs.bucket.objects import BucketObjects

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
    """

    def __init__(self, objects: BucketObjects, key: str, size: int, pool: Executor) -> None:
        self._objects = objects
        self._key = key
        self._size = size
        self._pool = pool
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._lock = Lock()

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
            data = b"".join(self._block(number) for number in range(first, last + 1))
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
        try:
            for job in jobs:
                job.result()
        finally:
            for job in jobs:
                job.cancel()
            for job in jobs:  # nobody may write into the caller's memory afterwards
                if not job.cancelled():
                    job.exception()
        return count

    def _block(self, number: int) -> bytes:
        with self._lock:
            data = self._blocks.get(number)
            if data is not None:
                self._blocks.move_to_end(number)
                return data
        start = number * AHEAD
        data = self._objects.get_range(self._key, start, min(AHEAD, self._size - start))
        with self._lock:
            self._blocks[number] = data
            while len(self._blocks) > _KEPT:
                self._blocks.popitem(last=False)
        return data
