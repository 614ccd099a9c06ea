"""A comparison arranged for readers: strips of layers, rows of tensors, items by area."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from assay.compare.words import names
from assay.spec.changes import Area, Comparison, GroupChange, Item, ItemKind, State, TensorChange
from assay.spec.figures import percent, plural
from assay.spec.foreign import one_line
from assay.spec.json import Json
from assay.spec.tensor import TensorSpec

SHADES = (0.01, 0.05, 0.2)
"""Relative changes at which the next darker shade begins."""

MARKS = {
    "equal": "·",
    "0": "░",
    "1": "▒",
    "2": "▓",
    "3": "█",
    "added": "+",
    "removed": "-",
    "other": "≠",
    "unknown": "?",
}
"""Shade to the sign that shows it without colour."""

_SERIES = re.compile(r"^(.*?)[./]?(\d+)$")
_NAME = 200
_TITLE = 48
_VALUE = 120
_UNSET = "none"
_FROM_ZERO = "was all zero"

AREAS = {
    Area.ARCHITECTURE: "Architecture",
    Area.SIGNATURE: "Inputs and outputs",
    Area.CONFIG: "Settings",
    Area.GENERATION: "Generation settings",
    Area.TOKENIZER: "Tokenizer",
    Area.PREPROCESSING: "Preprocessing",
    Area.PIPELINE: "Pipeline",
    Area.GRAPH: "Graph",
    Area.CODE: "Code",
    Area.DEPENDENCIES: "Dependencies",
    Area.ENVIRONMENT: "Environment",
    Area.PARAMS: "Training parameters",
    Area.METRICS: "Metrics",
    Area.LICENCE: "Licence",
    Area.AUDIT: "Audit",
    Area.LINEAGE: "Lineage",
    Area.FORMAT: "Format",
    Area.FILES: "Files",
    Area.METADATA: "Metadata",
}
"""Headings, in the order in which they are shown."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One group in a strip.

    Args:
        name: the group's.
        shade: key of ``MARKS``.
        told: what happened to it, in words.
        share: its relative change, 0 where it did not change or none is known.
    """

    name: str
    shade: str
    told: str
    share: float

    @property
    def mark(self) -> str:
        """The sign that shows it without colour."""
        return MARKS[self.shade]


@dataclass(frozen=True, slots=True)
class Strip:
    """Groups that belong together: numbered layers of one series, or one group alone.

    Args:
        label: what they are.
        cells: in model order.
    """

    label: str
    cells: tuple[Cell, ...]

    @property
    def told(self) -> str:
        """What happened to them, in words: of one group itself, of a series its span."""
        if len(self.cells) == 1:
            return self.cells[0].told
        moved = sorted(cell.share for cell in self.cells if cell.share)
        still = sum(cell.shade == "equal" for cell in self.cells)
        parts = [f"{still} of {len(self.cells)} equal"] if still else []
        if moved:
            low, high = percent(moved[0]), percent(moved[-1])
            parts.append(low if low == high else f"{low} to {high}")
        return ", ".join(parts) or self.cells[0].told


def titles(comparison: Comparison) -> tuple[str, str]:
    """What to call the two in a heading: as typed, or shorter where that is a long path."""
    typed = one_line(comparison.old.label, _NAME), one_line(comparison.new.label, _NAME)
    return typed if max(map(len, typed)) <= _TITLE else names(comparison.old, comparison.new)


def strips(groups: Sequence[GroupChange]) -> list[Strip]:
    """The groups of a model as strips."""
    made: dict[str, tuple[str, list[tuple[str, Cell]]]] = {}
    for group in groups:
        found = _SERIES.match(group.name)
        key = f"series:{found[1]}" if found else f"group:{group.name}"
        label = found[1] if found else group.name
        made.setdefault(key, (label, []))[1].append((found[2] if found else "", cell(group)))
    out = []
    for label, numbered in made.values():
        numbers = [number for number, _ in numbered]
        name = f"{label} {numbers[0]}-{numbers[-1]}" if len(numbers) > 1 else f"{label} {numbers[0]}"
        out.append(Strip(one_line(name, _NAME), tuple(one for _, one in numbered)))
    return out


def cell(group: GroupChange) -> Cell:
    """One group as a cell."""
    name = one_line(group.name, _NAME)
    states = {state for state, count in group.tensors.items() if count}
    if states == {State.EQUAL}:
        return Cell(name, "equal", "equal", 0.0)
    if states in ({State.ADDED}, {State.REMOVED}):
        word = next(iter(states)).value
        return Cell(name, word, word, 0.0)
    if group.relative_l2 is None:
        told = ", ".join(f"{count} {state.value}" for state, count in group.tensors.items() if count)
        return Cell(name, "unknown" if State.UNREADABLE in states else "other", told, 0.0)
    shade = sum(group.relative_l2 >= step for step in SHADES)
    finite = math.isfinite(group.relative_l2)
    told = f"moved by {percent(group.relative_l2)}" if finite else _FROM_ZERO
    if group.ranks:
        low, high = group.ranks[0], group.ranks[-1]
        told += f", rank {low}" if low == high else f", ranks {low} to {high}"
    more = [
        f"{group.tensors[state]} {state.value}" for state in (State.ADDED, State.REMOVED) if group.tensors.get(state)
    ]
    return Cell(name, str(shade), ", ".join([told, *more]), group.relative_l2 if finite else 0.0)


def _far(relative: float) -> str:
    return percent(relative) if math.isfinite(relative) else _FROM_ZERO


def legend() -> list[tuple[str, str]]:
    """What the shades mean: key of ``MARKS`` and words."""
    low, middle, high = (percent(step) for step in SHADES)
    return [
        ("equal", "equal"),
        ("0", f"below {low}"),
        ("1", f"below {middle}"),
        ("2", f"below {high}"),
        ("3", f"{high} and more"),
        ("added", "added"),
        ("removed", "removed"),
        ("other", "differs in what is no weight, or in shape"),
        ("unknown", "not compared"),
    ]


@dataclass(frozen=True, slots=True)
class Row:
    """One tensor in a table; every field is text that may be shown."""

    name: str
    state: str
    dtype: str
    shape: str
    change: str
    detail: str


def row(change: TensorChange) -> Row:
    """One tensor's change as a row."""
    dtype = _both(change.old, change.new, lambda spec: spec.dtype)
    shape = _both(change.old, change.new, shape_of)
    numbers = change.numbers
    told = _far(numbers.relative_l2) if numbers else ""
    return Row(one_line(change.name, _NAME), change.state.value, one_line(dtype, 60), shape, told, _detail(change))


def _detail(change: TensorChange) -> str:
    parts = []
    if change.old is not None and change.new is not None and change.old.name != change.new.name:
        parts.append(f"was {one_line(change.old.name, _NAME)}")
    if change.transform:
        parts.append(change.transform)
    numbers = change.numbers
    if numbers is not None:
        if numbers.changed_fraction < 1:
            parts.append(f"{percent(numbers.changed_fraction)} of elements")
        if numbers.cosine is not None:
            parts.append(f"cosine {numbers.cosine:.3f}")
        parts.append(f"max {numbers.max_abs:.2g}")
        if numbers.cast_error is not None:
            parts.append(f"the cast explains {percent(numbers.cast_error)}")
        if numbers.rank is not None:
            parts.append(f"rank {numbers.rank}")
        if change.nonfinite_appeared:
            parts.append(f"{change.nonfinite_appeared:,} NaN or infinite")
    if change.shared is not None:
        parts.append(f"over the shared {'x'.join(map(str, change.shared))}")
    if change.reason:
        parts.append(one_line(change.reason, _VALUE))
    return ", ".join(parts)


def _both(old: TensorSpec | None, new: TensorSpec | None, told: Callable[[TensorSpec], str]) -> str:
    texts = list(dict.fromkeys(told(spec) for spec in (old, new) if spec is not None))
    return " → ".join(texts)


def shape_of(spec: TensorSpec) -> str:
    """A shape as people write it.

    >>> shape_of(TensorSpec("w", "float32", (2, 3))), shape_of(TensorSpec("s", "float32", ()))
    ('2x3', 'scalar')
    """
    return "x".join(str(side) for side in spec.shape) or "scalar"


def foremost(changes: Iterable[TensorChange]) -> list[TensorChange]:
    """Tensors that are not equal, most telling first: broken, without a partner, then by how far they moved."""
    order = {State.UNREADABLE: 1, State.ADDED: 2, State.REMOVED: 2, State.RESHAPED: 3}

    def rank(change: TensorChange) -> tuple[bool, bool, bool, int, float]:
        far = change.numbers.relative_l2 if change.numbers else 0.0
        return (
            change.beside_the_model,
            not change.nonfinite_appeared,
            not change.trained,
            order.get(change.state, 4),
            -far,
        )

    return sorted((change for change in changes if change.state is not State.EQUAL), key=rank)


def by_area(items: Sequence[Item]) -> list[tuple[str, list[Item]]]:
    """The items under their headings."""
    return [(title, found) for area, title in AREAS.items() if (found := [one for one in items if one.area is area])]


def value(told: Json, most: int = _VALUE) -> str:
    """A value of an item in one line."""
    if told is None:
        return _UNSET
    text = told if isinstance(told, str) else json.dumps(_rounded(told), ensure_ascii=False, default=str)
    return one_line(text, most)


def _rounded(told: Json) -> Json:
    """A value whose floats have six figures, as in the sentences; JSON has them all."""
    if isinstance(told, float):
        return float(f"{told:.6g}") if math.isfinite(told) else told
    if isinstance(told, (list, tuple)):
        return [_rounded(one) for one in told]
    return {key: _rounded(one) for key, one in told.items()} if isinstance(told, dict) else told


def transition(item: Item) -> str:
    """``old → new`` of an item, as far as its values say it; empty where only its text does."""
    if item.kind is ItemKind.ADDED:
        return f"added: {value(item.new)}" if item.new is not None else "added"
    if item.kind is ItemKind.REMOVED:
        return f"removed: {value(item.old)}" if item.old is not None else "removed"
    if item.old is None and item.new is None:
        return "" if item.text else "changed"
    one, other = value(item.old), value(item.new)
    if one == other and item.old != item.new:
        one, other = (
            one_line(json.dumps(told, ensure_ascii=False, default=str), _VALUE) for told in (item.old, item.new)
        )
    return f"{one} → {other}" if one != other or not item.text else ""


def place(item: Item, comparison: Comparison) -> str:
    """Where an item is, in one line; without the file when each side has only one."""
    inside = item.path.rpartition(": ")[2]
    single = comparison.old.files == comparison.new.files == 1
    return one_line(inside if single and inside else item.path, _NAME)


def is_diff(text: str) -> bool:
    """Whether a text is a unified diff, or otherwise needs its lines."""
    return "\n" in text.strip()


def counts(comparison: Comparison) -> str:
    """``199 changed, 2 added``."""
    return ", ".join(f"{count:,} {state.value}" for state, count in comparison.states.items()) or plural(0, "tensor")
