"""Long runs of constants in a pickle stream, decoded in one step.

A run is recognised by a grammar of a few opcodes, and only what matches it in full is decoded: numbers, None, booleans,
short texts that go into the memo, and memoized lists of numbers. None of them can name, call, compare or share
anything, so the standard library's unpickler serves as a decoder of them, as ``struct`` does of numbers.
"""

from __future__ import annotations

import pickle
import re
from typing import Any

ENOUGH = 16
"""Values from which a run is worth having been looked for."""

_LONGEST = 63  # bytes of a text in a run; one alternative of the grammar for every length
_WORTH = 32  # bytes
_NUMBER = rb"K.|M..|J.{4}|G.{8}|N|\x88|\x89"
_LENGTHS = b"|".join(re.escape(bytes([length])) + rb".{%d}" % length for length in range(_LONGEST + 1))
_RUN = re.compile(
    rb"(?:\x8c(?:%b)\x94|%b|\]\x94(?:\((?:%b)++e)?+)++" % (_LENGTHS, _NUMBER, _NUMBER),
    re.DOTALL,
)


class Run:
    """What a run of constants does.

    Args:
        values: what it leaves on the stack.
        memoized: what it puts into the memo, in order.
        lists: number of lists it makes.
        opcodes: instructions in it.
        end: position after it.
    """

    __slots__ = ("end", "lists", "memoized", "opcodes", "values")

    def __init__(self, values: list[Any], end: int) -> None:
        self.values = values
        self.end = end
        self.memoized = [value for value in values if type(value) is str or type(value) is list]
        lists = [value for value in values if type(value) is list]
        self.lists = len(lists)
        self.opcodes = len(values) + len(self.memoized) + sum(len(value) + 2 for value in lists if value)


def constants(data: bytes, start: int, end: int) -> Run | None:
    """The run of constants at *start*, not beyond *end*; None when it is too short or a text in it is broken."""
    match = _RUN.match(data, start, end)
    if match is None or match.end() - start < _WORTH:
        return None
    try:
        values = pickle.loads(b"(%bl." % match[0])  # noqa: S301 - the grammar admits constants alone
    except UnicodeDecodeError:
        return None
    return Run(values, match.end())
