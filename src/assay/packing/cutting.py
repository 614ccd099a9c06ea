"""Where a blob is cut into segments: at its tensors, and elsewhere by content, so that equal parts are found again.

What is no tensor (headers, documents, formats nobody knows) is cut twice: first coarsely; a coarse chunk of which a
sample says that it compresses is cut finely, any other stays whole, since what is known of a segment costs some hundred
bytes, which must not be more than is saved. For the same reason small tensors of a blob that does not compress are left
to the chunks. All this depends on the blob's bytes and tensors alone: the same content gives the same segments.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import zstandard
from numpy.typing import NDArray
from pyfastcdc import FastCDC

from assay.packing import kin
from assay.packing.codec import OPAQUE, WORDS, Words
from assay.packing.directory import Hint
from assay.ports.packs import Stretch
from assay.trees import Source, read_into

Bytes = NDArray[np.uint8]

LEAST = 512
"""Bytes of the smallest tensor that is a segment of its own."""

_LADDER = (LEAST, 2 << 10, 8 << 10, 32 << 10, 128 << 10, 512 << 10)
_COST = 110
"""Bytes that a segment costs in a pack beyond its own: id, checksum, length, name, heads of planes."""

_SPARED = 1 / 1000
"""What a pack may have more than the blobs in it."""

FINE, COARSE = 16 << 10, 256 << 10
"""Mean bytes of chunks of what compresses, and of what does not."""

_FINEST, _COARSEST = 4 << 10, 1 << 20
_WINDOW = 4 << 20
_PROBES, _PROBE = 3, 8 << 10
_COMPRESSES = 0.97


@dataclass(frozen=True, slots=True)
class Piece:
    """A segment to be.

    Args:
        offset: first byte in the blob.
        length: bytes.
        words: what they are made of.
        hint: of a tensor.
        raw: its bytes where they had to be read for the cutting; good until the next piece is asked for.
    """

    offset: int
    length: int
    words: Words
    hint: Hint | None = None
    raw: Bytes | None = None


def cut(source: Source, tensors: Sequence[Stretch]) -> Iterator[Piece]:
    """Cut a blob; the pieces cover it without gaps, in order. Takes a few mebibytes of memory, whatever its size.

    Args:
        source: the blob's bytes.
        tensors: where tensors lie, in any order; of those that overlap the first, at the same place the longest counts,
            and those that reach beyond the end or are no whole number of words are left to the chunks.

    Raises:
        StorageError: from the source.
    """
    chunker = _Chunker(source)
    at = 0
    for found in _own(source, _apart(source.size, tensors)):
        yield from chunker.chunks(at, found.offset)
        words = WORDS.get(found.dtype, Words())
        yield Piece(found.offset, found.length, words, Hint(found.name, found.dtype))
        at = found.offset + found.length
    yield from chunker.chunks(at, source.size)


def _apart(size: int, tensors: Sequence[Stretch]) -> list[Stretch]:
    """Tensors that can be segments: inside the blob, apart from each other, whole words, not tiny; by place."""
    kept, at = [], 0
    for found in sorted(tensors, key=lambda one: (one.offset, -one.length, one.name)):
        whole = found.length % WORDS.get(found.dtype, Words()).width == 0
        if at <= found.offset and LEAST <= found.length <= size - found.offset and whole:
            kept.append(found)
            at = found.offset + found.length
    return kept


def _own(source: Source, tensors: list[Stretch]) -> list[Stretch]:
    """Those that are segments of their own: all, or only larger ones where they would cost more than they save."""
    if not tensors or len(tensors) * 2 * _COST <= _SPARED * source.size:
        return tensors
    allowed = _SPARED * source.size + _saved(source, tensors) / 2
    for least in _LADDER:
        kept = [one for one in tensors if one.length >= least]
        between = sum(before.offset + before.length < after.offset for before, after in pairwise(kept))
        if (len(kept) + between) * _COST <= allowed:
            return kept
    return [one for one in tensors if one.length >= 2 * _LADDER[-1]]


def _saved(source: Source, tensors: Sequence[Stretch]) -> float:
    """About how many bytes coding saves, from samples of some tensors, the same ones whatever their order."""
    kinds: dict[Words, list[Stretch]] = defaultdict(list)
    for one in sorted(tensors, key=lambda one: (-one.length, one.name)):
        kinds[WORDS.get(one.dtype, Words())].append(one)
    saved = 0.0
    for words, found in kinds.items():
        step = -(-len(found) // kin.LOOKED_AT)
        chosen, each = found[::step], kin.ESTIMATED_OF_MANY // len(found[::step])
        parts = [kin.slices(source, one.offset, one.length, words, each) for one in chosen]
        share = kin.estimate(np.concatenate(parts), words)
        saved += (1 - share) * sum(one.length for one in found)
    return saved


class _Chunker:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._coarse = FastCDC(COARSE, min_size=COARSE // 4, max_size=_COARSEST)
        self._fine = FastCDC(FINE, min_size=_FINEST, max_size=4 * FINE)
        self._probe = zstandard.ZstdCompressor(level=1)
        self._window = np.empty(0, np.uint8)

    def chunks(self, start: int, stop: int) -> Iterator[Piece]:
        """Pieces of [start, stop)."""
        at = start
        while at < stop:
            taken = min(_WINDOW, stop - at)
            if len(self._window) < taken:
                self._window = np.empty(taken, np.uint8)
            window = self._window[:taken]
            if read_into(self._source, at, window.data) < taken:
                yield Piece(at, taken, Words())  # it ends early: whoever reads the piece will see
                at += taken
                continue
            done = 0
            for chunk in self._coarse.cut_buf(window.data):
                if chunk.offset + chunk.length == taken and at + taken < stop and chunk.offset:
                    break  # it might end elsewhere if more had been read
                yield from self._piece(at + chunk.offset, window[chunk.offset : chunk.offset + chunk.length])
                done = chunk.offset + chunk.length
            at += done

    def _piece(self, at: int, raw: Bytes) -> Iterator[Piece]:
        if not self._compresses(raw):
            yield Piece(at, len(raw), Words(), raw=raw)
            return
        for chunk in self._fine.cut_buf(raw.data):
            found = raw[chunk.offset : chunk.offset + chunk.length]
            yield Piece(at + chunk.offset, chunk.length, OPAQUE, raw=found)

    def _compresses(self, raw: Bytes) -> bool:
        if len(raw) <= _FINEST:
            return True
        parts = [raw[place : place + _PROBE] for place in range(0, len(raw), max(_PROBE, len(raw) // _PROBES))]
        size = sum(map(len, parts))
        return sum(len(self._probe.compress(part.data)) for part in parts) < _COMPRESSES * size
