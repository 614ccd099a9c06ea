"""Which segment a tensor may be stored as the difference to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from assay.packing.codec import Words

Bytes = NDArray[np.uint8]

MAX_DEPTH = 4
"""Bases of bases that a writer makes: each costs a decoding more."""

SAMPLED = 32
"""Words in a sample."""

LEAST_SAMPLED = 64 << 10
"""Bytes of the smallest tensor of which a sample is kept."""


def sample(raw: Bytes, words: Words) -> bytes:
    """Some words of a tensor, at the same places in every tensor of its length; empty where it is too small."""
    if len(raw) < LEAST_SAMPLED:
        return b""
    lanes = raw.reshape(-1, words.width)
    places = np.linspace(0, len(lanes) - 1, SAMPLED, dtype=np.int64)
    return lanes[places].tobytes()


def distance(one: bytes, other: bytes, words: Words) -> float:
    """How far two samples lie apart: the mean number of bits of their words' differences.

    Returns:
        0 for equal ones, about the bits of a word for unrelated ones; infinite where they cannot be compared.
    """
    if not one or len(one) != len(other):
        return float("inf")
    unsigned, signed = np.dtype(f"<u{words.width}"), np.dtype(f"<i{words.width}")
    difference = (np.frombuffer(one, unsigned) - np.frombuffer(other, unsigned)).view(signed).astype(np.float64)
    return float(np.log2(np.abs(difference) + 1).mean())
