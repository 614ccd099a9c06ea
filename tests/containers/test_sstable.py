"""Sorted string tables: what is written is read, and hostile tables end in our errors."""

from __future__ import annotations

import contextlib
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_files import table, varint

from assay.containers import sstable
from assay.containers.sstable import entries, is_table, unsnappy
from assay.errors import AssayError, BadFormat, LimitExceeded
from assay.trees import BytesWindow


def read(data: bytes) -> list[tuple[bytes, bytes]]:
    return list(entries(BytesWindow(data, "x.index")))


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(st.binary(max_size=20), st.binary(max_size=20), max_size=40), st.booleans())
def test_what_is_written_is_read(pairs: dict[bytes, bytes], snappy: bool) -> None:
    assert read(table(pairs, snappy=snappy)) == sorted(pairs.items())


def test_snappy_copies_repeat_what_was_there() -> None:
    window = BytesWindow(b"", "x")

    assert (
        unsnappy(varint(13) + bytes([2 << 2]) + b"abc" + bytes([(10 - 1) << 2 | 2, 3, 0]), window) == b"abcabcabcabca"
    )
    with pytest.raises(BadFormat, match="back"):
        unsnappy(varint(13) + bytes([(10 - 1) << 2 | 2, 3, 0]), window)
    with pytest.raises(LimitExceeded):
        unsnappy(varint(1 << 40) + b"\0a", window)
    with pytest.raises(BadFormat, match="expected 9"):
        unsnappy(varint(9) + bytes([2 << 2]) + b"abc", window)


@pytest.mark.parametrize("data", [b"", b"x" * 100, b"\xff" * 40 + sstable.MAGIC.to_bytes(8, "little")])
def test_what_is_no_table_is_refused(data: bytes) -> None:
    with pytest.raises(BadFormat):
        read(data)


def test_an_unknown_compression_is_named() -> None:
    with pytest.raises(BadFormat, match="compression 9"):
        read(table({b"a": b"b"}, compression=9))


def test_one_block_referred_to_many_times_is_refused() -> None:
    data = table({os.urandom(8): os.urandom(400) for _ in range(9)}, repeat=50)

    with pytest.raises(BadFormat, match="overlap"):
        read(data)


def test_keys_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sstable, "MAX_ENTRIES", 3)

    with pytest.raises(LimitExceeded):
        read(table({bytes([i]): b"" for i in range(5)}))


TABLE = table({b"": b"header", b"alpha": b"1" * 30, b"alphabet": b"2", b"beta": b"3" * 9})


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=8), st.integers(0, 1 << 16))
def test_mutated_tables_give_entries_or_our_errors(edits: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(TABLE)
    for place, value in edits:
        data[place % len(data)] = value

    for version in (bytes(data), bytes(data[cut % len(data) :])):
        with contextlib.suppress(AssayError):
            assert len(read(version)) < 1000
        is_table(BytesWindow(version))
