"""The mutable book of names, as immutable records: versions, aliases, and what happened to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from assay.spec.digest import Digest
from assay.spec.json import Json


@dataclass(frozen=True, slots=True)
class Version:
    """An immutable numbered release of a model.

    Args:
        name: the model.
        number: 1, 2, 3 …; never reused.
        manifest: digest of the artifact.
        size: bytes of all entries together.
        entries: number of entries.
        created: when it was numbered, UTC.
        actor: who numbered it.
        purged: why its bytes were removed for good, or None.
        yanked: why it must not be used any more, or None; its bytes stay.
        removed: why it was given up, or None; what nothing else needs of its bytes is garbage.
        pinned: why it must be kept whatever retention rules say, or None.
    """

    name: str
    number: int
    manifest: Digest
    size: int
    entries: int
    created: datetime
    actor: str
    purged: str | None = None
    yanked: str | None = None
    removed: str | None = None
    pinned: str | None = None

    @property
    def gone(self) -> bool:
        """Whether its bytes may not be there any more: it was purged or removed."""
        return self.purged is not None or self.removed is not None

    @property
    def reference(self) -> str:
        """``NAME:N``."""
        return f"{self.name}:{self.number}"


@dataclass(frozen=True, slots=True)
class Alias:
    """A movable name for one version of a model."""

    name: str
    alias: str
    number: int
    moved: datetime
    actor: str


@dataclass(frozen=True, slots=True)
class Model:
    """A named line of versions, summed up."""

    name: str
    versions: int
    latest: Version
    aliases: Mapping[str, int] = field(default_factory=dict)


class EventKind(StrEnum):
    """What can happen to the book. Append-only: values are written to journals."""

    VERSION_ADDED = "version-added"
    ALIAS_MOVED = "alias-moved"
    ALIAS_REMOVED = "alias-removed"
    STATEMENT_ADDED = "statement-added"
    STATEMENTS_DROPPED = "statements-dropped"
    COPIED = "copied"
    PURGED = "purged"
    YANKED = "yanked"
    UNYANKED = "unyanked"
    PINNED = "pinned"
    UNPINNED = "unpinned"
    REMOVED = "version-removed"


MARKS = {
    EventKind.YANKED: ("yanked", True),
    EventKind.UNYANKED: ("yanked", False),
    EventKind.PINNED: ("pinned", True),
    EventKind.UNPINNED: ("pinned", False),
    EventKind.REMOVED: ("removed", True),
}
"""Events about one version: the field of ``Version`` that they change, and whether they set or clear it."""


@dataclass(frozen=True, slots=True)
class Event:
    """One change, as journalled: enough to rebuild every row of the catalog.

    Args:
        sequence: 1, 2, 3 … without gaps within one registry.
        kind: what happened.
        name: the model, or empty for an event about a manifest alone.
        at: when, UTC.
        actor: who.
        data: the kind's own values, JSON only (see ``docs/spec/journal.md``).
    """

    sequence: int
    kind: EventKind
    name: str
    at: datetime
    actor: str
    data: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Referrer:
    """A statement attached to an artifact.

    Args:
        subject: digest of the artifact's manifest.
        manifest: digest of the statement's own manifest.
        artifact_type: kind of statement.
        size: bytes of the statement's manifest.
        created: when it was attached, UTC.
    """

    subject: Digest
    manifest: Digest
    artifact_type: str
    size: int
    created: datetime
