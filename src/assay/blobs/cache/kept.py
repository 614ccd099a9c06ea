"""What a cache has of one blob that was read in part: blocks, and beginnings and ends of others.

A block is what the far store gave; only a whole blob can be compared with its digest. The checksum behind it tells that
it is still what was fetched, whatever happened to the local disk.

Not here: when to keep what (``blocks``), in which thread (``keeper``).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from blake3 import blake3

from assay.blobs.cache.folder import CacheFolder, touch
from assay.spec.digest import Digest
from assay.streams.durable import write_all

BLOCK = 1 << 20
"""Bytes per block: one tensor of some MiB is fetched with little more around it."""
_SUM = 32
_HEAD, _TAIL = ".head", ".tail"


class Kept:
    """The blocks of one blob in a cache.

    Of a block that a long read touched at its edge, there is only what was read: a head or a tail, until both meet or
    the whole is fetched.

    Args:
        folder: the cache.
        place: where the blob comes from: places are not trusted with each other's blobs.
        digest: which blob.
        size: its length.
        mark: what tells this copy of it there from another one: a damaged one may be put right.
    """

    def __init__(self, folder: CacheFolder, place: str, digest: Digest, size: int, *, mark: str = "") -> None:
        self._folder = folder
        self._place = place
        self._digest = digest
        self._size = size
        self._mark = mark

    def length(self, number: int) -> int:
        """Bytes of a block."""
        return min(BLOCK, self._size - number * BLOCK)

    def numbers(self) -> set[int]:
        """The blocks of which there may be something."""
        try:
            with os.scandir(self._folder.blocks(self._place, self._digest)) as found:
                names = [entry.name.partition(".")[0] for entry in found]
        except OSError:
            return set()
        return {int(name) for name in names if name.isdecimal()}

    def load(self, number: int, start: int, into: memoryview) -> bool:
        """Fill *into* from a block.

        Args:
            number: which.
            start: from which of its bytes on.
            into: not longer than what comes from there.

        Returns:
            False when not all of it is here, or it is damaged.
        """
        if self._load(number, "", start, into):
            return True
        if start == 0:
            return len(into) < self.length(number) and self._load(number, _HEAD, 0, into)
        return start + len(into) == self.length(number) and self._load(number, _TAIL, start, into)

    def save(self, offset: int, data: memoryview) -> None:
        """Keep bytes of one block, if that can be.

        Args:
            offset: of the first byte in the blob.
            data: the bytes.
        """
        number, start = divmod(offset, BLOCK)
        with suppress(OSError):
            self._save(number, start, data)

    def _save(self, number: int, start: int, data: memoryview) -> None:
        parts, stop, length = [data], start + len(data), self.length(number)
        if start == 0 and stop < length:
            rest = memoryview(bytearray(length - stop))
            if self.load(number, stop, rest):
                stop, parts = length, [data, rest]
        elif start > 0 and stop == length:
            rest = memoryview(bytearray(start))
            if self.load(number, 0, rest):
                start, parts = 0, [rest, data]
        if start == 0 and stop == length:
            self._write(number, "", 0, parts)
            for part in (_HEAD, _TAIL):
                self._path(number, part).unlink(missing_ok=True)
        elif start == 0 or stop == length:  # from the middle of a block, nothing is kept
            self._write(number, _TAIL if start else _HEAD, start, parts)

    def _write(self, number: int, part: str, start: int, data: list[memoryview]) -> None:
        path, size = self._path(number, part), sum(len(one) for one in data)
        self._folder.prepare()
        with self._folder.staging.new() as staged:
            for one in data:
                write_all(staged.descriptor, one)
            write_all(staged.descriptor, self._sum(number, start, data))
            path.parent.mkdir(parents=True, exist_ok=True)
            staged.path.replace(path)
        self._folder.added(size)

    def _load(self, number: int, part: str, start: int, into: memoryview) -> bool:
        path = self._path(number, part)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            count = os.fstat(descriptor).st_size - _SUM if part else self.length(number)
            first = self.length(number) - count if part == _TAIL else 0
            if first <= start and start + len(into) <= first + count <= self.length(number):
                exactly = len(into) == count
                data, found = into if exactly else memoryview(bytearray(count)), bytearray(_SUM)
                if (
                    os.preadv(descriptor, [data, found], 0) == count + _SUM
                    and self._sum(number, first, [data]) == found
                ):
                    touch(descriptor)
                    if not exactly:
                        into[:] = data[start - first : start - first + len(into)]
                    return True
            elif 0 < count < self.length(number):
                return False  # it is sound, for all we know, and does not reach
        except OSError:
            pass
        finally:
            os.close(descriptor)
        with suppress(OSError):
            path.unlink()
        return False

    def _path(self, number: int, part: str) -> Path:
        return self._folder.block(self._place, self._digest, number, part)

    def _sum(self, number: int, start: int, data: Sequence[memoryview]) -> bytes:
        sum_ = blake3()
        for one in data:
            sum_.update(one)
        return sum_.update(f"{self._digest}/{number}/{start}/{self._mark}".encode()).digest()
