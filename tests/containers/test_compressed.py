"""Compression undone in a stream and within bounds."""

from __future__ import annotations

import bz2
import gzip
import importlib
import lzma
import os
import sys
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.containers import compressed
from assay.containers.compressed import codec_of, peek, unwrap
from assay.errors import AssayError, BadFormat, LimitExceeded, MissingDependency
from assay.trees import BytesWindow, Window

CODECS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zlib": zlib.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
    "lz4": lambda data: importlib.import_module("lz4.frame").compress(data),
}
DATA = b"a model, many times over; " * 20_000


def window(data: bytes, limit: int = 1 << 40) -> Window:
    made = BytesWindow(data, "model.bin")
    made.budget.limit = limit
    return made


@pytest.mark.parametrize("codec", CODECS)
def test_every_codec_is_recognised_by_its_bytes_and_undone(codec: str) -> None:
    packed = CODECS[codec](DATA)

    found = unwrap(window(packed))

    assert codec_of(packed[:64]) == codec
    assert found.codecs == (codec,)
    assert found.window.read() == DATA
    assert found.findings == ()
    assert peek(packed)[0] == DATA[: len(peek(packed)[0])] != b""


@pytest.mark.parametrize("outer", CODECS)
@pytest.mark.parametrize("inner", ["gzip", "xz"])
def test_doubled_compression_is_undone_and_a_third_layer_is_a_finding(outer: str, inner: str) -> None:
    twice = CODECS[outer](CODECS[inner](DATA))
    thrice = CODECS["gzip"](twice)

    assert unwrap(window(twice)).codecs == (outer, inner)
    assert unwrap(window(twice)).window.read() == DATA
    found = unwrap(window(thrice))
    assert found.codecs == ("gzip", outer)
    assert [finding.rule for finding in found.findings] == ["compressed-layers"]


def test_plain_bytes_are_given_back_as_they_are() -> None:
    plain = window(b"not compressed")

    found = unwrap(plain)

    assert found.window is plain
    assert found.codecs == ()


@pytest.mark.parametrize("codec", ["gzip", "bz2", "xz", "lz4"])
def test_members_behind_each_other_are_one_stream(codec: str) -> None:
    packed = CODECS[codec](b"first ") + CODECS[codec](b"second")

    assert unwrap(window(packed)).window.read() == b"first second"


@pytest.mark.parametrize("codec", CODECS)
def test_bytes_after_the_stream_are_a_finding(codec: str) -> None:
    found = unwrap(window(CODECS[codec](DATA) + b"something else"))

    assert found.window.read() == DATA
    assert [finding.rule for finding in found.findings] == ["compressed-trailing"]


@pytest.mark.parametrize("codec", CODECS)
def test_a_stream_that_ends_early_gives_what_was_in_it(codec: str) -> None:
    noise = os.urandom(3_000_000)
    packed = CODECS[codec](noise)

    found = unwrap(window(packed[: len(packed) * 2 // 3]))

    assert [finding.rule for finding in found.findings] == ["compressed-broken"]
    assert noise.startswith(found.window.read())
    assert found.window.size > 500_000


@pytest.mark.parametrize("codec", CODECS)
def test_output_beyond_the_limit_is_refused(codec: str) -> None:
    with pytest.raises(LimitExceeded):
        unwrap(window(CODECS[codec](bytes(10_000_000))), limit=3 << 20)
    with pytest.raises(LimitExceeded):
        unwrap(window(CODECS[codec](bytes(10_000_000)), limit=1 << 20))


def test_an_absurd_ratio_is_refused_before_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressed, "FREE_OUTPUT", 1 << 20)

    with pytest.raises(LimitExceeded):
        unwrap(window(bz2.compress(bytes(20_000_000))))
    assert unwrap(window(bz2.compress(os.urandom(2_000_000)))).window.size == 2_000_000


def test_large_output_goes_to_a_file_and_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressed, "_IN_MEMORY", 1000)

    found = unwrap(window(gzip.compress(DATA)))

    assert found.window.read(100, 50) == DATA[100:150]
    assert found.window.read(len(DATA) - 5) == DATA[-5:]


def test_an_xz_that_asks_for_a_huge_dictionary_is_refused() -> None:
    head = bytearray(lzma.compress(b"x", filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 4096}]))
    head[16] = 40  # the largest dictionary there is
    head[20:24] = zlib.crc32(bytes(head[12:20])).to_bytes(4, "little")

    with pytest.raises(BadFormat):
        unwrap(window(bytes(head)))


def test_lz4_without_its_library_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = CODECS["lz4"](DATA)
    monkeypatch.setitem(sys.modules, "lz4.frame", None)

    with pytest.raises(MissingDependency, match="lz4"):
        unwrap(window(packed))
    assert peek(packed) == (packed, ())


@given(codec=st.sampled_from(sorted(CODECS)), at=st.integers(0, 200), junk=st.binary(max_size=40))
@settings(deadline=None, max_examples=150)
def test_damage_only_ever_causes_findings_or_our_errors(codec: str, at: int, junk: bytes) -> None:
    packed = bytearray(CODECS[codec](b"some text to pack " * 10))
    packed[at : at + len(junk)] = junk

    try:
        found = unwrap(window(bytes(packed)))
    except AssayError:
        return

    assert found.window.size <= compressed.FREE_OUTPUT + (1 << 20)  # bz2 may repeat a byte a great many times
    peek(bytes(packed))
