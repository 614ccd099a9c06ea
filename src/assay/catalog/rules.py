"""What a change of the catalog means: the decisions, written once for every catalog.

``JournaledCatalog`` is the write half of a catalog. It asks the read half what is there, decides which event to record,
and reads the result back; where rows lie, and how a change is made atomic, is left to ``_change``.

Rule for editors: no I/O here, and no decision anywhere else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Protocol

from assay.errors import Conflict, NotFound
from assay.ports.catalog import CatalogReader
from assay.spec.digest import Digest
from assay.spec.json import Json
from assay.spec.records import MARKS, Alias, EventKind, Version


class Change(Protocol):
    """One atomic change under way: nobody else writes until it is over."""

    @property
    def rows(self) -> CatalogReader:
        """The catalog as it is, including what this change recorded."""
        ...

    def record(self, kind: EventKind, name: str, actor: str, data: Mapping[str, Json]) -> None:
        """Journal an event, durably, and apply it.

        Raises:
            StorageError: it is not recorded.
        """
        ...


class JournaledCatalog(ABC):
    """The write half of a catalog; see ``assay.ports.catalog.CatalogWriter`` for the contracts."""

    @abstractmethod
    def _change(self) -> AbstractContextManager[Change]:
        """Begin a change; it becomes visible at the end, and did not happen when an error leaves."""

    def add_version(self, name: str, manifest: Digest, *, size: int, entries: int, actor: str) -> tuple[Version, bool]:
        """Number an artifact; the version and whether it is new."""
        with self._change() as change:
            for version in change.rows.by_manifest(manifest, name=name):
                if not version.gone:
                    return version, False
            latest = change.rows.version(name)
            number = latest.number + 1 if latest else 1
            change.record(
                EventKind.VERSION_ADDED,
                name,
                actor,
                {"number": number, "manifest": str(manifest), "size": size, "entries": entries},
            )
            added = change.rows.version(name, number)
            assert added is not None
            return added, True

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

        Raises:
            NotFound: there is no such version, or it was removed or purged (codes ``version-not-found``,
                ``version-removed``, ``purged``).
            Conflict: it points elsewhere now (code ``alias-moved``), or the version was yanked (code
                ``version-yanked``); nothing is changed.
        """
        with self._change() as change:
            version = _there(change.rows, name, number)
            now = change.rows.alias(name, alias)
            if now is not None and now.number == number:
                return now
            _check_usable(version, alias)
            if (now.number if now else None) != expect:
                raise _moved(name, alias, expect, now)
            data: dict[str, Json] = {"alias": alias, "number": number, "from": expect, "reason": reason}
            if evidence:
                data["evidence"] = evidence
            change.record(EventKind.ALIAS_MOVED, name, actor, data)
            moved = change.rows.alias(name, alias)
            assert moved is not None
            return moved

    def remove_alias(self, name: str, alias: str, *, actor: str, reason: str = "", expect: int | None = None) -> None:
        """Remove an alias.

        Raises:
            NotFound: there is none (code ``alias-not-found``).
            Conflict: it points elsewhere now (code ``alias-moved``); nothing is changed.
        """
        with self._change() as change:
            now = change.rows.alias(name, alias)
            if now is None:
                raise NotFound(f"no such alias: {name}:{alias}", code="alias-not-found", name=name, alias=alias)
            if expect is not None and now.number != expect:
                raise _moved(name, alias, expect, now)
            change.record(EventKind.ALIAS_REMOVED, name, actor, {"alias": alias, "from": now.number, "reason": reason})

    def add_referrer(self, subject: Digest, manifest: Digest, artifact_type: str, *, size: int, actor: str) -> bool:
        """Attach a statement; False when it was already attached."""
        with self._change() as change:
            if any(referrer.manifest == manifest for referrer in change.rows.referrers(subject)):
                return False
            change.record(
                EventKind.STATEMENT_ADDED,
                "",
                actor,
                {"subject": str(subject), "manifest": str(manifest), "artifactType": artifact_type, "size": size},
            )
            return True

    def drop_referrers(
        self, subject: Digest, manifests: Sequence[Digest], *, actor: str, said: Sequence[Json] = ()
    ) -> int:
        """Forget statements whose bytes are about to go as garbage; how many were attached."""
        with self._change() as change:
            wanted = set(manifests)
            attached = [found.manifest for found in change.rows.referrers(subject) if found.manifest in wanted]
            if attached:
                dropped: list[Json] = [str(manifest) for manifest in attached]
                data: dict[str, Json] = {"subject": str(subject), "manifests": dropped}
                if said:
                    data["said"] = list(said)
                change.record(EventKind.STATEMENTS_DROPPED, "", actor, data)
            return len(attached)

    def mark(self, name: str, number: int, kind: EventKind, *, reason: str, actor: str) -> Version:
        """Yank, pin or remove a version, or take that back where it can be; the version as it is then.

        Raises:
            NotFound: there is no such version, or it was removed (codes ``version-not-found``, ``version-removed``).
            Conflict: a version is to be removed that an alias points at or that is pinned (codes ``alias-holds``,
                ``version-pinned``); nothing is changed.
        """
        field, sets = MARKS[kind]
        with self._change() as change:
            version = _there(change.rows, name, number)
            if (getattr(version, field) is not None) == sets:
                return version
            if kind is EventKind.REMOVED:
                _check_removable(change.rows, version)
            change.record(kind, name, actor, {"number": number, "reason": reason})
            marked = change.rows.version(name, number)
            assert marked is not None
            return marked

    def record_copy(self, manifest: Digest, place: str, *, name: str, actor: str) -> None:
        """Remember that an artifact was also copied to *place*."""
        with self._change() as change:
            change.record(EventKind.COPIED, name, actor, {"manifest": str(manifest), "place": place})

    def mark_purged(self, manifest: Digest, *, reason: str, actor: str) -> Sequence[Version]:
        """Record that the bytes of an artifact are removed for good; the versions it hits.

        A manifest whose versions are all purged already is no change; one that no version has is recorded.
        """
        with self._change() as change:
            versions = change.rows.by_manifest(manifest)
            hit = {version.reference for version in versions if version.purged is None}
            if versions and not hit:
                return ()
            change.record(EventKind.PURGED, "", actor, {"manifest": str(manifest), "reason": reason})
            return [version for version in change.rows.by_manifest(manifest) if version.reference in hit]


def now() -> datetime:
    """The time, UTC."""
    return datetime.now(UTC)


def concerns(kind: EventKind, data: Mapping[str, Json]) -> Digest | None:
    """The artifact that an event without a name is about: it belongs to the history of every model that has it."""
    if kind in {EventKind.STATEMENT_ADDED, EventKind.STATEMENTS_DROPPED}:
        return Digest.parse(str(data["subject"]))
    if kind in {EventKind.PURGED, EventKind.COPIED}:
        return Digest.parse(str(data["manifest"]))
    return None


def _there(rows: CatalogReader, name: str, number: int) -> Version:
    version = rows.version(name, number)
    if version is None:
        raise NotFound(f"no such version: {name}:{number}", code="version-not-found", name=name, number=number)
    if version.removed is not None:
        raise NotFound(
            f"{version.reference} was removed: {version.removed}",
            code="version-removed",
            hint=f"assay history {name} says when and by whom",
        )
    return version


def _check_usable(version: Version, alias: str) -> None:
    """Refuse to point an alias at what became unfit since it was decided on."""
    if version.purged is not None:
        raise NotFound(
            f"the bytes of {version.reference} were removed for good: {version.purged}; nothing was changed",
            code="purged",
        )
    if version.yanked is not None:
        raise Conflict(
            f"alias {version.name}:{alias} cannot move to {version.reference}: it was yanked: {version.yanked}; "
            "nothing was changed",
            code="version-yanked",
            hint=f"assay yank {version.reference} --undo says that it may be used after all",
        )


def _check_removable(rows: CatalogReader, version: Version) -> None:
    holding = [alias.alias for alias in rows.aliases(version.name) if alias.number == version.number]
    if holding:
        raise Conflict(
            f"{version.reference} cannot be removed: alias {holding[0]} points at it; nothing was changed",
            code="alias-holds",
            hint="move the alias first",
        )
    if version.pinned is not None:
        raise Conflict(
            f"{version.reference} cannot be removed: it is pinned ({version.pinned}); nothing was changed",
            code="version-pinned",
            hint=f"assay unpin {version.reference}",
        )


def _moved(name: str, alias: str, expect: int | None, now: Alias | None) -> Conflict:
    expected = "no such alias" if expect is None else f"version {expect}"
    found = "no such alias" if now is None else f"version {now.number}"
    return Conflict(
        f"alias {name}:{alias} was moved by somebody else: expected {expected}, found {found}; nothing was changed",
        code="alias-moved",
        hint=f"look at assay history {name}, then decide again",
        name=name,
        alias=alias,
    )
