"""Approvals: one person's word that a version may stand behind an alias, and whose words count.

A statement may come from anywhere, so what it says about its author is not believed: an approval counts as the word of
who attached it here, by the journal, and only when it says of itself that it is that person's. A copy therefore brings
no approvals along. Without a server the journal in turn believes who is asking (``ASSAY_ACTOR``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from assay.policy.promotion import Approval
from assay.service.registry import Registry
from assay.spec.digest import Digest
from assay.spec.json import Json
from assay.spec.records import EventKind, Referrer, Version
from assay.spec.reference import check_alias
from assay.spec.statement import Statement

KIND = "approval"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Approved:
    """The outcome of ``approve``.

    Args:
        version: what it is about.
        alias: which alias; any of the model's when None.
        approves: False: an earlier word is taken back.
        actor: whose word.
        new: False when this person's word was just that already.
    """

    version: Version
    alias: str | None
    approves: bool
    actor: str
    new: bool

    def to_json(self) -> dict[str, Json]:
        """As ``assay approve --json`` prints it."""
        return {
            "reference": self.version.reference,
            "digest": str(self.version.manifest),
            "alias": self.alias,
            "approves": self.approves,
            "actor": self.actor,
            "new": self.new,
        }


def approve(
    registry: Registry, version: Version, *, alias: str | None = None, note: str = "", withdraw: bool = False
) -> Approved:
    """Say that *version* may stand behind *alias*, or take that back; the latest word of a person counts.

    Raises:
        InvalidInput: that cannot be an alias.
        NotFound: the version's bytes were purged or removed.
        StorageError: the registry cannot be written.
    """
    if alias is not None:
        check_alias(alias)
    manifest = registry.manifest(version)
    actor, approves = registry.actor, not withdraw
    own = [word for word in _words(registry, version) if word.counts and word.actor == actor]
    # A word for every alias is also one for each that was spoken of: of both kinds the latest counts.
    scopes = {alias} if alias is not None else {None, *(word.alias for word in own)}
    if all(_stands(own, scope) is approves for scope in scopes):
        return Approved(version, alias, approves, actor, new=False)
    now = datetime.now(UTC)
    predicate: dict[str, Json] = {
        "approves": approves,
        "actor": actor,
        "model": version.name,
        "at": now.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        **({"alias": alias} if alias is not None else {}),
        **({"note": note.strip()} if note.strip() else {}),
    }
    registry.attach(Statement(manifest.digest, KIND, predicate, now.replace(microsecond=0)), manifest)
    return Approved(version, alias, approves, actor, new=True)


def approvals(registry: Registry, version: Version, alias: str) -> tuple[Sequence[Approval], Sequence[str]]:
    """The approvals of a version for an alias that hold, one per person, and why others do not count.

    Raises:
        NotFound, IntegrityError: a statement cannot be read.
    """
    latest: dict[str, _Word] = {}
    ignored: list[str] = []
    for word in _words(registry, version):
        if word.alias not in (None, alias):
            continue
        if not word.counts:
            ignored.append(f"one said to be by {word.said}, attached by {word.actor or 'somebody unknown'}")
            continue
        latest[word.actor] = word
    holding = [Approval(actor=word.actor, at=word.at, note=word.note) for word in latest.values() if word.approves]
    return holding, list(dict.fromkeys(ignored))


def attached_by(registry: Registry, version: Version, referrers: Sequence[Referrer]) -> Mapping[Digest, str]:
    """Who attached statements about a version, by the digest of the statement's manifest."""
    kinds = [EventKind.STATEMENT_ADDED]
    wanted = {referrer.manifest for referrer in referrers}
    found: dict[Digest, str] = {}
    # What was attached before the artifact was a version of this model is not in the model's history.
    for name in (version.name, None):
        if not wanted <= found.keys():
            for event in registry.catalog.events(name=name, kinds=kinds):
                if event.data.get("subject") == str(version.manifest):
                    found.setdefault(Digest.parse(str(event.data["manifest"])), event.actor)
    return found


def referring(registry: Registry, version: Version, *kinds: str) -> list[Referrer]:
    """Statements of some kinds about a version, oldest first; no other is read."""
    types = {Statement(version.manifest, kind, {}, _EPOCH).artifact_type for kind in kinds}
    return [one for one in registry.referrers(version.manifest) if one.artifact_type in types]


def _stands(own: Sequence[_Word], alias: str | None) -> bool:
    """Whether one person's words come to an approval for *alias*."""
    said = [word.approves for word in own if word.alias in (None, alias)]
    return bool(said) and said[-1]


@dataclass(frozen=True, slots=True)
class _Word:
    """One approval as it stands there: who attached it, and what it says."""

    actor: str
    said: str
    alias: str | None
    approves: bool
    note: str
    at: datetime

    @property
    def counts(self) -> bool:
        return bool(self.actor) and self.actor == self.said


def _words(registry: Registry, version: Version) -> list[_Word]:
    """Every approval of a version as a version of this model, oldest first."""
    referrers = referring(registry, version, KIND)
    actors = attached_by(registry, version, referrers) if referrers else {}
    words = []
    for referrer in referrers:
        said = registry.statement(referrer).predicate
        alias, approves = said.get("alias"), said.get("approves")
        if said.get("model") != version.name or not isinstance(approves, bool):
            continue
        if alias is not None and not isinstance(alias, str):
            continue
        words.append(
            _Word(
                actors.get(referrer.manifest, ""),
                str(said.get("actor", "")),
                alias,
                approves,
                str(said.get("note", "")),
                referrer.created,
            )
        )
    return words
