"""One block: at most a mebibyte of a segment, stored so that it can be decoded alone.

    kind    1 byte: 0 plain, 1 difference to the base, 2 the same ordered by the base's exponent
    planes  per plane: 1 byte mode (0 constant, 1 raw, 2 zstd), 4 bytes length of what is stored (little-endian)
    bytes   what is stored of each plane, one after the other

zstd is made a Huffman coder: weights hold no repeats worth looking for, and looking costs more than it finds
(``strategy=fast`` with matches of seven bytes from a table of 64). What any zstd writes can be read. Planes that look
random in a sample are stored as they are, which is most of what there is of weights.

How it works, why, and what was measured: ``docs/explanation/packs.md``.
"""

from __future__ import annotations

import struct
import threading
from dataclasses import dataclass

import numpy as np
import zstandard
from numpy.typing import NDArray

from assay.errors import BadFormat
from assay.packing import native
from assay.packing.planes import SAMPLE_LENGTH, SAMPLE_RUNS

BLOCK = 1 << 20
"""Bytes of a segment per block; the last one may be shorter."""

PLAIN, DELTA, ORDERED = 0, 1, 2
_CONSTANT, _RAW, _ZSTD = 0, 1, 2
_PLANE = struct.Struct("<BI")
PLANE_HEAD = _PLANE.size
"""Bytes that a block says of each of its planes."""
_FULL_BITS = 7.9
"""Bits of entropy per byte from which on coding saves less than it costs to read back."""
_EVEN_BITS = 3.0
"""Bits per byte below which neighbours in an ordered plane are so alike that searching it thoroughly pays."""
_THOROUGH = 16
"""zstd's level for that: a twentieth smaller, fifty times slower to write, no slower to read."""

Bytes = NDArray[np.uint8]
kernels = native.kernels()
_sampled = np.arange(SAMPLE_RUNS * SAMPLE_LENGTH + 1, dtype=np.float64)
_sampled[1:] *= np.log2(_sampled[1:])  # c * log2(c) for each count that a sample can give


@dataclass(frozen=True, slots=True)
class Words:
    """What a segment's bytes are made of.

    Args:
        width: bytes per word: 1, 2, 4 or 8; the segment's length is a multiple of it.
        rotate: whether words are floats whose sign goes to the bottom (8 bits of exponent or more).
        text: whether repeats are worth looking for: documents, not numbers.
    """

    width: int = 1
    rotate: bool = False
    text: bool = False


OPAQUE = Words(text=True)

WORDS: dict[str, Words] = {
    "float64": Words(8, rotate=True),
    "complex128": Words(8, rotate=True),
    "float32": Words(4, rotate=True),
    "complex64": Words(4, rotate=True),
    "bfloat16": Words(2, rotate=True),
    "float16": Words(2),
    "int64": Words(8),
    "uint64": Words(8),
    "int32": Words(4),
    "uint32": Words(4),
    "int16": Words(2),
    "uint16": Words(2),
}
"""Words of dtypes; any other plain dtype is one of bytes."""


class _Tools(threading.local):
    """What each thread keeps: contexts and buffers are too dear to make per block."""

    def __init__(self) -> None:
        huffman = zstandard.ZstdCompressionParameters(
            strategy=zstandard.STRATEGY_FAST, min_match=7, hash_log=6, target_length=0, window_log=20, write_checksum=0
        )
        self.huffman = zstandard.ZstdCompressor(compression_params=huffman)
        self.searching = zstandard.ZstdCompressor(level=3, write_checksum=False)
        self.thorough = zstandard.ZstdCompressor(level=_THOROUGH, write_checksum=False)
        self.decompressor = zstandard.ZstdDecompressor()
        self.split = np.empty(BLOCK, np.uint8)
        self.joined = np.empty(BLOCK, np.uint8)


_tools = _Tools()


def encode(raw: Bytes, words: Words, *, base: Bytes | None = None, ordered: bool = False) -> list[bytes | Bytes]:
    """Store one block; the parts, to be written one after the other before the next block is encoded in this thread.

    Args:
        raw: the block's bytes, at most ``BLOCK`` and a multiple of the words' width.
        words: what they are made of.
        base: the base's bytes in the same place; the difference to it is stored.
        ordered: sort differences by the base's exponent first, and search what is even then: smaller, much slower.
    """
    width, count = words.width, len(raw) // words.width
    if width == 1 and base is None:
        split = raw.reshape(1, count)
    else:
        split = _tools.split[: len(raw)].reshape(width, count)
        kernels.split(raw, width, rotate=words.rotate and base is None, base=base, ordered=ordered, into=split)
    constant, counts = kernels.survey(split)
    bits = _bits(counts)
    heads = [bytes([PLAIN if base is None else ORDERED if ordered else DELTA])]
    body: bytes | Bytes
    bodies = []
    for number, plane in enumerate(split):
        if constant >> number & 1:
            mode, body = _CONSTANT, plane[:1]
        elif bits[number] > _FULL_BITS:
            mode, body = _RAW, plane
        else:
            thoroughly = ordered and bits[number] < _EVEN_BITS
            mode, body = _coded(plane, text=words.text, thoroughly=thoroughly)
        heads.append(_PLANE.pack(mode, len(body)))
        bodies.append(body)
    return [b"".join(heads), *bodies]


def decode(stored: memoryview, words: Words, into: Bytes, *, base: Bytes | None = None) -> None:
    """Give a block's bytes back.

    Args:
        stored: exactly what was stored; read-only or not, as long as nobody changes it meanwhile.
        words: what the bytes are made of.
        into: where they go; exactly as many as there were.
        base: the base's bytes in the same place, where there is one; may be *into*, which then holds them.

    Raises:
        BadFormat: it is not such a block.
    """
    kind, found = _planes(stored, words, len(into), base)
    base = base if kind != PLAIN else None
    rotate = words.rotate and base is None
    kernels.join(found, words.width, rotate=rotate, base=base, ordered=kind == ORDERED, into=into)


def matches(stored: memoryview, words: Words, raw: Bytes, *, base: Bytes | None = None) -> bool:
    """Whether a block decodes to these bytes; where they would go is not needed.

    Args:
        stored: exactly what was stored.
        words: what the bytes are made of.
        raw: what they should be.
        base: the base's bytes in the same place, where there is one.

    Raises:
        BadFormat: it is not such a block.
    """
    kind, found = _planes(stored, words, len(raw), base)
    base = base if kind != PLAIN else None
    rotate = words.rotate and base is None
    return kernels.match(found, words.width, rotate=rotate, base=base, ordered=kind == ORDERED, words=raw)


def needs_base(stored: memoryview) -> bool:
    """Whether a block is stored as a difference."""
    return len(stored) > 0 and stored[0] != PLAIN


def _planes(stored: memoryview, words: Words, size: int, base: Bytes | None) -> tuple[int, list[Bytes]]:
    """A block's kind and planes, good until this thread asks for those of another one."""
    width, count = words.width, size // words.width
    kind, at = _kind(stored, base), 1 + width * _PLANE.size
    if len(stored) < at or count * width != size or size > BLOCK:
        raise BadFormat(f"a block of a pack has {len(stored)} bytes for {size} in words of {width}")
    scratch = _tools.joined[:size].reshape(width, count)
    found = []
    for number in range(width):
        mode, length = _PLANE.unpack_from(stored, 1 + number * _PLANE.size)
        found.append(_decode_plane(mode, stored[at : at + length], length, scratch[number]))
        at += length
    if at != len(stored):
        raise BadFormat(f"a block of a pack has {len(stored)} bytes, its planes end at {at}")
    return kind, found


def _kind(stored: memoryview, base: Bytes | None) -> int:
    kind = stored[0] if len(stored) else -1
    if kind not in (PLAIN, DELTA, ORDERED) or (kind != PLAIN and base is None):
        raise BadFormat(f"a block of a pack is of kind {kind}" + ("" if base is None else ", and has a base"))
    return kind


def _bits(counts: NDArray[np.uint32]) -> NDArray[np.float64]:
    """The entropy of each plane's sample, in bits per byte."""
    sizes = np.maximum(counts.sum(axis=1), 1)
    found: NDArray[np.float64] = np.log2(sizes) - _sampled[counts].sum(axis=1) / sizes
    return found


def _coded(plane: Bytes, *, text: bool, thoroughly: bool) -> tuple[int, bytes | Bytes]:
    coder = _tools.searching if text else _tools.huffman
    best: bytes = coder.compress(plane.data)
    if thoroughly:
        best = min(best, _tools.thorough.compress(plane.data), key=len)
    return (_ZSTD, best) if len(best) < len(plane) else (_RAW, plane)


def _decode_plane(mode: int, stored: memoryview, length: int, scratch: Bytes) -> Bytes:
    """The plane's bytes: where they are stored, or put into *scratch*, which has exactly their length."""
    count = len(scratch)
    if len(stored) != length:
        raise BadFormat(f"a plane of a pack ends early: expected {length} bytes, found {len(stored)}")
    if mode == _CONSTANT and length == 1:
        scratch.fill(stored[0])
        return scratch
    if mode == _RAW and length == count:
        return np.frombuffer(stored, np.uint8)
    if mode != _ZSTD:
        raise BadFormat(f"a plane of a pack has mode {mode} and {length} bytes for {count}")
    try:
        if zstandard.frame_content_size(stored) != count:
            raise BadFormat(f"a plane of a pack holds {zstandard.frame_content_size(stored)} bytes, expected {count}")
        # The reader decodes a frame that lies whole before it straight into our memory.
        with _tools.decompressor.stream_reader(stored) as reader:
            filled = reader.readinto(scratch)
    except zstandard.ZstdError as error:
        raise BadFormat(f"a plane of a pack cannot be decoded: {error}") from error
    if filled != count:
        raise BadFormat(f"a plane of a pack ends after {filled} bytes, expected {count}")
    return scratch
