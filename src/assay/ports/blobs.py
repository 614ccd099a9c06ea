"""The ports of blob stores: immutable bytes known by digest.

The contract suite ``assay.testing.blobs`` runs over every implementation. Stores trust the digests they are given; the
functions that bring bytes in (``assay.service.publish``, ``assay.service.transfer``) compute and compare them, once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from assay.ports.progress import SILENT, Progress
from assay.spec.digest import Digest
from assay.trees import Source


class BlobReader(Protocol):
    """Reading."""

    def size(self, digest: Digest) -> int | None:
        """Length of a blob in bytes, or None when it is not here."""
        ...

    def open(self, digest: Digest) -> Source:
        """The blob's bytes, readable at any offset.

        Bytes are given as they lie: they are not compared with the digest (``assay verify`` does that).

        Raises:
            NotFound: it is not here (code ``blob-missing``).
        """
        ...

    def local_file(self, digest: Digest) -> Path | None:
        """The file that holds exactly these bytes, for mapping and linking; None when there is no such file.

        The caller must not write to it.
        """
        ...


class BlobWriter(Protocol):
    """Writing: atomic (readers see nothing or everything), durable on return, idempotent."""

    def add(self, data: bytes) -> Digest:
        """Keep small bytes (manifests, statements).

        Raises:
            StorageError: nothing is kept; code ``store-full``, ``store-read-only`` or ``storage``.
        """
        ...

    def add_file(self, file: Path, *, move: bool = False, progress: Progress = SILENT) -> tuple[Digest, int]:
        """Keep the bytes of a file; returns digest and size.

        The file is cloned where the file system can, else copied, and hashed once, over the bytes that were stored.
        With *move* the store takes the file over by link where it can, and removes the original once it is durable.
        *progress* only hears ``advance``.

        Raises:
            Conflict: the file changed while it was read (code ``source-changed``); nothing is kept.
            NotFound: the file is not there.
            StorageError: nothing is kept.
        """
        ...

    def add_files(
        self, files: Sequence[Path], *, link: bool = False, progress: Progress = SILENT
    ) -> list[tuple[Digest, int]]:
        """Keep the bytes of many files, several at a time; digests and sizes in the order of *files*.

        With *link* the store takes files over by hard link where it can. The originals stay, so that nothing is lost
        until the caller has named what was stored: it then removes them, and must not write to them meanwhile.

        Raises:
            As ``add_file``, for the first file that fails; the blobs that were complete by then stay, unnamed.
        """
        ...


class BlobLister(Protocol):
    """Listing."""

    def digests(self) -> Iterator[Digest]:
        """Every blob, in no particular order."""
        ...


class BlobDeleter(Protocol):
    """Deleting."""

    def delete(self, digest: Digest) -> bool:
        """Remove a blob; whether it was here."""
        ...

    def set_aside(self, digest: Digest) -> Path | None:
        """Take a damaged blob out of use without destroying it, so that adding the same content again repairs it.

        Returns where it lies now; None when it was not here, or when there is nowhere to keep it (it is deleted then).
        """
        ...


class BlobStore(BlobReader, BlobWriter, BlobLister, BlobDeleter, Protocol):
    """The sum of the four, for places that offer all."""
