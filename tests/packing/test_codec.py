"""One block: whatever it holds comes back, it is hardly ever larger, and damaged ones are refused."""

from __future__ import annotations

import contextlib
import struct
import threading
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assay.errors import BadFormat
from assay.packing import codec, native, planes
from assay.packing.codec import BLOCK, OPAQUE, WORDS, Words
from assay.packing.planes import Bytes

KINDS = [Words(1), Words(2), Words(4), Words(8), Words(2, rotate=True), Words(4, rotate=True), Words(8, rotate=True)]
KINDS += [OPAQUE]
CONSTANT, RAW, ZSTD = 0, 1, 2


@pytest.fixture(params=["numpy", "compiled"], autouse=True)
def kernels(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test of the codec, with both kinds of kernels."""
    found = planes if request.param == "numpy" else native.kernels()
    if request.param == "compiled" and found is planes:
        pytest.skip("the kernels are not compiled here")
    before, codec.kernels = codec.kernels, found
    yield
    codec.kernels = before


def data(count: int, seed: int = 0, kind: str = "weights") -> Bytes:
    chance = np.random.default_rng(seed)
    if kind == "random":
        return chance.integers(0, 256, count).astype(np.uint8)
    if kind == "alike":
        return np.full(count, seed % 256, np.uint8)
    if kind == "text":
        return np.frombuffer((b"the quick brown fox %d " % seed * (count // 8 + 1))[:count], np.uint8)
    return (chance.standard_normal(-(-count // 4)) * 0.05).astype("<f4").view(np.uint8)[:count]


def stored(raw: Bytes, words: Words, base: Bytes | None = None, *, ordered: bool = False) -> bytes:
    return b"".join(bytes(part) for part in codec.encode(raw, words, base=base, ordered=ordered))


def decoded(block: bytes, words: Words, length: int, base: Bytes | None = None) -> bytes:
    into = np.empty(length, np.uint8)
    codec.decode(memoryview(block), words, into, base=base)
    return into.tobytes()


def modes(block: bytes, words: Words) -> list[int]:
    return [block[1 + 5 * number] for number in range(words.width)]


anything = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(
    st.sampled_from(KINDS),
    st.one_of(st.integers(0, 400), st.sampled_from([16383, 16384, 70_001])),
    st.integers(0, 1 << 20),
    st.sampled_from(["weights", "random", "alike", "text"]),
    st.sampled_from([None, False, True]),
)
@anything
def test_a_block_comes_back_whatever_it_holds(
    words: Words, count: int, seed: int, kind: str, ordered: bool | None
) -> None:
    raw = data(count * words.width, seed, kind)
    base = None if ordered is None else data(count * words.width, seed + 1, kind)
    block = stored(raw, words, base, ordered=bool(ordered))
    assert codec.needs_base(memoryview(block)) is (base is not None)
    assert decoded(block, words, len(raw), base) == raw.tobytes()
    assert codec.matches(memoryview(block), words, raw, base=base)
    if base is not None:
        codec.decode(memoryview(block), words, base := base.copy(), base=base)
        assert base.tobytes() == raw.tobytes()


@pytest.mark.parametrize("words", KINDS)
def test_a_whole_block_comes_back(words: Words) -> None:
    raw, base = data(BLOCK), data(BLOCK, 1)
    assert decoded(stored(raw, words), words, BLOCK) == raw.tobytes()
    assert decoded(stored(raw, words, base), words, BLOCK, base) == raw.tobytes()
    assert decoded(stored(raw, words, base, ordered=True), words, BLOCK, base) == raw.tobytes()


@pytest.mark.parametrize("words", KINDS)
def test_random_bytes_are_stored_as_they_are_and_grow_by_the_head_alone(words: Words) -> None:
    block = stored(data(BLOCK, kind="random"), words)
    assert modes(block, words) == [RAW] * words.width
    assert len(block) == BLOCK + 1 + 5 * words.width


def test_weights_keep_their_low_planes_and_have_their_exponents_coded() -> None:
    words = Words(4, rotate=True)
    block = stored(data(BLOCK), words)
    assert modes(block, words) == [RAW, RAW, RAW, ZSTD]
    assert len(block) < 0.85 * BLOCK


def test_ordered_planes_of_few_bits_are_searched_and_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    chance, words = np.random.default_rng(3), WORDS["bfloat16"]
    weights = chance.standard_normal(BLOCK // 2, np.float32) * np.float32(0.02)
    tuned = weights + chance.laplace(0, 2e-5, len(weights)).astype("<f4")
    base, raw = ((values.view("<u4") >> 16).astype("<u2").view(np.uint8) for values in (weights, tuned))
    plain, ordered = len(stored(raw, words, base)), len(stored(raw, words, base, ordered=True))
    monkeypatch.setattr(codec, "_EVEN_BITS", 0)
    assert len(stored(raw, words, base)) == plain
    assert ordered < 0.98 * len(stored(raw, words, base, ordered=True)) < 0.98 * plain


def test_planes_of_one_byte_take_one_byte() -> None:
    words = Words(8)
    block = stored(np.arange(1000, dtype="<u8").view(np.uint8), words)
    assert modes(block, words)[2:] == [CONSTANT] * 6


def test_repeats_in_documents_are_found_and_in_numbers_not_looked_for() -> None:
    raw = data(60_000, kind="text")
    assert len(stored(raw, OPAQUE)) < 300


def test_parts_that_are_not_coded_are_not_copied() -> None:
    raw = data(BLOCK, kind="random")
    assert any(isinstance(part, np.ndarray) and np.shares_memory(part, raw) for part in codec.encode(raw, Words(1)))


@given(st.binary(max_size=200), st.sampled_from(KINDS), st.integers(0, 64), st.booleans())
@anything
def test_random_bytes_are_no_block(block: bytes, words: Words, count: int, based: bool) -> None:
    length = count * words.width
    refused_or_decoded(block, words, length, np.zeros(length, np.uint8) if based else None)


@given(st.data(), st.sampled_from(KINDS), st.integers(1, 3000), st.sampled_from([None, False, True]))
@anything
def test_a_changed_block_is_refused_or_gives_other_bytes(
    chance: st.DataObject, words: Words, count: int, ordered: bool | None
) -> None:
    raw = data(count * words.width)
    base = None if ordered is None else data(count * words.width, 1)
    block = bytearray(stored(raw, words, base, ordered=bool(ordered)))
    for _ in range(chance.draw(st.integers(1, 3))):
        what = chance.draw(st.sampled_from(["flip", "cut", "add"]))
        # The head is where lengths and modes lie; a place anywhere would seldom hit it.
        reach = chance.draw(st.sampled_from([min(len(block), 1 + 5 * words.width), len(block)]))
        at = chance.draw(st.integers(0, max(0, reach - 1)))
        if what == "flip" and block:
            block[at] ^= chance.draw(st.integers(1, 255))
        elif what == "cut":
            del block[at : at + chance.draw(st.integers(1, 9))]
        else:
            block[at:at] = chance.draw(st.binary(min_size=1, max_size=9))
    refused_or_decoded(bytes(block), words, len(raw), base)


def refused_or_decoded(block: bytes, words: Words, length: int, base: Bytes | None) -> None:
    room = np.full(length + 64, 0x5A, np.uint8)
    with contextlib.suppress(BadFormat):
        codec.decode(memoryview(block), words, room[32 : 32 + length], base=base)
        assert codec.matches(memoryview(block), words, room[32 : 32 + length].copy(), base=base)
    assert (room[:32] == 0x5A).all()
    assert (room[32 + length :] == 0x5A).all()


def head(kind: int, *rows: tuple[int, int]) -> bytes:
    return bytes([kind]) + b"".join(struct.pack("<BI", *row) for row in rows)


BOMB = zstandard.ZstdCompressor().compress(bytes(1 << 28))


@pytest.mark.parametrize(
    ("block", "said"),
    [
        (b"", "kind -1"),
        (head(3, (0, 1)) + b"x", "kind 3"),
        (head(1, (0, 1)) + b"x", "kind 1"),
        (head(0)[:1], "1 bytes for 100"),
        (head(0, (0, 2)) + b"xy", "mode 0 and 2 bytes"),
        (head(0, (1, 99)) + bytes(99), "mode 1 and 99 bytes"),
        (head(0, (1, 100)) + bytes(99), "ends early"),
        (head(0, (1, 100)) + bytes(101), "its planes end at 106"),
        (head(0, (9, 100)) + bytes(100), "mode 9"),
        (head(0, (2, 0)), "cannot be decoded"),
        (head(0, (2, 4)) + b"none", "cannot be decoded"),
        (head(0, (2, len(BOMB))) + BOMB, "holds 268435456 bytes, expected 100"),
    ],
)
def test_what_is_wrong_with_a_block_is_said(block: bytes, said: str) -> None:
    with pytest.raises(BadFormat, match=said):
        decoded(block, Words(1), 100)


def test_a_frame_that_is_cut_off_is_refused() -> None:
    frame = zstandard.ZstdCompressor().compress(data(100, kind="random").tobytes())[:-5]
    with pytest.raises(BadFormat):
        decoded(head(0, (2, len(frame))) + frame, Words(1), 100)


def test_a_block_takes_no_more_memory_than_it_has_bytes() -> None:
    # A frame that promises what is expected and says that it needs a window of 128 MiB.
    frame = bytearray(zstandard.ZstdCompressor(level=19).compress(data(BLOCK, kind="text").tobytes()))
    liar = bytes.fromhex("28b52ffd") + bytes([0x80, 0x88]) + struct.pack("<I", BLOCK) + frame[9:40]
    decoded(stored(data(BLOCK), Words(4)), Words(4), BLOCK)
    into = np.empty(BLOCK, np.uint8)
    tracemalloc.start()
    try:
        for block in (head(0, (2, len(BOMB))) + BOMB, head(0, (2, len(liar))) + liar):
            with pytest.raises(BadFormat):
                codec.decode(memoryview(block), Words(1), into)
        assert tracemalloc.get_traced_memory()[1] < BLOCK
    finally:
        tracemalloc.stop()


def test_blocks_are_decoded_by_threads_that_do_not_disturb_each_other() -> None:
    words, failed = Words(4, rotate=True), []
    raws = [data(200_000, seed) for seed in range(4)]
    blocks = [stored(raw, words) for raw in raws]

    def work(number: int) -> None:
        for _ in range(20):
            if decoded(blocks[number], words, 200_000) != raws[number].tobytes():
                failed.append(number)
            if stored(raws[number], words) != blocks[number]:
                failed.append(number)

    threads = [threading.Thread(target=work, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
