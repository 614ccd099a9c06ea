"""Counting the trees of an ensemble: the different ids among those of its nodes, of which there may be millions."""

from __future__ import annotations

import numpy as np

from assay.containers.protobuf.message import BYTES, VARINT, Field
from assay.containers.protobuf.runs import varint_run_values

_STREAK = 16
_BLOCK = 1 << 20
_LONGEST_ELEMENT = 20


def distinct(message: Field, number: int) -> set[int]:
    """The different unsigned values of one repeated varint field of a message, packed or not.

    Long unpacked runs are taken a block at a time; a field number of 16 or more has no such runs.

    Raises:
        BadFormat: this is no message, or a value is no number.
        LimitExceeded: the reader visited all the fields it may.
    """
    found: set[int] = set()
    position, end, tag = message.start, message.end, number << 3
    while position < end:
        rest = Field(message.reader, message.number, BYTES, end - position, position, end)
        position = end
        for streak, part in enumerate(each for each in rest if each.number == number):
            found.update(part.integers())
            if streak >= _STREAK and part.wire == VARINT and tag < 0x80:
                position = part.end
                break
        while position < end:
            data = message.reader.window.exactly(position, min(_BLOCK, end - position))
            values, taken = varint_run_values(data, tag)
            found.update(np.unique(values).tolist())
            position += taken
            if len(data) - taken > _LONGEST_ELEMENT or not taken:
                break
    return found
