"""Foreign text made safe to show: nothing in it steers a terminal, hides, or reorders what stands beside it."""

from __future__ import annotations

import re

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    r"""*text* with characters that would steer a terminal written out: it may come from a foreign model.

    >>> visible("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    return _CONTROL.sub(lambda found: ascii(found.group())[1:-1], text)


def one_line(text: str, most: int) -> str:
    r"""*text* in one visible line of at most *most* characters.

    >>> one_line("a\n\tb\x00", 20), one_line("abcdefgh", 5)
    ('a b\\x00', 'abcd…')
    """
    line = visible(" ".join(text[: 4 * most].split()))
    return line if len(line) <= most else line[: most - 1] + "…"
