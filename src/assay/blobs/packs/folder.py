"""The folder ``packs/`` of a local store: its files and its locks."""

from __future__ import annotations

import fcntl
import os
import re
import stat
import time
from collections import OrderedDict
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING

from assay.blobs.packs import gone
from assay.blobs.packs.gone import Gone, Kind
from assay.blobs.packs.keeping import IndexKeeper, locked
from assay.blobs.staging import Staging
from assay.errors import NotFound, StorageError
from assay.spec.digest import Digest
from assay.streams.durable import flush, write_all
from assay.trees import Source
from assay.trees.window import FileSource

if TYPE_CHECKING:
    from assay.blobs.packs.index import PackIndex

_PACK = re.compile(r"([0-9a-f]{64})\.pack", re.ASCII)
_READABLE = 0o444
_OPEN = 64
"""Packs that are kept open."""
_UNSETTLED = 50_000_000
"""Nanoseconds for which a folder's time may hide a second change."""


class PackFolder:
    """Packs in a folder, and their index; safe for several threads and processes.

    Args:
        root: the folder of the store.
        staging: where files are made before they appear.
    """

    def __init__(self, root: Path, staging: Staging) -> None:
        self.folder = root / "packs"
        self._root, self._staging = root, staging
        self.index = IndexKeeper(self.folder / "index.sqlite3", self, staging)
        self._read: dict[str, tuple[int, frozenset[str]]] = {}
        self._open: OrderedDict[str, PackFile] = OrderedDict()
        self._opening = RLock()  # not the other one: packs are opened within changes of the index, too

    # Files.

    def is_used(self) -> bool:
        """Whether anything was ever packed here."""
        try:
            return self.folder.is_dir()
        except OSError as error:
            raise StorageError.of(error, f"cannot look for packs in {self.folder}") from error

    def make(self) -> None:
        """Make the folder, durably.

        Raises:
            StorageError: it cannot be made.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            flush(self._root)
        except OSError as error:
            raise StorageError.of(error, f"cannot begin to pack in {self.folder}") from error

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
                # Else a damaged one was replaced, or one that was on its way here is more by now.
                if known is not None and (known.number, known.size) == (found.st_ino, found.st_size):
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
        """Packs that count, oldest first, each with its bytes and those of its ``.gone`` file.

        Raises:
            StorageError: they cannot be listed.
        """
        packs, took = self._files()
        ordered = sorted(packs, key=lambda name: (packs[name].st_mtime_ns, name))
        sizes = {name: (packs[name].st_size, took.get(name, 0)) for name in ordered}
        return {
            name: size for name, size in sizes.items() if not size[1] or not self._moved(name, size[1]) & packs.keys()
        }

    def _files(self) -> tuple[dict[str, os.stat_result], dict[str, int]]:
        """Files of packs, and the bytes that say what was taken out of them, by the packs' names."""
        packs: dict[str, os.stat_result] = {}
        took: dict[str, int] = {}
        try:
            with suppress(FileNotFoundError), os.scandir(self.folder) as found:
                for entry in found:
                    with suppress(FileNotFoundError):
                        if entry.name.endswith(".gone"):
                            took[entry.name[:-5]] = entry.stat().st_size
                        elif match := _PACK.fullmatch(entry.name):
                            packs[match[1]] = entry.stat()
        except OSError as error:
            raise StorageError.of(error, f"cannot list packs in {self.folder}") from error
        return packs, took

    def _moved(self, name: str, length: int) -> frozenset[str]:
        known = self._read.get(name)
        if known is None or known[0] != length:
            took = self.gone(name)
            self._read[name] = known = took.length, frozenset(took.moved)
        return known[1]

    def stamp(self) -> int:
        """The folder's time; 0 when it changed so lately that it may change again without showing it."""
        try:
            changed = self.folder.stat().st_mtime_ns
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise StorageError.of(error, f"cannot list packs in {self.folder}") from error
        return changed if time.time_ns() - changed > _UNSETTLED else 0

    def gone(self, name: str) -> Gone:
        """What was taken out of a pack.

        Raises:
            StorageError: it cannot be read.
        """
        try:
            return gone.parse(name, self._gone_file(name).read_bytes())
        except FileNotFoundError:
            return Gone()
        except OSError as error:
            raise StorageError.of(error, f"cannot read what was taken out of pack {name[:12]}") from error

    def strike(self, index: PackIndex, name: str, kind: Kind, what: Collection[Digest] | Collection[bytes]) -> None:
        """Say durably that blobs or segments do not count in a pack any more; within a change of the index."""
        self.index.take_struck(index, name)
        texts = [one.hex() if isinstance(one, bytes) else str(one) for one in what]
        self.note(name, kind, texts)
        self.index.take_struck(index, name)

    def note(self, name: str, kind: Kind, what: Collection[str]) -> None:
        """Append to a pack's ``.gone`` file, durably."""
        file = self._gone_file(name)
        fresh = not file.exists()
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            self._let_read(descriptor, name)
            write_all(descriptor, gone.lines(name, kind, what))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if fresh:
            self.flush()

    def _let_read(self, descriptor: int, name: str) -> None:
        """Whoever may read a pack may read what was taken out of it, under whatever umask that is written."""
        with suppress(OSError):  # the pack comes later, or the file is somebody else's
            mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
            wanted = mode | (self.pack_file(name).stat().st_mode & _READABLE)
            if wanted != mode:
                os.fchmod(descriptor, wanted)

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
                self._let_read(fresh.descriptor, name)
                write_all(fresh.descriptor, gone.lines(name, "blob", without) if without else b"")
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
        packs, _ = self._files()
        return sorted(packs.keys() - self.names().keys())

    def _gone_file(self, name: str) -> Path:
        return self.folder / f"{name}.gone"

    def flush(self) -> None:
        """Make what appeared in the folder durable."""
        flush(self.folder)

    # Locks.

    @contextmanager
    def packing(self) -> Iterator[None]:
        """Nobody compacts meanwhile, so that what is found in packs stays there; others may pack."""
        with locked(self.folder, fcntl.LOCK_SH):
            yield

    @contextmanager
    def compacting(self) -> Iterator[None]:
        """Nobody packs or compacts meanwhile."""
        with locked(self.folder, fcntl.LOCK_EX):
            yield


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
