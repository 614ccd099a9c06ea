"""A comparison on a terminal: summary, decision, a strip of layers, tensors, and everything else."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from assay.cli.console import answers
from assay.cli.text import coloured, plural, visible
from assay.pages.views import MARKS as SIGNS
from assay.pages.views import (
    Strip,
    by_area,
    counts,
    foremost,
    is_diff,
    legend,
    place,
    row,
    strips,
    transition,
)
from assay.spec.changes import Answer, Comparison, Effect, Item, TensorChange
from assay.spec.foreign import one_line

_COLOURS = {Answer.YES: "green", Answer.NO: "red", Answer.UNKNOWN: "yellow"}
_SHADES = {
    "equal": "dim",
    "0": "color(229)",
    "1": "color(221)",
    "2": "color(208)",
    "3": "color(160)",
    "added": "green",
    "removed": "magenta",
    "other": "color(221)",
    "unknown": "dim",
}
_STRIPS = 16
_TENSORS = 12
_ITEMS = 8
"""Items of one area that are shown; those that can change behaviour come first."""
_ALIKE = 3
"""Findings of one rule that are shown."""
_NOTES = 4
"""Of those that cannot."""
_DIFFS = 2
"""Text diffs in one area; pages and JSON have all."""
_BESIDE = 16
"""Columns that a row of a tensor takes beside its name, state and shape."""
_LINES = 12
"""Lines of a text diff."""


def headline(comparison: Comparison) -> Iterator[str]:
    """The summary, the decision and its reasons, as lines."""
    *about, _ = comparison.summary if len(comparison.summary) > 1 else (*comparison.summary, "")
    yield from _wrapped(" ".join(about)) or [""]
    decision = comparison.drop_in
    yield ""
    yield f"Drop-in replacement: {coloured(decision.answer.value, _COLOURS[decision.answer])}"
    for reason in decision.reasons:
        yield from _wrapped(reason, "  - ")


def _wrapped(text: str, begin: str = "") -> list[str]:
    """*text* in lines that fit, numbers kept with their percent signs."""
    lines = textwrap.wrap(
        visible(text).replace(" %", "\u00a0%"),
        min(answers().width, 100),
        initial_indent=begin,
        subsequent_indent=" " * len(begin),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace("\u00a0", " ") for line in lines]


def report(comparison: Comparison, *, every: bool) -> Iterator[RenderableType]:
    """Everything below the headline.

    Args:
        comparison: what was found.
        every: whether all tensors that differ are listed.
    """
    made = strips(comparison.groups)
    if made and any(cell.shade != "equal" for strip in made for cell in strip.cells):
        yield from ("", _heading("Layers"), _layers(made), _legend(made))
    changed = foremost(comparison.tensors)
    if changed:
        yield from ("", _heading("Tensors", counts(comparison)), _tensors(changed, every=every))
    for title, items in by_area(comparison.items):
        yield from ("", _heading(title), _items(items, comparison))
    if comparison.findings:
        yield from ("", _heading("About this comparison"), _findings(comparison))


def _heading(title: str, more: str = "") -> Text:
    text = Text(title, style="bold")
    return text.append(f"  {more}", style="dim") if more else text


def _layers(made: Sequence[Strip]) -> Table:
    """One row per strip: what it is, its cells, its words; long strips go on below."""
    width = answers().width
    table = Table.grid(padding=(0, 2))
    label = min(max((len(strip.label) for strip in made[:_STRIPS]), default=8), max(12, width // 3))
    table.add_column(no_wrap=True, width=label, overflow="ellipsis")
    table.add_column(overflow="fold", max_width=max(8, width - label - 34))
    table.add_column(style="dim", overflow="fold")
    for strip in made[:_STRIPS]:
        cells = Text()
        for cell in strip.cells:
            cells.append(cell.mark, style=_SHADES[cell.shade])
        table.add_row(_end(strip.label, label), cells, strip.told)
    if len(made) > _STRIPS:
        table.add_row("", "", f"and {len(made) - _STRIPS} more parts (--json lists all)")
    return table


def _legend(made: Sequence[Strip]) -> Text:
    """The signs that occur."""
    used = {cell.shade for strip in made for cell in strip.cells}
    text = Text()
    for shade, words in legend():
        if shade in used:
            text.append(SIGNS[shade], style=_SHADES[shade]).append(f" {words}   ", style="dim")
    return text


def _tensors(changed: Sequence[TensorChange], *, every: bool) -> Group:
    width = answers().width
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for column in ("Tensor", "State", "Shape"):
        table.add_column(column, overflow="fold")
    table.add_column("Moved by", justify="right", no_wrap=True)
    shown = changed if every else changed[:_TENSORS]
    wide = width >= 110
    if wide:
        table.add_column("More", style="dim", overflow="fold")
    rows = [row(change) for change in shown]
    beside = max(len(one.shape) + len(one.state) for one in rows) + _BESIDE + (30 if wide else 0)
    for one in rows:
        name = Text(_end(one.name, max(20, width - beside)), overflow="fold")
        cells: list[RenderableType] = [name, one.state, one.shape, one.change]
        table.add_row(*cells, *([one.detail] if wide else []))
    parts: list[RenderableType] = [table]
    if len(changed) > len(shown):
        parts.append(Text(f"and {len(changed) - len(shown):,} more (--tensors lists all)", style="dim"))
    return Group(*parts)


def _items(items: Sequence[Item], comparison: Comparison) -> Group:
    """The items of one area: those that can change behaviour first, and of the others a few."""
    grave = [item for item in items if item.effect is Effect.BEHAVIOUR][:_ITEMS]
    notes = [item for item in items if item.effect is Effect.NOTE][: max(0, min(_NOTES, _ITEMS - len(grave)))]
    parts: list[RenderableType] = []
    table = _grid()
    why, diffs = None, 0
    for item in (*grave, *notes):
        behaviour = item.effect is Effect.BEHAVIOUR
        sign = Text("●", style="color(208)") if behaviour else Text("○", style="dim")
        what = Text(transition(item))
        lines = bool(item.text) and is_diff(item.text or "")
        if item.text and not lines:
            what.append(("  " if what else "") + one_line(item.text, 300))
        if item.why and item.why != why:
            what.append(f"  ({one_line(item.why, 160)})", style="dim")
        why = item.why
        table.add_row(sign, Text(place(item, comparison), style="" if behaviour else "dim"), what)
        if lines and diffs < _DIFFS:
            diffs += 1
            parts += [table, Padding(_diff(item.text or ""), (0, 0, 0, 5))]
            table = _grid()
    if table.row_count:
        parts.append(table)
    rest = len(items) - len(grave) - len(notes)
    if rest:
        parts.append(Text(f"   and {plural(rest, 'other')} (--json lists all)", style="dim"))
    return Group(*parts)


def _grid() -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold", max_width=max(20, answers().width // 2))
    table.add_column(overflow="fold")
    return table


def _diff(text: str) -> Text:
    lines = [line for line in text.split("\n") if not line.startswith(("---", "+++"))]
    drawn = Text()
    for line in lines[:_LINES]:
        style = {"+": "green", "-": "red", "@": "dim"}.get(line[:1], "")
        drawn.append(one_line(line, 200) if not line.startswith(" ") else " " + one_line(line, 200), style=style)
        drawn.append("\n")
    if len(lines) > _LINES:
        drawn.append(f"… {len(lines) - _LINES} more lines", style="dim")
    drawn.rstrip()
    return drawn


def _findings(comparison: Comparison) -> Padding:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="yellow")
    table.add_column(overflow="fold")
    for rule in dict.fromkeys(finding.rule for finding in comparison.findings):
        alike = [finding for finding in comparison.findings if finding.rule == rule]
        for finding in alike[:_ALIKE]:
            where = f"  {one_line(finding.path, 160)}" if finding.path else ""
            table.add_row(finding.severity.value, Text(one_line(finding.message, 300)).append(where, style="dim"))
        if len(alike) > _ALIKE:
            table.add_row("", f"and {len(alike) - _ALIKE} more like it (--json lists all)")
    return Padding(table, (0, 0, 0, 2))


def _end(text: str, width: int) -> str:
    """*text* in at most *width* characters, its end kept: names of layers differ at their ends."""
    return text if len(text) <= width else "…" + text[len(text) - width + 1 :]
