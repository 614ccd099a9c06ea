"""The ports of blob stores: immutable bytes known by digest.

The contract suite ``assay.testing.blobs`` runs over every implementation. Stores trust the digests they are given; the
functions that bring bytes in (``assay.service.publish``, ``assay.service.transfer``) compute and compare them, once.

A blob is stored before anything names it, so a store cannot tell garbage from a push under way by looking at names. It
keeps two things that tell: when each blob was last added, also when it was there already, and which writers hold the
store open (``BlobWriter.hold``). Garbage is deleted in a ``BlobCleaner.sweep`` only, which is alone with both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol, runtime_checkable

from assay.ports.progress import SILENT, Progress
from assay.spec.digest import Digest
from assay.trees import Source


@dataclass(frozen=True, slots=True)
class Stored:
    """A blob as it lies in a store.

    Args:
        digest: which.
        size: bytes.
        added: when it was last added, or renewed, UTC.
    """

    digest: Digest
    size: int
    added: datetime


@dataclass(frozen=True, slots=True)
class Leftover:
    """Bytes that a writer which died left half-written.

    Args:
        name: what to call it: a path within the store.
        size: bytes.
        since: when it was last written, UTC.
    """

    name: str
    size: int
    since: datetime


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


@runtime_checkable
class BlobFetcher(Protocol):
    """What a store offers whose blobs lie far away: bringing one here, for whoever needs a file."""

    def fetch_file(self, digest: Digest, *, progress: Progress = SILENT) -> Path:
        """The file that holds exactly these bytes, brought here when it is not; the caller must not write to it.

        Raises:
            NotFound: the store does not have it (code ``blob-missing``).
            IntegrityError: what came does not match the digest.
            StorageError: it could not be brought.
        """
        ...


class BlobWriter(Protocol):
    """Writing: atomic (readers see nothing or everything), durable on return, idempotent.

    Adding what is here already counts as adding it now.
    """

    def hold(self) -> AbstractContextManager[object]:
        """Until the end, no sweep deletes what is added or renewed from here on, however old it grows.

        Whoever adds several blobs before a catalog names them holds the store meanwhile. A hold ends with its process.

        Raises:
            StorageError: the store cannot be written.
        """
        ...

    def renew(self, digest: Digest) -> int | None:
        """Count a blob as added now, without its bytes: its length, or None when it is not here.

        Raises:
            StorageError: the store cannot be written.
        """
        ...

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


class Sweep(Protocol):
    """The right to delete garbage: while it lasts, nobody adds or renews a blob."""

    def idle(self, digest: Digest, before: datetime | None = None) -> bool:
        """Whether a blob is here that nobody under way has added.

        Args:
            digest: which.
            before: it must also have been added before this time; None: whatever its age.
        """
        ...

    def delete(self, digest: Digest) -> int:
        """Remove a blob; its bytes, or 0 when it was not here.

        Raises:
            StorageError: it cannot be removed.
        """
        ...


class BlobCleaner(Protocol):
    """Cleaning up."""

    def inventory(self) -> Iterator[Stored]:
        """Every blob with its size and when it was last added, in no particular order."""
        ...

    def sweep(self) -> AbstractContextManager[Sweep]:
        """Hold off whoever adds or renews blobs, for as short a time as can be.

        What was done under a hold is named by the time the sweep begins, or the hold is seen by it: so a catalog read
        within the sweep knows of every blob that ``Sweep.idle`` gives free.

        Raises:
            StorageError: the store cannot be written.
        """
        ...

    def leftovers(self, *, clear: bool = False) -> Sequence[Leftover]:
        """What dead writers left; with *clear* it is removed. What a living one writes is not among it."""
        ...


class BlobStore(BlobReader, BlobWriter, BlobLister, BlobDeleter, BlobCleaner, Protocol):
    """The sum of the five, for places that offer all."""
