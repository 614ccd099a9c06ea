"""Adding bytes that are packed already: compared, and not stored a second time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from assay.blobs.packs.sources import DescriptorSource, begins_alike, same_bytes
from assay.errors import AssayError, StorageError
from assay.ports.progress import Progress
from assay.spec.digest import Digest
from assay.trees import Source

LARGE = 8 << 20
"""Bytes from which on packed blobs are also found by their size."""


class PackedSide(Protocol):
    """What a store knows of its packed blobs."""

    def packed_of_size(self, size: int) -> Sequence[Digest]:
        """Large packed blobs of a size."""
        ...

    def is_raw(self, digest: Digest) -> bool:
        """Whether a blob has a raw copy."""
        ...

    def open_packed(self, digest: Digest) -> Source | None:
        """The packed copy's bytes."""
        ...

    def renew_packed(self, digest: Digest) -> int | None:
        """A packed blob counts as added now; its size, or None when it is not there."""
        ...

    def discard_packed(self, digest: Digest) -> None:
        """Take a damaged blob out of its packs."""
        ...


class PackedElsewhere:
    """Packed blobs, for those who add the same bytes (``assay.blobs.directory.Elsewhere``)."""

    def __init__(self, store: PackedSide) -> None:
        self._store = store

    def match(self, source: int, size: int, *, progress: Progress) -> Digest | None:
        """The blob that is only packed and has exactly the bytes of *source*."""
        for digest in self._store.packed_of_size(size):
            packed = None if self._store.is_raw(digest) else self._store.open_packed(digest)
            given = DescriptorSource(source, size)
            if packed is not None and self._looks_alike(packed, given) and self.keeps(digest, given):
                progress.advance(size)
                return digest
        return None

    def _looks_alike(self, packed: Source, given: Source) -> bool:
        try:
            return begins_alike(packed, given)
        except AssayError:
            return True  # a damaged one is found when all of it is compared

    def keeps(self, digest: Digest, data: Source) -> bool:
        """Whether a blob is packed with exactly these bytes; a damaged one is taken out of its packs."""
        packed = self._store.open_packed(digest)
        if packed is None:
            return False
        try:
            if same_bytes(packed, data):
                return self._store.renew_packed(digest) is not None
        except StorageError:
            return False  # cannot be read now: a raw copy is kept
        except AssayError:
            pass
        self._store.discard_packed(digest)
        return False
