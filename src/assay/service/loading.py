"""Load: look at an artifact, choose who can build it, give that loader a folder of its files, and nothing more.

The folder is a snapshot of hard links to the stored blobs under their entry paths, made once per artifact and shared,
so that loading copies no byte. Where links cannot be made (read-only home, another file system) it is a temporary
folder of symbolic links.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from assay.errors import AssayError, CouldNot, NotFound
from assay.ports.blobs import BlobReader
from assay.ports.formats import Format
from assay.ports.loaders import Loader
from assay.service.examine import inspect
from assay.service.registry import Registry
from assay.spec.description import Description
from assay.spec.inspection import Inspection
from assay.spec.manifest import Entry, Manifest
from assay.spec.records import Version
from assay.trees import Tree

Choose = Callable[[Inspection], tuple[Loader, Description]]
"""Picks the loader for what was found; raises ``NotFound`` (code ``no-loader``) when nobody can."""


def load(registry: Registry, version: Version, *, formats: Sequence[Format], choose: Choose, snapshots: Path) -> object:
    """The framework's own object for a version.

    Args:
        registry: where from.
        version: what.
        formats: what to understand it with; it is looked at afresh, no earlier description is trusted.
        choose: picks the loader.
        snapshots: folder for shared snapshots, on the store's file system.

    Raises:
        Refused: loading would run code, or what was found cannot be shown not to.
        NotFound: no loader for this format (code ``no-loader``), or bytes are missing or purged.
        MissingDependency: the framework is not installed.
    """
    manifest = registry.manifest(version)
    inspection = inspect(registry.tree(manifest), formats)
    with snapshot(registry.blobs, manifest, snapshots) as folder:
        return build(folder, inspection, choose=choose, what=version.reference)


def load_files(tree: Tree, folder: Path, *, formats: Sequence[Format], choose: Choose) -> object:
    """The framework's own object for files that were not pushed.

    Raises:
        As ``load``.
    """
    return build(folder, inspect(tree, formats), choose=choose, what=str(folder))


def build(folder: Path, inspection: Inspection, *, choose: Choose, what: str) -> object:
    """Choose a loader and run it; whatever the framework raises becomes one clear error."""
    loader, description = choose(inspection)
    try:
        return loader.load(folder, description, inspection.descriptions)
    except AssayError:
        raise
    except (ImportError, MemoryError):
        raise
    except Exception as error:  # the seam to foreign code: frameworks raise anything
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        raise CouldNot(
            f"{description.framework or description.format} could not load {what}: {reason}",
            code="loader-failed",
            hint="assay inspect shows what the files hold; another library version may be needed",
        ) from error


@contextmanager
def snapshot(blobs: BlobReader, manifest: Manifest, snapshots: Path) -> Iterator[Path]:
    """A read-only folder with the artifact's files under their own names.

    Raises:
        NotFound: blobs are missing.
    """
    folder = snapshots / manifest.digest.hex
    entries = manifest.entries()
    if not _current(blobs, folder, entries) and not _make(blobs, folder, entries):
        with tempfile.TemporaryDirectory(prefix="assay-") as scratch:
            _lay_out(blobs, entries, Path(scratch), os.symlink)
            yield Path(scratch)
        return
    yield folder


def _make(blobs: BlobReader, folder: Path, entries: Sequence[Entry]) -> bool:
    """Make the shared snapshot; False when this place cannot hold it."""
    try:
        folder.parent.mkdir(exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".making-", dir=folder.parent))
    except OSError:
        return False
    try:
        _lay_out(blobs, entries, staging, os.link)
        shutil.rmtree(folder, ignore_errors=True)
        staging.rename(folder)
    except OSError:
        shutil.rmtree(staging, ignore_errors=True)
        return _current(blobs, folder, entries)  # somebody else may have made it meanwhile
    except AssayError:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return True


def _current(blobs: BlobReader, folder: Path, entries: Sequence[Entry]) -> bool:
    """Whether every link still leads to the stored blob (which a repair or a purge may have replaced)."""
    for entry in entries:
        stored, linked = blobs.local_file(entry.digest), folder / entry.path
        if stored is None or not linked.exists() or not stored.samefile(linked):
            return False
    return True


def _lay_out(blobs: BlobReader, entries: Sequence[Entry], folder: Path, link: Callable[[Path, Path], None]) -> None:
    for entry in entries:
        stored = blobs.local_file(entry.digest)
        if stored is None:
            raise NotFound(
                f"the bytes of {entry.path} are not here ({entry.digest.short})",
                code="blob-missing",
                hint="assay verify says what is missing and where a copy may be",
            )
        target = folder / entry.path
        target.parent.mkdir(parents=True, exist_ok=True)
        link(stored, target)
