"""Numbers and words as people read them."""

from __future__ import annotations

import os
import re
from datetime import datetime

import click

from assay.spec.figures import number, plural, size
from assay.spec.foreign import visible

__all__ = ["coloured", "moment", "number", "plural", "short", "size", "styled", "visible"]

_STYLE = re.compile("(\x1b\\[[0-9;]*m)")


def moment(stamp: str) -> str:
    """A UTC time stamp as a person in this time zone reads it, to the minute."""
    return datetime.fromisoformat(stamp).astimezone().strftime("%Y-%m-%d %H:%M")


def short(text: str, width: int) -> str:
    """*text* in at most *width* characters.

    >>> short("abcdefgh", 5)
    'abcd…'
    """
    return text if len(text) <= width else text[: width - 1] + "…"


def styled(text: str) -> str:
    """As ``visible``, for text that was drawn here: colours stay."""
    parts = _STYLE.split(text)
    return "".join(part if at % 2 else visible(part) for at, part in enumerate(parts))


def coloured(text: str, colour: str) -> str:
    """A word in bold colour; plain where ``NO_COLOR`` is set. What is not a terminal gets none of it from click."""
    return text if os.environ.get("NO_COLOR") else click.style(text, fg=colour, bold=True)
