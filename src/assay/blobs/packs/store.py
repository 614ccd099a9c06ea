"""The store of a home: blobs raw and packed under one roof. Readers never know which.

Reads prefer the raw copy. Whoever looks for a raw copy, then for a packed one, then looks for the raw one again: in
between, one may have become the other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from assay.blobs.directory import DirectoryStore
from assay.blobs.packs.adding import LARGE, PackedElsewhere
from assay.blobs.packs.exchanging import Exchanging
from assay.blobs.packs.folder import PackFolder
from assay.blobs.packs.offering import OverPacks
from assay.blobs.packs.sources import LastingSource, RawSource
from assay.blobs.packs.sweeping import PackedSweep
from assay.blobs.sweeping import moment
from assay.errors import AssayError, NotFound, StorageError
from assay.later import later
from assay.ports.blobs import Leftover, Stored
from assay.ports.packs import Effort, PackedBlobs, ToPack
from assay.ports.places import Received
from assay.ports.progress import SILENT, Progress
from assay.spec.digest import Digest
from assay.streams.copying import digest_source
from assay.trees import Source

if TYPE_CHECKING:  # what only packs need: most homes have none, and most commands do not look into them
    from assay.blobs.packs import compacting, damage, exchange, packer, rows, stock
    from assay.blobs.packs.lookups import BlobRow
    from assay.packing import reading
else:
    compacting = later("assay.blobs.packs.compacting")
    damage = later("assay.blobs.packs.damage")
    exchange = later("assay.blobs.packs.exchange")
    packer = later("assay.blobs.packs.packer")
    rows = later("assay.blobs.packs.rows")
    stock = later("assay.blobs.packs.stock")
    reading = later("assay.packing.reading")

_PAGE = 1000


class PackedStore(OverPacks, Exchanging):
    """Blobs as files and in packs below a folder; safe for several threads and processes at once.

    Args:
        root: the folder; what is in it is made when something is first written.
        before_packing: is called before the folder ``packs/`` is made: older releases must not misread the place.
    """

    _raw: DirectoryStore

    def __init__(self, root: Path, *, before_packing: Callable[[], None] = lambda: None) -> None:
        self.root = root
        self._raw = DirectoryStore(root, elsewhere=PackedElsewhere(self))
        self._folder = PackFolder(root, self._raw.staging)
        self._before_packing = before_packing

    # Reading.

    def size(self, digest: Digest) -> int | None:
        """Length of a blob in bytes, or None when it is not here."""
        size = self._raw.size(digest)
        if size is None:
            row = self.row(digest)
            return row.size if row is not None else self._raw.size(digest)
        return size

    def open(self, digest: Digest) -> Source:
        """The blob's bytes, readable at any offset; those of a packed one are compared with digests of its blocks.

        Raises:
            NotFound: it is not here (code ``blob-missing``).
            StorageError: the place failed.
        """
        try:
            return self.open_raw(digest)
        except NotFound:
            packed = self.open_packed(digest)
            return packed if packed is not None else self.open_raw(digest)

    def open_raw(self, digest: Digest) -> Source:
        """The raw copy's bytes; it goes on with the packed ones when the raw copy goes.

        Raises:
            NotFound: there is none (code ``blob-missing``).
        """
        self._raw.open(digest)
        try:
            return RawSource(self._raw.path(digest), lambda: self.open(digest))
        except FileNotFoundError:
            raise NotFound(f"no such blob: {digest}", code="blob-missing", digest=str(digest)) from None

    def open_packed(self, digest: Digest) -> Source | None:
        """The packed copy's bytes; None when no pack holds it."""
        packed = self._packed(digest)
        return None if packed is None else LastingSource(packed, lambda: self._instead(digest))

    def _instead(self, digest: Digest) -> Source:
        try:
            return self.open_raw(digest)
        except NotFound:
            packed = self._packed(digest)
            if packed is None:
                raise
            return packed

    def _packed(self, digest: Digest) -> reading.PackedSource | None:
        if not self._folder.is_used():
            return None
        parts = self._folder.index.read(lambda index: index.parts(digest))
        if parts is None and self._folder.index.catch_up():
            parts = self._folder.index.read(lambda index: index.parts(digest))
        if parts is None:
            return None
        found = stock.Stockroom(self._folder.index.read, self._folder.open_pack, self._folder.index.refresh)
        found.expect(parts)
        return reading.PackedSource(reading.Decoder(found), parts)

    def local_file(self, digest: Digest) -> Path | None:
        """The file that holds exactly these bytes; None when it is only packed.

        The file may be gone when it is opened: then the blob was packed meanwhile.
        """
        return self._raw.local_file(digest)

    def check(self, digest: Digest, *, progress: Progress = SILENT) -> bool:
        """Whether a blob's bytes still match its digest; reads all of them.

        Raises:
            NotFound: it is not here (code ``blob-missing``).
            StorageError: it cannot be read.
        """
        if self._raw.size(digest) is not None:
            return self._raw.check(digest, progress=progress)
        try:
            return digest_source(self.open(digest), algorithm=digest.algorithm, progress=progress) == digest
        except (StorageError, NotFound):
            raise
        except AssayError:
            return False

    # Listing.

    def inventory(self) -> Iterator[Stored]:
        """Every blob with its size and when it was last added, in no particular order."""
        raw = set[Digest]()
        if self._folder.is_used():
            self._folder.index.catch_up()
        for some in rows.batched(self._raw.inventory(), _PAGE):
            packed = self._among([one.digest for one in some])
            for one in some:
                raw.add(one.digest)
                row = packed.get(one.digest)
                yield one if row is None else replace(one, added=max(one.added, moment(row.added)))
        if self._folder.is_used():  # raw ones come first: what is packed meanwhile is not missed
            for row in self._rows():
                if row.digest not in raw:
                    yield Stored(row.digest, row.size, moment(row.added))

    def _among(self, digests: Sequence[Digest]) -> dict[Digest, BlobRow]:
        return self._folder.index.read(lambda index: index.among(digests)) if self._folder.is_used() else {}

    def packed_of_size(self, size: int) -> Sequence[Digest]:
        """Packed blobs of a size from which on that is looked up."""
        if size < LARGE or not self._folder.is_used():
            return ()
        return self._folder.index.read(lambda index: index.of_size(size))

    # Writing.

    def hold(self) -> AbstractContextManager[None]:
        """Until the end, no sweep deletes what is added or renewed from here on."""
        return self._raw.hold()

    def renew(self, digest: Digest) -> int | None:
        """Count a blob as added now: its length, or None when it is not here.

        Raises:
            StorageError: the store cannot be written.
        """
        size = self._raw.renew(digest)
        return size if size is not None else self.renew_packed(digest)

    def renew_packed(self, digest: Digest) -> int | None:
        """``renew`` of a blob that is packed."""
        if self.row(digest) is None:
            return None
        with self._raw.gate.shared():
            now = time.time_ns()
            size = self._folder.index.write(lambda index: index.renew(digest, now))
            self._raw.own.reach_back_to(now)
        return size

    def add(self, data: bytes) -> Digest:
        """Keep small bytes. What is there already is compared, and stored afresh when it is damaged.

        Raises:
            StorageError: nothing is kept; code ``store-full``, ``store-read-only`` or ``storage``.
        """
        return self._raw.add(data)

    def add_file(self, file: Path, *, move: bool = False, progress: Progress = SILENT) -> tuple[Digest, int]:
        """Keep the bytes of a file; returns digest and size. See ``DirectoryStore.add_file``.

        Raises:
            AssayError: as there.
        """
        return self._raw.add_file(file, move=move, progress=progress)

    def add_files(
        self, files: Sequence[Path], *, link: bool = False, progress: Progress = SILENT
    ) -> list[tuple[Digest, int]]:
        """Keep the bytes of many files, several at a time. See ``DirectoryStore.add_files``.

        Raises:
            AssayError: as there.
        """
        return self._raw.add_files(files, link=link, progress=progress)

    def receive(
        self, digest: Digest, source: Source, *, file: Path | None = None, progress: Progress = SILENT
    ) -> Received:
        """Keep the bytes of *source*: see ``assay.ports.places.Receiver``.

        Raises:
            AssayError: as there.
        """
        return self._raw.receive(digest, source, file=file, progress=progress)

    # Deleting.

    def delete(self, digest: Digest) -> bool:
        """Remove a blob, raw and packed; whether it was here. Its bytes leave packs when these are compacted.

        Raises:
            StorageError: it cannot be removed.
        """
        raw = self._raw.delete(digest)
        return bool(damage.delete_blobs(self._folder, [digest])) or raw

    def set_aside(self, digest: Digest) -> Path | None:
        """Take a damaged blob out of use: a raw copy moves to ``damaged/``, a packed one is struck out of its packs.

        A packed copy that is good stays, and is what readers see from now on.

        Raises:
            StorageError: it cannot be moved.
        """
        place = self._raw.set_aside(digest)
        if self._folder.is_used() and not (place is not None and self._is_good(digest)):
            damage.discard_blob(self._folder, digest)
        return place

    def discard_packed(self, digest: Digest) -> None:
        """Take a damaged blob out of its packs."""
        damage.discard_blob(self._folder, digest)

    @contextmanager
    def sweep(self) -> Iterator[PackedSweep]:
        """Hold off whoever adds or renews blobs.

        Raises:
            StorageError: the store cannot be written.
        """
        with self._raw.sweep() as raw:
            sweep = PackedSweep(raw, self.row, self.is_raw)
            try:
                yield sweep
            finally:
                damage.delete_blobs(self._folder, sweep.deleted)

    def leftovers(self, *, clear: bool = False) -> Sequence[Leftover]:
        """What dead writers left, half-written packs among it."""
        return self._raw.leftovers(clear=clear)

    # Packing.

    def pack(
        self, blobs: Sequence[ToPack], *, effort: Effort = Effort.DEFAULT, progress: Progress = SILENT
    ) -> PackedBlobs:
        """Pack blobs, and remove their raw copies once what was written was read back and compared.

        Raises:
            StorageError: nothing of this call's last pack is kept, raw copies stay.
        """
        self._begin_packing()
        return packer.Packer(self._raw, self._folder).run(blobs, effort=effort, progress=progress)

    def unpack(self, digest: Digest, *, progress: Progress = SILENT) -> bool:
        """Make a raw copy of a packed blob again; False when it is not packed. It stays packed as well.

        Raises:
            IntegrityError: it is damaged; nothing is kept.
            StorageError: it cannot be written.
        """
        source = self.open_packed(digest)
        if source is None:
            return False
        if not self.is_raw(digest):
            self._raw.receive(digest, source, progress=progress)
        return True

    def compact(self, *, least: float = 0.25, progress: Progress = SILENT) -> int:
        """Write packs anew of which at least this share is dead, without it; the bytes that came back.

        Raises:
            StorageError: it cannot be written; the old packs stay.
        """
        if not self._folder.is_used():
            return 0
        return compacting.Compactor(self._folder, self._raw.staging).run(least, progress=progress)

    def _begin_packing(self) -> None:
        if not self._folder.is_used():
            self._before_packing()
            self._folder.make()

    def _landing(self) -> exchange.FolderLanding:
        return exchange.FolderLanding(self._raw, self._folder)
