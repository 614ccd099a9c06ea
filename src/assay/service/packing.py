"""Packing: the files of versions become small, and stay readable where they are.

Not here: which files, and in which order (``packing_plan``), how bytes become small (``assay.packing``), and where
packs lie (``assay.ports.packs``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from assay.ports.packs import PackedBlobs, ToPack
from assay.ports.progress import SILENT, Progress
from assay.service.packing_plan import Job, Plan, Spared, Why, packing_of
from assay.service.registry import Registry
from assay.service.snapshots import drop_snapshot
from assay.spec.digest import Digest
from assay.spec.records import Version

BATCH = 1 << 30
"""Bytes that are packed at a time, but whole artifacts: what was packed before stays when the next fails."""


@dataclass(frozen=True, slots=True)
class Damaged:
    """A blob that does not match its digest: it was left as it is. ``files`` are references and paths."""

    digest: Digest
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Packed:
    """What was packed.

    Args:
        plan: what was to be.
        blobs: how many were.
        raw: bytes of those.
        stored: bytes that were written for them.
        same: bytes of them that were there already.
        differing: bytes of them that are stored as differences to others.
        spared: what stays as it is, with what changed meanwhile.
        damaged: what did not match its digest.
    """

    plan: Plan
    blobs: int
    raw: int
    stored: int
    same: int
    differing: int
    spared: tuple[Spared, ...]
    damaged: tuple[Damaged, ...]


def pack(registry: Registry, planned: Plan, *, snapshots: Path | None = None, progress: Progress = SILENT) -> Packed:
    """Pack what was planned; raw copies go once what was written was read back.

    May be killed at any point and run again: every file is readable all the time.

    Args:
        registry: where.
        planned: what.
        snapshots: the folder of snapshots for loading, whose links would keep the raw bytes: those of the artifacts
            that were packed go, and are made again when they are needed.
        progress: hears about bytes.

    Raises:
        StorageError: packs cannot be written; those written before stay, all else is as it was.
    """
    store, done = packing_of(registry), []
    progress.start("packing", planned.bytes)
    try:
        done = [store.pack(batch, effort=planned.effort, progress=progress) for batch in _batches(planned.jobs)]
    finally:
        progress.finish()
    if snapshots is not None:
        for artifact in planned.touched:
            drop_snapshot(snapshots, artifact)
    changed = [registry.blobs.size(digest) or 0 for one in done for digest in one.spared]
    late = (Spared(Why.CHANGED, "", len(changed), sum(changed)),) if changed else ()
    damaged = [Damaged(digest, tuple(planned.files.get(digest, ()))) for one in done for digest in one.damaged]
    return Packed(
        plan=planned,
        blobs=sum(len(one.packed) for one in done),
        raw=_total(done, "raw"),
        stored=_total(done, "stored"),
        same=_total(done, "same"),
        differing=_total(done, "differing"),
        spared=(*planned.spared, *late),
        damaged=tuple(damaged),
    )


def unpack(registry: Registry, version: Version, *, progress: Progress = SILENT) -> tuple[int, int]:
    """Make raw copies of a version's packed files again; how many, and their bytes.

    They stay packed as well: packing them again later costs nothing but the raw copy.

    Raises:
        InvalidInput: this registry's store cannot pack (code ``cannot-pack``).
        NotFound: the version is gone.
        IntegrityError: a file is damaged; those before it are done.
        StorageError: a copy cannot be written.
    """
    store = packing_of(registry)
    wanted = {entry.digest: entry.size for entry in registry.manifest(version).entries()}
    wanted = {digest: size for digest, size in wanted.items() if store.is_packed(digest) and not store.is_raw(digest)}
    progress.start("unpacking", sum(wanted.values()))
    try:
        done = [size for digest, size in wanted.items() if store.unpack(digest, progress=progress)]
    finally:
        progress.finish()
    return len(done), sum(done)


def _batches(jobs: Sequence[Job]) -> Iterator[list[ToPack]]:
    """Whole artifacts, some at a time."""
    batch: list[ToPack] = []
    size = 0
    for job in jobs:
        if batch and size + job.bytes > BATCH:
            yield batch
            batch, size = [], 0
        batch.extend(job.wanted)
        size += job.bytes
    if batch:
        yield batch


def _total(done: Sequence[PackedBlobs], what: str) -> int:
    return sum(int(getattr(one, what)) for one in done)
