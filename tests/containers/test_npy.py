"""The .npy header reader: every kind of type, and hostile headers."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.containers.npy import dtype_from_numpy, is_npy, parse_npy
from assay.errors import AssayError, BadFormat, LimitExceeded
from assay.trees import BytesWindow


def saved(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def with_header(text: str, version: int = 1) -> bytes:
    raw = text.encode()
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(raw)) + raw


@pytest.mark.parametrize(
    ("array", "dtype", "big"),
    [
        (np.zeros((3, 4), "<f4"), "float32", False),
        (np.zeros((), ">i8"), "int64", True),
        (np.zeros(2, "bool"), "bool", False),
        (np.zeros((2, 0, 3), "c16"), "complex128", False),
        (np.zeros(3, ">u1"), "uint8", False),
        (np.array(["a", "bc"]), "string", False),
        (np.zeros(2, "S3"), "bytes", False),
        (np.zeros(2, "M8[ns]"), "datetime64", False),
        (np.zeros(2, [("a", "<f4", (2, 2)), ("b", "U3")]), "void", False),
    ],
)
def test_every_plain_type_gives_its_name_shape_and_length(array: np.ndarray, dtype: str, big: bool) -> None:
    data = saved(array)

    header = parse_npy(BytesWindow(data, "a.npy"))

    assert (header.dtype, header.shape, header.big_endian) == (dtype, array.shape, big)
    assert header.nbytes == array.nbytes == len(data) - header.offset


def test_fortran_order_is_reported() -> None:
    assert parse_npy(BytesWindow(saved(np.asfortranarray(np.ones((2, 3)))), "a")).fortran


@pytest.mark.parametrize("array", [np.array([1, "a"], object), np.zeros(2, [("a", "i4"), ("b", "O")])])
def test_objects_have_no_length_even_inside_a_structure(array: np.ndarray) -> None:
    header = parse_npy(BytesWindow(saved(array), "a"))

    assert (header.dtype, header.nbytes) == ("object", None)


def test_versions_two_and_three_are_read() -> None:
    text = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }"

    assert parse_npy(BytesWindow(with_header(text, 2) + bytes(8), "a")).offset == 12 + len(text)
    assert parse_npy(BytesWindow(with_header(text, 3) + bytes(8), "a")).nbytes == 8


def test_a_header_written_by_python_2_is_read() -> None:
    text = "{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 3L), }"

    assert parse_npy(BytesWindow(with_header(text), "a")).shape == (2, 3)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "{'descr': '<f4', 'fortran_order': False}",
        "{'descr': '<f4', 'fortran_order': 1, 'shape': (2,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-2,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': [2]}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (True,)}",
        "{'descr': '<f3', 'fortran_order': False, 'shape': (2,)}",
        "{'descr': '<q9', 'fortran_order': False, 'shape': (2,)}",
        "{'descr': 7, 'fortran_order': False, 'shape': (2,)}",
        "{'descr': [('a',)], 'fortran_order': False, 'shape': (2,)}",
        f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({'9' * 18}, {'9' * 18})}}",
        f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({'9' * 30},)}}",
        "(" * 300,
        "-" * 300,
        "",
    ],
)
def test_a_header_that_is_no_array_is_refused(text: str) -> None:
    with pytest.raises(BadFormat):
        parse_npy(BytesWindow(with_header(text), "a"))


def test_a_huge_header_length_allocates_nothing() -> None:
    with pytest.raises(LimitExceeded):
        parse_npy(BytesWindow(b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "a"))


def test_a_truncated_header_is_refused() -> None:
    data = saved(np.zeros(3))

    with pytest.raises(BadFormat):
        parse_npy(BytesWindow(data[:100], "a"))


def test_types_are_understood_alone() -> None:
    assert dtype_from_numpy(">f4") == ("float32", True, 4)
    assert dtype_from_numpy("|O") == ("object", False, None)
    assert dtype_from_numpy("<U3") == ("string", False, 12)
    assert not is_npy(b"\x93NUMPY\x09")


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_no_bytes_make_it_do_anything_but_answer_or_refuse(data: st.DataObject) -> None:
    raw = bytearray(saved(np.zeros((3, 2), [("a", "<f4"), ("b", ">i2", (2,))])))
    for at in data.draw(st.lists(st.integers(6, 120), max_size=6)):
        raw[at] = data.draw(st.integers(0, 255))

    try:
        header = parse_npy(BytesWindow(bytes(raw[: data.draw(st.integers(0, len(raw)))]), "a"))
    except AssayError:
        return

    assert all(size >= 0 for size in header.shape)
