"""The simplest correct blob store: a dictionary. For tests, examples and throw-away registries."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from assay.blobs.sources import Stamp, open_source
from assay.errors import NotFound
from assay.ports.progress import SILENT, Progress
from assay.spec.digest import Digest
from assay.trees import Source
from assay.trees.window import MemorySource


class MemoryStore:
    """Blobs in memory; durable for as long as the object lives.

    >>> store = MemoryStore()
    >>> store.open(store.add(b"weights")).read(0, 3)
    b'wei'
    """

    def __init__(self) -> None:
        self._blobs: dict[Digest, bytes] = {}

    def size(self, digest: Digest) -> int | None:
        """Length of a blob in bytes, or None when it is not here."""
        data = self._blobs.get(digest)
        return None if data is None else len(data)

    def open(self, digest: Digest) -> Source:
        """The blob's bytes.

        Raises:
            NotFound: it is not here (code ``blob-missing``).
        """
        data = self._blobs.get(digest)
        if data is None:
            raise NotFound(f"no such blob: {digest}", code="blob-missing", digest=str(digest))
        return MemorySource(data)

    def local_file(self, digest: Digest) -> Path | None:  # noqa: ARG002 - no blob lies in a file here
        """None: nothing lies in a file."""
        return None

    def add(self, data: bytes) -> Digest:
        """Keep bytes."""
        digest = Digest.of(data)
        self._blobs[digest] = bytes(data)
        return digest

    def add_file(self, file: Path, *, move: bool = False, progress: Progress = SILENT) -> tuple[Digest, int]:
        """Keep the bytes of a file; with *move* the file is removed.

        Raises:
            Conflict: the file changed while it was read (code ``source-changed``); nothing is kept.
            NotFound: the file is not there.
        """
        with open_source(file) as descriptor:
            before = Stamp.of(descriptor)
            with os.fdopen(os.dup(descriptor), "rb") as handle:
                data = handle.read()
            before.check_unchanged(descriptor, file)
        digest = self.add(data)
        progress.advance(len(data))
        if move:
            file.unlink()
        return digest, len(data)

    def add_files(
        self,
        files: Sequence[Path],
        *,
        link: bool = False,  # noqa: ARG002 - memory holds bytes, it takes nothing over
        progress: Progress = SILENT,
    ) -> list[tuple[Digest, int]]:
        """Keep the bytes of many files.

        Raises:
            As ``add_file``.
        """
        return [self.add_file(file, progress=progress) for file in files]

    def digests(self) -> Iterator[Digest]:
        """Every blob."""
        return iter(tuple(self._blobs))

    def delete(self, digest: Digest) -> bool:
        """Remove a blob; whether it was here."""
        return self._blobs.pop(digest, None) is not None

    def set_aside(self, digest: Digest) -> Path | None:
        """Delete a damaged blob: there is nowhere to keep it."""
        self.delete(digest)
        return None
