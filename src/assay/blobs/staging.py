"""Staging: half-written blobs, each held by a lock of its living writer.

    staging/<random>          written here, flushed, then renamed to its place
    staging/hold-<random>     empty; somebody adds blobs that nothing names yet (``sweeping``)
    staging/part-<hex>        the beginning of a large blob that is being copied here; the next copy goes on from it

Rule for editors: a writer keeps the lock (``flock``, gone with the process) on its file until the file has left. So
what can be locked by somebody else belongs to nobody, and only that is removed; the beginning of a blob after a week.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

HOLD = "hold-"
"""How the names of holds begin."""

PART = "part-"
"""How the names of beginnings of blobs begin."""

PART_KEPT = 7 * 86400
"""Seconds for which a beginning is kept that nobody goes on with."""

READ_ONLY = 0o444
"""Mode of stored blobs, less what the umask takes away."""


@dataclass(frozen=True, slots=True)
class Staged:
    """A file that is being written: its path and a descriptor open for reading and writing."""

    path: Path
    descriptor: int


class Staging:
    """The folder for half-written blobs.

    Args:
        folder: made when first needed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._swept = False

    @contextmanager
    def new(self, *, mode: int = READ_ONLY, prefix: str = "") -> Iterator[Staged]:
        """A new empty file; removed at the end unless it was renamed away.

        Args:
            mode: permissions, less what the umask takes away; they bind later openers, not this descriptor.
            prefix: how its name begins.

        Raises:
            OSError: it cannot be made.
        """
        self._sweep_once()
        while True:
            path = self.folder / f"{prefix}{secrets.token_hex(16)}"
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is(path, descriptor):
                break
            os.close(descriptor)  # a sweep came between making and locking
        yield from self._hold(path, descriptor)

    @contextmanager
    def part(self, name: str) -> Iterator[Staged | None]:
        """The file of that name, with what an earlier writer left in it; it stays unless it was renamed away.

        None when a living writer has it.

        Raises:
            OSError: it cannot be made.
        """
        self._sweep_once()
        path = self.folder / f"{PART}{name}"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
                return
            yield Staged(path, descriptor) if _is(path, descriptor) else None
        finally:
            os.close(descriptor)

    @contextmanager
    def link(self, source: Path) -> Iterator[Staged | None]:
        """A read-only hard link to *source*; None where that cannot be (other file system, other owner, more links).

        A file with more than one name is not taken: somebody could change it through the other name.
        """
        self._sweep_once()
        path = self.folder / secrets.token_hex(16)
        descriptor = _take_link(source, path)
        if descriptor is None:
            yield None
        else:
            yield from self._hold(path, descriptor)

    def _hold(self, path: Path, descriptor: int) -> Iterator[Staged]:
        try:
            yield Staged(path, descriptor)
        finally:
            if _is(path, descriptor):
                with suppress(OSError):
                    path.unlink()
            os.close(descriptor)

    def sweep(self) -> int:
        """Remove what dead writers left; how many files."""
        removed = 0
        for path in self._files():
            with suppress(OSError):
                removed += not _is_kept(path) and _remove_dead(path)
        return removed

    def dead(self) -> Iterator[tuple[Path, os.stat_result]]:
        """What dead writers left."""
        for path in self._files():
            with suppress(OSError):
                if not _is_kept(path) and not _is_held(path):
                    yield path, path.lstat()

    def held_since(self) -> int | None:
        """When the oldest living hold began, in nanoseconds; None when there is none."""
        began = []
        for path in self._files():
            if path.name.startswith(HOLD):
                with suppress(FileNotFoundError):
                    if _is_held(path):
                        began.append(path.lstat().st_mtime_ns)
        return min(began, default=None)

    def _files(self) -> list[Path]:
        try:
            with os.scandir(self.folder) as found:
                return [self.folder / entry.name for entry in found]
        except FileNotFoundError:
            return []

    def _sweep_once(self) -> None:
        if not self._swept:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.sweep()
            self._swept = True


def _is(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _is_kept(path: Path) -> bool:
    """Whether it is the beginning of a blob that somebody may go on with."""
    return path.name.startswith(PART) and time.time() - path.lstat().st_mtime < PART_KEPT


def _is_held(path: Path) -> bool:
    """Whether a living writer has it, or may have: what cannot be opened is somebody else's."""
    try:
        descriptor = _open(path)
    except PermissionError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _open(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)


def _remove_dead(path: Path) -> bool:
    descriptor = _open(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is(path, descriptor):
            return False
        path.unlink()
        return True
    finally:
        os.close(descriptor)


def _take_link(source: Path, path: Path) -> int | None:
    try:
        found = source.lstat()
        if source.is_symlink() or found.st_nlink != 1:
            return None
        os.link(source, path)
    except OSError:
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        path.unlink(missing_ok=True)
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.fchmod(descriptor, READ_ONLY & found.st_mode)
        if _is(path, descriptor):
            return descriptor
    except OSError:
        pass
    path.unlink(missing_ok=True)
    os.close(descriptor)
    return None
