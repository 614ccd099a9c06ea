"""Copy: an artifact with everything said about it, from one place to another, moving only what is missing there.

Every blob is hashed on the way; a blob that is already there, with the right size, is not moved again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from assay.errors import IntegrityError, InvalidInput, NotFound, StorageError
from assay.ports.blobs import BlobReader, BlobStore
from assay.ports.places import TagIndex
from assay.ports.progress import SILENT, Progress
from assay.service.registry import MAX_STATEMENT, Registry, holding, read_manifest, read_small
from assay.spec.descriptor import Descriptor
from assay.spec.digest import Digest
from assay.spec.manifest import MANIFEST_TYPE, Manifest
from assay.spec.records import EventKind, Version
from assay.spec.reference import check_name
from assay.spec.statement import CREATED_KEY

MAX_SMALL = 8 << 20
"""Bytes of a blob that is moved through memory; larger ones must lie in a local file."""

_AGAIN = "make that copy again from where it came from; nothing was numbered here"


@dataclass(frozen=True, slots=True)
class Copied:
    """The outcome of a copy.

    Args:
        manifest: digest of the artifact.
        tag: its tag at the destination, for a copy out.
        version: its version here, for a copy in.
        moved: bytes that were moved.
        skipped: bytes that were there already.
        statements: how many statements went along.
    """

    manifest: Digest
    tag: str | None
    version: Version | None
    moved: int
    skipped: int
    statements: int


@dataclass(slots=True)
class _Totals:
    """What was moved so far, and what to do when a blob at the source turns out to be damaged."""

    repair: str
    moved: int = 0
    skipped: int = 0


def copy_out(
    registry: Registry,
    version: Version,
    blobs: BlobStore,
    index: TagIndex,
    *,
    tag: str,
    progress: Progress = SILENT,
) -> Copied:
    """Copy a version with all its statements to another place and tag it there.

    Raises:
        NotFound: the version was purged or bytes are missing.
        IntegrityError: bytes here are damaged; what was moved so far is complete blobs, no tag is set.
        StorageError: the destination is full or read-only.
    """
    manifest = registry.manifest(version)
    registry.check_present(version, manifest.entries())
    totals = _Totals(f"assay verify {version.reference} says what is damaged and what can be done")
    referrers = registry.referrers(manifest.digest)
    progress.start("copying", manifest.size)
    try:
        _copy_artifact(registry.blobs, blobs, manifest, totals, progress)
        for referrer in referrers:
            statement = read_manifest(registry.blobs, referrer.manifest)
            _copy_artifact(registry.blobs, blobs, statement, totals, SILENT)
            index.put(_descriptor(statement))
        index.put(_descriptor(manifest), tag=tag)
    finally:
        progress.finish()
    _record(registry, version, f"{index.place}:{tag}")
    return Copied(manifest.digest, tag, None, totals.moved, totals.skipped, len(referrers))


@holding
def copy_in(
    registry: Registry,
    name: str,
    blobs: BlobReader,
    index: TagIndex,
    *,
    tag: str | None = None,
    progress: Progress = SILENT,
) -> Copied:
    """Copy a tagged artifact with its statements from another place and number it as a version of *name*.

    The manifest is kept byte for byte, whoever wrote it: its digest stays the artifact's identity.

    Raises:
        NotFound: there is no such tag (code ``tag-not-found``), or blobs are missing there.
        InvalidInput: it is not a model artifact that can be read, or its file names are unsafe.
        IntegrityError: bytes there do not match their digests; nothing is numbered.
    """
    check_name(name)
    chosen, descriptor = choose_tag(index, tag)
    if blobs.size(descriptor.digest) is None:
        raise NotFound(
            f"{index.place}:{chosen} is not whole: its manifest {descriptor.digest.short} is missing there",
            code="blob-missing",
            hint=_AGAIN,
        )
    manifest = read_manifest(blobs, descriptor.digest)
    entries = manifest.entries()
    if not entries:
        raise InvalidInput(f"{index.place}:{chosen} has no files", code="empty-tree")
    missing = [entry.path for entry in entries if blobs.size(entry.digest) is None]
    if missing:
        raise NotFound(
            f"{index.place}:{chosen} is not whole: the bytes of {missing[0]} are missing there"
            + (f", and of {len(missing) - 1} more" if len(missing) > 1 else ""),
            code="blob-missing",
            hint=_AGAIN,
        )
    totals = _Totals(_AGAIN)
    progress.start("copying", manifest.size)
    try:
        _copy_artifact(blobs, registry.blobs, manifest, totals, progress)
    finally:
        progress.finish()
    told = (read_manifest(blobs, referrer.digest) for referrer in index.referrers(manifest.digest))
    statements = _take_in(blobs, registry, manifest, ((said, said.artifact_type) for said in told), totals)
    version, _ = registry.catalog.add_version(
        name, manifest.digest, size=manifest.size, entries=len(entries), actor=registry.actor
    )
    return Copied(manifest.digest, chosen, version, totals.moved, totals.skipped, statements)


@dataclass(frozen=True, slots=True)
class Brought:
    """One version, copied from one registry to another.

    Args:
        source: as it is called where it came from.
        version: as it is called here.
        new: whether it got its number here just now.
        moved: bytes that were moved.
        skipped: bytes that were here already.
        statements: how many statements were attached just now.
    """

    source: Version
    version: Version
    new: bool
    moved: int
    skipped: int
    statements: int


def bring(source: Registry, version: Version, target: Registry, name: str, *, progress: Progress = SILENT) -> Brought:
    """Copy a version with all its statements into another registry, and number it there.

    Manifest and statements are kept byte for byte. What is there already is not moved, so a copy that was interrupted
    goes on where it stopped. A yank goes along; aliases and pins do not. The history of both says what was done.

    Args:
        source: where from.
        version: what; not gone.
        target: where to.
        name: the model it becomes a version of.
        progress: hears about bytes copied.

    Raises:
        NotFound: bytes are missing at the source; nothing is numbered.
        IntegrityError: bytes at the source are damaged; nothing is numbered.
        StorageError: the target is full or read-only.
    """
    manifest = source.manifest(version)
    source.check_present(version, manifest.entries())
    totals = _Totals(f"assay verify {version.reference} says what is damaged and what can be done")
    told = ((read_manifest(source.blobs, one.manifest), one.artifact_type) for one in source.referrers(manifest.digest))
    progress.start(f"copying {version.reference}", manifest.size)
    try:
        with target.blobs.hold():
            _copy_artifact(source.blobs, target.blobs, manifest, totals, progress)
            statements = _take_in(source.blobs, target, manifest, told, totals)
            placed, new = target.catalog.add_version(
                name, manifest.digest, size=version.size, entries=version.entries, actor=target.actor
            )
    finally:
        progress.finish()
    if version.yanked is not None and placed.yanked is None:
        placed = target.catalog.mark(name, placed.number, EventKind.YANKED, reason=version.yanked, actor=target.actor)
    if new or statements:
        _record(source, version, f"home:{target.place} {placed.reference}")
        _record(target, placed, f"home:{source.place} {version.reference}")
    return Brought(version, placed, new, totals.moved, totals.skipped, statements)


def keep_number(source: Registry, version: Version, target: Registry, name: str) -> Version | None:
    """Take the number of a version that is gone, where it is the next one, so that later ones keep theirs.

    Returns the version at the target, removed like its original; None when its number cannot be kept.
    """
    latest = target.catalog.version(name)
    here = target.catalog.version(name, version.number)
    if here is None and (latest.number if latest is not None else 0) == version.number - 1:
        here, _ = target.catalog.add_version(
            name, version.manifest, size=version.size, entries=version.entries, actor=target.actor
        )
    if here is None or (here.number, here.manifest) != (version.number, version.manifest):
        return None
    if not here.gone and target.blobs.size(here.manifest) is None:
        reason = f"given up at home:{source.place}: {version.removed or version.purged}"
        here = target.catalog.mark(name, here.number, EventKind.REMOVED, reason=reason, actor=target.actor)
    return here


def _record(registry: Registry, version: Version, place: str) -> None:
    try:
        registry.catalog.record_copy(version.manifest, place, name=version.name, actor=registry.actor)
    except StorageError as error:
        if error.code != "store-read-only":  # who may only read a home may still copy from it
            raise


def choose_tag(index: TagIndex, tag: str | None) -> tuple[str, Descriptor]:
    """The tag that is meant, and what it points at: the only one when none is named.

    Raises:
        NotFound: there is no such tag, or none at all (code ``tag-not-found``).
        InvalidInput: none is named and there are several (code ``tag-ambiguous``).
    """
    tags = index.tags()
    if tag is not None:
        if tag not in tags:
            known = ", ".join(sorted(tags)[:10]) or "none"
            raise NotFound(f"{index.place} has no tag {tag!r}", code="tag-not-found", hint=f"its tags: {known}")
        return tag, tags[tag]
    if not tags:
        raise NotFound(
            f"{index.place} has no tags: nothing in it can be named",
            code="tag-not-found",
            hint="assay copy NAME oci:DIR:TAG makes one",
        )
    if len(tags) != 1:
        raise InvalidInput(
            f"{index.place} has {len(tags)} tags; say which one", code="tag-ambiguous", hint=f"{index.place}:TAG"
        )
    return next(iter(tags.items()))


def _copy_artifact(
    source: BlobReader, target: BlobStore, manifest: Manifest, totals: _Totals, progress: Progress
) -> None:
    for descriptor in _needed(manifest):
        if target.renew(descriptor.digest) == descriptor.size:
            totals.skipped += descriptor.size
            progress.advance(descriptor.size)
            continue
        _copy_blob(source, target, descriptor, progress, repair=totals.repair)
        totals.moved += descriptor.size
    if target.renew(manifest.digest) != len(manifest.data):
        target.add(manifest.data)


def _take_in(
    blobs: BlobReader, target: Registry, subject: Manifest, statements: Iterable[tuple[Manifest, str]], totals: _Totals
) -> int:
    """Copy statements about an artifact, each with its type, and attach them; how many were not there before."""
    taken = 0
    for statement, artifact_type in statements:
        _copy_artifact(blobs, target.blobs, statement, totals, SILENT)
        taken += target.catalog.add_referrer(
            subject.digest, statement.digest, artifact_type, size=len(statement.data), actor=target.actor
        )
    return taken


def _needed(manifest: Manifest) -> Iterator[Descriptor]:
    yield manifest.config
    yield from {layer.digest: layer for layer in manifest.layers}.values()


def _copy_blob(
    source: BlobReader, target: BlobStore, descriptor: Descriptor, progress: Progress, *, repair: str
) -> None:
    file = source.local_file(descriptor.digest)
    if file is None or descriptor.size <= MAX_SMALL:
        data = read_small(source, descriptor.digest, max(MAX_SMALL, MAX_STATEMENT))
        found, size = target.add(data), len(data)
        progress.advance(size)
    else:
        found, size = target.add_file(file, progress=progress)
    if (found, size) != (descriptor.digest, descriptor.size):
        raise IntegrityError(
            f"blob does not match its digest while copying: expected {descriptor.digest.short} "
            f"({descriptor.size} bytes), found {found.short} ({size} bytes); no version and no tag was made",
            hint=repair,
        )


def _descriptor(manifest: Manifest) -> Descriptor:
    created = manifest.annotations.get(CREATED_KEY)
    annotations = {CREATED_KEY: created} if created else {}
    return Descriptor(MANIFEST_TYPE, manifest.digest, len(manifest.data), annotations, manifest.artifact_type)
