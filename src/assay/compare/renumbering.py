"""Layers that kept their names' form and changed their numbers: some were taken out, put in or ordered anew."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from assay.compare.arranging import SAME
from assay.compare.contents import Content
from assay.compare.sampling import Samples

STRANGERS = 0.9
"""Centred distance of layers of one number from which they are doubted to be the same layer."""

MAX_LAYERS = 256
"""Layers of one stack that are compared with each other."""

_LAYER = re.compile(r"(.*?[./])([0-9]{1,6})([./].*)", re.DOTALL)

Layers = Mapping[int, Mapping[str, Content]]


def renumbered(
    old: Sequence[Content], new: Sequence[Content], samples: Samples, within: float
) -> Iterator[tuple[Content, Content]]:
    """Tensors of layers that have another number now.

    Only stacks in which some layers of one number are strangers are looked at: most of the layers of the shorter side
    must then be close to one, and some to one of another number.

    Args:
        old, new: the tensors of both sides.
        samples: reads a few elements.
        within: centred distance up to which two layers are the same one.
    """
    before, after = _stacks(old), _stacks(new)
    for stack in before.keys() & after.keys():
        one, other = before[stack], after[stack]
        if max(len(one), len(other)) > MAX_LAYERS:
            continue
        suffix = _telling(one, other)
        if suffix is None:
            continue
        for number, partner in _moves(one, other, suffix, samples, within).items():
            for name, content in one[number].items():
                if name in other[partner]:
                    yield content, other[partner][name]


def _stacks(contents: Sequence[Content]) -> dict[str, dict[int, dict[str, Content]]]:
    """Per stack and number, the tensors of a layer by the rest of their names."""
    found: defaultdict[str, defaultdict[int, dict[str, Content]]] = defaultdict(lambda: defaultdict(dict))
    for content in contents:
        parts = _LAYER.fullmatch(content.name)
        if parts is not None:
            found[parts[1]][int(parts[2])][parts[3]] = content
    return {stack: dict(layers) for stack, layers in found.items()}


def _telling(old: Layers, new: Layers) -> str | None:
    """The rest of the name of the largest tensor of floats that all layers of both sides have in one shape."""
    shapes: defaultdict[str, set[tuple[int, ...]]] = defaultdict(set)
    counts: Counter[str] = Counter()
    for layer in (*old.values(), *new.values()):
        for suffix, content in layer.items():
            if content.floating and content.comparable:
                shapes[suffix].add(content.shape)
                counts[suffix] += 1
    every = len(old) + len(new)
    anyone = next(iter(new.values()))
    sizes = {
        suffix: anyone[suffix].spec.size
        for suffix, count in counts.items()
        if count == every and len(shapes[suffix]) == 1
    }
    return max(sizes, key=lambda suffix: (sizes[suffix], suffix)) if sizes else None


def _moves(old: Layers, new: Layers, suffix: str, samples: Samples, within: float) -> dict[int, int]:
    """Old number to new number; empty when layers kept theirs."""

    def distance(number: int, partner: int) -> float:
        one, other = old[number][suffix], new[partner][suffix]
        if one.key is not None and one.key == other.key:
            return 0.0
        found = samples.distance(one, other, SAME)
        return 2.0 if found is None else found

    shared = old.keys() & new.keys()
    if shared and all(distance(number, number) <= STRANGERS for number in shared):
        return {}
    moves: dict[int, int] = {}
    for partner in sorted(new):
        nearest, number = min((distance(number, partner), number) for number in sorted(old) if number not in moves)
        if nearest <= within:
            moves[number] = partner
        if len(moves) == len(old):
            break
    moved = any(number != partner for number, partner in moves.items())
    return moves if moved and 2 * len(moves) >= min(len(old), len(new)) else {}
