"""Pickled objects are compared by what they say, whatever protocol or library wrote them."""

from __future__ import annotations

import pickle
import re
from collections import OrderedDict
from pathlib import Path

import joblib
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from item_diffs import behaviours, items_between

from assay.compare.covered import Cover
from assay.compare.gathering import Gathered, Judgement
from assay.compare.pickled import compare_pickles
from assay.spec.changes import Area, Effect
from assay.trees import BytesWindow

ATOMS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.binary(max_size=6)
OBJECTS = st.recursive(
    ATOMS | st.builds(complex, st.floats(allow_nan=False), st.floats(allow_nan=False)),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=4)
        | st.dictionaries(st.text(max_size=4), inner, max_size=3).map(OrderedDict)
        | st.sets(st.integers() | st.text(max_size=3), max_size=4)
    ),
    max_leaves=15,
)
PROTOCOLS = st.integers(2, 5)


def between(old: bytes, new: bytes) -> Gathered:
    gathered = Gathered()
    sides = [(BytesWindow(data, "m.pkl"), Cover()) for data in (old, new)]
    compare_pickles(gathered, sides[0], sides[1], "m.pkl", lambda _: Judgement(Area.PIPELINE))
    return gathered


@settings(max_examples=150)
@given(OBJECTS, PROTOCOLS, PROTOCOLS)
def test_the_protocol_makes_no_difference(value: object, one: int, other: int) -> None:
    assert between(pickle.dumps(value, one), pickle.dumps(value, other)).items == []


@settings(max_examples=150)
@given(OBJECTS, ATOMS, ATOMS, PROTOCOLS)
def test_one_other_constant_is_one_difference(value: object, was: object, now: object, protocol: int) -> None:
    pair = [pickle.dumps({"same": value, "deep": [{"leaf": leaf}]}, protocol) for leaf in (was, now)]

    found = between(*pair)

    equal = was == now or (was != was and now != now)
    if equal and isinstance(was, bool) == isinstance(now, bool):
        assert found.items == []
    else:
        assert [(item.path, item.effect) for item in found.items] == [("m.pkl: deep.0.leaf", Effect.BEHAVIOUR)]


def test_a_shared_and_a_copied_part_say_the_same() -> None:
    part = {"a": 1}

    assert between(pickle.dumps([part, part]), pickle.dumps([{"a": 1}, {"a": 1}])).items == []


def test_cycles_end() -> None:
    old: list = [1]
    old.append(old)
    new: list = [2]
    new.append(new)

    assert [item.path for item in between(pickle.dumps(old), pickle.dumps(new)).items] == ["m.pkl: 0"]


def test_a_stream_that_breaks_off_is_not_understood() -> None:
    whole = pickle.dumps({"a": list(range(50))})

    found = between(whole, whole[:-20])

    assert [item.effect for item in found.items] == [Effect.BEHAVIOUR]
    assert [finding.rule for finding in found.findings] == ["diff-unread"]


def test_an_array_that_nobody_lists_is_compared_by_its_bytes() -> None:
    one, other = np.arange(5), np.array([0, 1, 2, 3, 5])

    assert between(pickle.dumps({"x": one}), pickle.dumps({"x": one}, 2)).items == []
    assert [item.path for item in between(pickle.dumps({"x": one}), pickle.dumps({"x": other})).items] == ["m.pkl: x"]


def test_bytes_between_the_fields_of_a_record_do_not_count() -> None:
    kind = np.dtype({"names": ["a", "b"], "formats": ["u1", "<f8"], "offsets": [0, 8], "itemsize": 16})
    array = np.zeros(2, kind)
    array["a"], array["b"] = 3, 0.5
    record = re.compile(rb"\x03.{7}(\0{6}\xe0\x3f)", re.DOTALL)
    saved = pickle.dumps(array)
    clean, dirty = (
        record.sub(lambda found, fill=fill: b"\x03" + fill * 7 + found[1], saved) for fill in (b"\0", b"\7")
    )

    assert clean != dirty
    assert between(clean, dirty).items == []
    other = clean.replace(b"\x03" + bytes(7), b"\x04" + bytes(7), 1)
    assert [item.effect for item in between(clean, other).items] == [Effect.BEHAVIOUR]


def test_arrays_of_objects_are_compared_element_by_element(tmp_path: Path) -> None:
    for name, words in (("a", ["x", "y"]), ("b", ["x", "z"])):
        (tmp_path / name).mkdir()
        joblib.dump({"words": np.array(words, dtype=object), "n": np.ones(3)}, tmp_path / name / "m.joblib")

    found = behaviours(items_between(tmp_path / "a", tmp_path / "b"))

    assert len(found) == 1
    assert found[0][1].startswith("m.joblib: words")


def test_keys_that_cannot_be_told_apart_are_not_passed_over() -> None:
    class_of_keys = (("a", ("b",)), ("a", ("c",)))
    old = {class_of_keys[0]: 1, class_of_keys[1]: 2}
    new = {class_of_keys[0]: 1, class_of_keys[1]: 3}

    assert any(item.effect is Effect.BEHAVIOUR for item in between(pickle.dumps(old), pickle.dumps(new)).items)
