"""Push: files become blobs, blobs an artifact, the artifact a version, and what is known of it is written beside.

Order, so that a crash at any point leaves nothing half-visible: blobs, config and manifest first (unreachable until
named), then statements (reachable from the manifest only), then the version, last the alias. Pushing the same files
again finds the same manifest, and therefore the same version.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from assay.errors import InvalidInput, StorageError
from assay.ports.formats import Format
from assay.ports.progress import SILENT, Progress
from assay.service.examine import inspect
from assay.service.registry import Registry
from assay.spec.inspection import Inspection, run_json
from assay.spec.json import Json
from assay.spec.manifest import Entry, Manifest, build
from assay.spec.records import Version
from assay.spec.reference import Reference, check_alias, check_name
from assay.spec.statement import Statement


@dataclass(frozen=True, slots=True)
class Claims:
    """What the person pushing says about the model; each non-empty field becomes a statement.

    Args:
        metrics: evaluation results.
        params: training parameters.
        base: what it was made from: a reference of this registry, or any name or URI.
        run: URI or id of the training run.
        note: free text.
        environment: as captured by ``assay.environment``.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    params: Mapping[str, Json] = field(default_factory=dict)
    base: str | None = None
    run: str | None = None
    note: str | None = None
    environment: Mapping[str, Json] | None = None


@dataclass(frozen=True, slots=True)
class Pushed:
    """The outcome of a push.

    Args:
        version: the version that is this artifact.
        new: whether it got its number just now.
        inspection: what was understood.
        statements: kinds of statement that were attached just now.
        alias: the alias that points at it now, if one was asked for.
    """

    version: Version
    new: bool
    inspection: Inspection
    statements: tuple[str, ...]
    alias: str | None


def push(
    registry: Registry,
    files: Mapping[str, Path],
    name: str,
    *,
    formats: Sequence[Format],
    claims: Claims = Claims(),
    alias: str | None = None,
    move: bool = False,
    progress: Progress = SILENT,
) -> Pushed:
    """Store *files* as one artifact and number it as a version of *name*.

    Args:
        registry: where to.
        files: entry path to local file, as ``assay.artifact.collect`` gives them.
        name: the model.
        formats: what to understand the files with.
        claims: what to say about it.
        alias: a movable name to point at the version.
        move: take the files over by link where that can be, and remove the originals once the version has its number.
        progress: hears about bytes stored.

    Raises:
        InvalidInput: the name, the alias, the files or the base cannot be accepted; nothing is stored.
        Conflict: a file changed while it was read, or the alias was moved by somebody else meanwhile.
        StorageError: the store is full or read-only; nothing is visible.
    """
    check_name(name)
    expect = None
    if alias is not None:
        held = registry.catalog.alias(name, check_alias(alias))
        expect = held.number if held else None
    base = _base(registry, claims.base)
    entries = _store(registry, files, move=move, progress=progress)
    manifest, config = build(entries)
    registry.blobs.add(config)
    registry.blobs.add(manifest.data)
    inspection = inspect(registry.tree(manifest), formats)
    attached = tuple(
        statement.kind
        for statement in _statements(manifest, inspection, claims, base)
        if registry.attach(statement, manifest)
    )
    version, new = registry.catalog.add_version(
        name, manifest.digest, size=manifest.size, entries=len(entries), actor=registry.actor
    )
    if alias is not None:
        registry.catalog.move_alias(
            name, alias, version.number, expect=expect, actor=registry.actor, reason="pushed with --alias"
        )
    if move:
        _remove(files)
    return Pushed(version, new, inspection, attached, alias)


def _store(registry: Registry, files: Mapping[str, Path], *, move: bool, progress: Progress) -> list[Entry]:
    progress.start("storing", sum(file.stat().st_size for file in files.values()))
    try:
        stored = registry.blobs.add_files(list(files.values()), link=move, progress=progress)
    finally:
        progress.finish()
    return [Entry(entry, digest, size) for entry, (digest, size) in zip(files, stored, strict=True)]


def _remove(files: Mapping[str, Path]) -> None:
    """Remove what was taken over, now that it has a name in the registry."""
    for file in dict.fromkeys(files.values()):
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError.of(error, f"{file} is stored, but the original cannot be removed") from error


def _base(registry: Registry, text: str | None) -> Mapping[str, Json] | None:
    """What ``--base`` says, resolved to a digest when it names a version here."""
    if text is None:
        return None
    if not text.strip():
        raise InvalidInput("the base is empty; expected a reference or a name", code="invalid-base")
    try:
        reference = Reference.parse(text)
    except InvalidInput:
        return {"relation": "finetuned-from", "name": text}
    if reference.host is not None or registry.catalog.version(reference.name) is None:
        return {"relation": "finetuned-from", "name": text}
    version = registry.resolve(reference)
    return {
        "relation": "finetuned-from",
        "name": text,
        "reference": version.reference,
        "manifest": str(version.manifest),
    }


def _statements(
    manifest: Manifest, inspection: Inspection, claims: Claims, base: Mapping[str, Json] | None
) -> list[Statement]:
    run = _run(inspection, (claims.run or "").strip() or None)
    said: list[tuple[str, Mapping[str, Json] | None]] = [
        ("description", inspection.to_json()),
        ("run", run),
        ("params", {"params": dict(claims.params)} if claims.params else None),
        ("metrics", {"metrics": dict(claims.metrics)} if claims.metrics else None),
        ("base", base),
        ("environment", claims.environment),
        ("note", {"text": claims.note} if claims.note else None),
    ]
    now = datetime.now(UTC).replace(microsecond=0)
    return [Statement(manifest.digest, kind, predicate, now) for kind, predicate in said if predicate]


def _run(inspection: Inspection, given: str | None) -> Mapping[str, Json] | None:
    """The training run: as given, else as the files name it."""
    if given is not None:
        scheme, colon, _ = given.partition("://")
        return {"uri": given, "system": scheme if colon else "unknown", "source": "given"}
    found = inspection.first("run")
    if found is None:
        return None
    return {**run_json(found), "source": "files"}
