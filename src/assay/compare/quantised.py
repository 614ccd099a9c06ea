"""Block quantisation of ggml: the numbers behind stored blocks, and what storing numbers so does to them.

A block holds so many neighbours of one row with a scale of their own. Source of the layouts: the public definitions of
ggml's block types (``block_q8_0`` and its kin, GGUF specification); the test suite holds them against the ``gguf``
package.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from assay.artifact.elements import Array, Elements, check_whole
from assay.errors import BadFormat

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class BlockType:
    """One way of storing.

    Args:
        elements: per block.
        nbytes: per block.
        decode: blocks (n, nbytes) to numbers (n, elements).
        round_trip: numbers (n, elements) to what is left of them once they were stored so; None where the way of
            rounding is left to who writes.
    """

    elements: int
    nbytes: int
    decode: Callable[[Bytes], Floats]
    round_trip: Callable[[Floats], Floats] | None = None


class BlockElements:
    """The numbers of a tensor stored in blocks; elements may only be taken at bounds of blocks, except at the end.

    Args:
        raw: the stored bytes.
        shape: elements per dimension.
        kind: how they are stored.
    """

    __slots__ = ("_kind", "_raw", "_shape")

    def __init__(self, raw: Elements, shape: tuple[int, ...], kind: BlockType) -> None:
        stored, wanted = prod(raw.shape), prod(shape)
        if wanted % kind.elements or wanted // kind.elements * kind.nbytes != stored:
            raise BadFormat(f"{stored} bytes are not the blocks of {wanted} elements")
        self._raw = raw
        self._shape = shape
        self._kind = kind

    @property
    def shape(self) -> tuple[int, ...]:
        """Elements per dimension."""
        return self._shape

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """What a stretch is made of."""
        return np.dtype(np.float32)

    def stretch(self, start: int, stop: int) -> Array:
        """Elements [start, stop)."""
        kind = self._kind
        first, last = start // kind.elements, -(-stop // kind.elements)
        raw = self._raw.stretch(first * kind.nbytes, last * kind.nbytes)
        numbers = kind.decode(raw.view(np.uint8).reshape(-1, kind.nbytes)).reshape(-1)
        return numbers[start - first * kind.elements : stop - first * kind.elements]

    def grid(self) -> Array:
        """All numbers in their shape."""
        size = prod(self._shape)
        check_whole(4 * size)
        return self.stretch(0, size).reshape(self._shape)

    def pick(self, positions: NDArray[np.int64]) -> Array:
        """The numbers at the given places of the flat array."""
        kind = self._kind
        blocks, inside = np.divmod(positions, kind.elements)
        places = (blocks[:, None] * kind.nbytes + np.arange(kind.nbytes)).reshape(-1)
        raw = self._raw.pick(places).view(np.uint8).reshape(-1, kind.nbytes)
        return kind.decode(raw)[np.arange(len(positions)), inside]

    def release(self, start: int, stop: int) -> None:
        """Give back the pages of elements [start, stop)."""
        kind = self._kind
        self._raw.release(start // kind.elements * kind.nbytes, -(-stop // kind.elements) * kind.nbytes)


def round_trip(kind: BlockType, numbers: Floats) -> Floats | None:
    """What is left of *numbers* (whole blocks) once they were stored; None where that is not laid down."""
    if kind.round_trip is None or numbers.size % kind.elements:
        return None
    return kind.round_trip(numbers.reshape(-1, kind.elements)).reshape(-1)


def _half(blocks: Bytes, start: int) -> Floats:
    """A float16 per block, as a column."""
    return np.ascontiguousarray(blocks[:, start : start + 2]).view("<f2").astype(np.float32)


def _nibbles(packed: Bytes) -> Floats:
    """Low halves of all bytes, then high halves."""
    return np.concatenate([packed & 15, packed >> 4], axis=1).astype(np.float32)


def _fifth_bits(blocks: Bytes, start: int) -> Floats:
    """The fifth bit of 32 elements, worth 16 each."""
    return np.unpackbits(blocks[:, start : start + 4], axis=1, bitorder="little").astype(np.float32) * 16


def _q8_0(blocks: Bytes) -> Floats:
    return _half(blocks, 0) * np.ascontiguousarray(blocks[:, 2:]).view(np.int8).astype(np.float32)


def _q4_0(blocks: Bytes) -> Floats:
    return _half(blocks, 0) * (_nibbles(blocks[:, 2:]) - 8)


def _q4_1(blocks: Bytes) -> Floats:
    return _half(blocks, 0) * _nibbles(blocks[:, 4:]) + _half(blocks, 2)


def _q5_0(blocks: Bytes) -> Floats:
    return _half(blocks, 0) * (_nibbles(blocks[:, 6:]) + _fifth_bits(blocks, 2) - 16)


def _q5_1(blocks: Bytes) -> Floats:
    return _half(blocks, 0) * (_nibbles(blocks[:, 8:]) + _fifth_bits(blocks, 4)) + _half(blocks, 2)


def _scales_and_minima(blocks: Bytes) -> tuple[Floats, Floats]:
    """Of q4_k and q5_k: eight 6-bit scales and eight 6-bit minima in twelve bytes, times a float16 each."""
    packed = blocks[:, 4:16]
    low, middle, high = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = np.concatenate([low & 63, (high & 15) | ((low >> 6) << 4)], axis=1)
    minima = np.concatenate([middle & 63, (high >> 4) | ((middle >> 6) << 4)], axis=1)
    return _half(blocks, 0) * scales.astype(np.float32), _half(blocks, 2) * minima.astype(np.float32)


def _q4_k(blocks: Bytes) -> Floats:
    scales, minima = _scales_and_minima(blocks)
    packed = blocks[:, 16:].reshape(-1, 4, 1, 32)
    numbers = np.concatenate([packed & 15, packed >> 4], axis=2).reshape(-1, 8, 32).astype(np.float32)
    values: Floats = scales[:, :, None] * numbers - minima[:, :, None]
    return values.reshape(-1, 256)


def _q5_k(blocks: Bytes) -> Floats:
    scales, minima = _scales_and_minima(blocks)
    packed = blocks[:, 48:].reshape(-1, 4, 1, 32)
    numbers = np.concatenate([packed & 15, packed >> 4], axis=2).reshape(-1, 8, 32)
    bits = (blocks[:, None, 16:48] >> np.arange(8, dtype=np.uint8)[None, :, None]) & 1
    values: Floats = scales[:, :, None] * (numbers + bits * 16).astype(np.float32) - minima[:, :, None]
    return values.reshape(-1, 256)


def _q6_k(blocks: Bytes) -> Floats:
    packed = blocks[:, :128].reshape(-1, 2, 1, 64)
    low = np.concatenate([packed & 15, packed >> 4], axis=2).reshape(-1, 8, 32)
    pairs = blocks[:, 128:192].reshape(-1, 2, 1, 32)
    high = ((pairs >> np.array([0, 2, 4, 6], np.uint8).reshape(1, 1, 4, 1)) & 3).reshape(-1, 8, 32)
    numbers = (low | (high << 4)).astype(np.float32) - 32
    scales = _half(blocks, 208) * np.ascontiguousarray(blocks[:, 192:208]).view(np.int8).astype(np.float32)
    values: Floats = scales[:, :, None] * numbers.reshape(-1, 16, 16)
    return values.reshape(-1, 256)


def _scaled(numbers: Floats, scale: Floats, offset: Floats, low: int, high: int) -> Floats:
    """Rounded to *low* … *high* steps of *scale* from *offset*; the scale is kept as a float16."""
    inverse = np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale != 0)
    steps = np.clip(np.rint((numbers - offset) * inverse), low, high)
    with np.errstate(over="ignore"):
        kept, base = scale.astype(np.float16).astype(np.float32), offset.astype(np.float16).astype(np.float32)
    left: Floats = kept * steps + base
    return left


def _round_by_largest(bits: int) -> Callable[[Floats], Floats]:
    """The scale is the element of largest size over the lowest step (q8_0: over 127, without a sign)."""
    lowest = -(1 << (bits - 1))

    def trip(numbers: Floats) -> Floats:
        largest: Floats = np.take_along_axis(numbers, np.abs(numbers).argmax(axis=1)[:, None], axis=1)
        if bits == 8:
            scale: Floats = (np.abs(largest) / 127).astype(np.float32)
            return _scaled(numbers, scale, np.zeros_like(largest), -127, 127)
        steps: Floats = (largest / lowest).astype(np.float32)
        return _scaled(numbers, steps, np.zeros_like(largest), lowest, -lowest - 1)

    return trip


def _round_by_range(bits: int) -> Callable[[Floats], Floats]:
    """The scale is the distance from the least to the largest element over all steps."""
    top = (1 << bits) - 1

    def trip(numbers: Floats) -> Floats:
        least: Floats = numbers.min(axis=1, keepdims=True)
        scale: Floats = ((numbers.max(axis=1, keepdims=True) - least) / top).astype(np.float32)
        return _scaled(numbers, scale, least, 0, top)

    return trip


BLOCK_TYPES: dict[str, BlockType] = {
    "q4_0": BlockType(32, 18, _q4_0, _round_by_largest(4)),
    "q4_1": BlockType(32, 20, _q4_1, _round_by_range(4)),
    "q5_0": BlockType(32, 22, _q5_0, _round_by_largest(5)),
    "q5_1": BlockType(32, 24, _q5_1, _round_by_range(5)),
    "q8_0": BlockType(32, 34, _q8_0, _round_by_largest(8)),
    "q4_k": BlockType(256, 144, _q4_k),
    "q5_k": BlockType(256, 176, _q5_k),
    "q6_k": BlockType(256, 210, _q6_k),
}
"""The block types whose numbers can be read, by their names in the tensor index."""
