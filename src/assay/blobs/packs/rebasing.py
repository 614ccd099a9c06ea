"""Storing a segment otherwise, because its base goes: against what is left, or plain."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from assay.errors import IntegrityError
from assay.packing import codec
from assay.packing.codec import BLOCK, Words
from assay.packing.reading import Decoder, PackedSource, Shelf
from assay.packing.segments import Segment, block_digest, spans, write_table

Bytes = NDArray[np.uint8]
_WORTH = 0.95
"""What a difference may need of a plain encoding at most: decoding it costs twice as much."""


class Rebaser:
    """Encodes segments anew; a block at a time, so that memory does not grow with them.

    Args:
        shelf: finds segments as they are stored now.
        gone: ids of segments that cannot be bases.
    """

    def __init__(self, shelf: Shelf, gone: Container[bytes]) -> None:
        self._shelf, self._gone = shelf, gone
        self._written: dict[tuple[bytes | None, int, Words], list[Segment]] = {}

    def encode(self, segment: Segment) -> tuple[Segment | None, Iterator[bytes]]:
        """The new base, and what is stored of the segment, in pieces.

        Raises:
            AssayError: from the pieces: it cannot be decoded any more.
        """
        raw = self._source(segment)
        plain = self._cost(segment, raw, None)
        best: Segment | None = None
        for base in self._candidates(segment):
            cost = self._cost(segment, raw, self._source(base))
            if cost < plain * _WORTH:
                best, plain = base, cost
        return best, self._pieces(segment, raw, None if best is None else self._source(best))

    def wrote(self, before: Segment, after: Segment) -> None:
        """A segment was written anew: others that had its base may be differences to it."""
        if after.depth == 0:
            self._written.setdefault((before.base, after.size, after.words), []).append(after)

    def _candidates(self, segment: Segment) -> Sequence[Segment]:
        """The nearest of its own bases that stays, and those that shared the one that goes; none deeper than that."""
        found = list(self._written.get((segment.base, segment.size, segment.words), ())[-2:])
        above, depth = segment.base, segment.depth
        while above is not None and depth:
            held = self._shelf.find(above)
            if held is None:
                break
            if above not in self._gone:
                found.append(held[0])
                break
            above, depth = held[0].base, depth - 1
        return [base for base in found if base.depth < segment.depth]

    def _source(self, segment: Segment) -> PackedSource:
        return PackedSource(Decoder(self._shelf), [(segment.id, segment.size)])

    def _cost(self, segment: Segment, raw: PackedSource, base: PackedSource | None) -> int:
        """Bytes that the first block and one in the middle take."""
        starts = {0, segment.blocks // 2 * BLOCK} if segment.blocks > 1 else {0}
        return sum(len(self._block(segment, start, raw, base)[1]) for start in starts)

    def _block(self, segment: Segment, start: int, raw: PackedSource, base: PackedSource | None) -> tuple[bytes, bytes]:
        """Digest and encoding of the block that begins at *start*."""
        length = min(BLOCK, segment.size - start)
        data = np.frombuffer(raw.read(start, length), np.uint8)
        under = None if base is None else np.frombuffer(base.read(start, length), np.uint8)
        stored = b"".join(bytes(part) for part in codec.encode(data, segment.words, base=under))
        if not codec.matches(memoryview(stored), segment.words, data, base=under):
            raise IntegrityError("a block does not decode to what was encoded: this is a defect of the codec")
        return block_digest(data), stored

    def _pieces(self, segment: Segment, raw: PackedSource, base: PackedSource | None) -> Iterator[bytes]:
        table = []
        for start, _ in spans(segment.size):
            digest, stored = self._block(segment, start, raw, base)
            table.append((digest, len(stored)))
            yield stored
        yield write_table(table)
