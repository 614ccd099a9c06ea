"""Reading a catalog's rows in SQL.

Every query is answered by an index; none reads a whole table unless it is asked for all of it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, select

from assay.catalog.tables import aliases, event_names, events, models, referrers, versions
from assay.errors import StorageError
from assay.spec.digest import Digest
from assay.spec.records import Alias, Event, EventKind, Model, Referrer, Version

_LAST = "\U0010ffff"
"""No name holds a character at or above this one."""


class SqlRows:
    """The catalog as one connection sees it; implements ``assay.ports.catalog.CatalogReader``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def models(self, *, prefix: str = "", limit: int | None = None) -> Sequence[Model]:
        """Models whose name starts with *prefix*, by name."""
        latest = and_(versions.c.name == models.c.name, versions.c.number == models.c.versions)
        query = select(models.c.versions.label("total"), versions).join(versions, latest).order_by(models.c.name)
        pointing = select(aliases).order_by(aliases.c.name, aliases.c.alias)
        if prefix:
            query = query.where(models.c.name >= prefix, models.c.name < prefix + _LAST)
            pointing = pointing.where(aliases.c.name >= prefix, aliases.c.name < prefix + _LAST)
        found = self._connection.execute(query.limit(limit)).all()
        if found and limit is not None:
            pointing = pointing.where(aliases.c.name >= found[0].name, aliases.c.name <= found[-1].name)
        by_name: dict[str, dict[str, int]] = defaultdict(dict)
        for row in self._connection.execute(pointing):
            by_name[row.name][row.alias] = row.number
        return [Model(row.name, row.total, _version(row), by_name.get(row.name, {})) for row in found]

    def versions(self, name: str, *, limit: int | None = None) -> Sequence[Version]:
        """Versions of a model, newest first."""
        query = select(versions).where(versions.c.name == name).order_by(versions.c.number.desc()).limit(limit)
        return [_version(row) for row in self._connection.execute(query)]

    def version(self, name: str, number: int | None = None) -> Version | None:
        """One version, or the newest when no number is given."""
        query = select(versions).where(versions.c.name == name)
        query = query.order_by(versions.c.number.desc()) if number is None else query.where(versions.c.number == number)
        row = self._connection.execute(query.limit(1)).first()
        return None if row is None else _version(row)

    def by_manifest(self, manifest: Digest, *, name: str | None = None) -> Sequence[Version]:
        """Versions that are this artifact, by name and number."""
        query = select(versions).where(versions.c.manifest == str(manifest))
        if name is not None:
            query = query.where(versions.c.name == name)
        return [_version(row) for row in self._connection.execute(query.order_by(versions.c.name, versions.c.number))]

    def alias(self, name: str, alias: str) -> Alias | None:
        """Where an alias points."""
        query = select(aliases).where(aliases.c.name == name, aliases.c.alias == alias)
        row = self._connection.execute(query).first()
        return None if row is None else _alias(row)

    def aliases(self, name: str) -> Sequence[Alias]:
        """All aliases of a model, by alias."""
        query = select(aliases).where(aliases.c.name == name).order_by(aliases.c.alias)
        return [_alias(row) for row in self._connection.execute(query)]

    def referrers(self, subject: Digest) -> Sequence[Referrer]:
        """Statements about an artifact, oldest first."""
        query = select(referrers).where(referrers.c.subject == str(subject)).order_by(referrers.c.sequence)
        return [
            Referrer(
                Digest.parse(row.subject), Digest.parse(row.manifest), row.artifact_type, int(row.size), row.created
            )
            for row in self._connection.execute(query)
        ]

    def events(
        self, *, name: str | None = None, kinds: Sequence[EventKind] = (), limit: int | None = None
    ) -> Sequence[Event]:
        """What happened, newest first."""
        query: Select[Any] = select(events).limit(limit)
        if name is None:
            query = query.order_by(events.c.sequence.desc())
        else:
            query = query.join(event_names, event_names.c.sequence == events.c.sequence)
            query = query.where(event_names.c.name == name).order_by(event_names.c.sequence.desc())
        if kinds:
            query = query.where(events.c.kind.in_([kind.value for kind in kinds]))
        return self.chosen(query)

    def chosen(self, query: Select[Any]) -> list[Event]:
        """The events that a query of their table gives.

        Raises:
            StorageError: one is of a kind that this release does not know (code ``journal-too-new``).
        """
        return [_event(row) for row in self._connection.execute(query)]


def _version(row: Row[Any]) -> Version:
    return Version(
        name=row.name,
        number=row.number,
        manifest=Digest.parse(row.manifest),
        size=row.size,
        entries=row.entries,
        created=row.created,
        actor=row.actor,
        purged=row.purged,
        yanked=row.yanked,
        removed=row.removed,
        pinned=row.pinned,
    )


def _alias(row: Row[Any]) -> Alias:
    return Alias(row.name, row.alias, row.number, row.moved, row.actor)


def _event(row: Row[Any]) -> Event:
    try:
        kind = EventKind(row.kind)
    except ValueError:
        raise StorageError(
            f"the journal holds an event of a kind that this release does not know: {row.kind!r:.60}",
            code="journal-too-new",
            hint="upgrade: pip install --upgrade assay",
        ) from None
    return Event(row.sequence, kind, row.name, row.at, row.actor, json.loads(row.data))
