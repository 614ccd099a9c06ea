"""The rank of a change: whether an adapter was merged, judged from a sample of rows and columns.

Concept: rows and columns drawn from a matrix of rank r form a matrix of rank r, as long as there are more of each than
r. What rounding to the stored type adds is known (a uniform error of one unit in the last place per element), so the
singular values it can cause are known too; the change is of low rank when few values rise above them, with a gap, and
nothing but rounding is left below.

The largest singular value of an m x n matrix of independent errors of standard deviation s is close to s(√m + √n)
(Bai and Yin 1988).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod, sqrt

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from assay.compare.blocks import Job, side_by_side
from assay.compare.numbers import as_float64
from assay.errors import AssayError

FIRST = 64
"""Rows and columns of the first sample: well under a millisecond per matrix."""

CONFIRMED = 160
"""Rows and columns of the sample that must show the same rank as the first."""

SECOND = 384
"""Rows and columns of the second sample, for what is full in the first."""

SECONDS = 8
"""Matrices that get a second sample; if one of them is of low rank after all, every one gets it."""

MARKEDLY = 3
"""A low rank is at most this part of the sample's."""

LEAST = 8
"""Smallest dimension of a matrix whose rank says anything."""

_ABOVE = 1.15
"""How far a singular value must rise above what rounding can cause."""

_GAP = 1.3
"""How far the last value of the change must lie above the first of what is left."""

_RESOLVED = 1e-7
"""Singular values below this part of the largest are lost when they are taken from the matrix's square."""

_ENERGY = 1.6
"""How much more than rounding's share may be left below."""

Floats = NDArray[np.float64]


def ranks(jobs: Sequence[Job]) -> list[int | None]:
    """The estimated rank of each change; None where it is not markedly below full, or not to be told."""
    found: list[int | None] = []
    open_: list[int] = []
    for at, job in enumerate(jobs):
        rank, full = _estimate(job, FIRST)
        if rank is not None and _narrow(job) > FIRST and _estimate(job, CONFIRMED)[0] != rank:
            rank = None
        found.append(rank)
        if rank is None and full and _narrow(job) > FIRST:
            open_.append(at)
    chosen = open_[:: max(1, -(-len(open_) // SECONDS))]
    for at in chosen:
        found[at], _ = _estimate(jobs[at], SECOND)
    if any(found[at] is not None for at in chosen):
        for at in set(open_) - set(chosen):
            found[at], _ = _estimate(jobs[at], SECOND)
    return found


def is_matrix(job: Job) -> bool:
    """Whether the rank of a change of it means something: floats in two dimensions and more, none of them tiny."""
    fits = job.new.floating and job.old.floating and len(job.new.shape) >= 2
    return fits and job.arrangement.shared is None and _narrow(job) >= LEAST


def _narrow(job: Job) -> int:
    rows = job.new.shape[0]
    return min(rows, prod(job.new.shape[1:]))


def _estimate(job: Job, size: int) -> tuple[int | None, bool]:
    """The rank as far as a sample shows it, and whether the sample was full."""
    try:
        old, new = side_by_side(job)
        rows, columns = job.new.shape[0], prod(job.new.shape[1:])
        at = np.unique(np.linspace(0, rows - 1, min(rows, size)).astype(np.int64))
        beside = np.unique(np.linspace(0, columns - 1, min(columns, size)).astype(np.int64))
        places = (at[:, None] * columns + beside).reshape(-1)
        a, b = (as_float64(one.pick(places)).reshape(len(at), len(beside)) for one in (old, new))
        old.release(0, job.new.spec.size)
        new.release(0, job.new.spec.size)
    except (AssayError, ValueError, OSError):
        return None, False
    change = b - a
    if not np.isfinite(change).all():
        return None, False
    return low_rank(change, _rounding(a, b, job))


def _rounding(a: Floats, b: Floats, job: Job) -> float:
    """Variance per element of what rounding to the stored types adds; infinite for blocks, whose steps are coarse.

    The old type counts where it is the coarser one: the change may have been added before numbers were rounded to it.
    """
    old, new = job.old.dtype, job.new.dtype
    if job.old.blocks is not None or job.new.blocks is not None or old is None or new is None:
        return float("inf")
    found = float(np.mean(_spacing(b, new) ** 2)) / 12
    if _epsilon(old) > _epsilon(new):
        found += float(np.mean(_spacing(a, old) ** 2)) / 12
    return found


def _spacing(values: Floats, dtype: np.dtype[np.generic]) -> Floats:
    """Distance of neighbouring numbers of a type at each value."""
    _, exponent = np.frexp(values)
    info = ml_dtypes.finfo(dtype)
    steps = exponent - 1 + round(float(np.log2(float(info.eps))))
    spaced: Floats = np.ldexp(1.0, np.maximum(steps, round(float(np.log2(float(info.smallest_subnormal))))))
    return spaced


def _epsilon(dtype: np.dtype[np.generic]) -> float:
    return float(ml_dtypes.finfo(dtype).eps)


def low_rank(change: Floats, variance: float) -> tuple[int | None, bool]:
    """The rank of a matrix up to errors of a variance per element, when it is markedly below full.

    Returns:
        The rank or None, and whether nearly all singular values rise above the errors.
    """
    rows, columns = change.shape
    narrow = min(rows, columns)
    if not np.isfinite(variance) or narrow < LEAST or not change.any():
        return None, False
    if np.count_nonzero(change.any(axis=1)) < rows // 2 or np.count_nonzero(change.any(axis=0)) < columns // 2:
        return None, False  # a few rows were touched: of low rank, but no adapter
    values = _singular_values(change)
    if values is None:
        return None, False
    floor = sqrt(variance) * (sqrt(rows) + sqrt(columns)) * _ABOVE
    floor = max(floor, float(values[0]) * _RESOLVED)
    rank = int(np.count_nonzero(values > floor))
    if rank == 0 or rank > narrow // MARKEDLY:
        return None, rank > narrow // MARKEDLY
    left = float(np.sum(values[rank:] ** 2))
    beyond = float(values[rank]) if rank < narrow else 0.0
    explained = left <= _ENERGY * max(rows * columns * variance, (floor**2) * narrow)
    return (rank, False) if explained and values[rank - 1] > _GAP * beyond else (None, False)


def _singular_values(matrix: Floats) -> Floats | None:
    """Descending, from the eigenvalues of the matrix times its transpose: several times as fast as from itself."""
    square = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    try:
        values: Floats = np.sqrt(np.maximum(np.linalg.eigvalsh(square)[::-1], 0))
    except np.linalg.LinAlgError:
        return None
    return values
