"""Samples, distances and estimates of tensors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.packing import codec, kin
from assay.packing.codec import BLOCK, WORDS, Words
from assay.trees.window import MemorySource

F32 = WORDS["float32"]


def weights(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.02, count).astype("<f4")


def raw(values: np.ndarray) -> np.ndarray:
    return np.frombuffer(values.tobytes(), np.uint8)


def test_a_sample_is_the_same_read_or_at_hand() -> None:
    values = weights(200_000)
    source = MemorySource(b"some" + values.tobytes())
    assert kin.sample(raw(values), F32) == kin.sample_of(source, 4, 800_000, F32)
    assert len(kin.sample(raw(values), F32)) == 4 * kin.SAMPLED


def test_small_tensors_have_no_sample() -> None:
    values = weights(kin.LEAST_SAMPLED // 4 - 1)
    assert kin.sample(raw(values), F32) == b""
    assert kin.sample_of(MemorySource(values.tobytes()), 0, 4 * len(values), F32) == b""


def test_a_fine_tune_is_near_and_a_stranger_is_too_far() -> None:
    base, other = weights(200_000), weights(200_000, seed=1)
    tune = base + weights(200_000, seed=2) * 1e-3
    samples = [kin.sample(raw(one), F32) for one in (base, tune, other)]
    assert kin.distance(samples[0], samples[0], F32) == 0
    assert kin.distance(samples[0], samples[1], F32) < kin.too_far(F32) - 5
    assert kin.distance(samples[0], samples[2], F32) > kin.too_far(F32)
    assert kin.distances(samples[0], [samples[2], b"", samples[0]], F32)[1:] == [float("inf"), 0.0]


@given(st.integers(1, 3 * BLOCK // 8), st.sampled_from([1, 2, 4, 8]), st.integers(1, 64 << 10))
def test_what_is_looked_into_are_whole_words_inside_one_block_each(count: int, width: int, wanted: int) -> None:
    length = count * width
    places = list(kin.runs(length, Words(width), wanted))
    assert len({start // BLOCK for start, _ in places}) <= 2
    for start, size in places:
        assert size > 0
        assert start + size <= length
        assert start % width == size % width == 0
        assert start // BLOCK == (start + size - 1) // BLOCK
    assert sum(size for _, size in places) <= max(wanted, 4 * width) + width


def test_slices_are_the_same_read_or_at_hand() -> None:
    values = weights(900_000)
    assert np.array_equal(
        kin.slices(MemorySource(b"some" + values.tobytes()), 4, 3_600_000, F32), kin.picked(raw(values), F32)
    )


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_an_estimate_is_near_to_what_coding_gives(dtype: str) -> None:
    words = WORDS.get(dtype, Words())
    values = weights(BLOCK // 4)
    data = {"float32": values, "float16": values.astype("<f2"), "int8": np.round(values * 400).astype("i1")}[dtype]
    coded = sum(map(len, codec.encode(raw(data), words))) / data.nbytes
    assert kin.estimate(kin.picked(raw(data), words), words) == pytest.approx(coded, abs=0.03)


def test_an_estimate_of_a_difference_is_near_to_what_coding_gives() -> None:
    base = weights(BLOCK // 4)
    tune = base + weights(BLOCK // 4, seed=2) * np.float32(1e-3)
    coded = sum(map(len, codec.encode(raw(tune), F32, base=raw(base)))) / tune.nbytes
    guessed = kin.estimate(kin.picked(raw(tune), F32), F32, kin.picked(raw(base), F32))
    assert guessed == pytest.approx(coded, abs=0.03)
