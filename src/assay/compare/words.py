"""Foreign values and lists of names, as a sentence can hold them."""

from __future__ import annotations

import json
from collections.abc import Sequence

MOST = 60
"""Characters of a foreign text in a sentence."""


def brief(value: object) -> str:
    r"""A value in one short line.

    >>> brief("a\nb"), brief(0.30000000000000004), brief(None), brief([1, 2])
    ('a b', '0.3', 'none', '[1, 2]')
    """
    if value is None:
        return "none"
    if isinstance(value, str):
        text = value
    elif isinstance(value, float):
        text = f"{value:.6g}"
    else:
        text = json.dumps(value, ensure_ascii=False, default=str)
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return text if len(text) <= MOST else text[: MOST - 1] + "…"


def listing(names: Sequence[str], most: int) -> str:
    """Names as a person lists them: the first few, then how many more.

    >>> listing(["a"], 3), listing(["a", "b"], 3), listing(["a", "b", "c"], 3), listing(list("abcde"), 3)
    ('a', 'a and b', 'a, b and c', 'a, b, c and 2 more')
    """
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most:,} more"
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)
