"""Copying and hashing at once: one thread copies, a second hashes what was just written, a third sends it to the disk.

A file is cloned where the file system can. Otherwise the three run beside each other, so that storing takes about as
long as the slowest of them. The hash is taken over the destination, while it is still in memory: it identifies what was
stored, whatever happens to the source.

Not here: where files go and when they become visible (``assay.blobs.directory``).
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from assay.ports.progress import SILENT, Progress
from assay.spec.digest import Digest
from assay.streams.writeback import start_writing

BLOCK = 1 << 20
"""Bytes read per step when hashing: fits the processor's cache, and is large enough that threads rarely meet."""

STEP = 8 << 20
"""Bytes the kernel copies per call: how far the hash may lag."""

FLUSH = 16 << 20
"""Bytes after which what was copied is sent towards the disk."""

SMALL = 1 << 20
"""Up to here threads cost more than they save."""

_FICLONE = 0x40049409
"""ioctl of Linux: share all extents of one file with another (btrfs, XFS, bcachefs, overlays of them)."""

_NO_KERNEL_COPY = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTTY, errno.EBADF, errno.ETXTBSY}


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


def clone(source: int, target: int) -> bool:
    """Make *target* share the bytes of *source*; False where the file system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno in _NO_KERNEL_COPY or error.errno in {errno.EPERM, errno.EACCES}:
            return False
        raise
    return True


def store_copy(source: int, target: int, size: int, *, progress: Progress = SILENT) -> tuple[Digest, int]:
    """Bring the bytes of *source* into the empty file *target*, durably; returns their digest and number.

    Args:
        size: how many bytes are expected; only decides how the work is split.
        progress: hears of every byte once, when it is hashed.

    Raises:
        OSError: reading or writing failed; what *target* holds then means nothing.
    """
    if size <= SMALL:
        length = _copy_small(source, target)
        digest = digest_descriptor(target, progress=progress)
        os.fsync(target)
        return digest, length
    if clone(source, target):
        digest = digest_descriptor(target, progress=progress)
        os.fsync(target)
        return digest, os.fstat(target).st_size
    return _Pipeline(source, target, progress).run()


def _copy_small(source: int, target: int) -> int:
    offset = 0
    while data := os.pread(source, SMALL, offset):
        offset += _write_all(target, data, offset)
    return offset


def _write_all(target: int, data: bytes | memoryview, offset: int) -> int:
    view, written = memoryview(data), 0
    while written < len(view):
        written += os.pwrite(target, view[written:], offset + written)
    return written


class _Pipeline:
    """One file on its way: how far it is copied, and what went wrong.

    The copying thread is the caller's; the hashing and the flushing thread follow it over ``_copied``. Whoever fails
    keeps its error and ends the others.
    """

    def __init__(self, source: int, target: int, progress: Progress) -> None:
        self._source = source
        self._target = target
        self._progress = progress
        self._changed = threading.Condition()
        self._copied = 0
        self._ended = False
        self._error: BaseException | None = None
        self._hasher = hashlib.sha256()

    def run(self) -> tuple[Digest, int]:
        followers = [threading.Thread(target=self._guard, args=(job,)) for job in (self._hash, self._flush)]
        for follower in followers:
            follower.start()
        try:
            self._guard(self._copy)
        finally:
            self._end(None)
            for follower in followers:
                follower.join()
        if self._error is not None:
            raise self._error
        os.fsync(self._target)
        return Digest("sha256", self._hasher.hexdigest()), self._copied

    def _guard(self, job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:  # noqa: BLE001 - carried to the caller's thread and raised there
            self._end(error)

    def _end(self, error: BaseException | None) -> None:
        with self._changed:
            self._ended = True
            self._error = self._error or error
            self._changed.notify_all()

    def _advance(self, count: int) -> bool:
        """Tell the followers; False when one of them failed."""
        with self._changed:
            self._copied += count
            self._changed.notify_all()
            return self._error is None

    def _wait(self, beyond: int, least: int) -> int:
        """How far the copy is, once that is *least* bytes beyond, or the end; *beyond* itself: there is no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._copied >= beyond + least)
            return beyond if self._error is not None else self._copied

    def _copy(self) -> None:
        offset = 0
        step = _kernel_step if hasattr(os, "copy_file_range") else _buffer_step
        while True:
            try:
                count = step(self._source, self._target, offset)
            except OSError as error:
                if step is _buffer_step or error.errno not in _NO_KERNEL_COPY:
                    raise
                step = _buffer_step
                continue
            if count == 0 and step is _kernel_step:
                step = _buffer_step  # some kernels answer 0 for files of virtual file systems that do have bytes
                continue
            offset += count
            if count == 0 or not self._advance(count):
                return

    def _hash(self) -> None:
        buffer = memoryview(bytearray(BLOCK))
        done = 0
        while (until := self._wait(done, 1)) > done:
            while done < until:
                count = os.preadv(self._target, [buffer[: min(BLOCK, until - done)]], done)
                if count == 0:
                    raise OSError(errno.EIO, "the copy ended before what was written to it")
                self._hasher.update(buffer[:count])
                done += count
                self._progress.advance(count)

    def _flush(self) -> None:
        done = 0
        while (until := self._wait(done, FLUSH)) > done:
            start_writing(self._target, done, until - done)
            done = until


def _kernel_step(source: int, target: int, offset: int) -> int:
    return os.copy_file_range(source, target, STEP, offset, offset)


def _buffer_step(source: int, target: int, offset: int) -> int:
    return _write_all(target, os.pread(source, SMALL, offset), offset)
