"""Blobs of a bucket, raw and packed under one roof. Readers never know which."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from assay.blobs.bucket.landing import BucketLanding
from assay.blobs.bucket.packs import BucketPacker, BucketPackFolder
from assay.blobs.bucket.store import BucketStore, BucketSweep
from assay.blobs.far import mark_of
from assay.blobs.packs.compacting import Compactor
from assay.blobs.packs.damage import delete_blobs, discard_blob
from assay.blobs.packs.exchanging import Exchanging
from assay.blobs.packs.offering import OverPacks
from assay.blobs.packs.stock import Stockroom
from assay.blobs.staging import Staging
from assay.blobs.sweeping import moment
from assay.errors import IntegrityError, NotFound, StorageError
from assay.packing.reading import Decoder, PackedSource
from assay.ports.blobs import Leftover, Stored
from assay.ports.packs import Effort, PackedBlobs, ToPack
from assay.ports.progress import SILENT, Progress
from assay.spec.digest import Digest
from assay.streams.bringing import bring
from assay.trees import Source, read_into

_WENT = {"segment-missing", "pack-missing", "object-missing", "blob-missing"}
"""Codes of what is elsewhere after others changed packs."""
_TRIES = 5
"""Changes by others that one read survives."""

_T = TypeVar("_T")


class PackedBucket(OverPacks, Exchanging):
    """Blobs as objects and in packs below a prefix.

    Args:
        raw: the blobs as objects.
        state: the local folder of this bucket: for the index, and for packs under way.
        permit: raises when this process may not write.
    """

    _raw: BucketStore
    _folder: BucketPackFolder

    def __init__(self, raw: BucketStore, state: Path, permit: Callable[[], None] = lambda: None) -> None:
        self._raw, self._permit = raw, permit
        self._staging = Staging(state / "staging")
        self._folder = BucketPackFolder(raw.objects, state, self._staging, raw.pool)
        raw.elsewhere = self._packed_size

    def size(self, digest: Digest) -> int | None:
        """Length of a blob in bytes, or None when it is not here."""
        size = self._raw.size(digest)
        if size is not None:
            return size
        row = self.row(digest)
        if row is None and self._folder.look():
            row = self._known(digest)
        return None if row is None else row.size

    def open(self, digest: Digest) -> Source:
        """The blob's bytes, readable at any offset; those of a packed one are compared with digests of its blocks.

        Raises:
            NotFound: it is not here (code ``blob-missing``).
        """
        return _Lasting(lambda: self._open(digest), self._folder.look)

    def local_file(self, digest: Digest) -> Path | None:  # noqa: ARG002 - nothing lies in a file here
        """None: nothing lies in a file."""
        return None

    def inventory(self) -> Iterator[Stored]:
        """Every blob with its size and when it was last added."""
        raw = set()
        for stored in self._raw.inventory():
            raw.add(stored.digest)
            yield stored
        if not self._folder.look():  # raw ones came first: what was packed meanwhile is not missed
            return
        touched = dict(self._raw.all_touched())
        for row in self._rows():
            if row.digest not in raw:
                added = moment(row.added)
                yield Stored(row.digest, row.size, max(added, touched.get(row.digest, added)))

    def hold(self) -> AbstractContextManager[None]:
        """Until the end, no sweep deletes what is added or renewed from here on."""
        return self._raw.hold()

    def renew(self, digest: Digest) -> int | None:
        """Count a blob as added now: its length, or None when it is not here."""
        size = self._raw.renew(digest)
        if size is None and self._folder.look() and self._known(digest) is not None:
            return self._raw.renew(digest)
        return size

    def add(self, data: bytes) -> Digest:
        """Keep small bytes."""
        return self._raw.add(data)

    def add_file(self, file: Path, *, move: bool = False, progress: Progress = SILENT) -> tuple[Digest, int]:
        """Keep the bytes of a file; returns digest and size."""
        return self._raw.add_file(file, move=move, progress=progress)

    def add_files(
        self, files: Sequence[Path], *, link: bool = False, progress: Progress = SILENT
    ) -> list[tuple[Digest, int]]:
        """Keep the bytes of many files; digests and sizes in the order of *files*."""
        return self._raw.add_files(files, link=link, progress=progress)

    def delete(self, digest: Digest) -> bool:
        """Remove a blob, raw and packed; whether it was here."""
        raw = self._raw.delete(digest)  # at once: who packs it now finds it gone
        self._folder.look()
        return bool(delete_blobs(self._folder, [digest])) or raw

    def set_aside(self, digest: Digest) -> Path | None:
        """Take a damaged blob out of use; a packed copy that is good stays."""
        was_raw = self.is_raw(digest)
        self._raw.set_aside(digest)
        self._folder.look()
        if self._folder.is_used() and not (was_raw and self._is_good(digest)):
            discard_blob(self._folder, digest)
        return None

    @contextmanager
    def sweep(self) -> Iterator[PackedBucketSweep]:
        """Hold off whoever adds or renews blobs: here all, elsewhere those who hold (``guarding``)."""
        self._permit()
        with self._folder.turn(), self._raw.sweep() as raw:
            sweep = PackedBucketSweep(self, self._raw, raw)
            try:
                yield sweep
            finally:
                # Somebody elsewhere may rely since on what was given free; what is raw went at once.
                gone = [digest for digest, seen in sweep.deleted.items() if self._raw.touched(digest) == seen]
                with self._folder.only_while(raw.check):
                    for digest in delete_blobs(self._folder, gone):
                        raw.forget_touched(digest)

    def leftovers(self, *, clear: bool = False) -> Sequence[Leftover]:
        """What dead writers left."""
        return self._raw.leftovers(clear=clear)

    def pack(
        self, blobs: Sequence[ToPack], *, effort: Effort = Effort.DEFAULT, progress: Progress = SILENT
    ) -> PackedBlobs:
        """Pack blobs, and remove their raw copies once what was sent was read back and compared.

        Raises:
            StorageError: nothing of this call's last pack is kept, raw copies stay.
        """
        self._begin_packing()
        return BucketPacker(self._raw, self._folder, self._staging).run(blobs, effort=effort, progress=progress)

    def unpack(self, digest: Digest, *, progress: Progress = SILENT) -> bool:
        """Make a raw copy of a packed blob again; False when it is not packed. It stays packed as well.

        Raises:
            IntegrityError: it is damaged; nothing is kept.
            StorageError: it cannot be written.
        """
        self._permit()
        source = self.open_packed(digest)
        if source is None:
            return False
        if not self.is_raw(digest):
            try:
                with self._staging.new(mode=0o600) as staged:
                    if bring(source, staged.descriptor, progress=progress).digest != digest:
                        raise IntegrityError(f"packed blob {digest.short} does not match its digest")
                    self._raw.put_raw(staged.path, digest)
            except OSError as error:
                raise StorageError.of(error, f"cannot unpack blob {digest.short}") from error
        return True

    def compact(self, *, least: float = 0.25, progress: Progress = SILENT) -> int:
        """Write packs anew of which at least this share is dead, without it; the bytes that came back."""
        self._permit()
        if not self._folder.is_used():
            return 0
        return Compactor(self._folder, self._staging).run(least, progress=progress)

    def _begin_packing(self) -> None:
        self._permit()
        self._folder.make()

    def _landing(self) -> BucketLanding:
        return BucketLanding(self._raw, self._folder, self._staging)

    def _packed_size(self, digest: Digest) -> int | None:
        """Length of a packed blob, as the packs are now: somebody will rely on it."""
        if self.row(digest) is None:
            return None
        self._folder.index.refresh()
        row = self.row(digest)
        return None if row is None else row.size

    def _open(self, digest: Digest) -> Source:
        try:
            return self._raw.open(digest)
        except NotFound:
            packed = self.open_packed(digest)
            return self._raw.open(digest) if packed is None else packed

    def open_packed(self, digest: Digest) -> Source | None:
        """The packed copy's bytes; None when no pack holds it."""
        parts = self._parts(digest) if self._folder.is_used() else None
        if parts is None and self._folder.look():
            parts = self._parts(digest)
        if parts is None:
            return None
        index = self._folder.index
        return PackedSource(Decoder(Stockroom(index.read, self._folder.open_pack, index.refresh)), parts)

    def _parts(self, digest: Digest) -> Sequence[tuple[bytes, int]] | None:
        return self._folder.index.read(lambda index: index.parts(digest))


class PackedBucketSweep:
    """The right to delete, over objects and packs. What is deleted leaves packs when the sweep ends.

    Args:
        store: the store.
        blobs: its raw blobs.
        raw: the sweep of those.
    """

    def __init__(self, store: PackedBucket, blobs: BucketStore, raw: BucketSweep) -> None:
        self._store, self._blobs, self._raw = store, blobs, raw
        self.deleted: dict[Digest, datetime | None] = {}

    def idle(self, digest: Digest, before: datetime | None = None) -> bool:
        """Whether a blob is here that nobody under way has added."""
        if digest in self.deleted:
            return False
        row = self._store.row(digest)
        if row is None or self._store.is_raw(digest):
            return self._raw.idle(digest, before)
        added = moment(row.added)
        return self._raw.is_older(max(added, self._blobs.touched(digest) or added), before)

    def delete(self, digest: Digest) -> int:
        """Remove a blob; its bytes, or 0 when it was not here."""
        if digest in self.deleted:
            return 0
        row = self._store.row(digest)
        size = self._raw.delete(digest)
        self.deleted[digest] = self._blobs.touched(digest)
        return size if row is None else row.size


class _Lasting:
    """A source that is opened again when what it reads from went: a blob was packed, a pack was compacted."""

    def __init__(self, opening: Callable[[], Source], look: Callable[[], object]) -> None:
        self._opening, self._look = opening, look
        self._source = opening()

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self._source.size

    @property
    def mark(self) -> str:
        """See ``mark_of``."""
        return mark_of(self._source)

    def read(self, offset: int, length: int) -> bytes:
        """The bytes in [offset, offset + length), cut off at the end."""
        return self._lastingly(lambda source: source.read(offset, length))

    def read_into(self, offset: int, into: memoryview) -> int:
        """Fill *into* from the bytes at *offset*; how many were written."""
        return self._lastingly(lambda source: read_into(source, offset, into))

    def _lastingly(self, do: Callable[[Source], _T]) -> _T:
        source, tries = self._source, 0
        while True:
            try:
                return do(source)
            except (NotFound, IntegrityError) as error:
                tries += 1
                if tries > (_TRIES if error.code in _WENT else 1):
                    raise
                self._look()
                self._source = source = self._opening()
