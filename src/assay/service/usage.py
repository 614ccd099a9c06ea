"""Usage: where the bytes of a registry are, for whom, and which of them can come back.

Four numbers tell about a version. *Logical*: its files, as a pull writes them. *Stored*: its blobs, each counted once,
and those of what is said about it.
*Exclusive*: what nothing else needs, so what removing it gives back. *Shared with*: the versions that need the rest.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from assay.errors import StorageError
from assay.ports.packs import Packing, PackUse
from assay.service.derived import Folders, all_bytes, own_bytes
from assay.service.garbage import is_packed_only
from assay.service.reachability import Needs, Reachability
from assay.service.registry import Registry
from assay.spec.digest import Digest
from assay.spec.records import Version

_KEPT_BY_HAND = {
    "backups": "journal and rows from before a migration: delete them once all is as it should be",
    "damaged": "blobs that did not match their digest: look, copy out what helps, delete",
}
_TRUTH = {
    "trials": "files laid out for commands that are running; each goes when its command is over",
    "packs": "blobs that were made small; never delete it",
    "journal.jsonl": "what happened to names; never delete it",
    "catalog.sqlite3": "rows made from the journal",
    "catalog.sqlite3-wal": "rows on their way",
    "catalog.sqlite3-shm": "rows on their way",
}
_BESIDE_A_BUCKET = {
    "packs": "the index of the packs in the bucket; made again when it is missing",
    "registry-id": "says whose folder this is",
    "writer-id": "makes this machine the one that writes to the bucket",
}
_COLLECTED = "assay gc --yes"
_REMADE = "assay gc --derived --yes"


@dataclass(frozen=True, slots=True)
class VersionUsage:
    """What one version takes.

    Args:
        version: which.
        logical: bytes of its files.
        stored: bytes of its distinct blobs: files, manifest, config and statements.
        statements: bytes of what is said about it.
        exclusive: bytes that removing it gives back.
        shared_with: references of versions that need some of its blobs of 1 KiB and more, too.
        packed: bytes of its blobs that only lie in packs, as they would be if they were raw.
    """

    version: Version
    logical: int
    stored: int
    statements: int
    exclusive: int
    shared_with: tuple[str, ...]
    packed: int


@dataclass(frozen=True, slots=True)
class ModelUsage:
    """What one model takes; as ``VersionUsage``, over all its versions.

    Args:
        name: which.
        shared_with: names of models that need some of its blobs of 1 KiB and more, too.
        versions: each of them, newest first.
        packed: as of a version.
    """

    name: str
    logical: int
    stored: int
    statements: int
    exclusive: int
    shared_with: tuple[str, ...]
    versions: tuple[VersionUsage, ...]
    packed: int


@dataclass(frozen=True, slots=True)
class FileUsage:
    """What one file of a version takes, the versions that hold the same bytes, and whether it only lies in a pack."""

    path: str
    size: int
    shared_with: tuple[str, ...]
    packed: bool


@dataclass(frozen=True, slots=True)
class FolderUsage:
    """A folder or file of the home beside the blobs.

    Args:
        name: what it is called.
        size: bytes that are nowhere else: a hard link to a blob counts nothing.
        frees: what to type to get them back; None where they are needed.
        note: what it is, in words.
    """

    name: str
    size: int
    frees: str | None
    note: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Where the bytes are.

    Args:
        models: what each model takes, the largest first.
        logical: bytes that pulling everything would write.
        blobs: how many blobs there are.
        stored: bytes of all of them, whether raw or packed: what they hold, not what packs take.
        statements: bytes of what is said about versions.
        garbage: bytes of raw blobs that nothing needs.
        folders: what lies beside them.
        disk_free: bytes free where the registry lies; None when it lies nowhere.
        packed: bytes of those that only lie in packs, needed or not.
        packs: what the packs take; None where nothing is packed.
    """

    models: tuple[ModelUsage, ...]
    logical: int
    blobs: int
    stored: int
    statements: int
    garbage: int
    folders: tuple[FolderUsage, ...]
    disk_free: int | None
    packed: int = 0
    packs: PackUse | None = None

    @property
    def needed(self) -> int:
        """Bytes of raw blobs that are needed."""
        return self.stored - self.packed - self.garbage

    @property
    def total(self) -> int:
        """Bytes on the disk."""
        return self.stored - self.packed + sum(folder.size for folder in self.folders)


def usage(registry: Registry, *, home: Path | None = None, folders: Folders | None = None) -> Usage:
    """Where the bytes of a registry are.

    Args:
        registry: which.
        home: its folder, when it lies in one.
        folders: what in it can be made again.

    Raises:
        StorageError: it cannot be told what is needed (code ``reachability-unknown``), or something cannot be read.
    """
    sizes = {found.digest: found.size for found in registry.blobs.inventory()}
    reach = Reachability(registry)
    packs = use_of_packs(registry)
    packed = {digest for digest in sizes if packs is not None and is_packed_only(registry, digest)}
    counted = _Counted(reach, sizes, packed)
    models = sorted(counted.models(), key=lambda model: (-model.stored, model.name))
    said = {digest for needs in reach.artifacts.values() for digest in needs.statements - needs.content}
    return Usage(
        models=tuple(models),
        logical=sum(model.logical for model in models),
        blobs=len(sizes),
        stored=sum(sizes.values()),
        statements=counted.bytes(said),
        garbage=sum(size for digest, size in sizes.items() if digest not in reach and digest not in packed),
        folders=tuple(_beside(home, folders)) if home is not None else (),
        disk_free=shutil.disk_usage(home).free if home is not None else None,
        packed=counted.bytes(packed),
        packs=packs,
    )


def use_of_packs(registry: Registry) -> PackUse | None:
    """What packs take; None where nothing is packed."""
    store = registry.blobs
    use = store.pack_use() if isinstance(store, Packing) else None
    return use if use is not None and use.packs else None


def files_of(registry: Registry, version: Version) -> list[FileUsage]:
    """What each file of a version takes, the largest first.

    Raises:
        NotFound: its bytes are missing, or it was purged or removed.
        StorageError: it cannot be told what is needed.
    """
    entries = registry.manifest(version).entries()
    reach = Reachability(registry)
    holders = reach.holders()
    found = [
        FileUsage(
            entry.path,
            entry.size,
            _references(reach, holders.get(entry.digest, ()), without=version.reference),
            is_packed_only(registry, entry.digest),
        )
        for entry in entries
    ]
    return sorted(found, key=lambda one: (-one.size, one.path))


def given_back(registry: Registry, version: Version) -> int | None:
    """Bytes that come back when a version is removed; None when that cannot be told."""
    try:
        reach = Reachability(registry)
    except StorageError:
        return None
    needs = reach.artifacts.get(version.manifest)
    if needs is None or len(needs.versions) > 1:
        return 0
    holders = reach.holders()
    return sum(registry.blobs.size(digest) or 0 for digest in needs.blobs if len(holders[digest]) == 1)


_CRUMB = 1024
"""Bytes below which a blob that others hold too is not worth naming them: an empty configuration is everybody's."""


class _Counted:
    """Sums over what is reached, blob by blob."""

    def __init__(self, reach: Reachability, sizes: Mapping[Digest, int], packed: Collection[Digest]) -> None:
        self._reach = reach
        self._sizes = sizes
        self._packed = packed
        self._holders = reach.holders()
        self._named: dict[frozenset[Digest], tuple[str, ...]] = {}

    def bytes(self, digests: Iterable[Digest]) -> int:
        """Bytes of blobs, as they lie; those that are missing count nothing."""
        return sum(self._sizes.get(digest, 0) for digest in digests)

    def models(self) -> list[ModelUsage]:
        """Every model that has a version which is not gone."""
        by_name: dict[str, list[tuple[Version, Needs]]] = {}
        for needs in self._reach.artifacts.values():
            for version in needs.versions:
                by_name.setdefault(version.name, []).append((version, needs))
        return [self._model(name, line) for name, line in by_name.items()]

    def _model(self, name: str, line: Sequence[tuple[Version, Needs]]) -> ModelUsage:
        content = {digest for _, needs in line for digest in needs.content}
        statements = {digest for _, needs in line for digest in needs.statements} - content
        others: set[str] = set()
        alone = 0
        for digest in content | statements:
            names = {version.name for held in self._holders[digest] for version in self._versions(held)}
            if names == {name}:
                alone += self._sizes.get(digest, 0)
            elif digest in content and self._sizes.get(digest, 0) >= _CRUMB:
                others |= names - {name}
        return ModelUsage(
            name=name,
            logical=sum(version.size for version, _ in line),
            stored=self.bytes(content | statements),
            statements=self.bytes(statements),
            exclusive=alone,
            shared_with=tuple(sorted(others)),
            versions=tuple(
                self._version(version, needs) for version, needs in sorted(line, key=lambda one: -one[0].number)
            ),
            packed=self._of_packs(content),
        )

    def _version(self, version: Version, needs: Needs) -> VersionUsage:
        alone = 0
        if len(needs.versions) == 1:
            alone = self.bytes(digest for digest in needs.blobs if self._holders[digest] == {version.manifest})
        holders = (self._holders[digest] for digest in needs.content if self._sizes.get(digest, 0) >= _CRUMB)
        sharing = frozenset(held for several in holders for held in several)
        if sharing not in self._named:  # versions of one line mostly share with the same others
            self._named[sharing] = _references(self._reach, sharing)
        return VersionUsage(
            version=version,
            logical=version.size,
            stored=self.bytes(needs.blobs),
            statements=self.bytes(needs.statements - needs.content),
            exclusive=alone,
            shared_with=tuple(other for other in self._named[sharing] if other != version.reference),
            packed=self._of_packs(needs.content),
        )

    def _of_packs(self, digests: Iterable[Digest]) -> int:
        return self.bytes(digest for digest in digests if digest in self._packed)

    def _versions(self, artifact: Digest) -> Sequence[Version]:
        return self._reach.artifacts[artifact].versions


def _references(reach: Reachability, artifacts: Collection[Digest], *, without: str = "") -> tuple[str, ...]:
    versions = (version for artifact in artifacts for version in reach.artifacts[artifact].versions)
    found = sorted(versions, key=lambda version: (version.name, version.number))
    return tuple(version.reference for version in found if version.reference != without)


def _beside(home: Path, folders: Folders | None) -> Iterable[FolderUsage]:
    remade = {} if folders is None else {path.name: "made again when needed" for path in folders.memories}
    if folders is not None:
        remade[folders.snapshots.name] = "what frameworks load from, made again when needed"
    truth = {**_TRUTH, **_BESIDE_A_BUCKET} if (home / "registry-id").exists() else _TRUTH
    for path in sorted(home.iterdir()):
        name = path.name
        if name == "blobs":
            continue
        if name in remade:
            yield FolderUsage(name, own_bytes(path), _REMADE, remade[name])
        elif name == "staging":
            yield FolderUsage(name, all_bytes(path), _COLLECTED, "being written, or left by writers that were killed")
        elif name in _KEPT_BY_HAND:
            yield FolderUsage(name, all_bytes(path), None, _KEPT_BY_HAND[name])
        else:
            yield FolderUsage(name, own_bytes(path) if path.is_dir() else all_bytes(path), None, truth.get(name, ""))
