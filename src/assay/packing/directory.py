"""A pack file: segments, then a directory of them and of the blobs that they make up, then a footer.

    8 bytes     magic "ASSAYPK", format version
    segments    one after the other
    directory   a zstd frame of a JSON document
    footer      64 bytes: offset and length of the directory (u64, little-endian), its BLAKE3 digest (32 bytes), eight
                zero bytes, the magic again

A pack's name is its directory's digest: the directory holds a checksum of every segment. Files are written once, and
never changed. What other packs hold is named by its id.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import zstandard
from blake3 import blake3

from assay.errors import BadFormat, IntegrityError, InvalidInput
from assay.packing.codec import Words
from assay.packing.segments import CHECK, Segment
from assay.spec.digest import Digest
from assay.spec.json import canonical

FORMAT = 1
MAGIC = b"ASSAYPK" + bytes([FORMAT])
FOOTER = struct.Struct("<QQ32s8x8s")
MAX_DIRECTORY = 1 << 30
"""Bytes of a directory, as JSON, that are read."""


@dataclass(frozen=True, slots=True)
class Hint:
    """What helps to find a base for a later tensor.

    Args:
        name: the tensor's name.
        dtype: of its elements.
        sample: some of its words (``assay.packing.kin``); empty where it is too small.
    """

    name: str
    dtype: str
    sample: bytes = b""


@dataclass(frozen=True, slots=True)
class PackedBlob:
    """A blob as a list of segments.

    Args:
        digest: which.
        size: bytes.
        parts: ids of the segments whose bytes, one after the other, are the blob's.
    """

    digest: Digest
    size: int
    parts: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Directory:
    """What a pack holds.

    Args:
        segments: in the order in which they lie in the file.
        blobs: blobs whose segments lie here or in other packs.
        hints: per segment of a tensor, what helps to find bases.
    """

    segments: tuple[Segment, ...]
    blobs: tuple[PackedBlob, ...]
    hints: dict[bytes, Hint] = field(default_factory=dict)


def encode(directory: Directory) -> bytes:
    """The directory as it is stored."""
    places = {segment.id: number for number, segment in enumerate(directory.segments)}
    body = {
        "segments": [_segment(segment, directory.hints.get(segment.id)) for segment in directory.segments],
        "blobs": [
            {
                "digest": str(blob.digest),
                "size": blob.size,
                "parts": [places.get(part, part.hex()) for part in blob.parts],
            }
            for blob in directory.blobs
        ],
    }
    return zstandard.ZstdCompressor(level=3).compress(canonical(body))


def footer(offset: int, stored: bytes) -> bytes:
    """The footer of a pack whose directory begins at *offset*."""
    return FOOTER.pack(offset, len(stored), blake3(stored).digest(), MAGIC)


def read_footer(data: bytes, size: int) -> tuple[int, int, bytes]:
    """Offset, length and digest of the directory.

    Args:
        data: the last bytes of the pack, at least as many as a footer has.
        size: bytes of the pack.

    Raises:
        BadFormat: it is no pack, or one of another format.
    """
    if len(data) < FOOTER.size or data[-8:-1] != MAGIC[:-1]:
        raise BadFormat("no pack: it does not end as one")
    if data[-1] != FORMAT:
        raise BadFormat(f"a pack of format {data[-1]}, this release reads {FORMAT}", code="pack-too-new")
    offset, length, digest, _ = FOOTER.unpack(data[-FOOTER.size :])
    if offset < len(MAGIC) or offset + length + FOOTER.size != size:
        raise BadFormat(f"a pack of {size} bytes says that its directory lies at {offset}, {length} bytes long")
    return offset, length, digest


def decode(stored: bytes, digest: bytes) -> Directory:
    """Read a directory.

    Args:
        stored: its bytes in the pack.
        digest: as the footer or the pack's name has it.

    Raises:
        IntegrityError: the bytes do not match.
        BadFormat: it is damaged in another way.
    """
    if blake3(stored).digest() != digest:
        raise IntegrityError("the directory of a pack does not match its digest")
    try:
        if not 0 <= zstandard.frame_content_size(stored) <= MAX_DIRECTORY:
            raise BadFormat("the directory of a pack is too large")
        body = json.loads(zstandard.ZstdDecompressor().decompress(stored))
        return _directory(body)
    except (zstandard.ZstdError, ValueError, KeyError, TypeError, IndexError, RecursionError, InvalidInput) as error:
        raise BadFormat(f"the directory of a pack cannot be read: {error!r:.200}") from error


def _segment(segment: Segment, hint: Hint | None) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": segment.id.hex(),
        "size": segment.size,
        "stored": segment.stored,
        "check": segment.check.hex(),
        "width": segment.words.width,
    }
    if segment.words.rotate:
        body["rotate"] = True
    if segment.words.text:
        body["text"] = True
    if segment.base is not None:
        body.update(base=segment.base.hex(), depth=segment.depth)
    if hint is not None:
        body.update(name=hint.name, dtype=hint.dtype)
        if hint.sample:
            body["sample"] = base64.b64encode(hint.sample).decode()
    return body


def _directory(body: dict[str, Any]) -> Directory:
    segments, hints, at = [], {}, len(MAGIC)
    for one in body["segments"]:
        base = _bytes(one["base"], 32) if "base" in one else None
        words = Words(int(one["width"]), rotate=bool(one.get("rotate")), text=bool(one.get("text")))
        size, stored, depth = int(one["size"]), int(one["stored"]), int(one.get("depth", 0))
        if (
            words.width not in (1, 2, 4, 8)
            or size <= 0
            or size % words.width
            or stored <= 0
            or (base is None) is not (depth == 0)
        ):
            raise ValueError(f"segment {one['id']}: width {words.width}, size {size}, stored {stored}, depth {depth}")
        check = _bytes(one["check"], CHECK)
        found = Segment(_bytes(one["id"], 32), size, words, base, depth, at, stored, check)
        segments.append(found)
        at += stored
        if "name" in one:
            hints[found.id] = Hint(str(one["name"]), str(one["dtype"]), base64.b64decode(one.get("sample", "")))
    return Directory(tuple(segments), tuple(_blob(one, segments) for one in body["blobs"]), hints)


def _blob(body: dict[str, Any], segments: Sequence[Segment]) -> PackedBlob:
    parts = tuple(_bytes(part, 32) if isinstance(part, str) else segments[_number(part)].id for part in body["parts"])
    return PackedBlob(Digest.parse(body["digest"]), int(body["size"]), parts)


def _number(part: int) -> int:
    if part < 0:
        raise ValueError(f"a part has number {part}")
    return part


def _bytes(text: str, length: int) -> bytes:
    found = bytes.fromhex(text)
    if len(found) != length:
        raise ValueError(f"expected {length} bytes in hexadecimal, found {text!r:.80}")
    return found
