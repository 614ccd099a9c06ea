"""Folders of a home that were made from blobs and can be made again: which of them outlived what they were made from.

Snapshots hold hard links to blobs: as long as one is there, deleting its blobs frees nothing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Container, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from assay.errors import InvalidInput, StorageError
from assay.spec.digest import Digest


@dataclass(frozen=True, slots=True)
class Folders:
    """Where a home keeps what can be made again.

    Args:
        snapshots: one folder per artifact, named by its digest, and ``.making-*`` while one is made.
        memories: what is remembered of blobs and artifacts (findings, digests of tensors, sketches).
        by_artifact: those of them whose files are named by the artifact's digest.
    """

    snapshots: Path
    memories: tuple[Path, ...] = ()
    by_artifact: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Derived:
    """A folder or file that can go.

    Args:
        path: where.
        size: bytes that come back by it alone; of hard links to blobs, none.
        why: in a few words.
        artifact: what it was made from, where that is known.
    """

    path: Path
    size: int
    why: str
    artifact: Digest | None = None


def left_behind(folders: Folders, live: Container[Digest], *, before: datetime) -> Iterator[Derived]:
    """Snapshots of artifacts that no version is, and what loads that were killed left half-made.

    Args:
        folders: where to look.
        live: manifests of artifacts that are needed.
        before: half-made snapshots that were begun later may still be under way.
    """
    for path in _children(folders.snapshots):
        if path.name.startswith("."):
            if _began(path) < before:
                yield Derived(path, own_bytes(path), "half-made snapshot")
            continue
        artifact = _named_by(path)
        if artifact is not None and artifact not in live:
            yield Derived(path, own_bytes(path), "snapshot of an artifact that is gone", artifact)
    for folder in folders.by_artifact:
        for path in folder.rglob("*"):
            artifact = _named_by(path)
            if artifact is not None and artifact not in live:
                yield Derived(path, own_bytes(path), "memory of an artifact that is gone", artifact)


def remade(folders: Folders) -> Iterator[Derived]:
    """Everything that is made again when it is needed."""
    for path in _children(folders.snapshots):
        yield Derived(path, own_bytes(path), "snapshot for loading")
    for folder in folders.memories:
        if folder.is_dir():
            yield Derived(folder, own_bytes(folder), "what is remembered of blobs")


def own_bytes(path: Path) -> int:
    """Bytes of the files in a folder that have no other name elsewhere."""
    return sum(size for size, links in _files(path) if links == 1)


def all_bytes(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return sum(size for size, _ in _files(path))


def drop(item: Derived) -> None:
    """Remove a folder.

    Raises:
        StorageError: it cannot be removed.
    """
    try:
        if item.path.is_dir():
            shutil.rmtree(item.path)
        else:
            item.path.unlink()
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageError.of(error, f"cannot remove {item.path}") from error


def _named_by(path: Path) -> Digest | None:
    """The artifact that a path is named by; None when it is not ours."""
    try:
        return Digest("sha256", path.stem)
    except InvalidInput:
        return None


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise StorageError.of(error, f"cannot look into {folder}") from error


def _began(path: Path) -> datetime:
    try:
        return datetime.fromtimestamp(path.lstat().st_mtime, UTC)
    except FileNotFoundError:
        return datetime.now(UTC)


def _files(path: Path) -> Iterator[tuple[int, int]]:
    """Size and number of names of each file."""
    if not path.is_dir():
        try:
            found = path.lstat()
        except FileNotFoundError:
            return
        yield found.st_size, found.st_nlink
        return
    for parent, _, names in os.walk(path):
        for name in names:
            try:
                found = (Path(parent) / name).lstat()
            except FileNotFoundError:
                continue  # removed meanwhile
            yield found.st_size, found.st_nlink
