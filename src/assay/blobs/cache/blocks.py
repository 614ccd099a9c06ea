"""A far blob read in part, through the cache.

Short reads fetch whole blocks: the next one is likely to lie beside them. Long reads fetch what was asked for and
nothing else, straight into place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

from assay.blobs.cache.keeper import Brought, Hands
from assay.blobs.cache.kept import BLOCK, Kept
from assay.blobs.far import RecentBlocks, wait_for_all
from assay.errors import StorageError
from assay.trees import Source, read_into

RUN = 16
"""Blocks that are fetched together, at most."""
_TOGETHER = 4
"""Blocks that one thread loads."""
_LONG = 2 * BLOCK
_RECENT = 4
_SMALL = 64 << 10

_A = TypeVar("_A")
_B = TypeVar("_B")


class CachedSource:
    """A far blob, read through the cache.

    Args:
        kept: its blocks.
        far: where its bytes come from when a block is missing.
        hands: who reads, and who keeps what was fetched.
    """

    def __init__(self, kept: Kept, far: Source, hands: Hands) -> None:
        self._kept = kept
        self._size = far.size
        self._far = far
        self._hands = hands
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
        brought, keeper = list[Brought](), self._hands.keeper
        # A short wait is not made longer by what could as well be kept after it.
        keep = brought.append if count <= keeper.most else partial(keeper.keep, self._kept)
        # Who is faster than the disk fetches whole blocks: two halves of one are more work.
        exactly = count > _LONG and keeper.has_room(count)
        reading = _Reading(self._kept, self._far, offset, into[:count], exactly=exactly, keep=keep)
        try:
            self._all(reading.fetch, list(reading.runs(self._missing(reading))))
        finally:
            for one in brought:
                keeper.keep(self._kept, one)
        return count

    def _missing(self, reading: _Reading) -> list[int]:
        """Load what the cache has; the blocks that it has not."""
        blocks: Sequence[int] = reading.blocks
        if len(blocks) <= _TOGETHER:
            return reading.load(blocks)
        here = self._kept.numbers()
        there = [number for number in blocks if number in here]
        parts = [there[at : at + _TOGETHER] for at in range(0, len(there), _TOGETHER)]
        missing = [number for found in self._all(reading.load, parts) for number in found]
        return sorted((*missing, *(number for number in blocks if number not in here)))

    def _all(self, do: Callable[[_A], _B], items: Sequence[_A]) -> list[_B]:
        if len(items) <= 1:
            return [do(one) for one in items]
        jobs = [self._hands.pool.submit(do, one) for one in items]
        wait_for_all(jobs)
        return [job.result() for job in jobs]

    def _whole(self, number: int) -> bytes:
        block = bytearray(self._kept.length(number))
        keep = partial(self._hands.keeper.keep, self._kept)
        reading = _Reading(self._kept, self._far, number * BLOCK, memoryview(block), exactly=False, keep=keep)
        for run in reading.runs(reading.load([number])):
            reading.fetch(run)
        return bytes(block)


class _Reading:
    """One read of many blocks.

    Args:
        kept: the blob's blocks in the cache.
        far: the blob.
        offset: where in it the read begins.
        view: where the bytes go; not empty, and not longer than the blob.
        exactly: fetch no byte around it.
        keep: is given what was fetched.
    """

    def __init__(
        self, kept: Kept, far: Source, offset: int, view: memoryview, *, exactly: bool, keep: Callable[[Brought], None]
    ) -> None:
        self._kept, self._far, self._keep = kept, far, keep
        self._offset, self._view, self._exactly = offset, view, exactly
        self._end = offset + len(view)
        self.blocks = range(offset // BLOCK, (self._end - 1) // BLOCK + 1)

    def load(self, numbers: Sequence[int]) -> list[int]:
        """Bring blocks into place from the cache; those that it has not."""
        return [number for number in numbers if not self._load(number)]

    def runs(self, missing: Sequence[int]) -> Iterator[list[int]]:
        """Which blocks to fetch together: those that follow each other, up to so many bytes.

        Where there are many, one that is wanted in part is fetched alone: whole ones need no memory of their own.
        """
        apart = not self._exactly and len(self.blocks) > RUN
        run: list[int] = []
        for number in missing:
            if run and (
                number != run[-1] + 1
                or self._within(number)[1] - self._within(run[0])[0] > RUN * BLOCK
                or (apart and self._is_whole(number) != self._is_whole(run[0]))
            ):
                yield run
                run = []
            run.append(number)
        if run:
            yield run

    def fetch(self, run: Sequence[int]) -> None:
        """Bring blocks that follow each other into place from far away.

        Raises:
            NotFound: the blob is gone.
            StorageError: the far store failed.
        """
        low, high = self._within(run[0])[0], self._within(run[-1])[1]
        start, stop = (low, high) if self._exactly else (run[0] * BLOCK, run[-1] * BLOCK + self._kept.length(run[-1]))
        view = self._view[low - self._offset : high - self._offset]
        inside = (low, high) == (start, stop)
        data = view if inside else memoryview(bytearray(stop - start))
        count = read_into(self._far, start, data)
        if count != len(data):
            raise StorageError(f"the far store gave {count} bytes of {len(data)}", code="bucket-failed")
        if not inside:
            view[:] = data[low - start : high - start]
        self._keep(Brought(start, data, own=not inside))

    def _load(self, number: int) -> bool:
        low, high = self._within(number)
        return self._kept.load(number, low - number * BLOCK, self._view[low - self._offset : high - self._offset])

    def _within(self, number: int) -> tuple[int, int]:
        """What is wanted of a block: first byte in the blob, and the byte after the last one."""
        return max(number * BLOCK, self._offset), min((number + 1) * BLOCK, self._end)

    def _is_whole(self, number: int) -> bool:
        low, high = self._within(number)
        return high - low == self._kept.length(number)
