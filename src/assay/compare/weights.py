"""The changes of the tensors, weighed: how much of a model is shared, how near the shared part is, what is new.

Nearness is judged by the correlation of old and new elements, each around its own mean. Two trainings from different
starts give weights that do not correlate, whatever their size; a fine-tune stays on its base's side of one half. The
relative distance alone would not tell: it is √(1+r²) for unrelated weights whose norms have the ratio r, which is
small where r is small, and weights of one sign (after a ReLU constraint, a norm's scales) are near in direction alone.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from assay.spec.changes import Effect, State, TensorChange

NEAR = 0.5
"""Correlation from which weights count as a continuation of the old ones. Measured on real pairs: fine-tunes and
transfers 0.8 to 0.999, retrained networks below 0.1."""

_TELLING = 16
"""Elements below which a correlation says nothing."""

_HEAD = re.compile(
    r"(^|[./_])(lm_head|heads?|classifiers?|score|cls|qa_outputs|predictions?|pooler|fc|logits|pre_classifier"
    r"|output_layer|mlm|nsp|dense_predictions?)([./_:\d]|$)",
    re.IGNORECASE,
)
"""Names of the parts behind the body, which a fine-tune replaces."""


@dataclass(frozen=True, slots=True)
class Weights:
    """The tensors of a model that may be trained, apart by what became of them.

    Args:
        pairs: those with a partner.
        added, removed: those without.
        beside: changes of what inference never reads (an optimizer's state, buffers that a library derives).
        constants: pairs whose elements nobody trains (classes, masks, counters).
    """

    pairs: tuple[TensorChange, ...]
    added: tuple[TensorChange, ...]
    removed: tuple[TensorChange, ...]
    beside: tuple[TensorChange, ...]
    constants: tuple[TensorChange, ...] = ()

    @property
    def together(self) -> tuple[TensorChange, ...]:
        """Every pair of tensors, weights or not, as a person counts them."""
        return (*self.pairs, *self.constants, *(one for one in self.beside if one.old and one.new))

    @property
    def every(self) -> tuple[TensorChange, ...]:
        """All of them that are part of the model."""
        return (*self.pairs, *self.added, *self.removed)

    @property
    def equal(self) -> tuple[TensorChange, ...]:
        """The pairs with the same elements."""
        return tuple(change for change in self.pairs if change.state is State.EQUAL)

    @property
    def moved(self) -> tuple[TensorChange, ...]:
        """The pairs whose elements were compared and differ."""
        return tuple(change for change in self.pairs if change.state is not State.EQUAL and change.numbers)

    @property
    def unknown(self) -> tuple[TensorChange, ...]:
        """The pairs whose elements may differ and were not compared."""
        told = {State.EQUAL, State.RESHAPED}
        return tuple(change for change in self.pairs if change.state not in told and not change.numbers)

    @property
    def known_share(self) -> float:
        """Elements that were compared, of those that could be, 0 to 1."""
        whole = elements(self.pairs)
        return 1 - elements(self.unknown) / whole if whole else 1.0

    @property
    def shared(self) -> float:
        """Elements of the pairs, of all of the smaller side, 0 to 1."""
        old = elements(self.pairs, new=False) + elements(self.removed)
        new = elements(self.pairs) + elements(self.added)
        smaller = min(old, new)
        return min(1.0, elements(self.pairs) / smaller) if smaller else 0.0

    @property
    def near(self) -> float:
        """Elements of compared pairs that are equal or near, of all compared, 0 to 1; by matrices, if there are any."""
        told = [change for change in (*self.equal, *self.moved) if _size(change) >= _TELLING]
        matrices = [change for change in told if len(_shape(change)) > 1]
        told = matrices or told or [*self.equal, *self.moved]
        close = [change for change in told if change.state is State.EQUAL or is_near(change)]
        whole = elements(told)
        return elements(close) / whole if whole else 0.0

    @property
    def foreign(self) -> float:
        """Tensors of the body that have no partner or another shape, of all of a side, 0 to 1: the greater of both."""
        reshaped = [one for one in self.pairs if one.state is State.RESHAPED and not grew(one) and not is_head(one)]
        added = sum(not is_head(change) for change in self.added) + len(reshaped)
        removed = sum(not is_head(change) for change in self.removed) + len(reshaped)
        old, new = len(self.pairs) + len(self.removed), len(self.pairs) + len(self.added)
        return max(added / new if new else 0.0, removed / old if old else 0.0)

    @property
    def typical(self) -> float | None:
        """Median of the relative distances of the moved floats; None when none moved, or all from zero."""
        every = (one.numbers.relative_l2 for one in self.moved if one.numbers and one.trained)
        found = [distance for distance in every if math.isfinite(distance)]
        return statistics.median(found) if found else None

    @property
    def far(self) -> float:
        """As ``typical``, of what is no head: heads are often made anew; 0 when nothing else moved."""
        found = [one.numbers.relative_l2 for one in self.moved if one.numbers and one.trained and not is_head(one)]
        return statistics.median(found) if found else 0.0

    @property
    def spoiled(self) -> bool:
        """Whether all that differs are elements that became NaN or infinite."""
        return bool(self.moved) and all(
            one.nonfinite_appeared and one.numbers is not None and not one.numbers.relative_l2 for one in self.moved
        )

    @property
    def correlation(self) -> float | None:
        """Correlation of all moved matrices together (of all moved tensors where none is one); None when unknown."""
        matrices = [change for change in self.moved if len(_shape(change)) > 1 and _size(change) >= _TELLING]
        return _pooled(matrices or self.moved)


def weigh(changes: Iterable[TensorChange]) -> Weights:
    """Sort the changes of a model's trained tensors."""
    pairs, added, removed, beside, constants = [], [], [], [], []
    for change in changes:
        if change.beside_the_model or (change.state is not State.EQUAL and change.effect is Effect.NOTE):
            beside.append(change)
        elif not change.trained:
            if change.old is not None and change.new is not None:
                constants.append(change)
        elif change.old is None:
            added.append(change)
        elif change.new is None:
            removed.append(change)
        else:
            pairs.append(change)
    return Weights(tuple(pairs), tuple(added), tuple(removed), tuple(beside), tuple(constants))


def elements(changes: Iterable[TensorChange], *, new: bool = True) -> int:
    """How many elements the tensors have together, on the new side (else the old one)."""
    specs = ((change.new or change.old) if new else (change.old or change.new) for change in changes)
    return sum(spec.size for spec in specs if spec is not None)


def is_near(change: TensorChange) -> bool:
    """Whether the new elements continue the old ones."""
    correlation = _pooled([change])
    return correlation is not None and correlation >= NEAR


def is_head(change: TensorChange) -> bool:
    """Whether the name is that of a head: what a fine-tune replaces."""
    return bool(_HEAD.search(change.name))


def grew(change: TensorChange) -> bool:
    """Whether only the number of rows differs: a vocabulary, or labels."""
    if change.old is None or change.new is None:
        return False
    return len(change.old.shape) == len(change.new.shape) > 0 and change.old.shape[1:] == change.new.shape[1:]


def _pooled(changes: Sequence[TensorChange]) -> float | None:
    """Correlation over several tensors: Σ n·cov / √(Σ n·var_a · Σ n·var_b), every tensor around its own means."""
    together = old = new = 0.0
    for change in changes:
        numbers = change.numbers
        if numbers is None:
            continue
        count = math.prod(change.shared) if change.shared is not None else _size(change)
        dot = (numbers.old_norm**2 + numbers.new_norm**2 - numbers.difference_norm**2) / 2
        together += dot - count * numbers.old_mean * numbers.new_mean
        old += count * numbers.old_std**2
        new += count * numbers.new_std**2
    spread = math.sqrt(old) * math.sqrt(new)
    if not math.isfinite(together) or not math.isfinite(spread) or spread == 0:
        return None
    return max(-1.0, min(1.0, together / spread))


def _size(change: TensorChange) -> int:
    return math.prod(_shape(change))


def _shape(change: TensorChange) -> tuple[int, ...]:
    spec = change.new or change.old
    return spec.shape if spec is not None else ()
