"""Files that are about to be stored: opening them, and noticing that they change while they are read.

Not here: copying (``copying``) and places (``directory``).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from assay.errors import Conflict, InvalidInput, NotFound, StorageError


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells that a file was touched: identity, size and times of last change, as the file system keeps them."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int

    @classmethod
    def of(cls, file: int | Path) -> Stamp:
        """The stamp of an open descriptor or a path (links are followed)."""
        found = os.stat(file)  # noqa: PTH116 - takes a descriptor
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)

    def check_unchanged(self, descriptor: int, file: Path) -> None:
        """Compare with now, through the descriptor and through the path.

        Raises:
            Conflict: the file was written, replaced or removed since (code ``source-changed``).
        """
        try:
            same = Stamp.of(descriptor) == self and Stamp.of(file) == self
        except FileNotFoundError:
            same = False
        if not same:
            raise Conflict(
                f"{file} changed while it was read; nothing was stored of it",
                code="source-changed",
                hint="wait until whoever writes it is done, then push again",
                path=str(file),
            )


@contextmanager
def open_source(file: Path) -> Iterator[int]:
    """A descriptor for reading a regular file.

    Raises:
        NotFound: it is not there.
        InvalidInput: it is a folder, pipe, socket or device (code ``not-a-file``), or may not be read (code
            ``source-unreadable``).
    """
    try:
        # A pipe must not block the open; regular files ignore the flag.
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise _cannot_open(file, error) from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise InvalidInput(f"{file} is not a regular file", code="not-a-file", path=str(file))
        yield descriptor
    finally:
        os.close(descriptor)


def _cannot_open(file: Path, error: OSError) -> Exception:
    if error.errno in {errno.ENOENT, errno.ENOTDIR}:
        return NotFound(f"no such file: {file}", path=str(file))
    if error.errno in {errno.EACCES, errno.EPERM}:
        return InvalidInput(f"{file} may not be read", code="source-unreadable", path=str(file))
    if error.errno == errno.ENXIO:  # a socket
        return InvalidInput(f"{file} is not a regular file", code="not-a-file", path=str(file))
    return StorageError.of(error, f"cannot read {file}", path=str(file))


def remove_original(file: Path) -> None:
    """Remove a file whose bytes are stored now.

    Raises:
        StorageError: that cannot be.
    """
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError.of(error, f"{file} is stored, but the original cannot be removed", path=str(file)) from error
