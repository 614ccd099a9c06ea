"""Packs in a bucket: their objects in the place of files, their index in a local folder.

    packs/<name>.pack    as in a folder
    packs/<name>.gone    as in a folder; written anew as a whole

The index is made from the packs' directories by ranged reads, and brought up when packs came or went. Whoever changes
packs, or says that something does not count in them, takes a turn (``turns``), which begins with a look at what others
changed.

A pack that another store handed over first says that it moved to itself, and so counts for nothing: it counts when that
is taken back, which is done once it was sent and the turn was found to count still. Whoever dies before leaves a pack
that the next compaction removes. A ``.gone`` object that is made void begins with more empty lines than it had bytes:
so other machines see by its length that it changed, and by its beginning that what it said before may not hold.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import UTC
from pathlib import Path
from typing import Any, TypeVar

from assay.blobs.bucket.objects import BucketObjects
from assay.blobs.bucket.reading import BucketSource
from assay.blobs.bucket.store import BucketStore, BucketSweep
from assay.blobs.bucket.turns import Turn
from assay.blobs.packs import gone
from assay.blobs.packs.folder import PackFolder
from assay.blobs.packs.gone import Gone, Kind
from assay.blobs.packs.index import PackIndex
from assay.blobs.packs.keeping import IndexKeeper, read_directory
from assay.blobs.packs.packer import Packer
from assay.blobs.staging import Staging
from assay.errors import AssayError, NotFound, StorageError
from assay.ports.objects import Found
from assay.ports.packs import ToPack
from assay.spec.digest import Digest
from assay.trees import Source, read_into

PACK = 256 << 20
"""Bytes from which on a pack is closed: others who pack wait until it was sent."""
_FOLDER = "packs/"
_NAME = re.compile(r"packs/([0-9a-f]{64})\.(pack|gone)", re.ASCII)
_LOOK = 10.0
"""Seconds for which a list of packs is believed where a miss does no harm."""
_READ = 4 << 20
_ANEW = b"\n\n"
"""How a ``.gone`` object begins that was made void; one that was not has one empty line between two things said."""

_T = TypeVar("_T")


class BucketPackFolder(PackFolder):
    """Packs below a prefix, and their index in a local folder.

    Args:
        objects: the bucket.
        state: the local folder.
        staging: where files are made before they are sent.
        pool: who fetches ranges.
    """

    def __init__(self, objects: BucketObjects, state: Path, staging: Staging, pool: Executor) -> None:
        super().__init__(state, staging)
        self._objects, self._pool = objects, pool
        self._sources: dict[str, BucketSource] = {}
        self._said: dict[str, tuple[str, frozenset[str]]] = {}
        self._seen = set[str]()
        self._used, self._looked = False, -_LOOK
        self.folder.mkdir(parents=True, exist_ok=True)
        self._turn = Turn(objects, self.folder, self._begin)
        self._own = objects.guarded(self.check)
        self.index = _Index(self, staging)

    def is_used(self) -> bool:
        """Whether anything was ever packed here."""
        if not self._used and time.monotonic() - self._looked > _LOOK:
            self._looked = time.monotonic()
            self._used = next(self._objects.list(_FOLDER), None) is not None
        return self._used

    def look(self) -> bool:
        """Look at what is packed here now, where others may just have begun to; whether anything is."""
        self._looked = -_LOOK
        if not self.is_used():
            return False
        self.index.refresh()
        return True

    def make(self) -> None:
        """Something will be packed."""
        self._used = True

    def turn(self) -> AbstractContextManager[None]:
        """Nobody else changes packs meanwhile, on whichever machine; the index says what they are when it begins."""
        return self._turn.taken()

    def check(self) -> None:
        """Whether the turn still counts.

        Raises:
            StorageError: it may not (code ``turn-lapsed``), and will not again.
        """
        self._turn.check()

    @contextmanager
    def only_while(self, check: Callable[[], None]) -> Iterator[None]:
        """Within a turn: packs change meanwhile only as long as *check* does not raise, either."""
        before = self._own
        self._own = before.guarded(check)
        try:
            yield
        finally:
            self._own = before

    @contextmanager
    def packing(self) -> Iterator[None]:
        """Nobody else packs or compacts meanwhile."""
        with self.turn():
            yield

    @contextmanager
    def compacting(self) -> Iterator[None]:
        """Nobody else packs or compacts meanwhile."""
        with self.turn():
            yield

    def _begin(self) -> None:
        self.look()

    def open_pack(self, name: str) -> Source:
        """A pack's bytes.

        Raises:
            NotFound: it is not there; the index then knows where else its segments lie.
            StorageError: the bucket failed.
        """
        known = self._sources.get(name)
        if known is not None:
            return known
        found = self._objects.head(_pack(name))
        if found is None:
            raise NotFound(f"no such pack: {name}", code="pack-missing")
        source = BucketSource(self._objects, _pack(name), found.size, self._pool)
        self._sources[name] = source
        return source

    def names(self) -> dict[str, tuple[int, int]]:
        """Packs that count, oldest first, each with its bytes and those of its ``.gone`` object."""
        packs, took = self._found_all()
        if self._seen - packs.keys():
            # What took the place of one that went may have appeared behind where the list was by then.
            packs, took = self._found_all()
        self._seen = set(packs)
        for name in self._sources.keys() - packs.keys():
            self._sources.pop(name, None)  # another thread may have been first
        ordered = sorted(packs, key=lambda name: (packs[name].modified.astimezone(UTC), name))
        return {
            name: (packs[name].size, took[name].size if name in took else 0)
            for name in ordered
            if name not in took or not self._moved_to(name, took[name].etag) & packs.keys()
        }

    def _found_all(self) -> tuple[dict[str, Found], dict[str, Found]]:
        """Objects of packs, and those that say what was taken out of them, by the packs' names."""
        packs: dict[str, Found] = {}
        took: dict[str, Found] = {}
        for one in self._objects.list(_FOLDER):
            match = _NAME.fullmatch(one.key)
            if match:
                (packs if match[2] == "pack" else took)[match[1]] = one
        return packs, took

    def _moved_to(self, name: str, etag: str) -> frozenset[str]:
        known = self._said.get(name)
        if known is None or not etag or known[0] != etag:
            self._said[name] = known = etag, frozenset(self.gone(name).moved)
        return known[1]

    def stamp(self) -> int:
        """Changes every few seconds: only a look tells."""
        return 1 + int(time.monotonic() / _LOOK)

    def gone(self, name: str) -> Gone:
        """What was taken out of a pack."""
        try:
            return gone.parse(name, self._objects.get(_gone(name)))
        except NotFound:
            return Gone()

    def note(self, name: str, kind: Kind, what: Collection[str]) -> None:
        """Add to what was taken out of a pack."""
        self._own.put(_gone(name), self._noted(name) + gone.lines(name, kind, what))

    def appear(self, staged: Path, name: str, without: Collection[str]) -> None:
        """Send a finished pack; within a change of the index. See ``PackFolder.appear``."""
        before = self._own.head(_pack(name)) is not None
        said = gone.lines(name, "blob", without) if without else b""
        if not before:
            self._say(name, said)
        self._own.put_parts(_pack(name), lambda: _parts(staged), staged.stat().st_size)
        if before:
            self._say_anew(name, said)
        self._sources.pop(name, None)
        self._turn.check()  # else nothing may rely on it: what it relies on may be gone
        self._seen.add(name)
        staged.unlink()

    def land(self, staged: Path, name: str) -> None:
        """Send a pack that another store handed over; within a change of the index.

        There is no other copy of its blobs here, so it must not count where what it relies on may be gone.
        """
        before = self._own.head(_pack(name)) is not None
        if not before:
            self._say(name, gone.lines(name, "moved", [name]))
        self._own.put_parts(_pack(name), lambda: _parts(staged), staged.stat().st_size)
        self._sources.pop(name, None)
        if before:
            self._say_anew(name, b"")
        else:
            self._say(name, b"")
        self._used = True
        self._seen.add(name)
        staged.unlink()

    def remove(self, name: str) -> int:
        """Remove a pack that nothing needs; its bytes."""
        found = self._own.head(_pack(name))
        self._own.delete(_pack(name))
        self._own.delete(_gone(name))  # after what it says does not count
        self._sources.pop(name, None)
        return 0 if found is None else found.size

    def superseded(self) -> list[str]:
        """Packs that a compaction replaced, and that it did not come to remove."""
        matches = [_NAME.fullmatch(one.key) for one in self._objects.list(_FOLDER)]
        found = {match[1] for match in matches if match and match[2] == "pack"}
        return sorted(found - self.names().keys())

    def flush(self) -> None:
        """What is in a bucket is durable."""

    def _say(self, name: str, said: bytes) -> None:
        if said:
            self._own.put(_gone(name), said)
        else:
            self._own.delete(_gone(name))

    def _say_anew(self, name: str, said: bytes) -> None:
        """Make void what was said of a pack."""
        before = self._noted(name)
        self._say(name, (b"\n" * (len(before) + 1) if before else b"") + said)

    def is_said_anew(self, name: str) -> bool:
        """Whether something that was said of a pack was made void."""
        return self._noted(name).startswith(_ANEW)

    def _noted(self, name: str) -> bytes:
        try:
            return self._objects.get(_gone(name))
        except NotFound:
            return b""


class _Index(IndexKeeper):
    """The index of packs in a bucket, which is changed in turns: what it is changed with is said in the bucket, too."""

    def __init__(self, folder: BucketPackFolder, staging: Staging) -> None:
        super().__init__(folder.folder / "index.sqlite3", folder, staging)
        self._packs = folder

    def write(self, change: Callable[[PackIndex], _T]) -> _T:
        """Change the index, in one transaction and one turn; *change* may run twice.

        Raises:
            StorageError: it cannot be written; nothing of it counts.
        """
        with self._packs.turn():
            return super().write(change)

    def _take_in(self, index: PackIndex) -> None:
        before = {name: row.gone for name, row in index.packs().items()}
        super()._take_in(index)
        changed = [name for name, row in index.packs().items() if row.gone != before.get(name, row.gone)]
        again = [name for name in changed if self._packs.is_said_anew(name)]
        for name in again:
            self._take_in_again(index, name)
        if again:
            self.mend(index)

    def _take_in_again(self, index: PackIndex, name: str) -> None:
        """Take in what was said to be gone from a pack and is not."""
        try:
            pack = self._packs.open_pack(name)
            held, took = read_directory(pack, name), self._packs.gone(name)
        except StorageError:
            raise
        except AssayError:
            return  # compacted meanwhile, or damaged: what is known of it stays
        index.take_in_segments(name, pack.size, held, took)
        new = tuple(blob for blob in held.blobs if name not in index.listing(blob.digest))
        index.take_in_blobs(name, replace(held, blobs=new), took, time.time_ns())


class BucketPacker(Packer):
    """Packs raw blobs of a bucket: they are read as they are packed, and nothing but the pack lies here meanwhile.

    Args:
        raw: the blobs.
        folder: where packs go.
        staging: where they are made.
        size: bytes from which on a pack is closed.
    """

    def __init__(self, raw: BucketStore, folder: BucketPackFolder, staging: Staging, *, size: int = PACK) -> None:
        room: Any = _Raw(raw, folder, staging)
        super().__init__(room, folder, size=size)
        self._store = raw

    def _opened(self, batch: Sequence[ToPack]) -> list[tuple[ToPack, Source]]:
        found: list[tuple[ToPack, Source]] = []
        for one in batch:
            try:
                found.append((one, _Brief(self._store.open(one.digest))))
            except NotFound:
                continue  # deleted meanwhile
        return found

    def _times(self, digests: Sequence[Digest]) -> dict[Digest, int]:
        times = {digest: self._store.added(digest) for digest in digests}
        return {digest: int(added.timestamp() * 1e9) for digest, added in times.items() if added is not None}


class _Raw:
    """What a packer asks of raw blobs."""

    def __init__(self, store: BucketStore, folder: BucketPackFolder, staging: Staging) -> None:
        self._store, self._folder = store, folder
        self.staging = staging
        self.size = store.size

    @contextmanager
    def sweep(self) -> Iterator[BucketSweep]:
        """The right to remove raw copies, while packs stay what they are; turns come first, as everywhere."""
        with self._folder.turn(), self._store.sweep() as sweep:
            sweep.only_while(self._folder.check)
            yield sweep


class _Brief:
    """A raw blob while it is packed; that it was deleted meanwhile is a failure of the place, as the packer sees it."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.size = source.size

    def read(self, offset: int, length: int) -> bytes:
        """The bytes in [offset, offset + length), cut off at the end."""
        try:
            return self._source.read(offset, length)
        except NotFound as error:
            raise StorageError(error.message) from error

    def read_into(self, offset: int, into: memoryview) -> int:
        """Fill *into* from the bytes at *offset*; how many were written."""
        try:
            return read_into(self._source, offset, into)
        except NotFound as error:
            raise StorageError(error.message) from error


def _pack(name: str) -> str:
    return f"{_FOLDER}{name}.pack"


def _gone(name: str) -> str:
    return f"{_FOLDER}{name}.gone"


def _parts(file: Path) -> Iterator[bytes]:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            offset = 0
            while data := os.pread(descriptor, _READ, offset):
                offset += len(data)
                yield data
        finally:
            os.close(descriptor)
    except OSError as error:  # must not be taken for one of the bucket's
        raise StorageError.of(error, f"cannot read {file}") from error
