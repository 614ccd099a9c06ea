"""Rights that last as long as a mark in a bucket is written again and again.

Others take a mark for dead when it was not written for its whole lease, by the server's clock. Who holds it stops
relying on it after half of that, by its own clock, and for good: others may have begun meanwhile, so a mark that lapsed
is never written again. The other half is for the requests that were begun before, of which each try is short
(``BucketObjects.guarded``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from threading import Event, Lock, Thread

from assay.blobs.bucket.objects import BucketObjects
from assay.errors import StorageError

_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    """Seconds of a clock that goes on while this machine is suspended, where there is one."""
    return time.clock_gettime(_CLOCK)


class Lease:
    """What ``held`` gives.

    Args:
        objects: the bucket.
        key: of the mark.
        lasts: so long the mark counts for others.
        lapsed: makes what to raise when it may not count any more.
    """

    def __init__(self, objects: BucketObjects, key: str, lasts: timedelta, lapsed: Callable[[], StorageError]) -> None:
        self.key = key
        self._plain, self._objects = objects, objects.guarded(self._begin)
        self._half = lasts.total_seconds() / 2
        self._lapsed = lapsed
        self._writing = Lock()
        self._begun = 0.0
        self._written: float | None = None
        self._lost = False

    def check(self) -> None:
        """Whether the mark still counts; once it did not, it never does again.

        Raises:
            StorageError: it may not: what was to be made of *lapsed*.
        """
        if self._lost or self._written is None or now() - self._written > self._half:
            self._lost = True
            raise self._lapsed()

    def write(self) -> None:
        """Write the mark, for the first time or again.

        Raises:
            StorageError: it cannot be written, or lapsed before that was done.
        """
        with self._writing:
            self._begin()
            self._objects.put(self.key, b"")
            if self._written is not None:
                self.check()  # others may have begun before the mark was there again
            self._written = self._begun

    def keep(self, beat: float, ended: Event) -> None:
        """Write the mark again and again, until the end or until it lapsed; then remove it."""
        while not ended.wait(beat) and not self._lost:
            with suppress(StorageError):  # the next one may succeed; ``check`` says when none did
                self.write()
        ended.wait(self._half)  # what was begun while it counted may be under way
        with suppress(StorageError):  # it then counts a little longer
            self._plain.delete(self.key)

    def _begin(self) -> None:
        """Is called before every try to write the mark."""
        if self._written is not None:
            self.check()
        self._begun = now()


@contextmanager
def held(
    objects: BucketObjects, key: str, lasts: timedelta, beat: float, lapsed: Callable[[], StorageError]
) -> Iterator[Lease]:
    """Write a mark, again every *beat* seconds, and remove it in the end.

    Args:
        objects: the bucket.
        key: of the mark; nobody else's.
        lasts: so long the mark counts for others.
        beat: seconds between two signs of life.
        lapsed: makes what ``Lease.check`` raises.

    Raises:
        StorageError: it cannot be written.
    """
    lease, ended = Lease(objects, key, lasts, lapsed), Event()
    keeper = Thread(target=lease.keep, args=(beat, ended), name="assay-lease", daemon=True)
    keeper.start()
    try:
        lease.write()
        yield lease
    finally:
        ended.set()
        keeper.join(beat)  # a sign of life may be on its way for longer; the thread removes it
