"""The projection in memory: rows as dictionaries. The simplest correct reading of a journal.

Not here: locking and journalling (``memory``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from assay.catalog.rules import concerns
from assay.errors import StorageError
from assay.spec.digest import Digest
from assay.spec.json import Json
from assay.spec.records import MARKS, Alias, Event, EventKind, Model, Referrer, Version


class Book:
    """All rows; implements ``assay.ports.catalog.CatalogReader``."""

    def __init__(self) -> None:
        self.all_versions: dict[str, list[Version]] = {}
        self.all_aliases: dict[str, dict[str, Alias]] = defaultdict(dict)
        self.all_referrers: dict[Digest, list[Referrer]] = defaultdict(list)
        self.all_events: list[tuple[Event, frozenset[str]]] = []
        self._by_manifest: dict[Digest, list[tuple[str, int]]] = defaultdict(list)
        # Beside it, so that one event about an artifact does not go through all its versions again and again.
        self._unpurged: dict[Digest, list[tuple[str, int]]] = defaultdict(list)
        self._models_of: dict[Digest, set[str]] = defaultdict(set)
        self._by_name: dict[str, list[Event]] = defaultdict(list)

    def models(self, *, prefix: str = "", limit: int | None = None) -> Sequence[Model]:
        """Models whose name starts with *prefix*, by name."""
        names = sorted(name for name in self.all_versions if name.startswith(prefix))
        return [
            Model(
                name,
                len(self.all_versions[name]),
                self.all_versions[name][-1],
                {alias.alias: alias.number for alias in self.aliases(name)},
            )
            for name in names[:limit]
        ]

    def versions(self, name: str, *, limit: int | None = None) -> Sequence[Version]:
        """Versions of a model, newest first."""
        return self.all_versions.get(name, [])[::-1][:limit]

    def version(self, name: str, number: int | None = None) -> Version | None:
        """One version, or the newest when no number is given."""
        versions = self.all_versions.get(name, [])
        number = len(versions) if number is None else number
        return versions[number - 1] if 1 <= number <= len(versions) else None

    def by_manifest(self, manifest: Digest, *, name: str | None = None) -> Sequence[Version]:
        """Versions that are this artifact, by name and number."""
        places = sorted(self._by_manifest.get(manifest, ()))
        return [self.all_versions[model][number - 1] for model, number in places if name in {None, model}]

    def alias(self, name: str, alias: str) -> Alias | None:
        """Where an alias points."""
        return self.all_aliases.get(name, {}).get(alias)

    def aliases(self, name: str) -> Sequence[Alias]:
        """All aliases of a model, by alias."""
        return sorted(self.all_aliases.get(name, {}).values(), key=lambda alias: alias.alias)

    def referrers(self, subject: Digest) -> Sequence[Referrer]:
        """Statements about an artifact, oldest first."""
        return list(self.all_referrers.get(subject, ()))

    def events(
        self, *, name: str | None = None, kinds: Sequence[EventKind] = (), limit: int | None = None
    ) -> Sequence[Event]:
        """What happened, newest first."""
        if name is None:
            events = [event for event, _ in reversed(self.all_events)]
        else:
            events = self._by_name.get(name, [])[::-1]
        return [event for event in events if not kinds or event.kind in kinds][:limit]

    def apply(self, event: Event) -> None:
        """Take in one event, in order.

        Raises:
            KeyError, ValueError: it does not hold what its kind must.
        """
        data = event.data
        match event.kind:
            case EventKind.VERSION_ADDED:
                self._add_version(event)
            case EventKind.ALIAS_MOVED:
                alias = Alias(event.name, str(data["alias"]), number_in(data["number"]), event.at, event.actor)
                self.all_aliases[event.name][alias.alias] = alias
            case EventKind.ALIAS_REMOVED:
                self.all_aliases[event.name].pop(str(data["alias"]), None)
            case EventKind.STATEMENT_ADDED:
                referrer = referrer_in(event)
                self.all_referrers[referrer.subject].append(referrer)
            case EventKind.STATEMENTS_DROPPED:
                subject, gone = dropped_in(event)
                kept = [found for found in self.all_referrers.get(subject, ()) if found.manifest not in gone]
                self.all_referrers[subject] = kept
            case EventKind.PURGED:
                self._purge(Digest.parse(str(data["manifest"])), str(data["reason"]))
            case EventKind.COPIED:
                pass  # the event itself is the record
            case _:
                self._mark(event)
        self._remember(event)

    def _add_version(self, event: Event) -> None:
        version = version_in(event)
        versions = self.all_versions.setdefault(event.name, [])
        if version.number != len(versions) + 1:
            raise ValueError(f"expected version {len(versions) + 1} of {event.name}, found {version.number}")
        versions.append(version)
        self._by_manifest[version.manifest].append((event.name, version.number))
        self._unpurged[version.manifest].append((event.name, version.number))
        self._models_of[version.manifest].add(event.name)

    def _purge(self, manifest: Digest, reason: str) -> None:
        for name, number in self._unpurged.pop(manifest, ()):
            versions = self.all_versions[name]
            versions[number - 1] = replace(versions[number - 1], purged=reason)

    def _mark(self, event: Event) -> None:
        field, value = mark_in(event)
        versions, number = self.all_versions.get(event.name, []), number_in(event.data["number"])
        if not 1 <= number <= len(versions):
            raise ValueError(f"{event.name} has no version {number}")
        changes: dict[str, Any] = {field: value}
        versions[number - 1] = replace(versions[number - 1], **changes)

    def _remember(self, event: Event) -> None:
        names = {event.name} if event.name else set()
        subject = concerns(event.kind, event.data)
        if subject is not None and not event.name:
            names |= self._models_of.get(subject, set())
        self.all_events.append((event, frozenset(names)))
        for name in names:
            self._by_name[name].append(event)


def damaged(event: Event, error: Exception) -> StorageError:
    """The error for an event that reads well and means nothing."""
    return StorageError(
        f"event {event.sequence} of the journal ({event.kind}) does not hold what it must: {error}",
        code="journal-damaged",
        hint="put the journal back from a backup",
        sequence=event.sequence,
    )


def number_in(value: Json) -> int:
    """A whole number out of an event.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"expected a whole number, found {value!r:.40}")  # noqa: TRY004 - malformed data, not a bug
    return value


def mark_in(event: Event) -> tuple[str, str | None]:
    """The field of a version that an event about it sets or clears, and its value."""
    field, sets = MARKS[event.kind]
    return field, str(event.data["reason"]) if sets else None


def version_in(event: Event) -> Version:
    """The version that an event of kind ``version-added`` made."""
    data = event.data
    return Version(
        event.name,
        number_in(data["number"]),
        Digest.parse(str(data["manifest"])),
        number_in(data["size"]),
        number_in(data["entries"]),
        event.at,
        event.actor,
    )


def dropped_in(event: Event) -> tuple[Digest, frozenset[Digest]]:
    """Subject and manifests of the statements that an event of kind ``statements-dropped`` forgot."""
    manifests = event.data["manifests"]
    if not isinstance(manifests, list):
        raise ValueError(f"expected a list of manifests, found {manifests!r:.40}")  # noqa: TRY004 - malformed data
    return Digest.parse(str(event.data["subject"])), frozenset(Digest.parse(str(found)) for found in manifests)


def referrer_in(event: Event) -> Referrer:
    """The referrer that an event of kind ``statement-added`` made."""
    data = event.data
    return Referrer(
        Digest.parse(str(data["subject"])),
        Digest.parse(str(data["manifest"])),
        str(data["artifactType"]),
        number_in(data["size"]),
        event.at,
    )
