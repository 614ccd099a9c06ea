"""Long runs of one repeated value that a writer did not pack: tag, value, tag, value … taken a block at a time.

Classical models keep millions of them (the nodes of tree ensembles); one Python step for each would take minutes where
these take a fraction of a second. Only runs of a one-byte tag are recognised; whatever breaks a run ends it, and is
left to the caller's own field-by-field reading, which knows how to complain.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_LONGEST_VARINT = 10


def fixed_run(data: bytes, tag: int, width: int) -> int:
    """How many whole elements of *tag* byte and *width* value bytes *data* begins with."""
    step = 1 + width
    count = len(data) // step
    breaks = np.flatnonzero(np.frombuffer(data, np.uint8, count * step)[::step] != tag)
    return int(breaks[0]) if breaks.size else count


def text_run(data: bytes, tag: int) -> tuple[int, int]:
    """How many whole elements of *tag* byte, length byte below 0x80 and text *data* begins with, and their bytes."""
    count = index = 0
    last = len(data) - 1
    while index < last and data[index] == tag:
        length = data[index + 1]
        after = index + 2 + length
        if length >= 0x80 or after > last + 1:
            break
        index = after
        count += 1
    return count, index


def varint_run(data: bytes, tag: int) -> tuple[int, int]:
    """How many whole elements of *tag* byte and varint *data* begins with, and how many bytes they take."""
    _, ends = _elements(data, tag)
    return len(ends), int(ends[-1]) + 1 if len(ends) else 0


def varint_run_values(data: bytes, tag: int) -> tuple[NDArray[np.uint64], int]:
    """The values of such a run, and how many bytes it takes."""
    tags, ends = _elements(data, tag)
    if not len(ends):
        return np.empty(0, np.uint64), 0
    octets = np.frombuffer(data, np.uint8)
    values = np.zeros(len(ends), np.uint64)
    for place in range(int((ends - tags).max())):
        at = tags + 1 + place
        inside = at <= ends
        septets = octets[np.minimum(at, ends)].astype(np.uint64) & np.uint64(0x7F)
        values |= np.where(inside, septets << np.uint64(7 * place), np.uint64(0))
    return values, int(ends[-1]) + 1


def _elements(data: bytes, tag: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Per element of the run that *data* begins with, where its tag lies and where its value ends."""
    octets = np.frombuffer(data, np.uint8)
    # A byte below 0x80 ends a varint: in a run these are, in turn, a tag and the last byte of its value.
    last = np.flatnonzero(octets < 0x80)
    pairs = len(last) // 2
    tags, ends = last[0 : 2 * pairs : 2], last[1 : 2 * pairs : 2]
    begins = np.concatenate((np.zeros(1, np.intp), ends[:-1] + 1))[:pairs]
    breaks = np.flatnonzero((tags != begins) | (octets[tags] != tag) | (ends - tags > _LONGEST_VARINT))
    whole = int(breaks[0]) if breaks.size else pairs
    return tags[:whole], ends[:whole]
