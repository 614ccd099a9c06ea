"""What every copy does: blobs across, as segments where that is less, and what was said attached on the other side."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from assay.errors import StorageError
from assay.ports.blobs import BlobReader, BlobWriter
from assay.ports.progress import SILENT, Progress
from assay.service.registry import Registry
from assay.service.transfer.moving import Figures, move
from assay.service.transfer.plan import Plan, Shipment
from assay.service.transfer.segments import ship
from assay.spec.manifest import Manifest
from assay.spec.records import Version

SPOOL = "copying"
"""Folder below a registry's local one for large blobs on their way."""


def carry(
    source: BlobReader, target: BlobWriter, plan: Plan, *, state: Path, repair: str, progress: Progress = SILENT
) -> Figures:
    """Move everything that a plan lists as lacking.

    Args:
        source: where from.
        target: where to.
        plan: what.
        state: local folder of the registry that takes part.
        repair: what to type when bytes at the source turn out to be damaged.
        progress: hears of every byte that the plan lists.

    Raises:
        As ``assay.service.transfer.moving.move``.
    """
    figures, shipment = Figures(), plan.shipment
    if shipment.blobs:
        began = time.monotonic()
        if ship(source, target, plan, progress=progress):
            raw = sum(blob.size for blob in plan.lacking if blob.digest in shipment.blobs)
            figures = Figures(moved=raw, saved=raw - shipment.stored, verified=raw, seconds=time.monotonic() - began)
        else:
            plan = replace(plan, shipment=Shipment())
    figures.add(move(source, target, plan, spool=state / SPOOL, repair=repair, progress=progress))
    return figures


def attach_all(target: Registry, subject: Manifest, told: Sequence[tuple[Manifest, str]]) -> int:
    """Attach statements whose blobs are here, each with its type; how many were not attached before."""
    taken = 0
    for statement, artifact_type in told:
        target.blobs.add(statement.data)
        taken += target.catalog.add_referrer(
            subject.digest, statement.digest, artifact_type, size=len(statement.data), actor=target.actor
        )
    return taken


def record(registry: Registry, version: Version, place: str) -> None:
    """Write down that a copy lies at *place*; who may only read a home may still copy from it."""
    try:
        registry.catalog.record_copy(version.manifest, place, name=version.name, actor=registry.actor)
    except StorageError as error:
        if error.code != "store-read-only":
            raise
