"""PyTorch files to safetensors, held against torch and safetensors themselves."""

from __future__ import annotations

import json
import os
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from assay.conversion.torch_files import TorchToSafetensors, safe_name
from assay.conversion.writing import write_safetensors
from assay.errors import IntegrityError, InvalidInput


def _equal(expected: dict[str, torch.Tensor], file: Path) -> None:
    found = load_file(file)
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert found[name].shape == tensor.shape
        assert torch.equal(found[name].view(-1).view(torch.uint8), tensor.contiguous().view(-1).view(torch.uint8)), name


def _model() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_state_dict_is_equal_bit_for_bit(tmp_path: Path, convert, zipped: bool) -> None:
    state = _model().state_dict()
    torch.save(state, tmp_path / "m.pt", _use_new_zipfile_serialization=zipped)

    done = convert(tmp_path / "m.pt", "safetensors")

    assert sorted(path.name for path in done.folder.iterdir()) == ["m.safetensors"]
    _equal(dict(state), done.folder / "m.safetensors")
    (step,) = done.steps
    assert (step.made.proof.method, step.made.proof.tensors, step.made.isolation) == ("tensors", len(state), None)
    assert set(step.made.proof.digests) == set(state)


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
        torch.uint8, torch.bool, torch.complex64, torch.float8_e4m3fn, torch.float8_e5m2, torch.uint16, torch.uint32,
    ],
    ids=str,
)  # fmt: skip
def test_every_type_of_elements_keeps_its_bits(tmp_path: Path, convert, dtype: torch.dtype) -> None:
    bits = torch.randint(0, 2 if dtype is torch.bool else 256, (64,), dtype=torch.uint8)
    state = {
        "w": bits.view(dtype),
        "scalar": bits[: dtype.itemsize].view(dtype)[0].clone(),
        "none": bits[:0].view(dtype),
    }
    torch.save(state, tmp_path / "m.pt")

    done = convert(tmp_path / "m.pt", "safetensors")

    _equal(state, done.folder / "m.safetensors")


def test_views_and_tied_weights_become_tensors_of_their_own(tmp_path: Path, convert) -> None:
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    state = {
        "base": base,
        "tied": base,
        "turned": base.t(),
        "strided": base[::2, 1::2],
        "part": base[1],
        "wide": base[:1].expand(3, 6),
    }
    torch.save(state, tmp_path / "m.bin")

    done = convert(tmp_path / "m.bin", "safetensors")

    _equal(state, done.folder / "m.safetensors")
    assert "5 tensors that shared bytes with others have their own now" in done.steps[0].made.notes


def test_compressed_members_are_read_too(tmp_path: Path, convert) -> None:
    state = {"w": torch.zeros(1000), "turned": torch.arange(6.0).reshape(2, 3).t()}
    torch.save(state, tmp_path / "plain.pt")
    with (
        zipfile.ZipFile(tmp_path / "plain.pt") as old,
        zipfile.ZipFile(tmp_path / "m.pt", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))

    done = convert(tmp_path / "m.pt", "safetensors")

    _equal(state, done.folder / "m.safetensors")


def test_a_checkpoint_keeps_its_values_beside_the_tensors(tmp_path: Path, convert) -> None:
    model = _model()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.25)
    model(torch.ones(5, 3)).sum().backward()
    optimizer.step()
    saved = {
        "state_dict": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epoch": 7,
        "best": float("inf"),
        "args": {"layers": (3, 4), "name": "größe", 5: None, "flag": True, "size": torch.Size([1, 2])},
    }
    torch.save(saved, tmp_path / "c.ckpt")

    done = convert(tmp_path / "c.ckpt", "safetensors")

    found = load_file(done.folder / "c.safetensors")
    assert torch.equal(found["state_dict.0.weight"], model.state_dict()["0.weight"])
    assert torch.equal(found["optimizer.state.0.exp_avg"], optimizer.state_dict()["state"][0]["exp_avg"])
    values = json.loads((done.folder / "c.values.json").read_text("utf-8"))["value"]
    assert (values["epoch"], values["best"]) == (7, {"$float": "inf"})
    assert values["args"]["$pairs"] == [
        ["layers", {"$tuple": [3, 4]}],
        ["name", "größe"],
        [5, None],
        ["flag", True],
        ["size", [1, 2]],
    ]
    assert values["optimizer"]["param_groups"][0]["lr"] == 0.25
    assert done.steps[0].made.dropped == ()


class Settings:
    """An object of a class that only this test knows."""


def test_what_cannot_be_kept_stops_the_conversion_and_is_named(tmp_path: Path, convert) -> None:
    state = _model().state_dict()
    torch.save({"model": state, "settings": Settings()}, tmp_path / "c.pt")

    with pytest.raises(InvalidInput, match=r"settings: an object of .*Settings") as caught:
        convert(tmp_path / "c.pt", "safetensors")
    assert caught.value.code == "not-convertible"
    assert "--weights-only" in (caught.value.hint or "")
    assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["c.pt"]

    done = convert(tmp_path / "c.pt", "safetensors", weights_only=True)

    _equal(dict(state), done.folder / "c.safetensors")
    assert any("Settings" in item.what for item in done.steps[0].made.dropped)


def test_a_whole_module_gives_its_weights_when_only_they_are_wanted(tmp_path: Path, convert) -> None:
    model = _model()
    torch.save(model, tmp_path / "m.pt")

    with pytest.raises(InvalidInput):
        convert(tmp_path / "m.pt", "safetensors")
    done = convert(tmp_path / "m.pt", "safetensors", weights_only=True)

    _equal(dict(model.state_dict()), done.folder / "m.safetensors")
    fresh = _model()
    fresh.load_state_dict(load_file(done.folder / "m.safetensors"))


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize("kind", ["sparse", "quantized", "complex128", "conj", "meta"])
def test_a_tensor_that_safetensors_cannot_hold_is_named(tmp_path: Path, convert, kind: str) -> None:
    odd = {
        "sparse": lambda: torch.eye(3).to_sparse(),
        "quantized": lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
        "complex128": lambda: torch.ones(2, dtype=torch.complex128),
        "conj": lambda: torch.ones(2, dtype=torch.complex64).conj(),
        "meta": lambda: torch.ones(2, device="meta"),
    }[kind]()
    torch.save({"fine": torch.ones(2), "odd.one": odd}, tmp_path / "m.pt")

    with pytest.raises(InvalidInput, match=r"odd\.one") as caught:
        convert(tmp_path / "m.pt", "safetensors")

    assert caught.value.code == "not-convertible"
    assert not (tmp_path / "out").exists()


class Runs:
    """Pickles as a call that would leave a mark, if anybody made it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (str(self.mark),))


def test_a_pickle_that_calls_something_is_refused_and_runs_nothing(tmp_path: Path, convert) -> None:
    mark = tmp_path / "ran"
    torch.save({"w": torch.ones(2), "x": Runs(mark)}, tmp_path / "bad.pt")
    torch.save({"w": torch.ones(2), "x": 1}, tmp_path / "good.pt")

    with pytest.raises(InvalidInput) as caught:
        convert(tmp_path / "bad.pt", "safetensors")
    done = convert(tmp_path / "bad.pt", "safetensors", weights_only=True)
    twin = convert(tmp_path / "good.pt", "safetensors", out="twin")

    assert caught.value.code == "not-convertible"
    assert not mark.exists()
    assert set(load_file(done.folder / "bad.safetensors")) == {"w"}
    assert any("mkdir" in item.what for item in done.steps[0].made.dropped)
    assert twin.steps[0].made.dropped == ()


def test_a_call_whose_result_is_thrown_away_is_not_overlooked(tmp_path: Path, convert) -> None:
    torch.save({"w": torch.ones(2)}, tmp_path / "good.pt")
    call = b"\x80\x02cposixpath\njoin\nX\x01\x00\x00\x00a\x85R0"  # called, and popped from the stack
    with zipfile.ZipFile(tmp_path / "good.pt") as old, zipfile.ZipFile(tmp_path / "bad.pt", "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, call + data[2:] if name.endswith("data.pkl") else data)
    assert torch.load(tmp_path / "bad.pt", weights_only=False)["w"].tolist() == [1, 1]

    with pytest.raises(InvalidInput, match=r"posixpath\.join"):
        convert(tmp_path / "bad.pt", "safetensors")


def test_shards_become_shards_under_an_index_of_their_own(tmp_path: Path, convert) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    parts = {"a.weight": torch.ones(3), "b.weight": torch.arange(4)}
    weights = {}
    for number, (name, tensor) in enumerate(parts.items(), 1):
        file = f"pytorch_model-0000{number}-of-00002.bin"
        torch.save({name: tensor}, folder / file)
        weights[name] = file
    index = {"metadata": {"total_size": 44}, "weight_map": weights}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text('{"model_type": "bert"}')

    done = convert(folder, "safetensors")

    assert sorted(path.name for path in done.folder.iterdir()) == [
        "config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    ]
    written = json.loads((done.folder / "model.safetensors.index.json").read_text())
    assert written == {
        "metadata": {"total_size": 44},
        "weight_map": {
            "a.weight": "model-00001-of-00002.safetensors",
            "b.weight": "model-00002-of-00002.safetensors",
        },
    }
    _equal({"a.weight": parts["a.weight"]}, done.folder / "model-00001-of-00002.safetensors")


def test_other_files_are_copied_and_pickles_without_tensors_stay(tmp_path: Path, convert) -> None:
    folder = tmp_path / "model"
    (folder / "deep").mkdir(parents=True)
    torch.save({"w": torch.ones(2)}, folder / "pytorch_model.bin")
    torch.save({"epochs": 3}, folder / "training_args.bin")
    (folder / "deep" / "vocab.txt").write_text("a\nb\n")

    done = convert(folder, "safetensors")

    files = sorted(path.relative_to(done.folder).as_posix() for path in done.folder.rglob("*") if path.is_file())
    assert files == ["deep/vocab.txt", "model.safetensors", "training_args.bin"]
    assert done.kept == {"training_args.bin": "it holds no tensors"}
    assert done.record["kept"] == [{"path": "training_args.bin", "reason": "it holds no tensors"}]


def _one_bit_off(file: Path, tensors, pieces, *, metadata=None) -> None:
    write_safetensors(file, tensors, pieces, metadata=metadata)
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def _one_name_off(file: Path, tensors, pieces, *, metadata=None) -> None:
    write_safetensors(file, tensors[:-1], pieces, metadata=metadata)


def _transposed(file: Path, tensors, pieces, *, metadata=None) -> None:
    write_safetensors(file, tensors, pieces, metadata=metadata)
    data = file.read_bytes()
    file.write_bytes(data.replace(b'"shape":[2,3]', b'"shape":[3,2]'))


@pytest.mark.parametrize("broken", [_one_bit_off, _one_name_off, _transposed])
def test_a_result_that_is_not_equal_fails_and_leaves_nothing(tmp_path: Path, convert, broken) -> None:
    torch.save({"a": torch.ones(2, 3), "b": torch.ones(3)}, tmp_path / "m.pt")

    with pytest.raises(IntegrityError) as caught:
        convert(tmp_path / "m.pt", "safetensors", converters=(TorchToSafetensors(broken),))

    assert caught.value.code == "not-equal"
    assert [path.name for path in tmp_path.iterdir()] == ["m.pt"]


def test_a_file_with_missing_numbers_is_refused(tmp_path: Path, convert) -> None:
    torch.save({"a": torch.ones(200), "b": torch.ones(3)}, tmp_path / "whole.pt")
    with zipfile.ZipFile(tmp_path / "whole.pt") as old, zipfile.ZipFile(tmp_path / "m.pt", "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name)[:100] if name.endswith("data/0") else old.read(name))

    with pytest.raises(InvalidInput) as caught:
        convert(tmp_path / "m.pt", "safetensors")

    assert caught.value.code == "not-convertible"


def test_the_versions_of_modules_are_kept_in_the_header(tmp_path: Path, convert) -> None:
    state = _model().state_dict()
    torch.save(state, tmp_path / "m.pt")

    done = convert(tmp_path / "m.pt", "safetensors")

    data = (done.folder / "m.safetensors").read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert json.loads(header["__metadata__"]["module_metadata"])["1"] == {"version": 2}
    assert header["__metadata__"]["format"] == "pt"


def test_the_same_model_gives_the_same_bytes(tmp_path: Path, convert) -> None:
    state = _model().state_dict()
    torch.save(state, tmp_path / "m.pt")
    torch.save(OrderedDict(state), tmp_path / "again.pt")

    first, second = (convert(tmp_path / name, "safetensors", out=name[:-3] + "-out") for name in ("m.pt", "again.pt"))

    assert (first.folder / "m.safetensors").stat().st_size > 0
    assert first.steps[0].made.proof.digest == second.steps[0].made.proof.digest


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("pytorch_model.bin", "model.safetensors"),
        ("a/pytorch_model-00001-of-00002.bin", "a/model-00001-of-00002.safetensors"),
        ("adapter_model.bin", "adapter_model.safetensors"),
        ("net.pth.tar", "net.safetensors"),
        ("pytorch_model_fused.pt", "pytorch_model_fused.safetensors"),
        ("weights", "weights.safetensors"),
        (".bin", ".bin.safetensors"),
    ],
)
def test_files_are_named_as_hugging_face_does(before: str, after: str) -> None:
    assert safe_name(before) == after


def test_torch_is_not_imported(tmp_path: Path) -> None:
    import subprocess
    import sys

    torch.save({"w": torch.ones(2)}, tmp_path / "m.pt")
    code = """
import sys
from assay.cli.main import invoke
assert invoke(["convert", "./m.pt", "--to", "safetensors"]) == 0
loaded = {"torch", "safetensors"} & set(sys.modules)
print(sorted(loaded))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
