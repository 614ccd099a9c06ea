"""Many tensors at once: nothing is copied where files are here, and no byte too many is read where they are not."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_files import safetensors

from assay.artifact.ahead import in_order
from assay.artifact.collect import tree_of
from assay.artifact.reader import Artifact
from assay.errors import BadFormat, InvalidInput, NotFound, StorageError
from assay.spec.description import Description
from assay.spec.inspection import Inspection
from assay.spec.tensor import Extent, TensorSpec
from assay.trees import Source, Tree
from assay.wiring.looking import _afresh, open_artifact


class Far:
    """Bytes far away, brought into the reader's memory; notes what is asked for, and waits where it is told to."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.asked: list[tuple[int, int]] = []
        self.gate: dict[int, threading.Event] = {}

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, offset: int, length: int) -> bytes:
        raise AssertionError("bytes would be copied twice")

    def read_into(self, offset: int, into: memoryview) -> int:
        self.asked.append((offset, len(into)))
        for start, gate in self.gate.items():
            if offset <= start < offset + len(into):
                assert gate.wait(60)
        found = self.data[offset : offset + len(into)]
        into[: len(found)] = found
        return len(found)

    @property
    def read_bytes(self) -> int:
        return sum(length for _, length in self.asked)


def _none(tree: Tree, found: Description, spec: TensorSpec) -> bytes:
    raise NotFound("no decoder")


def opened(sources: dict[str, Source] | Tree, specs: list[TensorSpec]) -> Artifact:
    tree = sources if isinstance(sources, Tree) else Tree(sources)
    found = Description(format="test", paths=tree.paths, tensors=tuple(specs))
    return Artifact(tree, Inspection((found,), (), (), {}), manifest=None, decode=_none)


def laid_out(values: dict[str, np.ndarray], path: str = "w", gap: int = 0) -> tuple[bytes, list[TensorSpec]]:
    data, specs = b"head", []
    for name, value in values.items():
        specs.append(TensorSpec(name, str(value.dtype), value.shape, Extent(path, len(data), value.nbytes)))
        data += value.tobytes() + bytes(gap)
    return data, specs


VALUES = {
    "encoder.0.weight": np.arange(24, dtype="float32").reshape(6, 4),
    "encoder.0.bias": np.arange(4, dtype="float32"),
    "head.weight": np.arange(12, dtype="int8").reshape(3, 4),
    "scale": np.array(2.5),
    "empty": np.empty((0, 4), "float32"),
}


@pytest.mark.parametrize("writable", [False, True])
def test_all_tensors_are_what_was_stored_wherever_they_lie(tmp_path: Path, writable: bool) -> None:
    data, specs = laid_out(VALUES)
    (tmp_path / "w").write_bytes(data)

    for artifact in (opened(tree_of({"w": tmp_path / "w"}), specs), opened({"w": Far(data)}, specs)):
        found = artifact.tensors.load(writable=writable)

        assert list(found) == list(VALUES)
        for name, value in VALUES.items():
            np.testing.assert_array_equal(found[name], value)
            assert found[name].dtype == value.dtype
            assert found[name].flags.writeable == writable or not found[name].size


def test_what_is_written_to_tensors_never_reaches_the_file_or_another_load(tmp_path: Path) -> None:
    data, specs = laid_out(VALUES)
    (tmp_path / "w").write_bytes(data)
    artifact = opened(tree_of({"w": tmp_path / "w"}), specs)
    first, second = artifact.tensors.load(writable=True), artifact.tensors.load(writable=True)

    first["encoder.0.bias"][:] = -1

    np.testing.assert_array_equal(second["encoder.0.bias"], VALUES["encoder.0.bias"])
    np.testing.assert_array_equal(artifact.tensors["encoder.0.bias"].numpy(), VALUES["encoder.0.bias"])
    assert (tmp_path / "w").read_bytes() == data


def test_a_pattern_reads_what_it_names_and_no_other_file() -> None:
    one, specs = laid_out({"encoder.a": np.ones(1000, "float32"), "head.a": np.ones(100_000, "float32")}, "one")
    two, more = laid_out({"head.b": np.zeros(1000, "float32")}, "two")
    far = {"one": Far(one), "two": Far(two)}

    found = opened(dict(far), specs + more).tensors.load("encoder.*")

    assert list(found) == ["encoder.a"]
    assert far["one"].read_bytes == 4000
    assert far["two"].asked == []


def test_a_pattern_that_names_nothing_says_what_is_near() -> None:
    data, specs = laid_out(VALUES)

    with pytest.raises(NotFound, match="encodr") as caught:
        opened({"w": Far(data)}, specs).tensors.load(["scale", "encodr.0.weight"])

    assert caught.value.code == "tensor-not-found"
    assert "encoder.0.weight" in (caught.value.hint or "")


def test_small_neighbours_come_together_and_large_tensors_alone() -> None:
    values = {f"small{number}": np.ones(10, "float32") for number in range(50)}
    values |= {"large": np.ones(5 << 20, "float32")}
    data, specs = laid_out(values)
    far = Far(data)

    opened({"w": far}, specs).tensors.load()

    assert sorted(length for _, length in far.asked) == [2000, 20 << 20]


def test_rows_are_read_alone() -> None:
    values = {"w": np.arange(4000, dtype="float32").reshape(1000, 4), "scale": np.array(1.5)}
    data, specs = laid_out(values, gap=100_000)
    far = Far(data)

    found = opened({"w": far}, specs).tensors.load(rows=slice(10, 20))

    np.testing.assert_array_equal(found["w"], values["w"][10:20])
    assert found["scale"] == 1.5
    assert far.read_bytes == 10 * 16 + 8


def test_rows_do_not_go_backwards() -> None:
    data, specs = laid_out(VALUES)

    with pytest.raises(InvalidInput, match="forwards"):
        opened({"w": Far(data)}, specs).tensors.load("head.weight", rows=slice(3, 0, -1))


def test_tensors_that_overlap_share_their_memory_far_away_too() -> None:
    data = np.arange(10, dtype="float32").tobytes()
    specs = [
        TensorSpec("whole", "float32", (10,), Extent("w", 0, 40)),
        TensorSpec("tail", "float32", (4,), Extent("w", 24, 16)),
        TensorSpec("transposed", "float32", (2, 3), Extent("w", 0, 24), strides=(1, 2)),
    ]

    found = opened({"w": Far(data)}, specs).tensors.load(writable=True)
    found["whole"][6] = 99

    assert found["tail"][0] == 99
    np.testing.assert_array_equal(found["transposed"], np.arange(6, dtype="float32").reshape(3, 2).T)


def test_the_first_tensor_is_given_while_the_last_is_still_on_its_way() -> None:
    values = {f"w{number}": np.full(5 << 20, number, "float32") for number in range(3)}
    data, specs = laid_out(values)
    far = Far(data)
    far.gate[len(data) - 1] = arrived = threading.Event()

    stream = opened({"w": far}, specs).tensors.stream()
    name, first = next(stream)

    assert (name, first[0]) == ("w0", 0)
    assert not arrived.is_set()
    arrived.set()
    assert [name for name, _ in stream] == ["w1", "w2"]


def test_no_more_is_read_ahead_than_was_allowed() -> None:
    values = {f"w{number}": np.zeros(5 << 20, "float32") for number in range(8)}
    data, specs = laid_out(values)
    far = Far(data)

    stream = opened({"w": far}, specs).tensors.stream(ahead=45 << 20)
    next(stream)
    stream.close()  # type: ignore[attr-defined] # a generator

    assert len(far.asked) <= 2


def test_a_stream_that_is_left_reads_no_further() -> None:
    data, specs = laid_out({f"w{number}": np.zeros(5 << 20, "float32") for number in range(8)})
    far = Far(data)

    for _ in opened({"w": far}, specs).tensors.stream(ahead=1):
        break

    assert len(far.asked) == 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("assay-fetch")]


def test_what_fails_on_its_way_fails_where_its_turn_comes() -> None:
    class Work:
        nbytes = 1

        def __init__(self, number: int) -> None:
            self.number = number

    def fetch(work: Work) -> int:
        if work.number == 2:
            raise BadFormat("the third is broken")
        return work.number

    found = []
    with pytest.raises(BadFormat, match="third"):
        found += [number for _, number in _noted(in_order([Work(n) for n in range(5)], fetch, ahead=100), found)]

    assert found == [0, 1]


def _noted(pairs: object, found: list[int]) -> object:
    for work, number in pairs:  # type: ignore[attr-defined]
        found.append(number)
        yield work, number


def test_a_file_that_ends_too_early_is_damaged_not_zero() -> None:
    data, specs = laid_out(VALUES)

    class Short(Far):
        @property
        def size(self) -> int:
            return len(self.data) + 1000

    long = TensorSpec("w", "uint8", (500,), Extent("w", len(data) - 10, 500))
    with pytest.raises(BadFormat, match="ends 490 bytes before"):
        opened({"w": Short(data)}, [*specs, long]).tensors.load("w")


@given(st.data())
def test_any_index_far_away_gives_what_numpy_gives_and_reads_no_row_too_many(data: st.DataObject) -> None:
    values = np.arange(7 * 5 * 3, dtype="int32").reshape(7, 5, 3)
    order = data.draw(st.permutations([0, 1, 2]))
    stored = values.transpose(order)
    spec = TensorSpec(
        "w", "int32", stored.shape, Extent("w", 8, values.nbytes), strides=tuple(step // 4 for step in stored.strides)
    )
    if data.draw(st.booleans()) and order == [0, 1, 2]:
        spec = TensorSpec("w", "int32", stored.shape, Extent("w", 8, values.nbytes))
    far = Far(bytes(8) + values.tobytes() + bytes(8))
    parts = [st.one_of(st.integers(-size, size - 1), st.slices(size)) for size in stored.shape]
    index = data.draw(st.integers(1, 3).flatmap(lambda count: st.tuples(*parts[:count])))

    found = opened({"w": far}, [spec]).tensors["w"][index]

    np.testing.assert_array_equal(found, stored[index])
    rows = len(range(stored.shape[0])[index[0]]) if isinstance(index[0], slice) else 1
    if order == [0, 1, 2] and rows <= 1:
        assert far.read_bytes <= rows * 60


def test_rows_far_apart_are_read_one_by_one() -> None:
    values = np.arange(40 * 40_000, dtype="float32").reshape(40, 40_000)
    far = Far(values.tobytes())

    found = opened({"w": far}, [TensorSpec("w", "float32", values.shape, Extent("w", 0, values.nbytes))]).tensors["w"]

    np.testing.assert_array_equal(found[::13, 5:7], values[::13, 5:7])
    assert far.read_bytes == 4 * 160_000
    np.testing.assert_array_equal(found[::-13], values[::-13])


_MEASURE = """
import sys
import assay, numpy

def private():
    with open("/proc/self/smaps_rollup") as lines:
        return sum(int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))

with assay.open(sys.argv[1]) as artifact:
    artifact.tensors.load(only="w0")
    before = private()
    found = artifact.tensors.load(writable=True)
    total = sum(float(value.sum()) for value in found.values())
    print((private() - before) * 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux")
def test_a_local_model_takes_no_memory_of_its_own(tmp_path: Path) -> None:
    size = 64 << 20
    data = np.ones(size // 16, "float32").tobytes()
    file = safetensors(**{f"w{number}": ("F32", [size // 16], data) for number in range(4)})
    (tmp_path / "model.safetensors").write_bytes(file)

    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(tmp_path / "model.safetensors")],
        capture_output=True,
        text=True,
        check=True,
    )

    assert int(done.stdout) < size // 8


@pytest.mark.parametrize("rows", [slice(3, None, -1), slice(0, 4, 0), slice("a", None), 3])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_rows_that_are_none_are_refused_however_the_tensor_is_stored(rows: slice, save: Any, tmp_path: Path) -> None:
    save(tmp_path / "w.npz", w=np.arange(12).reshape(4, 3))

    with open_artifact(None, str(tmp_path / "w.npz")) as art, pytest.raises(InvalidInput) as caught:
        art.tensors.load(rows=rows)

    assert caught.value.code == "bad-rows"


def test_rows_of_a_tensor_that_is_decoded_are_those_asked_for(tmp_path: Path) -> None:
    whole = np.arange(12).reshape(4, 3)
    np.savez_compressed(tmp_path / "w.npz", w=whole, scalar=np.array(7))

    with open_artifact(None, str(tmp_path / "w.npz")) as art:
        found = art.tensors.load(rows=slice(1, 4, 2))
        (piece,) = (one for run in art.tensors.runs("w", rows=slice(1, 4, 2)) for one in run.pieces)

    assert found["w"].tolist() == whole[1:4:2].tolist()
    assert found["scalar"].tolist() == 7
    assert piece.spec.shape == (2, 3)


@pytest.mark.parametrize("length", [0, 100])
def test_a_file_that_became_shorter_while_it_was_open_is_told(tmp_path: Path, length: int) -> None:
    file = tmp_path / "w.npz"
    np.savez(file, w=np.arange(100))
    art = open_artifact(None, str(file))
    os.truncate(file, length)

    for read in (lambda: art.tensors["w"][0], art.tensors.load, lambda: art.tensors.load(writable=True)):
        with pytest.raises(StorageError) as caught:
            read()
        assert caught.value.code == "unreadable"


def test_each_tensor_that_is_decoded_has_the_whole_budget(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "w.npz", w=np.random.default_rng(1).normal(size=(100, 100)))

    with open_artifact(None, str(tmp_path / "w.npz")) as art:
        art.tree.budget.used = art.tree.budget.limit  # describing it took all
        first = art.tensors["w"].numpy()
        _afresh(art.tree).budget.used = art.tree.budget.limit  # as did the reads before
        again = art.tensors.load()["w"]
        third = art.tensors["w"].numpy()

    assert first.tolist() == again.tolist() == third.tolist()
