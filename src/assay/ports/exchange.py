"""The port of stores that hand each other packed blobs as they are packed: a fine-tune travels as its differences."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from assay.ports.progress import SILENT, Progress
from assay.spec.digest import Digest
from assay.trees import Source


@dataclass(frozen=True, slots=True)
class Part:
    """A segment that a packed blob needs.

    Args:
        id: the segment's.
        stored: bytes of it as it is stored.
    """

    id: bytes
    stored: int


@runtime_checkable
class SegmentExchange(Protocol):
    """Handing over and taking in; a ``BlobStore`` that offers it is asked with ``isinstance``."""

    def takes_packs(self) -> bool:
        """Whether packed blobs come in unasked: something is packed here already."""
        ...

    def parts(self, digest: Digest) -> Sequence[Part] | None:
        """Every segment that a blob needs, bases of bases included, once each; None when it is not packed here.

        None also where one of them is missing.
        """
        ...

    def lacking(self, segments: Collection[bytes]) -> set[bytes]:
        """Those of some segments that are not here."""
        ...

    def hand_over(self, blobs: Sequence[Digest], segments: Collection[bytes]) -> Source:
        """A pack that lists *blobs* and holds exactly *segments*; it is put together while it is read.

        Raises:
            NotFound: one of them is not here any more.
        """
        ...

    def take_in(self, pack: Source, *, progress: Progress = SILENT) -> None:
        """Keep a pack that another store hands over: every segment and every blob is compared before one counts.

        Also where nothing was packed before: from then on it is a place that packs.
        They are decoded and compared with their ids, also segments that no blob of the pack needs. What came of it when
        it breaks off is gone on with the next time.

        Args:
            pack: its bytes.
            progress: hears of the bytes of the pack, each once.

        Raises:
            IntegrityError: it is damaged, or a base that it relies on is not here, or damaged; nothing of it is kept.
            BadFormat: it is no pack, or a segment is not deeper than its base here; nothing of it is kept.
            StorageError: it cannot be read or written.
        """
        ...
