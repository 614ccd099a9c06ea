"""NumPy files: stored and deflated archives, every element order, and archives of other formats."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import AssayError, BadFormat, NotFound
from assay.formats.npz import NpzFormat
from assay.ports.formats import TensorReader
from assay.spec.description import Description
from assay.spec.finding import Severity
from assay.spec.tensor import TensorSpec
from assay.trees import Tree
from assay.trees.window import FileSource

FORMAT = NpzFormat()


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def npz(save: Any = np.savez, **arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    save(buffer, **arrays)
    return buffer.getvalue()


def archive(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        for name, data in members.items():
            target.writestr(name, data)
    return buffer.getvalue()


def describe(data: bytes) -> Description:
    tree = Tree.of({"m": data})
    (group,) = FORMAT.detect(tree)
    return FORMAT.describe(tree, group)


def rules(description: Description) -> set[str]:
    return {finding.rule for finding in description.findings}


ARRAYS = {
    "c": np.arange(6, dtype="<f4").reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(24, dtype="<i2").reshape(2, 3, 4)),
    "big": np.arange(4, dtype=">f8"),
    "scalar": np.array(7, "<u8"),
    "empty": np.zeros((0, 3), "<f4"),
    "flags": np.array([True, False]),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_every_array_of_an_archive_can_be_read_as_numpy_reads_it(save: Any) -> None:
    data = npz(save, **ARRAYS)
    tree = Tree.of({"m": data})
    description = FORMAT.describe(tree, ("m",))

    assert isinstance(FORMAT, TensorReader)
    assert description.findings == ()
    assert [spec.name for spec in description.tensors] == list(ARRAYS)
    for spec in description.tensors:
        expected = ARRAYS[spec.name]
        got = np.frombuffer(FORMAT.tensor(tree, spec), np.dtype(spec.dtype)).reshape(spec.shape)
        assert np.array_equal(got, expected)
        assert (spec.extent is None) == (save is np.savez_compressed)


def test_extents_and_strides_give_the_elements_of_stored_arrays() -> None:
    data = npz(**ARRAYS)

    for spec in describe(data).tensors:
        assert spec.extent is not None
        dtype = np.dtype(spec.dtype).newbyteorder(">" if spec.big_endian else "<")
        flat = np.frombuffer(data[spec.extent.offset :][: spec.extent.length], dtype)
        strides = None if spec.strides is None else tuple(step * dtype.itemsize for step in spec.strides)
        assert np.array_equal(np.ndarray(spec.shape, dtype, flat.tobytes(), strides=strides), ARRAYS[spec.name])


def test_a_single_array_is_described() -> None:
    description = describe(npy(ARRAYS["fortran"]))

    (spec,) = description.tensors
    assert (spec.name, spec.dtype, spec.shape, spec.strides) == ("array", "int16", (2, 3, 4), (1, 2, 6))


def test_an_array_of_objects_is_told_and_its_pickle_is_judged() -> None:
    description = describe(npz(a=np.array([{"x": 1}], object), b=np.zeros(2)))

    (finding,) = description.findings
    assert (finding.rule, finding.severity) == ("npy-object-array", Severity.NOTE)
    assert [(spec.dtype, spec.extent is None) for spec in description.tensors] == [("object", True), ("float64", False)]
    with pytest.raises(BadFormat):
        FORMAT.tensor(Tree.of({"m": npz(a=np.array([1], object))}), TensorSpec("a", "object", (1,)))


def test_archives_with_other_members_are_not_claimed() -> None:
    files = {
        "torch.pt": archive(**{"a/data.pkl": b"", "a/data/0": bytes(8)}),
        "skops": archive(**{"0.npy": npy(np.zeros(2)), "schema.json": b"{}"}),
        "text.npy": b"not numpy",
        "empty.npz": archive(),
    }

    assert FORMAT.detect(Tree.of(files)) == []


@pytest.mark.parametrize(
    ("rule", "data"),
    [
        ("npy-truncated", npy(np.zeros(4))[:-8]),
        ("npy-trailing-bytes", npy(np.zeros(4)) + b"PK"),
        ("npy-truncated", archive(**{"a.npy": npy(np.zeros(4))[:-8]})),
        ("npz-bad-array", archive(**{"a.npy": npy(np.zeros(4)), "b.npy": b"\x93NUMPY\x01\x00\xff\xff"})),
        ("npz-bad-array", archive(**{"a.npy": npy(np.zeros(4)), "b.npy": b""})),
    ],
)
def test_damage_is_a_finding(rule: str, data: bytes) -> None:
    description = describe(data)

    assert rule in rules(description)
    assert not description.complete or rule == "npy-trailing-bytes"


def test_a_truncated_archive_is_refused() -> None:
    data = npz(a=np.zeros(100))
    tree = Tree.of({"m.npz": data[:-40]})

    (group,) = FORMAT.detect(tree)
    with pytest.raises(BadFormat):
        FORMAT.describe(tree, group)


def test_a_tensor_nobody_holds_is_not_found() -> None:
    with pytest.raises(NotFound):
        FORMAT.tensor(Tree.of({"m": npz(a=np.zeros(3))}), TensorSpec("b", "float64", (3,)))


def test_a_deflated_giant_is_described_from_its_beginning() -> None:
    data = npz(np.savez_compressed, a=np.zeros(20_000_000, "u1"))
    tree = Tree.of({"m": data}, limit=1_000_000)

    (spec,) = FORMAT.describe(tree, ("m",)).tensors

    assert (spec.nbytes, spec.extent) == (20_000_000, None)


@pytest.mark.framework
def test_a_sparse_matrix_of_scipy_is_recognised() -> None:
    import scipy.sparse as sp

    buffer = io.BytesIO()
    sp.save_npz(buffer, sp.csr_matrix(np.eye(3)))

    assert describe(buffer.getvalue()).metadata["layout"] == "scipy.sparse matrix"


@pytest.mark.real
def test_a_real_model_is_read_as_numpy_reads_it(real_model: Callable[[str, str, str], Path]) -> None:
    file = real_model("g2p-en==2.1.0", "g2p_en/checkpoint20.npz", "b8af35e4596d")
    tree = Tree({"m.npz": FileSource(file)})

    (group,) = FORMAT.detect(tree)
    description = FORMAT.describe(tree, group)

    assert (len(description.tensors), description.parameters, description.findings) == (12, 834_890, ())
    with np.load(file) as theirs:
        for spec in description.tensors:
            got = np.frombuffer(FORMAT.tensor(tree, spec), spec.dtype).reshape(spec.shape)
            assert np.array_equal(got, theirs[spec.name])


VALID = [npz(**ARRAYS), npz(np.savez_compressed, **ARRAYS), npy(ARRAYS["c"])]


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_no_bytes_make_it_do_anything_but_answer_or_refuse(data: st.DataObject) -> None:
    raw = bytearray(data.draw(st.sampled_from(VALID)))
    for at in data.draw(st.lists(st.integers(0, len(raw) - 1), max_size=8)):
        raw[at] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        raw = raw[: data.draw(st.integers(0, len(raw)))]
    tree = Tree.of({"m.npz": bytes(raw)}, limit=100_000_000)

    for group in FORMAT.detect(tree):
        try:
            description = FORMAT.describe(tree, group)
            for spec in description.tensors:
                assert spec.extent is None or spec.extent.offset + spec.extent.length <= len(raw)
                FORMAT.tensor(tree, spec)
        except AssayError:
            continue
