"""The read half of a catalog whose rows are in SQL: each call is one transaction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager

from assay.ports.catalog import CatalogReader
from assay.spec.digest import Digest
from assay.spec.records import Alias, Event, EventKind, Model, Referrer, Version


class SqlReading(ABC):
    """Reading, as ``assay.ports.catalog.CatalogReader`` says."""

    @abstractmethod
    def _reading(self) -> AbstractContextManager[CatalogReader]:
        """The rows as they are at one moment."""

    def models(self, *, prefix: str = "", limit: int | None = None) -> Sequence[Model]:
        """Models whose name starts with *prefix*, by name."""
        with self._reading() as rows:
            return rows.models(prefix=prefix, limit=limit)

    def versions(self, name: str, *, limit: int | None = None) -> Sequence[Version]:
        """Versions of a model, newest first."""
        with self._reading() as rows:
            return rows.versions(name, limit=limit)

    def version(self, name: str, number: int | None = None) -> Version | None:
        """One version, or the newest when no number is given."""
        with self._reading() as rows:
            return rows.version(name, number)

    def by_manifest(self, manifest: Digest, *, name: str | None = None) -> Sequence[Version]:
        """Versions that are this artifact, by name and number."""
        with self._reading() as rows:
            return rows.by_manifest(manifest, name=name)

    def alias(self, name: str, alias: str) -> Alias | None:
        """Where an alias points."""
        with self._reading() as rows:
            return rows.alias(name, alias)

    def aliases(self, name: str) -> Sequence[Alias]:
        """All aliases of a model, by alias."""
        with self._reading() as rows:
            return rows.aliases(name)

    def referrers(self, subject: Digest) -> Sequence[Referrer]:
        """Statements about an artifact, oldest first."""
        with self._reading() as rows:
            return rows.referrers(subject)

    def events(
        self, *, name: str | None = None, kinds: Sequence[EventKind] = (), limit: int | None = None
    ) -> Sequence[Event]:
        """What happened, newest first."""
        with self._reading() as rows:
            return rows.events(name=name, kinds=kinds, limit=limit)
