"""Keeping writers and garbage collection apart in a bucket, which has no locks.

    holds/<random>/began    somebody adds blobs that nothing names yet; written once
    holds/<random>/alive    the same one still lives; written again and again
    sweeps/<random>         somebody deletes garbage; written again and again

Whoever holds writes that first and then looks for sweeps; whoever sweeps writes that first and then looks for holds.
Buckets are strongly consistent, so of two that meet at least one sees the other: the holder waits for the sweep to end,
the sweep spares what was added since the oldest hold began. All times are the server's: the clocks of the machines do
not matter. A process that dies leaves its mark behind, which counts for ``LEASE`` more. A sweep whose mark lapsed
(``leases``) deletes nothing more.

What this does not cover: who adds blobs without a hold, in another process than the sweep, is protected by the sweep's
grace period only; so is a machine that is suspended for longer than ``LEASE`` in the middle of an upload. A push that
meets the mark of a sweep that was killed waits until that no longer counts (``SWEEP_LEASE``).

Within one process, adding and sweeping exclude each other (``Turns``), hold or no hold.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from threading import Condition, Event, Thread

from assay.blobs.bucket.leases import Lease, held
from assay.blobs.bucket.objects import BucketObjects
from assay.errors import StorageError
from assay.ports.blobs import Leftover

LEASE = timedelta(minutes=15)
"""So long a hold counts after its last sign of life."""
SWEEP_LEASE = timedelta(minutes=3)
"""The same for a sweep: pushes wait for one that was killed."""
BEAT = 30.0
"""Seconds between two signs of life."""
_HOLDS, _SWEEPS = "holds/", "sweeps/"
_LOOK = 0.5


class Turns:
    """Adding, by many threads at once, and sweeping, by one of them alone."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._adding = 0
        self._sweeping = False

    @contextmanager
    def adding(self) -> Iterator[None]:
        """No sweep runs meanwhile."""
        with self._changed:
            self._changed.wait_for(lambda: not self._sweeping)
            self._adding += 1
        try:
            yield
        finally:
            with self._changed:
                self._adding -= 1
                self._changed.notify_all()

    @contextmanager
    def sweeping(self) -> Iterator[None]:
        """Nobody adds meanwhile."""
        with self._changed:
            self._changed.wait_for(lambda: not self._sweeping)
            self._sweeping = True
            self._changed.wait_for(lambda: not self._adding)
        try:
            yield
        finally:
            with self._changed:
                self._sweeping = False
                self._changed.notify_all()


class Watch:
    """A sweep's right to delete, as long as its mark counts.

    Args:
        lease: its mark.
        since: when the oldest living hold began; None: there is none.
    """

    def __init__(self, lease: Lease, since: datetime | None) -> None:
        self._lease = lease
        self.since = since

    def check(self) -> None:
        """Whether the mark still counts.

        Raises:
            StorageError: it may not (code ``sweep-lapsed``), and will not again.
        """
        self._lease.check()


@contextmanager
def hold(objects: BucketObjects) -> Iterator[None]:
    """Until the end, no sweep deletes what is added or renewed from here on.

    Raises:
        StorageError: the bucket cannot be written.
    """
    folder = f"{_HOLDS}{secrets.token_hex(8)}"
    ended = Event()
    try:
        objects.put(f"{folder}/began", b"")
        _wait_for_sweeps(objects, f"{folder}/began")
        Thread(target=_beat, args=(objects, f"{folder}/alive", ended), name="assay-hold", daemon=True).start()
        yield
    finally:
        ended.set()
        with suppress(StorageError):  # it then counts a little longer
            objects.delete(f"{folder}/began", f"{folder}/alive")


@contextmanager
def sweep(objects: BucketObjects) -> Iterator[Watch]:
    """The right to delete, and since when what was added is to be spared.

    Raises:
        StorageError: the bucket cannot be written.
    """
    key = f"{_SWEEPS}{secrets.token_hex(8)}"
    with held(objects, key, SWEEP_LEASE, BEAT, _lapsed) as lease:
        mark = objects.head(key)
        now = mark.modified if mark else datetime.now().astimezone()
        living = [start for start, last in _holds(objects).values() if now - last < LEASE]
        yield Watch(lease, min(living, default=None))


def dead(objects: BucketObjects, *, clear: bool) -> list[Leftover]:
    """Marks that no longer count; with *clear* they are removed."""
    found = []
    marks = [one for folder in (_HOLDS, _SWEEPS) for one in objects.list(folder)]
    if not marks:
        return []
    now = _server_time(objects)
    alive = {name for name, (_, last) in _holds(objects).items() if now - last < LEASE}
    for one in marks:
        if now - one.modified >= LEASE and one.key.split("/")[1] not in alive:
            found.append(Leftover(one.key, one.size, one.modified))
            if clear:
                objects.delete(one.key)
    return found


def _lapsed() -> StorageError:
    return StorageError(
        "this machine stood still while garbage was deleted; nothing more is",
        code="sweep-lapsed",
        hint="run it again",
    )


def _holds(objects: BucketObjects) -> dict[str, tuple[datetime, datetime]]:
    """Hold to when it began and when it last gave a sign of life."""
    found: dict[str, tuple[datetime, datetime]] = {}
    for one in objects.list(_HOLDS):
        name = one.key.split("/")[1]
        began, last = found.get(name, (one.modified, one.modified))
        found[name] = (min(began, one.modified), max(last, one.modified))
    return found


def _wait_for_sweeps(objects: BucketObjects, own: str) -> None:
    while sweeps := list(objects.list(_SWEEPS)):
        objects.put(own, b"")  # for the server's time; the hold begins when the wait ends
        now = objects.head(own)
        if now is None or all(now.modified - one.modified >= SWEEP_LEASE for one in sweeps):
            return
        time.sleep(_LOOK)


def _server_time(objects: BucketObjects) -> datetime:
    key = f"{_SWEEPS}{secrets.token_hex(8)}-clock"
    objects.put(key, b"")
    try:
        found = objects.head(key)
    finally:
        objects.delete(key)
    return found.modified if found else datetime.now().astimezone()


def _beat(objects: BucketObjects, key: str, ended: Event) -> None:
    while not ended.wait(BEAT):
        with suppress(StorageError):  # the next one may succeed
            objects.put(key, b"")
            if ended.is_set():
                objects.delete(key)
