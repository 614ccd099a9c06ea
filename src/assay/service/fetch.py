"""Pull: an artifact's files, verified, into a folder.

Files are written to a staging folder beside the destination, each hashed as it is written; the whole is renamed into
place when every byte matched. An interrupted pull leaves the staging folder, and the next pull of the same artifact to
the same place goes on from there, after hashing what it finds. Unsafe names never reach the disk: ``Manifest.entries``
refuses them.

    PARENT/
      DEST/                                 appears complete or not at all
      .DEST.assay-pull-<12 hex digits>/     staging; one writer, by lock
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pathspec import GitIgnoreSpec

from assay.errors import Conflict, IntegrityError, InvalidInput, NotFound, StorageError
from assay.ports.blobs import BlobReader
from assay.ports.progress import SILENT, Progress
from assay.service.registry import Registry
from assay.spec.digest import Digest
from assay.spec.manifest import Entry
from assay.spec.records import Version
from assay.streams.copying import digest_file, store_copy
from assay.trees import Source, read_into

BLOCK = 16 << 20
"""Bytes that are brought at a time where they lie in no file: several threads share the decoding of so many."""
THREADS = min(4, os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class Pulled:
    """The outcome of a pull.

    Args:
        version: what was pulled.
        folder: where the files lie.
        files: how many.
        size: bytes of them.
        resumed: bytes that an earlier, interrupted pull had already brought.
        linked: whether the files are read-only hard links to the store: not where one of them only lies in a pack.
    """

    version: Version
    folder: Path
    files: int
    size: int
    resumed: int
    linked: bool


def pull(
    registry: Registry,
    version: Version,
    folder: Path,
    *,
    only: Sequence[str] = (),
    link: bool = False,
    progress: Progress = SILENT,
) -> Pulled:
    """Write the files of *version* into *folder*, which must be new or empty.

    Args:
        registry: where from.
        version: which artifact.
        folder: the destination.
        only: gitignore-style patterns; entries that match any are written, all when empty.
        link: make read-only hard links to the stored blobs instead of copies. Takes no time and no space; whoever
            writes to such a file in spite of its mode damages the store.
        progress: hears about bytes written.

    Raises:
        Conflict: the destination is not empty (``destination-not-empty``), or another pull writes there
            (``pull-in-progress``).
        NotFound: blobs are missing (``blob-missing``), or no entry matches *only* (``no-match``); nothing is written.
        IntegrityError: stored bytes do not match their digest; nothing appears at the destination.
        InvalidInput: a pattern cannot be read (``invalid-pattern``), or hostile or unreadable file names in the
            manifest; nothing is written.
        StorageError: the disk is full or not writable; what was written stays for the next try.
    """
    entries = _chosen(registry.manifest(version).entries(), only, version)
    registry.check_present(version, entries)
    folder = _whole(folder)
    _check_destination(folder)
    staging = folder.parent / f".{folder.name}.assay-pull-{version.manifest.hex[:12]}"
    progress.start("pulling", sum(entry.size for entry in entries))
    try:
        with _staged(staging):
            _clear_strangers(staging, entries)
            linked = link and all(registry.blobs.local_file(entry.digest) is not None for entry in entries)
            resumed = _write_all(registry.blobs, staging, entries, link=link, progress=progress)
            _appear(staging, folder)
    except OSError as error:
        raise _failed(folder, error) from error
    finally:
        progress.finish()
    return Pulled(version, folder, len(entries), sum(entry.size for entry in entries), resumed, linked)


def _chosen(entries: Sequence[Entry], only: Sequence[str], version: Version) -> Sequence[Entry]:
    if not only:
        return entries
    try:
        spec = GitIgnoreSpec.from_lines(only)
    except ValueError as error:
        raise InvalidInput(
            f"not a pattern: {' '.join(only)} ({error})",
            code="invalid-pattern",
            hint="patterns follow the rules of .gitignore, such as '*.json' or 'onnx/'",
        ) from error
    found = [entry for entry in entries if spec.match_file(entry.path)]
    if not found:
        raise NotFound(
            f"no file of {version.reference} matches {' '.join(only)}",
            code="no-match",
            hint=f"assay show {version.reference} --files lists them",
        )
    return found


def _whole(folder: Path) -> Path:
    try:
        return folder.absolute()
    except FileNotFoundError as error:
        raise StorageError(
            f"cannot write {folder}: the current folder was removed",
            code="destination-not-writable",
            hint="go to a folder that exists, or name the destination with its whole path",
        ) from error


def _check_destination(folder: Path) -> None:
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise Conflict(
            f"{folder} exists and is not a folder; nothing was written",
            code="destination-not-empty",
            hint="name a new folder",
        )
    if folder.is_dir() and any(folder.iterdir()):
        raise Conflict(
            f"{folder} is not empty; nothing was written",
            code="destination-not-empty",
            hint="name a new or empty folder",
        )


@contextmanager
def _staged(staging: Path) -> Iterator[None]:
    """The staging folder, locked; it stays when something goes wrong, for the next try."""
    staging.parent.mkdir(parents=True, exist_ok=True)
    staging.mkdir(exist_ok=True)
    descriptor = os.open(staging, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(
                f"another pull is writing to {staging}", code="pull-in-progress", hint="wait for it, then try again"
            ) from None
        yield
    finally:
        os.close(descriptor)


def _clear_strangers(staging: Path, entries: Sequence[Entry]) -> None:
    """Remove what this pull will not write: leftovers of a pull with other patterns, half-written files."""
    wanted = {entry.path for entry in entries}
    for found in [*staging.rglob("*")]:
        if not found.is_dir() and found.relative_to(staging).as_posix() not in wanted:
            found.unlink()


def _write_all(blobs: BlobReader, staging: Path, entries: Sequence[Entry], *, link: bool, progress: Progress) -> int:
    for parent in sorted({(staging / entry.path).parent for entry in entries}):
        parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(THREADS) as pool:
        tasks = [
            pool.submit(
                _write, blobs, entry, staging / entry.path, _scratch(staging, entry), link=link, progress=progress
            )
            for entry in entries
        ]
        try:
            return sum(task.result() for task in tasks)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _scratch(staging: Path, entry: Entry) -> Path:
    """Where an entry is written until it is whole.

    Each entry has a name of its own, for entries may hold the same bytes; no entry can have it, for the backslash.
    """
    return staging / f".{hashlib.sha256(entry.path.encode()).hexdigest()[:32]}\\part"


def _write(blobs: BlobReader, entry: Entry, target: Path, scratch: Path, *, link: bool, progress: Progress) -> int:
    """Bring one entry into the staging folder; the bytes that were already there."""
    if target.is_file() and target.stat().st_size == entry.size and digest_file(target) == entry.digest:
        progress.advance(entry.size)
        return entry.size
    scratch.unlink(missing_ok=True)
    file = blobs.local_file(entry.digest)
    if link and file is not None and _link(file, target):
        progress.advance(entry.size)
        return 0
    with scratch.open("x+b") as made, _opened(file) as stored:
        if stored is not None:
            found, size = store_copy(stored.fileno(), made.fileno(), entry.size, progress=progress)
        else:
            found, size = _store_source(blobs.open(entry.digest), made, progress=progress)
    if (found, size) != (entry.digest, entry.size):
        scratch.unlink()
        raise IntegrityError(
            f"stored bytes of {entry.path} do not match their digest: expected {entry.digest.short} "
            f"({entry.size} bytes), found {found.short} ({size} bytes); nothing was written to the destination",
            path=entry.path,
            hint="assay verify says what is damaged and where a good copy may be",
        )
    scratch.replace(target)
    return 0


@contextmanager
def _opened(file: Path | None) -> Iterator[IO[bytes] | None]:
    """A stored file; None where there is none, or none any more because it was packed since."""
    with ExitStack() as stack:
        opened = None
        with suppress(FileNotFoundError):
            opened = None if file is None else stack.enter_context(file.open("rb"))
        yield opened


def _store_source(source: Source, made: IO[bytes], *, progress: Progress) -> tuple[Digest, int]:
    """Bring bytes that lie in no file of their own into one, hashed on the way."""
    state, offset, buffer = hashlib.sha256(), 0, memoryview(bytearray(BLOCK))
    while count := read_into(source, offset, buffer):
        state.update(buffer[:count])
        made.write(buffer[:count])
        offset += count
        progress.advance(count)
    made.flush()
    os.fsync(made.fileno())
    return Digest("sha256", state.hexdigest()), offset


def _link(file: Path, target: Path) -> bool:
    target.unlink(missing_ok=True)
    try:
        os.link(file, target)
    except FileNotFoundError:
        return False  # it was packed since
    except OSError as error:
        if error.errno in {errno.EXDEV, errno.EMLINK, errno.EPERM, errno.ENOTSUP}:
            raise InvalidInput(
                f"cannot make hard links from the store to {target.parent}: {error.strerror}",
                code="cannot-link",
                hint="leave --link out, or pull to a folder on the store's own file system",
            ) from error
        raise
    return True


def _appear(staging: Path, folder: Path) -> None:
    if folder.is_dir():
        folder.rmdir()
    staging.rename(folder)


def _failed(folder: Path, error: OSError) -> StorageError:
    if error.errno == errno.EFBIG:
        return StorageError(
            f"cannot write {folder}: a file of it is larger than is allowed there; nothing appeared",
            code="destination-full",
            hint="the file system or a limit of this process (ulimit -f) does not allow files this large",
        )
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        free = shutil.disk_usage(folder.parent).free if folder.parent.is_dir() else 0
        return StorageError(
            f"no space left to write {folder} ({free:,} bytes free); what was written so far is kept beside it",
            code="destination-full",
            hint="make room and pull again: it goes on from there",
        )
    blocked = next((above for above in folder.parents if above.exists()), None)
    if blocked is not None and not blocked.is_dir():
        return StorageError(
            f"cannot write {folder}: {blocked} is not a folder",
            code="destination-not-writable",
            hint="name a folder below an existing one",
        )
    return StorageError(
        f"cannot write {folder}: {(error.strerror or str(error)).lower()}",
        code="destination-not-writable",
        hint="name a folder that you may write to",
    )
