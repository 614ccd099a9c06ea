"""Writing a catalog's rows in SQL: applying one event, or dumping a whole book.

``apply`` and ``Book.apply`` say the same thing twice, once for SQL and once for memory; a test replays random histories
through both and compares.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, and_, delete, insert, select, update

from assay.catalog.book import Book, dropped_in, mark_in, number_in, referrer_in, version_in
from assay.catalog.journal import START, Mark
from assay.catalog.rules import concerns
from assay.catalog.tables import SCHEMA, aliases, applied, event_names, events, models, referrers, versions
from assay.spec.digest import Digest
from assay.spec.json import canonical
from assay.spec.records import Alias, Event, EventKind, Referrer, Version

_BATCH = 5_000


def applied_mark(connection: Connection) -> Mark | None:
    """How far the journal is applied; None when the rows were laid out by another release."""
    row = connection.execute(select(applied)).first()
    if row is None:
        return START
    if row.schema != SCHEMA:
        return None
    return Mark(row.offset, row.sequence, row.check, row.length)


def set_mark(connection: Connection, mark: Mark) -> None:
    """Remember how far the journal is applied."""
    values = {
        "schema": SCHEMA,
        "offset": mark.offset,
        "sequence": mark.sequence,
        "check": mark.check,
        "length": mark.length,
    }
    if connection.execute(update(applied).values(values)).rowcount == 0:
        connection.execute(insert(applied).values(id=1, **values))


def apply(connection: Connection, event: Event) -> None:
    """Take in one event, in order.

    Raises:
        KeyError, ValueError: it does not hold what its kind must.
    """
    data = event.data
    match event.kind:
        case EventKind.VERSION_ADDED:
            _add_version(connection, version_in(event))
        case EventKind.ALIAS_MOVED:
            alias = Alias(event.name, str(data["alias"]), number_in(data["number"]), event.at, event.actor)
            connection.execute(delete(aliases).where(_is(alias.name, alias.alias)))
            connection.execute(insert(aliases), [_alias_row(alias)])
        case EventKind.ALIAS_REMOVED:
            connection.execute(delete(aliases).where(_is(event.name, str(data["alias"]))))
        case EventKind.STATEMENT_ADDED:
            connection.execute(insert(referrers), [_referrer_row(referrer_in(event), event.sequence)])
        case EventKind.STATEMENTS_DROPPED:
            subject, gone = dropped_in(event)
            meant = and_(referrers.c.subject == str(subject), referrers.c.manifest.in_([str(found) for found in gone]))
            connection.execute(delete(referrers).where(meant))
        case EventKind.PURGED:
            hit = and_(versions.c.manifest == str(Digest.parse(str(data["manifest"]))), versions.c.purged.is_(None))
            connection.execute(update(versions).where(hit).values(purged=str(data["reason"])))
        case EventKind.COPIED:
            pass  # the event itself is the record
        case _:
            _mark(connection, event)
    connection.execute(insert(events), [_event_row(event)])
    names = _names(connection, event)
    if names:
        connection.execute(insert(event_names), [{"name": name, "sequence": event.sequence} for name in names])


def dump(connection: Connection, book: Book, mark: Mark, *, keep_events: bool = False) -> None:
    """Replace every row by those of a book.

    Args:
        connection: in a transaction.
        book: what the rows are to say.
        mark: how far that is.
        keep_events: the events are there already, and stay: where they are the journal.
    """
    kept = {events} if keep_events else set()
    for table in (aliases, referrers, event_names, events, versions, models, applied):
        if table not in kept:
            connection.execute(delete(table))
    every = book.all_versions
    _insert(connection, models, ({"name": name, "versions": len(line)} for name, line in every.items()))
    _insert(connection, versions, (_version_row(version) for line in every.values() for version in line))
    _insert(connection, aliases, (_alias_row(alias) for line in book.all_aliases.values() for alias in line.values()))
    _insert(
        connection,
        referrers,
        (_referrer_row(referrer, place) for line in book.all_referrers.values() for place, referrer in enumerate(line)),
    )
    if not keep_events:
        _insert(connection, events, (_event_row(event) for event, _ in book.all_events))
    _insert(
        connection,
        event_names,
        ({"name": name, "sequence": event.sequence} for event, names in book.all_events for name in names),
    )
    set_mark(connection, mark)


def _add_version(connection: Connection, version: Version) -> None:
    counted = models.c.name == version.name
    before = connection.execute(select(models.c.versions).where(counted)).scalar()
    if version.number != (before or 0) + 1:
        raise ValueError(f"expected version {(before or 0) + 1} of {version.name}, found {version.number}")
    if before is None:
        connection.execute(insert(models), [{"name": version.name, "versions": 1}])
    else:
        connection.execute(update(models).where(counted).values(versions=version.number))
    connection.execute(insert(versions), [_version_row(version)])


def _mark(connection: Connection, event: Event) -> None:
    field, value = mark_in(event)
    number = number_in(event.data["number"])
    meant = and_(versions.c.name == event.name, versions.c.number == number)
    if connection.execute(update(versions).where(meant).values({field: value})).rowcount != 1:
        raise ValueError(f"{event.name} has no version {number}")


def _names(connection: Connection, event: Event) -> set[str]:
    if event.name:
        return {event.name}
    subject = concerns(event.kind, event.data)
    if subject is None:
        return set()
    return set(connection.execute(select(versions.c.name).where(versions.c.manifest == str(subject))).scalars())


def _insert(connection: Connection, table: Table, rows: Iterable[Mapping[str, Any]]) -> None:
    batch: list[Mapping[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _BATCH:
            connection.execute(insert(table), batch)
            batch = []
    if batch:
        connection.execute(insert(table), batch)


def _is(name: str, alias: str) -> ColumnElement[bool]:
    return and_(aliases.c.name == name, aliases.c.alias == alias)


def _version_row(version: Version) -> dict[str, Any]:
    return {
        "name": version.name,
        "number": version.number,
        "manifest": str(version.manifest),
        "size": version.size,
        "entries": version.entries,
        "created": version.created,
        "actor": version.actor,
        "purged": version.purged,
        "yanked": version.yanked,
        "removed": version.removed,
        "pinned": version.pinned,
    }


def _alias_row(alias: Alias) -> dict[str, Any]:
    return {
        "name": alias.name,
        "alias": alias.alias,
        "number": alias.number,
        "moved": alias.moved,
        "actor": alias.actor,
    }


def _referrer_row(referrer: Referrer, sequence: int) -> dict[str, Any]:
    return {
        "subject": str(referrer.subject),
        "manifest": str(referrer.manifest),
        "sequence": sequence,
        "artifact_type": referrer.artifact_type,
        "size": referrer.size,
        "created": referrer.created,
    }


def _event_row(event: Event) -> dict[str, Any]:
    return {
        "sequence": event.sequence,
        "kind": event.kind.value,
        "name": event.name,
        "at": event.at,
        "actor": event.actor,
        "data": canonical(dict(event.data)).decode(),
    }
