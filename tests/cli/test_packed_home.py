"""A packed home answers as a raw one: every command that reads or moves files, over both, compared."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from model_files import safetensors
from onnx import TensorProto, helper, numpy_helper

import assay
from assay.cli.main import invoke

WIDE = 40


def weights(seed: int, *, step: float = 0.0) -> np.ndarray:
    chance = np.random.default_rng(seed)
    values = chance.normal(0, 0.05, (WIDE, 1000)).astype("<f4")
    return values + (np.random.default_rng(9).normal(0, 1, values.shape) * step).astype("<f4")


def onnx_model(file: Path) -> np.ndarray:
    matrix = weights(4)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "W"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, WIDE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1000])],
        [numpy_helper.from_array(matrix, "W")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    file.write_bytes(model.SerializeToString())
    return matrix


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the homes ``raw`` and ``packed``: models of several formats, some of them made from another."""
    root = tmp_path_factory.mktemp("homes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASSAY_HOME", str(root / "raw"))
        patch.setenv("ASSAY_ACTOR", "tester")
        patch.chdir(root)
        for number, step in enumerate((0.0, 1e-5), 1):
            folder = root / f"model{number}"
            folder.mkdir()
            raw = weights(1, step=step).tobytes()
            (folder / "model.safetensors").write_bytes(safetensors(weight=("F32", [WIDE, 1000], raw)))
            (folder / "vocabulary.txt").write_text("\n".join(f"word {at}" for at in range(2000 + number)))
            (folder / "settings.json").write_text('{"threshold": 0.5}')
        torch.save({"w": torch.from_numpy(weights(2)), "b": torch.zeros(2000)}, root / "model.pt")
        np.savez(root / "arrays.npz", a=weights(3), b=weights(3).astype("float16"))
        matrix = onnx_model(root / "model.onnx")
        inputs = np.ones((2, WIDE), dtype="float32")
        np.savez(root / "example.npz", **{"inputs.x": inputs, "outputs.y": inputs @ matrix})
        for arguments in (
            ["push", "./model1", "base", "--alias", "live", "--metric", "auc=0.9"],
            ["push", "./model2", "tune", "--base", "base:1", "--metric", "auc=0.91"],
            ["push", "./model2", "base"],
            ["push", "./model.pt", "torch"],
            ["push", "./arrays.npz", "arrays"],
            ["push", "./model.onnx", "onnx", "--example", "example.npz"],
            ["key", "./key"],
        ):
            assert invoke(arguments) == 0, arguments
        shutil.copytree(root / "raw", root / "packed")
        assert invoke(["--home", str(root / "packed"), "pack-store"]) == 0
    return root


@pytest.fixture
def both(homes: Path, tmp_path: Path, run, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Answer]]:
    """``both(*arguments)``: what a command answers over a fresh copy of each home, in a folder of its own."""
    for name in ("raw", "packed"):
        (tmp_path / name).mkdir()
        shutil.copytree(homes / name, tmp_path / name / "home", copy_function=shutil.copy2)
    monkeypatch.setenv("ASSAY_ACTOR", "tester")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def do(*commands: Sequence[str]) -> list[Answer]:
        answers = []
        for name in ("raw", "packed"):
            place = tmp_path / name
            monkeypatch.setenv("ASSAY_HOME", str(place / "home"))
            monkeypatch.chdir(place)
            told = []
            for arguments in commands:
                status, out, err = run(*[str(argument).replace("HOMES", str(homes)) for argument in arguments])
                told.append((status, timeless(out, name), timeless(err, name)))
            files = {
                path.relative_to(place).as_posix(): path.read_bytes()
                for path in sorted(place.rglob("*"))
                if path.is_file() and not path.is_relative_to(place / "home")
            }
            answers.append((told, files))
        return answers

    return do


Answer = tuple[list[tuple[int, str, str]], dict[str, bytes]]


def timeless(text: str, name: str) -> str:
    text = text.replace(f"/{name}/", "/HOME/")
    text = re.sub(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?Z?", "TIME", text)
    text = re.sub(r"\b\d+(\.\d+)? (ms|s|MB|kB|MB/s|GB/s)\b|\d+\.\d+ seconds", "SO MUCH", text)
    text = re.sub(r',\s*"packed": true', "", text)
    return re.sub(r'"(peak_rss|load_seconds|import_seconds|seconds)": [^,]*', r'"\1": N', text)


MEASURE = (
    "import os, sys; print('{\"size\": %d}' % sum(os.path.getsize(os.path.join(sys.argv[1], name)) "
    "for name in os.listdir(sys.argv[1])))"
)
COMMANDS: dict[str, list[list[str]]] = {
    "ls": [["ls", "--json"], ["ls", "base", "--json"]],
    "history": [["history", "base", "--json"]],
    "inspect": [["inspect", reference, "--json"] for reference in ("base:1", "torch", "arrays", "onnx")],
    "scan": [["scan", reference, "--json"] for reference in ("base:1", "torch", "arrays", "onnx")],
    "diff": [["diff", "base:1", "tune:1", "--json"], ["diff", "base:1", "HOMES/model2", "--json"]],
    "lineage": [["lineage", "tune", "--json"], ["lineage", "tune:1", "--detect", "--json"]],
    "verify": [["verify", "base:1", "--json"], ["verify", "onnx:1"]],
    "pull": [["pull", "base:2", "out"], ["pull", "torch", "torch"], ["pull", "onnx", "onnx", "--only", "*.onnx"]],
    "copy to a layout": [["copy", "base:1", "oci:layout:v1"]],
    "copy back": [["copy", "base:1", "oci:layout:v1"], ["copy", "oci:layout:v1", "back"], ["show", "back:1", "--json"]],
    "copy to a home": [["copy", "base", "home:other", "--all"], ["--home", "other", "verify", "--all"]],
    "bom": [["bom", "torch", "--json"]],
    "sign": [["sign", "tune:1", "--key", "HOMES/key"], ["verify", "tune:1", "--key", "HOMES/key.pub"]],
    "convert": [["convert", "torch:1", "converted", "--to", "safetensors"]],
    "promote": [
        ["promote", "base:2", "live", "--reason", "better"],
        ["rollback", "base", "live", "--reason", "no"],
    ],
    "evaluate": [["evaluate", "tune:1", "--metric", "f1=0.5"], ["show", "tune", "--metrics", "--json"]],
    "evaluate by a command": [["evaluate", "base:1", "--", sys.executable, "-c", MEASURE, "{path}"]],
    "push again": [["push", "HOMES/model1", "base", "--json"], ["push", "HOMES/model2", "third", "--json"]],
    "import": [["import", "HOMES/model1", "imported", "--from", "folder"]],
    "remove": [
        ["remove", "base:2", "--reason", "old", "--yes"],
        ["gc", "--grace", "0", "--keep-last", "1"],
        ["ls", "tune"],
    ],
    "reindex": [["reindex"], ["ls", "--json"]],
    "bisect": [
        [
            "bisect",
            "base",
            "--good",
            "1",
            "--bad",
            "2",
            "--",
            "sh",
            "-c",
            "! grep -q 'word 2001$' {path}/vocabulary.txt",
        ]
    ],
}


@pytest.mark.parametrize("what", COMMANDS)
def test_a_packed_home_answers_as_a_raw_one(what: str, both) -> None:
    (raw, raw_files), (packed, packed_files) = both(*COMMANDS[what])
    for arguments, one, other in zip(COMMANDS[what], raw, packed, strict=True):
        assert other == one, arguments
    assert packed_files.keys() == raw_files.keys()
    assert all(one[0] in {0, 1} for one in raw), raw
    if "layout" not in what and "home" not in what:
        assert packed_files == raw_files


def test_python_loads_and_opens_what_is_packed(homes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_ACTOR", "tester")
    home = tmp_path / "home"
    shutil.copytree(homes / "packed", home)
    for _ in range(2):  # the second time from what the first one made
        assert torch.equal(assay.load("torch", home=home)["w"], torch.from_numpy(weights(2)))
        assert np.array_equal(np.asarray(assay.load("base:1", home=home)["weight"]), weights(1))
    with assay.open("tune:1", home=home) as artifact:
        assert np.array_equal(artifact.tensors["weight"].numpy(), weights(1, step=1e-5))


@pytest.mark.framework
@pytest.mark.skipif(sys.platform != "linux", reason="a rehearsal is isolated by namespaces, which are Linux's")
def test_what_is_packed_is_rehearsed(homes: Path, tmp_path: Path, run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.copytree(homes / "packed", tmp_path / "home")
    status, out, err = run("rehearse", "onnx", "--environment", sys.executable, "--no-record")
    assert (status, out) == (0, "onnx:1 passed\n"), err
