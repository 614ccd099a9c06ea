"""Finding the tensor that another one is best stored as the difference to, and giving its bytes while that is done.

Candidates come from other packs (``Stock.alike``) and from the pack that is being written. Samples say which are close;
of the closest, what a difference would save is estimated from some kilobytes, and one is taken only if it saves five
per cent against standing alone. A base that is a segment of this pack is read where it came from, not decoded.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from assay.errors import BadFormat, IntegrityError
from assay.packing import kin
from assay.packing.codec import BLOCK, Words
from assay.packing.cutting import Piece
from assay.packing.directory import Hint
from assay.packing.reading import Decoder, Shelf
from assay.packing.segments import block_digest
from assay.spec.digest import Digest
from assay.trees import Source, read_into

Bytes = NDArray[np.uint8]

_WORTH = 0.95
"""A difference is at most this share of what the tensor would take alone."""

_PER_DEPTH = 0.04
"""What every base of a base must save besides, for the decoding that it costs."""

_TRIED = 3
_FAVOUR = 0.5
"""Bits by which a tensor of the same name, or of a blob that was named as near, may lie further away than another."""


class _Scratch(threading.local):
    def __init__(self) -> None:
        self.block = np.empty(BLOCK, np.uint8)


_scratch = _Scratch()


class Stock(Shelf, Protocol):
    """Segments that are there already, and may be bases. ``find`` is called from several threads."""

    def alike(self, size: int, words: Words, hint: Hint, near: Sequence[Digest]) -> Sequence[tuple[bytes, Hint, int]]:
        """Tensors of the same length and words that may be close: id, hint and depth of each; likeliest first.

        Args:
            size: bytes.
            words: what they are made of.
            hint: of the tensor that is to be stored.
            near: blobs to prefer.
        """
        ...


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the raw bytes of a segment of this pack lie.

    Args:
        source: the blob they are part of.
        offset: where they begin.
        digests: of their blocks.
    """

    source: Source
    offset: int
    digests: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A tensor that may be a base.

    Args:
        id: of the segment.
        hint: its name and sample.
        depth: how many bases it has itself, once that is decided.
        origin: where its raw bytes lie, of a segment of this pack.
    """

    id: bytes
    hint: Hint
    depth: Future[int]
    origin: Origin | None = None


class Base:
    """A base's bytes.

    Args:
        candidate: which.
        depth: how many bases it has.
        size: bytes of it.
        decoder: gives blocks of other packs' segments.
    """

    def __init__(self, candidate: Candidate, depth: int, size: int, decoder: Decoder) -> None:
        self.id, self.depth = candidate.id, depth
        self._origin, self._size, self._decoder = candidate.origin, size, decoder
        self._kept: dict[int, Bytes] = {}

    def block(self, number: int) -> Bytes:
        """One block, good until this thread asks for another; those looked at while choosing are kept, and given once.

        Raises:
            IntegrityError: it is damaged, or changed while it was being packed.
        """
        kept = self._kept.pop(number, None)
        return self._read(number, _scratch.block) if kept is None else kept

    def slices(self, words: Words) -> Bytes:
        """The bytes of the base's ``kin.runs``."""
        if self._origin is not None:
            return kin.slices(self._origin.source, self._origin.offset, self._size, words)
        parts = []
        for start, count in kin.runs(self._size, words):
            number, within = divmod(start, BLOCK)
            if number not in self._kept:
                self._kept[number] = self._read(number, np.empty(BLOCK, np.uint8))
            parts.append(self._kept[number][within : within + count])
        return np.concatenate(parts)

    def _read(self, number: int, room: Bytes) -> Bytes:
        into = room[: min(BLOCK, self._size - number * BLOCK)]
        if self._origin is None:
            self._decoder.block(self.id, number, into)
            return into
        read_into(self._origin.source, self._origin.offset + number * BLOCK, into.data)
        if block_digest(into) != self._origin.digests[number]:
            raise IntegrityError("a blob changed while it was being packed")
        return into


@dataclass(slots=True)
class Kinship:
    """What this pack's tensors, and those of other packs, offer as bases.

    Args:
        stock: other packs.
    """

    stock: Stock
    _named: dict[tuple[int, Words, str], list[Candidate]] = field(default_factory=lambda: defaultdict(list))
    _sampled: dict[tuple[int, Words], list[Candidate]] = field(default_factory=lambda: defaultdict(list))
    _blobs: dict[bytes, Digest] = field(default_factory=dict)
    _offered: set[bytes] = field(default_factory=set)

    def add(self, piece: Piece, candidate: Candidate, blob: Digest) -> None:
        """Remember a tensor of this pack."""
        self._blobs[candidate.id] = blob
        self._named[piece.length, piece.words, candidate.hint.name].append(candidate)
        if candidate.hint.sample:
            self._sampled[piece.length, piece.words].append(candidate)

    def candidates(self, piece: Piece, hint: Hint, near: Sequence[Digest], *, own: bytes = b"") -> list[Candidate]:
        """Tensors that may be close to a piece, the likeliest first; no more than are worth trying.

        Other packs come and go meanwhile, but the segments of one pack must not contradict each other. So what is in
        this pack is a base as it is here, whatever another pack has since. And what another pack offered, and then did
        not have any more, stands alone here: it is less deep than whatever was made a difference to it.

        Args:
            piece: which.
            hint: of it.
            near: blobs to prefer.
            own: the id of the piece, where it is known by now.
        """
        if piece.length < kin.LEAST_DIFFERENCE or own in self._offered:
            return []
        key = piece.length, piece.words
        found = list(self._sampled[key]) if hint.sample else list(self._named[*key, hint.name])
        for segment, other, depth in self.stock.alike(piece.length, piece.words, hint, near):
            if segment in self._blobs or segment == own:
                continue
            known: Future[int] = Future()
            known.set_result(depth)
            found.append(Candidate(segment, other, known))
        limit, near_by = kin.too_far(piece.words), set(near)
        apart = kin.distances(hint.sample, [one.hint.sample for one in found], piece.words)
        ranked = []
        for place, (one, bits) in enumerate(zip(found, apart, strict=True)):
            same = one.hint.name == hint.name
            if bits >= limit and not (same and not one.hint.sample):
                continue  # too far, or nothing is known of it
            favoured = same + (self._blobs.get(one.id) in near_by)
            ranked.append((min(bits, limit) - _FAVOUR * favoured, -place, one))
        chosen = [one for *_, one in sorted(ranked, key=lambda rank: rank[:2])[:_TRIED]]
        self._offered.update(one.id for one in chosen if one.origin is None)
        return chosen


def choose(piece: Piece, raw: Bytes, candidates: Sequence[Candidate], decoder: Decoder) -> tuple[Base | None, float]:
    """The best base, None where standing alone is no worse; and about what share of the piece is left alone.

    Args:
        piece: a tensor.
        raw: its ``kin.slices``.
        candidates: in order of likelihood; of those that cost the same the first is taken.
        decoder: gives blocks of other packs' segments.
    """
    if not candidates:
        return None, 1.0
    alone = kin.estimate(raw, piece.words)
    best, least = None, _WORTH * alone
    for candidate in candidates:
        depth = candidate.depth.result()
        if depth >= kin.MAX_DEPTH:
            continue
        base = Base(candidate, depth, piece.length, decoder)
        try:
            other = base.slices(piece.words)
        except (IntegrityError, BadFormat):
            continue  # a damaged pack is told of by those who check packs
        cost = kin.estimate(raw, piece.words, other) * (1 + _PER_DEPTH * depth)
        if cost < least:
            best, least = base, cost
    return best, alone
