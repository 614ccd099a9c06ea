"""Which tensor of the old side belongs to which of the new one.

By name; by rules that map many names at once; by content. How, and why the thresholds are what they are:
``docs/explanation/tensor-diff.md``.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

from assay.compare.arranging import (
    RESHAPED,
    SAME,
    Arrangement,
    interleavings,
    plain_shape,
    shared_block,
    transpositions,
)
from assay.compare.contents import Content, same_size
from assay.compare.naming import Parts, canonical, from_gguf, natural, prefix_rules, stem
from assay.compare.renumbering import renumbered
from assay.compare.sampling import Limits, Samples
from assay.spec.changes import Match

KIN = 0.5
"""Centred distance up to which tensors of unrelated names are taken for one another."""

LIKELY = 0.9
"""Centred distance up to which another arrangement of tensors of one name is believed."""

LEAST = 64
"""Elements from which closeness is evidence; smaller tensors must be equal."""

MAX_GROUP = 256
"""Tensors of one size that are compared with each other by content."""

MOST = 0.5
"""Share of a side's names that a rule must map to be believed without looking at elements."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two tensors that belong together, or one without a partner.

    Args:
        old, new: the two.
        match: how they were found.
        arrangement: how the old elements are laid out; None when the shapes cannot be brought together.
    """

    old: Content | None
    new: Content | None
    match: Match | None = None
    arrangement: Arrangement | None = SAME


class Matching:
    """Finds the pairs of two sides.

    Args:
        old, new: the tensors of the sides.
        samples: reads a few elements; None where elements are not compared, and names alone decide.
    """

    def __init__(self, old: Sequence[Content], new: Sequence[Content], samples: Samples | None) -> None:
        self._all = (old, new)
        self._old = {content.name: content for content in old}
        self._new = {content.name: content for content in new}
        self._samples = samples
        self._partners: dict[str, Pair] = {}
        self._across = {content.found.format for content in old} != {content.found.format for content in new}

    def pairs(self) -> list[Pair]:
        """Pairs and tensors without a partner: in the order of the new side, then what was removed."""
        if self._samples is not None:
            for old, new in renumbered(*self._all, self._samples, KIN):
                if fits(old, new):
                    self._take(old, new, Match.NAME if old.name == new.name else Match.RENAMED)
        for name in [name for name in self._new if name in self._old]:
            self._take(self._old[name], self._new[name], Match.NAME)
        self._by_key(lambda content: canonical(content.name))
        self._by_key(lambda content: canonical(from_gguf(content.name) or content.name))
        self._by_prefix()
        self._by_key(lambda content: (stem(content.name), content.shape, content.spec.dtype))
        self._by_content(constants=False)
        self._by_order()
        if self._across and self._partners:
            self._by_content(constants=True)
        self._by_content(quantised=True)
        found = [self._partners.get(content.name) or Pair(None, content) for content in self._all[1]]
        return [*found, *(Pair(content, None) for content in self._all[0] if content.name in self._old)]

    def _take(self, old: Content, new: Content, match: Match, arrangement: Arrangement | None = None) -> None:
        del self._old[old.name], self._new[new.name]
        chosen = arrangement if arrangement is not None else self._arrange(old, new, match)
        self._partners[new.name] = Pair(old, new, match, chosen)

    def _by_key(self, key: Callable[[Content], Hashable]) -> None:
        """Pair what is alone under its key on both sides."""
        old, new = _alone(self._old.values(), key), _alone(self._new.values(), key)
        for found, content in new.items():
            partner = old.get(found)
            if partner is not None and fits(partner, content):
                self._take(partner, content, Match.RENAMED)

    def _by_prefix(self) -> None:
        old, new = list(self._old.values()), list(self._new.values())

        def compatible(one: int, other: int) -> bool:
            return fits(old[one], new[other])

        names = [_parts(old), _parts(new)]
        for rule in prefix_rules(names[0], names[1], compatible):
            pairs = [(old[one], new[other]) for one, other in rule]
            if self._believed(pairs):
                for one, other in pairs:
                    self._take(one, other, Match.RENAMED)

    def _believed(self, pairs: Sequence[tuple[Content, Content]]) -> bool:
        """A rule that maps most names of a side is believed; others need elements that are alike."""
        if len(pairs) >= MOST * min(len(self._all[0]), len(self._all[1])):
            return True
        if self._samples is None:
            return False
        distances = [
            self._samples.distance(old, new, SAME)
            for old, new in pairs
            if same_size(old, new) and old.spec.size >= LEAST
        ]
        known = sorted(distance for distance in distances if distance is not None)
        return bool(known) and known[len(known) // 2] <= LIKELY

    def _by_content(self, *, constants: bool = False, quantised: bool = False) -> None:
        """Pair what is equal or close.

        With *constants* also what is one value over and over, as fresh biases are; with *quantised* only integers with
        the floats for which they stand.
        """
        if self._samples is None:
            return
        groups: defaultdict[int, tuple[list[Content], list[Content]]] = defaultdict(lambda: ([], []))
        for side, contents in enumerate((self._old, self._new)):
            for content in contents.values():
                if content.comparable:
                    groups[content.spec.size][side].append(content)
        for old, new in groups.values():
            if old and new and max(len(old), len(new)) <= MAX_GROUP:
                limits = Limits(KIN, LEAST, constants=constants, quantised=quantised)
                for one, other, arrangement in self._samples.closest(old, new, _arrangements, limits):
                    self._take(one, other, Match.CONTENT, arrangement)

    def _by_order(self) -> None:
        """Pair what differs in counters alone, in order, where both sides have as many of it."""
        groups: defaultdict[Hashable, tuple[list[Content], list[Content]]] = defaultdict(lambda: ([], []))
        for side, contents in enumerate((self._old, self._new)):
            for content in contents.values():
                groups[stem(content.name), content.shape, content.spec.dtype][side].append(content)
        for old, new in groups.values():
            if len(old) == len(new):
                for one, other in zip(_in_order(old), _in_order(new), strict=True):
                    self._take(one, other, Match.RENAMED)

    def _arrange(self, old: Content, new: Content, match: Match) -> Arrangement | None:
        """How the elements of two tensors that belong together correspond."""
        if old.shape == new.shape:
            return self._reordered(old, new) if match is not Match.NAME or self._across else SAME
        if plain_shape(old.shape) == plain_shape(new.shape):
            return RESHAPED
        found = self._best(old, new, list(transpositions(old.shape, new.shape)))
        if found is not None:
            return found
        if same_size(old, new) and self._best(old, new, [RESHAPED]):
            return RESHAPED
        return shared_block(old.shape, new.shape)

    def _reordered(self, old: Content, new: Content) -> Arrangement:
        """Tensors of one shape may be transposed or have their heads interleaved all the same."""
        if self._samples is None or new.spec.size < LEAST:
            return SAME
        distance = self._samples.distance(old, new, SAME)
        if distance is None or distance <= KIN:
            return SAME
        choices = list(transpositions(old.shape, new.shape))
        if "gguf" in {old.found.format, new.found.format}:
            choices += interleavings(old.shape)
        return self._best(old, new, choices, below=min(LIKELY, 0.7 * distance)) or SAME

    def _best(
        self, old: Content, new: Content, choices: Sequence[Arrangement], below: float = LIKELY
    ) -> Arrangement | None:
        """The arrangement under which the elements are nearest, if they are near at all."""
        if self._samples is None:
            return choices[0] if len(choices) == 1 and choices[0] is not RESHAPED else None
        found = None
        for choice in choices:
            distance = self._samples.distance(old, new, choice)
            if distance is not None and distance <= below:
                found, below = choice, distance
        return found


def fits(old: Content, new: Content) -> bool:
    """Whether two tensors can be partners under a rule: equal shapes up to the order of axes and ones, or one rank."""
    one, other = plain_shape(old.shape), plain_shape(new.shape)
    if sorted(one) == sorted(other):
        return True
    return len(one) == len(other) > 1 and one[1:] == other[1:]


def _arrangements(old: Content, new: Content) -> list[Arrangement]:
    if old.shape == new.shape:
        return [SAME]
    if plain_shape(old.shape) == plain_shape(new.shape):
        return [RESHAPED]
    return list(transpositions(old.shape, new.shape))


def _alone(contents: Iterable[Content], key: Callable[[Content], Hashable]) -> dict[Hashable, Content]:
    listed = [(key(content), content) for content in contents]
    counts = Counter(found for found, _ in listed)
    return {found: content for found, content in listed if counts[found] == 1}


def _parts(contents: Iterable[Content]) -> list[Parts]:
    return [canonical(from_gguf(content.name) or content.name) for content in contents]


def _in_order(contents: list[Content]) -> list[Content]:
    return sorted(contents, key=lambda content: natural(content.name))
