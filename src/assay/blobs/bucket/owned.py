"""A bucket's blobs for a process that may write only as long as it is the bucket's writer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from assay.blobs.bucket.objects import BucketObjects
from assay.blobs.bucket.store import BucketStore, BucketSweep
from assay.spec.digest import Digest


class OwnedStore(BucketStore):
    """Asks before it begins: who may not name anything here is told before bytes are sent, and deletes nothing.

    Args:
        objects: the bucket.
        permit: raises when this process may not write.
    """

    def __init__(self, objects: BucketObjects, permit: Callable[[], None]) -> None:
        super().__init__(objects)
        self._permit = permit

    def hold(self) -> AbstractContextManager[None]:
        """Until the end, no sweep deletes what is added or renewed from here on."""
        self._permit()
        return super().hold()

    def sweep(self) -> AbstractContextManager[BucketSweep]:
        """Hold off whoever adds or renews blobs."""
        self._permit()
        return super().sweep()

    def delete(self, digest: Digest) -> bool:
        """Remove a blob; whether it was here."""
        self._permit()
        return super().delete(digest)

    def set_aside(self, digest: Digest) -> Path | None:
        """Take a damaged blob out of use."""
        self._permit()
        return super().set_aside(digest)
