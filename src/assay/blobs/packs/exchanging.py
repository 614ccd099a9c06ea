"""The side of a store over packs that hands packed blobs to others and takes theirs in, wherever the packs lie."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from assay.blobs.packs.folder import PackFolder
from assay.later import later
from assay.ports.exchange import Part
from assay.ports.progress import SILENT, Progress
from assay.spec.digest import Digest
from assay.trees import Source

if TYPE_CHECKING:
    from assay.blobs.packs import exchange
else:
    exchange = later("assay.blobs.packs.exchange")


class Exchanging(ABC):
    """Implements ``assay.ports.exchange.SegmentExchange``."""

    _folder: PackFolder

    @abstractmethod
    def _landing(self) -> exchange.Landing:
        """Where packs that come go first."""

    @abstractmethod
    def _begin_packing(self) -> None:
        """Something will be packed here, perhaps for the first time."""

    def takes_packs(self) -> bool:
        """Whether packed blobs come in unasked: something is packed here already."""
        return self._folder.is_used()

    def parts(self, digest: Digest) -> Sequence[Part] | None:
        """Every segment that a blob needs, bases included; None when it is not packed here, or not whole."""
        return self._exchange().parts(digest) if self._folder.is_used() else None

    def lacking(self, segments: Collection[bytes]) -> set[bytes]:
        """Those of some segments that are not here."""
        return self._exchange().lacking(segments) if self._folder.is_used() else set(segments)

    def hand_over(self, blobs: Sequence[Digest], segments: Collection[bytes]) -> Source:
        """A pack that lists *blobs* and holds *segments*, put together while it is read.

        Raises:
            NotFound: one of them is not here any more.
        """
        return self._exchange().hand_over(blobs, segments)

    def take_in(self, pack: Source, *, progress: Progress = SILENT) -> None:
        """Keep a pack that another store hands over, once every segment and every blob in it was compared.

        Raises:
            IntegrityError: it is damaged, or what it relies on is; nothing of it is kept.
            BadFormat: it is no pack, or a segment is not deeper than its base here; nothing of it is kept.
            StorageError: it cannot be read or written.
        """
        self._begin_packing()
        self._exchange().take_in(pack, progress=progress)

    def _exchange(self) -> exchange.Exchange:
        return exchange.Exchange(self._folder, self._landing())
