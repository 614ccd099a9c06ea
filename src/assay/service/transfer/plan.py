"""What a copy has to move: what the other side lacks, blob by blob."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from assay.spec.descriptor import Descriptor
from assay.spec.digest import Digest
from assay.spec.manifest import Manifest

ASKED = 8
"""Blobs that a far place is asked about at once."""


class Asked(Protocol):
    """Says how long a blob is, or that it is not there: ``BlobReader.size`` or ``BlobWriter.renew``."""

    def __call__(self, digest: Digest, /) -> int | None:
        """Its length in bytes; None when it is not there."""
        ...


@dataclass(frozen=True, slots=True)
class Shipment:
    """Blobs that travel together as packed segments.

    Args:
        blobs: which.
        segments: ids of the segments that the other side lacks of them, bases included.
        stored: bytes of those.
    """

    blobs: frozenset[Digest] = frozenset()
    segments: frozenset[bytes] = frozenset()
    stored: int = 0


@dataclass(frozen=True, slots=True)
class Coming:
    """What will have been moved before: several copies are planned, none of which was made.

    Args:
        blobs: which.
        segments: ids of packed segments.
    """

    blobs: set[Digest] = field(default_factory=set)
    segments: set[bytes] = field(default_factory=set)

    def add(self, plan: Plan) -> None:
        """One more copy is planned."""
        self.blobs.update(blob.digest for blob in plan.lacking)
        self.segments.update(plan.shipment.segments)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be moved.

    Args:
        lacking: blobs that the other side lacks, the large ones first.
        there: blobs that it has.
        shipment: which of the lacking ones travel as packed segments.
    """

    lacking: tuple[Descriptor, ...]
    there: tuple[Descriptor, ...]
    shipment: Shipment = field(default_factory=Shipment)

    @property
    def single(self) -> tuple[Descriptor, ...]:
        """Blobs that are moved as they are."""
        return tuple(blob for blob in self.lacking if blob.digest not in self.shipment.blobs)

    @property
    def moved(self) -> int:
        """Bytes to move, as they are."""
        return sum(blob.size for blob in self.lacking)

    @property
    def travels(self) -> int:
        """Bytes that travel for it: fewer than are moved, where packed segments do."""
        return sum(blob.size for blob in self.single) + self.shipment.stored

    @property
    def skipped(self) -> int:
        """Bytes that are there already."""
        return sum(blob.size for blob in self.there)


def needed(manifests: Iterable[Manifest]) -> list[Descriptor]:
    """Every blob that some manifests name, once each."""
    found: dict[Digest, Descriptor] = {}
    for manifest in manifests:
        for descriptor in (manifest.config, *manifest.layers):
            found.setdefault(descriptor.digest, descriptor)
    return list(found.values())


def make_plan(manifests: Sequence[Manifest], asked: Asked) -> Plan:
    """Ask the other side about every blob that *manifests* need.

    A blob of another length than the manifest says is damaged there, and counts as lacking.

    Args:
        manifests: of the artifact, and of what is said about it.
        asked: the other side's ``renew``; ``size`` where nothing is to be changed.

    Raises:
        StorageError: it cannot be asked.
    """
    blobs = needed(manifests)
    with ThreadPoolExecutor(ASKED, thread_name_prefix="assay-ask") as pool:
        sizes = list(pool.map(asked, [blob.digest for blob in blobs]))
    lacking = [blob for blob, size in zip(blobs, sizes, strict=True) if size != blob.size]
    there = [blob for blob, size in zip(blobs, sizes, strict=True) if size == blob.size]
    lacking.sort(key=lambda blob: -blob.size)
    return Plan(tuple(lacking), tuple(there))
