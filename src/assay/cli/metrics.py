"""The table of a model's metrics, for terminals and as CSV, from the same values that ``--json`` prints."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from assay.cli.text import short
from assay.spec.evaluation import KIND, finite

BEST = "★"
_WIDEST = 26
"""Characters of a column of values; longer names of metrics and datasets are cut."""
_MARKS = ("removed", "purged", "yanked")


def metrics_table(body: Mapping[str, Any], width: int) -> RenderableType:
    """What ``assay show NAME --metrics`` shows: one line per version, as many tables side by side as *width* needs."""
    rows, columns = body["versions"], body["columns"]
    names = [_name(row) for row in rows]
    left = max(len("Version"), *(len(name) for name in names)) + 2
    texts = [_cells([row["values"][at] for row in rows]) for at in range(len(columns))]
    heads = [_head(column) for column in columns]
    widths = [max(len(text) for text in (*heads[at], *texts[at])) + 2 for at in range(len(columns))]
    parts: list[RenderableType] = []
    at = 0
    while at < len(columns):
        end, taken = at + 1, left + widths[at]
        while end < len(columns) and taken + widths[end] <= width:
            taken += widths[end]
            end += 1
        parts += [Text()] * bool(parts)
        parts.append(_table(names, heads[at:end], texts[at:end], [row["values"][at:end] for row in rows]))
        at = end
    parts += [Text(), Text(_legend(columns), style="dim")]
    return Group(*parts)


def measured(statements: Sequence[Mapping[str, Any]]) -> str:
    """What evaluations say of one version, on a card: per dataset a line with the latest number of each metric."""
    found: dict[str, dict[str, float]] = {}
    said = [one for one in statements if one["kind"] == KIND and isinstance(one["predicate"].get("metrics"), Mapping)]
    for one in sorted(said, key=lambda one: str(one["predicate"].get("at") or one["created"])):
        values = {name: finite(value) for name, value in one["predicate"]["metrics"].items()}
        held = found.setdefault(str(one["predicate"].get("dataset") or ""), {})
        held |= {name: value for name, value in values.items() if value is not None}
    lines = (
        "  ".join(f"{name} {value:g}" for name, value in held.items()) + (f"  on {dataset}" if dataset else "")
        for dataset, held in found.items()
    )
    return "\n".join(lines)


def metrics_csv(body: Mapping[str, Any]) -> str:
    """The table as CSV (RFC 4180): one line per version, newest first; values as they were given."""
    out = StringIO()
    writer = csv.writer(out, lineterminator="\n")
    columns = body["columns"]
    writer.writerow(["version", "created", "digest", "aliases", "state", *(column["label"] for column in columns)])
    for row in body["versions"]:
        values = ["" if cell is None else repr(cell["value"]) for cell in row["values"]]
        state = next((mark for mark in _MARKS if mark in row), "")
        writer.writerow([row["version"], row["created"], row["digest"], " ".join(row["aliases"]), state, *values])
    return out.getvalue().rstrip("\n")


def _table(
    names: Sequence[str],
    heads: Sequence[tuple[str, str]],
    texts: Sequence[Sequence[str]],
    cells: Sequence[Sequence[Mapping[str, Any] | None]],
) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("Version", no_wrap=True)
    for metric, dataset in heads:
        table.add_column(Text(f"{metric}\n{dataset}" if dataset else metric), no_wrap=True)
    for at, name in enumerate(names):
        row = [
            Text(texts[column][at], style="bold green" if cell is not None and cell["best"] else "")
            for column, cell in enumerate(cells[at])
        ]
        table.add_row(name, *row)
    return table


def _name(row: Mapping[str, Any]) -> str:
    marks = [mark for mark in _MARKS if mark in row]
    return " ".join([str(row["version"]), *row["aliases"], *(f"({mark})" for mark in marks[:1])])


def _head(column: Mapping[str, Any]) -> tuple[str, str]:
    arrow = "↓" if column["lower_is_better"] else "↑"
    data = column["dataset"] or ""
    if column["dataset_digest"]:
        data = f"{short(data, _WIDEST - 7)} {column['dataset_digest'].partition(':')[2][:6]}"
    return f"{short(column['metric'], _WIDEST - 2)} {arrow}", short(data, _WIDEST)


def _cells(cells: Sequence[Mapping[str, Any] | None]) -> list[str]:
    """A column's values, differences and the mark of the best, each below its own kind."""
    values = ["" if cell is None else f"{cell['value']:.6g}" for cell in cells]
    deltas = ["" if cell is None else _delta(cell["delta"]) for cell in cells]
    wide, far = max(map(len, values)), max(map(len, deltas))
    best = [BEST if cell is not None and cell["best"] else "" for cell in cells]
    return [f"{value:>{wide}} {delta:>{far}} {mark}" for value, delta, mark in zip(values, deltas, best, strict=True)]


def _delta(delta: float | None) -> str:
    return "" if delta is None else "=" if delta == 0 else f"{delta:+.3g}"


def _legend(columns: Sequence[Mapping[str, Any]]) -> str:
    arrows = {"↓ less" if column["lower_is_better"] else "↑ more" for column in columns}
    said = " and ".join(sorted(arrows, reverse=True))
    return f"{BEST} the best that may be used; {said} is better; beside a value, its difference to the one before"
