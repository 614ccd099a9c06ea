"""Foreign values, lists of names and the two sides, as a sentence can hold them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from assay.spec.changes import Side

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


def both(old: object, new: object) -> tuple[str, str]:
    """Two values of one place, short, yet unlike each other when they are.

    >>> both(1.2000000000000002, 1.1), both(0.1, 0.10000001)
    (('1.2', '1.1'), ('0.1', '0.10000001'))
    """
    one, other = brief(old), brief(new)
    if one == other and isinstance(old, float) and isinstance(new, float) and old != new:
        return repr(old), repr(new)
    return one, other


def listing(names: Sequence[str], most: int) -> str:
    """Names as a person lists them: the first few, then how many more.

    >>> listing(["a"], 3), listing(["a", "b"], 3), listing(["a", "b", "c"], 3), listing(list("abcde"), 3)
    ('a', 'a and b', 'a, b and c', 'a, b, c and 2 more')
    """
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most:,} more"
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


def names(old: Side, new: Side) -> tuple[str, str]:
    """What to call the two sides in a sentence: short, and unlike each other.

    >>> names(Side(label="a/b:2", reference="a/b:2"), Side(label="a/b:champion", reference="a/b:3"))
    ('version 2', 'version 3')
    >>> names(Side(label="./runs/1/model"), Side(label="./runs/2/model"))
    ('1/model', '2/model')
    """
    if old.reference and new.reference:
        one, two = old.reference.rpartition(":"), new.reference.rpartition(":")
        if one[0] == two[0] and one[2] != two[2]:
            return f"version {one[2]}", f"version {two[2]}"
        if old.reference != new.reference:
            return brief(old.reference), brief(new.reference)
    first, second = _parts(old), _parts(new)
    for count in range(1, max(len(first), len(second)) + 1):
        tails = "/".join(first[-count:]), "/".join(second[-count:])
        if tails[0] != tails[1]:
            return _tail(first, count), _tail(second, count)
    return "the old one", "the new one"


def _tail(parts: Sequence[str], count: int) -> str:
    """The last *count* parts of a path, the middle of many left out."""
    tail = parts[-count:]
    return brief("/".join(tail) if len(tail) <= 2 else f"{tail[0]}/…/{tail[-1]}")


def _parts(side: Side) -> list[str]:
    parts = [part for part in re.split(r"[/\\]", side.reference or side.label) if part not in {"", ".", "..", "~"}]
    return parts or [side.label]
