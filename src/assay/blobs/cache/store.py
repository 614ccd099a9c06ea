"""A far blob store with a cache in front of it: reads come from the cache, everything else goes to the store.

What was asked for as a file is fetched whole and compared with its digest, and goes on where an earlier, interrupted
fetch stopped. What is read in part stays in the cache as blocks.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from assay.blobs.cache.blocks import CachedSource
from assay.blobs.cache.folder import WRITTEN, CacheFolder, cannot_keep
from assay.blobs.cache.keeper import Hands
from assay.blobs.cache.kept import Kept
from assay.blobs.far import mark_of
from assay.blobs.packs.sources import RawSource
from assay.blobs.staging import Staged
from assay.errors import IntegrityError
from assay.ports.blobs import BlobStore, Leftover, Stored, Sweep
from assay.ports.exchange import Part, SegmentExchange
from assay.ports.packs import Effort, PackedBlobs, PackFault, Packing, PackUse, ToPack
from assay.ports.progress import SILENT, Progress
from assay.spec.digest import Digest
from assay.streams.bringing import bring
from assay.trees import Source

_SMALL = 1 << 20
"""Blobs up to here are fetched whole when they are opened: what is read of them is then what their digest says."""
_LOOK = 0.05


class CachedStore:
    """Blobs of a far store, read through a cache.

    Args:
        far: the store.
        folder: the cache.
        place: what to call the store: blocks of one place are not given to readers of another.
    """

    def __init__(self, far: BlobStore, folder: CacheFolder, place: str) -> None:
        self.far = far
        self.folder = folder
        self._place_name = place
        self._place = hashlib.sha256(place.encode()).hexdigest()[:16]
        self._hands = Hands()

    def past(self) -> CachedStore:
        """The same store, but bytes come from far away: for who checks what lies there."""
        return _Past(self.far, self.folder, self._place_name)

    def size(self, digest: Digest) -> int | None:
        """Length of a blob in bytes, or None when the far store does not have it."""
        return self.far.size(digest)

    def open(self, digest: Digest) -> Source:
        """The blob's bytes, readable at any offset.

        Raises:
            NotFound: it is not here (code ``blob-missing``).
            IntegrityError: it is small, and what the far store gives does not match its digest.
        """
        path = self.folder.pin(digest)
        if path is not None and (source := self._file(path, digest)) is not None:
            return source
        far = self.far.open(digest)
        if far.size <= _SMALL:
            try:
                return self._file(self._fetch(digest, far, SILENT), digest) or far
            except OSError:
                return far  # a cache that cannot be written
        kept = Kept(self.folder, self._place, digest, far.size, mark=mark_of(far))
        return CachedSource(kept, far, self._hands)

    def _file(self, path: Path, digest: Digest) -> Source | None:
        """A whole blob here; of thousands that are open, those that were pinned first may go before they are read."""
        try:
            return RawSource(path, lambda: self.open(digest))
        except OSError:
            return None

    def local_file(self, digest: Digest) -> Path | None:
        """The file in the cache that holds exactly these bytes, if it is there; nothing is fetched."""
        return self.folder.pin(digest)

    def fetch_file(self, digest: Digest, *, progress: Progress = SILENT) -> Path:
        """The file in the cache that holds exactly these bytes, fetched when it is not there.

        Raises:
            NotFound: the far store does not have it (code ``blob-missing``).
            IntegrityError: what it gives does not match the digest; nothing is kept.
            StorageError: it failed, or the cache cannot be written.
        """
        path = self.folder.pin(digest)
        if path is not None:
            progress.advance(path.stat().st_size)
            return path
        try:
            return self._fetch(digest, self.far.open(digest), progress)
        except OSError as error:
            raise cannot_keep(error, self.folder.root) from error

    def hold(self) -> AbstractContextManager[object]:
        """Until the end, no sweep deletes what is added or renewed from here on."""
        return self.far.hold()

    def renew(self, digest: Digest) -> int | None:
        """Count a blob as added now: its length, or None when it is not here."""
        return self.far.renew(digest)

    def add(self, data: bytes) -> Digest:
        """Keep small bytes."""
        return self.far.add(data)

    def add_file(self, file: Path, *, move: bool = False, progress: Progress = SILENT) -> tuple[Digest, int]:
        """Keep the bytes of a file; returns digest and size."""
        return self.far.add_file(file, move=move, progress=progress)

    def add_files(
        self, files: Sequence[Path], *, link: bool = False, progress: Progress = SILENT
    ) -> list[tuple[Digest, int]]:
        """Keep the bytes of many files; digests and sizes in the order of *files*."""
        return self.far.add_files(files, link=link, progress=progress)

    def digests(self) -> Iterator[Digest]:
        """Every blob of the far store."""
        return self.far.digests()

    def inventory(self) -> Iterator[Stored]:
        """Every blob of the far store with its size and when it was last added."""
        return self.far.inventory()

    def delete(self, digest: Digest) -> bool:
        """Remove a blob, here and there; whether it was there."""
        self.folder.forget(digest)
        return self.far.delete(digest)

    def set_aside(self, digest: Digest) -> Path | None:
        """Take a damaged blob out of use; what the cache has of it is dropped."""
        self.folder.forget(digest)
        return self.far.set_aside(digest)

    def sweep(self) -> AbstractContextManager[Sweep]:
        """Hold off whoever adds or renews blobs."""
        return self.far.sweep()

    def leftovers(self, *, clear: bool = False) -> Sequence[Leftover]:
        """What dead writers left in the far store."""
        return self.far.leftovers(clear=clear)

    def _fetch(self, digest: Digest, far: Source, progress: Progress) -> Path:
        """Fetch a blob whole.

        Raises:
            IntegrityError: it does not match its digest; nothing is kept.
            StorageError: the far store failed.
            OSError: the cache cannot be written.
        """
        self.folder.prepare()
        while True:
            with self.folder.staging.part(digest.hex) as staged:
                if staged is not None:
                    if (there := self.folder.pin(digest)) is not None:  # another process was faster
                        staged.path.unlink(missing_ok=True)
                        return there
                    self._fill(staged, digest, far, progress)
            if (path := self.folder.pin(digest)) is not None:
                self.folder.added(far.size)
                return path
            time.sleep(_LOOK)  # another process fetches it, or has made room of it at once

    def _fill(self, staged: Staged, digest: Digest, far: Source, progress: Progress) -> None:
        have = os.fstat(staged.descriptor).st_size
        arrived = bring(far, staged.descriptor, have=have, algorithm=digest.algorithm, progress=progress)
        if arrived.digest != digest and arrived.resumed:  # what was left here may be what is wrong
            arrived = bring(far, staged.descriptor, algorithm=digest.algorithm)
        if arrived.digest != digest:
            staged.path.unlink(missing_ok=True)
            raise IntegrityError(
                f"what the far store gives for blob {digest.short} does not match its digest: {arrived.digest.short}",
                hint="assay verify says what is damaged and where a good copy may be",
                digest=str(digest),
            )
        os.utime(staged.descriptor, ns=(time.time_ns(), WRITTEN))
        path = self.folder.blob(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        staged.path.replace(path)
        os.fchmod(staged.descriptor, 0o444)  # now that it cannot be left behind for the next fetch to go on with


class CachedPackingStore(CachedStore):
    """The same for a far store that packs: what is cached are the blobs, whatever form they have there."""

    def __init__(self, far: BlobStore, folder: CacheFolder, place: str) -> None:
        super().__init__(far, folder, place)
        assert isinstance(far, Packing)
        self._packs = far

    def past(self) -> CachedStore:
        """The same store, but bytes come from far away."""
        return _PastPacking(self.far, self.folder, self._place_name)

    def is_packed(self, digest: Digest) -> bool:
        """Whether a blob lies in a pack."""
        return self._packs.is_packed(digest)

    def is_raw(self, digest: Digest) -> bool:
        """Whether a blob lies there as it is."""
        return self._packs.is_raw(digest)

    def pack(
        self, blobs: Sequence[ToPack], *, effort: Effort = Effort.DEFAULT, progress: Progress = SILENT
    ) -> PackedBlobs:
        """Pack blobs."""
        return self._packs.pack(blobs, effort=effort, progress=progress)

    def unpack(self, digest: Digest, *, progress: Progress = SILENT) -> bool:
        """Make a raw copy of a packed blob again."""
        return self._packs.unpack(digest, progress=progress)

    def pack_use(self) -> PackUse:
        """What packs cost."""
        return self._packs.pack_use()

    def compact(self, *, least: float = 0.25, progress: Progress = SILENT) -> int:
        """Write packs anew without what is dead."""
        return self._packs.compact(least=least, progress=progress)

    def check_packs(self, *, progress: Progress = SILENT) -> Iterator[PackFault]:
        """Compare every stored byte of every pack with its checksums."""
        return self._packs.check_packs(progress=progress)

    def reindex_packs(self) -> int:
        """Make the index of the packs again."""
        return self._packs.reindex_packs()


class CachedExchangingStore(CachedPackingStore):
    """The same for a far store that also exchanges packed blobs with others: these never go through the cache."""

    def __init__(self, far: BlobStore, folder: CacheFolder, place: str) -> None:
        super().__init__(far, folder, place)
        assert isinstance(far, SegmentExchange)
        self._exchange = far

    def past(self) -> CachedStore:
        """The same store, but bytes come from far away."""
        return _PastExchanging(self.far, self.folder, self._place_name)

    def takes_packs(self) -> bool:
        """Whether packed blobs come in unasked."""
        return self._exchange.takes_packs()

    def parts(self, digest: Digest) -> Sequence[Part] | None:
        """Every segment that a blob needs, bases included; None when it is not packed there, or not whole."""
        return self._exchange.parts(digest)

    def lacking(self, segments: Collection[bytes]) -> set[bytes]:
        """Those of some segments that are not there."""
        return self._exchange.lacking(segments)

    def hand_over(self, blobs: Sequence[Digest], segments: Collection[bytes]) -> Source:
        """A pack that lists *blobs* and holds *segments*, put together while it is read."""
        return self._exchange.hand_over(blobs, segments)

    def take_in(self, pack: Source, *, progress: Progress = SILENT) -> None:
        """Keep a pack that another store hands over, once every blob in it was compared."""
        self._exchange.take_in(pack, progress=progress)


class _Past(CachedStore):
    """Reads past the cache; what is deleted or set aside is dropped from it all the same."""

    def open(self, digest: Digest) -> Source:
        """The blob's bytes as the far store gives them."""
        return self.far.open(digest)

    def local_file(self, digest: Digest) -> Path | None:
        """The far store's file, if it has one."""
        return self.far.local_file(digest)


class _PastPacking(_Past, CachedPackingStore):
    """The same for a store that packs."""


class _PastExchanging(_Past, CachedExchangingStore):
    """The same for a store that exchanges packed blobs."""
