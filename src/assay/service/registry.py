"""The registry: a blob store and a catalog together, and how a reference becomes an artifact."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import wraps
from pathlib import Path
from posixpath import basename
from typing import Concatenate, ParamSpec, TypeVar

from assay.errors import AssayError, BadFormat, IntegrityError, InvalidInput, NotFound
from assay.ports.blobs import BlobReader, BlobStore
from assay.ports.catalog import Catalog
from assay.spec.digest import Digest
from assay.spec.json import Json
from assay.spec.manifest import MAX_MANIFEST, Entry, Manifest
from assay.spec.records import Referrer, Version
from assay.spec.reference import Reference
from assay.spec.statement import CREATED_KEY, LAYER_TYPE, Statement
from assay.trees import Tree

_Rest = ParamSpec("_Rest")
_Found = TypeVar("_Found")

MAX_STATEMENT = 256 << 20
"""Bytes of a statement document that are read back."""


def _silent(message: str) -> None:
    """Nobody is told."""


@dataclass(frozen=True, slots=True)
class Registry:
    """Where bytes and names are kept.

    Args:
        blobs: the store.
        catalog: the book of names.
        actor: who is asking, as written to history.
        place: where it is, for messages.
        state: a local folder for what is made from blobs and may be made again: snapshots, findings, sketches.
        warn: hears when what was named must not be used any more.
    """

    blobs: BlobStore
    catalog: Catalog
    actor: str
    place: str
    state: Path
    warn: Callable[[str], None] = _silent

    def resolve(self, reference: Reference) -> Version:
        """The version a reference names; ``warn`` hears when it was yanked.

        Raises:
            NotFound: no such model, version or alias here (codes ``model-not-found``, ``version-not-found``,
                ``alias-not-found``); the hint says what there is.
            InvalidInput: the reference names a host, or its digest is not the version's.
        """
        if reference.host is not None:
            raise InvalidInput(
                f"{reference} names the host {reference.host}; remote registries are not supported yet",
                code="remote-not-supported",
                hint=f"leave the host out to look in {self.place}",
            )
        latest = self.catalog.version(reference.name)
        if latest is None:
            raise self._no_model(reference.name)
        version = self._labelled(reference, latest)
        if reference.digest is not None and reference.digest != version.manifest:
            if reference.label is not None:
                raise InvalidInput(
                    f"{reference.name}:{reference.label} is {version.manifest.short}, not {reference.digest.short}",
                    code="digest-mismatch",
                )
            version = self._by_digest(reference.name, reference.digest)
        if version.yanked is not None:
            named = reference.name if reference.label is None else f"{reference.name}:{reference.label}"
            is_it = "" if named == version.reference else f"{named} is {version.reference}, which"
            self.warn(f"{is_it or version.reference} was yanked: {version.yanked}")
        return version

    def manifest(self, version: Version) -> Manifest:
        """The artifact of a version.

        Raises:
            NotFound: its bytes were purged (code ``purged``) or are missing.
            IntegrityError: the stored manifest does not match its digest.
        """
        if version.removed is not None:
            raise _removed(version)
        if version.purged is not None:
            raise NotFound(
                f"the bytes of {version.reference} were removed for good: {version.purged}",
                code="purged",
                hint=f"assay history {version.name} says when and by whom",
            )
        if self.blobs.size(version.manifest) is None:
            raise NotFound(
                f"{version.reference} is not whole: its manifest {version.manifest.short} is missing in {self.place}",
                code="blob-missing",
                hint="push the original files again to repair it",
            )
        return read_manifest(self.blobs, version.manifest)

    def tree(self, manifest: Manifest) -> Tree:
        """The files of an artifact as a tree."""
        return files_of(self.blobs, manifest)

    def check_present(self, version: Version, entries: Sequence[Entry]) -> None:
        """Make sure that the bytes of *entries* are here.

        Raises:
            NotFound: some are not (code ``blob-missing``); the message names the files.
        """
        missing = [entry.path for entry in entries if self.blobs.size(entry.digest) is None]
        if missing:
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            names = f"{', '.join(missing[:3])}{more}"
            raise NotFound(
                f"{version.reference} is not whole: the bytes of {names} are missing in {self.place}",
                code="blob-missing",
                hint=f"push the original files again to repair it (assay verify {version.reference} lists everything)",
                missing=len(missing),
            )

    def referrers(self, subject: Digest) -> Sequence[Referrer]:
        """Statements about an artifact, without those whose bytes went with it."""
        found = self.catalog.referrers(subject)
        if any(version.gone for version in self.catalog.by_manifest(subject)):
            return [referrer for referrer in found if self.blobs.size(referrer.manifest) is not None]
        return found

    def statements(self, subject: Digest, kind: str | None = None) -> Sequence[Statement]:
        """What is said about an artifact, oldest first.

        Raises:
            NotFound: a statement's bytes are missing.
        """
        found = (self.statement(referrer) for referrer in self.referrers(subject))
        return [statement for statement in found if kind is None or statement.kind == kind]

    def readable(self, subject: Digest, kind: str) -> Sequence[Statement]:
        """What is said about an artifact, oldest first, without statements whose bytes are missing or damaged."""
        found = []
        for referrer in self.referrers(subject):
            with suppress(AssayError):
                found.append(self.statement(referrer))
        return [statement for statement in found if statement.kind == kind]

    def statement(self, referrer: Referrer) -> Statement:
        """One statement.

        What others attached in another form (a signature, a bill of materials) is told as what it is: its kind is its
        artifact type, its predicate lists its layers.

        Raises:
            NotFound: its bytes are missing.
            IntegrityError: its bytes are damaged.
        """
        manifest = read_manifest(self.blobs, referrer.manifest)
        layers, said = manifest.layers, _said_at(manifest, referrer)
        if len(layers) == 1 and layers[0].media_type == LAYER_TYPE and layers[0].size <= MAX_STATEMENT:
            with suppress(InvalidInput):
                document = read_small(self.blobs, layers[0].digest, MAX_STATEMENT)
                return Statement.parse(document, created=said)
        attached: Json = [layer.to_json() for layer in layers]
        kind = manifest.artifact_type or manifest.config.media_type
        return Statement(referrer.subject, kind, {"layers": attached}, said)

    def attach(self, statement: Statement, subject: Manifest) -> bool:
        """Keep a statement beside its subject; False when the very same claim is already there."""
        with self.blobs.hold():
            digest = self.blobs.add(statement.document())
            self.blobs.add(b"{}")
            if self.attached(statement.subject, statement.artifact_type, digest):
                return False
            manifest = statement.manifest(len(subject.data))
            self.blobs.add(manifest.data)
            return self.catalog.add_referrer(
                statement.subject,
                manifest.digest,
                statement.artifact_type,
                size=len(manifest.data),
                actor=self.actor,
            )

    def attached(self, subject: Digest, artifact_type: str, document: Digest) -> bool:
        """Whether a document is attached already; it then counts as attached now. Hold the store."""
        for referrer in self.referrers(subject):
            if referrer.artifact_type == artifact_type and self.blobs.renew(referrer.manifest) is not None:
                layers = read_manifest(self.blobs, referrer.manifest).layers
                if layers and layers[0].digest == document:
                    # What is said of an artifact that nothing names may be on its way out: this keeps it.
                    return any(self.blobs.renew(layer.digest) is not None for layer in layers)
        return False

    def _labelled(self, reference: Reference, latest: Version) -> Version:
        name, number = reference.name, reference.version
        if reference.label is None:
            return self._newest(latest)
        if number is None:
            alias = self.catalog.alias(name, reference.label)
            if alias is None:
                known = ", ".join(found.alias for found in self.catalog.aliases(name))
                raise NotFound(
                    f"{name} has no alias {reference.label!r}",
                    code="alias-not-found",
                    hint=f"its aliases: {known}" if known else f"it has none; assay ls {name} shows its versions",
                )
            number = alias.number
        version = self.catalog.version(name, number)
        if version is None:
            raise NotFound(
                f"{name} has no version {number}",
                code="version-not-found",
                hint=f"the newest is {latest.reference}; assay ls {name} shows all",
            )
        if version.removed is not None:
            raise _removed(version)
        return version

    def _newest(self, latest: Version) -> Version:
        """The newest version that is fit for use; the newest of all when there is none."""
        if latest.yanked is None and not latest.gone:
            return latest
        fit = (version for version in self.catalog.versions(latest.name) if version.yanked is None and not version.gone)
        return next(fit, latest)

    def _by_digest(self, name: str, digest: Digest) -> Version:
        found = self.catalog.by_manifest(digest, name=name)
        if not found:
            raise NotFound(
                f"{name} has no version with digest {digest.short}",
                code="version-not-found",
                hint=f"assay ls {name} shows its versions",
            )
        return found[-1]

    def _no_model(self, name: str) -> NotFound:
        near = [model.name for model in self.catalog.models(limit=2000) if _near(name, model.name)][:3]
        hint = f"did you mean {' or '.join(near)}?" if near else "assay ls shows the models here"
        return NotFound(f"no model {name!r} in {self.place}", code="model-not-found", hint=hint)


def holding(
    call: Callable[Concatenate[Registry, _Rest], _Found],
) -> Callable[Concatenate[Registry, _Rest], _Found]:
    """Make a use case hold the store: what it adds is safe from garbage collection until it has named it."""

    @wraps(call)
    def held(registry: Registry, /, *args: _Rest.args, **kwargs: _Rest.kwargs) -> _Found:
        with registry.blobs.hold():
            return call(registry, *args, **kwargs)

    return held


def _said_at(manifest: Manifest, referrer: Referrer) -> datetime:
    """When a statement was said: a copy is attached later than that, and nothing is attached before it is said."""
    try:
        said = datetime.fromisoformat(manifest.annotations.get(CREATED_KEY, "")).astimezone(UTC)
    except (ValueError, OverflowError):
        return referrer.created
    # It is written in whole seconds.
    return said if referrer.created - said >= timedelta(seconds=1) else referrer.created


def _removed(version: Version) -> NotFound:
    return NotFound(
        f"{version.reference} was removed: {version.removed}",
        code="version-removed",
        hint=f"assay history {version.name} says when and by whom; assay ls {version.name} shows what there is",
    )


def read_small(blobs: BlobReader, digest: Digest, limit: int) -> bytes:
    """The whole of a small blob, compared with its digest.

    Raises:
        NotFound: it is not here.
        BadFormat: it is larger than *limit*.
        IntegrityError: the stored bytes do not match.
    """
    source = blobs.open(digest)
    if source.size > limit:
        raise BadFormat(f"blob {digest.short} has {source.size:,} bytes, at most {limit:,} are read")
    data = source.read(0, source.size)
    found = Digest(digest.algorithm, hashlib.new(digest.algorithm, data).hexdigest())
    if found != digest:
        raise IntegrityError(
            f"stored blob does not match its digest: expected {digest.short}, found {found.short}",
            hint="assay verify says what is damaged and what can be done",
        )
    return data


def files_of(blobs: BlobReader, manifest: Manifest) -> Tree:
    """The files of an artifact in any store, as a tree."""
    return Tree({entry.path: blobs.open(entry.digest) for entry in manifest.entries()})


def read_manifest(blobs: BlobReader, digest: Digest) -> Manifest:
    """A stored manifest, compared with its digest."""
    return Manifest.parse(read_small(blobs, digest, MAX_MANIFEST))


def _near(wanted: str, name: str) -> bool:
    return wanted in name or name in wanted or basename(wanted) == basename(name)
