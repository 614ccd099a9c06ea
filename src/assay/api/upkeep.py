"""Housekeeping: where the bytes are, which come back, and which versions are given up or kept."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from assay.api.given import PathLike, registry_of, text_of
from assay.policy.retention import Best, Rule, duration
from assay.ports.packs import Effort
from assay.service import packing, removing
from assay.service.garbage import GRACE
from assay.service.packing import Packed
from assay.service.packing_plan import Wish
from assay.service.registry import Registry
from assay.service.usage import Usage
from assay.spec.records import Version
from assay.spec.reference import Reference
from assay.wiring import upkeep
from assay.wiring.packing import named, named_wish, pack, plan
from assay.wiring.upkeep import Collection


def gc(
    *,
    free: bool = False,
    grace: str | timedelta = GRACE,
    derived: bool = False,
    keep_last: int | None = None,
    keep_younger: str | timedelta | None = None,
    keep_aliased: bool = False,
    keep_best: str | Sequence[str] = (),
    models: str | Sequence[str] = ("*",),
    retention: bool = True,
    home: PathLike | None = None,
) -> Collection:
    """What nothing needs, and with *free* its end.

    Args:
        free: give versions up and delete blobs; else nothing is changed.
        grace: what was added within this time stays.
        derived: also free snapshots and memories, which are made again when needed.
        keep_last: a rule beside those of the registry: keep the newest so many versions of each model.
        keep_younger: likewise: keep what was pushed within this time, such as ``"90d"``.
        keep_aliased: likewise: keep what an alias points at (it is always kept).
        keep_best: likewise: keep the best by a metric, ``"auc"`` or ``"loss:lower"``; one or several.
        models: patterns of the models which that rule is about.
        retention: whether the rules in ``retention.toml`` of the registry count.
        home: the registry's folder.

    Returns:
        What the rules say about each version, what goes and why, what the grace period keeps, and what was done.

    Raises:
        InvalidInput: a rule or a time span cannot be understood; nothing is changed.
        StorageError: it cannot be told what is needed, or the registry cannot be written.
    """
    rule = Rule(
        models=(models,) if isinstance(models, str) else tuple(models),
        last=keep_last or 0,
        younger=duration(keep_younger) if isinstance(keep_younger, str) else keep_younger,
        aliased=keep_aliased,
        best=tuple(Best.parse(text) for text in ((keep_best,) if isinstance(keep_best, str) else keep_best)),
    )
    span = duration(grace) if isinstance(grace, str) else grace
    registry = registry_of(home)
    rules = (*(upkeep.rules_of(registry) if retention else ()), *([rule] if rule.keeps else []))
    return upkeep.collect(registry, rules, grace=span, derived=derived, free=free)


def du(*, home: PathLike | None = None) -> Usage:
    """Where the bytes are: per model and version, and beside the blobs.

    Args:
        home: the registry's folder.

    Raises:
        StorageError: it cannot be told what is needed (code ``reachability-unknown``).
    """
    return upkeep.usage_of(registry_of(home))


def pack_store(
    *references: str,
    older_than: str | timedelta | None = None,
    keep_raw: str | Sequence[str] = (),
    smallest: bool = False,
    home: PathLike | None = None,
) -> Packed:
    """Make the files of versions small; everything reads them as before.

    Args:
        references: versions, or names of models for all of their versions; everything when there are none.
        older_than: leave alone what a version younger than this has, such as ``"30d"``.
        keep_raw: aliases; leave alone what any of them points at, in any model.
        smallest: a few per cent smaller; slower to write, and to read back.
        home: the registry's folder.

    Returns:
        How many bytes became how many, and what was left as it is, and why.

    Raises:
        NotFound: there is no such version, or no model has an alias that is to stay raw.
        InvalidInput: a time span cannot be understood, or this registry's store cannot pack.
        StorageError: packs cannot be written; every file is readable all the same.
    """
    wish = Wish(
        older_than=duration(older_than) if isinstance(older_than, str) else older_than,
        keep_raw=(keep_raw,) if isinstance(keep_raw, str) else tuple(keep_raw),
        effort=Effort.SMALLEST if smallest else Effort.DEFAULT,
    )
    registry = registry_of(home)
    return pack(registry, plan(registry, named_wish(registry, references, wish)))


def unpack(*references: str, home: PathLike | None = None) -> int:
    """Make raw copies of the packed files of versions again; they stay packed as well.

    Args:
        references: versions, or names of models for all of their versions.
        home: the registry's folder.

    Returns:
        Bytes that are raw again.

    Raises:
        NotFound: there is no such version.
        IntegrityError: a file is damaged; those before it are raw.
        StorageError: a copy cannot be written.
    """
    registry = registry_of(home)
    return sum(packing.unpack(registry, version)[1] for version in named(registry, references))


def remove(reference: str, *, reason: str, home: PathLike | None = None) -> Version:
    """Give a version up; ``gc`` frees what nothing else needs.

    Args:
        reference: names one version.
        reason: why; kept in the history for good.
        home: the registry's folder.

    Raises:
        InvalidInput: no reason was given, or *reference* names a model alone.
        Conflict: an alias points at it, or it is pinned.
    """
    registry, version = _one(reference, home)
    return removing.remove(registry, version, reason=reason)


def pin(reference: str, *, reason: str, home: PathLike | None = None) -> Version:
    """Keep a version whatever retention rules say, and against removal.

    Raises:
        InvalidInput: no reason was given, or *reference* names a model alone.
    """
    registry, version = _one(reference, home)
    return removing.pin(registry, version, reason=reason)


def unpin(reference: str, *, reason: str = "", home: PathLike | None = None) -> Version:
    """Take a pin back.

    Raises:
        InvalidInput: *reference* names a model alone.
    """
    registry, version = _one(reference, home)
    return removing.unpin(registry, version, reason=reason)


def _one(reference: str, home: PathLike | None) -> tuple[Registry, Version]:
    registry = registry_of(home)
    return registry, removing.resolve_one(registry, Reference.parse(text_of("reference", reference)))
