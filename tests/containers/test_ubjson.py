"""Universal Binary JSON, read in one bounded pass."""

from __future__ import annotations

import struct
import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.containers import ubjson
from assay.containers.ubjson import TypedArray
from assay.errors import BadFormat, LimitExceeded
from assay.trees import BytesWindow, Window


def window(data: bytes) -> Window:
    return BytesWindow(data, "model.ubj")


BIG = bytes(400_000)


def text(value: str) -> bytes:
    """A length and text as XGBoost writes them."""
    body = value.encode()
    return b"L" + struct.pack(">q", len(body)) + body


def obj(**members: bytes) -> bytes:
    return b"{" + b"".join(text(key) + value for key, value in members.items()) + b"}"


def typed(marker: bytes, count: int, payload: bytes) -> bytes:
    return b"[$" + marker + b"#L" + struct.pack(">q", count) + payload


def test_every_scalar_of_the_specification_is_read() -> None:
    items = [
        (b"Z", None), (b"T", True), (b"F", False), (b"i\xff", -1), (b"U\xff", 255), (b"I\x01\x00", 256),
        (b"l\xff\xff\xff\xfe", -2), (b"L" + struct.pack(">q", 1 << 40), 1 << 40), (b"d" + struct.pack(">f", 0.5), 0.5),
        (b"D" + struct.pack(">d", 0.1), 0.1), (b"Ca", "a"), (b"SU\x02hi", "hi"), (b"HU\x031.5", "1.5"),
    ]  # fmt: skip

    document = ubjson.load(window(b"[" + b"N".join(data for data, _ in items) + b"]"))

    assert document == [value for _, value in items]


def test_counted_typed_and_plain_containers_are_read() -> None:
    assert ubjson.load(window(b"[#U\x02i\x01i\x02")) == [1, 2]
    assert ubjson.load(window(b"{#U\x01U\x01ai\x05")) == {"a": 5}
    assert ubjson.load(window(b"{$U#U\x02U\x01a\x05U\x01b\x06")) == {"a": 5, "b": 6}
    assert ubjson.load(window(b"[$S#U\x02U\x01aU\x01b")) == ["a", "b"]
    assert ubjson.load(window(b"[$[#U\x02i\x01]i\x02]")) == [[1], [2]]
    assert ubjson.load(window(b"{U\x01a{}U\x01b[]}")) == {"a": {}, "b": []}


def test_typed_arrays_are_located_and_only_kept_ones_are_read() -> None:
    data = obj(
        small=typed(b"d", 2, struct.pack(">2f", 1.5, -2)), big=typed(b"l", 100_000, bytes(400_000)), end=b"i\x07"
    )
    source = window(data)

    document = ubjson.load(source, keep=["small"])

    assert document["end"] == 7
    assert document["small"].values.tolist() == [1.5, -2]
    assert document["big"] == TypedArray("int32", 100_000, data.index(BIG))
    assert source.budget.used < len(data)


def test_an_object_hook_replaces_objects_as_soon_as_they_are_read() -> None:
    data = obj(trees=b"[" + obj(n=b"i\x01") + obj(n=b"i\x02") + b"]")

    assert ubjson.load(window(data), object_hook=lambda body: body.get("n", body)) == {"trees": [1, 2]}


def test_a_document_that_ends_early_is_refused_and_can_be_salvaged() -> None:
    data = obj(first=b"i\x01", inner=obj(second=b"i\x02", third=b"SL" + struct.pack(">q", 100)))

    with pytest.raises(BadFormat, match="expected 100 more bytes"):
        ubjson.load(window(data))
    document, error = ubjson.salvage(window(data))
    assert document == {"first": 1, "inner": {"second": 2}}
    assert error is not None


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"?", id="unknown marker"),
        pytest.param(b"[$i]", id="type without count"),
        pytest.param(b"[#i\xff", id="negative count"),
        pytest.param(b"[#d\0\0\0\0", id="float count"),
        pytest.param(b"[$?#U\x01", id="unknown element type"),
        pytest.param(b"{U\x01a", id="key without value"),
        pytest.param(b"[i\x01", id="no closing bracket"),
        pytest.param(typed(b"D", 1 << 62, b""), id="typed array longer than the file"),
        pytest.param(b"SL" + struct.pack(">q", 1 << 20), id="text longer than the file"),
    ],
)
def test_malformed_documents_are_refused(data: bytes) -> None:
    with pytest.raises(BadFormat):
        ubjson.load(window(data))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"[" * 100_000, id="a hundred thousand open arrays"),
        pytest.param((b"{U\x01a") * 100_000, id="a hundred thousand open objects"),
        pytest.param(b"[$[#L" + struct.pack(">q", 1 << 40), id="counted arrays of arrays"),
        pytest.param(b"[$Z#L" + struct.pack(">q", 1 << 60), id="a count of nothings"),
        pytest.param(b"[$T#L" + struct.pack(">q", 1 << 33), id="a count of truths"),
        pytest.param(b"SL" + struct.pack(">q", 1 << 60), id="endless text"),
        pytest.param(b"N" * 600_000, id="nothing but no-ops"),
    ],
)
def test_depth_counts_and_lengths_are_bounded_in_time_and_memory(data: bytes) -> None:
    source = window(data)
    tracemalloc.start()
    started = time.process_time()

    with pytest.raises(LimitExceeded):
        ubjson.load(source)

    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()
    assert time.process_time() - started < 20


values = st.recursive(
    st.sampled_from([b"Z", b"T", b"i\x05", b"D" + bytes(8), b"SU\x01x", typed(b"l", 2, bytes(8)), b"[#U\x01i\x01"]),
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda items: b"[" + b"".join(items) + b"]")
        | st.dictionaries(st.sampled_from("abc"), inner, max_size=3).map(lambda items: obj(**items))
    ),
    max_leaves=12,
)


@settings(deadline=None, max_examples=200)
@given(st.one_of(st.binary(max_size=60), values), st.integers(0, 200), st.binary(max_size=3))
def test_any_bytes_give_a_document_or_our_errors(data: bytes, at: int, patch: bytes) -> None:
    for candidate in (data, data[:at], data[:at] + patch + data[at + len(patch) :]):
        try:
            ubjson.load(window(candidate), keep=["a"], max_values=10_000)
        except BadFormat:
            continue
