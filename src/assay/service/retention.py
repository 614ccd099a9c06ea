"""Retention, applied: what the rules go by is read from the registry, and what no rule keeps is removed.

A removed version keeps its number and its record; its bytes are garbage from then on, unless something else needs them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from assay.errors import AssayError, Conflict, NotFound
from assay.policy.retention import Facts, Rule, Ruling, decide
from assay.service.browse import aliases_of
from assay.service.evaluations import recorded
from assay.service.registry import Registry
from assay.spec.digest import Digest
from assay.spec.records import EventKind, Version
from assay.spec.statement import Statement


def rulings(registry: Registry, rules: Sequence[Rule], *, now: datetime) -> list[Ruling]:
    """What rules say about every version of the models they are about; nothing is changed."""
    if not rules:
        return []
    facts = []
    for model in registry.catalog.models():
        metrics = any(rule.best for rule in rules if rule.about(model.name))
        aliases = aliases_of(registry, model.name)
        facts += [
            _facts(registry, version, aliases.get(version.number, []), metrics=metrics)
            for version in registry.catalog.versions(model.name)
            if not version.gone
        ]
    return decide(facts, rules, now=now)


def doomed(found: Sequence[Ruling]) -> dict[str, str]:
    """References of the versions that go, each with the reason that is recorded."""
    return {one.version.reference: f"retention: {'; '.join(one.because)}" for one in found if not one.keep}


def apply(registry: Registry, found: Sequence[Ruling]) -> list[Ruling]:
    """Remove the versions that no rule keeps; the rulings as they came true.

    A version that was given an alias or a pin since the rules were asked is kept.

    Raises:
        StorageError: the catalog cannot be written; what was removed so far is.
    """
    reasons = doomed(found)
    came_true = []
    for one in found:
        version = one.version
        if not one.keep:
            try:
                registry.catalog.mark(
                    version.name,
                    version.number,
                    EventKind.REMOVED,
                    reason=reasons[version.reference],
                    actor=registry.actor,
                )
            except Conflict as error:
                one = replace(one, keep=True, because=(error.message,))  # noqa: PLW2901 - the ruling, corrected
            except NotFound as error:
                if error.code != "version-removed":  # somebody else was faster
                    raise
        came_true.append(one)
    return came_true


def _facts(registry: Registry, version: Version, aliases: Sequence[str], *, metrics: bool) -> Facts:
    try:
        measured = {key: one.value for key, one in recorded(registry, version).items()} if metrics else {}
        return Facts(version, tuple(sorted(aliases)), measured, _bases(registry, version))
    except AssayError as error:
        return Facts(version, tuple(sorted(aliases)), unreadable=error.message)


def _bases(registry: Registry, version: Version) -> frozenset[Digest]:
    """Artifacts that a version was made from, whoever says so."""
    kind = Statement(version.manifest, "base", {}, version.created).artifact_type
    found = set()
    for referrer in registry.referrers(version.manifest):
        if referrer.artifact_type == kind:
            named = registry.statement(referrer).predicate.get("manifest")
            if isinstance(named, str):
                found.add(Digest.parse(named))
    return frozenset(found)
