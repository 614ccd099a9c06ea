"""Taking packs in to a bucket: where they are compared before they are sent, and what keeps sweeps from their blobs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from assay.blobs.bucket.packs import BucketPackFolder
from assay.blobs.bucket.store import BucketStore
from assay.blobs.staging import Staged, Staging
from assay.spec.digest import Digest
from assay.trees import Source, read_into
from assay.trees.window import FileSource


class BucketLanding:
    """Packs are taken in to a bucket: sweeps wait for the turn, and objects beside the blobs say when they came.

    Args:
        raw: the blobs.
        folder: where packs go.
        staging: where they are compared before.
    """

    def __init__(self, raw: BucketStore, folder: BucketPackFolder, staging: Staging) -> None:
        self._raw, self._folder = raw, folder
        self.staging = staging

    @contextmanager
    def appearing(self, blobs: Sequence[Digest]) -> Iterator[int]:
        """Nobody sweeps meanwhile; what appears counts as added when the server says."""
        with self._folder.turn():
            yield 0
            for digest in blobs:
                self._raw.renew(digest)

    def opened(self, staged: Staged) -> Source:
        """Not a file, as far as anybody can tell: its bases lie in the bucket."""
        return _Plain(FileSource(staged.path))

    def show(self, staged: Staged, name: str) -> None:
        """Send it."""
        self._folder.land(staged.path, name)


class _Plain:
    """A source that shows nothing but that it is one."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.size, self.read = source.size, source.read

    def read_into(self, offset: int, into: memoryview) -> int:
        """Fill *into* from the bytes at *offset*; how many were written."""
        return read_into(self._source, offset, into)
