"""HDF5 read without the HDF5 library, compared with h5py and tried with hostile files."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.containers.guard import guarded
from assay.containers.hdf5 import file as hdf5
from assay.containers.hdf5 import reader as hdf5_reader
from assay.containers.hdf5 import types as hdf5_types
from assay.containers.hdf5.file import Dataset, File, Group
from assay.errors import AssayError, BadFormat, LimitExceeded
from assay.spec.finding import Severity
from assay.trees import BytesWindow

RANDOM = np.random.default_rng(7).standard_normal((37, 53)).astype("f4")
LAYOUTS = [("earliest", 0), ("latest", 0), (("v108", "v108"), 512), (("v110", "v110"), 2048), ("earliest", 1024)]


def build(write: Any, **options: Any) -> bytes:
    """The bytes of an HDF5 file that *write* fills."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", **options) as file:
        write(file)
    return buffer.getvalue()


def rich(file: h5py.File) -> None:
    """A file with every kind of storage that the reader understands."""
    many = file.create_group("many")
    for number in range(300):
        many.create_dataset(f"d{number:03}_{'x' * (number % 40)}", data=np.arange(number % 7, dtype="i2"))
    for number in range(60):
        file.attrs[f"attribute {number}"] = f"value {number} " + "y" * number
    file.attrs["names"] = np.array([b"abc", b"de"], dtype="S5")
    file.attrs["texts"] = ["aa", "b", ""]
    file.attrs["number"], file.attrs["yes"], file.attrs["list"] = 1.5, True, np.arange(6.0)
    file.create_dataset("filtered", data=RANDOM, chunks=(8, 16), compression="gzip", shuffle=True, fletcher32=True)
    file.create_dataset("big", data=RANDOM.astype(">f8"), chunks=(37, 53))
    file.create_dataset("paged", data=RANDOM, chunks=(1, 1))
    file.create_dataset("single", data=RANDOM, chunks=(37, 53), compression="gzip")
    file.create_dataset("bounded", data=RANDOM, chunks=(5, 7), maxshape=(100, 200), compression="gzip")
    file.create_dataset("unbounded", data=RANDOM, chunks=(5, 7), maxshape=(None, None), compression="gzip")
    sparse = file.create_dataset("sparse", shape=(100,), chunks=(10,), dtype="i4", fillvalue=7)
    sparse[33:44] = 1
    file.create_dataset("unwritten", shape=(4,), dtype="f4", fillvalue=2.5)
    file.create_dataset("yes", data=np.array([True, False]))
    file.create_dataset("half", data=RANDOM.astype("f2"))
    file.create_dataset("complex", data=np.ones(3, "c8"))
    file.create_dataset("scalar", data=3.0)
    file.create_dataset("records", data=np.zeros(3, dtype=[("a", "i4"), ("b", "f4", (2,))]))
    deep = file.create_group("a/b/c/d")
    file["named"] = np.dtype("i4")
    deep.attrs.create("of a named type", 3, dtype=file["named"])
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.COMPACT)
    space = h5py.h5s.create_simple((3,))
    made = h5py.h5d.create(deep.id, b"compact", h5py.h5t.IEEE_F32LE, space, properties)
    made.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array([1, 2, 3], "f4"))


def plain(value: Any) -> Any:
    """An attribute of h5py as our reader gives it."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, np.ndarray):
        return [plain(item) for item in value]
    return plain(value.item()) if isinstance(value, np.generic) else value


def open_(data: bytes) -> File:
    return File(BytesWindow(data, "model.h5"))


def read_all(data: bytes) -> File:
    """Everything that can be asked of a file; errors of single datasets do not end it."""
    file = open_(data)
    for _, item in file.walk():
        assert item.attributes is not None
        if isinstance(item, Dataset):
            try:
                item.read()
            except BadFormat:
                continue
    return file


def rules(file: File) -> set[tuple[str, Severity]]:
    return {(finding.rule, finding.severity) for finding in file.findings}


@pytest.mark.parametrize(("version", "user_block"), LAYOUTS)
def test_every_dataset_and_attribute_is_what_h5py_reads(version: Any, user_block: int) -> None:
    data = build(rich, libver=version, userblock_size=user_block)

    ours = dict(open_(data).walk())

    theirs: dict[str, Any] = {}
    with h5py.File(io.BytesIO(data)) as file:
        file.visititems(lambda name, item: theirs.setdefault(name, item) and None)
        theirs = {name: item for name, item in theirs.items() if not isinstance(item, h5py.Datatype)}
        assert set(ours) == set(theirs)
        assert open_(data).root.attributes == {name: plain(value) for name, value in file.attrs.items()}
        for name, item in theirs.items():
            mine = ours[name]
            assert mine.attributes == {key: plain(value) for key, value in item.attrs.items()}
            if isinstance(item, h5py.Dataset):
                assert isinstance(mine, Dataset)
                assert mine.shape == item.shape
                assert mine.read() == item[()].tobytes(), name
                if item.dtype.kind in "fiubc":
                    assert mine.dtype == item.dtype.newbyteorder("=").name
                assert mine.chunked == (item.chunks is not None)


@pytest.mark.parametrize(("version", "user_block"), LAYOUTS)
def test_the_bytes_at_an_extent_are_the_elements(version: Any, user_block: int) -> None:
    data = build(lambda file: file.create_dataset("w", data=RANDOM), libver=version, userblock_size=user_block)

    item = open_(data).get("w")

    assert isinstance(item, Dataset)
    assert item.extent is not None
    assert data[item.extent.offset :][: item.extent.length] == RANDOM.tobytes()


def test_filters_are_named_and_leave_no_extent() -> None:
    data = build(lambda file: file.create_dataset("w", data=RANDOM, compression="gzip", shuffle=True, fletcher32=True))

    item = open_(data).get("w")

    assert isinstance(item, Dataset)
    assert item.filters == ("shuffle", "deflate", "fletcher32")
    assert item.extent is None


def test_links_out_of_the_file_are_findings_and_never_followed() -> None:
    def write(file: h5py.File) -> None:
        file["kernel"] = h5py.ExternalLink("/etc/passwd", "/x")
        file.create_dataset("kept", data=1.0)

    file = read_all(build(write))

    assert list(file.root.members) == ["kept"]
    assert rules(file) == {("hdf5-external-link", Severity.READ)}
    assert "/etc/passwd" in file.findings[0].evidence


def test_elements_in_another_file_are_a_finding_and_cannot_be_read() -> None:
    data = build(lambda file: file.create_dataset("w", shape=(4,), dtype="u1", external=[("/etc/passwd", 0, 4)]))

    file = open_(data)
    item = file.get("w")

    assert isinstance(item, Dataset)
    assert item.extent is None
    assert rules(file) == {("hdf5-external-storage", Severity.READ)}
    with pytest.raises(BadFormat, match="other files"):
        item.read()


def test_a_virtual_dataset_is_a_finding_and_cannot_be_read() -> None:
    def write(file: h5py.File) -> None:
        layout = h5py.VirtualLayout(shape=(4,), dtype="f4")
        layout[:] = h5py.VirtualSource("/secret.h5", "w", shape=(4,))
        file.create_virtual_dataset("w", layout)

    file = open_(build(write, libver="latest"))
    item = file.get("w")

    assert isinstance(item, Dataset)
    assert rules(file) == {("hdf5-virtual-dataset", Severity.READ)}
    with pytest.raises(BadFormat, match="other files"):
        item.read()


def test_a_group_inside_itself_is_walked_once() -> None:
    def write(file: h5py.File) -> None:
        file.create_group("a")
        file["a/again"] = file["a"]
        file["a/root"] = file["/"]

    file = open_(build(write))

    assert [path for path, _ in file.walk()] == ["a"]
    assert rules(file) == {("hdf5-cycle", Severity.NOTE)}


def test_a_soft_link_to_a_sibling_is_the_sibling_and_others_are_noted() -> None:
    def write(file: h5py.File) -> None:
        file["w"] = 1.0
        file["alias"] = h5py.SoftLink("/w")
        file["away"] = h5py.SoftLink("/no/where")

    file = open_(build(write))

    assert file.root.members["alias"] is file.root.members["w"]
    assert "away" not in file.root.members
    assert ("hdf5-soft-link", Severity.NOTE) in rules(file)


def test_a_shape_that_the_file_cannot_hold_is_a_finding_and_is_not_allocated() -> None:
    data = build(lambda file: file.create_dataset("w", shape=(1 << 40, 1 << 20), chunks=(1024, 1024), dtype="f4"))

    file = open_(data)
    item = file.get("w")

    assert isinstance(item, Dataset)
    assert ("hdf5-oversized", Severity.EXHAUST) in rules(file)
    with pytest.raises(LimitExceeded):
        item.read()


def test_a_truncated_file_keeps_what_is_there() -> None:
    data = build(lambda file: [file.create_dataset(name, data=RANDOM) for name in "abc"])

    file = open_(data[: len(data) - 100])

    last = max((i for _, i in open_(data).walk() if isinstance(i, Dataset) and i.extent), key=lambda i: i.extent.offset)
    assert [path for path, _ in file.walk()] == ["a", "b", "c"]
    assert ("hdf5-outside-file", Severity.INCOMPLETE) in rules(file)
    assert file.get(last.name).extent is None


def test_a_damaged_object_does_not_hide_the_others() -> None:
    data = build(lambda file: [file.create_dataset(name, data=np.ones(3)) for name in "abc"])
    address = open_(data).get("b").address

    file = open_(data[:address] + b"\xff" * 16 + data[address + 16 :])

    assert [path for path, _ in file.walk()] == ["a", "c"]
    assert rules(file) == {("hdf5-unreadable", Severity.INCOMPLETE)}


def test_a_chunk_that_inflates_to_more_than_its_size_is_refused() -> None:
    zeros = np.zeros((64, 64), "f4")
    data = bytearray(build(lambda file: file.create_dataset("w", data=zeros, chunks=(64, 64), compression="gzip")))
    # The layout message states the chunk's shape and the element size: make the chunk smaller than what is stored.
    at = data.find(np.array([64, 64, 4], "<u4").tobytes())
    data[at : at + 4] = (32).to_bytes(4, "little")

    item = open_(bytes(data)).get("w")

    assert isinstance(item, Dataset)
    with pytest.raises(BadFormat, match="decodes to"):
        item.read()


def test_a_filter_we_do_not_have_is_named_in_the_refusal() -> None:
    data = build(lambda file: file.create_dataset("w", data=np.zeros((37, 53)), chunks=(37, 53), compression="lzf"))

    item = open_(data).get("w")

    assert isinstance(item, Dataset)
    assert item.filters == ("lzf",)
    with pytest.raises(BadFormat, match="lzf is not supported"):
        item.read()


def test_a_shuffle_of_elements_wider_than_the_chunk_does_not_take_forever() -> None:
    data = bytearray(build(lambda file: file.create_dataset("w", data=RANDOM, chunks=(37, 53), shuffle=True)))
    # Filter 2, no name, optional, one value: the element width.
    at = data.find(bytes([2, 0, 8, 0, 1, 0, 1, 0]) + b"shuffle\0")
    data[at + 16 : at + 20] = b"\xff" * 4

    item = open_(bytes(data)).get("w")

    assert isinstance(item, Dataset)
    assert item.storage.filters[0].values == (0xFFFFFFFF,)
    assert len(item.read()) == RANDOM.nbytes


def test_groups_nested_too_deeply_are_a_finding() -> None:
    file = open_(
        build(
            lambda file: file.create_group("/".join(["g"] * 80)),
        )
    )

    depth = max(path.count("/") for path, _ in file.walk())

    assert depth == hdf5.MAX_DEPTH - 1
    assert ("hdf5-limit", Severity.INCOMPLETE) in rules(file)


@pytest.mark.parametrize(
    ("module", "limit", "value"),
    [
        (hdf5_reader, "MAX_STEPS", 200),
        (hdf5_reader, "MAX_METADATA", 10_000),
        (hdf5, "MAX_OBJECTS", 50),
    ],
)
def test_work_on_one_file_is_limited(monkeypatch: pytest.MonkeyPatch, module: Any, limit: str, value: int) -> None:
    data = build(rich)
    monkeypatch.setattr(module, limit, value)

    try:
        found = rules(read_all(data))
    except LimitExceeded:
        return

    assert ("hdf5-limit", Severity.INCOMPLETE) in found


def test_one_long_text_referred_to_many_times_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    data = build(lambda file: file.attrs.__setitem__("texts", ["x" * 1000] * 100))
    monkeypatch.setattr(hdf5_types, "MAX_TEXT", 50_000)

    file = open_(data)

    assert file.root.attributes == {}
    assert ("hdf5-unreadable", Severity.INCOMPLETE) in rules(file)


@pytest.mark.parametrize("data", [b"", b"\x89HDF\r\n\x1a\n", b"\x89HDF\r\n\x1a\n" + b"\xff" * 200, b"x" * 5000])
def test_what_is_not_hdf5_is_refused(data: bytes) -> None:
    with pytest.raises(BadFormat):
        open_(data)


def test_get_gives_nothing_for_paths_that_are_not_there() -> None:
    file = open_(build(lambda file: file.create_dataset("a/b", data=1.0)))

    assert isinstance(file.get("a"), Group)
    assert file.get("a/c") is None
    assert file.get("a/b/c") is None


def _small(file: h5py.File) -> None:
    file.attrs["model_config"], file.attrs["names"] = "{}" * 20, ["a", "bc"]
    group = file.create_group("g")
    for number in range(12):
        group.create_dataset(f"w{number}", data=np.arange(number, dtype="f4"))
        file.attrs[f"a{number}"] = number
    file.create_dataset("c", data=RANDOM[:8, :8], chunks=(4, 4), compression="gzip", shuffle=True)


SMALL = [build(_small), build(_small, libver="latest")]


@settings(deadline=None, max_examples=200)
@given(
    which=st.integers(0, 1),
    edits=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), max_size=12),
    cut=st.integers(0, 1 << 20),
    keep=st.booleans(),
)
def test_mutated_files_give_results_findings_or_our_errors(
    which: int, edits: list[tuple[int, int]], cut: int, keep: bool
) -> None:
    data = bytearray(SMALL[which])
    for place, value in edits:
        data[place % len(data)] = value
    window = BytesWindow(bytes(data if keep else data[: cut % len(data)]), "fuzz.h5")

    try:
        with guarded("an HDF5 file", "fuzz.h5"):
            file = File(window)
            for _, item in file.walk():
                assert len(item.attributes) < 1000
                if isinstance(item, Dataset):
                    try:
                        assert len(item.read()) < 100_000_000
                    except BadFormat:
                        continue
            assert len(file.findings) <= hdf5.MAX_FINDINGS
    except AssayError:
        pass


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=2000))
def test_random_bytes_behind_a_superblock_give_our_errors(noise: bytes) -> None:
    with contextlib.suppress(AssayError):
        read_all(SMALL[1][:48] + noise)
