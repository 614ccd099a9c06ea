"""Where a pull lands: the destination, and the staging folder in which its files gather until they are whole.

    PARENT/
      DEST/                                 new: appears complete or not at all, by one rename
      .DEST.assay-pull-<12 hex digits>/     its staging; one writer, by lock
    DEST/                                   there already, and empty: filled, for a shell or a mount may stand in it
      .assay-pull-<12 hex digits>/          its staging; DEST is whole once this is gone

A folder that is filled gets one name after the other, by renames that copy nothing, and only whole files. If that fails
they are taken back. If the process is killed in that moment, the staging folder is still there to tell, and the next
pull refuses a folder that holds more than that.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from assay.errors import Conflict, StorageError
from assay.spec.records import Version


def whole_path(folder: Path) -> Path:
    """The destination from the root on.

    Raises:
        StorageError: the current folder was removed (code ``destination-not-writable``).
    """
    try:
        return folder.absolute()
    except FileNotFoundError as error:
        raise StorageError(
            f"cannot write {folder}: the current folder was removed",
            code="destination-not-writable",
            hint="go to a folder that exists, or name the destination with its whole path",
        ) from error


def staging_of(folder: Path, version: Version) -> Path:
    """Where the files of a version gather on their way to a destination."""
    name = f".assay-pull-{version.manifest.hex[:12]}"
    return folder / name if folder.is_dir() else folder.parent / f".{folder.name}{name}"


def check_free(folder: Path, staging: Path) -> None:
    """Make sure that a destination is new, or holds nothing but what an interrupted pull of the same left.

    Raises:
        Conflict: it is not (code ``destination-not-empty``).
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise Conflict(
            f"{folder} exists and is not a folder; nothing was written",
            code="destination-not-empty",
            hint="name a new folder",
        )
    if not folder.is_dir():
        return
    found = {path.name for path in folder.iterdir()}
    if not found - {staging.name}:
        return
    left = sorted(name for name in found if name.startswith(".assay-pull-"))
    raise Conflict(
        f"{folder} is not empty; nothing was written",
        code="destination-not-empty",
        hint=f"an interrupted pull left {left[0]} there: empty the folder, or name a new one"
        if left
        else "name a new or empty folder",
    )


@contextmanager
def staged(staging: Path) -> Iterator[None]:
    """The staging folder, locked; it stays when something goes wrong, for the next try.

    Raises:
        Conflict: another pull writes there (code ``pull-in-progress``).
        StorageError: it is a link or somebody else's (code ``destination-not-writable``).
        OSError: it cannot be made.
    """
    staging.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _open_own(staging)
    try:
        _lock(descriptor, staging)
        try:
            yield
        except BaseException:
            with suppress(OSError):
                staging.rmdir()  # which only removes it when it is empty
            raise
    finally:
        os.close(descriptor)


def _open_own(staging: Path) -> int:
    """Make or open the staging folder; its name can be foreseen, so that anybody may have put something there."""
    made = True
    try:
        staging.mkdir()
    except FileExistsError:
        made = False
    try:
        descriptor = os.open(staging, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENOTDIR}:
            raise _not_ours(staging) from error
        raise
    # What was made just now may still bear another name: some mounts give all files to one user.
    if not made and os.fstat(descriptor).st_uid != os.geteuid():
        os.close(descriptor)
        raise _not_ours(staging)
    return descriptor


def _not_ours(staging: Path) -> StorageError:
    return StorageError(
        f"cannot gather files in {staging}: it is no folder of yours; nothing was written",
        code="destination-not-writable",
        hint="see who put it there and remove it, or name another folder",
    )


def _lock(descriptor: int, staging: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), staging.lstat()):
            return
    except (BlockingIOError, FileNotFoundError):  # or another pull has just finished with it
        pass
    raise Conflict(f"another pull is writing to {staging}", code="pull-in-progress", hint="wait for it, then try again")


def appear(staging: Path, folder: Path) -> None:
    """Let the destination hold what was gathered.

    Raises:
        Conflict: something was put there meanwhile (code ``destination-not-empty``).
        OSError: it cannot be; the files are in the staging folder.
    """
    if staging.parent == folder:
        _fill(staging, folder)
        staging.rmdir()
    else:
        staging.rename(folder)


def _fill(staging: Path, folder: Path) -> None:
    """Move everything up into the folder, or nothing."""
    moved: list[str] = []
    try:
        for name in sorted(path.name for path in staging.iterdir()):
            _check_new(folder / name)
            moved.append(name)
            (staging / name).rename(folder / name)
    except BaseException:
        for name in moved:
            with suppress(OSError):
                (folder / name).rename(staging / name)
        raise


def _check_new(path: Path) -> None:
    if os.path.lexists(path):
        raise Conflict(
            f"{path} was put there meanwhile; nothing was written",
            code="destination-not-empty",
            hint="name a new or empty folder",
        )


def failure(folder: Path, error: OSError) -> StorageError:
    """What an error of the system means for a pull."""
    if error.errno == errno.EFBIG:
        return StorageError(
            f"cannot write {folder}: a file of it is larger than is allowed there; nothing appeared",
            code="destination-full",
            hint="the file system or a limit of this process (ulimit -f) does not allow files this large",
        )
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        place = folder if folder.is_dir() else folder.parent
        free = shutil.disk_usage(place).free if place.is_dir() else 0
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
