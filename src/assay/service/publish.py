"""Push: files become blobs, blobs an artifact, the artifact a version, and what is known of it is written beside.

What the policies make of the files is recorded as an ``audit`` statement. An alias is a promise to those who load by
it, so setting one is a gate. Under a policy that quarantines, what is not safe becomes a version of
``quarantine/NAME``. What rules ask of that alias holds here as it does for a promotion, and one that is protected is
refused before anything is stored.

Order, so that a crash at any point leaves nothing half-visible: blobs, config and manifest first (unreachable until
named), then statements (reachable from the manifest only), then the version, last the alias. Pushing the same files
again finds the same manifest, and therefore the same version.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from assay.errors import InvalidInput, Refused
from assay.policy.deciding import Decision
from assay.policy.policy import Gate, Handling
from assay.ports.progress import SILENT, Progress
from assay.service import promote, taking
from assay.service.evidence import Looked
from assay.service.examine import inspect
from assay.service.gate import Guard, audit_predicate, refusal
from assay.service.registry import Registry, holding
from assay.spec.digest import Digest
from assay.spec.inspection import Inspection, run_json
from assay.spec.json import Json
from assay.spec.lineage import Relation, Source
from assay.spec.manifest import Entry, Manifest, build
from assay.spec.records import Version
from assay.spec.reference import Reference, check_alias, check_name
from assay.spec.statement import Statement

QUARANTINE = "quarantine"
"""First part of the names under which a policy keeps what it does not let in."""


@dataclass(frozen=True, slots=True)
class Base:
    """What a model was made from.

    Args:
        name: a reference of this registry, or any name or URI.
        relation: how.
        source: who says so.
        evidence: what it was concluded from, where it was.
    """

    name: str
    relation: Relation = Relation.FINETUNED_FROM
    source: Source = Source.GIVEN
    evidence: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Claims:
    """What the person pushing says about the model; each non-empty field becomes a statement.

    Args:
        metrics: evaluation results.
        params: training parameters.
        bases: what it was made from.
        run: URI or id of the training run.
        note: free text.
        environment: as captured by ``assay.environment``.
        conversion: what was converted into it, and how that was proved.
        example: inputs and the outputs they gave, as ``assay.spec.example`` writes them.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    params: Mapping[str, Json] = field(default_factory=dict)
    bases: tuple[Base, ...] = ()
    run: str | None = None
    note: str | None = None
    environment: Mapping[str, Json] | None = None
    conversion: Mapping[str, Json] | None = None
    example: Mapping[str, Json] | None = None


@dataclass(frozen=True, slots=True)
class Pushed:
    """The outcome of a push.

    Args:
        version: the version that is this artifact.
        new: whether it got its number just now.
        inspection: what was understood.
        statements: kinds of statement that were attached just now.
        alias: the alias that points at it now, if one was asked for.
        decision: what the policies make of it.
    """

    version: Version
    new: bool
    inspection: Inspection
    statements: tuple[str, ...]
    alias: str | None
    decision: Decision


@holding
def push(
    registry: Registry,
    files: Mapping[str, Path],
    name: str,
    *,
    guard: Guard,
    claims: Claims = Claims(),
    alias: str | None = None,
    move: Path | None = None,
    progress: Progress = SILENT,
) -> Pushed:
    """Store *files* as one artifact and number it as a version of *name*.

    Args:
        registry: where to.
        files: entry path to local file, as ``assay.artifact.collect`` gives them.
        name: the model.
        guard: what to understand the files with, and the policies.
        claims: what to say about it.
        alias: a movable name to point at the version.
        move: the path that the files were collected from, to take them over: by hard link where that can be. The
            originals there are removed once the version has its number; symbolic links there, never what they point
            to. What was changed or replaced meanwhile is left, and ``guard.warn`` hears of it. When the push fails or
            is refused, all stays as it was.
        progress: hears about bytes stored.

    Raises:
        InvalidInput: the name, the alias, the files or the base cannot be accepted; nothing is stored.
        Refused: the policies do not allow it: the files are kept as a version of ``quarantine/NAME`` (code
            ``quarantined``), or as the version they are while the alias stays where it was (codes
            ``not-safe``, ``not-signed``, ``promotion-refused``); or the alias is protected (code
            ``alias-protected``), and nothing is stored.
        Conflict: a file changed while it was read, or the alias was moved by somebody else meanwhile.
        StorageError: the store is full or read-only; nothing is visible.
    """
    originals = [] if move is None else taking.originals_of(move, files)
    try:
        pushed = _push(registry, files, name, guard, claims, alias, originals, progress)
        left = _remove(registry, pushed.version, originals) if originals else []
    except BaseException:
        _give_back(originals, guard, progress)
        raise
    if left:
        guard.warn(f"changed or replaced since stored, therefore left: {_listed([one.path for one in left])}")
        _give_back(left, guard, progress)
    return pushed


def _push(
    registry: Registry,
    files: Mapping[str, Path],
    name: str,
    guard: Guard,
    claims: Claims,
    alias: str | None,
    originals: Sequence[taking.Original],
    progress: Progress,
) -> Pushed:
    check_name(name)
    wish = None if alias is None else _wish(registry, guard, name, alias)
    bases = [base_predicate(registry, base) for base in claims.bases]
    entries = _store(registry, files, originals, progress)
    manifest, config = build(entries)
    registry.blobs.add(config)
    registry.blobs.add(manifest.data)
    tree = registry.tree(manifest)
    inspection = inspect(tree, guard.auditing().formats)
    report, decision = guard.judge(tree, inspection, subject=str(manifest.digest))
    handling = decision.handling(Gate.PUSH)
    if handling is Handling.WARN:
        guard.admit(Gate.PUSH, decision, name)
    given = name
    if handling is Handling.QUARANTINE:
        name, alias = check_name(f"{QUARANTINE}/{name}"), None
    said = [*_said(inspection, claims, bases), ("audit", audit_predicate(report, decision))]
    attached = _attach(registry, manifest, said)
    version, new = registry.catalog.add_version(
        name, manifest.digest, size=manifest.size, entries=len(entries), actor=registry.actor
    )
    if handling is Handling.QUARANTINE:
        raise _quarantined(given, version, decision)
    if alias is not None and wish is not None:
        kept = f"the files are stored as {version.reference}; alias {alias} was not moved"
        guard.admit(Gate.PROMOTE, decision, version.reference, instead=kept)
        guard.admit_signed(Gate.PROMOTE, registry, version, instead=kept)
        looked = Looked(tree, inspection, decision)
        planned = promote.plan(registry, version, alias, guard=guard, request=wish, looked=looked)
        promote.carry_out(registry, planned, instead=kept)
    return Pushed(version, new, inspection, attached, alias, decision)


def _wish(registry: Registry, guard: Guard, name: str, alias: str) -> promote.Request:
    """What a push with an alias asks for, once it is known that it may: who holds it now is compared with."""
    hint = f"push without the alias, then assay promote {name} {alias}"
    promote.check_unprotected(
        guard, name, check_alias(alias), registry.actor, doing=f"pushing to {name}:{alias}", hint=hint
    )
    now = registry.catalog.alias(name, alias)
    return promote.Request(reason="pushed with --alias", expect="none" if now is None else now.number, kind="push")


def _quarantined(name: str, version: Version, decision: Decision) -> Refused:
    error = refusal(Gate.PUSH, decision, name, instead=f"the files are kept as {version.reference}")
    return Refused(
        error.message,
        code="quarantined",
        hint=f"assay scan {version.reference} shows every finding; an exception in the policy lets it be pushed again",
        **error.details,
    )


def _store(
    registry: Registry, files: Mapping[str, Path], originals: Sequence[taking.Original], progress: Progress
) -> list[Entry]:
    """Store the files; those of originals that are no links may be taken over."""
    own = {one.entry for one in originals if not one.link}
    stored: dict[str, tuple[Digest, int]] = {}
    progress.start("storing", sum(_size(file) for file in files.values()))
    try:
        for link in (False, True):  # what is taken over comes last: a copy of the same bytes would replace it
            some = {entry: file for entry, file in files.items() if (entry in own) is link}
            if some:
                kept = registry.blobs.add_files(list(some.values()), link=link, progress=progress)
                stored.update(zip(some, kept, strict=True))
    finally:
        progress.finish()
    return [Entry(entry, *stored[entry]) for entry in files]


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0  # it went since it was listed; storing it says so


def _remove(registry: Registry, version: Version, originals: Sequence[taking.Original]) -> Sequence[taking.Original]:
    stored = {entry.path: entry.digest for entry in registry.manifest(version).entries()}
    return taking.remove(originals, registry.blobs, stored)


def _give_back(originals: Sequence[taking.Original], guard: Guard, progress: Progress) -> None:
    if failed := taking.part(originals, progress=progress):
        guard.warn(f"may still share their bytes with the store, copy them before writing to them: {_listed(failed)}")


def _listed(paths: Sequence[Path]) -> str:
    more = f" and {len(paths) - 5} more" if len(paths) > 5 else ""
    return f"{', '.join(map(str, paths[:5]))}{more}"


def base_predicate(registry: Registry, base: Base) -> Mapping[str, Json]:
    """What a ``base`` statement says, with a digest when the name is a version here.

    Raises:
        InvalidInput: the name is empty (code ``invalid-base``).
        NotFound: the model is here, and has no such version.
    """
    text = base.name
    said: dict[str, Json] = {"relation": base.relation.value, "name": text, "source": base.source.value}
    if base.evidence:
        said["evidence"] = base.evidence
    if not text.strip():
        raise InvalidInput("the base is empty; expected a reference or a name", code="invalid-base")
    try:
        reference = Reference.parse(text)
    except InvalidInput:
        return said
    if reference.host is not None or registry.catalog.version(reference.name) is None:
        return said
    version = registry.resolve(reference)
    return {**said, "reference": version.reference, "manifest": str(version.manifest)}


def _said(
    inspection: Inspection, claims: Claims, bases: Sequence[Mapping[str, Json]]
) -> list[tuple[str, Mapping[str, Json] | None]]:
    """Kinds of statement, each with what it says."""
    return [
        ("description", inspection.to_json()),
        ("run", _run(inspection, (claims.run or "").strip() or None)),
        ("params", {"params": dict(claims.params)} if claims.params else None),
        ("metrics", {"metrics": dict(claims.metrics)} if claims.metrics else None),
        *(("base", base) for base in bases),
        ("environment", claims.environment),
        ("note", {"text": claims.note} if claims.note else None),
        ("conversion", claims.conversion),
        ("example", claims.example),
    ]


def _attach(
    registry: Registry, manifest: Manifest, said: Sequence[tuple[str, Mapping[str, Json] | None]]
) -> tuple[str, ...]:
    """Attach what is said and was not said before; the kinds of it."""
    now = datetime.now(UTC)
    return tuple(
        kind
        for kind, predicate in said
        if predicate
        and registry.attach(
            Statement(
                manifest.digest, kind, _anew(registry, manifest, kind, predicate, now), now.replace(microsecond=0)
            ),
            manifest,
        )
    )


def _anew(
    registry: Registry, manifest: Manifest, kind: str, predicate: Mapping[str, Json], now: datetime
) -> Mapping[str, Json]:
    """What is said, as a statement of its own where it goes back to an example that another one had replaced."""
    if kind != "example":
        return predicate
    earlier = [said.predicate for said in registry.readable(manifest.digest, kind)]
    plain = [{name: value for name, value in one.items() if name != "at"} for one in earlier]
    if predicate not in plain:
        return predicate
    return earlier[-1] if plain[-1] == predicate else {**predicate, "at": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")}


def _run(inspection: Inspection, given: str | None) -> Mapping[str, Json] | None:
    """The training run: as given, else as the files name it."""
    if given is not None:
        scheme, colon, _ = given.partition("://")
        return {"uri": given, "system": scheme if colon else "unknown", "source": "given"}
    found = inspection.first("run")
    if found is None:
        return None
    return {**run_json(found), "source": "files"}
