"""A few elements of each tensor: enough to tell kin from strangers without reading either."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assay.compare.arranging import Arrangement
from assay.compare.contents import Content
from assay.compare.naming import stem
from assay.compare.numbers import as_float64
from assay.errors import AssayError

PLACES = 512
"""Elements looked at per tensor, in runs of ``RUN`` neighbours."""

RUN = 32

Floats = NDArray[np.float64]
Arrangements = Callable[[Content, Content], Sequence[Arrangement]]


@dataclass(frozen=True, slots=True)
class Limits:
    """From where on two samples speak for kinship.

    Args:
        within: largest distance.
        least: elements from which closeness counts; smaller tensors must be equal.
        constants: whether tensors that hold one value over and over may be taken for one another.
        quantised: whether integers are held against floats, whatever their scale, and nothing else is.
    """

    within: float
    least: int
    constants: bool = False
    quantised: bool = False


class Samples:
    """Reads samples; those of tensors that are compared with many others are kept as long as that takes."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, Arrangement | None], Floats | None] = {}

    def distance(self, old: Content, new: Content, arrangement: Arrangement) -> float | None:
        """Centred distance of two tensors of one size; None when a side cannot be read at single places.

        ``‖(a-mean a) - (b-mean b)‖ / max(‖a-mean a‖, ‖b-mean b‖)``: 0 for equal ones, about 1 and more for strangers.
        Means are taken out because norms, variances and scales all lie around one value without being kin.
        """
        places = _places(new.spec.size)
        a, b = _read(old, arrangement.old_places(places, old.shape)), _read(new, places)
        return None if a is None or b is None else _distance(a, b)

    def closest(
        self, old: Sequence[Content], new: Sequence[Content], arrangements: Arrangements, limits: Limits
    ) -> Iterator[tuple[Content, Content, Arrangement]]:
        """Pairs of tensors of one size whose elements are equal, then those that are nearest to each other.

        Args:
            old, new: tensors without a partner, all of one size.
            arrangements: in which ways two of them may correspond.
            limits: what is evidence.
        """
        found: list[tuple[float, int, int, Arrangement]] = []
        self._kept.clear()
        for at, one in enumerate(old):
            for other, content in enumerate(new):
                for arrangement in arrangements(one, content):
                    score = self._score(one, content, arrangement, limits)
                    if score is not None and score <= limits.within:
                        found.append((score, at, other, arrangement))
        taken_old: set[int] = set()
        taken_new: set[int] = set()
        for _, at, other, arrangement in sorted(found, key=lambda entry: entry[:3]):
            if at not in taken_old and other not in taken_new:
                taken_old.add(at)
                taken_new.add(other)
                yield old[at], new[other], arrangement

    def _score(self, old: Content, new: Content, arrangement: Arrangement, limits: Limits) -> float | None:
        """-1 for equal elements of one type, else the distance where that is evidence."""
        a, b = self._taken(old, arrangement), self._taken(new, None)
        if a is None or b is None:
            return None
        if limits.quantised:
            alike = old.floating is not new.floating and len(a) >= limits.least
            return _distance(_unit(a), _unit(b)) if alike else None
        if len(a) > 1 and not limits.constants and np.all(a == a[0]) and stem(old.name) != stem(new.name):
            return None  # one value over and over is how fresh biases and scales look everywhere
        if old.floating is new.floating and np.array_equal(a, b, equal_nan=True):
            alike = old.shape == new.shape and old.spec.dtype == new.spec.dtype
            return -1.0 if alike else -0.5 if len(a) >= limits.least else None
        if len(a) < limits.least or not (old.floating and new.floating):
            return None
        return _distance(a, b)

    def _taken(self, content: Content, arrangement: Arrangement | None) -> Floats | None:
        key = id(content), arrangement
        if key not in self._kept:
            places = _places(content.spec.size)
            asked = places if arrangement is None else arrangement.old_places(places, content.shape)
            self._kept[key] = _read(content, asked)
        return self._kept[key]


def sample(content: Content) -> Floats | None:
    """Some elements of a tensor as float64; None when it cannot be read."""
    return _read(content, _places(content.spec.size))


def _places(size: int) -> NDArray[np.int64]:
    """Places of the flat array: all of a small one, runs spread over a large one; the same for every size."""
    if size <= PLACES:
        return np.arange(size, dtype=np.int64)
    starts = np.random.default_rng(size).integers(0, size - RUN, PLACES // RUN)
    return np.unique((starts[:, None] + np.arange(RUN)).reshape(-1)).astype(np.int64)


def _read(content: Content, places: NDArray[np.int64]) -> Floats | None:
    try:
        elements = content.elements()
        found = elements.pick(places)
        elements.release(0, content.spec.size)
        return as_float64(found.view(found.real.dtype) if found.dtype.kind == "c" else found)
    except (AssayError, ValueError, OSError):
        return None


def _unit(values: Floats) -> Floats:
    """The values around their mean, of length one: what a scale and a zero point do not change."""
    centred: Floats = values - values.mean()
    length = float(np.linalg.norm(centred))
    return np.divide(centred, length) if length else centred


def _distance(a: Floats, b: Floats) -> float:
    if a.shape != b.shape:  # complex numbers beside plain ones
        return 2.0
    with np.errstate(all="ignore"):
        good = np.isfinite(a) & np.isfinite(b)
        x, y = a[good], b[good]
        if not x.size:
            return 2.0
        x, y = x - x.mean(), y - y.mean()
        scale = max(float(np.linalg.norm(x)), float(np.linalg.norm(y)))
        if scale == 0:
            return 0.0 if np.array_equal(a[good], b[good]) else 2.0
        distance = float(np.linalg.norm(y - x)) / scale
    return distance if np.isfinite(distance) else 2.0
