"""The folder of a cache: what lies in it, when it was last used, and making room."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from assay.blobs.staging import Staging
from assay.errors import StorageError
from assay.spec.digest import Digest

DEFAULT_BOUND = 20_000_000_000
"""Bytes; a tenth of the disk when that is less."""
WRITTEN = 1_000_000_000 * 10**9
"""Time of last modification of a whole blob: whoever writes to it changes that."""
_TAG = b"Signature: 8a477f597d28d172789f06886806bc55\n# What assay fetched; may be removed at any time.\n"
_PINS = 512
_STALE = 60.0
"""Seconds by which the time of last use may lag."""


@dataclass(frozen=True, slots=True)
class CacheUse:
    """What a cache holds.

    Args:
        bytes: all of it.
        blobs: how many whole blobs.
        blocks: how many parts of others.
        unfinished: bytes of beginnings.
        in_use: bytes that living processes use.
    """

    bytes: int
    blobs: int
    blocks: int
    unfinished: int
    in_use: int


@dataclass(frozen=True, slots=True)
class _Item:
    used: float
    size: int
    path: Path
    kind: str


class CacheFolder:
    """A cache's files; safe for several threads and processes at once.

    Args:
        root: made when something is first kept.
        bound: bytes that it may hold; *DEFAULT_BOUND*, or a tenth of the disk, when None.
    """

    def __init__(self, root: Path, bound: int | None = None) -> None:
        self.root = root
        self.bound = default_bound(root) if bound is None else bound
        self.staging = Staging(root / "staging")
        self._added = self.bound  # so that the first addition of a process looks
        self._pins: OrderedDict[Path, int] = OrderedDict()
        self._lock = Lock()

    def prepare(self) -> None:
        """Make the folder.

        Raises:
            OSError: it cannot be made.
        """
        if not (self.root / "CACHEDIR.TAG").exists():
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            (self.root / "staging").mkdir(exist_ok=True)
            (self.root / "CACHEDIR.TAG").write_bytes(_TAG)

    def blob(self, digest: Digest) -> Path:
        """Where a whole blob lies, if it does."""
        return self.root / "blobs" / digest.algorithm / digest.hex

    def block(self, place: str, digest: Digest, number: int, part: str = "") -> Path:
        """Where a block of a blob lies, or a named part of one, if it does."""
        return self.blocks(place, digest) / f"{number}{part}"

    def blocks(self, place: str, digest: Digest) -> Path:
        """Where all blocks of a blob lie."""
        return self.root / "blocks" / place / digest.hex

    def pin(self, digest: Digest) -> Path | None:
        """The file of a whole blob, kept from being taken away while this process lives; None when it is not here."""
        path = self.blob(digest)
        with self._lock:
            held = self._pins.pop(path, None)
            if held is not None and not _is(path, held):  # removed by hand
                os.close(held)
                held = None
            descriptor = _hold(path) if held is None else held
            if descriptor is None:
                return None
            if os.fstat(descriptor).st_mtime_ns != WRITTEN:
                os.close(descriptor)
                with suppress(OSError):
                    path.unlink()
                return None
            touch(descriptor)
            self._pins[path] = descriptor
            while len(self._pins) > _PINS:
                os.close(self._pins.popitem(last=False)[1])
            return path

    def forget(self, digest: Digest) -> None:
        """Drop all that is kept of a blob."""
        with suppress(OSError):
            self.blob(digest).unlink()
        for folder in (self.root / "blocks").glob(f"*/{digest.hex}"):
            shutil.rmtree(folder, ignore_errors=True)

    def added(self, count: int) -> None:
        """Something was kept: make room when it is time."""
        with self._lock:
            self._added += count
            due = self._added > self.bound // 64
            if due:
                self._added = 0
        if due:
            self.make_room(self.bound, leave=self.bound - self.bound // 32)

    def make_room(self, most: int, *, leave: int | None = None) -> int:
        """Remove what was used longest ago while more than *most* bytes are here; the bytes that came back.

        What living processes use stays, so more may be left. Nothing is done while another process makes room.

        Args:
            most: bytes.
            leave: go on down to so many; *most* when None.
        """
        try:
            descriptor = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return 0
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            items = list(self._items())
            total = sum(item.size for item in items)
            if total <= most:
                return 0
            return self._remove(sorted(items, key=lambda item: item.used), total - (most if leave is None else leave))
        except BlockingIOError:
            return 0
        finally:
            os.close(descriptor)

    def use(self) -> CacheUse:
        """What it holds."""
        total = blobs = blocks = unfinished = in_use = 0
        for item in self._items():
            total += item.size
            blobs += item.kind == "blob"
            blocks += item.kind == "block"
            unfinished += item.size if item.kind == "part" else 0
            if item.kind != "block":
                with _unless_used(item.path) as unused:
                    in_use += 0 if unused else item.size
        return CacheUse(total, blobs, blocks, unfinished, in_use)

    def _items(self) -> Iterator[_Item]:
        for kind, folders in (
            ("blob", (self.root / "blobs").glob("*")),
            ("block", (self.root / "blocks").glob("*/*")),
            ("part", iter((self.root / "staging",))),
        ):
            for folder in folders:
                with suppress(OSError), os.scandir(folder) as found:
                    for entry in found:
                        with suppress(FileNotFoundError):
                            seen = entry.stat(follow_symlinks=False)
                            yield _Item(seen.st_atime, seen.st_size, Path(entry.path), kind)

    def _remove(self, items: list[_Item], enough: int) -> int:
        freed = 0
        for item in items:
            if freed >= enough:
                break
            with suppress(OSError):
                if item.kind == "block":
                    item.path.unlink()
                    freed += item.size
                    item.path.parent.rmdir()  # fails while others lie in it
                    continue
                with _unless_used(item.path) as unused:  # who pins it meanwhile waits, and sees that it went
                    if unused:
                        item.path.unlink()
                        freed += item.size
        return freed


def touch(descriptor: int) -> None:
    """Remember that a file is used now."""
    with suppress(OSError):
        seen, now = os.fstat(descriptor), time.time()
        if seen.st_atime < now - _STALE:
            os.utime(descriptor, ns=(int(now * 1e9), seen.st_mtime_ns))


def default_bound(root: Path) -> int:
    """Bytes that a cache may hold when nobody says how many."""
    at = next((folder for folder in (root, *root.parents) if folder.exists()), Path("/"))
    return min(DEFAULT_BOUND, shutil.disk_usage(at).total // 10)


def cannot_keep(error: OSError, root: Path) -> StorageError:
    """The error for what must lie in the cache and cannot."""
    return StorageError.of(error, f"cannot keep it in the cache {root}", path=str(root))


def _hold(path: Path) -> int | None:
    """A descriptor that keeps others from making room of a file; None when it is not there."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    if _is(path, descriptor):
        return descriptor
    os.close(descriptor)
    return None


def _is(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except OSError:
        return False


@contextmanager
def _unless_used(path: Path) -> Iterator[bool]:
    """Whether no living process uses a file; if so, none begins to until the end."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        yield True
        return
    try:
        yield _lock(descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
