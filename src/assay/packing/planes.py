"""Words taken apart into byte planes, and put together again: the part of the codec that is only arithmetic.

Plane *k* holds byte *k* (little-endian) of every word. Before that a word is rotated left by one bit, so that a float's
sign does not lie among the exponent's bits; or the base's word is subtracted (modulo 2^bits) and the difference folded
(zigzag: 0, -1, 1, -2 … become 0, 1, 2, 3 …), so that small differences have zeros in their high planes. Differences may
be sorted by the base's exponent first: their size follows it, so that neighbours are of like size.

Everything here is numpy; ``native`` has the same functions compiled, with the same results to the byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Counts = NDArray[np.uint32]

SAMPLE_RUNS, SAMPLE_LENGTH = 256, 32
"""What is looked at of a plane: so many runs of so many bytes, evenly spread; all of a smaller one."""


class Kernels(Protocol):
    """The functions of this module, however they are made."""

    def split(
        self, words: Bytes, width: int, *, rotate: bool, base: Bytes | None, ordered: bool = False, into: Bytes
    ) -> None:
        """See ``split``."""
        ...

    def join(
        self,
        planes: Sequence[Bytes],
        width: int,
        *,
        rotate: bool,
        base: Bytes | None,
        ordered: bool = False,
        into: Bytes,
    ) -> None:
        """See ``join``."""
        ...

    def match(
        self,
        planes: Sequence[Bytes],
        width: int,
        *,
        rotate: bool,
        base: Bytes | None,
        ordered: bool = False,
        words: Bytes,
    ) -> bool:
        """See ``match``."""
        ...

    def survey(self, planes: Bytes) -> tuple[int, Counts]:
        """See ``survey``."""
        ...


def split(words: Bytes, width: int, *, rotate: bool, base: Bytes | None, ordered: bool = False, into: Bytes) -> None:
    """Take words apart.

    Args:
        words: the bytes of n words, shape (n * width,).
        width: bytes per word: 1, 2, 4 or 8.
        rotate: whether the sign bit goes to the bottom; not together with *base*.
        base: words to subtract, of the same shape.
        ordered: whether the differences are sorted by the base's exponent.
        into: the planes, shape (width, n).
    """
    unsigned = np.dtype(f"<u{width}")
    found = words.view(unsigned)
    bits = 8 * width
    if base is not None:
        signed = (found - base.view(unsigned)).view(np.dtype(f"<i{width}"))
        found = ((signed << 1) ^ (signed >> (bits - 1))).view(unsigned)
        if ordered:
            found = found[order(base, width)]
    elif rotate:
        found = (found << 1) | (found >> (bits - 1))
    into[...] = found.view(np.uint8).reshape(-1, width).T


def join(
    planes: Sequence[Bytes], width: int, *, rotate: bool, base: Bytes | None, ordered: bool = False, into: Bytes
) -> None:
    """Put words together from their planes; the inverse of ``split``.

    Args:
        planes: *width* arrays of n bytes.
        width: bytes per word.
        rotate: as the words were split.
        base: as the words were split; may be *into* itself, where the base then lies already.
        ordered: as the words were split.
        into: the bytes of the words, shape (n * width,), writable.
    """
    unsigned = np.dtype(f"<u{width}")
    target = into if base is None else np.empty(len(into), np.uint8)
    lanes = target.reshape(-1, width)
    for number, plane in enumerate(planes):
        lanes[:, number] = plane
    found = target.view(unsigned)
    if base is not None:
        unfolded = (found >> 1) ^ (-(found & 1).view(np.dtype(f"<i{width}"))).view(unsigned)
        if ordered:
            places = order(base, width)
            found[places] = unfolded
            unfolded = found
        np.add(unfolded, base.view(unsigned), out=into.view(unsigned))
    elif rotate:
        found[...] = (found >> 1) | (found << (8 * width - 1))


def match(
    planes: Sequence[Bytes], width: int, *, rotate: bool, base: Bytes | None, ordered: bool = False, words: Bytes
) -> bool:
    """Whether planes, put together, give these words: ``join`` without a place for what comes out.

    Args:
        planes: *width* arrays of n bytes.
        width: bytes per word.
        rotate: as the words were split.
        base: as the words were split.
        ordered: as the words were split.
        words: what is expected, shape (n * width,).
    """
    joined = np.empty(len(words), np.uint8)
    join(planes, width, rotate=rotate, base=base, ordered=ordered, into=joined)
    return np.array_equal(joined, words)


def survey(planes: Bytes) -> tuple[int, Counts]:
    """Look at planes, to decide how each is stored.

    Args:
        planes: shape (width, n).

    Returns:
        Which planes are one byte throughout, a bit for each; how often each byte occurs in a sample of the others,
        shape (width, 256).
    """
    constant, counts = 0, np.zeros((len(planes), 256), np.uint32)
    for number, plane in enumerate(planes):
        if len(plane) and plane[0] == plane[-1] and not np.any(plane != plane[0]):
            constant |= 1 << number
            continue
        step = len(plane) // SAMPLE_RUNS
        if step >= SAMPLE_LENGTH:
            plane = plane[: SAMPLE_RUNS * step].reshape(SAMPLE_RUNS, step)[:, :SAMPLE_LENGTH].reshape(-1)  # noqa: PLW2901
        counts[number] = np.bincount(plane, minlength=256)
    return constant, counts


def order(base: Bytes, width: int) -> NDArray[np.intp]:
    """The order of words by the size of the base's: stable, by the byte that holds most of the base's exponent.

    Args:
        base: the bytes of n words.
        width: bytes per word.

    Returns:
        Positions, shape (n,): where the word lies that comes first, second …
    """
    unsigned = np.dtype(f"<u{width}")
    rotated = base.view(unsigned) << 1
    return np.argsort((rotated >> (8 * (width - 1))).astype(np.uint8), kind="stable")
