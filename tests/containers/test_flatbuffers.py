"""FlatBuffers, read slot by slot from hostile and honest bytes."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.containers.flatbuffers import FlatBuffer, Table, Vector
from assay.errors import AssayError, BadFormat, LimitExceeded
from assay.trees import BytesWindow


def buffer_of(*fields: bytes | None, size: int | None = None) -> bytes:
    """A buffer whose root table holds inline fields (already aligned by the caller); the rest follows the table."""
    vtable_size = 4 + 2 * len(fields)
    places, inline = [], b""
    for field in fields:
        places.append(0 if field is None else 4 + len(inline))
        inline += field or b""
    table_size = 4 + len(inline)
    vtable = struct.pack(f"<HH{len(fields)}H", vtable_size, table_size if size is None else size, *places)
    table_at = 4 + len(vtable)
    return struct.pack("<I", table_at) + vtable + struct.pack("<i", len(vtable)) + inline


def root(data: bytes, **limits: int) -> Table:
    return FlatBuffer(BytesWindow(data, "model.fb"), **limits).root()


def with_target(target: bytes) -> bytes:
    """A root table with one offset field that leads to *target*, right behind the table."""
    return buffer_of(struct.pack("<I", 4)) + target


def test_scalars_are_read_by_slot_and_absent_ones_give_the_default() -> None:
    table = root(buffer_of(struct.pack("<i", -7), None, struct.pack("<d", 0.5), b"\x01\0\0\0"))

    assert (table.integer(0), table.integer(1, default=9), table.scalar(2, "d"), table.boolean(3)) == (-7, 9, 0.5, True)
    assert 0 in table
    assert 1 not in table
    assert table.integer(40, default=3) == 3


def test_strings_and_vectors_follow_their_offsets() -> None:
    assert root(with_target(struct.pack("<I", 3) + b"abc\0")).string(0) == "abc"
    assert root(with_target(struct.pack("<I3i", 3, 1, 2, 3))).integers(0) == (1, 2, 3)
    assert root(with_target(struct.pack("<I", 2) + b"hi")).data(0) == b"hi"


def test_a_vector_can_be_located_without_reading_it() -> None:
    data = with_target(struct.pack("<I", 1000) + bytes(1000))

    assert root(data).vector(0, 1) == Vector(len(data) - 1000, 1000)


def test_the_official_builder_is_read_back() -> None:
    import flatbuffers

    builder = flatbuffers.Builder(64)
    names = [builder.CreateString(text) for text in ("alpha", "béta")]
    builder.StartVector(4, 2, 4)
    for name in reversed(names):
        builder.PrependUOffsetTRelative(name)
    vector = builder.EndVector()
    builder.StartObject(3)
    builder.PrependInt32Slot(2, 77, 0)
    child = builder.EndObject()
    builder.StartObject(4)
    builder.PrependUOffsetTRelativeSlot(0, vector, 0)
    builder.PrependUOffsetTRelativeSlot(1, child, 0)
    builder.PrependBoolSlot(3, True, False)
    builder.Finish(builder.EndObject(), file_identifier=b"TEST")
    table = root(bytes(builder.Output()))

    inner = table.table(1)
    assert table.strings(0) == ("alpha", "béta")
    assert inner is not None
    assert inner.integer(2) == 77
    assert table.boolean(3)
    assert table.buffer.identifier == b"TEST"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(struct.pack("<I", 1 << 30), id="root outside"),
        pytest.param(struct.pack("<Ii", 4, -(1 << 30)), id="vtable outside"),
        pytest.param(struct.pack("<IiHH", 4, -4, 2, 4), id="vtable too small"),
        pytest.param(with_target(b"")[:-4] + struct.pack("<I", 1 << 31), id="string outside"),
        pytest.param(with_target(struct.pack("<I", 100) + b"abc"), id="string longer than the file"),
        pytest.param(buffer_of(struct.pack("<I", 4), size=4), id="field outside its table"),
    ],
)
def test_offsets_that_lead_outside_are_refused(data: bytes) -> None:
    with pytest.raises(BadFormat):
        root(data).string(0)


def test_a_vector_that_promises_more_than_the_file_holds_is_refused_before_anything_is_allocated() -> None:
    with pytest.raises(BadFormat, match="does not fit"):
        root(with_target(struct.pack("<I", 0xFFFFFFFF))).numbers(0, "d")


def test_elements_that_share_one_target_exhaust_the_count_of_values() -> None:
    data = with_target(struct.pack("<I", 5000) + struct.pack("<5000I", *range(20000, 0, -4)) + struct.pack("<I", 0))

    with pytest.raises(LimitExceeded, match="too many values"):
        root(bytes(data), max_values=1000).strings(0)


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=200), st.integers(0, 6))
def test_any_bytes_give_values_or_our_errors(data: bytes, slot: int) -> None:
    for take in (Table.string, Table.table, Table.integers, Table.tables, Table.strings, Table.data):
        for candidate in (data, with_target(data)):
            try:
                take(root(candidate, max_values=5000), slot)  # type: ignore[arg-type]
            except AssayError:
                continue
