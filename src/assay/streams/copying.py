"""Copying and hashing at once: every block is read once, and hashed by a second thread while it is written.

A file is cloned where the file system can. Otherwise large files are written past the page cache where the file system
can (``O_DIRECT``): filling the cache with gigabytes that nobody reads next costs more processor time than hashing them.
The hash is taken over the very blocks that were written: it identifies what was stored, whatever happens to the source.

Not here: where files go and when they become visible (``assay.blobs.directory``).
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import mmap
import os
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Self

from assay.ports.progress import SILENT, Progress
from assay.spec.digest import Digest
from assay.streams.durable import write_at
from assay.streams.writeback import start_writing
from assay.trees import Source

BLOCK = 1 << 20
"""Bytes read per step when hashing: fits the processor's cache, and is large enough that threads rarely meet."""

STEP = 4 << 20
"""Bytes per block of a large file; a multiple of every device's sector."""

BUFFERS = 3
"""Blocks under way per file past the page cache: one is read, one is written, one is hashed."""

CACHED_BUFFERS = 6
"""Blocks of ``BLOCK`` under way per file through the page cache: what was just read is hashed and written while it is
still in the processor's cache, and neither thread waits long for the other."""

DIRECT = 32 << 20
"""Files from this size on are written past the page cache."""

FLUSH = 16 << 20
"""Bytes after which what lies in the page cache is sent towards the disk."""

SMALL = 1 << 20
"""Up to here threads cost more than they save."""

_FICLONE = 0x40049409
"""ioctl of Linux: share all extents of one file with another (btrfs, XFS, bcachefs, overlays of them)."""

_CANNOT_CLONE = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTTY, errno.EPERM, errno.EACCES}


def digest_file(file: Path, *, algorithm: str = "sha256", progress: Progress = SILENT) -> Digest:
    """The digest of a file, read once.

    Raises:
        OSError: it cannot be read.
    """
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return digest_descriptor(descriptor, algorithm=algorithm, progress=progress)
    finally:
        os.close(descriptor)


def digest_descriptor(descriptor: int, *, algorithm: str = "sha256", progress: Progress = SILENT) -> Digest:
    """The digest of everything behind a descriptor, from its beginning."""
    hasher = hashlib.new(algorithm)
    buffer = memoryview(bytearray(BLOCK))
    offset = 0
    while count := os.preadv(descriptor, [buffer], offset):
        hasher.update(buffer[:count])
        offset += count
        progress.advance(count)
    return Digest(algorithm, hasher.hexdigest())


def digest_source(
    source: Source, *, algorithm: str = "sha256", progress: Progress = SILENT, step: int = STEP
) -> Digest:
    """The digest of bytes wherever they lie, read once from their beginning.

    Args:
        source: the bytes.
        algorithm: of the digest.
        progress: hears of every byte.
        step: bytes that are read at once: more of them where each reading is a journey.

    Raises:
        StorageError: the place failed.
    """
    hasher = hashlib.new(algorithm)
    offset = 0
    while block := source.read(offset, step):
        hasher.update(block)
        offset += len(block)
        progress.advance(len(block))
    return Digest(algorithm, hasher.hexdigest())


def clone(source: int, target: int) -> bool:
    """Make *target* share the bytes of *source*; False where the file system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno in _CANNOT_CLONE:
            return False
        raise
    return True


def store_copy(
    source: int,
    target: int,
    size: int,
    *,
    algorithm: str = "sha256",
    durable: bool = True,
    progress: Progress = SILENT,
) -> tuple[Digest, int]:
    """Bring the bytes of *source* into the empty file *target*; returns their digest and number.

    Args:
        source: descriptor of the file to read.
        target: descriptor of the file to write, open for reading, too.
        size: how many bytes are expected; only decides how the work is split.
        algorithm: of the digest.
        durable: whether they are on the disk on return; else they are in the page cache, as after ``cp``.
        progress: hears of every byte once, when it is hashed.

    Raises:
        OSError: reading or writing failed; what *target* holds then means nothing.
    """
    if size <= SMALL:
        length = _copy_small(source, target)
        digest = digest_descriptor(target, algorithm=algorithm, progress=progress)
        if durable:
            os.fsync(target)
        return digest, length
    if clone(source, target):
        digest = digest_descriptor(target, algorithm=algorithm, progress=progress)
        if durable:
            os.fsync(target)
        return digest, os.fstat(target).st_size
    with Output(target, direct=durable and size >= DIRECT, early=durable) as output:
        stored = _store_blocks(source, output, algorithm, progress)
    if durable:
        os.fsync(target)
    return stored


def _copy_small(source: int, target: int) -> int:
    offset = 0
    while data := os.pread(source, SMALL, offset):
        offset = write_at(target, data, offset)
    return offset


def _store_blocks(source: int, output: Output, algorithm: str, progress: Progress) -> tuple[Digest, int]:
    step, number = (STEP, BUFFERS) if output.direct else (BLOCK, CACHED_BUFFERS)
    buffers = [memoryview(mmap.mmap(-1, step, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)) for _ in range(number)]
    busy: list[Future[None] | None] = [None] * number
    hasher = hashlib.new(algorithm)

    def take(block: memoryview) -> None:
        hasher.update(block)
        progress.advance(len(block))

    offset, turn, count = 0, 0, step
    with ThreadPoolExecutor(1, thread_name_prefix="assay-hash") as hashing:
        while count == step:
            job = busy[turn]
            if job is not None:
                job.result()
            count = _fill(source, buffers[turn], offset)
            block = buffers[turn][:count]
            busy[turn] = hashing.submit(take, block)
            output.write(block, offset)
            offset += count
            turn = (turn + 1) % number
    for job in busy:
        if job is not None:
            job.result()
    return Digest(algorithm, hasher.hexdigest()), offset


def _fill(source: int, buffer: memoryview, offset: int) -> int:
    """Read until the buffer is full or the file ends; how many bytes."""
    filled = 0
    while filled < len(buffer):
        count = os.preadv(source, [buffer[filled:]], offset + filled)
        if count == 0:
            break
        filled += count
    return filled


class Output:
    """A file that is written block by block, past the page cache while that is possible.

    Closed, it leaves the descriptor as it was: who reads through it need not know about sectors.

    Args:
        target: descriptor of the file.
        direct: whether to write past the page cache.
        early: whether to send what lies in the page cache towards the disk meanwhile.
    """

    def __init__(self, target: int, *, direct: bool, early: bool = True) -> None:
        self._target, self._early = target, early
        self._direct = direct and self._set_direct(on=True)
        self._sent = 0

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Back to writing through the page cache."""
        if self._direct:
            self._direct = self._set_direct(on=False)

    @property
    def direct(self) -> bool:
        """Whether it is written past the page cache, as far as is known: in blocks of ``STEP``."""
        return self._direct

    def write(self, block: memoryview, offset: int) -> None:
        """Write a block; past the page cache, only the last one may be shorter than ``STEP``.

        Raises:
            OSError: it cannot be written.
        """
        written = 0
        if self._direct and len(block) == STEP:
            try:
                written = os.pwrite(self._target, block, offset)
            except OSError as error:
                if error.errno != errno.EINVAL:  # some file systems only find out now that they cannot
                    raise
        if written < len(block):
            if self._direct:
                self._direct = self._set_direct(on=False)
            write_at(self._target, block[written:], offset + written)
        if self._early and not self._direct and offset + len(block) - self._sent >= FLUSH:
            start_writing(self._target, self._sent, offset + len(block) - self._sent)
            self._sent = offset + len(block)

    def _set_direct(self, *, on: bool) -> bool:
        """Switch, if the system knows how; whether it is on now."""
        flag = getattr(os, "O_DIRECT", 0)
        flags = fcntl.fcntl(self._target, fcntl.F_GETFL)
        try:
            fcntl.fcntl(self._target, fcntl.F_SETFL, flags | flag if on else flags & ~flag)
        except OSError:
            return False
        return on and flag != 0
