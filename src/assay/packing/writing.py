"""Writing a pack: blobs are cut, known segments named, new ones encoded, everything compared before it counts.

Every byte is read once, hashed while it is at hand, and encoded only if its segment is known nowhere. Memory stays the
same whatever the blobs' size: segments of up to ``HELD`` bytes are held until their id is known; of longer ones, those
of which a sample says that they are nowhere yet are encoded as they are read, the others are hashed first, and read
again if they are new after all.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import IO

from blake3 import blake3

from assay.packing import directory
from assay.packing.bases import Candidate, Kinship, Stock
from assay.packing.cutting import Piece, cut
from assay.packing.directory import Directory, Hint, PackedBlob
from assay.packing.jobs import HELD, Bundle, Entry, Long, Ready, Work
from assay.packing.output import Output
from assay.packing.pipeline import Crew, Line
from assay.packing.reading import Decoder
from assay.packing.segments import Segment
from assay.ports.packs import Effort, ToPack
from assay.ports.progress import SILENT, Progress
from assay.spec.digest import Digest
from assay.trees import Source

__all__ = ["LIMIT", "Stock", "Written", "write_pack"]

LIMIT = 1 << 30
"""Stored bytes after which a pack takes no further blob."""

BUNDLED = 1 << 20
"""Bytes of small pieces that go through the threads together."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a pack got.

    Args:
        directory: what it holds.
        name: the directory's digest (32 bytes), by which the pack is called.
        size: bytes of the file.
        damaged: blobs that did not match their digest; the directory does not name them. Segments that only they need
            are in the pack all the same, as dead weight: compaction drops them.
        same: bytes of segments that were there already, here or in other packs.
        differing: bytes of segments stored as differences.
        left: blobs that were not begun, because the pack is full: they belong into the next one, in this order.
    """

    directory: Directory
    name: bytes
    size: int
    damaged: tuple[Digest, ...]
    same: int
    differing: int
    left: tuple[Digest, ...] = ()


def write_pack(
    file: IO[bytes],
    blobs: Sequence[tuple[ToPack, Source]],
    stock: Stock,
    *,
    effort: Effort = Effort.DEFAULT,
    progress: Progress = SILENT,
    limit: int = LIMIT,
) -> Written:
    """Write blobs into a new pack file, from its first byte; the caller makes it durable and visible.

    Every block that was encoded is decoded again and compared. A blob whose bytes do not match its digest is left out
    of the directory. Once the pack has *limit* bytes no other blob is begun, and ``Written.left`` names the rest, for
    the caller's next pack: so a pack has at most *limit* bytes and one blob more.

    Whatever goes wrong, the file's content is then worth nothing, and no thread is left running.

    Args:
        file: empty, writable.
        blobs: which, each with its bytes; their sources are read from several threads, and must not change.
        stock: what other packs hold.
        effort: how hard to try.
        progress: hears of raw bytes.
        limit: stored bytes from which on no blob is begun.

    Raises:
        IntegrityError: a blob changed meanwhile, or a block does not decode to what was encoded.
        StorageError: from a source or the stock.
        OSError: from the file.
    """
    with Crew() as crew:
        return _Writer(file, stock, Work(crew, Decoder(stock), effort), progress).run(blobs, limit)


@dataclass(slots=True)
class _Found:
    """What the directory will say."""

    segments: list[Segment] = field(default_factory=list)
    hints: dict[bytes, Hint] = field(default_factory=dict)
    known: set[bytes] = field(default_factory=set)
    same: int = 0
    differing: int = 0


class _Writer:
    """Decides what becomes of jobs (``jobs.Office``)."""

    def __init__(self, file: IO[bytes], stock: Stock, work: Work, progress: Progress) -> None:
        self._output, self._stock, self._work, self._progress = Output(file), stock, work, progress
        self._line, self._kinship, self._found = Line(work.crew.workers), Kinship(stock), _Found()
        self._longs: dict[int, tuple[set[bytes], set[str]]] = {}
        self._again: deque[Long] = deque()

    def run(self, blobs: Sequence[tuple[ToPack, Source]], limit: int) -> Written:
        self._output.write(directory.MAGIC)
        waiting = deque({wanted.digest: (wanted, source) for wanted, source in blobs}.values())
        entries: list[tuple[Entry, Future[str]]] = []
        raw = 0
        while waiting and not (entries and self._full(raw, limit)):
            wanted, source = waiting.popleft()
            entry = Entry(wanted, source, hashlib.new(wanted.digest.algorithm))
            self._blob(entry)
            entries.append((entry, self._work.crew.add_up(entry.state.hexdigest)))
            raw += source.size
        self._drain()
        return self._written(entries, tuple(wanted.digest for wanted, _ in waiting))

    def _full(self, raw: int, limit: int) -> bool:
        if raw < limit:
            return False
        self._drain()
        return self._output.at >= limit

    def _written(self, entries: Sequence[tuple[Entry, Future[str]]], left: tuple[Digest, ...]) -> Written:
        whole, damaged = [], []
        for entry, digest in entries:
            if entry.short or digest.result() != entry.wanted.digest.hex:
                damaged.append(entry.wanted.digest)
            else:
                whole.append(PackedBlob(entry.wanted.digest, entry.source.size, tuple(entry.parts)))
        found = self._found
        held = Directory(tuple(found.segments), tuple(whole), found.hints)
        stored = directory.encode(held)
        end = directory.footer(self._output.at, stored)
        self._output.write(stored)
        self._output.write(end)
        name = blake3(stored).digest()
        return Written(held, name, self._output.at, tuple(damaged), found.same, found.differing, left)

    def _blob(self, entry: Entry) -> None:
        for pieces in _bundled(cut(entry.source, entry.wanted.tensors), entry, self._work):
            if isinstance(pieces, Bundle):
                self._line.put(pieces.begin(self))
            else:
                self._long(entry, pieces)
            self._repeat()

    def _long(self, entry: Entry, piece: Piece) -> None:
        self._line.settle()  # so that what is known by now does not depend on the threads
        self._repeat()
        long = Long.of(entry, piece)
        candidates = self._kinship.candidates(piece, long.hint, entry.wanted.near)
        samples, dtypes = self._longs.setdefault(piece.length, (set(), set()))
        samples.update(one.hint.sample for one in candidates)  # also for later: another pack may lose it meanwhile
        dtypes.update(one.hint.dtype for one in candidates)
        if long.hint.sample in samples or dtypes - {long.hint.dtype}:
            long.hash_only()
        else:
            long.prepare(self._work, candidates)
        samples.add(long.hint.sample)
        dtypes.add(long.hint.dtype)
        for slab in long.slabs(self._work):
            self._line.put(slab.begin(self))

    def _repeat(self) -> None:
        while self._again:
            long = self._again.popleft()
            long.prepare(self._work, self.candidates(long.entry, long.piece, long.hint, long.id))
            self.expect(long.entry, long.piece, long.candidate())
            for slab in long.slabs(self._work):
                self._line.put(slab.begin(self))

    def _drain(self) -> None:
        self._line.drain()
        while self._again:
            self._repeat()
            self._line.drain()

    def known(self, segment: bytes) -> bool:
        """Whether a segment is in this pack, or will be, or in another one."""
        return segment in self._found.known or self._stock.find(segment) is not None

    def repeated(self, size: int) -> None:
        """So many bytes were there already."""
        self._found.same += size

    def expect(self, entry: Entry, piece: Piece, candidate: Candidate) -> None:
        """A segment is going to be written."""
        self._found.known.add(candidate.id)
        if piece.hint is not None:
            self._found.hints[candidate.id] = candidate.hint
            self._kinship.add(piece, candidate, entry.wanted.digest)

    def candidates(self, entry: Entry, piece: Piece, hint: Hint, own: bytes) -> list[Candidate]:
        """What a piece may be stored as the difference to."""
        return self._kinship.candidates(piece, hint, entry.wanted.near, own=own)

    def again(self, long: Long) -> None:
        """A long piece that was only hashed is new after all."""
        self._found.known.add(long.id)
        self._again.append(long)

    def write(self, ready: Ready) -> None:
        """Write what was encoded."""
        at = self._output.at
        for stored in ready.segments:
            base = stored.base
            depth = 0 if base is None else base.depth + 1
            self._found.segments.append(
                Segment(
                    stored.id,
                    stored.piece.length,
                    stored.piece.words,
                    None if base is None else base.id,
                    depth,
                    at + stored.start,
                    stored.size,
                    stored.check,
                )
            )
            if base is not None:
                self._found.differing += stored.piece.length
        self._output.write(ready.data)

    def advance(self, count: int) -> None:
        """So many raw bytes are done."""
        self._progress.advance(count)


def _bundled(pieces: Iterator[Piece], entry: Entry, work: Work) -> Iterator[Bundle | Piece]:
    """Pieces in bundles of about ``BUNDLED`` bytes; those that are not held each alone."""
    bundle = Bundle(entry, work)
    for piece in pieces:
        if bundle.size and bundle.size + piece.length > BUNDLED:
            yield bundle
            bundle = Bundle(entry, work)
        if piece.length > HELD:
            yield piece
        else:
            bundle.add(piece)
    if bundle.size:
        yield bundle
