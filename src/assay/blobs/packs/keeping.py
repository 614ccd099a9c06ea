"""The index of packs, in step with the packs: opened, made again when it is missing or damaged, brought up.

Where packs lie is a ``Place``; the index itself is a local file (or in memory, where nothing may be written).

Rule for editors: whoever writes the index does so through ``write``, in one transaction; whoever says durably that
something does not count any more does so within that transaction, so that all of it happens in one order. Questions may
be asked twice.
"""

from __future__ import annotations

import fcntl
import math
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Protocol, TypeVar

from assay.blobs.packs.gone import Gone
from assay.blobs.staging import Staged, Staging
from assay.errors import AssayError, NotFound, StorageError
from assay.later import later
from assay.trees import Source

if TYPE_CHECKING:  # a store is opened far more often than a pack
    from assay.blobs.packs import comparing, rows
    from assay.blobs.packs import index as indexes
    from assay.blobs.packs.index import PackIndex
    from assay.packing import directory
    from assay.packing.directory import Directory
else:
    comparing = later("assay.blobs.packs.comparing")
    indexes = later("assay.blobs.packs.index")
    rows = later("assay.blobs.packs.rows")
    directory = later("assay.packing.directory")

T = TypeVar("T")
Identity = tuple[int, int, int]
"""Device and number of the index file, and the process that opened it: a connection does not survive a fork."""

_CORRUPT = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_SCHEMA}
_inherited: list[PackIndex] = []
"""Connections of the process that this one was forked from: closing one would undo what that one is changing."""
_REPLACED = sqlite3.SQLITE_READONLY_DBMOVED
_AGAIN = 1.0
"""Seconds after which packs that could not be read are looked at again: one may be on its way here just now."""


class Place(Protocol):
    """Where packs lie."""

    def names(self) -> Mapping[str, tuple[int, int]]:
        """Packs that count, oldest first, each with its bytes and those of what was taken out of it since."""
        ...

    def stamp(self) -> int:
        """Changes when packs come or go; 0 when that cannot be told without looking."""
        ...

    def open_pack(self, name: str) -> Source:
        """A pack's bytes.

        Raises:
            NotFound: it is not there.
        """
        ...

    def gone(self, name: str) -> Gone:
        """What was taken out of a pack."""
        ...


class IndexKeeper:
    """The index of the packs of a place; safe for several threads and processes.

    Args:
        file: where it lies; its folder is there when it is first asked.
        place: where the packs lie.
        staging: where a new index is made, on the same file system.
    """

    def __init__(self, file: Path, place: Place, staging: Staging) -> None:
        self._file, self._place, self._staging = file, place, staging
        self._lock = RLock()
        self._index: PackIndex | None = None
        self._identity: Identity | None = None
        self._listed = 0
        self._again = math.inf

    def read(self, question: Callable[[PackIndex], T]) -> T:
        """Ask the index; it is made again when that is needed. All of the answer is from one state of it.

        Raises:
            StorageError: it cannot be read, nor made.
        """

        def look(index: PackIndex) -> T:
            with index.look():
                return question(index)

        return self._try(look)

    def _try(self, question: Callable[[PackIndex], T]) -> T:
        for attempt in range(3):
            index = self._current()
            try:
                return question(index)
            except (sqlite3.Error, rows.Outdated) as error:
                usable = self._is_writable() and not (_is_broken(error) or self._is_replaced(index))
                if attempt == 2 or usable:
                    raise _failed(error) from error
                self._replace(index)
            except OSError as error:
                raise self._unusable(error) from error
        raise AssertionError("unreachable")

    def write(self, change: Callable[[PackIndex], T]) -> T:
        """Change the index, in one transaction that other writers wait for; *change* may run twice.

        Raises:
            StorageError: it cannot be written; nothing of it counts.
        """
        for attempt in range(10):
            index = self._current()
            try:
                with self._index_lock(fcntl.LOCK_SH):
                    if self._identity_now() != self._identity:
                        continue
                    with index.change():
                        return change(index)
            except sqlite3.Error as error:
                if attempt > 2 or not (_is_broken(error) or self._is_replaced(index)):
                    raise _failed(error) from error
                self._replace(index)
            except OSError as error:
                raise StorageError.of(error, f"cannot change packs in {self._file.parent}") from error
        raise StorageError(f"the index of packs in {self._file.parent} is replaced again and again")

    def refresh(self) -> None:
        """Bring the index in step with the files, also where somebody died between a file and its row."""
        self._try(lambda index: self._catch_up(index, force=True))

    def catch_up(self) -> bool:
        """``refresh`` when packs came or went since; whether any did."""
        return self._try(lambda index: self._catch_up(index, force=False))

    def rebuild(self) -> None:
        """Make the index again from the packs, within the file that is there: others are asking it.

        SQLite finds a journal by its file's name. Who asks a file that was replaced would take the journal of the new
        one for its own, and undo what another process is changing; so only a damaged index is ever replaced.
        """
        index = self._current()
        if index.in_memory or not self._is_writable():
            self._replace(index)
            return
        try:
            with self._index_lock(fcntl.LOCK_EX), self._fresh() as (fresh, _):
                if self._identity_now() == self._identity:  # else it was made again just now
                    fresh.copy_into(index)
        except sqlite3.Error as error:
            if not _is_broken(error):
                raise _failed(error) from error
            self._replace(index)
        except OSError as error:
            raise StorageError.of(error, f"cannot make the index of packs in {self._file.parent}") from error

    def _current(self) -> PackIndex:
        with self._lock:
            try:
                now = self._identity_now()
                if self._index is not None and now == self._identity:
                    return self._index
                self._drop()
                return self._make(None) if now is None else self._load(now)
            except OSError as error:
                raise self._unusable(error) from error

    def _unusable(self, error: OSError) -> StorageError:
        return StorageError.of(error, f"cannot read the index of packs in {self._file.parent}")

    def _identity_now(self) -> Identity | None:
        try:
            found = self._file.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino, os.getpid()

    def _load(self, now: Identity) -> PackIndex:
        """Open the index that is there; make it where that cannot be."""
        try:
            index = indexes.PackIndex(self._file, writable=self._is_writable())
            self._catch_up(index, force=True)
        except (sqlite3.Error, rows.Outdated) as error:
            if self._is_writable() and not _is_broken(error):
                raise _failed(error) from error
            return self._make(now)
        self._index, self._identity = index, now
        return index

    def _is_replaced(self, index: PackIndex) -> bool:
        """Whether another process put a new index into the place of this one."""
        with self._lock:
            return self._index is not index or self._identity_now() != self._identity

    def _replace(self, broken: PackIndex) -> None:
        with self._lock:
            if self._index is broken:
                before = self._identity
                self._drop()
                self._make(before)

    def _drop(self) -> None:
        if self._index is not None:
            if self._identity is None or self._identity[2] == os.getpid():
                self._index.close()
            else:
                _inherited.append(self._index)
        self._index = self._identity = None

    def _make(self, before: Identity | None) -> PackIndex:
        """Make the index from the packs, unless another process did since; in memory where nothing can be written."""
        if not self._is_writable():
            index = indexes.PackIndex(None)
            self._identity = self._identity_now()
            self._fill(index)
        else:
            try:
                with self._index_lock(fcntl.LOCK_EX):
                    if self._identity_now() == before:
                        self._make_file()
                self._identity = self._identity_now()
                index = indexes.PackIndex(self._file)
                self._catch_up(index, force=True)
            except sqlite3.Error as error:
                raise _failed(error) from error
            except OSError as error:
                raise StorageError.of(error, f"cannot make the index of packs in {self._file.parent}") from error
        self._index = index
        return index

    def _make_file(self) -> None:
        with self._fresh() as (fresh, staged):
            fresh.close()
            os.fsync(staged.descriptor)
            # A journal of the old file must never be applied to the new one.
            self._file.unlink(missing_ok=True)
            self._file.with_name(f"{self._file.name}-journal").unlink(missing_ok=True)
            staged.path.replace(self._file)
        # Not made durable: it can be made again.

    @contextmanager
    def _fresh(self) -> Iterator[tuple[PackIndex, Staged]]:
        """A new index, made from the packs."""
        with self._staging.new(mode=0o666) as staged:
            fresh = indexes.PackIndex(staged.path, scratch=True)
            try:
                self._fill(fresh)
                yield fresh, staged
            finally:
                fresh.close()

    def _fill(self, index: PackIndex) -> None:
        with index.change():
            self._take_in(index)

    def _catch_up(self, index: PackIndex, *, force: bool) -> bool:
        seen = self._place.stamp()
        if not force and seen and seen == self._listed and time.monotonic() < self._again:
            return False
        there, known = self._place.names(), index.packs()
        faulty = {name: row for name, row in known.items() if row.fault and name in there}
        same = there.keys() == known.keys() and all(known[name].gone == size[1] for name, size in there.items())
        same = same and all(row.size == there[name][0] for name, row in faulty.items())
        same = same and not (force and any(self._is_readable(name) for name in faulty))
        if not same and index.in_memory:
            with index.change():
                self._take_in(index)
        elif not same and not self._is_writable():
            raise rows.Outdated
        elif not same:
            with self._index_lock(fcntl.LOCK_SH), index.change():
                self._take_in(index)
        self._listed, self._again = seen, time.monotonic() + _AGAIN if faulty or not same else math.inf
        return not same

    def _is_readable(self, name: str) -> bool:
        try:
            read_directory(self._place.open_pack(name), name)
        except StorageError:
            raise
        except AssayError:
            return False
        return True

    def _take_in(self, index: PackIndex) -> None:
        """Bring rows in step with packs; new ones first, so that what moved is there before the old place goes.

        Packs that could not be read are tried again: they may have been on their way here, or been put right.
        """
        there, known, new = self._place.names(), index.packs(), []
        for name, (size, _) in there.items():
            if name in known and not known[name].fault:
                self.take_struck(index, name)
                continue
            with self._noting_faults(index, name, size):
                held, took = read_directory(self._place.open_pack(name), name), self._place.gone(name)
                index.drop_pack(name)
                # Nobody compared it yet, as far as is known.
                judge = comparing.Judge(name, held, index, self._place.open_pack)
                index.take_in_segments(name, size, held, took, judge.is_right)
                new.append(name)
        for name in new:  # blobs are made of segments in any pack: these come first
            with self._noting_faults(index, name, there[name][0]):
                held = read_directory(self._place.open_pack(name), name)
                index.take_in_blobs(name, held, self._place.gone(name), time.time_ns())
        for name in known.keys() - there.keys():
            index.drop_pack(name)
        self.mend(index)

    @contextmanager
    def _noting_faults(self, index: PackIndex, name: str, size: int) -> Iterator[None]:
        """What is wrong with a single pack is written down in its row: the others are used all the same.

        A place that failed is no fault of the pack: nothing is written down, so that it is tried again.
        """
        try:
            yield
        except StorageError:
            raise
        except NotFound:  # removed since by a compaction
            index.drop_pack(name)
        except (AssayError, ValueError, OverflowError) as error:
            fault = str(error).encode("utf-8", "backslashreplace").decode()
            index.drop_pack(name)
            index.take_in_faulty(name, size, fault or type(error).__name__)
            self.take_struck(index, name)

    def mend(self, index: PackIndex) -> None:
        """Read from another pack what lies nowhere, or is the difference to that, if it lies there, too."""
        astray, before = index.broken().union(index.lost()), -1
        there = self._place.names() if astray else {}
        while astray and len(astray) != before:
            before = len(astray)
            for name in there:
                with suppress(AssayError):
                    held, bad = read_directory(self._place.open_pack(name), name), self._place.gone(name).bad
                    for segment in held.segments:
                        if segment.id in astray - bad and (segment.base is None or index.is_whole(segment.base)):
                            index.move(segment, name)
            astray = index.broken().union(index.lost())

    def take_struck(self, index: PackIndex, name: str) -> None:
        """Bring rows in step with what was struck out of a pack, also by somebody who died before the rows."""
        took = self._place.gone(name)
        known = index.pack(name)
        if known is not None and took.length != known.gone:
            for digest in took.blobs:
                index.unlist(digest, name)
            for segment in took.bad:
                index.lose(segment, name)
            index.took_gone(name, took.length)

    def _index_lock(self, kind: int) -> AbstractContextManager[None]:
        file = self._file.with_name("index.lock")
        with suppress(FileExistsError):
            os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
        return locked(file, kind)

    def _is_writable(self) -> bool:
        return os.access(self._file.parent, os.W_OK | os.X_OK)


@contextmanager
def locked(place: Path, kind: int) -> Iterator[None]:
    """Hold a lock (``flock``) on a file or folder; gone with the process."""
    descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, kind)
        yield
    finally:
        os.close(descriptor)


def read_directory(pack: Source, name: str) -> Directory:
    """The directory of a pack.

    Raises:
        IntegrityError: it does not match its digest, or is another pack's.
        BadFormat: it is damaged in another way, or of a later release (code ``pack-too-new``).
    """
    tail = pack.read(max(0, pack.size - directory.FOOTER.size), directory.FOOTER.size)
    offset, length, _ = directory.read_footer(tail, pack.size)
    return directory.decode(pack.read(offset, length), bytes.fromhex(name), end=offset)


def _is_broken(error: Exception) -> bool:
    """Whether the file is damaged, or no such index, or was replaced, so that another one is needed."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    return code == _REPLACED or code & 0xFF in _CORRUPT


def _failed(error: Exception) -> StorageError:
    full = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
    return StorageError(
        f"the index of packs cannot be used: {error}",
        code="store-full" if full else "storage",
        hint="make room, then run it again" if full else "run it again; assay reindex --packs makes the index again",
    )
