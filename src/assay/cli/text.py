"""Numbers and words as people read them."""

from __future__ import annotations

import os
import re
from datetime import datetime

import click

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_STYLE = re.compile("(\x1b\\[[0-9;]*m)")
_SUFFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def size(count: int) -> str:
    """Bytes in decimal units, three figures.

    >>> size(90868376), size(512), size(4_000_000_000)
    ('90.9 MB', '512 B', '4.00 GB')
    """
    return f"{_scaled(count)}B" if count >= 1000 else f"{count} B"


def number(count: int) -> str:
    """A count in three figures.

    >>> number(22713216), number(1_543_000_000), number(42)
    ('22.7 M', '1.54 G', '42')
    """
    return _scaled(count).rstrip() if count >= 1000 else str(count)


def _scaled(count: int) -> str:
    for factor, suffix in _SUFFIXES:
        if count >= factor:
            value = count / factor
            digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
            return f"{value:.{digits}f} {suffix}"
    return str(count)


def plural(count: int, noun: str) -> str:
    """A count and its noun.

    >>> plural(1, "file"), plural(3, "file"), plural(0, "entry")
    ('1 file', '3 files', '0 entries')
    """
    if count == 1:
        return f"1 {noun}"
    return f"{count:,} {noun[:-1]}ies" if noun.endswith("y") else f"{count:,} {noun}s"


def moment(stamp: str) -> str:
    """A UTC time stamp as a person in this time zone reads it, to the minute."""
    return datetime.fromisoformat(stamp).astimezone().strftime("%Y-%m-%d %H:%M")


def short(text: str, width: int) -> str:
    """*text* in at most *width* characters.

    >>> short("abcdefgh", 5)
    'abcd…'
    """
    return text if len(text) <= width else text[: width - 1] + "…"


def visible(text: str) -> str:
    r"""*text* with characters that would steer a terminal written out: it may come from a foreign model.

    >>> visible("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    return _CONTROL.sub(lambda found: ascii(found.group())[1:-1], text)


def styled(text: str) -> str:
    """As ``visible``, for text that was drawn here: colours stay."""
    parts = _STYLE.split(text)
    return "".join(part if at % 2 else visible(part) for at, part in enumerate(parts))


def coloured(text: str, colour: str) -> str:
    """A word in bold colour; plain where ``NO_COLOR`` is set. What is not a terminal gets none of it from click."""
    return text if os.environ.get("NO_COLOR") else click.style(text, fg=colour, bold=True)
