"""Which blobs travel as packed segments: those of which less is to be moved that way, as both sides are now."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from assay.errors import BadFormat, IntegrityError, NotFound
from assay.ports.exchange import SegmentExchange
from assay.ports.progress import SILENT, Progress
from assay.service.transfer.plan import Plan, Shipment
from assay.spec.digest import Digest

LEAST = 64 << 10
"""Bytes of the smallest blob that is worth asking about."""

WORTH = 0.95
"""What may travel at most of a blob as segments: taking them in costs more than bytes."""


def pick(source: object, target: object, plan: Plan, *, packed: bool = False, coming: Collection[bytes] = ()) -> Plan:
    """The plan, with the blobs picked out that travel as segments.

    A segment that several blobs need counts with the first. Bases travel along where the other side lacks them and it
    still pays.

    Args:
        source: the store where blobs come from.
        target: the one where they go; None where it is still to be made.
        plan: what is lacking there.
        packed: all that is packed here is to be packed there, although nothing may be yet, and whether or not it pays
            for this blob: where a base travels along, it is the next ones that it pays for.
        coming: segments that it will have before.
    """
    if not isinstance(source, SegmentExchange) or not _may_take(target, packed=packed):
        return plan
    parts = [(blob, source.parts(blob.digest)) for blob in plan.lacking if blob.size >= LEAST]
    every = {part.id for _, found in parts if found is not None for part in found}
    if not every:
        return plan
    lacking = (target.lacking(every) if isinstance(target, SegmentExchange) else every).difference(coming)
    blobs: set[Digest] = set()
    segments: dict[bytes, int] = {}
    for blob, found in parts:
        if found is None:
            continue
        new = {part.id: part.stored for part in found if part.id in lacking and part.id not in segments}
        if packed or sum(new.values()) < WORTH * blob.size:
            segments.update(new)
            blobs.add(blob.digest)
    return replace(plan, shipment=Shipment(frozenset(blobs), frozenset(segments), sum(segments.values())))


def _may_take(target: object, *, packed: bool) -> bool:
    if target is None:
        return packed
    return isinstance(target, SegmentExchange) and (packed or target.takes_packs())


def ship(source: object, target: object, plan: Plan, *, progress: Progress = SILENT) -> bool:
    """Move what a plan picked out; False where it cannot travel that way after all: nothing of it came across.

    Raises:
        StorageError: a side failed; what came so far is gone on with the next time.
    """
    assert isinstance(source, SegmentExchange)
    assert isinstance(target, SegmentExchange)
    blobs = [blob.digest for blob in plan.lacking if blob.digest in plan.shipment.blobs]
    try:
        pack = source.hand_over(blobs, plan.shipment.segments)
        target.take_in(pack)
    except (IntegrityError, BadFormat, NotFound):
        return False  # the bytes themselves are moved: whether the blob is damaged shows then
    progress.advance(sum(blob.size for blob in plan.lacking if blob.digest in plan.shipment.blobs))
    return True
