"""The catalog of the embedded default: a journal in a file, rows in SQLite.

The order of a change: lock the journal, begin a transaction, apply what the journal has and the rows do not (a process
died in between), decide, append and flush the event, apply it, commit, unlock. So the journal is never behind the rows,
and rows that are behind, damaged or gone are made again.

Not here: decisions (``rules``), queries (``queries``), and whether the folder may hold SQLite at all
(``assay.blobs.home``).
"""

from __future__ import annotations

import os
import sqlite3
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.pool import ConnectionPoolEntry

from assay.catalog.book import Book, damaged
from assay.catalog.journal import START, Journal, Mark
from assay.catalog.queries import SqlRows
from assay.catalog.reading import SqlReading
from assay.catalog.rows import applied_mark, apply, dump, set_mark
from assay.catalog.rules import JournaledCatalog, now
from assay.catalog.tables import applied, metadata
from assay.errors import AssayError, InvalidInput, StorageError
from assay.ports.catalog import CatalogReader
from assay.spec.json import Json
from assay.spec.records import Event, EventKind

BUSY_SECONDS = 30
"""How long to wait for another process's transaction."""

REBUILD_BEYOND = 256 << 10
"""Bytes of journal behind the rows from which making all rows again is faster than applying event by event."""


class SqlCatalog(SqlReading, JournaledCatalog):
    """Rows in SQLite beside a journal; safe for several threads and processes of one machine at once.

    Args:
        database: the file; made, and filled from the journal, when it is not there.
        journal: what happened.
        clock: what stamps events.

    Raises:
        StorageError: the journal or the database cannot be opened.
    """

    def __init__(self, database: Path, journal: Journal, *, clock: Callable[[], datetime] = now) -> None:
        self._database = database
        self._journal = journal
        self._clock = clock
        self._engine = _engine(database)
        self._closing = weakref.finalize(self, self._engine.dispose)
        try:
            self._open()
        except StorageError as error:
            if error.code != "catalog-damaged":
                raise
            self._set_aside(unless_readable=True)
            self._open()

    def close(self) -> None:
        """Give the connections back; a later call opens new ones."""
        self._engine.dispose()

    def catch_up(self) -> None:
        """Apply what a writer journalled that died before its rows were committed; waits for one that lives."""
        with self._failing("read"):
            behind = self._is_behind()
        if behind:
            with self._change():
                pass

    def reindex(self) -> int:
        """Drop every row and rebuild it from the journal; the number of events."""
        try:
            return self._reindex()
        except StorageError as error:
            if error.code != "catalog-damaged":
                raise
            self._set_aside()
            return self._reindex()

    def _reindex(self) -> int:
        with self._failing("rebuild"), self._journal.lock(), self._transaction() as connection:
            return self._rebuild(connection).sequence

    def _open(self) -> None:
        with self._failing("open"):
            _make_empty(self._database)
            self.catch_up()

    def _set_aside(self, *, unless_readable: bool = False) -> None:
        """Move a database that SQLite cannot read out of the way: its rows are made again."""
        self._engine.dispose()
        with self._journal.lock():
            if unless_readable and self._is_readable():
                return  # another process was faster
            number = 1
            while (kept := self._database.with_name(f"{self._database.name}.damaged-{number}")).exists():
                number += 1
            try:
                self._database.rename(kept)
                for suffix in ("-wal", "-shm"):
                    self._database.with_name(self._database.name + suffix).unlink(missing_ok=True)
            except OSError as error:
                raise StorageError.of(error, f"cannot move {self._database} aside") from error

    @contextmanager
    def _reading(self) -> Iterator[CatalogReader]:
        with self._failing("read"), self._engine.begin() as connection:
            yield SqlRows(connection)

    @contextmanager
    def _change(self) -> Iterator[_Change]:
        with self._failing("change"), self._journal.lock(), self._transaction() as connection:
            change = _Change(self, connection, self._catch_up(connection))
            yield change
            change.finish()

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with self._engine.connect() as connection:
            writing = connection.execution_options(assay_writing=True)
            with writing.begin():
                if not inspect(writing).has_table(applied.name):
                    metadata.create_all(writing)
                yield writing

    def _is_readable(self) -> bool:
        try:
            self._is_behind()
        except DBAPIError:
            return False
        return True

    def _is_behind(self) -> bool:
        with self._engine.begin() as connection:
            if not inspect(connection).has_table(applied.name):
                return True
            mark = applied_mark(connection)
        return mark is None or self._journal.end(mark) != mark.offset

    def _catch_up(self, connection: Connection) -> Mark:
        mark = applied_mark(connection)
        if mark is None:
            metadata.drop_all(connection)
            metadata.create_all(connection)
            return self._rebuild(connection)
        end = self._journal.end(mark)
        if end - mark.offset > REBUILD_BEYOND:
            return self._rebuild(connection)
        if end != mark.offset:
            for found, behind in self._journal.read(mark):
                _apply(connection, found)
                mark = behind
            set_mark(connection, mark)
            self._journal.append(mark, ())  # cuts a torn line off, so that the next reader need not wonder
        return mark

    def _rebuild(self, connection: Connection) -> Mark:
        book, mark = Book(), START
        for found, behind in self._journal.read(START):
            try:
                book.apply(found)
            except (KeyError, ValueError, InvalidInput) as error:
                raise damaged(found, error) from error
            mark = behind
        dump(connection, book, mark)
        return mark

    @contextmanager
    def _failing(self, doing: str) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise _meaning(error, f"cannot {doing} the catalog {self._database}") from error


class _Change:
    """One transaction, with how far the journal is applied in it."""

    def __init__(self, catalog: SqlCatalog, connection: Connection, mark: Mark) -> None:
        self._catalog = catalog
        self._connection = connection
        self._mark = mark
        self.rows: CatalogReader = SqlRows(connection)

    def record(self, kind: EventKind, name: str, actor: str, data: Mapping[str, Json]) -> None:
        catalog = self._catalog
        found = Event(self._mark.sequence + 1, kind, name, catalog._clock(), actor, data)  # noqa: SLF001 - its half
        self._mark = catalog._journal.append(self._mark, [found])  # noqa: SLF001 - likewise
        _apply(self._connection, found)

    def finish(self) -> None:
        set_mark(self._connection, self._mark)


def _apply(connection: Connection, found: Event) -> None:
    try:
        apply(connection, found)
    except (KeyError, ValueError, InvalidInput, IntegrityError) as error:
        raise damaged(found, error) from error


def _make_empty(database: Path) -> None:
    """An empty file is an empty database; made here, because SQLite would ignore a umask that lets a group write."""
    try:
        os.close(os.open(database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666))
    except OSError as error:
        raise StorageError.of(error, f"cannot open the catalog {database}", path=str(database)) from error


def _engine(database: Path) -> Engine:
    engine = create_engine(f"sqlite:///{database}", connect_args={"timeout": BUSY_SECONDS})

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
        # The driver would begin transactions on its own, late and without the write lock.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")  # the journal is what must survive; rows are made again
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writing = connection.get_execution_options().get("assay_writing", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine


def _meaning(error: DBAPIError, doing: str) -> AssayError:
    """What an error of SQLite means for the caller."""
    code: str = getattr(error.orig, "sqlite_errorname", "")
    message = f"{doing}: {error.orig}"
    known: dict[str, dict[str, Any]] = {
        "SQLITE_FULL": {"code": "store-full", "hint": "free some space, then run it again"},
        "SQLITE_IOERR_WRITE": {"code": "store-full", "hint": "free some space, then run it again"},
        "SQLITE_BUSY": {"code": "catalog-busy", "hint": "another process holds it; wait, then run it again"},
        "SQLITE_CORRUPT": {"code": "catalog-damaged", "hint": "run assay reindex: rows are made again"},
        "SQLITE_NOTADB": {"code": "catalog-damaged", "hint": "run assay reindex: rows are made again"},
    }
    if code.startswith("SQLITE_READONLY"):
        return StorageError(message, code="store-read-only", hint="use a place you may write to (ASSAY_HOME)")
    return StorageError(message, **known.get(code, {}))
