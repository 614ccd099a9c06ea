"""Tensors rolled up by block or layer."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from math import sqrt

from assay.compare.naming import natural
from assay.spec.changes import GroupChange, State, TensorChange

MAX_GROUPS = 200
"""Groups shown: names are cut shorter until there are no more."""

_PARTS = re.compile(r"[^./]+")
_REST = "(other)"


def group_names(names: Sequence[str]) -> list[str]:
    """The group of each tensor: everything up to and including the first index of a layer, else the module it is in.

    ``encoder.layer.3.attention.self.query.weight`` lies in ``encoder.layer.3``; ``pooler.dense.bias`` in ``pooler``.
    """
    common = _common(names)
    for depth in (8, 4, 3, 2, 1):
        groups = [name[:common] + _group(name[common:], depth, inside=common > 0) for name in names]
        if len(set(groups)) <= MAX_GROUPS:
            return groups
    kept = {group for group, _ in Counter(groups).most_common(MAX_GROUPS - 1)}
    return [group if group in kept else _REST for group in groups]


def _common(names: Sequence[str]) -> int:
    """Length of the modules that all names begin with (``model.state_dict.``): they tell nothing apart."""
    if len(names) < 2:
        return 0
    least, most = min(names), max(names)
    alike = next((at for at, pair in enumerate(zip(least, most, strict=False)) if pair[0] != pair[1]), len(least))
    return max(least.rfind(".", 0, alike), least.rfind("/", 0, alike)) + 1


def _group(name: str, depth: int, *, inside: bool) -> str:
    parts = list(_PARTS.finditer(name))
    if len(parts) < 2:
        return name
    head = parts[:-1]
    for at, part in enumerate(head[:depth]):
        if part[0].isdigit() and (at or inside):
            return name[: part.end()]
    return name[: head[min(len(head), depth, 2) - 1].end()]


def roll_up(changes: Sequence[TensorChange], groups: Sequence[str]) -> tuple[GroupChange, ...]:
    """One summary per group, in model order: where its first tensor stands, layers of one stack by their index."""
    members: dict[str, list[TensorChange]] = {}
    for change, group in zip(changes, groups, strict=True):
        members.setdefault(group, []).append(change)
    return tuple(_summed(name, members[name]) for name in _model_order(list(members)))


def _model_order(names: list[str]) -> list[str]:
    stacks: dict[str, int] = {}
    for at, name in enumerate(names):
        stacks.setdefault(_stack(name), at)
    return sorted(names, key=lambda name: (stacks[_stack(name)], natural(name)))


def _stack(name: str) -> str:
    """What the layers of one stack have in common."""
    return re.sub(r"\d+$", "", name)


def _summed(name: str, changes: Sequence[TensorChange]) -> GroupChange:
    moved = before = 0.0
    compared = False
    for change in changes:
        numbers = change.numbers
        if numbers is not None and change.trained:
            compared = True
            moved += numbers.difference_norm**2
            before += numbers.old_norm**2
    new = [change.new for change in changes if change.new is not None]
    specs = new or [change.old for change in changes if change.old is not None]
    ranks = sorted(c.numbers.rank for c in changes if c.numbers is not None and c.numbers.rank is not None)
    frozen = all(change.state is State.EQUAL for change in changes)
    ratio = (sqrt(moved) / sqrt(before) if before else float("inf") if moved else 0.0) if compared else None
    return GroupChange(
        name=name,
        tensors=Counter(change.state for change in changes),
        parameters=sum(spec.size for spec in specs),
        relative_l2=0.0 if frozen and any(change.trained for change in changes) else ratio,
        ranks=tuple(ranks),
    )
