"""Words taken apart into byte planes, and put together again: the part of the codec that is only arithmetic.

Plane *k* holds byte *k* (little-endian) of every word. Before that a word is rotated left by one bit, so that a float's
sign does not lie among the exponent's bits; or the base's word is subtracted (modulo 2^bits) and the difference folded
(zigzag: 0, -1, 1, -2 … become 0, 1, 2, 3 …), so that small differences have zeros in their high planes.

Everything here is numpy; ``native`` has the same functions compiled, with the same results to the byte.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


def split(words: Bytes, width: int, *, rotate: bool, base: Bytes | None, into: Bytes) -> None:
    """Take words apart.

    Args:
        words: the bytes of n words, shape (n * width,).
        width: bytes per word: 1, 2, 4 or 8.
        rotate: whether the sign bit goes to the bottom; not together with *base*.
        base: words to subtract, of the same shape.
        into: the planes, shape (width, n).
    """
    if width == 1 and base is None:
        into[0] = words
        return
    unsigned = np.dtype(f"<u{width}")
    found = words.view(unsigned)
    bits = 8 * width
    if base is not None:
        signed = (found - base.view(unsigned)).view(np.dtype(f"<i{width}"))
        found = ((signed << 1) ^ (signed >> (bits - 1))).view(unsigned)
    elif rotate:
        found = (found << 1) | (found >> (bits - 1))
    into[...] = found.view(np.uint8).reshape(-1, width).T


def join(planes: Sequence[Bytes], width: int, *, rotate: bool, base: Bytes | None, into: Bytes) -> None:
    """Put words together from their planes; the inverse of ``split``.

    Args:
        planes: *width* arrays of n bytes.
        width: bytes per word.
        rotate: as the words were split.
        base: as the words were split.
        into: the bytes of the words, shape (n * width,), writable.
    """
    lanes = into.reshape(-1, width)
    for number, plane in enumerate(planes):
        lanes[:, number] = plane
    unsigned = np.dtype(f"<u{width}")
    found = into.view(unsigned)
    if base is not None:
        unfolded = (found >> 1) ^ (-(found & 1).view(np.dtype(f"<i{width}"))).view(unsigned)
        np.add(unfolded, base.view(unsigned), out=found)
    elif rotate:
        found[...] = (found >> 1) | (found << (8 * width - 1))


def order(base: Bytes, width: int) -> NDArray[np.intp]:
    """The order of words by the size of the base's: stable, by the byte that holds most of the base's exponent.

    A delta's size follows its base's, so that neighbours in this order have differences of like size.

    Args:
        base: the bytes of n words.
        width: bytes per word.

    Returns:
        Positions, shape (n,): where the word lies that comes first, second …
    """
    unsigned = np.dtype(f"<u{width}")
    rotated = base.view(unsigned) << 1
    return np.argsort((rotated >> (8 * (width - 1))).astype(np.uint8), kind="stable")
