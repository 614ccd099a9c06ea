"""A pack file: segments, then a directory of them and of the blobs that they make up, then a footer.

    8 bytes     magic "ASSAYPK", format version
    segments    one after the other
    directory   a zstd frame of a JSON document
    footer      64 bytes: offset and length of the directory (u64, little-endian), its BLAKE3 digest (32 bytes), eight
                zero bytes, the magic again

A pack's name is its directory's digest: the directory holds a checksum of every segment. Files are written once, and
never changed. What other packs hold is named by its id. Whatever a directory says that cannot be is refused here: what
was read adds up, within this pack.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import zstandard
from blake3 import blake3

from assay.errors import BadFormat, IntegrityError, InvalidInput, LimitExceeded
from assay.packing.codec import Words
from assay.packing.segments import CHECK, Segment, table_size
from assay.spec.digest import Digest
from assay.spec.json import canonical

FORMAT = 1
MAGIC = b"ASSAYPK" + bytes([FORMAT])
FOOTER = struct.Struct("<QQ32s8x8s")
MAX_DIRECTORY = 256 << 20
"""Bytes of a directory, as JSON, that are written and read."""
FREE_TEXT, MORE_TEXT = 4 << 20, 64
"""Bytes of a directory, as JSON, that are read whatever is stored of it, and for each stored byte."""
FREE_VALUES, MORE_VALUES = 500_000, 8
"""Likewise its values, counted from its punctuation before anything is made of them."""
MAX_BYTES = 1 << 48
"""Bytes of a blob, or of a segment."""
MAX_BASES = 8
"""Bases of bases that a segment may have."""
MAX_SAMPLE = 4 << 10
"""Bytes of a tensor's sample."""
_PLANE_HEAD = 5


@dataclass(frozen=True, slots=True)
class Hint:
    """What helps to find a base for a later tensor.

    Formats of others allow names that are no text (lone surrogates); here these are escaped, so that a directory and an
    index can hold them.

    Args:
        name: the tensor's name.
        dtype: of its elements.
        sample: some of its words (``assay.packing.kin``); empty where it is too small.
    """

    name: str
    dtype: str
    sample: bytes = b""

    def __post_init__(self) -> None:
        for part in ("name", "dtype"):
            object.__setattr__(self, part, _storable(getattr(self, part)))


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
    """The directory as it is stored.

    One that says the same again and again is stored in fewer bytes than readers believe it; it is filled up.

    Raises:
        LimitExceeded: it is larger than a reader accepts; the pack must hold less.
    """
    body = _body(directory)
    text = canonical(body)
    stored = _compressed(text)
    lacking = _lacking(text, len(stored))
    if lacking:
        body["filling"] = base64.b64encode(blake3(text).digest(length=lacking)).decode()
        stored = _compressed(canonical(body))
    return stored


def _body(directory: Directory) -> dict[str, Any]:
    places = {segment.id: number for number, segment in enumerate(directory.segments)}
    return {
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


def _compressed(text: bytes) -> bytes:
    if len(text) > MAX_DIRECTORY:
        raise LimitExceeded(
            f"the directory of a pack would have {len(text):,} bytes, at most {MAX_DIRECTORY:,} are read"
        )
    return zstandard.ZstdCompressor(level=3).compress(text)


def _lacking(text: bytes, stored: int) -> int:
    """Bytes to store beside a text, as base64 in it, before readers take so large a one; 0 where they do."""
    wanted = max(-(-(len(text) - FREE_TEXT) // MORE_TEXT), -(-(_values(text) - FREE_VALUES) // MORE_VALUES))
    return 0 if wanted <= stored else wanted + wanted // 16 + 64  # these are part of the text themselves


def _values(text: bytes) -> int:
    """At least as many values as a JSON text has, but for one."""
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def fitted(segments: Iterable[Segment]) -> tuple[Segment, ...]:
    """Segments that come from several packs, each deeper than its base: that may be held otherwise than it was then.

    Raises:
        BadFormat: one would have more than ``MAX_BASES``.
    """
    found = {segment.id: segment for segment in segments}
    for _ in range(MAX_BASES + 1):
        low = [
            replace(one, depth=found[one.base].depth + 1)
            for one in found.values()
            if one.base in found and found[one.base].depth >= one.depth
        ]
        if not low:
            return tuple(found.values())
        if max(one.depth for one in low) > MAX_BASES:
            break
        found.update({one.id: one for one in low})
    raise BadFormat(f"segments of a pack have more than {MAX_BASES} bases, one behind the other")


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
    if offset < len(MAGIC) or offset + length + FOOTER.size != size or any(data[-16:-8]):
        raise BadFormat(f"a pack of {size} bytes says that its directory lies at {offset}, {length} bytes long")
    return offset, length, digest


def decode(stored: bytes, digest: bytes, *, end: int | None = None) -> Directory:
    """Read a directory.

    Args:
        stored: its bytes in the pack.
        digest: as the footer or the pack's name has it.
        end: where it begins in the pack, which is where the segments end; not compared when None.

    Raises:
        IntegrityError: the bytes do not match.
        BadFormat: it is damaged in another way, or contradicts itself.
    """
    if blake3(stored).digest() != digest:
        raise IntegrityError("the directory of a pack does not match its digest")
    try:
        found = _directory(json.loads(_decompressed(stored)))
    except (zstandard.ZstdError, ValueError, KeyError, TypeError, RecursionError, InvalidInput) as error:
        raise BadFormat(f"the directory of a pack cannot be read: {error!s:.200}") from error
    last = found.segments[-1] if found.segments else None
    at = len(MAGIC) if last is None else last.offset + last.stored
    if end is not None and at != end:
        raise BadFormat(f"the segments of a pack end at {at}, its directory begins at {end}")
    return found


def _decompressed(stored: bytes) -> bytes:
    """The text of a directory, which is not much more than what is stored of it, nor are its values."""
    most = min(MAX_DIRECTORY, FREE_TEXT + MORE_TEXT * len(stored))
    if not 0 <= zstandard.frame_content_size(stored) <= most:
        raise BadFormat("the directory of a pack is too large, or does not say how large it is")
    text = zstandard.ZstdDecompressor().decompress(stored, allow_extra_data=False)
    if _values(text) > FREE_VALUES + MORE_VALUES * len(stored):
        raise BadFormat(f"the directory of a pack has {len(stored):,} bytes, and too many values for those")
    return text


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
    segments: dict[bytes, Segment] = {}
    hints, at = {}, len(MAGIC)
    for one in body["segments"]:
        found = _read_segment(one, at)
        _check_segment(found)
        if segments.setdefault(found.id, found) is not found:
            raise ValueError(f"segment {found.id.hex()[:12]} is listed twice")
        at += found.stored
        if "name" in one:
            hints[found.id] = _hint(one)
    for found in segments.values():
        if found.base in segments:
            _check_base(found, segments[found.base])
    blobs: dict[Digest, PackedBlob] = {}
    places = tuple(segments.values())
    for one in body["blobs"]:
        blob = _blob(one, places)
        _check_blob(blob, segments)
        if blobs.setdefault(blob.digest, blob) is not blob:
            raise ValueError(f"blob {blob.digest.short} is listed twice")
    return Directory(places, tuple(blobs.values()), hints)


def _read_segment(one: dict[str, Any], at: int) -> Segment:
    words = Words(_number(one["width"], 1, 8), rotate=_flag(one, "rotate"), text=_flag(one, "text"))
    return Segment(
        id=_bytes(one["id"], 32),
        size=_number(one["size"], 1, MAX_BYTES),
        words=words,
        base=_bytes(one["base"], 32) if "base" in one else None,
        depth=_number(one.get("depth", 0), 0, MAX_BASES),
        offset=at,
        stored=_number(one["stored"], 1, 2 * MAX_BYTES),
        check=_bytes(one["check"], CHECK),
    )


def _check_segment(segment: Segment) -> None:
    """Refuse what no encoder writes.

    What is stored of a block is at least one byte of each plane, and at most the bytes themselves: a few bytes cannot
    stand for terabytes, and a table of blocks cannot be larger than what is there.
    """
    width, called = segment.words.width, f"segment {segment.id.hex()[:12]}"
    if width not in (1, 2, 4, 8) or segment.size % width or (width == 1 and segment.words.rotate):
        raise ValueError(f"{called} has {segment.size} bytes in words of {width}")
    if (segment.base is None) is not (segment.depth == 0):
        raise ValueError(f"{called} has depth {segment.depth}, and {'no' if segment.base is None else 'a'} base")
    heads = table_size(segment.size) + segment.blocks * (1 + width * _PLANE_HEAD)
    if not heads + segment.blocks * width <= segment.stored <= heads + segment.size:
        raise ValueError(f"{called} has {segment.size} bytes, of which {segment.stored} are stored")


def _check_base(segment: Segment, base: Segment) -> None:
    """Refuse a base of another size, and one that is not less deep: nothing is, however far, its own base."""
    if base.size != segment.size or base.depth >= segment.depth:
        raise ValueError(
            f"segment {segment.id.hex()[:12]} has {segment.size} bytes at depth {segment.depth}, "
            f"its base {base.size} at depth {base.depth}"
        )


def _hint(one: dict[str, Any]) -> Hint:
    name, dtype, sample = one["name"], one["dtype"], one.get("sample", "")
    if not (isinstance(name, str) and isinstance(dtype, str) and isinstance(sample, str)):
        raise TypeError("name, dtype and sample of a tensor are texts")
    found = base64.b64decode(sample, validate=True)
    if len(found) > MAX_SAMPLE:
        raise ValueError(f"a sample has {len(found)} bytes, at most {MAX_SAMPLE} are read")
    if _storable(name) != name or _storable(dtype) != dtype:
        raise ValueError("name or dtype of a tensor are no text in UTF-8")
    return Hint(name, dtype, found)


def _storable(text: str) -> str:
    r"""A text without lone surrogates, which neither JSON in UTF-8 nor an index can hold.

    >>> _storable("a\udcffb")
    'a\\udcffb'
    """
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _blob(body: dict[str, Any], segments: Sequence[Segment]) -> PackedBlob:
    parts = tuple(
        _bytes(part, 32) if isinstance(part, str) else segments[_number(part, 0, len(segments) - 1)].id
        for part in body["parts"]
    )
    return PackedBlob(Digest.parse(str(body["digest"])), _number(body["size"], 0, MAX_BYTES), parts)


def _check_blob(blob: PackedBlob, segments: Mapping[bytes, Segment]) -> None:
    """Refuse parts that do not add up; what other packs hold is at least one byte each."""
    here = [segments[part].size for part in blob.parts if part in segments]
    others = len(blob.parts) - len(here)
    if sum(here) + others > blob.size or (not others and sum(here) != blob.size):
        raise ValueError(f"blob {blob.digest.short} has {blob.size} bytes, its parts {sum(here)}")


def _number(value: Any, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"expected a number from {least} to {most}, found {value!r:.80}")
    return value


def _flag(one: dict[str, Any], name: str) -> bool:
    value = one.get(name, False)
    if type(value) is not bool:
        raise TypeError(f"{name} is true or false, not {value!r:.80}")
    return value


def _bytes(text: Any, length: int) -> bytes:
    if not isinstance(text, str) or len(text) != 2 * length or text != text.lower():
        raise ValueError(f"expected {length} bytes in hexadecimal, found {text!r:.80}")
    return binascii.unhexlify(text)
