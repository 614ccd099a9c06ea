"""Verify: every byte of an artifact, of its manifest and of its statements is read and hashed again.

A damaged blob is set aside (never deleted), so that no reader takes it for the real thing and the next push of the same
content repairs it; where a copy was made earlier, the report says where.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from assay.errors import AssayError, BadFormat, IntegrityError, NotFound
from assay.ports.packs import PackFault, Packing
from assay.ports.progress import SILENT, Progress
from assay.service.registry import Registry, read_manifest
from assay.spec.digest import Digest
from assay.spec.json import Json
from assay.spec.manifest import Manifest
from assay.spec.records import EventKind, Version
from assay.spec.statement import kind_of
from assay.streams.copying import digest_source

THREADS = min(4, os.cpu_count() or 1)


class State(StrEnum):
    """What was found of one blob."""

    OK = "ok"
    DAMAGED = "damaged"
    MISSING = "missing"
    WRONG_SIZE = "wrong-size"


@dataclass(frozen=True, slots=True)
class Checked:
    """One blob, checked.

    Args:
        path: the entry, or what the blob is (``manifest``, ``config``, ``statement run``).
        digest: expected digest.
        size: expected bytes.
        state: what was found.
        found: the digest or size that was found instead, or what is wrong with the pack that holds it.
    """

    path: str
    digest: Digest
    size: int
    state: State
    found: str = ""

    def to_json(self) -> dict[str, Json]:
        """As a JSON object."""
        body: dict[str, Json] = {
            "path": self.path,
            "digest": str(self.digest),
            "size": self.size,
            "state": self.state.value,
        }
        if self.found:
            body["found"] = self.found
        return body


@dataclass(frozen=True, slots=True)
class Verification:
    """The outcome for one version.

    Args:
        version: what was verified.
        checked: every blob.
        set_aside: where damaged blobs lie now.
        copies: places a copy of this artifact was made to earlier.
    """

    version: Version
    checked: tuple[Checked, ...]
    set_aside: tuple[str, ...]
    copies: tuple[str, ...]

    @property
    def bad(self) -> tuple[Checked, ...]:
        """What is not as it should be."""
        return tuple(found for found in self.checked if found.state is not State.OK)

    @property
    def ok(self) -> bool:
        """Whether every byte matches."""
        return not self.bad


def verify(registry: Registry, version: Version, *, progress: Progress = SILENT) -> Verification:
    """Read and hash everything a version consists of.

    Raises:
        NotFound: the version was purged or removed, perhaps while it was read (codes ``purged``, ``version-removed``).
        InvalidInput: the stored manifest is intact but not a manifest.
    """
    started = datetime.now(UTC)
    wanted = list(_wanted(registry, version))
    progress.start("verifying", sum(item[2] for item in wanted))
    try:
        with ThreadPoolExecutor(THREADS) as pool:
            checked = list(pool.map(lambda item: _check(registry, *item, progress=progress), wanted))
    finally:
        progress.finish()
    if any(found.state is not State.OK for found in checked):
        _check_still_there(registry, version)
    damaged = {found.digest for found in checked if found.state in {State.DAMAGED, State.WRONG_SIZE}}
    aside = _set_aside(registry, damaged, started) if damaged else ()
    return Verification(version, tuple(checked), aside, tuple(known_copies(registry, version.manifest)))


def _check_still_there(registry: Registry, version: Version) -> None:
    """Raise when a version was given up while it was read: its bytes are not missing then."""
    now = registry.catalog.version(version.name, version.number)
    if now is not None and now.gone:
        registry.manifest(now)


def _set_aside(registry: Registry, damaged: Collection[Digest], started: datetime) -> tuple[str, ...]:
    """Take damaged blobs out of use, except those that a push has replaced since they were read."""
    aside = []
    with registry.blobs.sweep() as sweep:
        for digest in sorted(damaged, key=str):
            place = registry.blobs.set_aside(digest) if sweep.idle(digest, started) else None
            aside.extend([str(place)] if place else [])
    return tuple(aside)


@dataclass(frozen=True, slots=True)
class PacksChecked:
    """Whether the packs of a registry are as they were written.

    Args:
        packs: how many there are.
        bytes: of them.
        faults: what is wrong.
    """

    packs: int
    bytes: int
    faults: tuple[PackFault, ...]

    @property
    def ok(self) -> bool:
        """Whether every byte matches its checksum."""
        return not self.faults


def verify_packs(registry: Registry, *, progress: Progress = SILENT) -> PacksChecked | None:
    """Compare every byte of every pack with its checksums; None where nothing is packed.

    Raises:
        StorageError: a pack cannot be read.
    """
    store = registry.blobs
    if not isinstance(store, Packing) or not (use := store.pack_use()).packs:
        return None
    progress.start("verifying packs", use.stored)
    try:
        faults = tuple(store.check_packs(progress=progress))
    finally:
        progress.finish()
    return PacksChecked(use.packs, use.stored, faults)


def known_copies(registry: Registry, manifest: Digest) -> Sequence[str]:
    """Places an artifact was copied to, newest first."""
    events = registry.catalog.events(kinds=(EventKind.COPIED,))
    places = (str(event.data["place"]) for event in events if event.data.get("manifest") == str(manifest))
    return list(dict.fromkeys(places))


def _wanted(registry: Registry, version: Version) -> Iterator[tuple[str, Digest, int]]:
    """Name, digest and size of every blob; the manifest is read first, because it says what the others are."""
    try:
        manifest = registry.manifest(version)
    except NotFound as error:
        if error.code == "purged":
            raise
        yield ("manifest", version.manifest, registry.blobs.size(version.manifest) or 0)
        return
    except AssayError:
        yield ("manifest", version.manifest, registry.blobs.size(version.manifest) or 0)
        return
    yield ("manifest", version.manifest, len(manifest.data))
    yield ("config", manifest.config.digest, manifest.config.size)
    for entry in manifest.entries():
        yield (entry.path, entry.digest, entry.size)
    for referrer in registry.referrers(version.manifest):
        kind = kind_of(referrer.artifact_type) or referrer.artifact_type
        yield (f"statement {kind}", referrer.manifest, referrer.size)
        document = _document(registry, referrer.manifest)
        if document is not None:
            for layer in document.layers:
                yield (f"statement {kind}, document", layer.digest, layer.size)


def _document(registry: Registry, digest: Digest) -> Manifest | None:
    """A statement's manifest, or None when it is damaged: then the check of its own bytes says so."""
    try:
        return read_manifest(registry.blobs, digest)
    except AssayError:
        return None


def _check(registry: Registry, path: str, digest: Digest, size: int, *, progress: Progress) -> Checked:
    try:
        source = registry.blobs.open(digest)
    except NotFound:
        progress.advance(size)
        return Checked(path, digest, size, State.MISSING)
    if source.size != size:
        progress.advance(size)
        return Checked(path, digest, size, State.WRONG_SIZE, f"{source.size} bytes")
    try:
        found = digest_source(source, algorithm=digest.algorithm, progress=progress)
    except (IntegrityError, BadFormat) as error:  # a packed blob is compared while it is decoded
        return Checked(path, digest, size, State.DAMAGED, error.message)
    state = State.OK if found == digest else State.DAMAGED
    return Checked(path, digest, size, state, "" if state is State.OK else str(found))
