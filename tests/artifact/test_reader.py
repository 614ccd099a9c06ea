"""Lazy tensors: views of maps where bytes lie plainly, rows only where they lie far away."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_files import safetensors

from assay.artifact.collect import tree_of
from assay.artifact.reader import Artifact, numpy_dtype
from assay.errors import BadFormat, InvalidInput, NotFound
from assay.spec.description import Description
from assay.spec.inspection import Inspection
from assay.spec.tensor import Extent, TensorSpec
from assay.trees import Tree


def artifact(tree: Tree, *specs: TensorSpec) -> Artifact:
    found = Description(format="test", paths=tree.paths, tensors=specs)
    inspection = Inspection((found,), (), (), {path: tree.size(path) for path in tree})
    return Artifact(tree, inspection, manifest=None, decode=_no_decode)


def _no_decode(tree: Tree, found: Description, spec: TensorSpec) -> bytes:
    raise NotFound("no decoder")


class Far:
    """Bytes far away: counts what is read."""

    def __init__(self, data: bytes) -> None:
        self.data, self.read_bytes = data, 0

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, offset: int, length: int) -> bytes:
        found = self.data[offset : offset + length]
        self.read_bytes += len(found)
        return found


VALUES = np.arange(60, dtype="float32").reshape(5, 4, 3)


@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "int8", "uint16", "bool", "complex64", "bfloat16", "float8_e4m3fn"]
)
def test_elements_are_viewed_in_their_own_dtype(tmp_path: Path, dtype: str) -> None:
    kind = getattr(ml_dtypes, dtype, None) or np.dtype(dtype)
    values = np.arange(8).astype(kind)
    (tmp_path / "w").write_bytes(b"head" + values.tobytes())
    spec = TensorSpec("w", dtype, (2, 4), Extent("w", 4, values.nbytes))

    found = artifact(tree_of({"w": tmp_path / "w"}), spec).tensors["w"].numpy()

    assert found.dtype == kind
    assert found.tobytes() == values.tobytes()
    assert found.shape == (2, 4)


@given(st.data())
def test_an_index_far_away_gives_what_numpy_gives(data: st.DataObject) -> None:
    index = data.draw(st.one_of(st.integers(-5, 4), st.slices(5)))
    far = Far(b"xx" + VALUES.tobytes())
    opened = artifact(Tree({"w": far}), TensorSpec("w", "float32", (5, 4, 3), Extent("w", 2, VALUES.nbytes)))

    assert np.array_equal(opened.tensors["w"][index], VALUES[index])


def test_a_slice_far_away_reads_only_its_rows() -> None:
    far = Far(VALUES.tobytes())
    opened = artifact(Tree({"w": far}), TensorSpec("w", "float32", (5, 4, 3), Extent("w", 0, VALUES.nbytes)))

    opened.tensors["w"][1:3]

    assert far.read_bytes == 2 * 4 * 3 * 4


def test_a_view_of_a_map_is_read_only(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(VALUES.tobytes())
    opened = artifact(tree_of({"w": tmp_path / "w"}), TensorSpec("w", "float32", (60,), Extent("w", 0, VALUES.nbytes)))

    view = opened.tensors["w"].numpy()
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 1
    opened.close()
    assert view[59] == 59


def test_big_endian_and_strided_elements_are_read_right() -> None:
    data = VALUES.astype(">f4").tobytes()
    spec = TensorSpec("w", "float32", (3, 4), Extent("w", 0, len(data)), big_endian=True, strides=(1, 3))

    found = artifact(Tree.of({"w": data}), spec).tensors["w"].numpy()

    assert np.array_equal(found, VALUES.reshape(-1)[:12].reshape(4, 3).T)


def test_a_scalar_has_no_dimension() -> None:
    spec = TensorSpec("w", "int64", (), Extent("w", 0, 8))

    assert artifact(Tree.of({"w": (7).to_bytes(8, "little")}), spec).tensors["w"].numpy() == 7


@pytest.mark.parametrize("dtype", ["q4_1", "int4", "string", "object", "nonsense", "float80"])
def test_storage_types_that_numpy_cannot_view_say_so(dtype: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        numpy_dtype(TensorSpec("w", dtype, (2,)))
    assert caught.value.code == "not-plain"


@pytest.mark.parametrize(
    "spec",
    [
        TensorSpec("w", "float32", (1 << 40,), Extent("w", 0, 8)),
        TensorSpec("w", "float32", (4,), Extent("w", 8, 16)),
        TensorSpec("w", "float32", (2, 2), Extent("w", 0, 16), strides=(1 << 50, 1)),
        TensorSpec("w", "float32", (2,), Extent("w", 0, 16), strides=(-1,)),
        TensorSpec("w", "float32", (2,), Extent("w", 0, 16), strides=(1, 1)),
    ],
)
def test_a_lying_extent_is_an_error_and_never_reads_outside(spec: TensorSpec) -> None:
    with pytest.raises(BadFormat):
        artifact(Tree.of({"w": bytes(16)}), spec).tensors["w"].numpy()


def test_one_name_in_two_files_is_told_apart() -> None:
    tree = Tree.of({"a": bytes(4), "b": bytes(4)})
    parts = [
        Description(format="test", paths=(path,), tensors=(TensorSpec("w", "float32", (1,), Extent(path, 0, 4)),))
        for path in ("a", "b")
    ]
    opened = Artifact(tree, Inspection(tuple(parts), (), (), {}), manifest=None, decode=_no_decode)

    assert list(opened.tensors) == ["w", "b::w"]


def test_an_unknown_tensor_is_named_with_near_ones() -> None:
    opened = artifact(Tree.of({"w": bytes(4)}), TensorSpec("layer.weight", "float32", (1,), Extent("w", 0, 4)))

    with pytest.raises(NotFound) as caught:
        opened.tensors["weight"]
    assert "layer.weight" in (caught.value.hint or "")


def test_numpy_takes_a_tensor_as_it_is() -> None:
    opened = artifact(Tree.of({"w": VALUES.tobytes()}), TensorSpec("w", "float32", (60,), Extent("w", 0, 240)))

    assert np.asarray(opened.tensors["w"], dtype="float64").sum() == VALUES.sum()


def test_a_real_file_opens_lazily_by_name(tmp_path: Path) -> None:
    from assay import open as open_artifact

    (tmp_path / "m.safetensors").write_bytes(safetensors(w=("F32", [5, 4, 3], VALUES.tobytes())))
    with open_artifact(tmp_path / "m.safetensors") as opened:
        assert np.array_equal(opened.tensors["w"][2:4], VALUES[2:4])
        assert opened.description is not None
        assert opened.description.format == "safetensors"
        assert opened.files == ("m.safetensors",)
