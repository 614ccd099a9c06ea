"""The port of stores that can keep blobs packed: small, and still readable at any offset.

Packed or not, a blob is read, listed, renewed and deleted through ``BlobStore``; who only reads never knows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

from assay.ports.progress import SILENT, Progress
from assay.spec.digest import Digest


class Effort(StrEnum):
    """How hard to try."""

    DEFAULT = "default"
    SMALLEST = "smallest"
    """Differences are ordered by their base first: a few per cent smaller, ten times slower to write."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A tensor's bytes in a blob.

    Args:
        offset: first byte.
        length: bytes.
        name: of the tensor.
        dtype: of its elements (``assay.spec.tensor``).
    """

    offset: int
    length: int
    name: str
    dtype: str


@dataclass(frozen=True, slots=True)
class ToPack:
    """A blob that is to be packed.

    Args:
        digest: which.
        tensors: where tensors lie in it.
        near: blobs whose tensors are likely bases, likeliest first: of the declared base, of the version before.
    """

    digest: Digest
    tensors: Sequence[Stretch] = ()
    near: Sequence[Digest] = ()


@dataclass(frozen=True, slots=True)
class PackedBlobs:
    """The outcome of packing.

    Args:
        packed: blobs that are packed now and have no raw copy any more.
        spared: blobs whose raw copy stays, because somebody added or renewed it meanwhile.
        damaged: blobs that did not match their digest: they are not packed.
        raw: bytes of what was packed.
        stored: bytes that were written for it.
        same: bytes of segments that were there already.
        differing: bytes of segments that are stored as differences.
    """

    packed: tuple[Digest, ...]
    spared: tuple[Digest, ...]
    damaged: tuple[Digest, ...]
    raw: int
    stored: int
    same: int
    differing: int


@dataclass(frozen=True, slots=True)
class PackUse:
    """What packs cost.

    Args:
        packs: how many files.
        blobs: how many blobs they hold.
        raw: bytes of those blobs.
        stored: bytes of the files.
        dead: bytes of the files that no blob needs.
    """

    packs: int
    blobs: int
    raw: int
    stored: int
    dead: int


@dataclass(frozen=True, slots=True)
class PackFault:
    """What is wrong with a pack.

    Args:
        pack: its name.
        what: in words.
        blobs: blobs that cannot be read because of it.
    """

    pack: str
    what: str
    blobs: tuple[Digest, ...]


@runtime_checkable
class Packing(Protocol):
    """Packing and what belongs to it; a ``BlobStore`` that offers it is asked with ``isinstance``."""

    def is_packed(self, digest: Digest) -> bool:
        """Whether a blob lies in a pack."""
        ...

    def is_raw(self, digest: Digest) -> bool:
        """Whether a blob lies here as it is; it may be packed as well."""
        ...

    def pack(
        self, blobs: Sequence[ToPack], *, effort: Effort = Effort.DEFAULT, progress: Progress = SILENT
    ) -> PackedBlobs:
        """Pack blobs, and remove their raw copies once what was written was read back and compared.

        May be killed at any point: each blob is readable, from one place or the other. What is packed already only
        loses its raw copy.

        Args:
            blobs: which; those that are not here are left out.
            effort: how hard to try.
            progress: hears of raw bytes done.

        Raises:
            StorageError: nothing of this call's last pack is kept, raw copies stay.
        """
        ...

    def unpack(self, digest: Digest, *, progress: Progress = SILENT) -> bool:
        """Make a raw copy of a packed blob again; False when it is not packed. It stays packed as well.

        Raises:
            IntegrityError: it is damaged; nothing is kept.
            StorageError: it cannot be written.
        """
        ...

    def pack_use(self) -> PackUse:
        """What packs cost."""
        ...

    def compact(self, *, least: float = 0.25, progress: Progress = SILENT) -> int:
        """Write packs anew of which at least this share is dead, without it; the bytes that came back.

        A segment that only serves as a base goes, too: what was stored as the difference to it is stored otherwise.

        Raises:
            StorageError: it cannot be written; the old packs stay.
        """
        ...

    def check_packs(self, *, progress: Progress = SILENT) -> Iterator[PackFault]:
        """Compare every stored byte of every pack with its checksums, without decoding; what is wrong."""
        ...

    def reindex_packs(self) -> int:
        """Make the index of the packs again from the packs themselves; how many there are."""
        ...
