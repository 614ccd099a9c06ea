"""YAML and JSON of other systems: plain values, whatever it says, and never more than it can mean."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import BadFormat
from assay.importers.documents import MAX_BYTES, flat, mapping, numbers_of
from assay.spec.json import canonical

_WORDS = "a: |b: |- |  |&x |*x|<<: |!!float |!!binary |!!set |!!omap |.inf|1e999|2024-01-01|2024-01-01 99:99:99|? |: "
PIECES = st.lists(st.sampled_from([*'\n[]{},"\0ü|', *_WORDS.split("|"), "9" * 30, "0x" + "f" * 5000]), max_size=30)


def laughs(depth: int) -> bytes:
    """A few hundred bytes that unfold to 10^depth values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, depth)]
    return "\n".join(lines).encode()


def merges(depth: int) -> bytes:
    """The same with merge keys, which unfold while they are read."""
    lines = ["a0: &a0 {x: 1}", *(f"a{n}: &a{n} {{<<: [{','.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, depth))]
    return "\n".join(lines).encode()


def test_values_that_json_cannot_say_become_text() -> None:
    body = mapping(b"day: 2024-01-31\nbad: .nan\nbig: 0x" + b"f" * 20 + b"\n1: {2: yes}\nset: !!set {a}\n", "x")
    assert body == {"day": "2024-01-31", "bad": "nan", "big": "0x" + "f" * 20, "1": {"2": True}, "set": ["a"]}
    assert numbers_of(flat(mapping(b'{"auc": 0.5, "nan": NaN, "yes": true, "by": {"x": 1}}', "x"))) == {
        "auc": 0.5,
        "by.x": 1.0,
    }


@pytest.mark.parametrize("data", [b"", b"a", b"- 1\n", b"[1]", b"3"])
def test_what_is_no_mapping_is_an_empty_one(data: bytes) -> None:
    assert mapping(data, "x") == {}


@pytest.mark.parametrize(
    "data",
    [
        laughs(9),
        merges(12),
        b"a: &a [*a]",
        b"a: &a {b: *a}",
        b"a: " + b"[" * 5000,
        b'{"a":' + b"[" * 50_000,
        b'{"a":' * 900 + b"1" + b"}" * 900,
        b"a: " + b" " * MAX_BYTES,
        b"a: *unknown",
        b"!!python/object/apply:os.system [id]: 1",
    ],
    ids="laughs merges list-in-itself mapping-in-itself deep deep-json deep-objects large no-anchor object".split(),
)
def test_what_unfolds_without_end_is_refused_before_it_does(data: bytes) -> None:
    with pytest.raises(BadFormat):
        flat(mapping(data, "params.yaml"))


def test_anchors_are_followed_where_they_are_meant() -> None:
    assert mapping(b"base: &b {lr: 0.1}\ntrain: {<<: *b, steps: 3}", "x")["train"] == {"lr": 0.1, "steps": 3}


@given(st.one_of(st.binary(max_size=60), PIECES.map(lambda pieces: "".join(pieces).encode())))
def test_any_bytes_are_plain_values_or_refused(data: bytes) -> None:
    try:
        body = mapping(data, "x")
    except BadFormat:
        return
    assert isinstance(json.loads(canonical(flat(body)).decode("utf-8", "surrogatepass")), dict)
    numbers_of(body)
