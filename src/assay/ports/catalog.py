"""The ports of catalogs: who is called what.

A catalog is a projection of a journal: every change is an ``Event`` that is durable before the change is visible, and
replaying all events gives the same rows. The contract suite ``assay.testing.catalog`` runs over every implementation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from assay.spec.digest import Digest
from assay.spec.json import Json
from assay.spec.records import Alias, Event, EventKind, Model, Referrer, Version


class CatalogReader(Protocol):
    """Reading."""

    def models(self, *, prefix: str = "", limit: int | None = None) -> Sequence[Model]:
        """Models whose name starts with *prefix*, by name."""
        ...

    def versions(self, name: str, *, limit: int | None = None) -> Sequence[Version]:
        """Versions of a model, newest first; empty when there is no such model."""
        ...

    def version(self, name: str, number: int | None = None) -> Version | None:
        """One version, or the newest when no number is given."""
        ...

    def by_manifest(self, manifest: Digest, *, name: str | None = None) -> Sequence[Version]:
        """Versions that are this artifact, by name and number."""
        ...

    def alias(self, name: str, alias: str) -> Alias | None:
        """Where an alias points."""
        ...

    def aliases(self, name: str) -> Sequence[Alias]:
        """All aliases of a model, by alias."""
        ...

    def referrers(self, subject: Digest) -> Sequence[Referrer]:
        """Statements about an artifact, oldest first."""
        ...

    def events(
        self, *, name: str | None = None, kinds: Sequence[EventKind] = (), limit: int | None = None
    ) -> Sequence[Event]:
        """What happened, newest first."""
        ...


class CatalogWriter(Protocol):
    """Changing. Each call is one atomic, durable change; ``actor`` says who."""

    def add_version(self, name: str, manifest: Digest, *, size: int, entries: int, actor: str) -> tuple[Version, bool]:
        """Number an artifact.

        Returns the version and whether it is new: an artifact that this model already has keeps its number. A purged
        or removed version's number is never used again, and pushing the same artifact later gives a new number.
        """
        ...

    def move_alias(
        self,
        name: str,
        alias: str,
        number: int,
        *,
        expect: int | None,
        actor: str,
        reason: str = "",
        evidence: Mapping[str, Json] | None = None,
    ) -> Alias:
        """Point an alias at a version, by compare-and-swap.

        Args:
            expect: the version it must point at now; None: it must not exist. Moving to where it already points is no
                change and no event.
            evidence: what the decision was based on, kept in the history.

        Raises:
            NotFound: there is no such version, or it was removed or purged (codes ``version-not-found``,
                ``version-removed``, ``purged``).
            Conflict: it points elsewhere now (code ``alias-moved``), or the version was yanked (code
                ``version-yanked``); nothing is changed.
        """
        ...

    def remove_alias(self, name: str, alias: str, *, actor: str, reason: str = "", expect: int | None = None) -> None:
        """Remove an alias.

        Args:
            expect: the version it must point at now; any when None.

        Raises:
            NotFound: there is none (code ``alias-not-found``).
            Conflict: it points elsewhere now (code ``alias-moved``); nothing is changed.
        """
        ...

    def add_referrer(self, subject: Digest, manifest: Digest, artifact_type: str, *, size: int, actor: str) -> bool:
        """Attach a statement; False when it was already attached."""
        ...

    def drop_referrers(
        self, subject: Digest, manifests: Sequence[Digest], *, actor: str, said: Sequence[Json] = ()
    ) -> int:
        """Forget statements whose bytes are about to go as garbage; how many were attached.

        What is not attached is no change; when none is, there is no event.

        Args:
            said: what of them the history keeps.
        """
        ...

    def mark(self, name: str, number: int, kind: EventKind, *, reason: str, actor: str) -> Version:
        """Yank, pin or remove a version, or take that back where it can be; the version as it is then.

        Args:
            kind: one of ``MARKS``. Marking what is marked already is no change and no event.

        Raises:
            NotFound: there is no such version, or it was removed (codes ``version-not-found``, ``version-removed``).
            Conflict: a version is to be removed that an alias points at or that is pinned (codes ``alias-holds``,
                ``version-pinned``); nothing is changed.
        """
        ...

    def record_copy(self, manifest: Digest, place: str, *, name: str, actor: str) -> None:
        """Remember that an artifact was also copied to *place* (a path or URI without credentials)."""
        ...

    def mark_purged(self, manifest: Digest, *, reason: str, actor: str) -> Sequence[Version]:
        """Record that the bytes of an artifact are removed for good; the versions it hits."""
        ...

    def catch_up(self) -> None:
        """Take in what writers have journalled that died before it was visible: what is read afterwards holds it.

        For whoever destroys what nothing names: the next change would make it visible.

        Raises:
            StorageError: the catalog cannot be written, or the journal not read.
        """
        ...

    def reindex(self) -> int:
        """Drop every row and rebuild it from the journal; the number of events."""
        ...


class Catalog(CatalogReader, CatalogWriter, Protocol):
    """Both."""
