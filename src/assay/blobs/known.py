"""Guessing that a large file is stored already, so that pushing it again reads instead of writing.

The guess (same size, same bytes at sixteen places) costs a few reads. Only the whole comparison that follows counts: it
hashes the stored blob while comparing it with the file, so a blob that is damaged is never taken for good.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from itertools import islice
from pathlib import Path

from assay.ports.progress import SILENT, Progress
from assay.spec.digest import Digest
from assay.streams.copying import BLOCK

LEAST = 8 << 20
"""Smaller files are copied faster than a guess is made."""

MOST_BLOBS = 20_000
"""Blobs looked at, at most: with more of them, looking costs more than it saves on average."""

_SAMPLES = 16
_SAMPLE = 4096


class KnownBlobs:
    """What large blobs a folder held when first asked; a hint that may be out of date.

    Args:
        folder: blobs named by the hexadecimal sha256 of their bytes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._by_size: defaultdict[int, list[str]] | None = None

    def match(self, source: int, size: int, *, progress: Progress = SILENT) -> Digest | None:
        """The blob that has exactly the bytes of *source*, read and hashed in full just now; None when there is none.

        Args:
            source: a descriptor.
            size: its length.
            progress: hears of every byte once, and only when there is such a blob.
        """
        if size < LEAST:
            return None
        for name in tuple(self._of_size(size)):
            try:
                blob = os.open(self._folder / name, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue  # removed in between, or not readable: then it is of no use
            try:
                if _samples(blob, size) == _samples(source, size) and _digest_if_equal(blob, source, size) == name:
                    progress.advance(size)
                    return Digest("sha256", name)
            finally:
                os.close(blob)
        return None

    def learn(self, digest: Digest, size: int) -> None:
        """Remember a blob that was just stored."""
        if size >= LEAST and digest.hex not in (names := self._of_size(size)):
            names.append(digest.hex)

    def _of_size(self, size: int) -> list[str]:
        if self._by_size is None:
            found: defaultdict[int, list[str]] = defaultdict(list)
            try:
                with os.scandir(self._folder) as entries:
                    for entry in islice(entries, MOST_BLOBS):
                        length = entry.stat().st_size
                        if length >= LEAST:
                            found[length].append(entry.name)
            except OSError:
                pass  # only a hint
            self._by_size = found
        return self._by_size[size]


def _samples(descriptor: int, size: int) -> list[bytes]:
    step = (size - _SAMPLE) // (_SAMPLES - 1)
    return [os.pread(descriptor, _SAMPLE, number * step) for number in range(_SAMPLES)]


def _digest_if_equal(blob: int, source: int, size: int) -> str | None:
    hasher = hashlib.sha256()
    kept, given = bytearray(BLOCK), bytearray(BLOCK)
    offset = 0
    while offset < size:
        count = os.preadv(blob, [kept], offset)
        # Comparing whole buffers is one memcmp; what lies beyond a short read is equal from the last round.
        if count == 0 or os.preadv(source, [memoryview(given)[:count]], offset) != count or kept != given:
            return None
        hasher.update(memoryview(kept)[:count])
        offset += count
    return hasher.hexdigest()
