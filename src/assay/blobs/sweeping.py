"""Keeping writers and garbage collection apart in a folder of blobs.

    blobs/                   flock, shared: a blob appears, or its time is renewed; exclusive: a sweep deletes
    staging/hold-<random>    somebody adds blobs that nothing names yet; locked as all that is being written

A blob's time is the modification time of its file: nothing else ever changes that file.

Rule for editors: whoever makes a blob visible or relies on one that is there does it within ``Gate.shared`` and renews
its time there. A sweep reads the holds after it has the gate to itself, and the catalog after that.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock

from assay.errors import StorageError
from assay.spec.digest import Digest


class Gate:
    """The lock on a folder of blobs; waiting for it takes as long as deleting a few hundred files.

    Args:
        folder: made when first needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def shared(self) -> Iterator[None]:
        """No sweep runs meanwhile; other writers do."""
        with self._locked(fcntl.LOCK_SH):
            yield

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody adds or renews meanwhile."""
        with self._locked(fcntl.LOCK_EX):
            yield

    @contextmanager
    def _locked(self, kind: int) -> Iterator[None]:
        descriptor = self._open()
        try:
            fcntl.flock(descriptor, kind)
            yield
        finally:
            os.close(descriptor)

    def _open(self) -> int:
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY
        try:
            return os.open(self._folder, flags)
        except FileNotFoundError:
            self._folder.mkdir(parents=True, exist_ok=True)
            return os.open(self._folder, flags)


class DirectorySweep:
    """The right to delete, over files.

    Args:
        place: where a blob lies.
        since: when the oldest living hold began, in nanoseconds; None: there is none.
    """

    def __init__(self, place: Callable[[Digest], Path], since: int | None) -> None:
        self._place = place
        self.since = since
        self.touched: set[Path] = set()

    def idle(self, digest: Digest, before: datetime | None = None) -> bool:
        """Whether a blob is here that nobody under way has added."""
        try:
            added = self._place(digest).stat().st_mtime_ns
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StorageError.of(error, f"cannot look for blob {digest}", digest=str(digest)) from error
        if self.since is not None and added >= self.since:
            return False
        return before is None or moment(added) < before

    def delete(self, digest: Digest) -> int:
        """Remove a blob; its bytes, or 0 when it was not here."""
        path = self._place(digest)
        try:
            size = path.stat().st_size
            path.unlink()
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise StorageError.of(error, f"cannot remove blob {digest}", digest=str(digest)) from error
        self.touched.add(path.parent)
        return size


class Holds:
    """The holds of one store in this process, which begin before whatever is added under them."""

    def __init__(self) -> None:
        self._open: list[int] = []
        self._lock = Lock()

    @contextmanager
    def one(self, descriptor: int) -> Iterator[None]:
        """A hold, as long as its file is open."""
        with self._lock:
            self._open.append(descriptor)
        try:
            yield
        finally:
            with self._lock:  # before it is closed: its number may then be another file's
                self._open.remove(descriptor)

    def reach_back(self, added: int | Path) -> None:
        """Let them begin before a blob was added, also where the clock was set back since they began.

        Args:
            added: the blob's descriptor or path.
        """
        if self._open:
            self.reach_back_to(os.stat(added).st_mtime_ns)  # noqa: PTH116 - a descriptor or a path

    def reach_back_to(self, time: int) -> None:
        """``reach_back`` to a time, in nanoseconds."""
        with self._lock:
            for hold in self._open:
                if os.fstat(hold).st_mtime_ns > time:
                    os.utime(hold, ns=(time, time))


def moment(nanoseconds: int) -> datetime:
    """A file's time, UTC."""
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC)
