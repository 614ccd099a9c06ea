"""The originals of a push that moves: which they are, removing them once they have a name, giving them back else.

While a push runs, what the store took over by hard link lies under two names: a write through the original's name would
damage the blob. So it ends in one of two ways: the original is removed (``remove``), or it becomes a file of its own
again (``part``). A process that is killed in between leaves the links, which are read-only.

A link at the path is an original, too: it is what the person sees there. What it points to is not theirs to lose: other
links may lead to it, such as those of the other revisions in a Hugging Face cache.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from assay.errors import StorageError
from assay.ports.blobs import BlobReader
from assay.ports.progress import SILENT, Progress
from assay.spec.digest import Digest
from assay.streams.copying import digest_descriptor, store_copy

_READ_ONLY = 0o444
"""What the store leaves of the mode of a file that it takes over."""


@dataclass(frozen=True, slots=True)
class Original:
    """What stood for an entry when a push began.

    Args:
        entry: path in the artifact; one of several where a link to a folder stands for all of them.
        path: the file, or the first link on the way to it.
        before: what it was.
    """

    entry: str
    path: Path
    before: os.stat_result

    @property
    def link(self) -> bool:
        """Whether it is a symbolic link."""
        return stat.S_ISLNK(self.before.st_mode)


def originals_of(root: Path, files: Mapping[str, Path]) -> list[Original]:
    """What stands for the entries of *files*, which were collected from *root*; what went meanwhile is left out."""
    whole = root.is_dir()
    found: dict[Path, Original] = {}
    for entry in files:
        path = _first_link(root, entry) if whole else root
        with suppress(FileNotFoundError):
            found.setdefault(path, Original(entry, path, path.lstat()))
    return list(found.values())


def _first_link(root: Path, entry: str) -> Path:
    path = root
    for part in entry.split("/"):
        path /= part
        if path.is_symlink():
            break
    return path


def remove(originals: Sequence[Original], blobs: BlobReader, stored: Mapping[str, Digest]) -> list[Original]:
    """Remove originals that still are what was stored; those that are not stay.

    Args:
        originals: as they were before they were stored.
        blobs: where they are stored.
        stored: digest of each entry.

    Returns:
        What was changed or replaced since it was stored, and is therefore left.

    Raises:
        StorageError: one that is stored cannot be removed.
    """
    left = []
    for one in originals:
        try:
            if _is_stored(one, blobs, stored[one.entry]):
                one.path.unlink()
            else:
                left.append(one)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise StorageError.of(error, f"{one.path} is stored, but the original cannot be removed") from error
    return left


def _is_stored(one: Original, blobs: BlobReader, digest: Digest) -> bool:
    now = one.path.lstat()
    if not os.path.samestat(now, one.before) or now.st_size != one.before.st_size:
        return False
    if now.st_mtime_ns == one.before.st_mtime_ns:
        return True
    if one.link:
        return False
    # The store gives what it takes over a time of its own. Where it took another of the same bytes after it, only
    # those tell.
    blob = blobs.local_file(digest)
    return (blob is not None and blob.samefile(one.path)) or _digest_of(one.path, digest.algorithm) == digest


def _digest_of(path: Path, algorithm: str) -> Digest:
    descriptor = _open(path)
    try:
        return digest_descriptor(descriptor, algorithm=algorithm)
    finally:
        os.close(descriptor)


def part(originals: Sequence[Original], *, progress: Progress = SILENT) -> list[Path]:
    """Make originals files of their own again, with the mode and the time that they had.

    Args:
        originals: as they were before they were stored.
        progress: hears about bytes copied.

    Returns:
        Those for which that failed: they may still be links to stored blobs.
    """
    failed = []
    taken = [one for one in originals if _is_taken(one)]
    if not taken:
        return []
    progress.start("giving back", sum(one.before.st_size for one in taken))
    try:
        for one in taken:
            try:
                _give_back(one, progress)
            except FileNotFoundError:
                continue
            except OSError:
                failed.append(one.path)
    finally:
        progress.finish()
    return failed


def _is_taken(one: Original) -> bool:
    """Whether the store took a file over: also one that it needed no more then, which is only left read-only."""
    try:
        now = one.path.lstat()
    except OSError:
        return False
    if one.link or not os.path.samestat(now, one.before):
        return False
    mode = stat.S_IMODE(one.before.st_mode)
    return now.st_nlink > one.before.st_nlink or mode != stat.S_IMODE(now.st_mode) == mode & _READ_ONLY


def _give_back(one: Original, progress: Progress) -> None:
    descriptor = _open(one.path)
    try:
        now = os.fstat(descriptor)
        if not os.path.samestat(now, one.before):
            return  # somebody put another file there
        if now.st_nlink > one.before.st_nlink:
            _copy_over(one, descriptor, progress)
        else:
            os.fchmod(descriptor, stat.S_IMODE(one.before.st_mode))
    finally:
        os.close(descriptor)


def _copy_over(one: Original, descriptor: int, progress: Progress) -> None:
    """Put a copy in the place of a link to a blob."""
    made, name = tempfile.mkstemp(prefix=".assay-", dir=one.path.parent)
    try:
        store_copy(descriptor, made, one.before.st_size, progress=progress)
        with suppress(PermissionError):
            os.fchown(made, one.before.st_uid, one.before.st_gid)
        os.fchmod(made, stat.S_IMODE(one.before.st_mode))
        os.utime(made, ns=(one.before.st_atime_ns, one.before.st_mtime_ns))
        if os.path.samestat(one.path.lstat(), one.before):
            Path(name).replace(one.path)
    finally:
        os.close(made)
        Path(name).unlink(missing_ok=True)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
