"""Snapshots: folders that show an artifact's files to frameworks under their own names.

A snapshot is made of hard links to the stored blobs, once per artifact and shared, so that loading copies no byte. What
only lies in packs or far away is brought into it once, hashed on the way; a record beside it says how those files
looked then, and they are trusted only while they look the same. Where links cannot be made (read-only home, another
file system) it is a temporary folder of symbolic links.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePosixPath

from assay.errors import AssayError, IntegrityError, NotFound, StorageError
from assay.ports.blobs import BlobFetcher, BlobReader
from assay.spec.digest import Digest
from assay.spec.manifest import Entry, Manifest
from assay.streams.durable import write_all
from assay.trees import Source, read_into

_STEP = 16 << 20
"""Bytes that are brought at a time: several threads share them."""

_BUFFERS = 2
"""One is read into while the other is hashed and written."""

_Looks = dict[str, list[int | str]]
"""For each file that is no link to a blob: the digest that was found, size, time of last change, and inode."""


@contextmanager
def snapshot(blobs: BlobReader, manifest: Manifest, snapshots: Path) -> Iterator[Path]:
    """A read-only folder with the artifact's files under their own names.

    Raises:
        NotFound: blobs are missing.
        IntegrityError: what was brought from a pack or from far away is not what the manifest says.
        StorageError: nowhere is room for what must be brought.
    """
    folder = _place(snapshots, manifest.digest)
    entries = manifest.entries()
    if not _current(blobs, folder, entries) and not _make(blobs, folder, entries):
        with scratch(f"the files of {manifest.digest.short}") as made:
            try:
                _lay_out(blobs, entries, made, os.symlink)
            except OSError as error:
                raise _not_laid_out(error, f"the files of {manifest.digest.short}") from error
            yield made
        return
    yield folder


@contextmanager
def scratch(what: str) -> Iterator[Path]:
    """A temporary folder; a process that was forked meanwhile leaves it to the one that made it.

    Args:
        what: that goes in, for the message.

    Raises:
        StorageError: it cannot be made.
    """
    try:
        folder, maker = Path(tempfile.mkdtemp(prefix="assay-")), os.getpid()
    except OSError as error:
        raise _not_laid_out(error, what) from error
    try:
        yield folder
    finally:
        if os.getpid() == maker:
            shutil.rmtree(folder, ignore_errors=True)


def keep_for(opened: ExitStack, user: object) -> None:
    """Close *opened* only when *user* has gone, or the process ends: frameworks read on after they have loaded.

    What cannot be watched (a dictionary, a list) is held to have read all it needs.
    """
    held = opened.pop_all()
    try:
        weakref.finalize(user, held.close)
    except TypeError:
        held.close()


def _not_laid_out(error: OSError, what: str) -> StorageError:
    return StorageError.of(error, f"cannot lay out {what} in {tempfile.gettempdir()}")


def drop_snapshot(snapshots: Path, artifact: Digest) -> None:
    """Remove the snapshot of an artifact, if there is one.

    Raises:
        StorageError: it cannot be removed.
    """
    folder = _place(snapshots, artifact)
    try:
        _record(folder).unlink(missing_ok=True)
        shutil.rmtree(folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise StorageError.of(error, f"cannot remove the snapshot of {artifact.short}") from error


def holds_more(folder: Path, entries: Collection[str]) -> bool:
    """Whether a folder shows a framework anything beside *entries*."""
    above = {str(parent) for entry in entries for parent in PurePosixPath(entry).parents}
    for parent, folders, files in os.walk(folder):
        home = Path(parent).relative_to(folder)
        linked = [(home / name).as_posix() for name in folders if (Path(parent) / name).is_symlink()]
        if any((home / name).as_posix() not in entries for name in files) or not above.issuperset(linked):
            return True
    return False


def _place(snapshots: Path, artifact: Digest) -> Path:
    return snapshots / artifact.hex


def _record(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.json")


def _make(blobs: BlobReader, folder: Path, entries: Sequence[Entry]) -> bool:
    """Make the shared snapshot; False when this place cannot hold it."""
    try:
        folder.parent.mkdir(exist_ok=True)
        brings = any(blobs.local_file(entry.digest) is None for entry in entries)
        with _alone(folder, waits=brings):
            return (brings and _current(blobs, folder, entries)) or _lay_out_beside(blobs, folder, entries)
    except OSError:
        return _current(blobs, folder, entries)  # somebody else may have made it meanwhile


def _lay_out_beside(blobs: BlobReader, folder: Path, entries: Sequence[Entry]) -> bool:
    staging = Path(tempfile.mkdtemp(prefix=".making-", dir=folder.parent))
    try:
        brought = _lay_out(blobs, entries, staging, os.link)
        staging.chmod(0o755)  # a sandbox looks at it as somebody else
        shutil.rmtree(folder, ignore_errors=True)
        _write_record(folder, brought)
        staging.rename(folder)
    except (OSError, AssayError):
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return True


@contextmanager
def _alone(folder: Path, *, waits: bool) -> Iterator[None]:
    """Of several that would bring the same bytes, one does; the others wait for it."""
    if not waits:
        yield
        return
    # Named like a half-made snapshot, as which a collection removes it once it is old.
    lock = os.open(folder.with_name(f".making-{folder.name[:32]}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _current(blobs: BlobReader, folder: Path, entries: Sequence[Entry]) -> bool:
    """Whether every file is what it should be, and no more lies there.

    A link leads to the stored blob (a repair or purge may have replaced it); what was brought looks as it did.
    """
    looks: Mapping[str, object] | None = None
    for entry in entries:
        stored, linked = blobs.local_file(entry.digest), folder / entry.path
        if not linked.exists():
            return False
        if stored is not None and stored.samefile(linked):
            continue
        if looks is None:
            looks = _read_record(folder)
        if blobs.size(entry.digest) is None or looks.get(entry.path) != _look(entry, linked):
            return False
    return not holds_more(folder, {entry.path for entry in entries})


def _look(entry: Entry, file: Path) -> list[int | str]:
    found = file.stat()
    return [str(entry.digest), found.st_size, found.st_mtime_ns, found.st_ino]


def _read_record(folder: Path) -> Mapping[str, object]:
    try:
        found = json.loads(_record(folder).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write_record(folder: Path, brought: _Looks) -> None:
    record = _record(folder)
    if not brought:
        record.unlink(missing_ok=True)
        return
    descriptor, name = tempfile.mkstemp(prefix=".making-", dir=record.parent)
    with os.fdopen(descriptor, "w") as made:
        json.dump(brought, made)
    Path(name).replace(record)


def _lay_out(blobs: BlobReader, entries: Sequence[Entry], folder: Path, link: Callable[[Path, Path], None]) -> _Looks:
    """Lay the files out; how those look that are no links to blobs that lie here."""
    brought: _Looks = {}
    for entry in entries:
        target = folder / entry.path
        target.parent.mkdir(parents=True, exist_ok=True)
        stored = blobs.local_file(entry.digest)
        with suppress(FileNotFoundError):  # it was packed meanwhile
            if stored is not None:
                link(stored, target)
                continue
        fetched = blobs.fetch_file(entry.digest) if isinstance(blobs, BlobFetcher) else None
        with suppress(FileNotFoundError):  # it made room for others meanwhile
            if fetched is not None:
                link(fetched, target)
                brought[entry.path] = _look(entry, target)
                continue
        _bring(blobs, entry, target)
        brought[entry.path] = _look(entry, target)
    return brought


def _bring(blobs: BlobReader, entry: Entry, target: Path) -> None:
    """Write out what lies in no file of its own, and hash it on the way."""
    if blobs.size(entry.digest) is None:
        raise NotFound(
            f"the bytes of {entry.path} are not here ({entry.digest.short})",
            code="blob-missing",
            hint="assay verify says what is missing and where a copy may be",
        )
    with target.open("xb") as made:
        found = _write(blobs.open(entry.digest), made.fileno(), entry.digest.algorithm)
        os.fsync(made.fileno())  # the record must not outlive the bytes
    if found != entry.digest:
        raise IntegrityError(
            f"stored bytes of {entry.path} do not match their digest: expected {entry.digest.short}, "
            f"found {found.short}",
            path=entry.path,
            hint="assay verify says what is damaged and where a good copy may be",
        )
    target.chmod(0o444)


def _write(source: Source, target: int, algorithm: str) -> Digest:
    """Read a block while the one before is hashed and written."""
    state, offset = hashlib.new(algorithm), 0
    buffers = [memoryview(bytearray(min(_STEP, source.size))) for _ in range(_BUFFERS)]
    with ThreadPoolExecutor(2) as pool:
        reading = pool.submit(read_into, source, 0, buffers[0])
        while count := reading.result():
            block, offset = buffers[0][:count], offset + count
            buffers.reverse()
            reading = pool.submit(read_into, source, offset, buffers[0])
            hashing = pool.submit(state.update, block)
            write_all(target, block)
            hashing.result()
    return Digest(algorithm, state.hexdigest())
