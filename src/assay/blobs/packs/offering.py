"""What every store over packs offers in the same way, wherever they lie: looking up, listing, checking."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING

from assay.blobs.packs.folder import PackFolder
from assay.errors import AssayError, StorageError
from assay.later import later
from assay.ports.blobs import BlobReader, Stored
from assay.ports.packs import PackFault, PackUse
from assay.ports.progress import SILENT, Progress
from assay.spec.digest import Digest
from assay.streams.copying import digest_source
from assay.trees import Source

if TYPE_CHECKING:
    from assay.blobs.packs import checking, compacting
    from assay.blobs.packs.lookups import BlobRow
else:
    checking = later("assay.blobs.packs.checking")
    compacting = later("assay.blobs.packs.compacting")


class OverPacks(ABC):
    """The part of a store that only its packs and their index decide."""

    _folder: PackFolder
    _raw: BlobReader

    @abstractmethod
    def inventory(self) -> Iterator[Stored]:
        """Every blob with its size and when it was last added, in no particular order."""

    @abstractmethod
    def open_packed(self, digest: Digest) -> Source | None:
        """The packed copy's bytes; None when no pack holds it."""

    def digests(self) -> Iterator[Digest]:
        """Every blob, in no particular order."""
        return (stored.digest for stored in self.inventory())

    def is_packed(self, digest: Digest) -> bool:
        """Whether a blob lies in a pack."""
        return self.row(digest) is not None

    def is_raw(self, digest: Digest) -> bool:
        """Whether a blob lies here as it is; it may be packed as well."""
        return self._raw.size(digest) is not None

    def row(self, digest: Digest) -> BlobRow | None:
        """What the index says of a packed blob; None when no pack holds it."""
        if not self._folder.is_used():
            return None
        found = self._known(digest)
        if found is None and self._folder.index.catch_up():
            found = self._known(digest)
        return found

    def pack_use(self) -> PackUse:
        """What packs cost."""
        if not self._folder.is_used():
            return PackUse(0, 0, 0, 0, 0)
        self._folder.index.refresh()
        packs = self._folder.index.read(lambda index: index.packs())
        blobs, raw = self._folder.index.read(lambda index: index.totals())
        dead = sum(self._folder.index.read(compacting.dead_bytes).values())
        return PackUse(len(packs), blobs, raw, sum(pack.size for pack in packs.values()), dead)

    def check_packs(self, *, progress: Progress = SILENT) -> Iterator[PackFault]:
        """Compare every stored byte of every pack with its checksums, without decoding; what is wrong."""
        if self._folder.is_used():
            self._folder.index.refresh()
            yield from checking.check_packs(self._folder, progress=progress)

    def reindex_packs(self) -> int:
        """Make the index of the packs again from the packs themselves; how many there are."""
        if not self._folder.is_used():
            return 0
        self._folder.index.rebuild()
        return len(self._folder.index.read(lambda index: index.packs()))

    def _known(self, digest: Digest) -> BlobRow | None:
        return self._folder.index.read(lambda index: index.blob(digest))

    def _rows(self) -> Iterator[BlobRow]:
        rows, after = self._page(None)
        while after is not None:
            yield from rows
            rows, after = self._page(after)

    def _page(self, after: int | None) -> tuple[list[BlobRow], int | None]:
        return self._folder.index.read(lambda index: index.page(after))

    def _is_good(self, digest: Digest) -> bool:
        """Whether the packed copy is there and has the blob's bytes."""
        packed = self.open_packed(digest)
        try:
            return packed is not None and digest_source(packed, algorithm=digest.algorithm) == digest
        except StorageError:
            raise  # it may be good: nothing of it is struck out
        except AssayError:
            return False
