"""The elements of one tensor, a stretch at a time: no more of them lie in memory than are asked for.

Concept: a tensor in a local file is a view of a memory map, whose pages are given back once they were read; one that
lies plainly elsewhere is read range by range; one that is stored compressed is decoded whole, up to a bound.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from math import prod
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from assay.errors import BadFormat, LimitExceeded
from assay.trees import Source

MAX_WHOLE = 1 << 30
"""Bytes of one tensor that are brought into memory at once, where there is no other way."""

SMALL = 1 << 20
"""Bytes up to which a far tensor is read at once instead of in places."""

MAX_RUNS = 32
"""Requests that single places of a far tensor may cost."""

Array = NDArray[np.generic]
Release = Callable[[int, int], None]
"""Gives pages back: first byte and the byte after the last one, counted from the start of the file."""


class Elements(Protocol):
    """Elements in C order."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Elements per dimension."""
        ...

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """What a stretch is made of."""
        ...

    def stretch(self, start: int, stop: int) -> Array:
        """Elements [start, stop) as a flat array that must not be written to."""
        ...

    def grid(self) -> Array:
        """All elements in their shape; a view where they are mapped.

        Raises:
            LimitExceeded: they would have to be brought into memory, and are too many.
        """
        ...

    def pick(self, positions: NDArray[np.int64]) -> Array:
        """The elements at the given places of the flat array.

        Raises:
            LimitExceeded: they would have to be brought into memory, and are too many.
        """
        ...

    def release(self, start: int, stop: int) -> None:
        """Give back the pages of elements [start, stop)."""
        ...


class ArrayElements:
    """Elements of an array, or of a view of a memory map.

    Args:
        array: of any shape and strides.
        release: gives back pages; None where nothing is mapped.
        extent: first and last byte of the elements in the map.
    """

    __slots__ = ("_array", "_extent", "_release")

    def __init__(self, array: Array, release: Release | None = None, extent: tuple[int, int] = (0, 0)) -> None:
        self._array = array
        self._release = release
        self._extent = extent

    @property
    def shape(self) -> tuple[int, ...]:
        """Elements per dimension."""
        return self._array.shape

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """What a stretch is made of."""
        return self._array.dtype

    def stretch(self, start: int, stop: int) -> Array:
        """Elements [start, stop): a view where they lie one after the other, a copy elsewhere."""
        return flat_part(self._array, start, stop)

    def grid(self) -> Array:
        """All elements in their shape."""
        return self._array

    def pick(self, positions: NDArray[np.int64]) -> Array:
        """The elements at the given places of the flat array."""
        if self._array.ndim == 0:
            return np.repeat(self._array.reshape(1), len(positions))
        return self._array[np.unravel_index(positions, self._array.shape)]

    def release(self, start: int, stop: int) -> None:
        """Give back the pages of elements [start, stop): of all where they do not lie one after the other."""
        if self._release is None:
            return
        first, last = self._extent
        if self._array.flags.c_contiguous:
            width = self._array.itemsize
            first, last = first + start * width, min(last, first + stop * width)
        self._release(first, last)

    def arranged(self, array: Array) -> ArrayElements:
        """The same elements seen in another way: transposed, cut."""
        return ArrayElements(array, self._release, self._extent) if array.size else ArrayElements(array)


class RangeElements:
    """Elements that lie plainly and in C order in a source that cannot be mapped; read range by range.

    Args:
        source: where they lie.
        offset: first byte.
        shape: elements per dimension.
        dtype: of the elements.
    """

    __slots__ = ("_dtype", "_offset", "_shape", "_source")

    def __init__(self, source: Source, offset: int, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> None:
        self._source = source
        self._offset = offset
        self._shape = shape
        self._dtype = dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Elements per dimension."""
        return self._shape

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """What a stretch is made of."""
        return self._dtype

    def stretch(self, start: int, stop: int) -> Array:
        """Elements [start, stop).

        Raises:
            BadFormat: the source ends before.
        """
        width = self._dtype.itemsize
        data = self._source.read(self._offset + start * width, (stop - start) * width)
        if len(data) != (stop - start) * width:
            raise BadFormat(f"expected {(stop - start) * width} bytes of a tensor, found {len(data)}")
        return np.frombuffer(data, self._dtype)

    def grid(self) -> Array:
        """All elements in their shape."""
        size = prod(self._shape)
        check_whole(size * self._dtype.itemsize)
        return self.stretch(0, size).reshape(self._shape)

    def pick(self, positions: NDArray[np.int64]) -> Array:
        """The elements at the given places of the flat array: run by run where there are few, else out of all."""
        starts = np.flatnonzero(np.diff(positions, prepend=positions[:1] - 2) != 1)
        if not 0 < len(starts) <= MAX_RUNS or prod(self._shape) * self._dtype.itemsize <= SMALL:
            return self.grid().reshape(-1)[positions]
        ends = [*(int(at) for at in starts[1:]), len(positions)]
        runs = zip((int(at) for at in starts), ends, strict=True)
        parts = [self.stretch(int(positions[first]), int(positions[end - 1]) + 1) for first, end in runs]
        return np.concatenate(parts)

    def release(self, start: int, stop: int) -> None:
        """Nothing is mapped."""


def check_whole(nbytes: int) -> None:
    """Whether so many bytes may be brought into memory at once.

    Raises:
        LimitExceeded: they may not.
    """
    if nbytes > MAX_WHOLE:
        raise LimitExceeded(f"a tensor of {nbytes:,} bytes would have to be brought into memory, at most {MAX_WHOLE:,}")


def flat_part(array: Array, start: int, stop: int) -> Array:
    """Elements [start, stop) of an array in C order; a view where they lie one after the other."""
    if array.flags.c_contiguous:
        return array.reshape(-1)[start:stop]
    if stop <= start:
        return np.empty(0, array.dtype)
    parts: list[Array] = []
    _gather(array, start, stop, parts)
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _gather(array: Array, start: int, stop: int, parts: list[Array]) -> None:
    """Collect [start, stop): the end of a first row, whole rows, the beginning of a last one."""
    if stop <= start:
        return
    if array.ndim == 1:
        parts.append(array[start:stop])
        return
    inner = prod(array.shape[1:])
    first, begin = divmod(start, inner)
    last, end = divmod(stop, inner)
    if first == last:
        _gather(array[first], begin, end, parts)
        return
    if begin:
        _gather(array[first], begin, inner, parts)
        first += 1
    if last > first:
        parts.append(array[first:last].reshape(-1))
    _gather(array[last] if end else array[:0].reshape(-1), 0, end, parts)


def releasing(mapped: mmap.mmap) -> Release | None:
    """A function that gives pages of a read-only map back; None where the system has no such call.

    The bytes stay in the file: a page that is touched again is simply mapped again.
    """
    advice = getattr(mmap, "MADV_DONTNEED", None)
    if advice is None:
        return None

    def release(start: int, stop: int) -> None:
        begin = start - start % mmap.PAGESIZE
        if stop > begin:
            mapped.madvise(advice, begin, stop - begin)

    return release
