"""Encoding the blocks of a piece, each decoded again and compared: what workers do while a pack is written."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from assay.errors import BadFormat, IntegrityError
from assay.packing import codec
from assay.packing.bases import Base
from assay.packing.codec import Words
from assay.packing.segments import spans
from assay.ports.packs import Effort

Bytes = NDArray[np.uint8]

SLACK = 256
"""Bytes that a block may take beyond its own."""

_DOUBTFUL = 0.9
"""A difference of more than this share of what the block would take alone is compared with that."""


def encode_blocks(
    raw: Bytes,
    words: Words,
    out: Bytes,
    effort: Effort,
    *,
    base: Base | None = None,
    alone: float = 1.0,
    first: int = 0,
) -> list[int]:
    """Encode blocks one after the other into *out*; the stored length of each.

    Args:
        raw: the bytes of whole blocks; the last one may be shorter.
        words: what they are made of.
        out: room for them, and ``SLACK`` for each.
        effort: how hard to try.
        base: what they are stored as the difference to, where that is smaller.
        alone: about what share of them is left without a base.
        first: the number in its segment of the first block.

    Raises:
        IntegrityError: a block does not decode to what was encoded.
    """
    lengths, at = [], 0
    for number, (start, stop) in enumerate(spans(len(raw)), first):
        block = raw[start:stop]
        other = None if base is None else _block(base, number)
        stored = _encode(block, words, out[at:], effort, other, alone)
        if not codec.matches(out[at : at + stored].data, words, block, base=other):
            raise IntegrityError("a block does not decode to what was encoded: this is a defect of the codec")
        lengths.append(stored)
        at += stored
    return lengths


def _block(base: Base, number: int) -> Bytes | None:
    """A block of the base; None where it is damaged: this one then stands alone."""
    try:
        return base.block(number)
    except (IntegrityError, BadFormat):
        return None


def _encode(block: Bytes, words: Words, out: Bytes, effort: Effort, base: Bytes | None, alone: float) -> int:
    if base is None:
        return _put(codec.encode(block, words), out)
    stored = _put(codec.encode(block, words, base=base), out)
    if effort is Effort.SMALLEST:
        stored = _put(codec.encode(block, words, base=base, ordered=True), out, stored)
    if stored > _DOUBTFUL * alone * len(block):
        stored = _put(codec.encode(block, words), out, stored)
    return stored


def _put(parts: list[bytes | Bytes], out: Bytes, above: int | None = None) -> int:
    """Copy an encoded block, where it is smaller than *above*; the length of what is there then."""
    size = sum(map(len, parts))
    if above is not None and size >= above:
        return above
    at = 0
    for part in parts:
        out[at : at + len(part)] = part if isinstance(part, np.ndarray) else np.frombuffer(part, np.uint8)
        at += len(part)
    return size
