"""Packs made in memory: by the writer, and by hand, with whatever the writer would not do."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import zstandard
from blake3 import blake3

from assay.packing import codec, directory
from assay.packing.codec import Words
from assay.packing.directory import Directory, Hint, PackedBlob
from assay.packing.segments import CHECK, Segment, block_digest, segment_id, spans, write_table
from assay.packing.writing import Written, write_pack
from assay.ports.packs import Effort, Stretch, ToPack
from assay.spec.digest import Digest
from assay.trees import Source
from assay.trees.window import MemorySource

__all__ = ["Hand", "Pack", "Written", "by_hand", "id_of", "repacked", "written"]


@dataclass(frozen=True)
class Pack:
    """A pack in memory: its bytes, its directory as JSON, and what its writer said."""

    data: bytes
    written: Any = None
    depths: dict[bytes, int] = field(default_factory=dict)
    raws: tuple[bytes, ...] = ()

    @property
    def directory(self) -> Any:
        """The directory as JSON."""
        offset, length, _ = directory.read_footer(self.data[-64:], len(self.data))
        return json.loads(zstandard.ZstdDecompressor().decompress(self.data[offset : offset + length]))


@dataclass(frozen=True)
class Hand:
    """A segment, and a blob that is just that: *base* is the position of another one (of *others* too)."""

    raw: bytes
    words: Words
    base: int | None = None
    ordered: bool = False


class NoStock:
    """A stock of a writer that has no other packs."""

    def find(self, segment: bytes) -> tuple[Segment, Source] | None:
        """Nothing."""
        return None

    def alike(self, size: int, words: Words, hint: Hint, near: Sequence[Digest]) -> Sequence[tuple[bytes, Hint, int]]:
        """Nothing."""
        return ()


def written(blobs: Sequence[tuple[bytes, Sequence[Stretch]]], *, effort: Effort = Effort.DEFAULT) -> Pack:
    """A pack as the writer makes it, each blob near to those before it."""
    file, wanted, near = io.BytesIO(), [], []
    for blob, tensors in blobs:
        wanted.append((ToPack(Digest.of(blob), tensors, tuple(near)), MemorySource(blob)))
        near.append(Digest.of(blob))
    done = write_pack(file, wanted, NoStock(), effort=effort)
    return Pack(file.getvalue(), done)


def id_of(raw: bytes) -> bytes:
    """The id of a segment."""
    lanes = np.frombuffer(raw, np.uint8)
    return segment_id([block_digest(lanes[start:stop]) for start, stop in spans(len(raw))])


def by_hand(
    hands: Sequence[Hand],
    *,
    blobs: Sequence[Sequence[bytes]] = (),
    others: Pack | None = None,
    known: Sequence[bytes] = (),
) -> Pack:
    """A pack of segments as they are told, with more *blobs* made of segments by their bytes.

    Args:
        hands: the segments; positions of bases go on from those of *others*.
        blobs: each a list of segments' bytes.
        others: a pack made so before, whose segments may be bases.
        known: segments in other packs, by their bytes.
    """
    raws = [*(others.raws if others else ()), *(hand.raw for hand in hands)]
    first = len(raws) - len(hands)
    depths, segments, body = dict(others.depths if others else {}), [], bytearray(directory.MAGIC)
    for hand in hands:
        base = None if hand.base is None else raws[hand.base]
        stored = _stored(hand, base)
        own = id_of(hand.raw)
        depths[own] = 0 if base is None else depths[id_of(base)] + 1
        check = blake3(stored).digest()[:CHECK]
        segments.append(
            Segment(
                own,
                len(hand.raw),
                hand.words,
                None if base is None else id_of(base),
                depths[own],
                len(body),
                len(stored),
                check,
            )
        )
        body += stored
    wholes = [[raw] for raw in raws[first:]] + [list(parts) for parts in blobs]
    packed = tuple(
        PackedBlob(Digest.of(b"".join(parts)), sum(map(len, parts)), tuple(id_of(part) for part in parts))
        for parts in wholes
    )
    listed = directory.encode(Directory(tuple(segments), packed, {}))
    data = bytes(body) + listed + directory.footer(len(body), listed)
    return Pack(data, depths=depths, raws=(*raws, *known))


def repacked(pack: Pack, changed: Any) -> bytes:
    """The bytes of a pack with another directory, digest and footer made to fit."""
    offset, _, _ = directory.read_footer(pack.data[-64:], len(pack.data))
    listed = zstandard.ZstdCompressor().compress(
        changed if isinstance(changed, bytes) else json.dumps(changed).encode()
    )
    return pack.data[:offset] + listed + directory.footer(offset, listed)


def _stored(hand: Hand, base: bytes | None) -> bytes:
    raw, table, stored = np.frombuffer(hand.raw, np.uint8), [], b""
    other = None if base is None else np.frombuffer(base, np.uint8)
    for start, stop in spans(len(raw)):
        part = None if other is None else other[start:stop]
        block = b"".join(
            bytes(one) for one in codec.encode(raw[start:stop], hand.words, base=part, ordered=hand.ordered)
        )
        table.append((block_digest(raw[start:stop]), len(block)))
        stored += block
    return stored + write_table(table)
