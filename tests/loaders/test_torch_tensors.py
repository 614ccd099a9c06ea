"""State dicts for torch: the same memory, every type, shards, and other devices."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

import assay
from assay.artifact.bulk import Piece
from assay.artifact.reader import Artifact
from assay.errors import BadFormat, InvalidInput, NotFound, Refused
from assay.loaders.staging import Staging, place
from assay.loaders.tensors import from_array, stream_torch
from assay.service import loading
from assay.spec.description import Description
from assay.spec.inspection import Inspection
from assay.spec.tensor import Extent, TensorSpec
from assay.trees import Tree
from assay.wiring.looking import open_artifact

pytestmark = pytest.mark.framework

torch = pytest.importorskip("torch")
library = pytest.importorskip("safetensors.torch")

FLOATS = ["float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"]
OTHERS = ["int64", "int32", "int16", "int8", "uint8", "bool", "uint16", "uint32", "uint64", "complex64"]


@pytest.fixture(autouse=True)
def _strict() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def same(one: Any, other: Any) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and torch.equal(raw(one), raw(other))


def raw(tensor: Any) -> Any:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


@pytest.mark.parametrize("device", [None, "cpu"])
def test_every_type_comes_as_torch_itself_has_it(tmp_path: Path, device: str | None) -> None:
    state = {name: torch.arange(12).reshape(3, 4).to(getattr(torch, name)) for name in FLOATS + OTHERS}
    state["scalar"], state["empty"] = torch.tensor(2.5), torch.empty(0, 3)
    library.save_file(state, tmp_path / "m.safetensors")

    found = assay.load_tensors(tmp_path / "m.safetensors", device=device)

    assert set(found) == set(state)
    assert all(same(found[name], value) for name, value in state.items())


def test_tensors_may_be_written_to_and_the_file_stays(tmp_path: Path) -> None:
    file = tmp_path / "m.safetensors"
    library.save_file({"w": torch.ones(1000)}, file)
    before = file.read_bytes()

    assay.load_tensors(file)["w"].add_(1)

    assert file.read_bytes() == before
    assert assay.load_tensors(file)["w"].sum() == 1000


def test_a_checkpoint_of_torch_gives_views_ties_and_strides_without_unpickling(tmp_path: Path) -> None:
    shared = torch.arange(20.0)
    state = {
        "whole": shared,
        "tied": shared,
        "part": shared[5:10],
        "turned": shared[:12].view(3, 4).T,
        "half": torch.ones(3, dtype=torch.bfloat16),
    }
    torch.save(state, tmp_path / "m.pt")

    found = assay.load_tensors(tmp_path / "m.pt")

    assert all(same(found[name], value) for name, value in state.items())
    assert found["turned"].stride() == (1, 4)
    assert found["tied"] is found["whole"]
    found["whole"][6] = -1
    assert found["part"][1] == -1


def test_tensors_of_a_file_that_would_run_code_are_given_and_nothing_runs(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(4), "rest": _Runs(tmp_path / "ran")}, tmp_path / "m.pt")

    found = assay.load_tensors(tmp_path / "m.pt")

    assert found["w"].tolist() == [1, 1, 1, 1]
    assert not (tmp_path / "ran").exists()
    with pytest.raises(Refused):
        assay.load(tmp_path / "m.pt")


class _Runs:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return exec, (f"open({str(self.file)!r}, 'w')",)


def test_numbers_in_the_other_byte_order_are_turned_round() -> None:
    array = np.arange(6, dtype=">f4").reshape(2, 3)

    assert from_array(torch, array, "float32").tolist() == [[0, 1, 2], [3, 4, 5]]


def test_elements_that_begin_anywhere_are_read_all_the_same() -> None:
    data = np.frombuffer(bytearray(b"x" + np.arange(3, dtype="float32").tobytes()), np.float32, 3, 1)

    assert from_array(torch, data, "float32").tolist() == [0, 1, 2]


def sharded(folder: Path) -> dict[str, Any]:
    state = {f"{part}.{number}": torch.full((4, 3), float(number)) for part in ("encoder", "head") for number in (1, 2)}
    weight_map = {}
    for number, part in enumerate(("encoder", "head"), 1):
        file = f"model-0000{number}-of-00002.safetensors"
        weight_map |= {name: file for name in state if name.startswith(part)}
        library.save_file({name: state[name] for name in state if name.startswith(part)}, folder / file)
    index = {"metadata": {"total_size": 192}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return state


def test_of_a_model_in_shards_only_those_that_are_touched_are_opened(tmp_path: Path) -> None:
    state = sharded(tmp_path)
    artifact = open_artifact(None, str(tmp_path))
    runs = artifact.tensors.runs("encoder.*")

    found = dict(stream_torch(artifact.tensors, artifact.tree, runs, ahead=1 << 20))

    assert {run.path for run in runs} == {"model-00001-of-00002.safetensors"}
    assert set(found) == {"encoder.1", "encoder.2"}
    assert all(same(found[name], state[name]) for name in found)
    assert set(assay.load_tensors(tmp_path)) == set(state)


def test_a_pattern_that_fits_nothing_names_what_is_near(tmp_path: Path) -> None:
    sharded(tmp_path)

    with pytest.raises(NotFound) as caught:
        assay.load_tensors(tmp_path, only="encoder.3*")

    assert caught.value.code == "tensor-not-found"
    assert "encoder.1" in (caught.value.hint or "")


def test_a_version_that_was_yanked_is_not_loaded_by_its_tensors_either(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assay.push({"w": torch.ones(3)}, "m", home=home)
    assay.yank("m:1", reason="wrong", home=home)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(Refused, match="yanked"):
            assay.load_tensors("m:1", home=home)
        assert assay.load_tensors("m:1", home=home, yanked=True)["w"].tolist() == [1, 1, 1]


def test_the_version_that_was_let_in_is_the_one_that_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    assay.push({"w": torch.ones(3)}, "m", alias="champion", home=home)
    assay.push({"w": torch.zeros(3)}, "m", home=home)
    admit = loading.admit

    def then_somebody_promotes(*args: Any, **options: Any) -> None:
        admit(*args, **options)
        assay.promote("m:2", "champion", home=home)

    monkeypatch.setattr(loading, "admit", then_somebody_promotes)
    assert assay.load_tensors("m:champion", home=home)["w"].tolist() == [1, 1, 1]


def test_numpy_arrays_are_given_where_they_are_asked_for(tmp_path: Path) -> None:
    library.save_file({"w": torch.ones(3)}, tmp_path / "m.safetensors")

    found = assay.load_tensors(tmp_path / "m.safetensors", framework="numpy", rows=slice(1, None))

    assert isinstance(found["w"], np.ndarray)
    assert found["w"].tolist() == [1, 1]
    with pytest.raises(InvalidInput, match="no framework"):
        assay.load_tensors(tmp_path / "m.safetensors", framework="jax")
    with pytest.raises(InvalidInput, match="processor"):
        assay.load_tensors(tmp_path / "m.safetensors", framework="numpy", device="cuda")


def test_a_stream_gives_the_tensors_in_the_order_they_lie_in(tmp_path: Path) -> None:
    library.save_file(
        {f"w{number}": torch.full((3,), float(number)) for number in range(4)}, tmp_path / "m.safetensors"
    )

    found = list(assay.stream_tensors(tmp_path / "m.safetensors", only=["w1", "w3"]))

    assert [name for name, _ in found] == ["w1", "w3"]
    assert found[1][1].tolist() == [3, 3, 3]


def test_a_device_that_torch_cannot_use_is_named(tmp_path: Path) -> None:
    library.save_file({"w": torch.ones(3)}, tmp_path / "m.safetensors")

    for device in ("nonsense", "xpu:7", "hpu", "mps"):
        with pytest.raises(InvalidInput) as caught:
            assay.load_tensors(tmp_path / "m.safetensors", device=device)
        assert caught.value.code == "no-device"


def test_the_meta_device_gets_shapes_and_nothing_is_read(tmp_path: Path) -> None:
    library.save_file({"w": torch.ones(3, 2, dtype=torch.bfloat16)}, tmp_path / "m.safetensors")

    found = assay.load_tensors(tmp_path / "m.safetensors", device="meta")["w"]

    assert (found.device.type, found.shape, found.dtype) == ("meta", (3, 2), torch.bfloat16)


def test_the_meta_device_gets_the_shape_of_the_rows_that_are_asked_for(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "packed.npz", w=np.ones((3, 2)))
    np.savez(tmp_path / "plain.npz", w=np.ones((3, 2)))

    for name in ("packed.npz", "plain.npz"):
        assert assay.load_tensors(tmp_path / name, device="meta", rows=slice(0, 1))["w"].shape == (1, 2)


def test_whole_models_go_to_a_device_where_their_framework_has_some(tmp_path: Path) -> None:
    library.save_file({"w": torch.ones(3)}, tmp_path / "m.safetensors")
    torch.save({"w": torch.ones(3)}, tmp_path / "m.pt")
    np.savez(tmp_path / "m.npz", w=np.ones(3))

    for name in ("m.safetensors", "m.pt"):
        loaded: Any = assay.load(tmp_path / name, device="cpu")
        assert loaded["w"].device.type == "cpu"
        with pytest.raises(InvalidInput) as caught:
            assay.load(tmp_path / name, device="nonsense")
        assert caught.value.code == "no-device"
        meta: Any = assay.load(tmp_path / name, device="meta")
        assert (meta["w"].device.type, meta["w"].shape) == ("meta", (3,))
    with pytest.raises(InvalidInput, match="npz model, which is loaded onto no device"):
        assay.load(tmp_path / "m.npz", device="cpu")


class _Bytes:
    """A source that notes reads and tells when one was asked for."""

    def __init__(self, data: bytes) -> None:
        self.data, self.asked = data, []
        self.third = threading.Event()

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]

    def read_into(self, offset: int, into: memoryview) -> int:
        self.asked.append(offset)
        if len(self.asked) == 3:
            self.third.set()
        found = self.data[offset : offset + len(into)]
        into[: len(found)] = found
        return len(found)


def artifact_of(source: _Bytes, specs: list[TensorSpec]) -> tuple[Any, Tree]:
    tree = Tree({"w": source})
    found = Description(format="test", paths=("w",), tensors=tuple(specs))
    return Artifact(tree, Inspection((found,), (), (), {}), manifest=None, decode=lambda *_: b""), tree


class _Slow(Staging):
    """Copies that are only done once the reader has gone on."""

    def copy(self, into: Any, buffer: Any) -> None:
        source = self.stream
        assert source.third.wait(60), "the next buffer is not read while this one is copied"
        into.copy_(buffer)

    def mark(self) -> Any:
        return lambda: None


def test_buffers_take_turns_the_next_is_read_while_one_is_copied_and_every_byte_arrives() -> None:
    values = np.arange(1000, dtype="float32")
    source = _Bytes(bytes(3) + values.tobytes())
    specs = [
        TensorSpec("a", "float32", (300,), Extent("w", 3, 1200)),
        TensorSpec("b", "float32", (20, 10), Extent("w", 1203, 800)),
        TensorSpec("t", "float32", (4, 5), Extent("w", 2003, 80), strides=(1, 4)),
        TensorSpec("c", "float32", (400,), Extent("w", 2403, 1600)),
    ]
    artifact, tree = artifact_of(source, specs)
    buffers = [torch.empty(512, dtype=torch.uint8) for _ in range(3)]
    staging = _Slow(torch, torch.device("cpu"), buffers, source)

    found = {piece.name: flat for piece, flat in place(artifact.tensors.runs(), tree, staging, lambda _: torch.float32)}

    assert found["a"].tolist() == values[:300].tolist()
    assert found["b"].tolist() == values[300:500].tolist()
    assert found["t"].tolist() == values[500:520].tolist()
    assert found["c"].tolist() == values[600:].tolist()
    assert source.asked == list(range(3, len(source.data), 512))


def test_what_fails_while_a_device_is_filled_is_raised_and_the_reader_ends() -> None:
    class Short(_Bytes):
        @property
        def size(self) -> int:
            return 5000

    artifact, tree = artifact_of(Short(bytes(1000)), [TensorSpec("a", "uint8", (5000,), Extent("w", 0, 5000))])
    staging = Staging.on(torch, torch.device("cpu"), size=512)

    with pytest.raises(BadFormat, match="ends"):
        list(place(artifact.tensors.runs(), tree, staging, lambda _: torch.uint8))

    assert not [thread for thread in threading.enumerate() if thread.name == "assay-staging"]


def test_whoever_stops_taking_tensors_ends_the_reader() -> None:
    specs = [TensorSpec(f"w{n}", "uint8", (20 << 20,), Extent("w", n * (20 << 20), 20 << 20)) for n in range(5)]
    source = _Bytes(bytes(100 << 20))
    artifact, tree = artifact_of(source, specs)
    staging = Staging.on(torch, torch.device("cpu"), size=1 << 20)

    pieces: Any = place(artifact.tensors.runs(), tree, staging, lambda _: torch.uint8)
    piece, _ = next(pieces)
    pieces.close()

    assert isinstance(piece, Piece)
    assert len(source.asked) < 30
    assert not [thread for thread in threading.enumerate() if thread.name == "assay-staging"]


_MEASURE = """
import sys
import torch, assay
assay.load_tensors

def private():
    with open("/proc/self/smaps_rollup") as lines:
        return sum(int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))

assay.load_tensors(sys.argv[1], only="small")["small"].sum()
before = private()
state = assay.load_tensors(sys.argv[1])
total = sum(float(value.sum()) for value in state.values())
print((private() - before) * 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux")
def test_a_state_dict_of_a_local_model_takes_no_memory_of_its_own(tmp_path: Path) -> None:
    state = {f"w{number}": torch.ones(4 << 20) for number in range(4)} | {"small": torch.ones(4)}
    library.save_file(state, tmp_path / "m.safetensors")

    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(tmp_path / "m.safetensors")], capture_output=True, text=True, check=True
    )

    assert int(done.stdout) < 16 << 20


def test_a_policy_that_wants_signatures_wants_them_of_tensors_too(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assay.push({"w": torch.ones(3)}, "m", home=home)
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
    (home / "policy.toml").write_text(
        f"[[trust.signer]]\nname = 'us'\npublic_key = '''{pem}'''\n[[trust.require]]\nmodels = '*'\nsigners = ['us']\n"
    )

    with pytest.raises(Refused) as caught:
        assay.load_tensors("m", home=home)

    assert caught.value.code == "not-signed"
