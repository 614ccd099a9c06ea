"""Writing a pack: blobs are cut, known segments named, new ones encoded, everything compared before it counts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import IO, Protocol

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from assay.errors import IntegrityError
from assay.packing import codec, directory, kin
from assay.packing.codec import Words
from assay.packing.cutting import Piece, cut
from assay.packing.directory import Directory, Hint, PackedBlob
from assay.packing.reading import Shelf
from assay.packing.segments import CHECK, Segment, block_digest, segment_id, spans, write_table
from assay.ports.packs import Effort, ToPack
from assay.ports.progress import SILENT, Progress
from assay.spec.digest import Digest
from assay.trees import Source, read_into

Bytes = NDArray[np.uint8]


class Stock(Shelf, Protocol):
    """Segments that are there already, and may be bases."""

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
class Written:
    """What a pack got.

    Args:
        directory: what it holds.
        name: the directory's digest (32 bytes), by which the pack is called.
        size: bytes of the file.
        damaged: blobs that did not match their digest; the directory does not name them.
        same: bytes of segments that were there already, here or in other packs.
        differing: bytes of segments stored as differences.
    """

    directory: Directory
    name: bytes
    size: int
    damaged: tuple[Digest, ...]
    same: int
    differing: int


def write_pack(
    file: IO[bytes],
    blobs: Sequence[tuple[ToPack, Source]],
    stock: Stock,
    *,
    effort: Effort = Effort.DEFAULT,
    progress: Progress = SILENT,
) -> Written:
    """Write blobs into a new pack file, from its first byte; the caller makes it durable and visible.

    Every block that was encoded is decoded again and compared. A blob whose bytes do not match its digest is left out
    of the directory.

    Args:
        file: empty, writable and readable (a later tensor may be the difference to one that was just written).
        blobs: which, each with its bytes.
        stock: what other packs hold.
        effort: how hard to try.
        progress: hears of raw bytes.
    """
    return _Writer(file, stock, effort, progress).run(blobs)


class _Writer:
    def __init__(self, file: IO[bytes], stock: Stock, effort: Effort, progress: Progress) -> None:
        self._file, self._stock, self._effort, self._progress = file, stock, effort, progress
        self._segments: dict[bytes, Segment] = {}
        self._hints: dict[bytes, Hint] = {}
        self._same = self._differing = 0

    def run(self, blobs: Sequence[tuple[ToPack, Source]]) -> Written:
        self._at = self._file.write(directory.MAGIC)
        whole: list[tuple[ToPack, PackedBlob]] = []
        damaged: list[tuple[ToPack, PackedBlob]] = []
        for wanted, source in blobs:
            packed = self._blob(wanted, source)
            (whole if packed.digest == wanted.digest else damaged).append((wanted, packed))
        held = Directory(tuple(self._segments.values()), tuple(blob for _, blob in whole), self._hints)
        stored = directory.encode(held)
        end = self._file.write(stored) + self._file.write(directory.footer(self._at, stored))
        return Written(
            held,
            blake3(stored).digest(),
            self._at + end,
            tuple(wanted.digest for wanted, _ in damaged),
            self._same,
            self._differing,
        )

    def _blob(self, wanted: ToPack, source: Source) -> PackedBlob:
        parts, state = [], hashlib.new(wanted.digest.algorithm)
        for piece in cut(source.size, wanted.tensors):
            raw = np.empty(piece.length, np.uint8)
            read_into(source, piece.offset, raw.data)
            state.update(raw.data)
            parts.append(self._piece(piece, raw))
            self._progress.advance(piece.length)
        return PackedBlob(Digest(wanted.digest.algorithm, state.hexdigest()), source.size, tuple(parts))

    def _piece(self, piece: Piece, raw: Bytes) -> bytes:
        digests = [block_digest(raw[start:stop]) for start, stop in spans(len(raw))]
        found = segment_id(digests)
        if found in self._segments or self._stock.find(found) is not None:
            self._same += len(raw)
            return found
        table, check, stored = [], blake3(), 0
        for digest, (start, stop) in zip(digests, spans(len(raw)), strict=True):
            block = b"".join(bytes(part) for part in codec.encode(raw[start:stop], piece.words))
            again = np.empty(stop - start, np.uint8)
            codec.decode(memoryview(block), piece.words, again)
            if not np.array_equal(again, raw[start:stop]):
                raise IntegrityError("a block does not decode to what was encoded: this is a defect of the codec")
            table.append((digest, len(block)))
            check.update(block)
            stored += self._file.write(block)
        last = write_table(table)
        check.update(last)
        stored += self._file.write(last)
        self._segments[found] = Segment(found, len(raw), piece.words, None, 0, self._at, stored, check.digest()[:CHECK])
        if piece.hint is not None:
            self._hints[found] = replace(piece.hint, sample=kin.sample(raw, piece.words))
        self._at += stored
        return found
