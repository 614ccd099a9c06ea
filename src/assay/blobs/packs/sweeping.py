"""Deleting garbage that lies raw, packed, or both."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from assay.blobs.sweeping import DirectorySweep, moment
from assay.spec.digest import Digest

if TYPE_CHECKING:
    from assay.blobs.packs.lookups import BlobRow


class PackedSweep:
    """The right to delete, over files and packs. What is deleted leaves packs when the sweep ends.

    Args:
        raw: the sweep of the raw blobs.
        row: what the index says of a packed blob.
        is_raw: whether a blob has a raw copy.
    """

    def __init__(
        self, raw: DirectorySweep, row: Callable[[Digest], BlobRow | None], is_raw: Callable[[Digest], bool]
    ) -> None:
        self._raw, self._row, self._is_raw = raw, row, is_raw
        self.deleted: dict[Digest, None] = {}

    def idle(self, digest: Digest, before: datetime | None = None) -> bool:
        """Whether a blob is here that nobody under way has added."""
        if digest in self.deleted:
            return False
        row = self._row(digest)
        if row is None:
            return self._raw.idle(digest, before)
        if self._is_raw(digest) and not self._raw.idle(digest, before):
            return False
        since = self._raw.since
        return (since is None or row.added < since) and (before is None or moment(row.added) < before)

    def delete(self, digest: Digest) -> int:
        """Remove a blob; its bytes, or 0 when it was not here."""
        if digest in self.deleted:
            return 0
        row = self._row(digest)
        size = self._raw.delete(digest)
        self.deleted[digest] = None
        return size if row is None else row.size
