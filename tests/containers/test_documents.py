"""Foreign JSON and YAML: bounded, without aliases, tags, NaN or surrogates."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.containers.documents import MAX_YAML, parse_json, parse_yaml, plain, read_json
from assay.errors import AssayError, BadFormat, LimitExceeded
from assay.spec.json import canonical
from assay.trees import BytesWindow


def test_repeated_keys_are_reported_and_the_last_wins() -> None:
    document = parse_json(b'{"a": 1, "b": {"c": 1, "c": 2}, "a": 3}', "x")

    assert document.value == {"a": 3, "b": {"c": 2}}
    assert document.repeated == ("c", "a")


def test_nan_becomes_text_and_a_lone_surrogate_a_replacement() -> None:
    value = parse_json(b'[NaN, -Infinity, "\\ud800", "\\ud83d\\ude00", "\\\\ud800"]', "x").value

    assert value == ["NaN", "-Infinity", "\ufffd", "\U0001f600", "\\ud800"]
    assert canonical(value)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe{", b"[" * 200_000, b'{"a":' * 50_000, b"1" * 5000])
def test_what_is_not_json_is_refused(data: bytes) -> None:
    with pytest.raises(BadFormat):
        parse_json(data, "x")


def test_more_values_than_any_document_has_are_refused_before_they_are_built() -> None:
    with pytest.raises(LimitExceeded):
        parse_json(b"[" + b"[]," * 5_000_000 + b"[]]", "x")


def test_a_long_document_is_refused_unread() -> None:
    window = BytesWindow(b" " * 100, "x")

    with pytest.raises(LimitExceeded):
        read_json(window, 99)
    assert window.budget.used == 0


def test_yaml_scalars_mean_what_they_look_like() -> None:
    text = """
a: 1
b: 1.5e-3
c: "1"
d: no
e: 2024-01-01
f: ~
g: true
h: |
  two
  lines
i: [x, {y: -2}]
j: .inf
"""

    assert parse_yaml(text, "x") == {
        "a": 1,
        "b": 0.0015,
        "c": "1",
        "d": "no",
        "e": "2024-01-01",
        "f": None,
        "g": True,
        "h": "two\nlines\n",
        "i": ["x", {"y": -2}],
        "j": ".inf",
    }


def test_yaml_tags_construct_nothing() -> None:
    assert parse_yaml("!!python/object/apply:os.system [echo]", "x") == ["echo"]


@pytest.mark.parametrize(
    "text", ["a: &x [1]\nb: *x", "[" * 100, "- " * 100, "a: b: c", "\x00", "a: " + "x" * MAX_YAML, "{a: 1"]
)
def test_yaml_that_multiplies_nests_or_breaks_is_refused(text: str) -> None:
    with pytest.raises(BadFormat):
        parse_yaml(text, "x")


def test_shown_values_are_json_and_short() -> None:
    deep: object = "x"
    for _ in range(50):
        deep = [deep]
    value = plain({"a": float("nan"), "b": "x" * 5000, "c": list(range(1000)), "d": deep, "e": {1: object}})

    assert len(canonical(value)) < 4000
    assert isinstance(value, dict)
    assert value["a"] == "nan"


@settings(deadline=None, max_examples=100)
@given(st.one_of(st.text(alphabet="{}[]:,-&*!|>'\"#\n abc01.~", max_size=60), st.text(max_size=40)))
def test_any_text_is_read_as_yaml_or_refused(text: str) -> None:
    try:
        canonical(plain(parse_yaml(text, "x")))
    except AssayError:
        return


@settings(deadline=None, max_examples=100)
@given(st.one_of(st.binary(max_size=40), st.text(alphabet='{}[]:,"\\ud8df0123truefalsn', max_size=60).map(str.encode)))
def test_any_bytes_are_read_as_json_or_refused(data: bytes) -> None:
    try:
        canonical(parse_json(data, "x").value)
    except AssayError:
        return
