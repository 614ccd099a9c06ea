"""Segments: runs of bytes that are stored once, wherever they occur.

A segment's id is the BLAKE3 digest of the BLAKE3 digests of its blocks, one after the other: every byte is hashed once,
blocks by any thread in any order, and each block can be checked alone.

    blocks        one after the other (``codec``)
    block table   only where there are several: per block its digest (32 bytes) and stored length (u32, little-endian)
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from assay.errors import BadFormat, IntegrityError
from assay.packing.codec import BLOCK, PLANE_HEAD, Words

Bytes = NDArray[np.uint8]
_ROW = struct.Struct("<32sI")
CHECK = 8
"""Bytes of the checksum over what is stored of a segment."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment as a pack lists it.

    Args:
        id: 32 bytes; see above.
        size: bytes of it.
        words: what they are made of.
        base: the id of the segment that it is the difference to; None: it stands alone.
        depth: how many segments must be decoded before it: 0 without a base.
        offset: where it begins in its pack.
        stored: bytes of it there, the block table included.
        check: the first eight bytes of the BLAKE3 digest of those.
    """

    id: bytes
    size: int
    words: Words
    base: bytes | None
    depth: int
    offset: int
    stored: int
    check: bytes

    @property
    def blocks(self) -> int:
        """How many blocks it has."""
        return -(-self.size // BLOCK)


@dataclass(frozen=True, slots=True)
class Block:
    """Where one block is stored, counted from the segment's first byte there, and its digest."""

    offset: int
    length: int
    digest: bytes


def block_digest(raw: Bytes) -> bytes:
    """The digest of one block's bytes."""
    return blake3(raw.data).digest()


def segment_id(digests: Sequence[bytes]) -> bytes:
    """The id of a segment whose blocks have these digests."""
    return blake3(b"".join(digests)).digest()


def spans(size: int) -> Iterator[tuple[int, int]]:
    """First byte and the byte after the last one of each block."""
    return ((start, min(start + BLOCK, size)) for start in range(0, size, BLOCK))


def write_table(blocks: Sequence[tuple[bytes, int]]) -> bytes:
    """The block table: digest and stored length of each block; empty for a single one."""
    return b"".join(_ROW.pack(*block) for block in blocks) if len(blocks) > 1 else b""


def table_size(size: int) -> int:
    """Bytes of the block table of a segment of *size* bytes."""
    count = -(-size // BLOCK)
    return count * _ROW.size if count > 1 else 0


def read_table(segment: Segment, table: bytes) -> list[Block]:
    """Where a segment's blocks are stored.

    Args:
        segment: which.
        table: the last ``table_size`` bytes of what is stored of it.

    Raises:
        BadFormat: the table contradicts itself.
        IntegrityError: the digests do not give the segment's id.
    """
    room = segment.stored - len(table)
    if segment.blocks == 1:
        return [Block(0, room, b"")]  # its digest is known by the id alone
    found, at, most = [], 0, 1 + segment.words.width * PLANE_HEAD + BLOCK
    for digest, length in _ROW.iter_unpack(table):
        if length > most:
            raise BadFormat(f"segment {segment.id.hex()[:12]} of a pack: a block has {length} bytes, at most {most}")
        found.append(Block(at, length, digest))
        at += length
    if at != room or len(found) != segment.blocks:
        raise BadFormat(f"segment {segment.id.hex()[:12]} of a pack: its blocks end at {at} of {room} bytes")
    if segment_id([block.digest for block in found]) != segment.id:
        raise IntegrityError(f"segment {segment.id.hex()[:12]} of a pack: its block table does not give its id")
    return found


def check_block(segment: Segment, block: Block, raw: Bytes) -> None:
    """Compare one decoded block with its digest.

    Args:
        segment: whose.
        block: which.
        raw: its bytes.

    Raises:
        IntegrityError: they are not those that were packed.
    """
    digest = block_digest(raw)
    if digest != block.digest and not (segment.blocks == 1 and segment_id([digest]) == segment.id):
        raise IntegrityError(f"segment {segment.id.hex()[:12]} of a pack: a block does not match its digest")
