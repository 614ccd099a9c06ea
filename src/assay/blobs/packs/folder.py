"""The folder ``packs/`` of a local store: its files, its locks, and an index that is in step with them.

Rule for editors: whoever writes the index does so through ``write``, in one transaction; whoever appends to a ``.gone``
file does so within that transaction, so that all of them happen in one order. Questions may be asked twice (``read``).
"""

from __future__ import annotations

import fcntl
import os
import re
import sqlite3
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import RLock
from typing import TypeVar

from assay.blobs.packs import gone
from assay.blobs.packs.gone import Gone, Kind
from assay.blobs.packs.index import PackIndex
from assay.blobs.packs.rows import Outdated
from assay.blobs.staging import Staging
from assay.errors import AssayError, NotFound, StorageError
from assay.packing import directory
from assay.packing.directory import FOOTER, Directory
from assay.spec.digest import Digest
from assay.trees import Source
from assay.trees.window import FileSource

T = TypeVar("T")
Identity = tuple[int, int, int]
"""Device and number of the index file, and the process that opened it: a connection does not survive a fork."""

_PACK = re.compile(r"([0-9a-f]{64})\.pack", re.ASCII)
_OPEN = 64
"""Packs that are kept open."""
_UNSETTLED = 50_000_000
"""Nanoseconds for which a folder's time may hide a second change."""
_CORRUPT = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_SCHEMA}


class PackFolder:
    """Packs in a folder, and their index; safe for several threads and processes.

    Args:
        root: the folder of the store.
        staging: where files are made before they appear.
    """

    def __init__(self, root: Path, staging: Staging) -> None:
        self.folder = root / "packs"
        self._root, self._staging = root, staging
        self._file = self.folder / "index.sqlite3"
        self._lock = RLock()
        self._index: PackIndex | None = None
        self._identity: Identity | None = None
        self._listed = 0
        self._open: OrderedDict[str, PackFile] = OrderedDict()
        self._opening = RLock()  # not the other one: packs are opened within changes of the index, too

    # Files.

    def is_used(self) -> bool:
        """Whether anything was ever packed here."""
        return self.folder.is_dir()

    def make(self) -> None:
        """Make the folder, durably."""
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._root, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def pack_file(self, name: str) -> Path:
        """Where a pack lies."""
        return self.folder / f"{name}.pack"

    def open_pack(self, name: str) -> Source:
        """A pack's bytes, which stay readable when it is compacted meanwhile.

        Raises:
            NotFound: it is not there.
            StorageError: it cannot be opened.
        """
        with self._opening:
            try:
                found = self.pack_file(name).stat()
                known = self._open.get(name)
                if known is not None and known.number == found.st_ino:  # else a damaged one was replaced
                    self._open.move_to_end(name)
                    return known
                opened = PackFile(self.pack_file(name))
            except FileNotFoundError:
                raise NotFound(f"no such pack: {name}", code="pack-missing") from None
            except OSError as error:
                raise StorageError.of(error, f"cannot open pack {name[:12]}") from error
            self._open[name] = opened
            if len(self._open) > _OPEN:
                self._open.popitem(last=False)
            return opened

    def names(self) -> dict[str, tuple[int, int]]:
        """Packs that count, oldest first, each with its bytes and those of its ``.gone`` file."""
        packs: dict[str, os.stat_result] = {}
        took: dict[str, int] = {}
        with suppress(FileNotFoundError), os.scandir(self.folder) as found:
            for entry in found:
                with suppress(FileNotFoundError):
                    if entry.name.endswith(".gone"):
                        took[entry.name[:-5]] = entry.stat().st_size
                    elif match := _PACK.fullmatch(entry.name):
                        packs[match[1]] = entry.stat()
        ordered = sorted(packs, key=lambda name: (packs[name].st_mtime_ns, name))
        sizes = {name: (packs[name].st_size, took.get(name, 0)) for name in ordered}
        return {name: size for name, size in sizes.items() if not size[1] or not self.gone(name).moved & packs.keys()}

    def gone(self, name: str) -> Gone:
        """What was taken out of a pack."""
        try:
            return gone.parse(name, self._gone_file(name).read_bytes())
        except FileNotFoundError:
            return Gone()

    def strike(self, index: PackIndex, name: str, kind: Kind, what: Collection[Digest] | Collection[bytes]) -> None:
        """Say durably that blobs or segments do not count in a pack any more; within a change of the index."""
        self.take_struck(index, name)
        texts = [one.hex() if isinstance(one, bytes) else str(one) for one in what]
        self.note(name, kind, texts)
        self.take_struck(index, name)

    def note(self, name: str, kind: Kind, what: Collection[str]) -> None:
        """Append to a pack's ``.gone`` file, durably."""
        file = self._gone_file(name)
        fresh = not file.exists()
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            data = gone.lines(name, kind, what)
            while data:
                data = data[os.write(descriptor, data) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if fresh:
            self.flush()

    def appear(self, staged: Path, name: str, without: Collection[str]) -> None:
        """Let a finished pack appear, durably; within a change of the index.

        One of this name that was there is replaced, and all that was said about it is void: its blobs are those that
        were packed just now.

        Args:
            staged: the file, flushed.
            name: the pack's name.
            without: blobs in it that were deleted meanwhile.
        """
        before = self.pack_file(name).exists()
        if without and not before:
            self._gone_file(name).unlink(missing_ok=True)
            self.note(name, "blob", without)
        staged.replace(self.pack_file(name))
        self.flush()
        if before:
            with self._staging.new(mode=0o666) as fresh:
                os.write(fresh.descriptor, gone.lines(name, "blob", without) if without else b"")
                os.fsync(fresh.descriptor)
                fresh.path.replace(self._gone_file(name))
            self.flush()

    def remove(self, name: str) -> int:
        """Remove a pack that nothing needs; its bytes."""
        with self._opening:
            self._open.pop(name, None)
        size = 0
        with suppress(FileNotFoundError):
            size = self.pack_file(name).stat().st_size
            self.pack_file(name).unlink()
        self.flush()  # before what says that it does not count
        self._gone_file(name).unlink(missing_ok=True)
        return size

    def superseded(self) -> list[str]:
        """Packs that a compaction replaced, and that it did not come to remove."""
        found = {path.stem for path in self.folder.glob("*.pack")}
        return sorted(found - self.names().keys())

    def _gone_file(self, name: str) -> Path:
        return self.folder / f"{name}.gone"

    def flush(self) -> None:
        """Make what appeared in the folder durable."""
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    # Locks.

    @contextmanager
    def packing(self) -> Iterator[None]:
        """Nobody compacts meanwhile, so that what is found in packs stays there; others may pack."""
        with self._locked(self.folder, fcntl.LOCK_SH):
            yield

    @contextmanager
    def compacting(self) -> Iterator[None]:
        """Nobody packs or compacts meanwhile."""
        with self._locked(self.folder, fcntl.LOCK_EX):
            yield

    @contextmanager
    def _index_lock(self, kind: int) -> Iterator[None]:
        file = self.folder / "index.lock"
        with suppress(FileExistsError):
            os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
        with self._locked(file, kind):
            yield

    @contextmanager
    def _locked(self, place: Path, kind: int) -> Iterator[None]:
        descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, kind)
            yield
        finally:
            os.close(descriptor)

    # The index.

    def read(self, question: Callable[[PackIndex], T]) -> T:
        """Ask the index; it is brought up, or made again, when that is needed.

        Raises:
            StorageError: it cannot be read, nor made.
        """
        for attempt in range(3):
            index = self._current()
            try:
                return question(index)
            except (sqlite3.Error, Outdated) as error:
                if attempt == 2 or not _is_broken(error):
                    raise _failed(error) from error
                self._replace(index)
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
                if attempt > 2 or not _is_broken(error):
                    raise _failed(error) from error
                self._replace(index)
            except OSError as error:
                raise StorageError.of(error, f"cannot change packs in {self.folder}") from error
        raise StorageError(f"the index of packs in {self.folder} is replaced again and again")

    def refresh(self) -> None:
        """Bring the index in step with the files, also where somebody died between a file and its row."""
        self.read(lambda index: self._catch_up(index, force=True))

    def catch_up(self) -> bool:
        """``refresh`` when packs came or went since; whether any did."""
        return self.read(lambda index: self._catch_up(index, force=False))

    def rebuild(self) -> None:
        """Make the index again from the packs."""
        self._replace(self._current())

    def _current(self) -> PackIndex:
        with self._lock:
            now = self._identity_now()
            if self._index is not None and now == self._identity:
                return self._index
            self._drop()
            return self._make(None) if now is None else self._load(now)

    def _identity_now(self) -> Identity | None:
        try:
            found = self._file.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino, os.getpid()

    def _load(self, now: Identity) -> PackIndex:
        """Open the index that is there; make it where that cannot be."""
        try:
            index = PackIndex(self._file, writable=self._is_writable())
            self._catch_up(index, force=True)
        except (sqlite3.Error, Outdated) as error:
            if self._is_writable() and not _is_broken(error):
                raise _failed(error) from error
            return self._make(now)
        self._index, self._identity = index, now
        return index

    def _replace(self, broken: PackIndex) -> None:
        with self._lock:
            if self._index is broken:
                before = self._identity
                self._drop()
                self._make(before)

    def _drop(self) -> None:
        if self._index is not None and (self._identity is None or self._identity[2] == os.getpid()):
            self._index.close()
        self._index = self._identity = None

    def _make(self, before: Identity | None) -> PackIndex:
        """Make the index from the packs, unless another process did since; in memory where nothing can be written."""
        if not self._is_writable():
            index = PackIndex(None)
            self._identity = self._identity_now()
            self._fill(index)
        else:
            try:
                with self._index_lock(fcntl.LOCK_EX):
                    if self._identity_now() == before:
                        self._make_file()
                self._identity = self._identity_now()
                index = PackIndex(self._file)
                self._catch_up(index, force=True)
            except sqlite3.Error as error:
                raise _failed(error) from error
            except OSError as error:
                raise StorageError.of(error, f"cannot make the index of packs in {self.folder}") from error
        self._index = index
        return index

    def _make_file(self) -> None:
        with self._staging.new(mode=0o666) as staged:
            fresh = PackIndex(staged.path, scratch=True)
            try:
                self._fill(fresh)
            finally:
                fresh.close()
            os.fsync(staged.descriptor)
            # A journal of the old file must never be applied to the new one.
            self._file.unlink(missing_ok=True)
            self._file.with_name(f"{self._file.name}-journal").unlink(missing_ok=True)
            staged.path.replace(self._file)
        self.flush()

    def _fill(self, index: PackIndex) -> None:
        with index.change():
            self._take_in(index, self.names())

    def _catch_up(self, index: PackIndex, *, force: bool) -> bool:
        try:
            seen = self.folder.stat().st_mtime_ns
        except FileNotFoundError:
            return False
        if not force and seen == self._listed:
            return False
        there, known = self.names(), index.packs()
        same = there.keys() == known.keys() and all(known[name].gone == size[1] for name, size in there.items())
        if not same and index.in_memory:
            with index.change():
                self._take_in(index, self.names())
        elif not same and not self._is_writable():
            raise Outdated
        elif not same:
            with self._index_lock(fcntl.LOCK_SH), index.change():
                self._take_in(index, self.names())
        self._listed = seen if time.time_ns() - seen > _UNSETTLED else 0
        return not same

    def _take_in(self, index: PackIndex, there: dict[str, tuple[int, int]]) -> None:
        """Bring rows in step with files; new packs first, so that what moved is there before the old place goes."""
        known, new = index.packs(), {}
        for name, (size, length) in there.items():
            if name not in known:
                try:
                    index.take_in_segments(name, size, read_directory(self.open_pack(name), name), self.gone(name))
                    new[name] = size
                except NotFound:
                    continue
                except AssayError as error:
                    index.take_in_faulty(name, size, error.message)
            elif known[name].gone != length:
                self.take_struck(index, name)
        for name in new:  # blobs are made of segments in any pack: these come first
            held = read_directory(self.open_pack(name), name)
            index.take_in_blobs(name, held, self.gone(name), time.time_ns())
        for name in known.keys() - there.keys():
            index.drop_pack(name)

    def take_struck(self, index: PackIndex, name: str) -> None:
        """Bring rows in step with what was struck out of a pack, also by somebody who died before the rows."""
        took = self.gone(name)
        known = index.pack(name)
        if known is not None and took.length != known.gone:
            for digest in took.blobs:
                index.unlist(digest, name)
            for segment in took.bad:
                index.lose(segment, name)
            index.took_gone(name, took.length)

    def _is_writable(self) -> bool:
        return os.access(self.folder, os.W_OK | os.X_OK)


class PackFile(FileSource):
    """A pack: opened at once, so that it stays readable when its name goes."""

    __slots__ = ("number",)

    def __init__(self, file: Path) -> None:
        super().__init__(file)
        self.number = os.fstat(self._opened()).st_ino

    def read(self, offset: int, length: int) -> bytes:
        """The bytes in [offset, offset + length), cut off at the end."""
        try:
            return super().read(offset, length)
        except OSError as error:
            raise StorageError.of(error, f"cannot read pack {self.file.stem[:12]}") from error

    def read_into(self, offset: int, into: memoryview) -> int:
        """Fill *into* from the bytes at *offset*; how many were written."""
        try:
            return super().read_into(offset, into)
        except OSError as error:
            raise StorageError.of(error, f"cannot read pack {self.file.stem[:12]}") from error


def read_directory(pack: Source, name: str) -> Directory:
    """The directory of a pack.

    Raises:
        IntegrityError: it does not match its digest, or is another pack's.
        BadFormat: it is damaged in another way, or of a later release (code ``pack-too-new``).
    """
    tail = pack.read(max(0, pack.size - FOOTER.size), FOOTER.size)
    offset, length, _ = directory.read_footer(tail, pack.size)
    return directory.decode(pack.read(offset, length), bytes.fromhex(name))


def _is_broken(error: Exception) -> bool:
    """Whether the file is damaged, or no such index, so that it must be made again."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF in _CORRUPT


def _failed(error: Exception) -> StorageError:
    full = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
    return StorageError(
        f"the index of packs cannot be used: {error}",
        code="store-full" if full else "storage",
        hint="make room, then run it again" if full else "run it again; assay reindex --packs makes the index again",
    )
