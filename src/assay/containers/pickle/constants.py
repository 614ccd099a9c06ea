"""Long runs of constants in a pickle stream, decoded in one step.

A run is recognised by a grammar of a few opcodes, and only what matches it in full is decoded: numbers, None, booleans,
short texts that go into the memo, and memoized lists of numbers. None of them can name, call, compare or share
anything. Neighbours of one kind are decoded together.
"""

from __future__ import annotations

import re
import struct
from itertools import accumulate
from typing import Any

ENOUGH = 16
"""Values from which a run is worth having been looked for."""

_LONGEST = 63  # bytes of a text in a run; one alternative of the grammar for every length
_WORTH = 32  # bytes
_LONG = b"|".join(b"%c.{%d}" % (length, length) for length in range(9))
_NUMBER = rb"K.|M..|J.{4}|G.{8}|N|\x88|\x89|\x8a(?:%b)" % _LONG
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
        values = _decode(match[0])
    except UnicodeDecodeError:
        return None
    return Run(values, match.end())


_SAME = {
    ord(opcode): (re.compile(b"(?:%b.{%d})++" % (opcode, width), re.DOTALL), width + 1, kind)
    for opcode, width, kind in ((b"K", 1, "B"), (b"M", 2, "<H"), (b"J", 4, "<i"), (b"G", 8, ">d"))
}
"""Opcode of a number of fixed width to: neighbours of its kind, bytes each takes, form of its argument."""

_FIXED = {0x4E: None, 0x88: True, 0x89: False}


def _decode(run: bytes) -> list[Any]:
    """The values of bytes that match the grammar.

    Raises:
        UnicodeDecodeError: a text is not UTF-8.
    """
    values: list[Any] = []
    outer = values  # where values go again after a list
    at, end = 0, len(run)
    while at < end:
        opcode = run[at]
        if opcode == 0x8C:  # SHORT_BINUNICODE, MEMOIZE
            after = at + 2 + run[at + 1]
            values.append(run[at + 2 : after].decode("utf-8", "surrogatepass"))
            at = after + 1
        elif opcode in _SAME:
            pattern, width, kind = _SAME[opcode]
            until = at + width
            if until < end and run[until] == opcode:
                until = pattern.match(run, at).end()  # type: ignore[union-attr]  # the grammar was matched before
                count = (until - at) // width
                form = f"{kind[:-1] or '='}{f'x{kind[-1]}' * count}"
                values += struct.unpack_from(form, run, at) if width > 2 else run[at + 1 : until : 2]
            else:
                values += struct.unpack_from(kind, run, at + 1)
            at = until
        elif opcode == 0x5D:  # EMPTY_LIST, MEMOIZE
            made: list[Any] = []
            outer.append(made)
            at += 2
            if at < end and run[at] == 0x28:  # MARK … APPENDS
                values = made
                at += 1
        elif opcode == 0x65:
            values = outer
            at += 1
        elif opcode == 0x8A:  # LONG1
            after = at + 2 + run[at + 1]
            values.append(int.from_bytes(run[at + 2 : after], "little", signed=True))
            at = after
        else:
            values.append(_FIXED[opcode])
            at += 1
    return outer


_SCALAR = re.compile(
    rb"(\x8c(?:%b)\x94|%b)?+((?:h.|j.{4}){2})C(\x08.{8}|\x04.{4}|\x02..|\x01.)\x94\x86\x94R\x94" % (_LENGTHS, _NUMBER),
    re.DOTALL,
)
_SCALARS = re.compile(b"(?:%b)++" % _SCALAR.pattern, re.DOTALL)


class Scalars:
    """A run of NumPy scalars of one type, each with a key before it or none.

    Args:
        keys: constants before them; empty when there are none.
        function: memo index of what makes them.
        dtype: memo index of their type.
        raws: their bytes.
        ends: positions after them.
    """

    __slots__ = ("dtype", "ends", "function", "keys", "raws")

    def __init__(self, keys: list[Any], names: bytes, raws: list[bytes], ends: list[int]) -> None:
        after = 2 if names[0] == 0x68 else 5  # BINGET, LONG_BINGET
        self.function = int.from_bytes(names[1:after], "little")
        self.dtype = int.from_bytes(names[after + 1 :], "little")
        self.keys = keys
        self.raws = raws
        self.ends = ends


def scalars(data: bytes, start: int, end: int) -> Scalars | None:
    """The run of NumPy scalars at *start*, not beyond *end*; None when it is short or mixed or a text is broken."""
    match = _SCALARS.match(data, start, end)
    if match is None or match.end() - start < 4 * _WORTH:
        return None
    heads, names, raws = zip(*_SCALAR.findall(data, start, match.end()), strict=True)
    if names.count(names[0]) != len(names):
        return None
    try:
        keys = _decode(b"".join(heads))
    except UnicodeDecodeError:
        return None
    if keys and (len(keys) != len(raws) or len(set(map(type, keys))) != 1):
        return None
    fixed = len(names[0]) + 6  # C, MEMOIZE, TUPLE2, MEMOIZE, REDUCE, MEMOIZE
    lengths = [len(head) + len(raw) + fixed for head, raw in zip(heads, raws, strict=True)]
    ends = [*accumulate(lengths, initial=start)]
    return Scalars(keys, names[0], [raw[1:] for raw in raws], ends[1:])
