"""Purge: remove leaked or unlicensed bytes for good, and record that it was done.

The version keeps its number, its digest and its history; only the bytes go. Blobs that another, unpurged artifact also
holds stay, and are named: purging them means purging that artifact too. So do bytes that a push under way has just
added again: deleting happens alone with the store, as garbage collection does it. Packs are written anew without the
bytes, also where they serve only as a base for others, before the manifest goes: as long as that is there, a purge that
was interrupted can be finished.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from assay.errors import AssayError, InvalidInput
from assay.ports.packs import Packing
from assay.service.reachability import Reachability
from assay.service.registry import Registry, read_manifest
from assay.service.snapshots import drop_snapshot
from assay.service.verify import known_copies
from assay.spec.digest import Digest
from assay.spec.manifest import Manifest
from assay.spec.records import Version

BATCH = 200
"""Blobs deleted at a time, for which pushes wait."""


@dataclass(frozen=True, slots=True)
class Purged:
    """The outcome of a purge.

    Args:
        versions: every version that was this artifact.
        removed: digests whose bytes are gone.
        freed: bytes.
        shared: entry path to the references of other artifacts that hold the same bytes, which therefore stay.
        copies: places a copy was made to, where the bytes still are.
        spared: digests that were named or added again meanwhile, and stay.
    """

    versions: Sequence[Version]
    removed: Sequence[Digest]
    freed: int
    shared: dict[str, list[str]]
    copies: Sequence[str]
    spared: Sequence[Digest] = ()


def plan(registry: Registry, version: Version) -> Purged:
    """What a purge of *version* would do; nothing is changed."""
    manifest = _manifest_left(registry, version)
    kept = _held_by_others(registry, version.manifest)
    shared = {entry.path: kept[entry.digest] for entry in manifest.entries() if entry.digest in kept}
    doomed = [digest for digest in _blobs_of(registry, manifest) if digest not in kept]
    freed = sum(registry.blobs.size(digest) or 0 for digest in doomed)
    versions = registry.catalog.by_manifest(version.manifest)
    return Purged(versions, doomed, freed, shared, known_copies(registry, version.manifest))


def purge(registry: Registry, version: Version, *, reason: str, snapshots: Path | None = None) -> Purged:
    """Remove the bytes of *version* for good.

    The record is written first: a crash in between leaves a version that says it is purged while some bytes are still
    there, and running purge again finishes it.

    Args:
        registry: where.
        version: what; every version that is the same artifact goes with it.
        reason: why, kept for good.
        snapshots: the folder of snapshots for loading, whose links keep bytes too.

    Raises:
        InvalidInput: no reason was given.
        NotFound: it was purged before, completely (code ``purged``).
        StorageError: it cannot be told what other versions need (code ``reachability-unknown``).
    """
    if not reason.strip():
        raise InvalidInput(
            "purging needs a reason, which is kept for good", code="reason-missing", hint="--reason TEXT"
        )
    planned = plan(registry, version)
    registry.catalog.mark_purged(version.manifest, reason=reason, actor=registry.actor)
    if snapshots is not None:
        drop_snapshot(snapshots, version.manifest)
    removed: list[Digest] = []
    freed = 0
    reach = Reachability(registry)
    for doomed in ([one for one in planned.removed if one != version.manifest], [version.manifest]):
        freed += _remove(registry, reach, [one for one in doomed if one in planned.removed], removed)
        if isinstance(registry.blobs, Packing):
            registry.blobs.compact(least=0)
    gone = set(removed)
    spared = tuple(digest for digest in planned.removed if digest not in gone)
    return replace(planned, removed=tuple(removed), spared=spared, freed=freed)


def _remove(registry: Registry, reach: Reachability, digests: Sequence[Digest], removed: list[Digest]) -> int:
    """Delete what nobody needs or adds meanwhile, and note it; the bytes."""
    freed, doomed = 0, iter(digests)
    while batch := list(islice(doomed, BATCH)):
        with registry.blobs.sweep() as sweep:
            reach.update()
            for digest in batch:
                size = registry.blobs.size(digest)
                if digest in reach or not (size is None or sweep.idle(digest)):
                    continue
                registry.blobs.delete(digest)  # with what was set aside as damaged
                removed.append(digest)
                freed += size or 0
    return freed


def _manifest_left(registry: Registry, version: Version) -> Manifest:
    """The manifest, also of a version whose purge was interrupted: it is the last blob to go."""
    if version.purged is not None and registry.blobs.size(version.manifest) is not None:
        return read_manifest(registry.blobs, version.manifest)
    return registry.manifest(version)


def _blobs_of(registry: Registry, manifest: Manifest) -> list[Digest]:
    digests = [layer.digest for layer in manifest.layers]
    for referrer in registry.referrers(manifest.digest):
        try:
            digests += [layer.digest for layer in read_manifest(registry.blobs, referrer.manifest).layers]
        except AssayError:
            continue  # already gone or damaged: there is nothing more to remove behind it
        digests.append(referrer.manifest)
    digests += [manifest.config.digest, manifest.digest]
    return list(dict.fromkeys(digests))


def _held_by_others(registry: Registry, purged: Digest) -> dict[Digest, list[str]]:
    """Every blob that some other live artifact needs, with the versions that need it."""
    held: dict[Digest, list[str]] = {}
    for artifact, needs in Reachability(registry).artifacts.items():
        if artifact != purged:
            for digest in needs.blobs:
                held.setdefault(digest, []).extend(version.reference for version in needs.versions)
    return held
