"""Giving single versions up, and keeping single versions whatever the rules say.

A removed version keeps its number, its digest and its history; its bytes are garbage unless something else needs them,
and the next collection frees them. That cannot be undone, but pushing the files again makes a new version of them.
"""

from __future__ import annotations

from assay.errors import InvalidInput
from assay.service.registry import Registry
from assay.spec.records import EventKind, Version
from assay.spec.reference import Reference


def resolve_one(registry: Registry, reference: Reference) -> Version:
    """The version a reference names, which must say which one.

    Raises:
        InvalidInput: it names a model alone (code ``version-not-named``).
        NotFound: there is none.
    """
    if reference.label is None and reference.digest is None:
        newest = registry.resolve(reference)
        raise InvalidInput(
            f"{reference} names a model, not one of its versions",
            code="version-not-named",
            hint=f"{newest.reference} is its newest; assay ls {reference.name} shows all",
        )
    return registry.resolve(reference)


def remove(registry: Registry, version: Version, *, reason: str) -> Version:
    """Give a version up; the version as it is then.

    Raises:
        InvalidInput: no reason was given (code ``reason-missing``).
        NotFound: it was removed before (code ``version-removed``).
        Conflict: an alias points at it, or it is pinned (codes ``alias-holds``, ``version-pinned``).
    """
    return _mark(registry, version, EventKind.REMOVED, _given(reason, "removing a version"))


def pin(registry: Registry, version: Version, *, reason: str) -> Version:
    """Keep a version whatever retention rules say, and against removal; the version as it is then.

    Raises:
        InvalidInput: no reason was given (code ``reason-missing``).
        NotFound: it was removed (code ``version-removed``).
    """
    return _mark(registry, version, EventKind.PINNED, _given(reason, "pinning a version"))


def unpin(registry: Registry, version: Version, *, reason: str = "") -> Version:
    """Take a pin back; the version as it is then."""
    return _mark(registry, version, EventKind.UNPINNED, reason.strip())


def _mark(registry: Registry, version: Version, kind: EventKind, reason: str) -> Version:
    return registry.catalog.mark(version.name, version.number, kind, reason=reason, actor=registry.actor)


def _given(reason: str, what: str) -> str:
    if not reason.strip():
        raise InvalidInput(
            f"{what} needs a reason, which is kept in the history", code="reason-missing", hint="--reason TEXT"
        )
    return reason.strip()
