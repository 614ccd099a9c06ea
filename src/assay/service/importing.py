"""Import: what another registry, cache or folder holds becomes versions here, with what is known of it there.

Every version is pushed as any other: stored, described, audited, numbered. Its bytes are compared with what the other
place says about them, or, where that says nothing, with a second reading. Where it came from is a statement of kind
``origin``, by which a second import finds what the first one brought.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from assay.errors import AssayError, BadFormat, IntegrityError, InvalidInput, StorageError
from assay.ports.importers import Checksum, Files, Importer, Offered, Unreadable
from assay.ports.progress import SILENT, Progress
from assay.service import promote
from assay.service.gate import Guard
from assay.service.publish import Base, Claims, base_predicate, push
from assay.service.registry import Registry, holding
from assay.spec.digest import Digest
from assay.spec.evaluation import KIND, Evaluation
from assay.spec.json import Json, canonical
from assay.spec.manifest import Manifest
from assay.spec.records import Version
from assay.spec.reference import check_alias, check_name
from assay.spec.statement import Statement, artifact_type_of

_CHUNK = 1 << 20
_ORIGIN = artifact_type_of("origin")


@dataclass(frozen=True, slots=True)
class Imported:
    """The outcome for one version there.

    Args:
        model, label: as it is called there.
        version: what it is here; None when it could not be imported.
        new: whether it got its number just now.
        known: whether an earlier import had brought it.
        aliases: those that point at it here now because they did there.
        kept: alias to why it was not moved.
        checked: how many files were compared with a checksum of the other place.
        error: why it could not be imported.
    """

    model: str
    label: str
    version: Version | None = None
    new: bool = False
    known: bool = False
    aliases: tuple[str, ...] = ()
    kept: Mapping[str, str] = field(default_factory=dict)
    checked: int = 0
    error: AssayError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How names there become names here.

    Args:
        name: the one model that everything becomes a version of; None keeps the models apart.
        prefix: put before every name (``team/``).
        aliases: whether aliases are taken over.
    """

    name: str | None = None
    prefix: str = ""
    aliases: bool = True

    def model(self, theirs: str) -> str:
        """The name here for a name there.

        Raises:
            InvalidInput: nothing in it can be part of a name (code ``invalid-name``).
        """
        if self.name is not None:
            return check_name(self.name)
        return check_name(self.prefix + model_name(theirs))


def run_import(
    registry: Registry, importer: Importer, *, guard: Guard, plan: Plan, progress: Progress = SILENT
) -> Iterator[Imported]:
    """Import every version, oldest first; what fails is an outcome, and does not stop the rest.

    Raises:
        NotFound: the place is not there.
        InvalidInput: two models there would get one name here (code ``import-name-taken``).
        StorageError: the store is full or read-only.
    """
    theirs: dict[str, str] = {}
    brought = _Brought(registry)
    for found in importer.offered():
        try:
            name = plan.model(found.model)
        except InvalidInput as error:
            yield Imported(found.model, found.label, error=error)
            continue
        first = theirs.setdefault(name, found.model)
        if plan.name is None and first != found.model:
            raise InvalidInput(
                f"{first!r} and {found.model!r} would both be called {name} here",
                code="import-name-taken",
                hint="import one at a time: --model THEIRS NAME",
            )
        if isinstance(found, Unreadable):
            yield Imported(found.model, found.label, error=found.error)
            continue
        try:
            version = brought.find(name, _origin(importer, found))
            if version is not None:
                moved, kept = _aliases(registry, version, found, guard) if plan.aliases else ((), {})
                yield Imported(found.model, found.label, version, known=True, aliases=moved, kept=kept)
                continue
            yield _import_one(registry, importer, found, name, guard=guard, plan=plan, progress=progress)
        except AssayError as error:
            if error.code in {"store-full", "store-read-only"}:
                raise
            yield Imported(found.model, found.label, error=error)
        except OSError as error:
            failure = StorageError.of(error, f"cannot read {found.model} {found.label} of {importer.place}")
            if failure.code == "store-full":
                raise failure from error
            yield Imported(found.model, found.label, error=unreadable(failure.message))


def unreadable(message: str) -> StorageError:
    """What a file or folder there is that may not be read, or vanished."""
    return StorageError(message, code="unreadable", hint="ask its owner for the right to read, then import again")


def model_name(theirs: str) -> str:
    """The name here that is nearest to a name elsewhere.

    >>> model_name("Fraud Model_v2"), model_name("org/BERT-base--uncased"), model_name("clf.v1")
    ('fraud-model_v2', 'org/bert-base--uncased', 'clf.v1')
    """
    parts = [re.sub(r"[^a-z0-9._-]+", "-", part.lower()) for part in theirs.split("/")]
    parts = [re.sub(r"[._-]*[._][._-]*", lambda found: _separator(found.group()), part) for part in parts]
    return "/".join(part.strip("-._") for part in parts if part.strip("-._"))


def alias_name(theirs: str) -> str | None:
    """The alias here that is nearest to a movable name elsewhere; None when there is none.

    >>> alias_name("champion"), alias_name("1.0"), alias_name("feature/x"), alias_name("3")
    ('champion', 'v1.0', 'feature-x', 'v3')
    """
    text = re.sub(r"[^A-Za-z0-9_.-]+", "-", theirs).strip("-.")[:127]
    if text[:1].isdigit():
        text = f"v{text}"
    try:
        return check_alias(text)
    except InvalidInput:
        return None


def _separator(text: str) -> str:
    """A separator that names may hold, for a run of them that they may not."""
    return text if text in {".", "_", "__"} else "-"


@holding
def _import_one(
    registry: Registry,
    importer: Importer,
    found: Offered,
    name: str,
    *,
    guard: Guard,
    plan: Plan,
    progress: Progress,
) -> Imported:
    origin = _origin(importer, found)
    _check_said(found, origin)
    with found.open() as files:
        read = read_source(files, f"{importer.place}: {found.model} {found.label}", progress)
        pushed = push(registry, files.paths, name, guard=guard, claims=_claims(registry, found), progress=progress)
    version = pushed.version
    manifest = registry.manifest(version)
    _compare(version, manifest, read)
    for statement in _said(manifest.digest, found, origin):
        registry.attach(statement, manifest)
    moved, kept = _aliases(registry, version, found, guard) if plan.aliases else ((), {})
    checked = len(files.checksums)
    return Imported(found.model, found.label, version, new=pushed.new, aliases=moved, kept=kept, checked=checked)


def _check_said(found: Offered, origin: Mapping[str, Json]) -> None:
    """Make sure that what is said there can be written down here, before anything is stored.

    Raises:
        BadFormat: a text that is no Unicode, or a number that is none (code ``import-unwritable``).
    """
    results = [[dict(result.metrics), result.dataset, result.digest] for result in found.results]
    try:
        canonical([origin, dict(found.params), dict(found.metrics), found.run, found.note, found.base, results])
    except (ValueError, TypeError, RecursionError) as error:
        raise BadFormat(
            f"what is known of it there cannot be written down: {error!s:.200}",
            code="import-unwritable",
            hint="rename it or mend what is said of it there, or push its files: assay push",
        ) from error


def read_source(files: Files, what: str, progress: Progress = SILENT) -> dict[str, Digest]:
    """Read every file once and compare it with what the other place says about it; the digests of what was read.

    Raises:
        IntegrityError: bytes there are not what they should be (code ``checksum-mismatch``).
        InvalidInput: a checksum of an unknown kind.
    """
    found = {}
    progress.start("checking", sum(file.stat().st_size for file in files.paths.values()))
    try:
        for entry, file in files.paths.items():
            digest, said = _read(file, files.checksums.get(entry), progress)
            expected = files.checksums[entry].hex if entry in files.checksums else said
            if said != expected:
                raise IntegrityError(
                    f"{what}: {entry} is damaged there: expected {files.checksums[entry].algorithm} {expected}, "
                    f"found {said}; nothing was imported of this version",
                    code="checksum-mismatch",
                    hint="fetch it there again",
                )
            found[entry] = digest
    finally:
        progress.finish()
    return found


def _read(file: Path, checksum: Checksum | None, progress: Progress) -> tuple[Digest, str]:
    """The digest of a file, and its checksum of the wanted kind; both in one reading."""
    own = hashlib.sha256()
    theirs = _hasher(checksum, file.stat().st_size)
    with file.open("rb") as stream:
        while data := stream.read(_CHUNK):
            own.update(data)
            if theirs is not None:
                theirs.update(data)
            progress.advance(len(data))
    return Digest("sha256", own.hexdigest()), theirs.hexdigest() if theirs is not None else own.hexdigest()


def _hasher(checksum: Checksum | None, size: int) -> hashlib._Hash | None:
    if checksum is None or checksum.algorithm == "sha256":
        return None
    # Neither is trusted with anything: they find bytes that rotted, by what the other place wrote down.
    if checksum.algorithm == "md5":
        return hashlib.md5(usedforsecurity=False)
    if checksum.algorithm == "git-sha1":
        return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    raise InvalidInput(f"unknown kind of checksum: {checksum.algorithm!r}", code="unknown-checksum")


def _compare(version: Version, manifest: Manifest, read: Mapping[str, Digest]) -> None:
    for entry in manifest.entries():
        if read[entry.path] != entry.digest:
            raise IntegrityError(
                f"{entry.path} changed there while it was imported: read {read[entry.path].short}, stored "
                f"{entry.digest.short} as {version.reference}",
                code="source-changed",
                hint=f"import again when nothing writes there; assay yank {version.reference} marks this one unfit",
            )


def _claims(registry: Registry, found: Offered) -> Claims:
    base = (Base(found.base),) if found.base and not _misleads(registry, found.base) else ()
    return Claims(metrics=found.metrics, params=found.params, bases=base, run=found.run, note=found.note)


def _misleads(registry: Registry, base: str) -> bool:
    """Whether a name there would be taken for a version here that does not exist."""
    try:
        base_predicate(registry, Base(base))
    except AssayError:
        return True
    return False


def _origin(importer: Importer, found: Offered) -> dict[str, Json]:
    """What an ``origin`` statement says; two imports of one version say the same."""
    said: dict[str, Json] = {
        "system": importer.system,
        "place": importer.place,
        "model": found.model,
        "version": found.label,
    }
    optional: dict[str, Json] = {
        "created": found.created,
        "actor": found.actor,
        "tags": dict(found.tags),
        "aliases": list(found.aliases),
        "run": dict(found.run_details),
    }
    return said | {key: value for key, value in optional.items() if value}


class _Brought:
    """Which versions earlier imports made, by where they came from."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._by_name: dict[str, dict[tuple[Json, ...], Version]] = {}

    def find(self, name: str, origin: Mapping[str, Json]) -> Version | None:
        """The version that was made of the same version there."""
        if name not in self._by_name:
            self._by_name[name] = dict(self._read(name))
        return self._by_name[name].get(_key(origin))

    def _read(self, name: str) -> Iterator[tuple[tuple[Json, ...], Version]]:
        for version in self._registry.catalog.versions(name):
            for referrer in () if version.gone else self._registry.referrers(version.manifest):
                if referrer.artifact_type == _ORIGIN:
                    yield _key(self._registry.statement(referrer).predicate), version


def _key(origin: Mapping[str, Json]) -> tuple[Json, ...]:
    return tuple(origin.get(field) for field in ("system", "place", "model", "version"))


def _said(subject: Digest, found: Offered, origin: Mapping[str, Json]) -> Iterator[Statement]:
    now = datetime.now(UTC).replace(microsecond=0)
    yield Statement(subject, "origin", origin, now)
    for result in found.results:
        # Two sets of data of one name are two: what was measured on them must not be compared.
        dataset = f"{result.dataset}@{result.digest}" if result.dataset and result.digest else result.dataset
        said = Evaluation(metrics=result.metrics, dataset=dataset, run=found.run, at=now)
        yield Statement(subject, KIND, said.predicate(), now)


def _aliases(
    registry: Registry, version: Version, found: Offered, guard: Guard
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Take over the aliases that point at a version there; those that may not or cannot be, with why."""
    moved: list[str] = []
    kept: dict[str, str] = {}
    for theirs in found.aliases:
        alias = alias_name(theirs)
        if alias is None:
            kept[theirs] = "it cannot be an alias here"
            continue
        held = registry.catalog.alias(version.name, alias)
        if held is not None:
            if held.number == version.number:
                moved.append(alias)
            else:
                kept[alias] = f"it points at version {held.number} here; assay promote moves it"
            continue
        try:
            _move_alias(registry, version, alias, guard=guard, reason=f"imported: {found.model} {found.label}")
        except AssayError as error:
            kept[alias] = error.message
            continue
        moved.append(alias)
    return tuple(moved), kept


def _move_alias(registry: Registry, version: Version, alias: str, *, guard: Guard, reason: str) -> None:
    """Point a free alias at a version, through every gate there is."""
    hint = f"assay promote {version.reference} {alias}"
    promote.check_unprotected(guard, version.name, alias, registry.actor, doing=f"setting {alias}", hint=hint)
    request = promote.Request(reason=reason, expect="none", kind="import")
    promote.carry_out(registry, promote.plan(registry, version, alias, guard=guard, request=request))
