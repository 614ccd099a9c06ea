"""A reader of packs, written from ``docs/spec/pack.md`` alone; it imports nothing of Assay."""

import hashlib
import json
import struct

import numpy as np
import zstandard
from blake3 import blake3

BLOCK = 1048576
MAGIC = b"ASSAYPK\x01"
LARGEST_DIRECTORY, MOST_BASES = 256 << 20, 8


class Refused(Exception):
    """What lies there is no pack, or a damaged one."""


def check(holds, what):
    if not holds:
        raise Refused(what)


def inflate(frame, most):
    """The content of one zstd frame, once it is known to be small enough."""
    try:
        check(0 <= zstandard.frame_content_size(frame) <= most, "a frame is too large")
        return zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise Refused(f"no frame: {error}") from error


def read_directory(file):
    """Segments and blobs that one pack lists."""
    size = file.seek(0, 2)
    check(size >= len(MAGIC) + 64, "no pack")
    file.seek(size - 64)
    offset, length, digest, zero, magic = struct.unpack("<QQ32s8s8s", file.read(64))
    file.seek(0)
    check(magic == MAGIC and file.read(8) == MAGIC, "no pack, or one of another version")
    check(offset >= 8 and offset + length + 64 == size and zero == bytes(8), "the footer is wrong")
    file.seek(offset)
    stored = file.read(length)
    check(blake3(stored).digest() == digest, "the directory does not match its digest")
    try:
        directory = json.loads(inflate(stored, LARGEST_DIRECTORY))
        return segments_of(directory["segments"], offset), directory["blobs"]
    except (KeyError, TypeError, ValueError) as error:
        raise Refused(f"the directory cannot be read: {error!r}") from error


def segments_of(listed, end):
    """Segments by id, in order, each with where it begins."""
    found, at = {}, 8
    for segment in listed:
        size, stored, width = segment["size"], segment["stored"], segment["width"]
        blocks, depth = -(-size // BLOCK), segment.setdefault("depth", 0)
        heads = blocks * (1 + 5 * width) + (36 * blocks if blocks > 1 else 0)
        check(width in (1, 2, 4, 8) and 0 < size <= 1 << 48 and size % width == 0, "a size")
        check(heads + width * blocks <= stored <= heads + size, "what is stored cannot be so much or little")
        check(0 <= depth <= MOST_BASES and ("base" in segment) == (depth > 0), "a depth")
        check(segment["id"] not in found, "a segment is listed twice")
        found[segment["id"]] = {**segment, "at": at, "blocks": blocks}
        at += stored
    for segment in found.values():
        base = found.get(segment.get("base"), {"size": segment["size"], "depth": -1})
        check(base["size"] == segment["size"] and base["depth"] < segment["depth"], "a base")
    check(at == end, "the segments do not end where the directory begins")
    return found


class Reader:
    """Blobs of several packs that belong together."""

    def __init__(self, *files):
        self.segments, self.blobs = {}, {}
        for file in files:
            segments, blobs = read_directory(file)
            ids = list(segments)
            for segment in segments.values():
                self.segments.setdefault(segment["id"], (file, segment))
            for blob in blobs:
                parts = [part if isinstance(part, str) else ids[part] for part in blob["parts"]]
                self.blobs[blob["digest"]] = (blob["size"], parts)

    def read(self, digest):
        """A whole blob, compared with its digest."""
        size, parts = self.blobs[digest]
        data = b"".join(self.segment(part) for part in parts)
        check(len(data) == size, "parts do not add up")
        algorithm, expected = digest.split(":")
        check(hashlib.new(algorithm, data).hexdigest() == expected, "the blob does not match its digest")
        return data

    def segment(self, wanted):
        check(wanted in self.segments, "a segment is in no pack")
        file, segment = self.segments[wanted]
        file.seek(segment["at"])
        stored = file.read(segment["stored"])
        check(blake3(stored).hexdigest()[:16] == segment["check"], "what is stored does not match its checksum")
        return b"".join(self.block(wanted, number) for number in range(segment["blocks"]))

    def block(self, wanted, number, bases=0):
        """One block of a segment, compared with its digest."""
        check(bases <= MOST_BASES and wanted in self.segments, "too many bases, or one is in no pack")
        file, segment = self.segments[wanted]
        start, length, digests = 0, segment["stored"], []
        if segment["blocks"] > 1:
            table = 36 * segment["blocks"]
            file.seek(segment["at"] + segment["stored"] - table)
            rows = list(struct.iter_unpack("<32sI", file.read(table)))
            lengths, digests = [row[1] for row in rows], [row[0] for row in rows]
            check(sum(lengths) == segment["stored"] - table, "the table does not fit what is stored")
            check(blake3(b"".join(digests)).hexdigest() == wanted, "the table does not give the id")
            start, length = sum(lengths[:number]), lengths[number]
        file.seek(segment["at"] + start)
        stored = file.read(length)
        size = min(BLOCK, segment["size"] - number * BLOCK)
        base = None
        if stored[:1] != b"\0":
            check("base" in segment, "a difference to nothing")
            base = np.frombuffer(self.block(segment["base"], number, bases + 1), f"<u{segment['width']}")
        data = decode(stored, size, segment["width"], segment.get("rotate", False), base)
        digest = blake3(data).digest()
        check(digest == digests[number] if digests else blake3(digest).hexdigest() == wanted, "a block is damaged")
        return data


def decode(stored, size, width, rotate, base):
    """The bytes of one block."""
    count, bits, at, planes = size // width, 8 * width, 1 + 5 * width, []
    check(len(stored) >= at and stored[0] in (0, 1, 2), "no block")
    for mode, length in struct.iter_unpack("<BI", stored[1:at]):
        body, at = stored[at : at + length], at + length
        plane = body * count if mode == 0 and length == 1 else body if mode == 1 else b""
        plane = inflate(body, count) if mode == 2 else plane
        check(len(plane) == count, "a plane")
        planes.append(np.frombuffer(plane, np.uint8))
    check(at == len(stored), "planes do not end where the block does")
    words = np.frombuffer(np.stack(planes, axis=1).tobytes(), f"<u{width}")
    if base is None:
        return ((words >> 1) | (words << (bits - 1)) if rotate else words).tobytes()
    difference = np.where(words & 1, ~(words >> 1), words >> 1)
    if stored[0] == 1:
        return (base + difference).tobytes()
    order = np.argsort((base << 1) >> (bits - 8) & 255, kind="stable")
    found = np.empty_like(base)
    found[order] = base[order] + difference
    return found.tobytes()
