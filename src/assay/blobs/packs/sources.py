"""Sources of a store that packs: a raw copy that may go while it is read, and comparing bytes."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from pathlib import Path

from assay.errors import IntegrityError, StorageError
from assay.trees import Source, read_into
from assay.trees.window import FileSource

BLOCK = 4 << 20
_SAMPLES = 4
_SAMPLE = 4096


class RawSource(FileSource):
    """A raw copy; when it goes before it was opened, the blob is read from wherever it is then.

    Args:
        file: the copy.
        again: opens the blob anew.

    Raises:
        OSError: from the constructor, when the file cannot be inspected.
    """

    __slots__ = ("_again", "_instead")

    def __init__(self, file: Path, again: Callable[[], Source]) -> None:
        super().__init__(file)
        self._again = again
        self._instead: Source | None = None

    def read(self, offset: int, length: int) -> bytes:
        """The bytes in [offset, offset + length), cut off at the end."""
        instead = self._elsewhere()
        if instead is not None:
            return instead.read(offset, length)
        try:
            return super().read(offset, length)
        except OSError as error:
            raise self._failed(error) from error

    def read_into(self, offset: int, into: memoryview) -> int:
        """Fill *into* from the bytes at *offset*; how many were written."""
        instead = self._elsewhere()
        if instead is not None:
            return read_into(instead, offset, into)
        try:
            return super().read_into(offset, into)
        except OSError as error:
            raise self._failed(error) from error

    def map(self) -> mmap.mmap:
        """The whole blob as a memory map, not to be written; a copy in memory where the file is gone."""
        if self._elsewhere() is None:
            return mmap.mmap(self._opened(), 0, access=mmap.ACCESS_READ)
        copy = mmap.mmap(-1, self.size)
        assert self._instead is not None
        read_into(self._instead, 0, memoryview(copy))
        return copy

    def _elsewhere(self) -> Source | None:
        if self._instead is None:
            try:
                self._opened()
            except FileNotFoundError:
                self._instead = self._again()
            except OSError as error:
                raise self._failed(error) from error
        return self._instead

    def _failed(self, error: OSError) -> StorageError:
        return StorageError.of(error, f"cannot read blob {self.file.name}", digest=self.file.name)


class LastingSource:
    """A packed copy; when its segments go while it is read, the blob is read from wherever it is then.

    Deleted and compacted away, it is not damaged but not here; or it was stored again since, otherwise.

    Args:
        packed: the copy.
        again: opens the blob anew; raises ``NotFound`` when it is nowhere.
    """

    def __init__(self, packed: Source, again: Callable[[], Source]) -> None:
        self._source, self._again = packed, again

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self._source.size

    def read(self, offset: int, length: int) -> bytes:
        """The bytes in [offset, offset + length), cut off at the end."""
        try:
            return self._source.read(offset, length)
        except IntegrityError as error:
            return self._reopened(error).read(offset, length)

    def read_into(self, offset: int, into: memoryview) -> int:
        """Fill *into* from the bytes at *offset*; how many were written."""
        try:
            return read_into(self._source, offset, into)
        except IntegrityError as error:
            return read_into(self._reopened(error), offset, into)

    def _reopened(self, error: IntegrityError) -> Source:
        if error.code != "segment-missing":
            raise error
        self._source = self._again()
        return self._source


class BriefSource:
    """A file that is only open while it is read: there may be many of them.

    Args:
        file: the file.

    Raises:
        OSError: from the constructor, when it cannot be inspected.
    """

    def __init__(self, file: Path) -> None:
        self._file, self._size = file, file.stat().st_size

    @property
    def size(self) -> int:
        """Length in bytes when the source was made."""
        return self._size

    def read(self, offset: int, length: int) -> bytes:
        """The bytes in [offset, offset + length), cut off at the end."""
        data = bytearray(max(0, min(length, self._size - offset)))
        return bytes(memoryview(data)[: self.read_into(offset, memoryview(data))])

    def read_into(self, offset: int, into: memoryview) -> int:
        """Fill *into* from the bytes at *offset*; how many were written."""
        done = 0
        try:
            descriptor = os.open(self._file, os.O_RDONLY | os.O_CLOEXEC)
            try:
                while done < len(into) and (count := os.preadv(descriptor, [into[done:]], offset + done)):
                    done += count
            finally:
                os.close(descriptor)
        except OSError as error:
            raise StorageError.of(error, f"cannot read blob {self._file.name}", digest=self._file.name) from error
        return done


class DescriptorSource:
    """An open file.

    Args:
        descriptor: stays the caller's.
        size: its length.
    """

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor, self._size = descriptor, size

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self._size

    def read(self, offset: int, length: int) -> bytes:
        """The bytes in [offset, offset + length), cut off at the end."""
        return os.pread(self._descriptor, length, offset)


def begins_alike(one: Source, other: Source) -> bool:
    """Whether two sources of one size have the same bytes in some places."""
    step = max(1, (one.size - _SAMPLE) // (_SAMPLES - 1))
    return all(one.read(at, _SAMPLE) == other.read(at, _SAMPLE) for at in range(0, one.size, step))


def same_bytes(one: Source, other: Source) -> bool:
    """Whether two sources have the same bytes; all of them are read."""
    if one.size != other.size:
        return False
    return all(one.read(at, BLOCK) == other.read(at, BLOCK) for at in range(0, one.size, BLOCK))
