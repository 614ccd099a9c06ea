"""The ports of places that are not a registry of ours: somebody's tagged manifests, and the blobs they are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from assay.ports.blobs import BlobReader, BlobWriter
from assay.ports.progress import SILENT, Progress
from assay.spec.descriptor import Descriptor
from assay.spec.digest import Digest
from assay.spec.manifest import Manifest
from assay.trees import Source


@dataclass(frozen=True, slots=True)
class Received:
    """A blob that has arrived.

    Args:
        size: bytes of it.
        resumed: how many of those an earlier, interrupted transfer had brought.
        plain: whether it took plain requests, because ranges of the source, or large pieces, failed.
        shared: whether the place had it elsewhere and took it from there, without a byte being sent.
    """

    size: int
    resumed: int = 0
    plain: bool = False
    shared: bool = False


@runtime_checkable
class Receiver(Protocol):
    """A place that takes in a blob of known digest, compares it on the way, and may go on where it was interrupted."""

    def receive(
        self, digest: Digest, source: Source, *, file: Path | None = None, progress: Progress = SILENT
    ) -> Received:
        """Keep the bytes of *source*, durably; nothing is visible before all of them matched.

        Args:
            digest: what they must give.
            source: where they lie.
            file: the local file that holds them, if there is one: it may be cloned.
            progress: hears of every byte once.

        Raises:
            IntegrityError: the bytes do not match the digest; nothing is kept.
            StorageError: source or target failed for good; what came so far is kept for the next time where it can be.
        """
        ...


class PlaceBlobs(BlobReader, BlobWriter, Protocol):
    """Blobs of a place: read and written. What nothing needs any more is for its owner to remove."""


class TagIndex(Protocol):
    """Tagged manifests, and manifests about them (an OCI image layout's ``index.json``, an OCI repository)."""

    @property
    def place(self) -> str:
        """Where it is, as a person would type it."""
        ...

    def tags(self) -> Mapping[str, Descriptor]:
        """Every tag and what it points at.

        Raises:
            NotFound: there is nothing at this place.
            BadFormat: what is there is not such an index.
        """
        ...

    def read(self, descriptor: Descriptor) -> Manifest:
        """A manifest, compared with its digest.

        Raises:
            NotFound: it is not here (code ``blob-missing``).
            IntegrityError: its bytes do not match.
        """
        ...

    def referrers(self, subject: Digest) -> Sequence[Descriptor]:
        """Manifests whose subject is *subject*, in index order."""
        ...

    def put(self, manifest: Manifest, *, tag: str | None = None) -> None:
        """Keep a manifest and list it, atomically; a tag moves to it from wherever it was.

        Listing it again changes nothing. What it names must be here already.

        Raises:
            StorageError: nothing is changed.
        """
        ...
