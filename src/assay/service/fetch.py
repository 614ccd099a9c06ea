"""Pull: an artifact's files, verified, into a folder.

Files are written to a staging folder, each hashed as it is written; only when every byte matched do they go to the
destination (``assay.service.landing`` says what holds there). An interrupted pull leaves the staging folder, and the
next pull of the same artifact to the same place goes on from there, within a large file too, after hashing what it
finds. Unsafe names never reach the disk: ``Manifest.entries`` refuses them. What was pulled is not flushed: after a
power cut it may be incomplete, as after ``cp``, and the store still has it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from assay.errors import IntegrityError, InvalidInput, NotFound
from assay.later import later
from assay.ports.blobs import BlobReader
from assay.ports.progress import SILENT, Progress
from assay.service import landing
from assay.service.registry import Registry
from assay.spec.digest import Digest
from assay.spec.manifest import Entry
from assay.spec.records import Version
from assay.streams.bringing import bring
from assay.streams.copying import STEP, digest_file, store_copy
from assay.streams.stopping import Stoppable

if TYPE_CHECKING:
    import pathspec
else:
    pathspec = later("pathspec")

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
    """Write the files of *version* into *folder*, which must be new, or empty but for an interrupted pull of the same.

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
        IntegrityError: stored bytes do not match their digest; no file appears at the destination.
        InvalidInput: a pattern cannot be read (``invalid-pattern``), or hostile or unreadable file names in the
            manifest; nothing is written.
        StorageError: the disk is full or not writable, or somebody else's folder or a link is where the files would be
            gathered; what was written stays for the next try.
    """
    entries = _chosen(registry.manifest(version).entries(), only, version)
    registry.check_present(version, entries)
    folder = landing.whole_path(folder)
    staging = landing.staging_of(folder, version)
    landing.check_free(folder, staging)
    progress.start("pulling", sum(entry.size for entry in entries))
    try:
        with landing.staged(staging):
            landing.check_free(folder, staging)  # again: another pull may have filled it
            _clear_strangers(staging, entries)
            linked = link and all(registry.blobs.local_file(entry.digest) is not None for entry in entries)
            resumed = _write_all(registry.blobs, staging, entries, link=link, progress=progress)
            landing.appear(staging, folder)
    except OSError as error:
        raise landing.failure(folder, error) from error
    finally:
        progress.finish()
    return Pulled(version, folder, len(entries), sum(entry.size for entry in entries), resumed, linked)


def _chosen(entries: Sequence[Entry], only: Sequence[str], version: Version) -> Sequence[Entry]:
    if not only:
        return entries
    try:
        spec = pathspec.GitIgnoreSpec.from_lines(only)
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


def _clear_strangers(staging: Path, entries: Sequence[Entry]) -> None:
    """Remove what this pull will not write, and what it must not go on with.

    That is what a pull with other patterns left, links of both kinds and other people's files. A hard link may be one
    to the store, made by a pull by links: whoever gets it as a copy damages the store by writing to it.
    """
    wanted = {staging / entry.path for entry in entries} | {_scratch(staging, entry) for entry in entries}
    owner = staging.lstat().st_uid
    for above, folders, files in os.walk(staging, topdown=False):
        for found in (Path(above, name) for name in (*folders, *files)):
            status = found.lstat()
            own = status.st_uid == owner
            if stat.S_ISDIR(status.st_mode):
                with suppress(OSError) if own else nullcontext():
                    found.rmdir()  # which only removes it when it is empty
            elif found not in wanted or not own or not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
                found.unlink()


def _write_all(blobs: BlobReader, staging: Path, entries: Sequence[Entry], *, link: bool, progress: Progress) -> int:
    for parent in sorted({(staging / entry.path).parent for entry in entries}):
        parent.mkdir(parents=True, exist_ok=True)
    heard = Stoppable(progress)
    with ThreadPoolExecutor(THREADS) as pool:
        tasks = [
            pool.submit(_write, blobs, entry, staging / entry.path, _scratch(staging, entry), link=link, progress=heard)
            for entry in sorted(entries, key=lambda entry: -entry.size)  # so that no thread is left with a large one
        ]
        try:
            return sum(task.result() for task in tasks)
        except BaseException:
            heard.stop()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _scratch(staging: Path, entry: Entry) -> Path:
    """Where an entry is written until it is whole.

    Each entry has a name of its own, for entries may hold the same bytes; no entry can have it, for the backslash.
    """
    return staging / f".{hashlib.sha256(entry.path.encode()).hexdigest()[:32]}\\part"


def _write(blobs: BlobReader, entry: Entry, target: Path, scratch: Path, *, link: bool, progress: Progress) -> int:
    """Bring one entry into the staging folder; the bytes that were already there."""
    file = blobs.local_file(entry.digest) if link else None
    if file is not None and _link(file, target):
        progress.advance(entry.size)
        scratch.unlink(missing_ok=True)
        return 0
    if _is_whole(target, entry):
        progress.advance(entry.size)
        scratch.unlink(missing_ok=True)
        return entry.size
    digest, size, resumed = _bring(blobs, entry, scratch, progress)
    if digest != entry.digest and resumed:  # what was left here may be what is damaged
        scratch.unlink()
        digest, size, resumed = _bring(blobs, entry, scratch, SILENT)
    if (digest, size) != (entry.digest, entry.size):
        scratch.unlink()
        raise IntegrityError(
            f"stored bytes of {entry.path} do not match their digest: expected {entry.digest.short} "
            f"({entry.size} bytes), found {digest.short} ({size} bytes); nothing was written to the destination",
            path=entry.path,
            hint="assay verify says what is damaged and where a good copy may be",
        )
    scratch.replace(target)
    return resumed


def _is_whole(file: Path, entry: Entry) -> bool:
    if not file.is_file() or file.stat().st_size != entry.size:
        return False
    return digest_file(file, algorithm=entry.digest.algorithm) == entry.digest


def _bring(blobs: BlobReader, entry: Entry, scratch: Path, progress: Progress) -> tuple[Digest, int, int]:
    """Bring an entry's bytes into a file, which may hold the beginning of them: digest, size, and what it held."""
    descriptor = os.open(scratch, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    with os.fdopen(descriptor, "r+b") as made:
        have = os.fstat(descriptor).st_size
        stored = None if have >= STEP else _opened(blobs.local_file(entry.digest))
        if stored is not None:
            with stored:
                if have:  # ext4 takes emptying a file for its replacement, and sends it to the disk when it is closed
                    os.ftruncate(descriptor, 0)
                digest, size = store_copy(
                    stored.fileno(),
                    made.fileno(),
                    entry.size,
                    algorithm=entry.digest.algorithm,
                    durable=False,
                    progress=progress,
                )
            return digest, size, 0
        arrived = bring(
            blobs.open(entry.digest),
            descriptor,
            have=have,
            algorithm=entry.digest.algorithm,
            durable=False,
            progress=progress,
        )
        return arrived.digest, arrived.size, arrived.resumed


def _opened(file: Path | None) -> IO[bytes] | None:
    """A stored file; None where there is none, or none any more because it was packed since."""
    with suppress(FileNotFoundError):
        return None if file is None else file.open("rb")
    return None


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
