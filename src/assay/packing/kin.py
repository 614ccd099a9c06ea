"""Which segment a tensor may be stored as the difference to: samples, distances, and what a difference would save."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from assay.packing.codec import BLOCK, Words, kernels
from assay.trees import Source, read_into

Bytes = NDArray[np.uint8]

MAX_DEPTH = 4
"""Bases of bases that a writer makes: each costs a decoding more."""

SAMPLED = 32
"""Words in a sample."""

LEAST_SAMPLED = 256 << 10
"""Bytes of the smallest tensor of which a sample is kept: a smaller one has too little room for it."""

LEAST_DIFFERENCE = 8 << 10
"""Bytes of the smallest tensor that may be stored as a difference."""

ESTIMATED = 12 << 10
"""Bytes of a tensor from which is told what coding saves."""

ESTIMATED_OF_MANY = 48 << 10
"""Bytes of some tensors from which is told what coding all of their kind saves."""

LOOKED_AT = 24
"""Tensors of a kind from which is told what coding all of them saves."""

_RUNS = 4


def sample(raw: Bytes, words: Words) -> bytes:
    """Some words of a tensor, at the same places in every tensor of its length; empty where it is too small."""
    if len(raw) < LEAST_SAMPLED:
        return b""
    lanes = raw.reshape(-1, words.width)
    return lanes[_places(len(lanes))].tobytes()


def sample_of(source: Source, offset: int, length: int, words: Words) -> bytes:
    """``sample`` of a tensor that was not read: its words are fetched one by one."""
    if length < LEAST_SAMPLED:
        return b""
    width = words.width
    places = (offset + width * int(place) for place in _places(length // width))
    return b"".join(source.read(place, width).ljust(width, b"\0") for place in places)


def distance(one: bytes, other: bytes, words: Words) -> float:
    """How far two samples lie apart: the mean number of bits of their words' differences.

    Returns:
        0 for equal ones, about the bits of a word for unrelated ones; infinite where they cannot be compared.
    """
    return distances(one, [other], words)[0]


def distances(one: bytes, others: Sequence[bytes], words: Words) -> list[float]:
    """``distance`` to each of several."""
    found = [float("inf")] * len(others)
    like = [place for place, other in enumerate(others) if one and len(other) == len(one)]
    if like:
        unsigned, signed = f"<u{words.width}", f"<i{words.width}"
        rows = np.frombuffer(b"".join([others[place] for place in like]), unsigned).reshape(len(like), -1)
        difference = np.abs((rows - np.frombuffer(one, unsigned)).view(signed).astype(np.float64))
        for place, bits in zip(like, np.log2(difference + 1).mean(axis=1).tolist(), strict=True):
            found[place] = bits
    return found


def too_far(words: Words) -> float:
    """The distance from which on a difference cannot save anything worth having."""
    return 8 * words.width - min(7, 4 * words.width - 2)


def runs(length: int, words: Words, wanted: int = ESTIMATED) -> Iterator[tuple[int, int]]:
    """Where a tensor is looked into: (first byte, bytes) of runs of words in few blocks, *wanted* bytes in all."""
    each = max(words.width, wanted // _RUNS // words.width * words.width)
    if length <= wanted or length <= _RUNS * each:
        yield 0, min(length, max(each, wanted // words.width * words.width))
        return
    blocks = -(-length // BLOCK)
    chosen = [0] if blocks == 1 else [blocks // 3, 2 * blocks // 3]
    for block in chosen:
        room = min(BLOCK, length - block * BLOCK)
        count = _RUNS // len(chosen)
        for number in range(count):
            start = (room - each) * number // max(1, count - 1) // words.width * words.width if room > each else 0
            yield block * BLOCK + start, min(each, room)


def slices(source: Source, offset: int, length: int, words: Words, wanted: int = ESTIMATED) -> Bytes:
    """The bytes of a tensor's ``runs``, one after the other."""
    places = list(runs(length, words, wanted))
    found = np.zeros(sum(count for _, count in places), np.uint8)
    at = 0
    for start, count in places:
        read_into(source, offset + start, found[at : at + count].data)
        at += count
    return found


def picked(raw: Bytes, words: Words) -> Bytes:
    """``slices`` of a tensor that is at hand."""
    return np.concatenate([raw[start : start + count] for start, count in runs(len(raw), words)])


def estimate(raw: Bytes, words: Words, base: Bytes | None = None) -> float:
    """What share of some words, or of their differences to others, is left after coding, from their planes' entropy."""
    split = np.empty((words.width, len(raw) // words.width), np.uint8)
    kernels.split(raw, words.width, rotate=words.rotate and base is None, base=base, into=split)
    return sum(_entropy(plane) for plane in split) / (8 * words.width)


def _entropy(plane: Bytes) -> float:
    """Bits per byte; a small sample's own is too low (Miller and Madow)."""
    counts = np.bincount(plane, minlength=256)
    counts = counts[counts > 0]
    shares = counts / len(plane)
    bits = -(shares * np.log2(shares)).sum() + (len(counts) - 1) / (2 * len(plane) * np.log(2))
    return float(min(8.0, bits))


def _places(count: int) -> NDArray[np.int64]:
    return np.linspace(0, count - 1, SAMPLED, dtype=np.int64)
