"""Load: look at an artifact, choose who can build it, give that loader a folder of its files, and nothing more.

The folder is a snapshot of hard links to the stored blobs under their entry paths, made once per artifact and shared,
so that loading copies no byte; what only lies in packs is written out into it. Where links cannot be made (read-only
home, another file system) it is a temporary folder of symbolic links.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Protocol

from assay.errors import AssayError, CouldNot, NotFound, Refused, StorageError
from assay.policy.policy import Gate
from assay.ports.blobs import BlobFetcher, BlobReader
from assay.ports.loaders import Loader, PartLoader
from assay.service.examine import inspect
from assay.service.gate import Guard
from assay.service.registry import Registry
from assay.spec.description import Description
from assay.spec.digest import Digest
from assay.spec.inspection import Inspection
from assay.spec.manifest import Entry, Manifest
from assay.spec.records import Version
from assay.trees import Tree, read_into
from assay.trees.window import FileSource

_WRITTEN = 16 << 20
"""Bytes that are decoded at a time: several threads share them."""


class Choose(Protocol):
    """Picks the loader for what was found."""

    def __call__(self, inspection: Inspection, *, part: str | None = None) -> tuple[Loader, Description]:
        """The loader, and the description it is for.

        Args:
            inspection: what the artifact holds.
            part: an entry or folder; the model it belongs to is meant.

        Raises:
            NotFound: nobody can (code ``no-loader``), or no model has the entry.
            InvalidInput: several models are there and none leads (code ``ambiguous-model``).
        """


def load(
    registry: Registry,
    version: Version,
    *,
    guard: Guard,
    choose: Choose,
    snapshots: Path,
    part: str | None = None,
    yanked: bool = False,
) -> object:
    """The framework's own object for a version.

    Args:
        registry: where from.
        version: what.
        guard: what to understand it with, and the policies; it is looked at afresh, no earlier description or report
            is trusted.
        choose: picks the loader.
        snapshots: folder for shared snapshots, on the store's file system.
        part: as in ``build``.
        yanked: load it although it was yanked.

    Raises:
        Refused: the policies do not let it be loaded (codes ``not-safe``, ``not-signed``), it was yanked (code
            ``version-yanked``), or a loader cannot build it without more than it allows.
        NotFound: no loader for this format (code ``no-loader``), or bytes are missing or purged.
        MissingDependency: the framework is not installed.
    """
    manifest = registry.manifest(version)
    admit(registry, version, guard=guard, yanked=yanked)
    tree = registry.tree(manifest)
    inspection = inspect(tree, guard.auditing.formats)
    inspection = _permitting(inspection, guard)
    _, decision = guard.judge(tree, inspection, subject=str(manifest.digest))
    guard.admit(Gate.LOAD, decision, version.reference)
    with snapshot(registry.blobs, manifest, snapshots) as folder:
        return build(folder, inspection, choose=choose, what=version.reference, part=part)


def admit(registry: Registry, version: Version, *, guard: Guard, yanked: bool = False) -> None:
    """What is asked of a version before anything of it is used, whatever its files hold.

    Args:
        registry: where from.
        version: what.
        guard: the policies.
        yanked: admit it although it was yanked.

    Raises:
        Refused: it is not signed as the policies want it (code ``not-signed``), or was yanked (code
            ``version-yanked``).
    """
    if version.yanked is not None and not yanked:
        raise Refused(
            f"refused to load {version.reference}: it was yanked: {version.yanked}",
            code="version-yanked",
            hint="load another version, or this one all the same with yanked=True",
        )
    guard.admit_signed(Gate.LOAD, registry, version)


def load_files(tree: Tree, folder: Path, *, guard: Guard, choose: Choose, what: str, part: str | None = None) -> object:
    """The framework's own object for files that were not pushed.

    Frameworks see the entries of *tree* and nothing else: what ``.assayignore`` hides was not looked at.

    Args:
        tree: the files.
        folder: where they lie.
        guard: what to understand them with, and the policies.
        choose: picks the loader.
        what: how messages call it.
        part: as in ``build``.

    Raises:
        As ``load``.
    """
    inspection = inspect(tree, guard.auditing.formats)
    inspection = _permitting(inspection, guard)
    _, decision = guard.judge(tree, inspection, subject=guard.subject_of(tree))
    guard.admit(Gate.LOAD, decision, what)
    if not _holds_more(folder, set(tree.paths)):
        return build(folder, inspection, choose=choose, what=what, part=part)
    with tempfile.TemporaryDirectory(prefix="assay-") as scratch:
        for entry in tree.paths:
            source = tree.source(entry)
            target = Path(scratch) / entry
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(source, FileSource):
                target.symlink_to(source.file.absolute())
            else:
                target.write_bytes(source.read(0, source.size))
        return build(Path(scratch), inspection, choose=choose, what=what, part=part)


def _permitting(inspection: Inspection, guard: Guard) -> Inspection:
    """The inspection for loaders, with the classes that the policies let pickles name."""
    if not guard.globals:
        return inspection
    described = tuple(replace(found, permitted=guard.globals) for found in inspection.descriptions)
    return replace(inspection, descriptions=described)


def _holds_more(folder: Path, entries: Collection[str]) -> bool:
    """Whether a folder shows a framework anything beside *entries*."""
    above = {str(parent) for entry in entries for parent in PurePosixPath(entry).parents}
    for parent, folders, files in os.walk(folder):
        home = Path(parent).relative_to(folder)
        linked = [(home / name).as_posix() for name in folders if (Path(parent) / name).is_symlink()]
        if any((home / name).as_posix() not in entries for name in files) or not above.issuperset(linked):
            return True
    return False


def build(folder: Path, inspection: Inspection, *, choose: Choose, what: str, part: str | None = None) -> object:
    """Choose a loader and run it; whatever the framework raises becomes one clear error.

    Args:
        folder: the files.
        inspection: what they hold.
        choose: picks the loader.
        what: what is loaded, for messages.
        part: an entry or folder of one model among several, or a part beside the model such as ``tokenizer``.
    """
    is_entry = part is not None and any(path == part or path.startswith(f"{part}/") for path in inspection.sizes)
    loader, description = choose(inspection, part=part if is_entry else None)
    try:
        if part is None or is_entry:
            return loader.load(folder, description, inspection.descriptions)
        return _part_loader(loader, description, what, part).load_part(folder, description, part)
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


def _part_loader(loader: Loader, description: Description, what: str, part: str) -> PartLoader:
    if isinstance(loader, PartLoader):
        return loader
    raise NotFound(
        f"{what} has no part {part!r:.100}; a {description.format} model has none beside itself",
        code="part-not-found",
        hint="name a file of the artifact, or leave part out",
    )


@contextmanager
def snapshot(blobs: BlobReader, manifest: Manifest, snapshots: Path) -> Iterator[Path]:
    """A read-only folder with the artifact's files under their own names.

    Raises:
        NotFound: blobs are missing.
    """
    folder = _place(snapshots, manifest.digest)
    entries = manifest.entries()
    if not _current(blobs, folder, entries) and not _make(blobs, folder, entries):
        with tempfile.TemporaryDirectory(prefix="assay-") as scratch:
            _lay_out(blobs, entries, Path(scratch), os.symlink)
            yield Path(scratch)
        return
    yield folder


def drop_snapshot(snapshots: Path, artifact: Digest) -> None:
    """Remove the snapshot of an artifact, if there is one.

    Raises:
        StorageError: it cannot be removed.
    """
    try:
        shutil.rmtree(_place(snapshots, artifact))
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageError.of(error, f"cannot remove the snapshot of {artifact.short}") from error


def _place(snapshots: Path, artifact: Digest) -> Path:
    return snapshots / artifact.hex


def _make(blobs: BlobReader, folder: Path, entries: Sequence[Entry]) -> bool:
    """Make the shared snapshot; False when this place cannot hold it."""
    try:
        folder.parent.mkdir(exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".making-", dir=folder.parent))
    except OSError:
        return False
    try:
        _lay_out(blobs, entries, staging, os.link)
        staging.chmod(0o755)  # a sandbox looks at it as somebody else
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
    """Whether every link leads to the stored blob (a repair or purge may have replaced it), and no more lies there.

    Of a blob that only lies in a pack a copy was made, which was compared while it was.
    """
    for entry in entries:
        stored, linked = blobs.local_file(entry.digest), folder / entry.path
        if not linked.exists():
            return False
        if stored is None and (blobs.size(entry.digest) is None or linked.stat().st_size != entry.size):
            return False
        if stored is not None and not stored.samefile(linked):
            return False
    return not _holds_more(folder, {entry.path for entry in entries})


def _lay_out(blobs: BlobReader, entries: Sequence[Entry], folder: Path, link: Callable[[Path, Path], None]) -> None:
    for entry in entries:
        stored = blobs.local_file(entry.digest)
        if stored is None and isinstance(blobs, BlobFetcher):
            stored = blobs.fetch_file(entry.digest)
        target = folder / entry.path
        target.parent.mkdir(parents=True, exist_ok=True)
        if stored is not None:
            with suppress(FileNotFoundError):  # it was packed meanwhile
                link(stored, target)
                continue
        _write_out(blobs, entry, target)


def _write_out(blobs: BlobReader, entry: Entry, target: Path) -> None:
    """Write what only lies in a pack; it is compared while it is decoded."""
    if blobs.size(entry.digest) is None:
        raise NotFound(
            f"the bytes of {entry.path} are not here ({entry.digest.short})",
            code="blob-missing",
            hint="assay verify says what is missing and where a copy may be",
        )
    source, buffer, offset = blobs.open(entry.digest), memoryview(bytearray(_WRITTEN)), 0
    with target.open("xb") as made:
        while count := read_into(source, offset, buffer):
            made.write(buffer[:count])
            offset += count
    target.chmod(0o444)
