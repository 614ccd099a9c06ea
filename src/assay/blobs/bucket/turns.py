"""Taking turns at packs, between machines that share a bucket: whoever changes ``packs/`` does so alone.

    turns/<where>-<random>   somebody changes packs; written again and again

Who wants a turn writes its mark, and then looks: the turn is its own when there is no other mark that counts. Otherwise
it takes its mark back, rests for a random time, and tries again. Buckets are strongly consistent, so of two that meet
at least one sees the other, and never both go on. Times are the server's; the mark of a process that died counts for
``LEASE`` more, except on its own machine: there a lock of the local folder tells that it is gone, and ``<where>`` says
which lock that is.

A turn that lapsed (``leases``) is lost: whoever has it changes nothing more.

What this does not cover: a machine that is suspended for longer than half of ``LEASE`` between looking at its mark and
the request that follows at once.
"""

from __future__ import annotations

import fcntl
import hashlib
import random
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from threading import RLock

from assay.blobs.bucket.guarding import BEAT
from assay.blobs.bucket.leases import Lease, held
from assay.blobs.bucket.objects import BucketObjects
from assay.blobs.packs.keeping import locked
from assay.errors import StorageError
from assay.ports.objects import Found

LEASE = timedelta(minutes=3)
"""So long a turn counts after its last sign of life."""
_TURNS = "turns/"
_REST = 0.25
_LONGEST_REST = 2.0
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Turn:
    """The right to change packs; of one process, and of one thread in it at a time, which may take it again.

    Args:
        objects: the bucket.
        folder: a local folder, whose lock the processes of this machine take first.
        began: is called when a turn has begun: others may have changed packs since the last one.
    """

    def __init__(self, objects: BucketObjects, folder: Path, began: Callable[[], None]) -> None:
        self._objects, self._folder, self._began = objects, folder, began
        self._thread = RLock()
        self._deep = 0
        self._lease: Lease | None = None

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Nobody else changes packs meanwhile, on whichever machine.

        Raises:
            StorageError: the bucket cannot be written.
        """
        with self._thread:
            if self._deep:
                yield
                return
            with locked(self._folder, fcntl.LOCK_EX), self._marked():
                self._deep += 1
                try:
                    self._began()
                    yield
                finally:
                    self._deep -= 1

    def check(self) -> None:
        """Whether the turn still counts; called right before packs change.

        Raises:
            StorageError: it may not, another machine may have begun (code ``turn-lapsed``).
        """
        assert self._deep, "packs are changed in turns"
        assert self._lease is not None
        self._lease.check()

    @contextmanager
    def _marked(self) -> Iterator[None]:
        """Once no other mark counts, with the own one."""
        where, rest = _where(self._folder), _REST
        while True:
            key = f"{_TURNS}{where}-{secrets.token_hex(8)}"
            with held(self._objects, key, LEASE, BEAT, _lapsed) as lease:
                if self._is_alone(key, where):
                    self._lease = lease
                    yield
                    return
            time.sleep(rest * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
            rest = min(2 * rest, _LONGEST_REST)

    def _is_alone(self, key: str, where: str) -> bool:
        marks = {one.key: one for one in self._objects.list(_TURNS)}
        own = marks.pop(key, None)
        if own is None:
            return False  # somebody with another idea of time took it for dead
        dead = [name for name, one in marks.items() if name.startswith(f"{_TURNS}{where}-") or _is_dead(one, own)]
        if len(dead) < len(marks):
            return False
        self._objects.delete(*dead)
        return True


def _lapsed() -> StorageError:
    return StorageError(
        "this machine stood still while it changed packs, and another one may have begun; nothing was removed",
        code="turn-lapsed",
        hint="run it again",
    )


def _is_dead(mark: Found, own: Found) -> bool:
    return own.modified - mark.modified >= LEASE


def _where(folder: Path) -> str:
    """Names the lock of a local folder among those of all machines, as long as this one runs."""
    found = folder.stat()
    try:
        boot = _BOOT.read_text("ascii").strip()
    except OSError:  # another system: the marks of its dead processes count until they are old
        boot = secrets.token_hex(16)
    return hashlib.sha256(f"{boot} {found.st_dev} {found.st_ino}".encode()).hexdigest()[:16]
