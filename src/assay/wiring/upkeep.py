"""Housekeeping of a home: its folders, its rules, and the two steps of a collection in their order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from assay.errors import StorageError
from assay.policy.retention import Rule, Ruling, read_rules
from assay.ports.packs import Packing
from assay.ports.progress import SILENT, Progress
from assay.service import garbage, retention, usage
from assay.service.derived import Derived, Folders, drop, remade
from assay.service.garbage import GRACE, Collected, Plan
from assay.service.packing_plan import packing_of
from assay.service.registry import Registry
from assay.service.usage import Usage
from assay.wiring.places import AUDITS, DECLARED, SKETCHES, SNAPSHOTS, TENSORS

RETENTION = "retention.toml"
"""File in a home with the rules by which versions are given up."""


@dataclass(frozen=True, slots=True)
class PacksFreed:
    """What a collection gives back of packs.

    Args:
        blobs: packed blobs that go: how many.
        raw: bytes that they would have if they were not packed.
        dead: bytes in packs that nothing needed before.
        about: bytes that come back when packs are written anew, as far as that can be told before it is done: packs
            with little that is dead stay as they are.
        freed: bytes that came back; None for a dry run.
        left: bytes in packs that nothing needs, and that stay until they are more; None for a dry run.
    """

    blobs: int
    raw: int
    dead: int
    about: int
    freed: int | None = None
    left: int | None = None


@dataclass(frozen=True, slots=True)
class Collection:
    """What a collection would do, or did.

    Args:
        rulings: what the rules say about each version; empty without rules.
        plan: which bytes go, and which stay for now.
        remade: folders that are emptied on request although they are in use.
        done: what became of it; None for a dry run.
        packs: what comes back of packs; None where nothing is packed.
    """

    rulings: tuple[Ruling, ...]
    plan: Plan
    remade: tuple[Derived, ...]
    done: Collected | None
    packs: PacksFreed | None = None

    @property
    def freed(self) -> int:
        """Bytes that came back, or would; of packs about so many."""
        packed = 0 if self.packs is None else self.packs.about if self.packs.freed is None else self.packs.freed
        if self.done is not None:
            return self.done.freed + packed
        others = {item.path for item in self.plan.derived}
        return self.plan.freed + packed + sum(item.size for item in self.remade if item.path not in others)


def folders_of(registry: Registry) -> Folders:
    """What in a registry's home can be made again."""
    home = registry.state
    memories = tuple(home / name for name in (AUDITS, DECLARED, TENSORS, SKETCHES))
    return Folders(home / SNAPSHOTS, memories, (home / SKETCHES,))


def rules_of(registry: Registry) -> tuple[Rule, ...]:
    """The rules that a home states; none where it states none.

    Raises:
        InvalidInput: they cannot be understood (codes ``bad-retention``, ``bad-duration``).
        StorageError: the file cannot be read.
    """
    file = registry.state / RETENTION
    try:
        return read_rules(file.read_text("utf-8"), name=RETENTION)
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"cannot read the retention rules {file}: {error}", path=str(file)) from error


def collect(
    registry: Registry,
    rules: Sequence[Rule],
    *,
    grace: timedelta = GRACE,
    derived: bool = False,
    free: bool = False,
    progress: Progress = SILENT,
) -> Collection:
    """Give up what no rule keeps, then free what nothing needs; unless *free*, only say what that would do.

    Args:
        registry: where.
        rules: by which versions are given up.
        grace: what was added within this time stays.
        derived: also free everything that is made again when it is needed.
        free: do it.
        progress: hears about bytes freed.

    Raises:
        StorageError: it cannot be told what is needed (code ``reachability-unknown``), or something cannot be written.
    """
    now = datetime.now(UTC)
    rulings = retention.rulings(registry, rules, now=now)
    folders = folders_of(registry)
    without = {} if free else retention.doomed(rulings)
    if free:
        rulings = retention.apply(registry, rulings)
    planned = garbage.plan(registry, folders=folders, grace=grace, without=without)
    also = tuple(remade(folders)) if derived else ()
    packs = _packs(registry, planned)
    if not free:
        return Collection(tuple(rulings), planned, also, None, packs)
    done = garbage.collect(registry, planned, progress=progress)
    for item in also:
        if item.path not in {gone.path for gone in planned.derived}:
            drop(item)
            done = Collected(done.removed, done.freed + item.size, done.spared)
    if packs is not None:
        packs = replace(packs, freed=_compacted(registry, progress), left=packing_of(registry).pack_use().dead)
    return Collection(tuple(rulings), planned, also, done, packs)


def _packs(registry: Registry, planned: Plan) -> PacksFreed | None:
    store = registry.blobs
    if not isinstance(store, Packing) or not (use := store.pack_use()).packs:
        return None
    doomed = [found.size for found in planned.doomed if found.packed]
    share = min(1.0, (use.stored - use.dead) / use.raw) if use.raw else 1.0
    return PacksFreed(len(doomed), sum(doomed), use.dead, use.dead + int(share * sum(doomed)))


def _compacted(registry: Registry, progress: Progress) -> int:
    """Write packs anew without what is dead; the bytes that came back."""
    store = packing_of(registry)
    progress.start("compacting packs", store.pack_use().stored)
    try:
        return store.compact(progress=progress)
    finally:
        progress.finish()


def usage_of(registry: Registry) -> Usage:
    """Where the bytes of a home are."""
    return usage.usage(registry, home=registry.state, folders=folders_of(registry))
