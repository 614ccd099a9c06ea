"""Copies between registries of ours: versions keep manifest, statements and yanks; numbers are given anew."""

from __future__ import annotations

from dataclasses import dataclass, replace

from assay.ports.progress import SILENT, Progress
from assay.service.registry import Registry, read_manifest
from assay.service.transfer.carrying import attach_all, carry, record
from assay.service.transfer.moving import Figures
from assay.service.transfer.plan import Asked, Coming, Plan, make_plan
from assay.service.transfer.segments import pick
from assay.spec.digest import Digest
from assay.spec.manifest import Manifest
from assay.spec.records import EventKind, Version


@dataclass(frozen=True, slots=True)
class Brought:
    """One version, copied from one registry to another.

    Args:
        source: as it is called where it came from.
        version: as it is called here.
        new: whether it got its number here just now.
        statements: how many statements were attached just now.
        figures: what was moved.
    """

    source: Version
    version: Version
    new: bool
    statements: int
    figures: Figures

    @property
    def moved(self) -> int:
        """Bytes that were moved."""
        return self.figures.moved

    @property
    def skipped(self) -> int:
        """Bytes that were here already."""
        return self.figures.skipped


def plan_bring(
    source: Registry,
    version: Version,
    target: Registry | None,
    *,
    packed: bool = False,
    coming: Coming | None = None,
) -> Plan:
    """What ``bring`` would move.

    Args:
        source: where from.
        version: what.
        target: where to; None where the registry is still to be made.
        packed: as for ``bring``.
        coming: what will have been moved before.

    Raises:
        As ``bring``; nothing is changed.
    """
    manifest, told = _outward(source, version)
    asked: Asked = _nothing if target is None else target.blobs.size
    plan, before = make_plan([manifest, *(said for said, _ in told)], asked), coming or Coming()
    lacking = tuple(blob for blob in plan.lacking if blob.digest not in before.blobs)
    again = tuple(blob for blob in plan.lacking if blob.digest in before.blobs)
    plan = replace(plan, lacking=lacking, there=plan.there + again)
    blobs = None if target is None else target.blobs
    return pick(source.blobs, blobs, plan, packed=packed, coming=before.segments)


def bring(
    source: Registry,
    version: Version,
    target: Registry,
    name: str,
    *,
    packed: bool = False,
    progress: Progress = SILENT,
) -> Brought:
    """Copy a version with all its statements into another registry, and number it there.

    Manifest and statements are kept byte for byte. What is there already is not moved, so a copy that was interrupted
    goes on where it stopped. A yank goes along; aliases and pins do not. The history of both says what was done.

    Args:
        source: where from.
        version: what; not gone.
        target: where to.
        name: the model it becomes a version of.
        packed: keep packed there what is packed here, although nothing is packed there yet.
        progress: hears about bytes copied.

    Raises:
        NotFound: bytes are missing at the source; nothing is numbered.
        IntegrityError: bytes at the source are damaged; nothing is numbered.
        StorageError: the target is full or read-only.
    """
    manifest, told = _outward(source, version)
    with target.blobs.hold():
        plan = make_plan([manifest, *(said for said, _ in told)], target.blobs.renew)
        plan = pick(source.blobs, target.blobs, plan, packed=packed)
        progress.start(f"copying {version.reference}", plan.moved + plan.skipped)
        try:
            figures = carry(
                source.blobs,
                target.blobs,
                plan,
                state=target.state,
                repair=f"assay verify {version.reference} says what is damaged and what can be done",
                progress=progress,
            )
            target.blobs.add(manifest.data)
        finally:
            progress.finish()
        statements = attach_all(target, manifest, told)
        placed, new = target.catalog.add_version(
            name, manifest.digest, size=version.size, entries=version.entries, actor=target.actor
        )
    if version.yanked is not None and placed.yanked is None:
        placed = target.catalog.mark(name, placed.number, EventKind.YANKED, reason=version.yanked, actor=target.actor)
    if new or statements:
        record(source, version, f"home:{target.place} {placed.reference}")
        record(target, placed, f"home:{source.place} {version.reference}")
    return Brought(version, placed, new, statements, figures)


def keep_number(source: Registry, version: Version, target: Registry, name: str) -> Version | None:
    """Take the number of a version that is gone, where it is the next one, so that later ones keep theirs.

    Returns the version at the target, removed like its original; None when its number cannot be kept.
    """
    latest = target.catalog.version(name)
    here = target.catalog.version(name, version.number)
    if here is None and (latest.number if latest is not None else 0) == version.number - 1:
        here, _ = target.catalog.add_version(
            name, version.manifest, size=version.size, entries=version.entries, actor=target.actor
        )
    if here is None or (here.number, here.manifest) != (version.number, version.manifest):
        return None
    if not here.gone and target.blobs.size(here.manifest) is None:
        reason = f"given up at home:{source.place}: {version.removed or version.purged}"
        here = target.catalog.mark(name, here.number, EventKind.REMOVED, reason=reason, actor=target.actor)
    return here


def _outward(source: Registry, version: Version) -> tuple[Manifest, list[tuple[Manifest, str]]]:
    """The artifact, and what is said about it, each with its type."""
    manifest = source.manifest(version)
    source.check_present(version, manifest.entries())
    told = [(read_manifest(source.blobs, one.manifest), one.artifact_type) for one in source.referrers(manifest.digest)]
    return manifest, told


def _nothing(digest: Digest, /) -> int | None:  # noqa: ARG001 - the shape of a question
    """The answer of a place that is still to be made."""
    return None
