"""Where a blob is cut into segments: at its tensors, and elsewhere by content, so that equal parts are found again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from assay.packing.codec import OPAQUE, WORDS, Words
from assay.packing.directory import Hint
from assay.ports.packs import Stretch

LEAST = 512
"""Bytes of the smallest tensor that is a segment of its own."""

CHUNK = 64 << 10
"""Bytes of a chunk of what is no tensor."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A segment to be.

    Args:
        offset: first byte in the blob.
        length: bytes.
        words: what they are made of.
        hint: of a tensor.
    """

    offset: int
    length: int
    words: Words
    hint: Hint | None = None


def cut(size: int, tensors: Sequence[Stretch]) -> Iterator[Piece]:
    """Cut a blob of *size* bytes; the pieces cover it without gaps, in order.

    Args:
        size: bytes of the blob.
        tensors: where tensors lie, in any order; those that overlap others or reach beyond the end are left out.
    """
    at = 0
    for found in sorted(tensors, key=lambda one: one.offset):
        words = WORDS.get(found.dtype, Words())
        if found.offset < at or found.offset + found.length > size or found.length < LEAST:
            continue
        if found.length % words.width:
            continue
        yield from _chunks(at, found.offset)
        yield Piece(found.offset, found.length, words, Hint(found.name, found.dtype))
        at = found.offset + found.length
    yield from _chunks(at, size)


def _chunks(start: int, stop: int) -> Iterator[Piece]:
    for at in range(start, stop, CHUNK):
        yield Piece(at, min(CHUNK, stop - at), OPAQUE)
