"""A comparison as Markdown, for pull requests: summary and decision first, the rest folded.

All names and values may come from foreign models. They stand in code spans, where nothing is a link, a mention, an
issue or HTML; sentences, which hold some, are escaped character by character.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from assay.pages.views import (
    MARKS,
    by_area,
    counts,
    foremost,
    is_diff,
    legend,
    place,
    row,
    strips,
    titles,
    transition,
)
from assay.spec.changes import Comparison, Effect, Item, Side
from assay.spec.figures import number, plural, size
from assay.spec.foreign import one_line, visible

MAX_ROWS = 40
"""Tensors and items listed: a comment on GitHub holds 65,536 characters."""
_MAX_DIFF = 40
_PUNCTUATION = re.compile(r"[\\`*_{}\[\]#!|~$^<>&]")
_JOINER = "\u2060"
"""Word joiner: of no width, and it keeps ``@`` and ``#`` from meaning somebody or something."""


def markdown(comparison: Comparison) -> str:
    """The comparison as GitHub-flavoured Markdown."""
    old, new = titles(comparison)
    parts = [
        f"### Model diff: {code(old)} → {code(new)}",
        prose(" ".join(comparison.summary[:-1] or comparison.summary)),
        _decision(comparison),
        _sides(comparison.old, comparison.new),
    ]
    if comparison.groups:
        parts.append(_layers(comparison))
    changed = foremost(comparison.tensors)
    if changed:
        rows = [row(change) for change in changed[:MAX_ROWS]]
        lines = [[code(one.name), one.state, code(one.shape), one.change, prose(one.detail)] for one in rows]
        table = _table(("Tensor", "State", "Shape", "Moved", "More"), lines, len(changed))
        parts.append(_folded(f"Tensors: {counts(comparison)}", table))
    items = [item for _, found in by_area(comparison.items) for item in found]
    for title, some in (
        ("can change behaviour", [item for item in items if item.effect is Effect.BEHAVIOUR]),
        ("cannot", [item for item in items if item.effect is Effect.NOTE]),
    ):
        if some:
            parts.append(_folded(f"{plural(len(some), 'other difference')} that {title}", _items(some, comparison)))
    if comparison.findings:
        lines = [
            [prose(one.severity.value), prose(one_line(one.message, 300)), code(one.path)]
            for one in comparison.findings
        ]
        table = _table(("", "What", "Where"), lines[:MAX_ROWS], len(lines))
        parts.append(_folded(f"{plural(len(lines), 'finding')} about the comparison itself", table))
    return "\n\n".join(parts) + "\n"


def prose(text: str) -> str:
    r"""A sentence with foreign names in it, so that no character of it means anything to Markdown or to GitHub.

    >>> prose("a_b <img> *x*")
    'a\\_b &lt;img&gt; \\*x\\*'
    """
    line = one_line(text, 4000)
    line = _PUNCTUATION.sub(_escaped, line)
    line = re.sub(r"([@#])(?=\S)", rf"\1{_JOINER}", line)
    line = re.sub(r"(?i)\b(https?|ftp|mailto|xmpp|gh)([:-])", rf"\1\2{_JOINER}", line)
    return re.sub(r"(?i)\bwww\.", f"www{_JOINER}.", line)


def _escaped(found: re.Match[str]) -> str:
    return {"<": "&lt;", ">": "&gt;", "&": "&amp;"}.get(found[0], "\\" + found[0])


def code(text: str, most: int = 160) -> str:
    r"""Foreign text as a code span, also inside a table.

    >>> code("a|b`c")
    '``a\\|b`c``'
    """
    line = one_line(text, most).replace("|", "\\|")
    if not line:
        return ""
    ticks = "`" * (max((len(run) for run in re.findall("`+", line)), default=0) + 1)
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{ticks}{pad}{line}{pad}{ticks}"


def _decision(comparison: Comparison) -> str:
    reasons = "; ".join(comparison.drop_in.reasons)
    return f"**Drop-in replacement: {comparison.drop_in.answer.value}** ({prose(reasons)})"


def _sides(old: Side, new: Side) -> str:
    rows = []
    facts: tuple[tuple[str, Callable[[Side], str]], ...] = (
        ("Version", lambda side: code(side.reference or "")),
        ("Digest", lambda side: code((side.digest or "")[7:19])),
        ("Format", lambda side: code(side.format)),
        ("Made with", lambda side: code(" ".join(filter(None, (side.framework, side.framework_version))))),
        ("Architecture", lambda side: code(side.architecture or "")),
        ("Parameters", lambda side: number(side.parameters) if side.parameters else ""),
        ("Size", lambda side: f"{size(side.size)} in {plural(side.files, 'file')}"),
    )
    for label, told in facts:
        before, after = told(old), told(new)
        if before or after:
            rows.append([label, before, after])
    return _table(("", "Old", "New"), rows, len(rows))


def _layers(comparison: Comparison) -> str:
    made = strips(comparison.groups)
    lines = [[code(strip.label), "".join(MARKS[one.shade] for one in strip.cells), prose(strip.told)] for strip in made]
    signs = ", ".join(f"{MARKS[shade]} {words}" for shade, words in legend())
    table = _table(
        ("Part", "Change", ""), [[one, f"`{two}`", three] for one, two, three in lines[:MAX_ROWS]], len(lines)
    )
    return _folded("Layer by layer", f"{table}\n\n{prose('Signs: ' + signs)}")


def _items(items: Sequence[Item], comparison: Comparison) -> str:
    rows = []
    for item in items[:MAX_ROWS]:
        told = [code(transition(item))] if transition(item) else []
        if item.text and not is_diff(item.text):
            told.append(prose(one_line(item.text, 300)))
        if item.why:
            told.append(f"({prose(one_line(item.why, 200))})")
        rows.append([item.area.value, code(place(item, comparison)), " ".join(told)])
    parts = [_table(("Area", "Where", "What"), rows, len(items))]
    parts += [_diff(item, comparison) for item in items[:MAX_ROWS] if item.text and is_diff(item.text)]
    return "\n\n".join(parts)


def _diff(item: Item, comparison: Comparison) -> str:
    assert item.text is not None
    lines = [visible(line)[:400] for line in item.text.split("\n")]
    more = len(lines) - _MAX_DIFF
    shown = "\n".join([*lines[:_MAX_DIFF], *([f"… {more} more lines"] if more > 0 else [])])
    fence = "`" * max(3, max((len(run) for run in re.findall("`+", shown)), default=0) + 1)
    return f"{code(place(item, comparison))}\n\n{fence}diff\n{shown}\n{fence}"


def _folded(title: str, body: str) -> str:
    """A part that opens on a click; the title is our own words."""
    return f"<details><summary>{title}</summary>\n\n{body}\n\n</details>"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], count: int) -> str:
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(cells) + " |" for cells in rows]
    text = "\n".join(lines)
    return text if len(rows) >= count else f"{text}\n\nand {count - len(rows):,} more"
