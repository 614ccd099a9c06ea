"""Answers held against recorded ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from assay.compare.outputs import Compared, compare_outputs
from assay.loaders.examples import encode
from assay.spec.example import Example, Tolerance, Value


def _compare(expected: object, found: object, tolerance: Tolerance | None = None) -> list[Compared]:
    example = Example(encode(0), (), {"*": tolerance} if tolerance else {})
    one, other = (value if isinstance(value, Value) else encode(value) for value in (expected, found))
    return list(compare_outputs(one, other, example.allowed))


@given(hnp.arrays(st.sampled_from(["float32", "float64", "int16", "bool", "complex64", "float16"]), (3, 2)))
def test_an_answer_agrees_with_itself(array: np.ndarray) -> None:
    (one,) = _compare(array, array.copy())

    assert one.problem is None
    assert (one.count, one.max_absolute) == (6, 0.0)


@given(
    hnp.arrays("float64", 5, elements=st.floats(-1e6, 1e6)),
    hnp.arrays("float64", 5, elements=st.floats(-1e6, 1e6)),
    st.floats(0, 0.5),
    st.floats(0, 10),
)
def test_with_an_absolute_part_the_judgement_is_that_of_numpy(
    expected: np.ndarray, found: np.ndarray, relative: float, absolute: float
) -> None:
    (one,) = _compare(expected, found, Tolerance(relative, absolute))

    assert (one.problem is None) == bool(np.all(np.abs(found - expected) <= absolute + relative * np.abs(expected)))
    assert one.max_absolute == np.abs(found - expected).max()


def test_rounding_beside_large_numbers_is_no_difference() -> None:
    expected = np.array([100.0, 1e-7], dtype="float32")

    (near,) = _compare(expected, expected + np.float32(1e-3))
    (far,) = _compare(expected, expected + np.float32(1.0))

    assert near.problem is None
    assert far.problem is not None


def test_the_number_that_is_furthest_off_is_named() -> None:
    (one,) = _compare(np.zeros((2, 2)), np.array([[0, 1.0], [0, 3.0]]))

    assert one.problem == (
        "2 of 4 numbers differ by more than is allowed, most at [1, 1]: expected 0.0, found 3.0 (difference 3)"
    )
    assert (one.expected, one.found) == (0.0, 3.0)


@pytest.mark.parametrize(
    ("expected", "found"),
    [(np.nan, np.nan), (np.inf, np.inf), (np.array([np.nan, 1]), np.array([np.nan, 1])), (-np.inf, -np.inf)],
)
def test_nan_and_infinity_agree_with_themselves(expected: object, found: object) -> None:
    (one,) = _compare(np.asarray(expected), np.asarray(found))

    assert one.problem is None


@pytest.mark.parametrize(
    ("expected", "found", "said"),
    [
        (np.ones(2), np.ones(3), "expected the shape [2], found [3]"),
        (np.ones(2), np.array([1, np.nan]), "1 of 2 numbers"),
        (np.ones(2), np.array([1, np.inf]), "1 of 2 numbers"),
        (np.array([1, 2]), np.array([1, 3]), "1 of 2 numbers"),
        (np.array([2**62]), np.array([2**62 + 1]), "1 of 1 numbers"),
        (np.array(["a", "b"]), np.array(["a", "c"]), "1 of 2 values differ, first at [1]: expected 'b', found 'c'"),
        (np.array([True]), np.array([1.0]), "expected truth values, found numbers"),
        (np.ones(2), {"a": np.ones(2), "b": np.ones(2)}, "expected an array of float64[2], found the outputs a, b"),
        ({"a": np.ones(2)}, np.ones(2), "expected the outputs a, found an array of float64[2]"),
        ({"a": np.ones(2)}, {"b": np.ones(2)}, "it is not among the answers (b)"),
        ((np.ones(1), np.ones(1)), (np.ones(1),), "expected 2 values, found 1"),
    ],
    ids=[
        "shape",
        "nan",
        "infinity",
        "integers",
        "large integers",
        "text",
        "kind",
        "names",
        "no names",
        "name",
        "count",
    ],
)
def test_a_difference_is_said_in_words(expected: object, found: object, said: str) -> None:
    problems = [one.problem for one in _compare(expected, found) if one.problem]

    assert len(problems) == 1
    assert said in problems[0]


def test_a_single_named_output_stands_for_itself_and_further_ones_are_not_looked_at() -> None:
    assert [one.problem for one in _compare([1.0, 2.0], {"y": np.array([1, 2], dtype="float32")})] == [None]
    assert [one.problem for one in _compare({"y": np.ones(1)}, {"y": np.ones(1), "z": np.zeros(1)})] == [None]


def test_what_a_person_wrote_is_held_to_the_precision_of_the_answer() -> None:
    (single,) = _compare([0.3], np.array([0.3], dtype="float32"))
    (coarse,) = _compare([1.0], np.array([1.004], dtype="float16"))

    assert (single.problem, coarse.problem) == (None, None)
