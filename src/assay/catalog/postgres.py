"""A catalog in PostgreSQL, for many writers on many machines: events and rows change in one transaction.

The table of events is the journal; everything else is made from it. Writers take turns at the one row that says how far
it is (``SELECT ... FOR UPDATE``), so numbers have no gaps and an alias moves by compare-and-swap in the database. Every
registry has a schema of its own, ``assay_<id>``, so that several share a database.

What was committed is then copied into the journal beside the blobs (``BucketJournal.export``): in order, as often as
one likes, by whoever comes by. Blobs and that copy are enough to make the database again (``take_over``).

Rule for editors: columns of ``events`` are only ever added. Whatever else changes in ``tables`` raises ``SCHEMA``: the
next writer makes the rows again from the events, and older releases then refuse (``catalog-too-new``). So does a new
kind of event.
"""

from __future__ import annotations

import secrets
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    func,
    insert,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError
from sqlalchemy.schema import CreateSchema

from assay.catalog.book import Book, damaged
from assay.catalog.bucket_journal import TIERS, BucketJournal
from assay.catalog.journal import START, Mark, encode, mark_behind
from assay.catalog.queries import SqlRows
from assay.catalog.reading import SqlReading
from assay.catalog.rows import apply, dump, set_mark
from assay.catalog.rules import JournaledCatalog, now
from assay.catalog.tables import SCHEMA, applied, events, metadata
from assay.errors import AssayError, Conflict, InvalidInput, MissingDependency, StorageError
from assay.ports.catalog import CatalogReader
from assay.spec.json import Json
from assay.spec.records import Event, EventKind

_BATCH = 1000
_LOCK = "60s"
_NOT_LET_IN = ("password", "authentication", "pg_hba.conf", 'role "')
_own = MetaData()
registry = Table(
    "registry",
    _own,
    Column("id", Integer, primary_key=True, autoincrement=False, comment="always 1"),
    Column("writer", String(64), nullable=False, comment="as writer.json in the bucket names this catalog"),
    Column("exported", BigInteger, nullable=False, comment="events that lie in the bucket, too"),
)


class PostgresCatalog(SqlReading, JournaledCatalog):
    """Events and rows in PostgreSQL; safe for any number of writers.

    Args:
        url: ``postgresql://USER@HOST/DATABASE``; a password may stand in it, in PGPASSWORD or in ``~/.pgpass``.
        home: the registry's id; its schema is named after it.
        journal: the copy beside the blobs; None to keep none.
        warn: hears when the copy is behind.
        clock: what stamps events.

    Raises:
        InvalidInput: it is no such URL (code ``bad-catalog``).
        MissingDependency: the driver is not installed.
        StorageError: the database cannot be used (codes ``catalog-unreachable``, ``catalog-denied``,
            ``catalog-too-new``).
    """

    def __init__(
        self,
        url: str,
        home: str,
        *,
        journal: BucketJournal | None = None,
        warn: Callable[[str], None] = lambda _: None,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._schema = f"assay_{home[:16]}"
        self._journal = journal
        self.permit: Callable[[], None] = lambda: None
        """Raises when this database does not keep the names of this registry any more."""
        self._warn = warn
        self._clock = clock
        self._engine, self.place = _engine(url, self._schema)
        self._closing = weakref.finalize(self, self._engine.dispose)
        self._snapshots = self._engine.execution_options(isolation_level="REPEATABLE READ")
        with self._failing("open"):
            self.writer = self._open()

    def close(self) -> None:
        """Give the connections back; a later call opens new ones."""
        self._engine.dispose()

    def catch_up(self) -> None:
        """Nothing to do: an event and its rows are committed together."""

    def sequence(self) -> int:
        """Events that there are."""
        with self._failing("read"), self._engine.begin() as connection:
            return _mark_of(connection).sequence

    def is_behind(self) -> bool:
        """Whether the bucket has events that the database lacks: it was set back to a backup, or is another one."""
        if self._journal is None:
            return False
        known = self.sequence()
        last = self._journal.last(known)
        return last > known and last > self.sequence()  # others may have written in between

    def reindex(self) -> int:
        """Make every row again from the events, and the copy in the bucket whole; the number of events."""
        with self._failing("rebuild"), self._locked() as connection:
            mark = _rebuild(connection)
            if self._journal is not None:
                there = min(self._journal.last(), mark.sequence)
                connection.execute(update(registry).values(exported=there))
        self.export()
        return mark.sequence

    def take_over(self) -> int:
        """Take in the events that the bucket has and the database lacks; how many.

        Raises:
            StorageError: the two have different events with the same number (code ``journal-damaged``).
        """
        assert self._journal is not None
        taken = 0
        with self._failing("change"), self._locked() as connection:
            mark = _mark_of(connection)
            own = {event.sequence: event for event in SqlRows(connection).events()}
            there = 0
            for event, _ in self._journal.read(START):
                there = event.sequence
                if event.sequence > mark.sequence:
                    _apply(connection, event)
                    mark = mark_behind(encode(event), event, mark.offset)
                    taken += 1
                elif encode(own[event.sequence]) != encode(event):
                    raise StorageError(
                        f"event {event.sequence} in the database {self.place} is not the one in the bucket",
                        code="journal-damaged",
                        hint="the database has had another history; use an empty one",
                    )
            set_mark(connection, mark)
            connection.execute(update(registry).values(exported=there))
        return taken

    def export(self) -> None:
        """Copy events into the bucket that are not there yet.

        Raises:
            Conflict, StorageError: the bucket cannot be written, or holds other events.
        """
        while self._journal is not None:
            with self._failing("read"), self._engine.begin() as connection:
                done: int = connection.execute(select(registry.c.exported)).scalar_one()
                query = select(events).where(events.c.sequence > done).order_by(events.c.sequence).limit(_BATCH)
                found = SqlRows(connection).chosen(query)
            if not found:
                return
            self._journal.export(found)
            last = found[-1].sequence
            with self._failing("change"), self._engine.begin() as connection:
                connection.execute(update(registry).values(exported=func.greatest(registry.c.exported, last)))
            if last // TIERS[0] > done // TIERS[0]:
                self._journal.compact()

    @contextmanager
    def _reading(self) -> Iterator[CatalogReader]:
        with self._failing("read"), self._snapshots.begin() as connection:
            yield SqlRows(connection)

    @contextmanager
    def _change(self) -> Iterator[_Change]:
        self.permit()
        with self._failing("change"), self._locked() as connection:
            change = _Change(connection, _mark_of(connection), self._clock)
            yield change
            if change.recorded:
                set_mark(connection, change.mark)
        if change.recorded:
            try:
                self.export()
            except (Conflict, StorageError) as error:  # it has happened all the same; whoever comes next exports it
                self._warn(f"the copy of the journal in the bucket is behind: {error.message}")

    @contextmanager
    def _locked(self) -> Iterator[Connection]:
        """A transaction that no other writer shares."""
        with self._engine.begin() as connection:
            connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK}'"))
            self._check_layout(connection)
            yield connection

    def _open(self) -> str:
        """Make or bring up to date what lies in the database; the id as which it writes."""
        with self._engine.begin() as connection:
            ready = inspect(connection).has_table(registry.name, schema=self._schema)
            if ready and connection.execute(select(applied.c.schema)).scalar_one() == SCHEMA:
                return str(connection.execute(select(registry.c.writer)).scalar_one())
        with self._engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": self._schema})
            if not inspect(connection).has_table(registry.name, schema=self._schema):
                if not inspect(connection).has_schema(self._schema):
                    connection.execute(CreateSchema(self._schema))
                metadata.create_all(connection)
                _own.create_all(connection)
                set_mark(connection, START)
                connection.execute(insert(registry).values(id=1, writer=secrets.token_hex(16), exported=0))
            if self._check_layout(connection) < SCHEMA:
                rows = [table for table in metadata.sorted_tables if table is not events]
                metadata.drop_all(connection, tables=rows)
                metadata.create_all(connection)
                _rebuild(connection)
            return str(connection.execute(select(registry.c.writer)).scalar_one())

    def _check_layout(self, connection: Connection) -> int:
        """Hold off other writers until the end of the transaction; the number of the layout of the rows.

        Raises:
            StorageError: a newer release made them (code ``catalog-too-new``).
        """
        found: int = connection.execute(select(applied.c.schema).with_for_update()).scalar_one()
        if found > SCHEMA:
            raise StorageError(
                f"the catalog in {self.place} has layout {found}, this release understands up to {SCHEMA}",
                code="catalog-too-new",
                hint="upgrade: pip install --upgrade assay",
            )
        return found

    @contextmanager
    def _failing(self, doing: str) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise _meaning(error, f"cannot {doing} the catalog in {self.place}") from error


class _Change:
    """One transaction: what was recorded in it, and how far the events are."""

    def __init__(self, connection: Connection, mark: Mark, clock: Callable[[], datetime]) -> None:
        self._connection = connection
        self._clock = clock
        self.mark = mark
        self.recorded = False
        self.rows: CatalogReader = SqlRows(connection)

    def record(self, kind: EventKind, name: str, actor: str, data: Mapping[str, Json]) -> None:
        event = Event(self.mark.sequence + 1, kind, name, self._clock(), actor, data)
        line = encode(event)
        _apply(self._connection, event)
        self.mark = mark_behind(line, event, self.mark.offset)
        self.recorded = True


def _apply(connection: Connection, event: Event) -> None:
    try:
        apply(connection, event)
    except DataError as error:
        raise InvalidInput(
            f"cannot record {event.kind} of {event.name!r}: the database takes no such text", code="invalid-event"
        ) from error
    except (KeyError, ValueError, InvalidInput, IntegrityError) as error:
        raise damaged(event, error) from error


def _mark_of(connection: Connection) -> Mark:
    row = connection.execute(select(applied)).one()
    return Mark(row.offset, row.sequence, row.check, row.length)


def _rebuild(connection: Connection) -> Mark:
    """Make all rows but the events again."""
    book, mark = Book(), START
    for event in SqlRows(connection).chosen(select(events).order_by(events.c.sequence)):
        try:
            book.apply(event)
        except (KeyError, ValueError, InvalidInput) as error:
            raise damaged(event, error) from error
        mark = mark_behind(encode(event), event, mark.offset)
    dump(connection, book, mark, keep_events=True)
    return mark


def _engine(url: str, schema: str) -> tuple[Engine, str]:
    """Connections, and what to call the database for people."""
    try:
        parsed = make_url(url).set(drivername="postgresql+psycopg")
        engine = create_engine(
            parsed,
            pool_pre_ping=True,
            hide_parameters=True,
            connect_args={"connect_timeout": 15, "application_name": "assay"},
        )
    except (ArgumentError, ValueError):  # not told: it may hold a password
        raise InvalidInput(
            "not the URL of a database; expected postgresql://USER@HOST/DATABASE", code="bad-catalog"
        ) from None
    except ModuleNotFoundError as error:
        raise MissingDependency(
            "a catalog in PostgreSQL needs psycopg", hint="pip install 'assay[postgres]'"
        ) from error
    port = f":{parsed.port}" if parsed.port else ""
    place = f"postgresql://{parsed.host or 'localhost'}{port}/{parsed.database or ''}"
    return engine.execution_options(schema_translate_map={None: schema}), place


def _meaning(error: DBAPIError, doing: str) -> AssayError:
    """What an error of PostgreSQL means for the caller."""
    state: str = getattr(error.orig, "sqlstate", None) or ""
    said = " ".join(str(error.orig).split())
    message = f"{doing}: {said}"
    if state == "55P03":
        return Conflict(f"{doing}: others have been writing for {_LOCK}", code="catalog-busy", hint="run it again")
    known: dict[str, dict[str, Any]] = {
        "42501": {"code": "catalog-denied", "hint": "the user needs the right to create a schema there, or to use it"},
        "53100": {"code": "store-full", "hint": "free some space on the database's disk"},
        "25006": {"code": "store-read-only", "hint": "name the primary server: this one only answers questions"},
    }
    if state in known:
        return StorageError(message, **known[state])
    if state.startswith("28") or any(word in said for word in _NOT_LET_IN):  # no state where there is no connection
        return StorageError(
            f"{doing}: the database does not let this user in",
            code="catalog-denied",
            hint="the password comes from PGPASSWORD or ~/.pgpass",
        )
    if error.connection_invalidated or not state or state.startswith(("08", "57P")):
        return StorageError(message, code="catalog-unreachable", hint="look at the server and at ASSAY_CATALOG")
    return StorageError(message)
