"""Whether one model was made from another, as far as sketches of their weights show.

Two trainings from different starts give matrices that do not correlate, even on the same data: a network computes the
same under many permutations and scalings of its units, and each training ends at another one. So correlated matrices
mean a common origin. Measured on real pairs (median over matrices, each around its own mean): fine-tunes and transfers
0.97 to 0.998; networks that were trained again 0.00 to 0.02.

A model without matrices says nothing in this way: a linear model that is trained again on nearly the same data lands at
nearly the same place (alt-profanity 1.8 and 1.9: relative distance 0.006, and no derivation), and vectors of one sign
are near whatever they mean (lpips: correlation 0.94). Of those only equal elements count.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assay.artifact.reader import Artifact
from assay.compare.sketches import Sampled, Sketch
from assay.compare.weights import NEAR
from assay.errors import AssayError
from assay.spec.json import Json
from assay.spec.lineage import Relation
from assay.spec.tensor import ELEMENT_BITS

SHARE = 0.5
"""Part of the smaller model's matrices (or tensors, where only equal ones count) that must be found in the other."""
_AT_LEAST = 2
"""Tensors that must be found: one alone may be a table that many models share (a filter bank, word vectors)."""
_ROUNDING = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float8_e4m3fn": 2.0**-3, "float8_e5m2": 2.0**-2}
"""Relative error of a cast to a narrower type, rounded up."""
_BLOCK = 96
"""Rows and columns of a matrix that are looked at for its rank."""
_LOOKED_AT = 6
"""Matrices that are looked at for their rank."""
_COMPARED = 256
"""Elements by which tensors under other names are found."""
_NARROW = 8
"""Bits per element up to which a smaller form is called quantised."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two tensors of as many elements, found to belong together.

    Args:
        old, new: of the older and the younger model.
        correlation: of their elements, each around its own mean; 0 where either does not vary.
        distance: ``‖new-old‖₂ / ‖old‖₂``.
        equal: whether all elements are the same, up to a cast to the narrower of both dtypes.
    """

    old: Sampled
    new: Sampled
    correlation: float
    distance: float
    equal: bool

    @property
    def near(self) -> bool:
        """Whether they have a common origin."""
        return self.equal or self.correlation >= NEAR


@dataclass(frozen=True, slots=True)
class Kin:
    """That one model was made from another.

    Args:
        relation: how.
        distance: how far the younger one is from the older one: 0 for equal weights, about 1.4 for unrelated ones.
        evidence: what it was concluded from.
        pairs: tensors that belong together.
    """

    relation: Relation
    distance: float
    evidence: dict[str, Json]
    pairs: tuple[Pair, ...]


def kin(old: Sketch, new: Sketch) -> Kin | None:
    """Whether *new* was made from *old*, or both from a third; None when their weights do not show it."""
    pairs = match(old.tensors, new.tensors)
    if not (_close(old, new, pairs) or _same(old, new, pairs)):
        return None
    near = [pair for pair in pairs if pair.near and pair.new.telling]
    distance = float(np.median([0.0 if pair.equal else pair.distance for pair in near]))
    matrices = [pair.correlation for pair in near if pair.new.matrix and not pair.equal]
    relation = _relation(old, new, near, distance)
    if relation is Relation.QUANTIZED_FROM:  # integers are on another scale than what they stand for
        distance = float(np.sqrt(2 * (1 - min(1.0, np.median(matrices))))) if matrices else 0.0
    casts = Counter(f"{pair.old.dtype} to {pair.new.dtype}" for pair in near if pair.old.dtype != pair.new.dtype)
    evidence: dict[str, Json] = {
        "tensors": sum(one.telling for one in new.tensors),
        "shared": len(near),
        "equal": sum(pair.equal for pair in near),
        "renamed": sum(pair.old.name != pair.new.name for pair in near),
        "relative_l2": round(distance, 4),
    }
    if matrices:
        evidence["correlation"] = round(float(np.median(matrices)), 4)
    if casts:
        evidence["casts"] = dict(casts)
    return Kin(relation, distance, evidence, tuple(near))


def merged_rank(old: Artifact, new: Artifact, found: Kin) -> int | None:
    """The greatest rank of what was added to the matrices, where that is low for all: an adapter was merged.

    A block of rows and columns of a few large changed matrices is looked at. A change of rank r has no more than r
    singular values above what rounding to the narrower type leaves.
    """
    changed = [pair for pair in found.pairs if not pair.equal and len(pair.new.shape) == 2]
    changed = [pair for pair in changed if pair.old.shape == pair.new.shape and min(pair.new.shape) >= _BLOCK // 2]
    changed.sort(key=lambda pair: -pair.new.size)
    ranks = []
    for pair in changed[:_LOOKED_AT]:
        rows, columns = (np.linspace(0, count - 1, min(count, _BLOCK)).astype(int) for count in pair.new.shape)
        try:
            blocks = [
                np.asarray(side.tensors[name].numpy()[rows[:, None], columns]).astype(np.float64)
                for side, name in ((old, pair.old.name), (new, pair.new.name))
            ]
        except (AssayError, ValueError, TypeError):
            return None
        if not all(np.isfinite(block).all() for block in blocks):
            return None
        values = np.linalg.svd(blocks[1] - blocks[0], compute_uv=False)
        rounding = max(_ROUNDING.get(tensor.dtype, 2.0**-23) for tensor in (pair.old, pair.new))
        size = float(np.sqrt(np.mean(blocks[1] ** 2)))
        floor = max(2 * rounding * size * np.sqrt(max(blocks[1].shape)), 1e-6 * values[0])
        rank = int(np.sum(values > floor))
        if not 0 < rank <= len(values) // 3:
            return None
        ranks.append(rank)
    return max(ranks, default=None)


def match(old: Sequence[Sampled], new: Sequence[Sampled]) -> list[Pair]:
    """Tensors that belong together: by their elements, whatever their names, then by name."""
    groups: dict[int, tuple[list[Sampled], list[Sampled]]] = defaultdict(lambda: ([], []))
    for side, tensors in enumerate((old, new)):
        for tensor in tensors:
            if len(tensor.elements):
                groups[tensor.size][side].append(tensor)
    pairs: list[Pair] = []
    for ours, theirs in groups.values():
        if ours and theirs:
            pairs += _by_content(ours, theirs)
    taken_old, taken_new = {pair.old.name for pair in pairs}, {pair.new.name for pair in pairs}
    named = {tensor.name: tensor for tensor in old if tensor.name not in taken_old and len(tensor.elements)}
    for tensor in new:
        other = named.get(tensor.name)
        if other is not None and other.size == tensor.size and len(tensor.elements) and tensor.name not in taken_new:
            pairs.append(_pair(other, tensor))
    return pairs


def _by_content(old: Sequence[Sampled], new: Sequence[Sampled]) -> list[Pair]:
    """Pairs of one size whose elements correlate, best first, the same name before another."""
    old, new = ([one for one in side if one.telling] for side in (old, new))
    if not old or not new:
        return []
    count = min(*(len(tensor.elements) for tensor in (*old, *new)), _COMPARED)
    table = _standard(old, count) @ _standard(new, count).T
    near = [(table[at, other], at, other) for at, other in np.argwhere(table >= NEAR).tolist()]
    near.sort(key=lambda one: (-round(one[0], 6), old[one[1]].name != new[one[2]].name))
    used_old, used_new = set[int](), set[int]()
    found = []
    for _, at, other in near:
        if at not in used_old and other not in used_new:
            used_old.add(at)
            used_new.add(other)
            found.append(_pair(old[at], new[other]))
    return found


def _standard(tensors: Sequence[Sampled], count: int) -> NDArray[np.float64]:
    """Elements around their means, at length one; zero where they do not vary or are not finite."""
    rows = np.array([tensor.elements[:count] for tensor in tensors], np.float64)
    rows = np.where(np.isfinite(rows), rows, 0.0)
    rows -= rows.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    result: NDArray[np.float64] = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return result


def _pair(old: Sampled, new: Sampled) -> Pair:
    count = min(len(old.elements), len(new.elements))
    a, b = (tensor.elements[:count].astype(np.float64) for tensor in (old, new))
    finite = np.isfinite(a) & np.isfinite(b)
    exact = bool(np.array_equal(a, b, equal_nan=True))
    a, b = a[finite], b[finite]
    length = float(np.linalg.norm(a))
    apart = float(np.linalg.norm(b - a))
    distance = apart / length if length else (0.0 if exact else float("inf"))
    rounding = max(_ROUNDING.get(old.dtype, 0.0), _ROUNDING.get(new.dtype, 0.0)) if old.dtype != new.dtype else 0.0
    cast = rounding > 0 and bool(np.all(np.abs(b - a) <= rounding * np.maximum(np.abs(a), np.abs(b)) + 1e-7))
    centred = [values - values.mean() if len(values) else values for values in (a, b)]
    lengths = float(np.linalg.norm(centred[0]) * np.linalg.norm(centred[1]))
    correlation = float(centred[0] @ centred[1] / lengths) if lengths else 0.0
    return Pair(old, new, correlation, distance, exact or cast)


def _close(old: Sketch, new: Sketch, pairs: Sequence[Pair]) -> bool:
    """Whether enough matrices have a counterpart of common origin."""
    matrices = [sum(one.matrix and one.telling for one in side.tensors) for side in (old, new)]
    near = sum(pair.near and pair.new.matrix and pair.new.telling and pair.old.telling for pair in pairs)
    return near >= _AT_LEAST and near >= SHARE * min(matrices)


def _same(old: Sketch, new: Sketch, pairs: Sequence[Pair]) -> bool:
    """Whether enough tensors of any shape are equal, where elements can be read at all."""
    telling = [sum(one.telling for one in side.tensors) for side in (old, new)]
    equal = sum(pair.equal and pair.new.telling for pair in pairs)
    whole = min(telling)
    return equal > 0 and equal >= SHARE * whole and (equal >= _AT_LEAST or equal == max(telling))


def _relation(old: Sketch, new: Sketch, near: Sequence[Pair], distance: float) -> Relation:
    """How the younger one was made, as far as dtypes and equal elements tell."""
    if _bits(new) <= _NARROW < _bits(old):
        return Relation.QUANTIZED_FROM
    if old.format != new.format and distance == 0:  # a converter folds some tensors into others, and leaves most
        return Relation.CONVERTED_FROM
    everything = max(sum(one.telling for one in side.tensors) for side in (old, new))
    if sum(pair.equal and pair.new.telling for pair in near) >= everything:
        return Relation.CONVERTED_FROM
    return Relation.FINETUNED_FROM


def _bits(side: Sketch) -> float:
    """Bits per element of the matrices, as far as dtypes tell: block formats name theirs (``q4_1``)."""
    bits: Counter[float] = Counter()
    for tensor in side.tensors:
        if tensor.matrix:
            plain = ELEMENT_BITS.get(tensor.dtype)
            digits = "".join(letter for letter in tensor.dtype.partition("_")[0] if letter.isdigit())
            bits[float(plain if plain is not None else digits or 32)] += tensor.size
    return bits.most_common(1)[0][0] if bits else 32.0
