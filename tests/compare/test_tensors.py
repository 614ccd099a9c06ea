"""What becomes of a pair of tensors, and the numbers that say so."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tensor_sides import diffed, of_arrays, of_tree, only, weights

from assay.compare.numbers import BLOCK
from assay.compare.sides import Options
from assay.compare.tensors import compare_tensors
from assay.spec.changes import Match, State
from assay.spec.finding import Severity
from assay.trees import Tree

BF16 = np.dtype(ml_dtypes.bfloat16)


def close(found: float | None, wanted: float, rel: float = 1e-5) -> bool:
    return found is not None and math.isclose(found, wanted, rel_tol=rel, abs_tol=1e-9)


def assert_numbers(numbers, a: np.ndarray, b: np.ndarray, rel: float = 1e-5) -> None:
    """Against the textbook, in float64."""
    x, y = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    assert close(numbers.difference_norm, np.linalg.norm(y - x), rel)
    assert close(numbers.relative_l2, np.linalg.norm(y - x) / np.linalg.norm(x), rel)
    assert close(numbers.max_abs, np.abs(y - x).max(), rel)
    assert close(numbers.cosine, x @ y / np.linalg.norm(x) / np.linalg.norm(y), rel)
    assert close(numbers.changed_fraction, np.mean(x != y))
    assert close(numbers.old_norm, np.linalg.norm(x), rel)
    assert close(numbers.new_norm, np.linalg.norm(y), rel)
    assert math.isclose(numbers.old_mean, x.mean(), rel_tol=rel, abs_tol=1e-6)
    assert math.isclose(numbers.new_mean, y.mean(), rel_tol=rel, abs_tol=1e-6)
    assert close(numbers.old_std, x.std(), 1e-4)
    assert close(numbers.new_std, y.std(), 1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, BF16, np.float64], ids=["f32", "f16", "bf16", "f64"])
@pytest.mark.parametrize("size", [7, 1000, 3 * BLOCK + 17], ids=["tiny", "small", "blocks"])
def test_numbers_are_those_of_the_textbook(dtype, size) -> None:
    a = weights(1, size).astype(dtype)
    b = a.copy()
    b[::3] = (b[::3].astype(np.float32) + weights(2, len(b[::3]), scale=0.01)).astype(dtype)

    change = only(a, b)

    assert change.state is State.CHANGED
    assert_numbers(change.numbers, a, b)
    assert change.numbers.cast_error is None


@given(
    arrays(np.float32, st.integers(1, 40), elements=st.floats(-1e3, 1e3, width=32)),
    st.integers(0, 2**32 - 1),
)
def test_numbers_hold_for_any_finite_elements(a, seed) -> None:
    moved = np.random.default_rng(seed).standard_normal(a.shape).astype(np.float32)
    b = np.where(moved > 0, a + moved, a)

    change = only(a, b)

    if np.array_equal(a, b):
        assert change.state is State.EQUAL
        return
    assert change.state is State.CHANGED
    assert close(change.numbers.difference_norm, np.linalg.norm(b.astype(np.float64) - a))
    assert close(change.numbers.changed_fraction, np.mean(a != b))
    assert change.numbers.cosine is None or -1 <= change.numbers.cosine <= 1


@given(arrays(np.float32, st.integers(1, 200), elements=st.floats(width=32, allow_nan=True, allow_infinity=True)))
def test_whatever_the_elements_a_tensor_is_equal_to_itself(a) -> None:
    change = only(a, a.copy())

    assert change.state is State.EQUAL
    assert change.numbers is None


def test_a_large_mean_does_not_blur_the_spread() -> None:
    a = weights(1, 4 * BLOCK, scale=1e-3, mean=1.0)
    b = a + weights(2, 4 * BLOCK, scale=1e-4)

    assert_numbers(only(a, b).numbers, a, b, rel=1e-4)


def test_a_tensor_that_becomes_zero_has_no_norm_and_no_cosine() -> None:
    a = weights(1, 3 * BLOCK)

    numbers = only(a, np.zeros_like(a)).numbers

    assert numbers.new_norm == 0
    assert numbers.cosine is None
    assert close(numbers.relative_l2, 1)


def test_a_tensor_that_nearly_vanishes_keeps_its_own_norm() -> None:
    a = weights(1, 3 * BLOCK)
    b = weights(2, 3 * BLOCK, scale=1e-6)

    numbers = only(a, b).numbers

    assert close(numbers.new_norm, np.linalg.norm(b.astype(np.float64)), 1e-4)
    assert close(numbers.new_std, b.astype(np.float64).std(), 1e-4)


@pytest.mark.parametrize("sign", [1, -1], ids=["up", "down"])
def test_the_largest_step_counts_in_either_direction(sign) -> None:
    a = weights(1, 3 * BLOCK)
    b = a.copy()
    b[BLOCK + 7] += sign * np.float32(3)
    b[7] -= sign * np.float32(1)

    assert close(only(a, b).numbers.max_abs, 3)


def test_a_tensor_that_was_zero_has_moved_infinitely() -> None:
    numbers = only(np.zeros(100, np.float32), weights(1, 100)).numbers

    assert numbers.relative_l2 == math.inf
    assert numbers.cosine is None


@pytest.mark.parametrize("size", [50, 2 * BLOCK], ids=["small", "large"])
def test_what_is_not_finite_is_counted_and_left_out(size) -> None:
    a = weights(1, size)
    b = a.copy()
    b[3], b[4], a[5] = np.nan, np.inf, -np.inf
    b[7] += 1

    numbers = only(a, b).numbers
    good = np.isfinite(a) & np.isfinite(b)

    assert (numbers.old_nonfinite, numbers.new_nonfinite) == (1, 2)
    assert close(numbers.difference_norm, np.linalg.norm((b - a)[good].astype(np.float64)))
    assert close(numbers.old_norm, np.linalg.norm(a[good].astype(np.float64)))
    assert close(numbers.changed_fraction, 4 / size)


def test_a_nan_that_appears_is_a_change() -> None:
    a = weights(1, 100)
    b = a.copy()
    b[3] = np.nan

    change = only(a, b)

    assert change.state is State.CHANGED
    assert change.numbers.new_nonfinite == 1
    assert change.numbers.relative_l2 == 0


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8, np.bool_], ids=["i64", "i32", "u8", "bool"])
def test_integers_and_truth_values_are_compared_too(dtype) -> None:
    a = np.arange(1000).astype(dtype)
    b = a.copy()
    b[10] = not b[10] if dtype is np.bool_ else b[10] + 1

    change = only(a, b)

    assert change.state is State.CHANGED
    assert close(change.numbers.changed_fraction, 1 / 1000)
    assert change.numbers.max_abs == 1


def test_large_integers_that_differ_by_one_are_not_equal() -> None:
    a = np.array([2**60, 1], np.int64)

    change = only(a, a + np.array([1, 0]))

    assert change.state is State.CHANGED
    assert change.numbers.changed_fraction == 0.5


def test_a_lossless_cast_is_a_recast_without_distance() -> None:
    a = weights(1, 4096).astype(np.float16)

    change = only(a, a.astype(np.float32))

    assert change.state is State.RECAST
    assert change.numbers.relative_l2 == 0
    assert change.numbers.cast_error == 0


@pytest.mark.parametrize("dtype", [np.float16, BF16], ids=["f16", "bf16"])
def test_a_rounded_tensor_is_explained_by_its_cast(dtype) -> None:
    a = weights(1, 3 * BLOCK)

    change = only(a, a.astype(dtype))

    assert change.state is State.RECAST
    assert change.numbers.relative_l2 > 0
    assert close(change.numbers.relative_l2, change.numbers.cast_error, 1e-4)


def test_what_was_tuned_and_cast_is_further_away_than_the_cast_explains() -> None:
    a = weights(1, 4096)
    b = (a + weights(2, 4096, scale=0.01)).astype(BF16)

    numbers = only(a, b).numbers

    assert numbers.relative_l2 > 10 * numbers.cast_error > 0


def test_integers_that_stand_for_floats_get_no_numbers() -> None:
    a = weights(1, 1000)

    change = only(a, np.round(a * 500).astype(np.int8))

    assert change.state is State.RECAST
    assert change.numbers is None
    assert "scale" in (change.reason or "")


def test_a_grown_vocabulary_is_compared_where_both_have_rows() -> None:
    a = weights(1, 300, 64)
    b = np.concatenate([a * np.float32(1.1), weights(2, 20, 64)])

    change = only(a, b)

    assert change.state is State.RESHAPED
    assert change.shared == (300, 64)
    assert close(change.numbers.relative_l2, 0.1, 1e-3)


def test_a_grown_vocabulary_whose_old_rows_are_equal_has_no_numbers() -> None:
    a = weights(1, 300, 64)

    change = only(a, np.concatenate([a, weights(2, 20, 64)]))

    assert (change.state, change.shared, change.numbers) == (State.RESHAPED, (300, 64), None)


def test_shapes_that_have_nothing_in_common_are_not_compared() -> None:
    change = only(weights(1, 10, 12), weights(2, 7))

    assert (change.state, change.shared, change.numbers) == (State.RESHAPED, None, None)


def test_the_order_is_that_of_the_new_side_then_what_was_removed() -> None:
    one = {name: weights(at, 5, 9 + at) for at, name in enumerate("abcd")}
    new = {"z": weights(9, 3, 3), "c": one["c"], "a": one["a"]}

    found = diffed(one, new)

    assert [(change.name, change.state) for change in found.changes] == [
        ("z", State.ADDED),
        ("c", State.EQUAL),
        ("a", State.EQUAL),
        ("b", State.REMOVED),
        ("d", State.REMOVED),
    ]


def test_the_result_does_not_depend_on_the_number_of_threads() -> None:
    old = {f"layer.{at}.weight": weights(at, 700, 901) for at in range(12)}
    new = {name: array + weights(99, 700, 901, scale=0.001) for name, array in old.items()}

    alone, many = diffed(old, new, workers=1), diffed(old, new, workers=5)

    assert alone == many


def test_partly_equal_tensors_have_the_norms_of_all_of_them() -> None:
    a = weights(1, 33 * BLOCK)
    b = a.copy()
    b[-5:] += 1

    assert_numbers(only(a, b).numbers, a, b)


def test_optimizer_state_and_empty_tensors_are_left_out() -> None:
    base = {"w": weights(1, 8, 8), "optimizer.state.0.exp_avg": weights(2, 8, 8), "empty": weights(3, 0, 4)}
    new = {**base, "optimizer.state.0.exp_avg": weights(4, 8, 8)}

    found = diffed(base, new)

    assert [change.name for change in found.changes] == ["w"]
    assert [finding.severity for finding in found.findings] == [Severity.NOTE]


def test_without_elements_names_types_and_shapes_are_compared_alone() -> None:
    old = {"a": weights(1, 8, 8), "b": weights(2, 8, 8), "c": weights(3, 8)}
    new = {"a": old["a"], "b": old["b"].astype(np.float16), "c": weights(3, 9)}

    states = [change.state for change in diffed(old, new, tensors=False).changes]

    assert states == [State.UNREADABLE, State.RECAST, State.RESHAPED]


def test_a_file_cut_short_ends_in_findings() -> None:
    from tensor_sides import safetensors

    whole = {"a": weights(1, 100, 100), "b": weights(2, 100, 100)}
    cut = of_tree(Tree.of({"model.safetensors": safetensors(whole)[:-5000]}))

    found = compare_tensors(of_arrays(whole), cut, Options())

    states = {change.name: change.state for change in found.changes}
    assert states["a"] is State.EQUAL
    assert states["b"] is not State.EQUAL


def test_progress_hears_of_every_byte_that_is_compared() -> None:
    class Listener:
        total = done = finished = 0

        def start(self, what: str, total: int) -> None:
            self.total = total

        def advance(self, count: int) -> None:
            self.done += count

        def finish(self) -> None:
            self.finished += 1

    listener = Listener()
    diffed({"a": weights(1, 300, 300)}, {"a": weights(2, 300, 300)}, progress=listener)

    assert (listener.total, listener.done, listener.finished) == (720_000, 720_000, 1)


def test_matches_by_name_say_so() -> None:
    assert only(weights(1, 9), weights(1, 9)).match is Match.NAME
