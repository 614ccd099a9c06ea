"""Directories of packs: what was written is read, and what cannot be is refused."""

from __future__ import annotations

import copy
import io
import json
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import zstandard
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st
from independent_reader import Reader, Refused
from packs import Hand, by_hand, repacked

from assay.errors import BadFormat, IntegrityError, LimitExceeded
from assay.packing import directory
from assay.packing.codec import BLOCK, WORDS, Words
from assay.packing.directory import Directory, Hint, PackedBlob, decode, encode, footer, read_footer
from assay.packing.segments import Segment
from assay.spec.digest import Digest
from assay.spec.json import canonical

BASE = np.arange(600, dtype="<f4").tobytes()
TUNE = (np.arange(600) + 0.5).astype("<f4").tobytes()
PACK = by_hand(
    [Hand(BASE, WORDS["float32"]), Hand(TUNE, WORDS["float32"], base=0), Hand(b"text", Words(text=True))],
    blobs=[[BASE, TUNE, BASE]],
)


def read(data: bytes) -> Directory:
    offset, length, digest = read_footer(data[-64:], len(data))
    return decode(data[offset : offset + length], digest, end=offset)


def changed(*steps: str | int, to: Any) -> Any:
    """The directory as JSON with another value in one place."""
    body = copy.deepcopy(PACK.directory)
    place = body
    for step in steps[:-1]:
        place = place[step]
    place[steps[-1]] = to
    return body


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_a_directory_is_read_as_it_was_written(data: st.DataObject) -> None:
    at, segments, hints = len(directory.MAGIC), [], {}
    for number in range(data.draw(st.integers(0, 5))):
        words = WORDS[data.draw(st.sampled_from(sorted(WORDS)))]
        size = words.width * data.draw(st.integers(1, 1000))
        stored = data.draw(st.integers(1 + 6 * words.width, 1 + 5 * words.width + size))
        base = segments[-1] if segments and segments[-1].size == size else None
        own = blake3(bytes([number])).digest()
        segments.append(Segment(own, size, words, base and base.id, base.depth + 1 if base else 0, at, stored, own[:8]))
        at += stored
        if data.draw(st.booleans()):
            hints[own] = Hint(data.draw(st.text(max_size=20)), "float32", data.draw(st.binary(max_size=40)))
    blobs = [PackedBlob(Digest.of(b""), 0, ())]
    if segments:
        parts = data.draw(st.lists(st.sampled_from(segments), min_size=1, max_size=4))
        far = data.draw(st.lists(st.binary(min_size=32, max_size=32), max_size=2))
        size = sum(part.size for part in parts) + 10 * len(far)
        blobs.append(PackedBlob(Digest.of(b"x"), size, (*(part.id for part in parts), *far)))
    wanted = Directory(tuple(segments), tuple(blobs), hints)
    stored_as = encode(wanted)
    assert decode(stored_as, blake3(stored_as).digest(), end=at) == wanted


SEGMENT = PACK.directory["segments"]
OTHER = "ab" * 32
HOSTILE: dict[str, Any] = {
    "a size of more than there can be": {**changed("segments", 0, "size", to=1 << 60), "blobs": []},
    "a size beyond any number": {**changed("segments", 0, "size", to=10**400), "blobs": []},
    "a size that is no whole number": {**changed("segments", 0, "size", to=2400.0), "blobs": []},
    "a size that is no number": {**changed("segments", 0, "size", to=True), "blobs": []},
    "a negative size": {**changed("segments", 0, "size", to=-4), "blobs": []},
    "an empty segment": {**changed("segments", 0, "size", to=0), "blobs": []},
    "a size that is no multiple of its words": {"segments": [{**SEGMENT[0], "size": 2402}], "blobs": []},
    "a few bytes for terabytes": {**changed("segments", 0, "size", to=1 << 44), "blobs": []},
    "a few bytes for a mebibyte less one block": {**changed("segments", 2, "size", to=BLOCK + 4), "blobs": []},
    "more bytes than there were": {**changed("segments", 2, "stored", to=100), "blobs": []},
    "stored bytes beyond the directory": {**changed("segments", 0, "stored", to=SEGMENT[0]["stored"] - 1), "blobs": []},
    "nothing stored": {**changed("segments", 2, "stored", to=0), "blobs": []},
    "words of three bytes": changed("segments", 0, "width", to=3),
    "words of no bytes": changed("segments", 0, "width", to=0),
    "an id that is too short": changed("segments", 0, "id", to="ab"),
    "an id in capitals": changed("segments", 2, "id", to=SEGMENT[2]["id"].upper()),
    "an id that is no text": changed("segments", 2, "id", to=7),
    "an id that is no hexadecimal": changed("segments", 2, "id", to="zz" * 32),
    "a checksum that is too long": changed("segments", 0, "check", to="ab" * 9),
    "a depth without a base": changed("segments", 0, "depth", to=1),
    "a base without a depth": changed("segments", 1, "depth", to=0),
    "a depth beyond what readers follow": changed("segments", 1, "depth", to=9),
    "a negative depth": changed("segments", 1, "depth", to=-1),
    "a segment that is its own base": changed("segments", 1, "base", to=SEGMENT[1]["id"]),
    "a base of another size": changed("segments", 1, "base", to=SEGMENT[2]["id"]),
    "two segments that are each other's base": {
        **PACK.directory,
        "segments": [{**SEGMENT[0], "base": SEGMENT[1]["id"], "depth": 2}, *SEGMENT[1:]],
    },
    "a base as deep as what needs it": {
        **PACK.directory,
        "segments": [{**SEGMENT[0], "base": OTHER, "depth": 1}, *SEGMENT[1:]],
    },
    "a segment listed twice": changed("segments", 1, to=SEGMENT[0]),
    "a flag that is no truth value": changed("segments", 0, "rotate", to="yes"),
    "rotated words of one byte": changed("segments", 2, "rotate", to=True),
    "a name that is no text": changed("segments", 0, "name", to=["a"]),
    "a tensor without a dtype": changed("segments", 0, "name", to="a"),
    "a name that no text in UTF-8 can be": {
        **PACK.directory,
        "segments": [{**SEGMENT[0], "name": "\ud800", "dtype": "float32"}, *SEGMENT[1:]],
    },
    "a dtype that no text in UTF-8 can be": {
        **PACK.directory,
        "segments": [{**SEGMENT[0], "name": "a", "dtype": "a\udcffb"}, *SEGMENT[1:]],
    },
    "a sample that is no base64": {
        **PACK.directory,
        "segments": [{**SEGMENT[0], "name": "a", "dtype": "float32", "sample": "*"}, *SEGMENT[1:]],
    },
    "a sample that is too large": {
        **PACK.directory,
        "segments": [{**SEGMENT[0], "name": "a", "dtype": "float32", "sample": "AAAA" * 4096}, *SEGMENT[1:]],
    },
    "segments that are no list": changed("segments", to=7),
    "a segment that is a list": changed("segments", 0, to=[]),
    "a directory that is a list": [],
    "a directory that is null": None,
    "no blobs": {"segments": SEGMENT},
    "a blob listed twice": changed("blobs", 1, to=PACK.directory["blobs"][0]),
    "a blob whose parts are fewer bytes": changed("blobs", 3, "size", to=7201),
    "a blob whose parts are more bytes": changed("blobs", 3, "size", to=7199),
    "a blob too small for its parts elsewhere": changed("blobs", 3, "parts", to=[0, 1, 0, OTHER]),
    "a blob with bytes and no parts": changed("blobs", 3, "parts", to=[]),
    "a part beyond the list": changed("blobs", 3, "parts", to=[0, 1, 3]),
    "a negative part": changed("blobs", 3, "parts", to=[0, 1, -3]),
    "a part that is no whole number": changed("blobs", 3, "parts", to=[0, 1, 0.0]),
    "a digest of a kind that is unknown": changed("blobs", 0, "digest", to="md5:" + "0" * 32),
    "a digest that is no text": changed("blobs", 0, "digest", to=5),
}

ENDS = {"stored bytes beyond the directory"}
"""What is told by where the segments end alone."""


def test_the_pack_that_is_spoiled_below_can_be_read() -> None:
    assert len(read(PACK.data).blobs) == len(PACK.directory["blobs"]) == 4
    assert read(repacked(PACK, PACK.directory)) == read(PACK.data)


@pytest.mark.parametrize("what", HOSTILE)
def test_a_directory_that_cannot_be_is_refused(what: str) -> None:
    data = repacked(PACK, HOSTILE[what])
    with pytest.raises(BadFormat):
        read(data)
    if what not in ENDS:
        offset, length, digest = read_footer(data[-64:], len(data))
        with pytest.raises(BadFormat):
            decode(data[offset : offset + length], digest)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b'{"segments":NaN,"blobs":[]}',
        b'{"segments":[],"blobs":[' + b"9" * 5000 + b"]}",
        b"\xff",
    ],
    ids=["empty", "open", "deep", "nan", "digits", "no-text"],
)
def test_a_directory_that_is_no_document_is_refused(text: bytes) -> None:
    with pytest.raises(BadFormat):
        read(repacked(PACK, text))


def test_a_base_may_lie_behind_what_needs_it() -> None:
    first, second, third = SEGMENT
    swapped = {
        **PACK.directory,
        "segments": [second, first, third],
        "blobs": [PACK.directory["blobs"][2] | {"parts": [2]}],
    }
    assert [segment.depth for segment in read(repacked(PACK, swapped)).segments] == [1, 0, 0]


def test_fields_that_are_unknown_are_ignored() -> None:
    assert read(repacked(PACK, changed("segments", 0, "mood", to="good"))) == read(PACK.data)


def test_a_directory_that_grows_beyond_its_bound_is_refused_before_it_is_decompressed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = canonical(PACK.directory)
    monkeypatch.setattr(directory, "MAX_DIRECTORY", len(text))
    assert read(PACK.data)
    monkeypatch.setattr(directory, "MAX_DIRECTORY", len(text) - 1)
    monkeypatch.setattr(zstandard, "ZstdDecompressor", lambda: pytest.fail("decompressed"))
    with pytest.raises(BadFormat, match="too large"):
        read(PACK.data)


def test_a_directory_that_readers_would_refuse_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    found = read(PACK.data)
    monkeypatch.setattr(directory, "MAX_DIRECTORY", 500)
    with pytest.raises(LimitExceeded):
        encode(found)


def test_names_that_no_text_can_be_are_written_escaped() -> None:
    found = read(PACK.data)
    own = found.segments[0].id
    stored = encode(Directory(found.segments, found.blobs, {own: Hint("a\udcffb", "\ud800", b"12")}))
    assert decode(stored, blake3(stored).digest()).hints == {own: Hint("a\\udcffb", "\\ud800", b"12")}


@pytest.mark.parametrize(("value", "count"), [(b"[]", 2_000_000), (b"[],[]", 300_000), (b'{"":0}', 400_000)])
def test_a_directory_of_far_more_than_is_stored_of_it_is_refused_before_anything_is_made_of_it(
    value: bytes, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = repacked(PACK, b'{"segments":[],"blobs":[],"x":[' + b",".join([value] * count) + b"]}")
    monkeypatch.setattr(json, "loads", lambda text: pytest.fail(f"{len(text)} bytes are parsed"))
    with pytest.raises(BadFormat, match=r"too (large|many)"):
        read(data)


@pytest.mark.parametrize("far", [False, True], ids=["the same part", "the same parts elsewhere"])
def test_a_directory_that_says_the_same_again_and_again_can_be_read(far: bool) -> None:
    """A large file of nulls is many times one segment; what many files share may lie in another pack."""
    held = read(PACK.data)
    if far:
        parts = tuple(blake3(b"%d" % number).digest() for number in range(1000))
        blobs = [PackedBlob(Digest.of(b"%d" % number), 1 << 30, parts) for number in range(150)]
    else:
        blobs = [PackedBlob(Digest.of(b"0"), 700_000 * held.segments[2].size, (held.segments[2].id,) * 700_000)]
    wanted = Directory(held.segments, tuple(blobs))
    stored = encode(wanted)
    assert decode(stored, blake3(stored).digest()) == wanted
    assert len(stored) < 300_000
    assert stored == encode(wanted)


def test_a_directory_that_does_not_say_its_size_is_refused() -> None:
    offset, _, _ = read_footer(PACK.data[-64:], len(PACK.data))
    silent = zstandard.ZstdCompressor(write_content_size=False).compress(canonical(PACK.directory))
    with pytest.raises(BadFormat):
        read(PACK.data[:offset] + silent + footer(offset, silent))


def test_bytes_after_the_directory_are_refused() -> None:
    offset, length, _ = read_footer(PACK.data[-64:], len(PACK.data))
    longer = PACK.data[offset : offset + length] + b"more"
    with pytest.raises(BadFormat):
        read(PACK.data[:offset] + longer + footer(offset, longer))


def test_every_bit_of_directory_and_footer_counts() -> None:
    offset, _, _ = read_footer(PACK.data[-64:], len(PACK.data))
    for at in range(offset, len(PACK.data)):
        spoiled = bytearray(PACK.data)
        spoiled[at] ^= 1 << (at % 8)
        with pytest.raises((BadFormat, IntegrityError)):
            read(bytes(spoiled))


def test_a_pack_of_a_later_format_says_so() -> None:
    with pytest.raises(BadFormat, match="format 2") as caught:
        read_footer(PACK.data[-64:-1] + b"\x02", len(PACK.data))
    assert caught.value.code == "pack-too-new"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda size: (0, size - 64),
        lambda size: (8, size),
        lambda size: (size, (1 << 64) - 64),
        lambda size: ((1 << 64) - 1, 1),
    ],
)
def test_a_footer_that_points_outside_is_refused(spoil: Callable[[int], tuple[int, int]]) -> None:
    size = len(PACK.data)
    with pytest.raises(BadFormat):
        read_footer(struct.pack("<QQ", *spoil(size)) + PACK.data[-48:], size)


@pytest.mark.parametrize("what", [what for what in HOSTILE if "base" in what or "blob" in what or "size" in what])
def test_the_reader_made_from_the_page_does_not_take_them_either(what: str) -> None:
    """It checks less, but gives no bytes that are not the blob's."""
    data = repacked(PACK, HOSTILE[what])
    wanted = {str(Digest.of(raw)): raw for raw in (BASE, TUNE, b"text", BASE + TUNE + BASE)}
    try:
        reader = Reader(io.BytesIO(data))
        found = {digest: reader.read(digest) for digest in wanted if digest in reader.blobs}
    except (Refused, KeyError, TypeError, ValueError, IndexError, AttributeError):
        return
    assert all(wanted[digest] == raw for digest, raw in found.items())
