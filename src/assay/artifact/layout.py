"""How the bytes of a tensor become an array: its numpy dtype, the bytes it spans, the rows that are wanted of it."""

from __future__ import annotations

import mmap
from dataclasses import replace

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from assay.errors import BadFormat, InvalidInput
from assay.spec.tensor import Extent, TensorSpec
from assay.trees import Source

Array = NDArray[np.generic]

_ROWS = "rows=slice(START, STOP)"


def numpy_dtype(spec: TensorSpec) -> np.dtype[np.generic]:
    """The numpy dtype that views a tensor's elements, byte order included.

    Raises:
        InvalidInput: there is none (code ``not-plain``).
    """
    try:
        named = getattr(ml_dtypes, spec.dtype, None) if spec.plain else None
        dtype: np.dtype[np.generic] = np.dtype(named if named is not None else spec.dtype)
    except TypeError:
        dtype = np.dtype(object)
    if not spec.plain or dtype.hasobject or dtype.kind not in "biufcV":
        raise InvalidInput(
            f"tensor {spec.name!r} is stored as {spec.dtype}, which numpy cannot view",
            code="not-plain",
            hint="its bytes are at .spec.extent; assay.load builds the framework's own object",
        )
    return dtype.newbyteorder(">") if spec.big_endian and dtype.itemsize > 1 else dtype


def check_extent(spec: TensorSpec, extent: Extent, source: Source, dtype: np.dtype[np.generic]) -> None:
    """See that a tensor lies within its extent, and that within its file.

    Raises:
        BadFormat: it does not.
    """
    wanted = span(spec) * dtype.itemsize
    if wanted > extent.length or extent.offset + extent.length > source.size:
        raise BadFormat(
            f"tensor {spec.name!r} does not fit its extent: {wanted} bytes wanted at offset {extent.offset}, "
            f"extent of {extent.length} in {source.size} bytes",
            path=extent.path,
            offset=extent.offset,
        )


def span(spec: TensorSpec) -> int:
    """Elements from the first to the last one of the tensor, both included.

    Raises:
        BadFormat: its strides cannot be.
    """
    count = spec.size
    if count == 0 or spec.strides is None:
        return count
    if len(spec.strides) != len(spec.shape) or any(step < 0 for step in spec.strides):
        raise BadFormat(f"tensor {spec.name!r} has strides {spec.strides} for shape {spec.shape}")
    return 1 + sum((size - 1) * step for size, step in zip(spec.shape, spec.strides, strict=True))


def steps(spec: TensorSpec) -> tuple[int, ...]:
    """Distance between neighbours per dimension, in elements."""
    if spec.strides is not None:
        return spec.strides
    found, width = [], 1
    for size in reversed(spec.shape):
        found.append(width)
        width *= size
    return tuple(reversed(found))


def shaped(
    data: bytes | mmap.mmap | NDArray[np.uint8], offset: int, spec: TensorSpec, dtype: np.dtype[np.generic]
) -> Array:
    """A view of bytes as the tensor's array; it may be written to where they may."""
    if spec.size == 0:
        return np.empty(spec.shape, dtype)
    flat: Array = np.frombuffer(data, dtype, count=span(spec), offset=offset)
    if spec.strides is None:
        return flat.reshape(spec.shape)
    distances = tuple(step * dtype.itemsize for step in spec.strides)
    return np.lib.stride_tricks.as_strided(flat, spec.shape, distances, writeable=flat.flags.writeable)


def check_rows(rows: slice | None) -> None:
    """See that rows are numbers, and go forwards.

    Raises:
        InvalidInput: they do not (code ``bad-rows``).
    """
    try:
        forwards = rows is None or rows.indices(1)[2] > 0
    except (AttributeError, TypeError, ValueError) as error:
        raise InvalidInput(f"no rows: {rows!r:.60} ({error})", code="bad-rows", hint=_ROWS) from error
    if not forwards:
        raise InvalidInput("rows are taken forwards", code="bad-rows", hint=_ROWS)


def cut(spec: TensorSpec, dtype: np.dtype[np.generic], rows: slice) -> TensorSpec:
    """The same tensor with rows of its first dimension only, which go forwards; scalars as they are.

    Where there is no extent, only the shape is cut.
    """
    if not spec.shape:
        return spec
    first, stop, step = rows.indices(spec.shape[0])
    count, distances = len(range(first, stop, step)), steps(spec)
    shape = (count, *spec.shape[1:])
    if spec.extent is None:
        return replace(spec, shape=shape)
    start = spec.extent.offset + (first * distances[0] * dtype.itemsize if count else 0)
    if step > 1 or spec.strides is not None:
        shorter = replace(spec, shape=shape, strides=(distances[0] * step, *distances[1:]))
    else:
        shorter = replace(spec, shape=shape)
    return replace(shorter, extent=Extent(spec.extent.path, start, span(shorter) * dtype.itemsize))
