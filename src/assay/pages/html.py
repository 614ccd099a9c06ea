"""A comparison as one HTML file that asks nothing of a network: styles, drawings and a few lines of script are in it.

Everything that may come from a foreign model passes the template's automatic escaping, and is shown with control
characters written out. The content security policy names the one style sheet and the one script by their digests, so
that nothing else could run or load even if something slipped through.
"""

from __future__ import annotations

import base64
import hashlib
import math
from functools import cache
from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from assay.pages.drawing import HEIGHT, WIDTH, plot
from assay.pages.views import (
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
from assay.spec.changes import Comparison, Item, State
from assay.spec.figures import number, percent, plural, size
from assay.spec.foreign import one_line, visible

BEGINNING = "<!DOCTYPE html>\n<!-- assay diff -->\n"
"""How a page of ours begins: only such a file is written over."""
MAX_ROWS = 5000
"""Tensors in the table; a browser draws no more of them quickly."""
MAX_PLOTS = 60
MAX_LINES = 400
"""Lines of one text diff."""


def page(comparison: Comparison) -> str:
    """The comparison as an HTML document."""
    style, script = _asset("diff.css"), _asset("diff.js")
    changed = foremost(comparison.tensors)
    equal = [change for change in comparison.tensors if change.state is State.EQUAL]
    listed = [*changed, *equal]
    made = strips(comparison.groups)
    return (
        _templates()
        .get_template("diff.html")
        .render(
            policy=policy(style, script),
            style=Markup(style),  # noqa: S704 - a file of this package
            script=Markup(script),  # noqa: S704 - a file of this package
            comparison=comparison,
            titles=titles(comparison),
            counts=counts(comparison),
            strips=made,
            legend=legend(),
            most=max((cell.share for strip in made for cell in strip.cells), default=0.0),
            plots=[plot(one, one_line(one.group, 120)) for one in comparison.histograms[:MAX_PLOTS]],
            hidden_plots=max(0, len(comparison.histograms) - MAX_PLOTS),
            plot_size=(WIDTH, HEIGHT),
            rows=[row(change) for change in listed[:MAX_ROWS]],
            states=sorted({change.state.value for change in listed}),
            hidden_rows=max(0, len(listed) - MAX_ROWS),
            areas=by_area(comparison.items),
        )
    )


def policy(style: str, script: str) -> str:
    """The content security policy of a page with this style sheet and this script.

    >>> policy("", "").startswith("default-src 'none'; style-src 'sha256-47DEQ")
    True
    """
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    return (
        f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; "
        "base-uri 'none'; form-action 'none'"
    )


@cache
def _templates() -> Environment:
    made = Environment(
        autoescape=True,
        loader=FunctionLoader(_asset),
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["root"] = math.sqrt
    made.filters.update(size=size, number=number, percent=percent, line=one_line, plural=plural)
    made.globals.update(transition=transition, place=place, diff_lines=diff_lines, is_diff=is_diff)
    return made


def _shown(value: object) -> object:
    """Every value that a template writes: foreign text without characters that hide or reorder."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return "" if value is None else value
    return visible(value)


def diff_lines(item: Item) -> list[tuple[str, str]]:
    """The lines of an item's text diff, each with its kind: ``add``, ``del``, ``at`` or nothing."""
    lines = (item.text or "").split("\n")
    kinds = {"+": "add", "-": "del", "@": "at"}
    shown = [(kinds.get(line[:1], ""), line[:1000]) for line in lines[:MAX_LINES]]
    if len(lines) > MAX_LINES:
        shown.append(("at", f"… {len(lines) - MAX_LINES:,} more lines"))
    return shown


def _asset(name: str) -> str:
    return files("assay.pages").joinpath("templates", name).read_text("utf-8")
