"""How two runs of elements differ: sums over blocks that stay in the processor's cache, and the numbers made of them.

Concept: with d = b - a, the sums of a², a·d and d² give everything: a·b = a² + a·d and b² = a² + 2 a·d + d². Wide
blocks of float32 are summed up in float32 and the sums of blocks in float64; where a mean outweighs the spread, where
values are not finite and for every other type the elements themselves are taken as float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite, isnan, sqrt

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from assay.artifact.elements import Array
from assay.spec.changes import Numbers

BLOCK = 1 << 17
"""Elements per block: three float32 arrays of it stay in a processor's second-level cache, and calls are few."""

_LOPSIDED = 0.9
"""Share of a² that the mean may explain before float32 sums would blur the spread."""

_FAR = 1e-3
"""b² below this share of a² is summed up itself: as a difference of larger sums it would be rounding only."""

_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


@dataclass(slots=True)
class Sums:
    """Sums over elements that are finite on both sides; means of each side over what is finite there.

    Args:
        count: elements seen.
        changed: of those, the ones that differ.
        aa, bb, ab, dd: sums of squares and of products.
        peak: largest ``|b-a|``.
        total_a, total_b: sums of the finite elements of a side.
        square_a, square_b: sums of their squares.
        nonfinite_a, nonfinite_b: elements that are not finite.
        cast: sum of squares of what casting a to b's dtype loses.
    """

    count: int = 0
    changed: int = 0
    aa: float = 0.0
    bb: float = 0.0
    ab: float = 0.0
    dd: float = 0.0
    peak: float = 0.0
    total_a: float = 0.0
    total_b: float = 0.0
    square_a: float = 0.0
    square_b: float = 0.0
    nonfinite_a: int = 0
    nonfinite_b: int = 0
    cast: float = 0.0

    def add(self, other: Sums) -> None:
        """Take the sums of another stretch in."""
        self.count += other.count
        self.changed += other.changed
        self.aa += other.aa
        self.bb += other.bb
        self.ab += other.ab
        self.dd += other.dd
        self.peak = max(self.peak, other.peak)
        self.total_a += other.total_a
        self.total_b += other.total_b
        self.square_a += other.square_a
        self.square_b += other.square_b
        self.nonfinite_a += other.nonfinite_a
        self.nonfinite_b += other.nonfinite_b
        self.cast += other.cast

    def numbers(self, *, recast: bool, rank: int | None = None) -> Numbers:
        """What a diff shows; *recast* also tells what the cast explains."""
        old_norm, new_norm, distance = sqrt(self.aa), sqrt(max(0.0, self.bb)), sqrt(self.dd)
        cosine = None
        if old_norm and new_norm and isfinite(old_norm * new_norm):
            cosine = max(-1.0, min(1.0, self.ab / (old_norm * new_norm)))
        old_mean, old_std = _moments(self.total_a, self.square_a, self.count - self.nonfinite_a)
        new_mean, new_std = _moments(self.total_b, self.square_b, self.count - self.nonfinite_b)
        return Numbers(
            relative_l2=_ratio(distance, old_norm),
            max_abs=self.peak,
            cosine=cosine,
            changed_fraction=self.changed / self.count if self.count else 0.0,
            difference_norm=distance,
            old_norm=old_norm,
            new_norm=new_norm,
            old_mean=old_mean,
            new_mean=new_mean,
            old_std=old_std,
            new_std=new_std,
            old_nonfinite=self.nonfinite_a,
            new_nonfinite=self.nonfinite_b,
            cast_error=_ratio(sqrt(self.cast), old_norm) if recast and not isnan(self.cast) else None,
            rank=rank,
        )


def _ratio(part: float, whole: float) -> float:
    if not part:
        return 0.0
    return part / whole if whole and isfinite(part) else inf


def _moments(total: float, square: float, count: int) -> tuple[float, float]:
    if not count:
        return 0.0, 0.0
    mean = total / count
    spread = square / count - mean * mean
    return mean, sqrt(spread) if 0 < spread < inf else 0.0


class Workspace:
    """Buffers of one thread, used again for every block."""

    __slots__ = ("_a", "_b", "_d", "_ones")

    def __init__(self) -> None:
        self._a = np.empty(BLOCK, np.float32)
        self._b = np.empty(BLOCK, np.float32)
        self._d = np.empty(BLOCK, np.float32)
        self._ones = np.ones(BLOCK, np.float32)

    def sums(self, a: Array, b: Array, *, exact: bool) -> Sums:
        """Sums over one block of at most ``BLOCK`` elements; *exact* takes the elements as float64 at once.

        Numpy's warnings about overflow and invalid values are the caller's to switch off.
        """
        if exact or a.dtype.kind in "iubc" or b.dtype.kind in "iubc" or max(a.itemsize, b.itemsize) > 4:
            return exact_sums(a, b)
        x, y = self._widened(a, self._a), self._widened(b, self._b)
        found = self._wide(x, y)
        return exact_sums(x, y) if found is None else found

    def _wide(self, x: NDArray[np.float32], y: NDArray[np.float32]) -> Sums | None:
        """Sums in float32; None when that would not be good enough."""
        d, ones, count = self._d[: len(x)], self._ones[: len(x)], len(x)
        np.subtract(y, x, out=d)
        dd, ad, aa = float(np.dot(d, d)), float(np.dot(x, d)), float(np.dot(x, x))
        total, moved = float(np.dot(x, ones)), float(np.dot(d, ones))
        if not isfinite(dd + ad + aa + total + moved) or total * total > _LOPSIDED * aa * count:
            return None
        bb, ab = aa + 2 * ad + dd, aa + ad
        if bb < _FAR * aa:
            bb, ab = float(np.dot(y, y)), float(np.dot(x, y))
        return Sums(
            count=count,
            changed=int(np.count_nonzero(d.view(np.uint32))),  # b - a is zero for equal elements alone
            aa=aa,
            bb=bb,
            ab=ab,
            dd=dd,
            peak=max(float(d.max()), -float(d.min())),
            total_a=total,
            total_b=total + moved,
            square_a=aa,
            square_b=bb,
        )

    @staticmethod
    def _widened(block: Array, buffer: NDArray[np.float32]) -> NDArray[np.float32]:
        if block.dtype == np.float32 and block.dtype.isnative:
            return block.view(np.float32)
        wide = buffer[: len(block)]
        if block.dtype == _BFLOAT16 and block.dtype.isnative:
            # A bfloat16 is the upper half of a float32.
            bits = wide.view(np.uint32)
            bits[:] = block.view(np.uint16)
            np.left_shift(bits, 16, out=bits)
        else:
            wide[:] = block
        return wide


def exact_sums(a: Array, b: Array) -> Sums:
    """Sums over elements taken as float64; what is not finite on either side is counted and left out."""
    x, y = as_float64(a), as_float64(b)
    with np.errstate(all="ignore"):
        good_a, good_b = np.isfinite(x), np.isfinite(y)
        both = good_a & good_b
        whole = bool(both.all())
        differs = a != b if a.dtype == b.dtype else x != y
        if not whole:
            differs = differs & ~(np.isnan(x) & np.isnan(y))
        xs, ys = (x, y) if whole else (x[both], y[both])
        d = ys - xs
        aa, bb = float(np.dot(xs, xs)), float(np.dot(ys, ys))
        own_a, own_b = (xs, ys) if whole else (x[good_a], y[good_b])
        return Sums(
            count=len(x),
            changed=int(np.count_nonzero(differs)),
            aa=aa,
            bb=bb,
            ab=float(np.dot(xs, ys)),
            dd=float(np.dot(d, d)),
            peak=float(np.abs(d).max()) if d.size else 0.0,
            total_a=float(own_a.sum()),
            total_b=float(own_b.sum()),
            square_a=aa if whole else float(np.dot(own_a, own_a)),
            square_b=bb if whole else float(np.dot(own_b, own_b)),
            nonfinite_a=len(x) - int(np.count_nonzero(good_a)),
            nonfinite_b=len(y) - int(np.count_nonzero(good_b)),
        )


def as_float64(block: Array) -> NDArray[np.float64]:
    """Elements as float64."""
    return block.astype(np.float64)


def cast_loss(a: Array, dtype: np.dtype[np.generic]) -> float:
    """Sum of squares of what casting elements to another dtype loses; infinite results are left out."""
    x = as_float64(a)
    with np.errstate(all="ignore"):
        lost = as_float64(a.astype(dtype)) - x
        lost = lost[np.isfinite(lost)]
        return float(np.dot(lost, lost))
