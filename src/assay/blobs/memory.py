"""The simplest correct blob store: a dictionary. For tests, examples and throw-away registries."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import RLock

from assay.blobs.sources import Stamp, open_source
from assay.errors import NotFound
from assay.ports.blobs import Leftover, Stored
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
        self._added: dict[Digest, datetime] = {}
        self._holds: list[datetime] = []
        self._lock = RLock()

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
        with self._lock:
            self._blobs[digest] = bytes(data)
            self._added[digest] = datetime.now(UTC)
        return digest

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Until the end, no sweep deletes what is added or renewed from here on."""
        with self._lock:
            self._holds.append(began := datetime.now(UTC))
        try:
            yield
        finally:
            with self._lock:
                self._holds.remove(began)

    def renew(self, digest: Digest) -> int | None:
        """Count a blob as added now: its length, or None when it is not here."""
        with self._lock:
            if digest in self._blobs:
                self._added[digest] = datetime.now(UTC)
            return self.size(digest)

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

    def inventory(self) -> Iterator[Stored]:
        """Every blob with its size and when it was last added."""
        with self._lock:
            found = [Stored(digest, len(data), self._added[digest]) for digest, data in self._blobs.items()]
        return iter(found)

    @contextmanager
    def sweep(self) -> Iterator[MemorySweep]:
        """Hold off every other thread."""
        with self._lock:
            yield MemorySweep(self, self._added, min(self._holds, default=None))

    def leftovers(self, *, clear: bool = False) -> Sequence[Leftover]:  # noqa: ARG002 - nothing is ever half-written
        """None: what a thread was writing went with it."""
        return []

    def delete(self, digest: Digest) -> bool:
        """Remove a blob; whether it was here."""
        return self._blobs.pop(digest, None) is not None

    def set_aside(self, digest: Digest) -> Path | None:
        """Delete a damaged blob: there is nowhere to keep it."""
        self.delete(digest)
        return None


class MemorySweep:
    """The right to delete, over a dictionary.

    Args:
        store: the store.
        added: when each blob was last added.
        since: when the oldest hold began.
    """

    def __init__(self, store: MemoryStore, added: dict[Digest, datetime], since: datetime | None) -> None:
        self._store = store
        self._added = added
        self._since = since

    def idle(self, digest: Digest, before: datetime | None = None) -> bool:
        """Whether a blob is here that nobody under way has added."""
        if self._store.size(digest) is None:
            return False
        added = self._added[digest]
        return (self._since is None or added < self._since) and (before is None or added < before)

    def delete(self, digest: Digest) -> int:
        """Remove a blob; its bytes, or 0 when it was not here."""
        size = self._store.size(digest)
        self._store.delete(digest)
        return size or 0
