"""How elements are spread before and after, per group: counts over shared bins."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from math import prod

import numpy as np
from numpy.typing import NDArray

from assay.artifact.elements import Array
from assay.compare.contents import Content
from assay.compare.numbers import BLOCK, as_float64
from assay.compare.sampling import sample
from assay.errors import AssayError
from assay.spec.changes import Histogram

BINS = 64

_TAIL = 0.5
"""Percent of a sample that may lie outside on either side; the first and the last bin take it in."""

Counts = NDArray[np.int64]
Members = Sequence[tuple[Content | None, Content | None]]


def histograms(groups: Sequence[tuple[str, Members]], workers: int) -> tuple[Histogram, ...]:
    """One histogram for each group that holds floats which can be read."""
    with ThreadPoolExecutor(workers, thread_name_prefix="assay-histogram") as pool:
        found = [_group(name, members, pool) for name, members in groups]
    return tuple(one for one in found if one is not None)


def _group(name: str, members: Members, pool: ThreadPoolExecutor) -> Histogram | None:
    sides = [[pair[side] for pair in members] for side in (0, 1)]
    old, new = ([c for c in side if c is not None and c.comparable and c.floating] for side in sides)
    ends = _ends([*old, *new])
    if ends is None:
        return None

    def count(content: Content) -> Counts:
        return _counts(content, ends)

    sums = [sum(pool.map(count, side), np.zeros(BINS, np.int64)) for side in (old, new)]
    return Histogram(name, *ends, *(tuple(int(value) for value in one) for one in sums))


def _ends(contents: Sequence[Content]) -> tuple[float, float] | None:
    """Ends that hold nearly all elements of samples of both sides."""
    samples = [found[np.isfinite(found)] for found in map(sample, contents) if found is not None]
    samples = [one for one in samples if one.size]
    if not samples:
        return None
    low = min(float(np.percentile(one, _TAIL)) for one in samples)
    high = max(float(np.percentile(one, 100 - _TAIL)) for one in samples)
    if not np.isfinite(high - low):
        return None
    margin = max((high - low) * 0.05, abs(high) * 1e-6, 1e-12)
    return low - margin, high + margin


def _counts(content: Content, ends: tuple[float, float]) -> Counts:
    counts = np.zeros(BINS, np.int64)
    try:
        elements = content.elements()
        size = prod(elements.shape)
        for start in range(0, size, BLOCK):
            stop = min(start + BLOCK, size)
            counts += _binned(elements.stretch(start, stop), ends)
            elements.release(start, stop)
    except (AssayError, ValueError, OSError):
        return np.zeros(BINS, np.int64)
    return counts


def _binned(block: Array, ends: tuple[float, float]) -> Counts:
    values = as_float64(block.view(block.real.dtype) if block.dtype.kind == "c" else block)
    values = values[np.isfinite(values)]
    scaled = (values - ends[0]) * (BINS / (ends[1] - ends[0]))
    places = np.clip(scaled, 0, BINS - 1, out=scaled).astype(np.int64)
    return np.bincount(places, minlength=BINS).astype(np.int64)
