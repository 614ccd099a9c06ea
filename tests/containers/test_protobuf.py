"""Protocol-buffer messages are read in place, bounded, and only as far as somebody looks."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_builder import field, fields, varint

from assay.containers.protobuf.message import BYTES, FIXED32, FIXED64, VARINT, Field, message, unpack_varints
from assay.errors import AssayError, BadFormat, LimitExceeded
from assay.trees import Budget, BytesWindow, Tree, Window


def of(data: bytes, **settings: object) -> Field:
    return message(BytesWindow(data), **settings)  # type: ignore[arg-type]


def test_every_wire_type_is_read_with_its_number_and_value() -> None:
    data = field(1, 300) + field(2, "abc") + field(3, 1.5) + varint(4 << 3 | 1) + struct.pack("<d", 2.5)
    one, two, three, four = of(data)
    assert (one.number, one.wire, one.integer) == (1, VARINT, 300)
    assert (two.number, two.wire, two.text(), two.read()) == (2, BYTES, "abc", b"abc")
    assert (three.number, three.wire, three.real) == (3, FIXED32, 1.5)
    assert (four.number, four.wire, four.real) == (4, FIXED64, 2.5)


def test_numbers_are_signed_unsigned_or_zigzag_as_asked() -> None:
    negative = next(iter(of(field(1, -5))))
    assert negative.signed == -5
    assert negative.integer == 2**64 - 5
    assert [next(iter(of(field(1, value)))).zigzag for value in (0, 1, 2, 3)] == [0, -1, 1, -2]
    assert next(iter(of(varint(8 | 5) + b"\xff\xff\xff\xff"))).signed == -1


def test_repeated_numbers_are_read_packed_and_unpacked() -> None:
    packed = next(iter(of(field(1, varint(1) + varint(300) + varint(-1)))))
    assert packed.signed_integers() == [1, 300, -1]
    assert [part.signed_integers() for part in of(field(1, 7) + field(1, -8))] == [[7], [-8]]
    assert next(iter(of(field(1, struct.pack("<3f", 1, 2, 3))))).reals(4) == (1.0, 2.0, 3.0)
    assert next(iter(of(field(1, struct.pack("<2d", 1, 2))))).reals(8) == (1.0, 2.0)


def test_a_nested_message_is_a_view_with_offsets_in_the_entry() -> None:
    inner = fields((1, "left"), (2, "right"))
    data = b"junk" + field(9, inner)
    tree = Tree.of({"file": data})
    (outer,) = message(tree.open("file").sub(4))
    assert [part.text() for part in outer] == ["left", "right"]
    right = list(outer)[1]
    assert data[right.offset : right.offset + right.size] == b"right"


def test_big_payloads_are_skipped_not_read() -> None:
    payload = bytes(20_000_000)
    tree = Tree.of({"file": field(1, payload) + field(2, "between") + field(3, payload) + field(4, 7)})
    found = list(message(tree.open("file")))
    assert [part.size for part in found[:3]] == [20_000_000, 7, 20_000_000]
    assert found[3].integer == 7
    assert tree.budget.used < 4_000


def test_many_small_fields_are_read_in_few_blocks_and_once() -> None:
    data = b"".join(field(1, f"value {number}") for number in range(50_000))
    tree = Tree.of({"file": data})
    assert sum(1 for _ in message(tree.open("file"))) == 50_000
    assert tree.budget.used < 1.01 * len(data) + 1024


def test_fields_that_are_only_counted_are_not_yielded() -> None:
    tally = {1: 0, 2: 5}
    data = field(1, 4) + field(3, "x") + field(1, 5) + field(2, 1.0)
    assert [part.number for part in of(data).fields(tally)] == [3]
    assert tally == {1: 2, 2: 6}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x0a\x05abc", "after its message"),
        (b"\x08", "malformed"),
        (b"\x08" + b"\xff" * 11, "malformed"),
        (b"\x0d\x00\x00", "after its message"),
        (b"\x0b\x0c", "wire type 3"),
        (b"\x0e", "wire type 6"),
        (b"\x00\x00", "number 0"),
        (varint(2**35) + b"\x00", "is not allowed"),
        (b"\x0a" + varint(2**64 - 1), "after its message"),
        (field(1, b"\x0a\x09abc"), "after its message"),
    ],
)
def test_damage_is_refused_with_its_offset(data: bytes, reason: str) -> None:
    with pytest.raises(BadFormat, match=reason) as caught:
        [list(part) for part in of(data) if part.wire == BYTES]
    assert "offset" in caught.value.details


def test_a_field_cut_off_by_the_end_of_the_file_is_clipped_only_when_asked() -> None:
    data = field(1, field(2, b"x" * 100))[:-40]
    with pytest.raises(BadFormat):
        list(of(data))
    root = of(data, clip=True)
    (outer,) = root
    (inner,) = outer
    assert inner.size == 60
    assert root.reader.cut is not None
    # A field that overruns its own parent, inside a whole file, is damage and no truncation.
    with pytest.raises(BadFormat):
        list(next(iter(of(field(1, b"\x0a\x09abc") + field(2, 1), clip=True))))


def test_the_wrong_kind_of_value_is_refused() -> None:
    (number,) = of(field(1, 7))
    (text,) = of(field(1, "x"))
    for wrong in (number.read, number.text, lambda: list(number), lambda: number.real, lambda: text.integer):
        with pytest.raises(BadFormat, match="expected"):
            wrong()
    with pytest.raises(BadFormat, match="multiple of 4"):
        next(iter(of(field(1, b"12345")))).reals(4)
    with pytest.raises(BadFormat, match="malformed"):
        unpack_varints(b"\x80")


def test_too_many_fields_and_too_long_bytes_reach_their_limits() -> None:
    with pytest.raises(LimitExceeded, match="more than 10 protobuf fields"):
        list(of(field(1, 1) * 11, max_fields=10))
    with pytest.raises(LimitExceeded, match="more than 10 protobuf fields"):
        list(of(field(1, 1) * 11, max_fields=10).fields({1: 0}))
    (part,) = of(field(1, b"x" * 100))
    with pytest.raises(LimitExceeded, match="at most 99"):
        part.read(99)
    assert part.text(5) == "xxxxx"


def test_text_that_is_not_utf_8_is_replaced() -> None:
    (part,) = of(field(1, b"a\xffb"))
    assert part.text() == "a\ufffdb"


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 300), max_size=200), st.integers(0, 3))
def test_long_runs_are_counted_as_if_read_one_by_one(values: list[int], spoiler: int) -> None:
    run = b"".join(field(8, value) for value in values)
    reals = b"".join(field(7, 1.5) for _ in values)
    texts = b"".join(field(9, "x" * (value % 150)) for value in values)
    data = (
        field(1, "name") + run + texts + (b"", field(3, 4), field(8, "\x05\x06"), field(2, "x"))[spoiler] + reals + run
    )
    slow = [part.number for part in of(data)]
    tally = {7: 0, 8: 0, 9: 0}
    assert [part.number for part in of(data).fields(tally)] == [number for number in slow if number not in tally]
    assert tally == {number: slow.count(number) for number in tally}


def test_millions_of_unpacked_numbers_count_as_few_fields() -> None:
    values = b"".join(field(8, number % 1000) for number in range(100_000))
    data = field(1, "ids") + values + field(20, 7)
    tally = {8: 0}
    assert [part.number for part in of(data, max_fields=200).fields(tally)] == [1, 20]
    assert tally == {8: 100_000}


def test_a_run_does_not_hide_damage_behind_it() -> None:
    values = b"".join(field(8, number) for number in range(1000))
    with pytest.raises(BadFormat, match="malformed"):
        list(of(values + b"\x40" + b"\xff" * 11).fields({8: 0}))
    with pytest.raises(BadFormat, match="after its message"):
        list(of(field(7, 1.0) * 100 + b"\x3d\x00").fields({7: 0}))
    with pytest.raises(BadFormat, match="after its message"):
        list(of(field(9, "abc") * 100 + b"\x4a\x04abc").fields({9: 0}))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.booleans())
def test_any_bytes_end_in_fields_or_in_our_errors(data: bytes, clip: bool) -> None:
    def visit(part: Field, depth: int) -> None:
        for inner in part:
            assert part.start <= inner.start <= inner.end <= part.end
            if inner.wire == BYTES and depth < 4:
                with contextlib.suppress(BadFormat):
                    visit(inner, depth + 1)

    window = Window(BytesWindow(data).source, "fuzz", Budget(1 << 20))
    with contextlib.suppress(AssayError):
        visit(message(window, clip=clip), 0)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), max_size=40))
def test_varints_survive_a_round_trip(values: list[int]) -> None:
    assert unpack_varints(b"".join(varint(value) for value in values)) == values
