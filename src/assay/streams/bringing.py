"""Bringing bytes from anywhere into a local file: several ranges at once, hashed in order while they are written.

The file only ever grows, block after block, so what an interrupted run leaves is the beginning of the blob: the next
run hashes it and goes on. Ranges are read ahead of what is written by a few blocks, which bounds the memory. A source
that fails by ranges is read on by one plain request, from where the ranges stopped.

Not here: what counts as failing (the source waits, tries again and gives up), and when the file becomes visible.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from assay.errors import StorageError
from assay.ports.progress import SILENT, Progress
from assay.spec.digest import Digest
from assay.streams.copying import DIRECT, STEP, Output
from assay.trees import Source, read_into

LANES = 4
"""Ranges of one source that are read at once."""

AHEAD = 2
"""Blocks beyond those that are being read: read, and not yet written."""

PLAIN_TRIES = 4
"""Plain requests in a row that may bring nothing before a source is given up."""


@runtime_checkable
class Streaming(Source, Protocol):
    """A source that can also be read by one plain request."""

    def stream(self, offset: int) -> AbstractContextManager[Iterator[bytes]]:
        """The bytes from *offset* to the end, in blocks of any length.

        Raises:
            StorageError: the place failed, here or while the blocks are taken.
        """
        ...


@dataclass(frozen=True, slots=True)
class Arrived:
    """What a file holds now.

    Args:
        digest: of all of it.
        size: bytes of it.
        resumed: how many of those it held before.
        plain: whether ranges failed, and it was read on by plain requests.
    """

    digest: Digest
    size: int
    resumed: int
    plain: bool


def bring(
    source: Source,
    target: int,
    *,
    have: int = 0,
    algorithm: str = "sha256",
    lanes: int = LANES,
    durable: bool = True,
    progress: Progress = SILENT,
) -> Arrived:
    """Bring the bytes of *source* into the file *target*.

    Args:
        source: where from.
        target: descriptor, open for reading and writing.
        have: how many bytes *target* may hold already from its beginning; they are hashed, not compared.
        algorithm: of the digest.
        lanes: ranges read at once.
        durable: whether they are on the disk on return; else they are in the page cache, as after ``cp``.
        progress: hears of every byte once, those that were there included.

    Raises:
        StorageError: the source failed, by ranges and by plain requests; the file holds the beginning.
        OSError: writing failed.
    """
    with Output(target, direct=durable and source.size >= DIRECT, early=durable) as output:
        run = _Bringing(source, target, output, hashlib.new(algorithm), progress)
        resumed = run.keep(min(have, source.size))
        plain = False
        try:
            run.by_ranges(lanes)
        except StorageError:
            if run.broken_writing:
                raise
            plain = True
            run.plainly()
    if durable:
        os.fsync(target)
    return Arrived(Digest(algorithm, run.hasher.hexdigest()), run.at, resumed, plain)


class _Bringing:
    """One file on its way; ``at`` is how far it has come."""

    def __init__(self, source: Source, target: int, output: Output, hasher: hashlib._Hash, progress: Progress) -> None:
        self._source, self._target, self._output, self._progress = source, target, output, progress
        self.hasher = hasher
        self.at = 0
        self.broken_writing = False

    def keep(self, have: int) -> int:
        """Hash what is there, in whole blocks; the rest is cut off."""
        have -= have % STEP
        buffer = memoryview(mmap.mmap(-1, STEP))  # whole pages: the file may be read past the page cache
        while self.at < have and (count := os.preadv(self._target, [buffer], self.at)):
            count = min(count, have - self.at)
            self.hasher.update(buffer[:count])
            self._progress.advance(count)
            self.at += count
        if os.fstat(self._target).st_size != self.at:  # ext4 sends what was emptied to the disk when it is closed
            os.ftruncate(self._target, self.at)
        return self.at

    def by_ranges(self, lanes: int) -> None:
        """Read on by ranges, several at once.

        Raises:
            StorageError: one of them failed.
        """
        size = self._source.size
        lanes = max(1, min(lanes, -(-(size - self.at) // STEP)))
        free = [memoryview(mmap.mmap(-1, STEP)) for _ in range(lanes + AHEAD)]
        offsets = iter(range(self.at, size, STEP))
        running: deque[tuple[memoryview, Future[int]]] = deque()
        with (
            ThreadPoolExecutor(1, thread_name_prefix="assay-hash") as hashing,
            ThreadPoolExecutor(lanes, thread_name_prefix="assay-read") as reading,
        ):
            try:
                while True:
                    while free and (offset := next(offsets, None)) is not None:
                        buffer = free.pop()
                        wanted = buffer[: min(STEP, size - offset)]
                        running.append((buffer, reading.submit(self._read, offset, wanted)))
                    if not running:
                        return
                    buffer, job = running.popleft()
                    self._take(buffer[: job.result()], hashing)
                    free.append(buffer)
            except BaseException:
                reading.shutdown(wait=False, cancel_futures=True)
                raise

    def plainly(self) -> None:
        """Read on by one request at a time.

        Raises:
            StorageError: several in a row brought nothing.
        """
        if not isinstance(self._source, Streaming):
            self.by_ranges(1)
            return
        tries = 0
        while self.at < self._source.size:
            before = self.at
            try:
                self._stream(self._source)
            except StorageError:
                tries = 0 if self.at > before else tries + 1
                if self.broken_writing or tries >= PLAIN_TRIES:
                    raise

    def _stream(self, source: Streaming) -> None:
        buffer, filled = memoryview(mmap.mmap(-1, STEP)), 0
        with ThreadPoolExecutor(1, thread_name_prefix="assay-hash") as hashing, source.stream(self.at) as blocks:
            for block in blocks:
                view = memoryview(block)[: source.size - self.at - filled]
                while view:
                    count = min(len(view), STEP - filled)
                    buffer[filled : filled + count] = view[:count]
                    filled, view = filled + count, view[count:]
                    if filled == STEP:
                        self._take(buffer, hashing)
                        filled = 0
                if self.at + filled == source.size:  # what comes beyond that is not of the blob
                    break
            if self.at + filled < source.size:
                raise StorageError(
                    f"the source ended after {self.at + filled} of {source.size} bytes", code="place-unreachable"
                )
            if filled:
                self._take(buffer[:filled], hashing)

    def _read(self, offset: int, into: memoryview) -> int:
        count = read_into(self._source, offset, into)
        if count < len(into):
            raise StorageError(
                f"the source ended after {offset + count} of {self._source.size} bytes", code="place-unreachable"
            )
        return count

    def _take(self, block: memoryview, hashing: ThreadPoolExecutor) -> None:
        hashed = hashing.submit(self.hasher.update, block)
        try:
            self._output.write(block, self.at)
        except BaseException:
            self.broken_writing = True
            raise
        finally:
            hashed.result()
        self.at += len(block)
        self._progress.advance(len(block))
