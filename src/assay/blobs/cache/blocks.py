"""A far blob read in part: blocks that were fetched stay in the cache.

A block is what the far store gave; only a whole blob can be compared with its digest. The checksum behind a block tells
that it is still what was fetched, whatever happened to the local disk.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock

from blake3 import blake3

from assay.blobs.cache.folder import CacheFolder, touch
from assay.blobs.far import RecentBlocks, wait_for_all
from assay.errors import StorageError
from assay.spec.digest import Digest
from assay.trees import Source, read_into

BLOCK = 1 << 20
"""Bytes per block: one tensor of some MiB is fetched with little more around it."""
RUN = 16
"""Blocks that are fetched by one request, at most."""
LATER = 64 << 20
"""Bytes of blocks that wait to be kept, at most: a reader of one tensor does not wait for the disk."""
_SUM = 32
_RECENT = 4
_SMALL = 64 << 10


class Kept:
    """The blocks of one blob in a cache.

    Args:
        folder: the cache.
        place: where the blob comes from: places are not trusted with each other's blobs.
        digest: which blob.
        size: its length.
    """

    def __init__(self, folder: CacheFolder, place: str, digest: Digest, size: int) -> None:
        self._folder = folder
        self._place = place
        self._digest = digest
        self._size = size

    def length(self, number: int) -> int:
        """Bytes of a block."""
        return min(BLOCK, self._size - number * BLOCK)

    def load(self, number: int, into: memoryview) -> bool:
        """Fill *into*, as long as the block, from the cache; False when it is not there or damaged."""
        path = self._path(number)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            found = bytearray(_SUM)
            count = os.preadv(descriptor, [into, found], 0)
            if count == len(into) + _SUM and self._sum(number, into) == found:
                touch(descriptor)
                return True
        except OSError:
            pass
        finally:
            os.close(descriptor)
        with suppress(OSError):
            path.unlink()
        return False

    def save(self, number: int, data: memoryview) -> None:
        """Keep a block, if that can be."""
        path = self._path(number)
        try:
            self._folder.prepare()
            with self._folder.staging.new() as staged:
                os.writev(staged.descriptor, [data, self._sum(number, data)])
                if os.fstat(staged.descriptor).st_size != len(data) + _SUM:
                    return  # a full disk
                path.parent.mkdir(parents=True, exist_ok=True)
                staged.path.replace(path)
        except OSError:
            return
        self._folder.added(len(data))

    def _path(self, number: int) -> Path:
        return self._folder.block(self._place, self._digest, number)

    def _sum(self, number: int, data: memoryview) -> bytes:
        return blake3(data).update(f"{self._digest}/{number}".encode()).digest()


@dataclass(frozen=True, slots=True)
class Brought:
    """Blocks that were fetched.

    Args:
        numbers: which; they follow each other.
        data: their bytes.
        own: nobody else writes to them.
    """

    numbers: Sequence[int]
    data: memoryview
    own: bool


class Keeper:
    """Keeps blocks behind the reader's back, up to ``LATER`` bytes of them; a reader that is faster does it itself."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="assay-keep")
        self._pending = 0
        self._lock = Lock()

    def keep(self, kept: Kept, brought: Brought) -> None:
        """Keep blocks that were fetched.

        Args:
            kept: where.
            brought: the blocks; copied where others may write to them.
        """
        numbers, data = brought.numbers, brought.data
        with self._lock:
            later = self._pending + len(data) <= LATER
            self._pending += len(data) if later else 0
        if later:
            self._pool.submit(self._save_later, kept, numbers, data if brought.own else memoryview(bytes(data)))
        else:
            _save(kept, numbers, data)

    def _save_later(self, kept: Kept, numbers: Sequence[int], data: memoryview) -> None:
        try:
            _save(kept, numbers, data)
        finally:
            with self._lock:
                self._pending -= len(data)


class CachedSource:
    """A far blob, read through the cache.

    Args:
        kept: its blocks.
        far: where its bytes come from when a block is missing.
        pool: who reads runs of blocks.
        keeper: who keeps what was fetched.
    """

    def __init__(self, kept: Kept, far: Source, pool: Executor, keeper: Keeper) -> None:
        self._kept = kept
        self._size = far.size
        self._far = far
        self._pool = pool
        self._keeper = keeper
        self._recent = RecentBlocks(_RECENT)

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self._size

    def read(self, offset: int, length: int) -> bytes:
        """The bytes in [offset, offset + length), cut off at the end.

        Raises:
            NotFound: it is gone.
            StorageError: the far store failed.
        """
        end = min(offset + length, self._size)
        if end <= offset:
            return b""
        number = offset // BLOCK
        if end - offset <= _SMALL and (end - 1) // BLOCK == number:
            start = offset - number * BLOCK
            return self._recent.get(number, self._whole)[start : start + end - offset]
        buffer = bytearray(end - offset)
        self.read_into(offset, memoryview(buffer))
        return bytes(buffer)

    def read_into(self, offset: int, into: memoryview) -> int:
        """Fill *into* from the bytes at *offset*; how many were written.

        Raises:
            NotFound: it is gone.
            StorageError: the far store failed.
        """
        count = max(0, min(len(into), self._size - offset))
        if not count:
            return 0
        brought: list[Brought] = []
        # A short wait is not made longer by what could as well be kept after it.
        keep = brought.append if count <= LATER else partial(self._keeper.keep, self._kept)
        try:
            self._bring(self._runs(offset, count), offset, into[:count], keep)
        finally:
            for one in brought:
                self._keeper.keep(self._kept, one)
        return count

    def _bring(self, runs: Sequence[range], offset: int, view: memoryview, keep: Callable[[Brought], None]) -> None:
        if len(runs) == 1:
            self._run(runs[0], offset, view, keep)
            return
        wait_for_all([self._pool.submit(self._run, run, offset, view, keep) for run in runs])

    def _runs(self, offset: int, count: int) -> list[range]:
        """Which blocks to bring together. Long runs are whole blocks, which need no copy of their own."""
        first, last = offset // BLOCK, (offset + count - 1) // BLOCK
        if last - first < RUN:
            return [range(first, last + 1)]
        low = first if offset == first * BLOCK else first + 1
        high = last + 1 if offset + count == min((last + 1) * BLOCK, self._size) else last
        runs = [range(start, min(start + RUN, high)) for start in range(low, high, RUN)]
        return [*(range(one, one + 1) for one in (first, last) if not low <= one < high), *runs]

    def _run(self, run: Sequence[int], offset: int, view: memoryview, keep: Callable[[Brought], None]) -> None:
        """Bring blocks that follow each other into *view*, whose first byte is at *offset* of the blob."""
        missing: list[int] = []
        for number in run:
            if self._load(number, offset, view):
                self._fetch(missing, offset, view, keep)
                missing = []
            else:
                missing.append(number)
        self._fetch(missing, offset, view, keep)

    def _load(self, number: int, offset: int, view: memoryview) -> bool:
        start = number * BLOCK - offset
        length = self._kept.length(number)
        if start >= 0 and start + length <= len(view):
            return self._kept.load(number, view[start : start + length])
        block = memoryview(bytearray(length))
        if not self._kept.load(number, block):
            return False
        _overlay(block, start, view)
        return True

    def _fetch(self, numbers: Sequence[int], offset: int, view: memoryview, keep: Callable[[Brought], None]) -> None:
        if not numbers:
            return
        start = numbers[0] * BLOCK
        length = (numbers[-1] - numbers[0]) * BLOCK + self._kept.length(numbers[-1])
        inside = start >= offset and start + length <= offset + len(view)
        data = view[start - offset : start - offset + length] if inside else memoryview(bytearray(length))
        count = read_into(self._far, start, data)
        if count != length:
            raise StorageError(f"the far store gave {count} bytes of {length}", code="bucket-failed")
        if not inside:
            _overlay(data, start - offset, view)
        keep(Brought(numbers, data, own=not inside))

    def _whole(self, number: int) -> bytes:
        block = bytearray(self._kept.length(number))
        self._run([number], number * BLOCK, memoryview(block), partial(self._keeper.keep, self._kept))
        return bytes(block)


def _save(kept: Kept, numbers: Sequence[int], data: memoryview) -> None:
    for number in numbers:
        at = (number - numbers[0]) * BLOCK
        kept.save(number, data[at : at + kept.length(number)])


def _overlay(block: memoryview, start: int, view: memoryview) -> None:
    """Copy the part of *block* that lies in *view*, where the block begins at *start*, which may be negative."""
    low, high = max(start, 0), min(start + len(block), len(view))
    view[low:high] = block[low - start : high - start]
