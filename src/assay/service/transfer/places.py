"""Copies to and from tagged places: OCI image layouts and OCI registries."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from assay.errors import InvalidInput, NotFound, StorageError
from assay.ports.blobs import BlobReader
from assay.ports.places import PlaceBlobs, TagIndex
from assay.ports.progress import SILENT, Progress
from assay.service.registry import Registry, holding, read_manifest
from assay.service.transfer.carrying import attach_all, carry, record
from assay.service.transfer.moving import Figures, check_whole
from assay.service.transfer.plan import Plan, make_plan, needed
from assay.spec.descriptor import Descriptor
from assay.spec.digest import Digest
from assay.spec.manifest import Manifest
from assay.spec.records import Version
from assay.spec.reference import check_name

MOST_TOLD = 256 << 20
"""Bytes of manifests about one artifact that are taken from another place: they are all in memory at once."""

_AGAIN = "make that copy again from where it came from; nothing was numbered here"


@dataclass(frozen=True, slots=True)
class Copied:
    """The outcome of a copy.

    Args:
        manifest: digest of the artifact.
        tag: its tag at the destination, for a copy out.
        version: its version here, for a copy in.
        statements: how many statements went along.
        figures: what was moved.
    """

    manifest: Digest
    tag: str | None
    version: Version | None
    statements: int
    figures: Figures

    @property
    def moved(self) -> int:
        """Bytes that were moved."""
        return self.figures.moved

    @property
    def skipped(self) -> int:
        """Bytes that were there already."""
        return self.figures.skipped


def plan_out(registry: Registry, version: Version, blobs: BlobReader) -> Plan:
    """What ``copy_out`` would move.

    Raises:
        As ``copy_out``; nothing is changed.
    """
    return make_plan([*_outward(registry, version)], blobs.size)


def copy_out(
    registry: Registry,
    version: Version,
    blobs: PlaceBlobs,
    index: TagIndex,
    *,
    tag: str,
    progress: Progress = SILENT,
) -> Copied:
    """Copy a version with all its statements to another place and tag it there.

    Raises:
        NotFound: the version was purged or bytes are missing.
        IntegrityError: bytes here are damaged; what was moved so far is complete blobs, no tag is set.
        StorageError: the destination is full, read-only or out of reach.
    """
    manifest, *statements = _outward(registry, version)
    plan = make_plan([manifest, *statements], blobs.renew)
    progress.start("copying", plan.moved + plan.skipped)
    try:
        figures = carry(
            registry.blobs,
            blobs,
            plan,
            state=registry.state,
            repair=f"assay verify {version.reference} says what is damaged and what can be done",
            progress=progress,
        )
        for statement in statements:
            index.put(statement)
        index.put(manifest, tag=tag)
    finally:
        progress.finish()
    record(registry, version, f"{index.place}:{tag}")
    return Copied(manifest.digest, tag, None, len(statements), figures)


def plan_in(registry: Registry, blobs: BlobReader, index: TagIndex, *, tag: str | None = None) -> Plan:
    """What ``copy_in`` would move.

    Raises:
        As ``copy_in``; nothing is changed.
    """
    _, manifest = _inward(blobs, index, tag)
    return make_plan([manifest, *_told(index, manifest)], registry.blobs.size)


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
        StorageError: the place is out of reach, or the store here is full or read-only.
    """
    check_name(name)
    chosen, manifest = _inward(blobs, index, tag)
    told = _told(index, manifest)
    plan = make_plan([manifest, *told], registry.blobs.renew)
    place = f"{index.place}:{chosen}"
    check_whole(blobs, needed(told), place, hint=_AGAIN)
    progress.start("copying", plan.moved + plan.skipped)
    try:
        figures = carry(blobs, registry.blobs, plan, state=registry.state, repair=_AGAIN, progress=progress)
        registry.blobs.add(manifest.data)
    finally:
        progress.finish()
    statements = attach_all(registry, manifest, [(said, said.artifact_type) for said in told])
    entries = len(manifest.entries())
    version, _ = registry.catalog.add_version(
        name, manifest.digest, size=manifest.size, entries=entries, actor=registry.actor
    )
    return Copied(manifest.digest, chosen, version, statements, figures)


def choose_tag(index: TagIndex, tag: str | None) -> tuple[str, Descriptor]:
    """The tag that is meant, and what it points at: the only one when none is named.

    Raises:
        NotFound: there is no such tag, or none at all (code ``tag-not-found``).
        InvalidInput: none is named and there are several (code ``tag-ambiguous``).
    """
    tags = index.tags()
    if tag is not None:
        found = tags.get(tag)
        if found is None:
            known = ", ".join(sorted(tags)[:10]) or "none"
            raise NotFound(f"{index.place} has no tag {tag!r}", code="tag-not-found", hint=f"its tags: {known}")
        return tag, found
    if not tags:
        raise NotFound(
            f"{index.place} has no tags: nothing in it can be named",
            code="tag-not-found",
            hint=f"assay copy NAME {index.place}:TAG makes one",
        )
    if len(tags) != 1:
        raise InvalidInput(
            f"{index.place} has {len(tags)} tags; say which one", code="tag-ambiguous", hint=f"{index.place}:TAG"
        )
    return next(iter(tags.items()))


def _outward(registry: Registry, version: Version) -> Sequence[Manifest]:
    """The artifact, and what is said about it."""
    manifest = registry.manifest(version)
    registry.check_present(version, manifest.entries())
    told = [read_manifest(registry.blobs, referrer.manifest) for referrer in registry.referrers(manifest.digest)]
    return [manifest, *told]


def _inward(blobs: BlobReader, index: TagIndex, tag: str | None) -> tuple[str, Manifest]:
    """The tag and the artifact, all of whose files are there."""
    chosen, descriptor = choose_tag(index, tag)
    place = f"{index.place}:{chosen}"
    try:
        manifest = index.read(descriptor)
    except NotFound as error:
        raise NotFound(
            f"{place} is not whole: its manifest {descriptor.digest.short} is missing there",
            code="blob-missing",
            hint=_AGAIN,
        ) from error
    entries = manifest.entries()
    if not entries:
        raise InvalidInput(f"{place} has no files", code="empty-tree")
    sizes = {entry.path: blobs.size(entry.digest) for entry in entries}
    missing = [path for path, size in sizes.items() if size is None]
    if missing:
        raise NotFound(
            f"{place} is not whole: the bytes of {missing[0]} are missing there"
            + (f", and of {len(missing) - 1} more" if len(missing) > 1 else ""),
            code="blob-missing",
            hint=_AGAIN,
        )
    return chosen, manifest


def _told(index: TagIndex, manifest: Manifest) -> list[Manifest]:
    """What is said about an artifact at another place; what its index lists and does not have is left out."""
    found: list[Manifest] = []
    size = 0
    for referrer in index.referrers(manifest.digest):
        with suppress(NotFound):
            found.append(index.read(referrer))
            size += len(found[-1].data)
            if size > MOST_TOLD:
                raise StorageError(
                    f"{index.place} says more than {MOST_TOLD:,} bytes about {manifest.digest.short}",
                    code="place-odd",
                    hint="look at who writes there; nothing was numbered here",
                )
    return found
