"""A catalog in memory, over any journal: for tests, throw-away registries, and homes that may only be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from threading import RLock

from assay.catalog.book import Book, damaged
from assay.catalog.journal import START, Journal, Mark, MemoryJournal
from assay.catalog.rules import JournaledCatalog, now
from assay.errors import InvalidInput
from assay.ports.catalog import CatalogReader
from assay.spec.digest import Digest
from assay.spec.json import Json
from assay.spec.records import Alias, Event, EventKind, Model, Referrer, Version


class MemoryCatalog(JournaledCatalog):
    """All rows in memory, read from the journal when first needed and kept up with it.

    Args:
        journal: a journal in memory when None.
        clock: what stamps events.
    """

    def __init__(self, journal: Journal | None = None, *, clock: Callable[[], datetime] = now) -> None:
        self._journal = journal or MemoryJournal()
        self._clock = clock
        self._lock = RLock()
        self._book = Book()
        self._mark = START

    def models(self, *, prefix: str = "", limit: int | None = None) -> Sequence[Model]:
        """Models whose name starts with *prefix*, by name."""
        with self._reading() as book:
            return book.models(prefix=prefix, limit=limit)

    def versions(self, name: str, *, limit: int | None = None) -> Sequence[Version]:
        """Versions of a model, newest first."""
        with self._reading() as book:
            return book.versions(name, limit=limit)

    def version(self, name: str, number: int | None = None) -> Version | None:
        """One version, or the newest when no number is given."""
        with self._reading() as book:
            return book.version(name, number)

    def by_manifest(self, manifest: Digest, *, name: str | None = None) -> Sequence[Version]:
        """Versions that are this artifact, by name and number."""
        with self._reading() as book:
            return book.by_manifest(manifest, name=name)

    def alias(self, name: str, alias: str) -> Alias | None:
        """Where an alias points."""
        with self._reading() as book:
            return book.alias(name, alias)

    def aliases(self, name: str) -> Sequence[Alias]:
        """All aliases of a model, by alias."""
        with self._reading() as book:
            return book.aliases(name)

    def referrers(self, subject: Digest) -> Sequence[Referrer]:
        """Statements about an artifact, oldest first."""
        with self._reading() as book:
            return book.referrers(subject)

    def events(
        self, *, name: str | None = None, kinds: Sequence[EventKind] = (), limit: int | None = None
    ) -> Sequence[Event]:
        """What happened, newest first."""
        with self._reading() as book:
            return book.events(name=name, kinds=kinds, limit=limit)

    def catch_up(self) -> None:
        """Take in what others journalled; every reading does so, too."""
        with self._reading():
            pass

    def reindex(self) -> int:
        """Drop every row and rebuild it from the journal; the number of events."""
        with self._lock:
            self._book, self._mark = Book(), START
            self._catch_up()
            return self._mark.sequence

    @contextmanager
    def _reading(self) -> Iterator[CatalogReader]:
        with self._lock:
            self._catch_up()
            yield self._book

    @contextmanager
    def _change(self) -> Iterator[_Change]:
        with self._journal.lock(), self._lock:
            self._catch_up()
            yield _Change(self)

    def _catch_up(self) -> None:
        if self._journal.end(self._mark) == self._mark.offset:
            return
        for event, mark in self._journal.read(self._mark):
            self._apply(event, mark)

    def _apply(self, event: Event, mark: Mark) -> None:
        try:
            self._book.apply(event)
        except (KeyError, ValueError, InvalidInput) as error:
            raise damaged(event, error) from error
        self._mark = mark

    def _record(self, kind: EventKind, name: str, actor: str, data: Mapping[str, Json]) -> None:
        event = Event(self._mark.sequence + 1, kind, name, self._clock(), actor, data)
        self._apply(event, self._journal.append(self._mark, [event]))


class _Change:
    def __init__(self, catalog: MemoryCatalog) -> None:
        self._catalog = catalog

    @property
    def rows(self) -> CatalogReader:
        return self._catalog._book  # noqa: SLF001 - the other half of the catalog above

    def record(self, kind: EventKind, name: str, actor: str, data: Mapping[str, Json]) -> None:
        self._catalog._record(kind, name, actor, data)  # noqa: SLF001 - the other half of the catalog above
