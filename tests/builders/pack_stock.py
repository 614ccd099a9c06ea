"""Packs in memory that are each other's stock, and what is read back from them."""

from __future__ import annotations

import io
from collections.abc import Sequence

from assay.packing import directory
from assay.packing.codec import Words
from assay.packing.directory import Directory, Hint
from assay.packing.reading import Decoder, PackedSource
from assay.packing.segments import Segment
from assay.packing.writing import Written, write_pack
from assay.ports.packs import Effort, Stretch, ToPack
from assay.spec.digest import Digest
from assay.trees import Source
from assay.trees.window import MemorySource


class Packs:
    """A stock that grows by every call of ``pack``; any tensor of the same length and words is said to be alike."""

    def __init__(self) -> None:
        self.segments: dict[bytes, tuple[Segment, Source]] = {}
        self.hints: dict[bytes, Hint] = {}
        self.parts: dict[Digest, Sequence[bytes]] = {}
        self.files: list[bytes] = []
        self.asked: list[tuple[Hint, Sequence[Digest]]] = []

    def find(self, segment: bytes) -> tuple[Segment, Source] | None:
        """See ``Shelf``."""
        return self.segments.get(segment)

    def alike(self, size: int, words: Words, hint: Hint, near: Sequence[Digest]) -> Sequence[tuple[bytes, Hint, int]]:
        """See ``Stock``."""
        self.asked.append((hint, near))
        found = [segment for segment, _ in self.segments.values() if (segment.size, segment.words) == (size, words)]
        return [(one.id, self.hints[one.id], one.depth) for one in found if one.id in self.hints]

    def pack(
        self,
        *blobs: tuple[bytes, Sequence[Stretch]],
        near: Sequence[Digest] = (),
        effort: Effort = Effort.DEFAULT,
        limit: int = 1 << 30,
    ) -> Written:
        """Pack blobs together, each near to those before it, and add the pack."""
        wanted, before = [], list(near)
        for blob, tensors in blobs:
            wanted.append((ToPack(Digest.of(blob), tensors, tuple(before)), MemorySource(blob)))
            before.append(Digest.of(blob))
        file = io.BytesIO()
        written = write_pack(file, wanted, self, effort=effort, limit=limit)
        self.add(file.getvalue())
        return written

    def add(self, data: bytes) -> Directory:
        """Add a pack as it was written."""
        offset, length, digest = directory.read_footer(data[-64:], len(data))
        found = directory.decode(data[offset : offset + length], digest)
        self.files.append(data)
        self.hints.update(found.hints)
        for segment in found.segments:
            self.segments.setdefault(segment.id, (segment, MemorySource(data)))
        for blob in found.blobs:
            self.parts[blob.digest] = blob.parts
        return found

    def source(self, digest: Digest) -> PackedSource:
        """A blob's bytes."""
        parts = [(part, self.segments[part][0].size) for part in self.parts[digest]]
        return PackedSource(Decoder(self), parts)

    def read(self, digest: Digest) -> bytes:
        """A blob."""
        source = self.source(digest)
        return source.read(0, source.size)

    @property
    def size(self) -> int:
        """Bytes of all packs."""
        return sum(map(len, self.files))
