"""Taking a blob in from anywhere, into a file that an interrupted transfer leaves for the next one."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from assay.blobs.staging import READ_ONLY, Staged, Staging
from assay.errors import IntegrityError
from assay.ports.places import Received
from assay.ports.progress import SILENT, Progress
from assay.spec.digest import Digest
from assay.streams.bringing import bring
from assay.streams.copying import clone, digest_descriptor
from assay.trees import Source

RESUMED = 8 << 20
"""Blobs from this size on leave what came of them; smaller ones are brought anew."""


def receive(
    staging: Staging,
    show: Callable[[Staged], None],
    digest: Digest,
    source: Source,
    *,
    file: Path | None = None,
    progress: Progress = SILENT,
) -> Received:
    """Bring a blob into the staging folder, compare it, and make it visible.

    Args:
        staging: the folder.
        show: moves the whole file to its place.
        digest: what it must give.
        source: where it lies.
        file: the local file that holds it.
        progress: hears of every byte once.

    Raises:
        IntegrityError: it does not match; nothing is kept.
        StorageError: the source failed.
        OSError: the file cannot be written.
    """
    with ExitStack() as held:
        if file is not None:
            cloned = held.enter_context(staging.new())
            if _cloned(file, cloned):
                found = digest_descriptor(cloned.descriptor, algorithm=digest.algorithm, progress=progress)
                _check(digest, source.size, found, os.fstat(cloned.descriptor).st_size)
                os.fsync(cloned.descriptor)
                show(cloned)
                return Received(source.size)
        staged = held.enter_context(staging.part(digest.hex)) if source.size >= RESUMED else None
        if staged is None:
            staged = held.enter_context(staging.new())
        have = os.fstat(staged.descriptor).st_size
        arrived = bring(source, staged.descriptor, have=have, algorithm=digest.algorithm, progress=progress)
        if arrived.digest != digest and arrived.resumed:  # what was left here may be what is damaged
            arrived = bring(source, staged.descriptor, algorithm=digest.algorithm)
        if arrived.digest != digest:
            os.ftruncate(staged.descriptor, 0)
        _check(digest, source.size, arrived.digest, arrived.size)
        os.fchmod(staged.descriptor, READ_ONLY & os.fstat(staged.descriptor).st_mode)
        show(staged)
        return Received(arrived.size, arrived.resumed, arrived.plain)


def _cloned(file: Path, staged: Staged) -> bool:
    source = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return clone(source, staged.descriptor)
    finally:
        os.close(source)


def _check(digest: Digest, size: int, found: Digest, length: int) -> None:
    if (found, length) != (digest, size):
        raise IntegrityError(
            f"blob does not match its digest while copying: expected {digest.short} ({size} bytes), "
            f"found {found.short} ({length} bytes)",
            digest=str(digest),
        )
