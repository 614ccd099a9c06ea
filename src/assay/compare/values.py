"""What changed from one plain value to another, place by place.

Values are what JSON, YAML and TOML hold. Mappings are compared by key whatever their order, lists by position, numbers
by what they are worth (``1`` is ``1.0``, but no boolean is a number). The walk keeps a stack of its own, so that depth
costs no recursion, and stops after a stated number of changes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from assay.containers.documents import plain
from assay.spec.changes import ItemKind
from assay.spec.json import Json

MAX_CHANGES = 20_000
"""Changes looked for in one document."""
MAX_SHOWN = 200
"""Characters kept of a value that is shown."""

_NAMES = ("name", "id", "key", "content")
"""Keys that give list entries their names, so that one entry put in front does not change all that follow."""


@dataclass(frozen=True, slots=True)
class Change:
    """One place that differs.

    Args:
        keys: the way there.
        kind: added, removed or changed.
        old, new: the values there.
        text: in words, where the values do not say it.
    """

    keys: tuple[Any, ...]
    kind: ItemKind
    old: Any = None
    new: Any = None
    text: str | None = None


def changes(old: object, new: object, *, limit: int = MAX_CHANGES) -> tuple[list[Change], bool]:
    """Every place in which two values differ, in the order of the old one; and whether there may be more.

    >>> changes({"a": 1, "b": [1, 2]}, {"a": 1.0, "b": [1, 3]})[0][0].keys
    ('b',)
    """
    found: list[Change] = []
    stack: list[tuple[tuple[Any, ...], Any, Any]] = [((), old, new)]
    while stack:
        keys, one, other = stack.pop()
        if len(found) >= limit:
            return found, True
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            stack.extend(reversed(_mappings(keys, one, other, found)))
        elif _is_list(one) and _is_list(other):
            stack.extend(reversed(_lists(keys, one, other, found)))
        elif not same(one, other):
            found.append(Change(keys, ItemKind.CHANGED, one, other))
    return found, False


def same(one: object, other: object) -> bool:
    """Whether two scalars say the same; NaN is itself, and ``1`` is ``1.0`` and not ``True``."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        return one == other
    return type(one) is type(other) and one == other


def shown(value: object) -> Json:
    """A value short enough to be shown."""
    return plain(value, text=MAX_SHOWN, items=8, depth=3)


def address(keys: Sequence[object]) -> str:
    """The way to a place, as text.

    >>> address(["layers", 3, "units"])
    'layers.3.units'
    """
    text = ".".join(str(key)[:MAX_SHOWN] for key in keys)
    return text if len(text) <= 2 * MAX_SHOWN else f"{text[:MAX_SHOWN]}…{text[-MAX_SHOWN:]}"


def _is_list(value: object) -> bool:
    return isinstance(value, (list, tuple))


def _mappings(
    keys: tuple[Any, ...], one: Mapping[Any, Any], other: Mapping[Any, Any], found: list[Change]
) -> list[tuple[tuple[Any, ...], Any, Any]]:
    both = []
    for key, value in one.items():
        if key in other:
            both.append(((*keys, key), value, other[key]))
        else:
            found.append(Change((*keys, key), ItemKind.REMOVED, old=value))
    found.extend(Change((*keys, key), ItemKind.ADDED, new=value) for key, value in other.items() if key not in one)
    return both


def _lists(
    keys: tuple[Any, ...], one: Sequence[Any], other: Sequence[Any], found: list[Change]
) -> list[tuple[tuple[Any, ...], Any, Any]]:
    names, others = _named(one), _named(other)
    if names is not None and others is not None:
        shared = [name for name in names if name in others]
        if shared != [name for name in others if name in names]:
            found.append(Change(keys, ItemKind.CHANGED, list(names), list(others), "the order changed"))
        return _mappings(keys, names, others, found)
    if len(one) == len(other) and any(isinstance(value, (Mapping, list, tuple)) for value in (*one, *other)):
        return [((*keys, at), one[at], other[at]) for at in range(len(one))]
    if len(one) != len(other) or not all(map(same, one, other)):
        found.append(Change(keys, ItemKind.CHANGED, list(one), list(other), _list_text(one, other)))
    return []


def _list_text(one: Sequence[Any], other: Sequence[Any]) -> str | None:
    if len(one) == len(other):
        count = sum(not same(a, b) for a, b in zip(one, other, strict=True))
        return f"{count:,} of {len(one):,} entries differ" if len(one) > 8 else None
    return f"{len(one):,} entries before, {len(other):,} now"


def _named(values: Sequence[Any]) -> dict[Any, Any] | None:
    """Entries by their names, when all are mappings that have one and no two share it."""
    if not values or not all(isinstance(value, Mapping) for value in values):
        return None
    for key in _NAMES:
        named = {value[key]: value for value in values if isinstance(value.get(key), (str, int))}
        if len(named) == len(values):
            return named
    return None
