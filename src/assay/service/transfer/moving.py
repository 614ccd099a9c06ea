"""Moving blobs from one place to another: several at once, each compared with its digest on the way.

Where the target takes bytes in by itself (``Receiver``), it decides how: a store of files continues what it has of a
large blob, an OCI registry goes on with its upload. Otherwise small blobs go through memory, and large ones through a
local file that an interrupted copy leaves for the next one.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from assay.errors import IntegrityError, NotFound, StorageError
from assay.ports.blobs import BlobReader, BlobWriter
from assay.ports.places import Received, Receiver
from assay.ports.progress import SILENT, Progress
from assay.service.transfer.plan import Plan
from assay.spec.descriptor import Descriptor
from assay.streams.bringing import bring
from assay.streams.stopping import Stoppable
from assay.trees import Source

AT_ONCE = 4
"""Blobs on the move at once. Each keeps up to six blocks of 4 MiB in memory."""

MAX_SMALL = 8 << 20
"""Bytes of a blob that is moved through memory where the target wants a file."""


@dataclass(slots=True)
class Figures:
    """What a copy did, in bytes where nothing else is said.

    Args:
        moved: brought to the other side.
        skipped: there already.
        resumed: of what was moved, what an earlier, interrupted copy had brought.
        shared: the place had it in another repository, and took it from there.
        saved: that did not travel because packed segments did.
        verified: compared with their digests on the way.
        plain: blobs for which it took plain requests, because several at once failed.
        seconds: that the moving took.
    """

    moved: int = 0
    skipped: int = 0
    resumed: int = 0
    shared: int = 0
    saved: int = 0
    verified: int = 0
    plain: int = 0
    seconds: float = field(default=0.0, compare=False)

    @property
    def rate(self) -> float:
        """Bytes per second that really travelled."""
        travelled = self.moved - self.resumed - self.shared - self.saved
        return travelled / self.seconds if self.seconds > 0 else 0.0

    def add(self, other: Figures) -> None:
        """Count what another copy did as well."""
        for name in ("moved", "skipped", "resumed", "shared", "saved", "verified", "plain", "seconds"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


def move(
    source: BlobReader,
    target: BlobWriter,
    plan: Plan,
    *,
    spool: Path,
    repair: str,
    progress: Progress = SILENT,
) -> Figures:
    """Move what a plan says is lacking, but for what travels as packed segments.

    What is complete stays at the target when something fails, unnamed: the next copy skips it.

    Args:
        source: where from.
        target: where to.
        plan: what.
        spool: local folder for large blobs on the way to a target that wants files.
        repair: what to type when bytes at the source turn out to be damaged.
        progress: hears of every byte that the plan lists.

    Raises:
        IntegrityError: bytes at the source do not match their digest.
        NotFound: they are missing there.
        StorageError: source or target failed for good.
    """
    figures = Figures(skipped=plan.skipped)
    progress.advance(plan.skipped)
    began = time.monotonic()
    heard = Stoppable(progress)
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="assay-move") as pool:
        jobs = [pool.submit(_move_one, source, target, blob, spool, heard) for blob in plan.single]
        try:
            over = wait(jobs, return_when=FIRST_EXCEPTION).done
            for job in (job for job in jobs if job in over):
                job.result()
            for job, blob in zip(jobs, plan.single, strict=True):
                _count(figures, job.result(), blob)
        except BaseException as error:
            heard.stop()
            pool.shutdown(wait=True, cancel_futures=True)
            if isinstance(error, IntegrityError):
                raise _damaged(error, repair) from error
            raise
    figures.seconds = time.monotonic() - began
    return figures


def _count(figures: Figures, received: Received, blob: Descriptor) -> None:
    figures.moved += blob.size
    figures.resumed += received.resumed
    figures.shared += blob.size if received.shared else 0
    figures.verified += 0 if received.shared else blob.size
    figures.plain += received.plain


def _damaged(error: IntegrityError, repair: str) -> IntegrityError:
    return IntegrityError(
        f"{error.message}; no version and no tag was made", code=error.code, hint=repair, **error.details
    )


def _move_one(source: BlobReader, target: BlobWriter, blob: Descriptor, spool: Path, progress: Progress) -> Received:
    found = source.open(blob.digest)
    if found.size != blob.size:
        raise _differs(blob, found.size)
    file = source.local_file(blob.digest)
    if isinstance(target, Receiver):
        return target.receive(blob.digest, found, file=file, progress=progress)
    if file is not None:
        digest, size = target.add_file(file, progress=progress)
    elif blob.size <= MAX_SMALL:
        data = found.read(0, blob.size)
        digest, size = target.add(data), len(data)
        progress.advance(size)
    else:
        return _through_file(found, target, blob, spool, progress)
    if (digest, size) != (blob.digest, blob.size):
        raise _differs(blob, size)
    return Received(size)


def _through_file(source: Source, target: BlobWriter, blob: Descriptor, spool: Path, progress: Progress) -> Received:
    """Bring a large blob into a local file, and hand that to the target."""
    try:
        with _spooled(spool / f"part-{blob.digest.hex}") as (file, descriptor):
            have = os.fstat(descriptor).st_size
            if not have and target.renew(blob.digest) == blob.size:  # another copy brought it while this one waited
                progress.advance(blob.size)
                return Received(blob.size, blob.size)
            arrived = bring(source, descriptor, have=have, algorithm=blob.digest.algorithm, progress=progress)
            if arrived.digest != blob.digest and arrived.resumed:
                arrived = bring(source, descriptor, algorithm=blob.digest.algorithm)
            if arrived.digest != blob.digest:
                raise _differs(blob, arrived.size)
            digest, size = target.add_file(file)
            if (digest, size) != (blob.digest, blob.size):
                raise _differs(blob, size)
    except OSError as error:
        raise StorageError.of(error, f"cannot keep what is being copied in {spool}") from error
    return Received(arrived.size, arrived.resumed, arrived.plain)


@contextmanager
def _spooled(file: Path) -> Iterator[tuple[Path, int]]:
    """A file that an interrupted copy may have begun, for one copy at a time; it stays where that is interrupted too.

    Whoever comes second waits, and finds the file gone: what it opened meanwhile is looked at again.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink == 0:
                continue
            try:
                yield file, descriptor
            except IntegrityError:
                file.unlink()
                raise
            file.unlink()
            return
        finally:
            os.close(descriptor)


def _differs(blob: Descriptor, size: int) -> IntegrityError:
    return IntegrityError(
        f"blob does not match its digest while copying: expected {blob.digest.short} ({blob.size} bytes), "
        f"found others ({size} bytes)",
        digest=str(blob.digest),
    )


def check_whole(source: BlobReader, blobs: Sequence[Descriptor], place: str, *, hint: str) -> None:
    """Make sure that all *blobs* are at the source before one of them is moved.

    Raises:
        NotFound: some are not (code ``blob-missing``).
    """
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="assay-ask") as pool:
        sizes = list(pool.map(source.size, [blob.digest for blob in blobs]))
    missing = [blob for blob, size in zip(blobs, sizes, strict=True) if size is None]
    if missing:
        more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise NotFound(
            f"{place} is not whole: blob {missing[0].digest.short} is missing there{more}",
            code="blob-missing",
            hint=hint,
        )
