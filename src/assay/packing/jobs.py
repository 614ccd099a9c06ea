"""What goes through the threads while a pack is written: bundles of pieces that are held, slabs of longer ones.

``begin`` reads and lets hash, ``settle`` decides by the ids and lets encode, ``finish`` writes (``pipeline.Job``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from assay.errors import IntegrityError
from assay.packing import kin
from assay.packing.bases import Base, Candidate, Origin, choose
from assay.packing.codec import BLOCK
from assay.packing.cutting import Piece
from assay.packing.directory import Hint
from assay.packing.encoding import SLACK, encode_blocks
from assay.packing.pipeline import Crew
from assay.packing.reading import Decoder
from assay.packing.segments import CHECK, block_digest, segment_id, spans, write_table
from assay.ports.packs import Effort, ToPack
from assay.trees import Source, read_into

Bytes = NDArray[np.uint8]

HELD = 4 << 20
"""Bytes of the longest piece that is held until its id is known."""

SLAB = BLOCK
"""Bytes of a longer one that go through the threads together: they stay in the cache of the worker that hashes them."""

_NOTHING = np.empty(0, np.uint8)
_ROOMS = tuple(size + (64 << 10) for size in (1 << 20, 2 << 20, HELD, 2 * HELD))
"""Sizes of buffers; what is encoded may be somewhat longer than it was."""


@dataclass(slots=True)
class Entry:
    """A blob that is being packed.

    Args:
        wanted: which.
        source: its bytes.
        state: of the digest of what was read so far.
        parts: ids of its segments.
        short: whether the source ended early.
    """

    wanted: ToPack
    source: Source
    state: Any
    parts: list[bytes] = field(default_factory=list)
    short: bool = False

    def read(self, piece: Piece, start: int, into: Bytes) -> None:
        """Read a part of a piece; where the source has ended, nulls."""
        if piece.raw is not None:
            into[:] = piece.raw[start : start + len(into)]
            return
        got = read_into(self.source, piece.offset + start, into.data)
        if got < len(into):
            self.short, into[got:] = True, 0


@dataclass(frozen=True, slots=True)
class Work:
    """What jobs are done with."""

    crew: Crew
    decoder: Decoder
    effort: Effort


@dataclass(frozen=True, slots=True)
class Stored:
    """An encoded segment: where it lies in what is written with it, and what the directory says of it."""

    id: bytes
    piece: Piece
    base: Base | None
    start: int
    size: int
    check: bytes


@dataclass(frozen=True, slots=True)
class Ready:
    """Bytes that are to be written, and the segments that they hold or, of a long one, end."""

    data: memoryview
    segments: Sequence[Stored] = ()


class Office(Protocol):
    """Who decides, and writes; called in the order of the jobs, by one thread."""

    def known(self, segment: bytes) -> bool:
        """Whether a segment need not be written."""
        ...

    def repeated(self, size: int) -> None:
        """So many bytes need not be written."""
        ...

    def expect(self, entry: Entry, piece: Piece, candidate: Candidate) -> None:
        """A segment will be written, and may be a base from now on."""
        ...

    def candidates(self, entry: Entry, piece: Piece, hint: Hint, own: bytes) -> list[Candidate]:
        """What a piece may be stored as the difference to."""
        ...

    def again(self, long: Long) -> None:
        """A long piece that was only hashed is new."""
        ...

    def write(self, ready: Ready) -> None:
        """Write what was encoded."""
        ...

    def advance(self, count: int) -> None:
        """So many raw bytes are done."""
        ...


@dataclass(frozen=True, slots=True)
class _New:
    """A held segment that is to be encoded."""

    id: bytes
    piece: Piece
    raw: Bytes
    digests: Sequence[bytes]
    candidates: Sequence[Candidate]
    depth: Future[int]


class Bundle:
    """Pieces that follow each other in a blob, held until their ids are known."""

    def __init__(self, entry: Entry, work: Work) -> None:
        self.size = 0
        self._entry, self._work = entry, work
        self._pieces: list[Piece] = []
        self._buffer: Bytes | None = None

    def add(self, piece: Piece) -> None:
        """Add the next piece; its bytes are taken now where it has them."""
        self._pieces.append(piece)
        if piece.raw is not None:
            self._grow(self.size + piece.length)
            assert self._buffer is not None
            self._buffer[self.size : self.size + piece.length] = piece.raw
        self.size += piece.length

    def _grow(self, size: int) -> None:
        room = _room(size)
        if self._buffer is None or len(self._buffer) < size:
            before, self._buffer = self._buffer, self._work.crew.take(room)
            if before is not None:
                self._buffer[: self.size] = before[: self.size]
                self._work.crew.give(before)

    def begin(self, office: Office) -> Bundle:
        """Read what was not read yet, and let it be hashed."""
        self._office = office
        self._grow(self.size)
        assert self._buffer is not None
        self._raws, at = [], 0
        for piece in self._pieces:
            raw = self._buffer[at : at + piece.length]
            if piece.raw is None:
                self._entry.read(piece, 0, raw)
            self._raws.append(raw)
            at += piece.length
        self._hashed = self._work.crew.work(_digests, self._raws)
        self._summed = self._work.crew.add_up(self._entry.state.update, self._buffer[:at].data)
        return self

    def settle(self) -> None:
        """Name the segments that are known, let the others be encoded."""
        entry, office, new = self._entry, self._office, []
        for piece, raw, digests in zip(self._pieces, self._raws, self._hashed.result(), strict=True):
            segment = segment_id(digests)
            entry.parts.append(segment)
            if office.known(segment):
                office.repeated(piece.length)
                continue
            hint = Hint("", "") if piece.hint is None else _hint(piece, kin.sample(raw, piece.words))
            found = [] if piece.hint is None else office.candidates(entry, piece, hint, segment)
            depth: Future[int] = Future()
            office.expect(entry, piece, Candidate(segment, hint, depth, Origin(entry.source, piece.offset, digests)))
            new.append(_New(segment, _lean(piece), raw, digests, found, depth))
        self._pieces, self._raws = [], []
        wanted = sum(len(one.raw) + (SLACK + 64) * len(one.digests) for one in new)
        self._out = None if not new else self._work.crew.take(_room(wanted))
        self._encoded = None if self._out is None else self._work.crew.work(_encode, self._work, new, self._out)

    def finish(self) -> None:
        """Write."""
        if self._encoded is not None and self._out is not None:
            self._office.write(self._encoded.result())
            self._work.crew.give(self._out)
        self._summed.result()
        assert self._buffer is not None
        self._work.crew.give(self._buffer)
        self._office.advance(self.size)


@dataclass(slots=True)
class Long:
    """A piece that is too long to be held.

    Args:
        entry: the blob that it is part of.
        piece: where.
        hint: with a sample.
    """

    entry: Entry
    piece: Piece
    hint: Hint
    encodes: bool = False
    base: Base | None = None
    alone: float = 1.0
    digests: list[bytes] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    stored: int = 0
    check: Any = field(default_factory=blake3)
    id: bytes = b""

    @classmethod
    def of(cls, entry: Entry, piece: Piece) -> Long:
        """Take a sample of it."""
        sampled = kin.sample_of(entry.source, piece.offset, piece.length, piece.words)
        return cls(entry, piece, _hint(piece, sampled))

    def hash_only(self) -> None:
        """It is likely to be known: look at it before it is encoded."""
        self.encodes = False

    def prepare(self, work: Work, candidates: Sequence[Candidate]) -> None:
        """It is encoded when it is read next."""
        piece = self.piece
        raw = kin.slices(self.entry.source, piece.offset, piece.length, piece.words) if candidates else _NOTHING
        self.base, self.alone = choose(piece, raw, candidates, work.decoder)
        self.encodes = True

    def slabs(self, work: Work) -> Iterator[Slab]:
        """All of it, in order."""
        for start in range(0, self.piece.length, SLAB):
            yield Slab(self, work, start, min(SLAB, self.piece.length - start))

    def candidate(self) -> Candidate:
        """It, as a base of others."""
        depth: Future[int] = Future()
        depth.set_result(0 if self.base is None else self.base.depth + 1)
        return Candidate(self.id, self.hint, depth, Origin(self.entry.source, self.piece.offset, self.digests))


class Slab:
    """A run of whole blocks of a long piece."""

    def __init__(self, long: Long, work: Work, start: int, size: int) -> None:
        self.size = size
        self._long, self._work, self._start = long, work, start
        self._repeated, self._encodes = bool(long.id), long.encodes

    def begin(self, office: Office) -> Slab:
        """Read it, let it be hashed, and encoded where that is decided."""
        self._office, crew, long = office, self._work.crew, self._long
        self._buffer = crew.take(_room(self.size))
        self._out = crew.take(_room(self.size + SLAB // BLOCK * SLACK)) if self._encodes else None
        raw = self._buffer[: self.size]
        long.entry.read(long.piece, self._start, raw)
        self._done = crew.work(_slab, long, raw, self._start // BLOCK, self._out, self._work.effort)
        self._summed = None if self._repeated else crew.add_up(long.entry.state.update, raw.data)
        return self

    @property
    def _last(self) -> bool:
        return self._start + self.size == self._long.piece.length

    def settle(self) -> None:
        """At the end, decide whether the piece is known."""
        digests, _ = self._done.result()
        long, first = self._long, self._start // BLOCK
        if self._repeated:
            if digests != long.digests[first : first + len(digests)]:
                raise IntegrityError("a blob changed while it was being packed")
            return
        long.digests += digests
        if not self._last:
            return
        long.id = segment_id(long.digests)
        long.entry.parts.append(long.id)
        if self._encodes:
            self._office.expect(long.entry, long.piece, long.candidate())
        elif self._office.known(long.id):
            self._office.repeated(long.piece.length)
        else:
            self._office.again(long)

    def finish(self) -> None:
        """Write it."""
        long = self._long
        if self._out is not None:
            _, lengths = self._done.result()
            self._write(self._out[: sum(lengths)], lengths)
            self._work.crew.give(self._out)
        if self._summed is not None:
            self._summed.result()
            self._office.advance(self.size)
        self._work.crew.give(self._buffer)
        if self._last and self._encodes:
            table = write_table(list(zip(long.digests, long.lengths, strict=True)))
            long.check.update(table)
            size = long.stored + len(table)
            stored = Stored(long.id, long.piece, long.base, -long.stored, size, long.check.digest()[:CHECK])
            self._office.write(Ready(memoryview(table), [stored]))

    def _write(self, data: Bytes, lengths: Sequence[int]) -> None:
        long = self._long
        long.check.update(data.data)
        long.lengths += lengths
        long.stored += len(data)
        self._office.write(Ready(data.data))


def _digests(raws: Sequence[Bytes]) -> list[list[bytes]]:
    return [[block_digest(raw[start:stop]) for start, stop in spans(len(raw))] for raw in raws]


def _slab(long: Long, raw: Bytes, first: int, out: Bytes | None, effort: Effort) -> tuple[list[bytes], list[int]]:
    [digests] = _digests([raw])
    if out is None:
        return digests, []
    words, base, alone = long.piece.words, long.base, long.alone
    return digests, encode_blocks(raw, words, out, effort, base=base, alone=alone, first=first)


def _encode(work: Work, new: Sequence[_New], out: Bytes) -> Ready:
    found, at = [], 0
    try:
        for one in new:
            raw = kin.picked(one.raw, one.piece.words) if one.candidates else _NOTHING
            base, alone = choose(one.piece, raw, one.candidates, work.decoder)
            one.depth.set_result(0 if base is None else base.depth + 1)
            lengths = encode_blocks(one.raw, one.piece.words, out[at:], work.effort, base=base, alone=alone)
            table = write_table(list(zip(one.digests, lengths, strict=True)))
            size = sum(lengths) + len(table)
            out[at + size - len(table) : at + size] = np.frombuffer(table, np.uint8)
            check = blake3(out[at : at + size].data).digest()[:CHECK]
            found.append(Stored(one.id, one.piece, base, at, size, check))
            at += size
    finally:
        for one in new:
            if not one.depth.done():
                one.depth.cancel()  # nobody waits for what does not come
    return Ready(out[:at].data, found)


def _hint(piece: Piece, sampled: bytes) -> Hint:
    assert piece.hint is not None
    return Hint(piece.hint.name, piece.hint.dtype, sampled)


def _lean(piece: Piece) -> Piece:
    return piece if piece.raw is None else Piece(piece.offset, piece.length, piece.words, piece.hint)


def _room(size: int) -> int:
    return next(room for room in _ROOMS if size <= room)
