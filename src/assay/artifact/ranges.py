"""Indexing a tensor that cannot be mapped: the rows that the index touches are read, straight into one array."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from assay.artifact.layout import Array, cut, shaped, span, steps
from assay.errors import BadFormat
from assay.spec.tensor import Extent, TensorSpec
from assay.trees import Source, read_into

GAP = 64 << 10
"""Bytes between two wanted rows that are read rather than asked for twice."""

Index = int | slice | tuple[int | slice, ...]


def indexed(source: Source, spec: TensorSpec, dtype: np.dtype[np.generic], index: Index) -> Array:
    """What ``tensor[index]`` is, of a tensor that lies at its extent in *source*.

    Raises:
        BadFormat: the source ends before the tensor does.
        IndexError: as numpy raises it.
    """
    assert spec.extent is not None
    first = index[0] if isinstance(index, tuple) and index else index
    if not spec.shape or isinstance(first, bool) or not isinstance(first, (int, slice, np.integer)):
        return _whole(source, spec, dtype)[index]
    if isinstance(first, slice):
        return _rows(source, spec, dtype, index, first)
    row = int(first)
    if not -spec.shape[0] <= row < spec.shape[0]:
        raise IndexError(f"row {row} of {spec.shape[0]}")
    row %= spec.shape[0]
    block = _whole(source, cut(spec, dtype, slice(row, row + 1)), dtype)
    return block[(0, *index[1:])] if isinstance(index, tuple) else block[0]


def fill(source: Source, offset: int, into: NDArray[np.uint8], path: str) -> None:
    """Fill a flat array of bytes from *offset* on.

    Raises:
        BadFormat: the source ends before.
    """
    found = read_into(source, offset, into.data) if len(into) else 0
    if found != len(into):
        raise BadFormat(f"{path} ends {len(into) - found} bytes before the tensors in it do", path=path, offset=offset)


def _whole(source: Source, spec: TensorSpec, dtype: np.dtype[np.generic]) -> Array:
    assert spec.extent is not None
    data = np.empty(span(spec) * dtype.itemsize, np.uint8)
    fill(source, spec.extent.offset, data, spec.extent.path)
    return shaped(data, 0, spec, dtype)


def _rows(source: Source, spec: TensorSpec, dtype: np.dtype[np.generic], index: Index, first: slice) -> Array:
    """Rows that lie close together in one piece; rows far apart, one by one."""
    rows = range(spec.shape[0])[first]
    rest = index[1:] if isinstance(index, tuple) else ()
    ordered = rows if rows.step > 0 else rows[::-1]
    wanted = cut(spec, dtype, slice(ordered.start, ordered.stop, ordered.step))
    distances = steps(spec)
    row = TensorSpec(spec.name, spec.dtype, spec.shape[1:], strides=distances[1:])
    width, apart = span(row), distances[0] * ordered.step
    if len(ordered) > 1 and (apart - width) * dtype.itemsize > GAP:
        assert spec.extent is not None
        data = np.empty((len(ordered), width * dtype.itemsize), np.uint8)
        for place, number in enumerate(ordered):
            start = spec.extent.offset + number * distances[0] * dtype.itemsize
            fill(source, start, data[place], spec.extent.path)
        extent = Extent(spec.extent.path, 0, data.nbytes)
        apiece = TensorSpec(spec.name, spec.dtype, wanted.shape, extent, strides=(width, *distances[1:]))
        block = shaped(data.reshape(-1), 0, apiece, dtype)
    else:
        block = _whole(source, wanted, dtype)
    block = block if rows.step > 0 else block[::-1]
    return block[(slice(None), *rest)] if rest else block
