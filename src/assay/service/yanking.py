"""Yank: say that a version must not be used any more, or that it may after all. Nothing is removed.

Its number, bytes and statements stay, and whoever names it exactly still finds it, with a warning. What stops: a bare
name passes it over, it is not loaded unless the caller says so, and no alias moves to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from assay.errors import InvalidInput
from assay.service.registry import Registry
from assay.spec.json import Json
from assay.spec.records import EventKind, Version
from assay.spec.reference import Reference


@dataclass(frozen=True, slots=True)
class Yanked:
    """The outcome of a yank, or of taking one back.

    Args:
        version: as it is now.
        changed: False when it was so already.
        aliases: that point at it.
    """

    version: Version
    changed: bool
    aliases: Sequence[str]

    def to_json(self) -> dict[str, Json]:
        """As ``assay yank --json`` prints it."""
        return {
            "reference": self.version.reference,
            "digest": str(self.version.manifest),
            "yanked": self.version.yanked,
            "changed": self.changed,
            "aliases": [*self.aliases],
        }


def yank(registry: Registry, reference: Reference, *, reason: str, undo: bool = False) -> Yanked:
    """Mark the version that a reference names as unfit, or take that back.

    Args:
        registry: where.
        reference: with a number, an alias or a digest.
        reason: why; kept in the history. Needed to yank.
        undo: take it back.

    Raises:
        InvalidInput: no reason was given (code ``reason-missing``), or only a name: which version that is changes with
            every yank (code ``version-missing``).
        NotFound: there is no such version, or it was removed.
    """
    if reference.label is None and reference.digest is None:
        raise InvalidInput(
            f"{reference.name} alone does not say which version is meant",
            code="version-missing",
            hint=f"assay ls {reference.name} shows them: {reference.name}:1",
        )
    if not undo and not reason.strip():
        raise InvalidInput(
            "a yank needs a reason, which everybody is shown", code="reason-missing", hint="--reason TEXT"
        )
    version = registry.resolve(reference)
    kind = EventKind.UNYANKED if undo else EventKind.YANKED
    changed = (version.yanked is None) is not undo
    marked = registry.catalog.mark(version.name, version.number, kind, reason=reason.strip(), actor=registry.actor)
    holding = [one.alias for one in registry.catalog.aliases(version.name) if one.number == version.number]
    return Yanked(marked, changed, holding)
