"""Plain values are compared place by place, whatever the order of keys."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from assay.compare.values import changes, same
from assay.spec.changes import ItemKind

SCALARS = st.none() | st.booleans() | st.integers(-1000, 1000) | st.floats(allow_nan=True) | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


def shuffled(value: object) -> object:
    if isinstance(value, dict):
        return {key: shuffled(value[key]) for key in reversed(value)}
    return [shuffled(item) for item in value] if isinstance(value, list) else value


@given(VALUES)
def test_a_value_does_not_differ_from_itself_in_another_order_of_keys(value: object) -> None:
    assert changes(value, shuffled(value)) == ([], False)


@given(st.dictionaries(st.text(max_size=4), VALUES, max_size=5), st.text(max_size=4), VALUES)
def test_one_key_more_is_one_addition(body: dict, key: str, value: object) -> None:
    before = {name: item for name, item in body.items() if name != key}

    found, _ = changes(before, {**before, key: value})
    gone, _ = changes({**before, key: value}, before)

    assert [(change.keys, change.kind) for change in found] == [((key,), ItemKind.ADDED)]
    assert [(change.keys, change.kind) for change in gone] == [((key,), ItemKind.REMOVED)]


@given(VALUES, VALUES)
def test_difference_is_found_from_both_sides(one: object, other: object) -> None:
    assert bool(changes(one, other)[0]) == bool(changes(other, one)[0])


def test_numbers_are_compared_by_worth_and_never_with_truth_values() -> None:
    assert same(1, 1.0)
    assert same(math.nan, math.nan)
    assert not same(1, True)
    assert not same(0, False)
    assert not same("1", 1)


def test_entries_with_names_are_paired_by_them() -> None:
    old = [{"name": "a", "units": 1}, {"name": "b", "units": 2}]
    new = [{"name": "z", "units": 0}, {"name": "a", "units": 1}, {"name": "b", "units": 3}]

    found, _ = changes({"layers": old}, {"layers": new})

    assert [(change.keys, change.kind) for change in found] == [
        (("layers", "z"), ItemKind.ADDED),
        (("layers", "b", "units"), ItemKind.CHANGED),
    ]


def test_entries_with_names_that_change_places_are_told_as_reordered() -> None:
    old = [{"name": "a"}, {"name": "b"}]

    found, _ = changes(old, old[::-1])

    assert [change.text for change in found] == ["the order changed"]


def test_the_number_of_changes_is_bounded() -> None:
    found, cut = changes({str(at): 0 for at in range(100)}, {str(at): 1 for at in range(100)}, limit=10)

    assert len(found) == 10
    assert cut


def test_depth_costs_no_recursion() -> None:
    old: object = 1
    new: object = 2
    for _ in range(50_000):
        old, new = {"a": old}, {"a": new}

    found, _ = changes(old, new)

    assert len(found) == 1
    assert len(found[0].keys) == 50_000
