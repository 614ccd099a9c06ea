"""What is there: listings, cards and histories as JSON values, the same for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from assay.errors import AssayError, NotFound
from assay.service.garbage import is_packed_only
from assay.service.registry import Registry
from assay.spec.json import Json
from assay.spec.manifest import Entry
from assay.spec.records import Event, Model, Version
from assay.spec.reference import check_name
from assay.spec.statement import Statement


def list_models(registry: Registry, prefix: str = "") -> list[dict[str, Json]]:
    """Every model whose name starts with *prefix*, by name."""
    return [_model(model) for model in registry.catalog.models(prefix=prefix)]


_APART = frozenset({"description", "audit"})
"""Kinds of statement that a card shows apart from what people and processes said."""


def list_versions(registry: Registry, name: str, *, limit: int | None = None) -> dict[str, Json]:
    """A model's versions, newest first, with what their descriptions and metrics say.

    Raises:
        NotFound: no such model.
    """
    versions = versions_of(registry, name, limit=limit)
    aliases = aliases_of(registry, name)
    rows = [_version_row(registry, version, aliases.get(version.number, [])) for version in versions]
    return {"name": name, "versions": rows}


def versions_of(registry: Registry, name: str, *, limit: int | None = None) -> Sequence[Version]:
    """A model's versions, newest first.

    Raises:
        NotFound: no such model.
    """
    versions = registry.catalog.versions(check_name(name), limit=limit)
    if not versions:
        near = [model.name for model in registry.catalog.models(prefix=name, limit=3)]
        raise NotFound(
            f"no model {name!r} in {registry.place}",
            code="model-not-found",
            hint=f"did you mean {' or '.join(near)}?" if near else "assay ls shows the models here",
        )
    return versions


def aliases_of(registry: Registry, name: str) -> dict[int, list[str]]:
    """A model's aliases by the number of the version they point at."""
    aliases: dict[int, list[str]] = {}
    for alias in registry.catalog.aliases(name):
        aliases.setdefault(alias.number, []).append(alias.alias)
    return aliases


def show(registry: Registry, version: Version) -> dict[str, Json]:
    """One version's card: identity, files, and everything said about it."""
    aliases = [alias.alias for alias in registry.catalog.aliases(version.name) if alias.number == version.number]
    body = version_json(version, aliases)
    if version.gone:
        return body
    manifest = registry.manifest(version)
    statements = registry.statements(version.manifest)
    body["files"] = [_file(registry, entry) for entry in manifest.entries()]
    body["description"] = _latest(statements, "description")
    body["audit"] = _latest(statements, "audit")
    body["statements"] = [_statement(statement) for statement in statements if statement.kind not in _APART]
    return body


def history(registry: Registry, name: str, *, limit: int | None = None) -> list[dict[str, Json]]:
    """Who did what to a model and when, newest first.

    Raises:
        NotFound: nothing ever happened to a model of this name.
    """
    events = registry.catalog.events(name=check_name(name), limit=limit)
    if not events:
        raise NotFound(
            f"no model {name!r} in {registry.place}", code="model-not-found", hint="assay ls shows the models here"
        )
    return [_event(event) for event in events]


def stamp(moment: datetime) -> str:
    """A time as JSON holds it: UTC, RFC 3339."""
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def _model(model: Model) -> dict[str, Json]:
    return {
        "name": model.name,
        "versions": model.versions,
        "latest": version_json(
            model.latest, [alias for alias, at in model.aliases.items() if at == model.latest.number]
        ),
        "aliases": dict(model.aliases),
    }


def version_json(version: Version, aliases: Sequence[str]) -> dict[str, Json]:
    """A version as JSON holds it wherever it is shown."""
    body: dict[str, Json] = {
        "reference": version.reference,
        "name": version.name,
        "version": version.number,
        "digest": str(version.manifest),
        "size": version.size,
        "file_count": version.entries,
        "created": stamp(version.created),
        "actor": version.actor,
        "aliases": sorted(aliases),
    }
    for field in ("purged", "yanked", "removed", "pinned"):
        reason = getattr(version, field)
        if reason is not None:
            body[field] = reason
    return body


def _version_row(registry: Registry, version: Version, aliases: Sequence[str]) -> dict[str, Json]:
    """A version with its summary and metrics; a damaged statement leaves them out, ``assay verify`` says why."""
    body = version_json(version, aliases)
    if not version.gone:
        try:
            statements = registry.statements(version.manifest)
        except AssayError:
            return body
        description = _latest(statements, "description")
        if description and isinstance(summary := description.get("summary"), Mapping):
            body["summary"] = summary
        metrics = _latest(statements, "metrics")
        if metrics and isinstance(values := metrics.get("metrics"), Mapping):
            body["metrics"] = {key: value for key, value in values.items() if isinstance(value, (int, float))}
    return body


def _file(registry: Registry, entry: Entry) -> dict[str, Json]:
    body: dict[str, Json] = {"path": entry.path, "digest": str(entry.digest), "size": entry.size}
    return {**body, "packed": True} if is_packed_only(registry, entry.digest) else body


def _latest(statements: Sequence[Statement], kind: str) -> Mapping[str, Json] | None:
    found = [statement for statement in statements if statement.kind == kind]
    return found[-1].predicate if found else None


def _statement(statement: Statement) -> dict[str, Json]:
    return {
        "kind": statement.kind,
        "predicate_type": statement.predicate_type,
        "created": stamp(statement.created),
        "predicate": statement.predicate,
    }


def _event(event: Event) -> dict[str, Json]:
    return {
        "sequence": event.sequence,
        "kind": event.kind.value,
        "name": event.name,
        "at": stamp(event.at),
        "actor": event.actor,
        "data": dict(event.data),
    }
