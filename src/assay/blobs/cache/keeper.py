"""Threads of a cache: keeping what was fetched behind the reader's back."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from weakref import WeakSet

from assay.blobs.cache.kept import BLOCK, Kept

LATER = 64 << 20
"""Bytes that wait to be kept, at most: a reader of one tensor does not wait for the disk."""
_READERS = 4
_SPARE = 16
"""Blocks of memory that are kept to be used again."""


@dataclass(frozen=True, slots=True)
class Brought:
    """Bytes that were fetched.

    Args:
        offset: of the first one in the blob.
        data: the bytes.
        own: nobody else writes to them.
    """

    offset: int
    data: memoryview
    own: bool


class _Rooms:
    """Memory for copies, used again and again: what was never touched costs several times as much as the copying."""

    def __init__(self) -> None:
        self._spare: list[bytearray] = []

    def copy(self, data: memoryview) -> memoryview:
        """A copy of at most ``BLOCK`` bytes."""
        try:
            room = self._spare.pop()  # one step: threads need no lock
        except IndexError:
            room = bytearray(BLOCK)
        copy = memoryview(room)[: len(data)]
        copy[:] = data
        return copy

    def give_back(self, copy: memoryview) -> None:
        """Nobody reads it any longer; what is no room is left alone."""
        if isinstance(copy.obj, bytearray) and len(copy.obj) == BLOCK and len(self._spare) < _SPARE:
            self._spare.append(copy.obj)


_rooms = _Rooms()


class Keeper:
    """Keeps what was fetched, up to ``LATER`` bytes of it; a reader that is faster does it itself."""

    def __init__(self) -> None:
        self.most = LATER
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="assay-keep")
        self._pending = 0
        self._lock = Lock()

    def has_room(self, count: int) -> bool:
        """Whether so many bytes may wait."""
        return self._pending + count <= self.most

    def keep(self, kept: Kept, brought: Brought) -> None:
        """Keep bytes that were fetched.

        Args:
            kept: where.
            brought: the bytes; copied where others may write to them.
        """
        with self._lock:
            later = self.has_room(len(brought.data))
            self._pending += len(brought.data) if later else 0
        if not later:
            for offset, part in _blocks(brought):
                kept.save(offset, part)
            return
        parts = list(_blocks(brought))
        if not brought.own:
            parts = [(offset, _rooms.copy(part)) for offset, part in parts]
        try:
            self._pool.submit(self._save_later, kept, parts)
        except RuntimeError:  # the process ends, and a thread of it still reads
            self._save_later(kept, parts)

    def _save_later(self, kept: Kept, parts: Sequence[tuple[int, memoryview]]) -> None:
        for offset, part in parts:
            try:
                kept.save(offset, part)
            finally:
                with self._lock:
                    self._pending -= len(part)
                _rooms.give_back(part)


class Hands:
    """The threads of one cache: those that read, and the one that keeps. A forked child has its own."""

    def __init__(self) -> None:
        self.begin_anew()
        _living.add(self)

    def begin_anew(self) -> None:
        """Threads that there were are another process's."""
        self.pool = ThreadPoolExecutor(_READERS, thread_name_prefix="assay-cache")
        self.keeper = Keeper()


_living: WeakSet[Hands] = WeakSet()


def _after_fork() -> None:
    for hands in _living:
        hands.begin_anew()


os.register_at_fork(after_in_child=_after_fork)


def _blocks(brought: Brought) -> Iterator[tuple[int, memoryview]]:
    """What there is of each block: where it begins in the blob, and its bytes."""
    at, end = brought.offset, brought.offset + len(brought.data)
    while at < end:
        stop = min(end, (at // BLOCK + 1) * BLOCK)
        yield at, brought.data[at - brought.offset : stop - brought.offset]
        at = stop
