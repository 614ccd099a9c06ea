"""What a store of files asks of a place beside it before it keeps a blob."""

from __future__ import annotations

from typing import Protocol

from assay.ports.progress import Progress
from assay.spec.digest import Digest
from assay.trees import Source


class Elsewhere(Protocol):
    """Another place of the same store, where a blob need not be kept a second time."""

    def match(self, source: int, size: int, *, progress: Progress) -> Digest | None:
        """The blob that is only there and has exactly the bytes of *source*, compared just now; None: there is none.

        It counts as added now.

        Args:
            source: a descriptor.
            size: its length.
            progress: hears of every byte once, and only when there is such a blob.
        """
        ...

    def keeps(self, digest: Digest, data: Source) -> bool:
        """Whether a blob is there with exactly these bytes, compared just now; if so it counts as added now."""
        ...
