"""The arithmetic of the codec: what is taken apart is put together again, and compiled code writes the same bytes."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.packing import native, planes
from assay.packing.native import Native
from assay.packing.planes import Bytes, Kernels

WIDTHS = [1, 2, 4, 8]
HOW = {
    "as they are": {"rotate": False},
    "rotated": {"rotate": True},
    "difference": {"rotate": False, "base": True},
    "ordered": {"rotate": False, "base": True, "ordered": True},
}
COMPILED = native.kernels() is not planes


def compiled() -> Kernels:
    if not COMPILED:
        pytest.skip("the kernels are not compiled here")
    return Native()


@pytest.fixture(params=["numpy", "compiled"])
def kernels(request: pytest.FixtureRequest) -> Kernels:
    return planes if request.param == "numpy" else compiled()


def words(width: int, count: int, seed: int, kind: str) -> Bytes:
    chance = np.random.default_rng(seed)
    if kind == "weights":  # a few exponents, as trained ones have
        bits = 8 * width
        values = chance.normal(0, 2.0 ** min(bits - 6, 57), count).astype(np.int64)
        return values.astype(f"<u{width}").view(np.uint8)
    if kind == "alike":
        return np.full(count * width, seed % 256, np.uint8)
    return chance.integers(0, 256, count * width).astype(np.uint8)


def options(how: str, base: Bytes) -> dict[str, object]:
    chosen = dict(HOW[how])
    chosen["base"] = base if chosen.get("base") else None
    return chosen


cases = {
    "width": st.sampled_from(WIDTHS),
    "count": st.one_of(st.integers(0, 300), st.sampled_from([8191, 8192, 8193, 16384, 40_001])),
    "how": st.sampled_from(list(HOW)),
    "kind": st.sampled_from(["weights", "alike", "anything"]),
    "seed": st.integers(0, 1 << 30),
}


@given(**cases)
@settings(max_examples=150, deadline=None)
def test_compiled_kernels_write_the_same_bytes_and_read_each_others(
    width: int, count: int, how: str, kind: str, seed: int
) -> None:
    other = compiled()
    raw, base = words(width, count, seed, kind), words(width, count, seed + 1, kind)
    chosen = options(how, base)
    one, two = np.empty((2, width, count), np.uint8)
    planes.split(raw, width, into=one, **chosen)
    other.split(raw, width, into=two, **chosen)
    assert one.tobytes() == two.tobytes()
    constant, counts = planes.survey(one)
    again, counted = other.survey(one)
    assert constant == again
    assert counts.tobytes() == counted.tobytes()
    for kernels in (planes, other):
        for back in (np.empty(len(raw), np.uint8), base.copy()):
            if chosen["base"] is not None:
                # The second one begins as the base, and is given as both.
                chosen["base"] = back if back.tobytes() == base.tobytes() else base
            kernels.join(list(one), width, into=back, **chosen)
            assert back.tobytes() == raw.tobytes()


@given(**cases, place=st.integers(0, 1 << 30), bit=st.integers(0, 7))
@settings(max_examples=150, deadline=None)
def test_planes_match_the_words_that_they_give_and_no_others(
    width: int, count: int, how: str, kind: str, seed: int, place: int, bit: int
) -> None:
    raw, base = words(width, count, seed, kind), words(width, count, seed + 1, kind)
    chosen = options(how, base)
    split = np.empty((width, count), np.uint8)
    planes.split(raw, width, into=split, **chosen)
    every = (planes, compiled()) if COMPILED else (planes,)
    assert all(kernels.match(list(split), width, words=raw, **chosen) for kernels in every)
    if count:
        raw[place % len(raw)] ^= 1 << bit
        assert not any(kernels.match(list(split), width, words=raw, **chosen) for kernels in every)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("how", list(HOW))
def test_words_at_odd_addresses_are_taken_apart_like_others(kernels: Kernels, width: int, how: str) -> None:
    count = 1001
    raw, base = words(width, count, 1, "weights"), words(width, count, 2, "weights")
    room = np.empty(3 * (count * width + 1), np.uint8)
    odd = [room[1 + n * (count * width + 1) :][: count * width] for n in range(3)]
    odd[0][:], odd[1][:] = raw, base
    split = np.empty((width, count), np.uint8)
    kernels.split(odd[0], width, into=split, **options(how, odd[1]))
    kernels.join(list(split), width, into=odd[2], **options(how, odd[1]))
    assert odd[2].tobytes() == raw.tobytes()
    assert kernels.match(list(split), width, words=odd[0], **options(how, odd[1]))


def test_a_rotated_float_has_its_sign_at_the_bottom_and_its_exponent_on_top(kernels: Kernels) -> None:
    raw = np.array([-1.5, 1.5], "<f4").view(np.uint8)
    split = np.empty((4, 2), np.uint8)
    kernels.split(raw, 4, rotate=True, base=None, into=split)
    assert split[3].tolist() == [127, 127]
    assert (split[0] & 1).tolist() == [1, 0]


def test_small_differences_of_both_signs_are_small_numbers(kernels: Kernels) -> None:
    base = np.array([100, 100, 100, 0, 65535], "<u2")
    raw = np.array([100, 99, 101, 65535, 0], "<u2")
    split = np.empty((2, 5), np.uint8)
    kernels.split(raw.view(np.uint8), 2, rotate=False, base=base.view(np.uint8), into=split)
    assert split[0].tolist() == [0, 1, 2, 1, 2]
    assert not split[1].any()


def test_ordered_differences_follow_the_exponent_of_the_base_and_then_their_place(kernels: Kernels) -> None:
    base = np.array([4.0, 0.5, -4.0, 0.5], "<f4")
    raw = (base.view("<u4") + np.array([1, 2, 3, 4], "<u4")).view(np.uint8)
    split = np.empty((4, 4), np.uint8)
    kernels.split(raw, 4, rotate=False, base=base.view(np.uint8), ordered=True, into=split)
    assert split[0].tolist() == [4, 8, 2, 6]  # zigzag of 2, 4, 1, 3


def test_a_survey_tells_constant_planes_and_counts_a_sample_of_the_others(kernels: Kernels) -> None:
    found = np.zeros((3, 100_000), np.uint8)
    found[1] = 7
    found[2, ::2] = 9
    constant, counts = kernels.survey(found)
    assert constant == 0b011
    assert not counts[:2].any()
    assert counts[2, 0] + counts[2, 9] == planes.SAMPLE_RUNS * planes.SAMPLE_LENGTH
    found[1, -1] = 8
    assert kernels.survey(found)[0] == 0b001


def test_lengths_that_do_not_fit_never_reach_compiled_code() -> None:
    kernels, raw = compiled(), np.zeros(16, np.uint8)
    fine = np.empty((4, 4), np.uint8)
    with pytest.raises(ValueError, match="15 bytes"):
        kernels.split(raw[:15], 4, rotate=False, base=None, into=fine)
    with pytest.raises(ValueError, match="base 12"):
        kernels.split(raw, 4, rotate=False, base=raw[:12], into=fine)
    with pytest.raises(ValueError, match="shape"):
        kernels.split(raw, 4, rotate=False, base=None, into=fine[:, :3])
    with pytest.raises(ValueError, match="one after the other"):
        kernels.split(np.zeros(32, np.uint8)[::2], 4, rotate=False, base=None, into=fine)
    with pytest.raises(ValueError, match="of 3"):
        kernels.split(raw[:15], 3, rotate=False, base=None, into=np.empty((3, 5), np.uint8))
    with pytest.raises(ValueError, match="3 planes"):
        kernels.join(list(fine[:3]), 4, rotate=False, base=None, into=raw)
    with pytest.raises(ValueError, match="4 planes"):
        kernels.join([*fine[:3], fine[3][:2]], 4, rotate=False, base=None, into=raw)
    with pytest.raises(ValueError, match="3 planes"):
        kernels.match(list(fine[:3]), 4, rotate=False, base=None, words=raw)
    with pytest.raises(ValueError, match="base 12"):
        kernels.match(list(fine), 4, rotate=False, base=raw[:12], words=raw)
    raw.flags.writeable = False
    with pytest.raises(ValueError, match="written"):
        kernels.join(list(fine), 4, rotate=False, base=None, into=raw)


def test_the_environment_says_that_numpy_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_NATIVE", "0")
    assert native.kernels() is planes


def test_a_library_that_cannot_be_loaded_or_is_of_another_release_is_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.delenv("ASSAY_NATIVE", raising=False)
    monkeypatch.setattr(native, "Native", _raising(OSError))
    assert native.kernels() is planes
    monkeypatch.setattr(native, "Native", _raising(ValueError))
    assert native.kernels() is planes


def test_a_library_of_another_release_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled()
    monkeypatch.setattr(native, "VERSION", native.VERSION + 1)
    with pytest.raises(ValueError, match="not built for this release"):
        Native()


def test_numpy_alone_is_enough_for_the_codec() -> None:
    code = "from assay.packing import codec, planes; assert codec.kernels is planes"
    subprocess.run([sys.executable, "-c", code], check=True, env={"ASSAY_NATIVE": "0"})


def _raising(kind: type[Exception]) -> object:
    def make() -> None:
        raise kind("no")

    return make
