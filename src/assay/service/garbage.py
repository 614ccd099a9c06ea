"""Garbage collection: what no name needs goes, and what is under way stays.

Order, so that neither a push beside it nor a crash in it can lose a byte that is needed: list the blobs, then read the
names; then, a few hundred blobs at a time and alone with the store (``BlobCleaner.sweep``), read what was named since,
and delete what is still unneeded, older than the grace period and in nobody's hands. Manifests go before what they
name: what is visible is whole, also when the process dies in between.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import islice

from assay.ports.blobs import Leftover, Stored
from assay.ports.packs import Packing
from assay.ports.progress import SILENT, Progress
from assay.service.ancestry import remains
from assay.service.derived import Derived, Folders, drop, left_behind
from assay.service.reachability import Reachability, Said, read_closure
from assay.service.registry import Registry
from assay.spec.digest import Digest
from assay.spec.records import EventKind

GRACE = timedelta(hours=24)
"""How long what nothing names is kept, for pushes under way that do not hold the store."""

BATCH = 200
"""Blobs deleted per sweep: so many take some milliseconds, for which pushes wait."""


class Why(StrEnum):
    """Why nothing needs a blob. Append-only: values are printed as JSON."""

    REMOVED = "version-removed"
    PURGED = "version-purged"
    STATEMENT = "statement-without-subject"
    UNNAMED = "never-named"


@dataclass(frozen=True, slots=True)
class Garbage:
    """One blob that nothing needs.

    Args:
        digest: which.
        size: bytes.
        added: when it was last added.
        why: why nothing needs it.
        of: the version it belonged to, where there is one; the newest of several.
        reason: why that version was given up.
        since: from when on nothing needed it, as far as that is known.
        until: when the grace period ends; None when it is over.
        packed: whether it only lies in a pack: its bytes come back when packs are written anew.
    """

    digest: Digest
    size: int
    added: datetime
    why: Why
    of: str | None
    reason: str | None
    since: datetime
    until: datetime | None = None
    packed: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What a collection would do.

    Args:
        started: when it was made.
        grace: the grace period.
        doomed: what goes, in the order in which it goes.
        kept: what nothing needs and the grace period keeps.
        leftovers: what writers that died left half-written.
        derived: folders that were made from what is gone, such as snapshots for loading.
        unreadable: statements that cannot be followed, in words.
        needed: blobs that are needed: how many.
        needed_bytes: bytes of them.
        closures: manifests among the garbage, each with everything that it names.
    """

    started: datetime
    grace: timedelta
    doomed: tuple[Garbage, ...]
    kept: tuple[Garbage, ...]
    leftovers: tuple[Leftover, ...]
    derived: tuple[Derived, ...]
    unreadable: tuple[str, ...]
    needed: int
    needed_bytes: int
    closures: Mapping[Digest, Sequence[Digest]]

    @property
    def freed(self) -> int:
        """Bytes that come back at once; what leaves packs is not among them."""
        blobs = sum(found.size for found in self.doomed if not found.packed)
        return blobs + sum(left.size for left in self.leftovers) + sum(item.size for item in self.derived)


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection did.

    Args:
        removed: how many blobs are gone.
        freed: bytes that came back, of blobs and of everything else.
        spared: how many blobs of the plan were added or named again meanwhile.
    """

    removed: int
    freed: int
    spared: int


@dataclass(frozen=True, slots=True)
class Fate:
    """What a blob that nothing needs once was for."""

    why: Why
    of: str | None = None
    reason: str | None = None
    since: datetime | None = None


def plan(
    registry: Registry,
    *,
    folders: Folders | None = None,
    grace: timedelta = GRACE,
    without: Mapping[str, str] | None = None,
    now: datetime | None = None,
) -> Plan:
    """What a collection would do; nothing is changed.

    Args:
        registry: where.
        folders: what was made from blobs and lies beside them.
        grace: what was added within this time is kept.
        without: references of versions that count as removed already, each with the reason.
        now: the time; the clock's when None.

    Raises:
        StorageError: it cannot be told what is needed (code ``reachability-unknown``), or the store cannot be read.
    """
    started = now or datetime.now(UTC)
    stored = list(registry.blobs.inventory())
    reach = Reachability(registry, without=without or {})
    unneeded = {found.digest: found for found in stored if found.digest not in reach}
    fates, closures = _fates(registry, reach, unneeded, without or {}, started)
    before = started - grace
    kept = {found.digest: found.added + grace for found in unneeded.values() if grace and found.added >= before}
    for manifest in [digest for digest in closures if digest in kept]:
        for digest in closures[manifest]:  # what is visible stays whole
            if digest in unneeded:
                kept[digest] = max(kept.get(digest, kept[manifest]), kept[manifest])
    garbage = {
        found.digest: _garbage(
            found,
            fates.get(found.digest, Fate(Why.UNNAMED)),
            kept.get(found.digest),
            packed=is_packed_only(registry, found.digest),
        )
        for found in unneeded.values()
    }
    first = sorted((found for found in garbage.values() if found.until is None), key=lambda one: one.added)
    needed = [found.size for found in stored if found.digest in reach]
    return Plan(
        started=started,
        grace=grace,
        doomed=(
            *(found for found in first if found.digest in closures),
            *(found for found in first if found.digest not in closures),
        ),
        kept=tuple(sorted((found for found in garbage.values() if found.until), key=lambda one: one.added)),
        leftovers=tuple(registry.blobs.leftovers()),
        derived=tuple(left_behind(folders, reach.artifacts, before=before)) if folders else (),
        unreadable=tuple(reach.unreadable),
        needed=len(needed),
        needed_bytes=sum(needed),
        closures=closures,
    )


def collect(registry: Registry, planned: Plan, *, progress: Progress = SILENT) -> Collected:
    """Free what a plan dooms, as far as nothing needs it by now.

    May be killed at any point and run again: what is left of the store is whole.

    Raises:
        StorageError: it cannot be told any more what is needed, or something cannot be deleted; what was freed so far
            is gone, and nothing else.
    """
    reach = Reachability(registry)
    spared: set[Digest] = set()
    removed = freed = 0
    progress.start("freeing", planned.freed)
    try:
        for item in planned.derived:  # first: links of a snapshot would keep the bytes
            if item.artifact not in reach.artifacts:
                drop(item)
                freed += item.size
            progress.advance(item.size)
        doomed = iter(planned.doomed)
        packed = {found.digest for found in planned.doomed if found.packed}
        while batch := list(islice(doomed, BATCH)):
            sizes = _sweep(registry, reach, planned, [found.digest for found in batch], spared)
            removed += len(sizes)
            freed += sum(size for digest, size in sizes.items() if digest not in packed)
            progress.advance(sum(found.size for found in batch if not found.packed))
        freed += sum(left.size for left in registry.blobs.leftovers(clear=True))
    finally:
        progress.finish()
    return Collected(removed, freed, len(planned.doomed) - removed)


def _sweep(
    registry: Registry, reach: Reachability, planned: Plan, batch: Sequence[Digest], spared: set[Digest]
) -> dict[Digest, int]:
    """Delete what is still garbage of a batch; what went, and its size. What must stay takes what it names with it."""
    before = planned.started - planned.grace if planned.grace else None
    with registry.blobs.sweep() as sweep:
        reach.update()
        gone = []
        for digest in batch:
            if digest in reach or digest in spared:
                continue
            if sweep.idle(digest, before):
                gone.append(digest)
            else:
                spared.update(planned.closures.get(digest, ()))
        _forget(registry, reach, set(gone))
        return {digest: sweep.delete(digest) for digest in gone}


def _forget(registry: Registry, reach: Reachability, gone: set[Digest]) -> None:
    """Take statements that go out of the catalog first: it must not name what is not there.

    The history keeps what they say of the lineage, so that what was made from a removed version is still known to
    descend from that one's bases.
    """
    about: dict[Digest, list[Said]] = defaultdict(list)
    for subject, said in reach.dead_statements():
        if said.manifest in gone:
            about[subject].append(said)
    for subject, statements in about.items():
        manifests = [said.manifest for said in statements]
        kept = remains(registry, subject, {said.manifest: said.artifact_type for said in statements})
        registry.catalog.drop_referrers(subject, manifests, actor=registry.actor, said=kept)


def _fates(
    registry: Registry,
    reach: Reachability,
    unneeded: Mapping[Digest, Stored],
    without: Mapping[str, str],
    now: datetime,
) -> tuple[dict[Digest, Fate], dict[Digest, Sequence[Digest]]]:
    """What each unneeded blob was for, and what the manifests among them name."""
    fates: dict[Digest, Fate] = {}
    closures: dict[Digest, Sequence[Digest]] = {}
    times = _given_up(registry) if reach.gone else {}
    lost: dict[Digest, Fate] = {}
    for artifact, version in reach.gone.items():
        reason = version.removed or version.purged or without.get(version.reference)
        why = Why.PURGED if version.removed is None and version.purged is not None else Why.REMOVED
        since = times.get(version.reference, times.get(str(artifact), now))
        lost[artifact] = Fate(why, version.reference, reason, since)
        if artifact in unneeded:
            closures[artifact] = read_closure(registry, artifact)
            for digest in closures[artifact]:
                fates.setdefault(digest, lost[artifact])
    for subject, said in reach.dead_statements():
        if said.manifest in unneeded:
            closures[said.manifest] = read_closure(registry, said.manifest)
            about = lost.get(subject, Fate(Why.STATEMENT))
            for digest in closures[said.manifest]:
                fates.setdefault(digest, Fate(Why.STATEMENT, about.of, about.reason, about.since))
    return fates, closures


def _given_up(registry: Registry) -> dict[str, datetime]:
    """When versions were removed, by reference, and artifacts purged, by digest."""
    found: dict[str, datetime] = {}
    for event in reversed(registry.catalog.events(kinds=(EventKind.REMOVED, EventKind.PURGED))):
        key = f"{event.name}:{event.data['number']}" if event.kind is EventKind.REMOVED else event.data["manifest"]
        found[str(key)] = event.at
    return found


def is_packed_only(registry: Registry, digest: Digest) -> bool:
    """Whether a blob lies in a pack, and has no raw copy."""
    store = registry.blobs
    return isinstance(store, Packing) and store.is_packed(digest) and not store.is_raw(digest)


def _garbage(found: Stored, fate: Fate, until: datetime | None, *, packed: bool) -> Garbage:
    return Garbage(
        digest=found.digest,
        size=found.size,
        added=found.added,
        why=fate.why,
        of=fate.of,
        reason=fate.reason,
        since=max(fate.since or found.added, found.added),
        until=until,
        packed=packed,
    )
