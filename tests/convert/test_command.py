"""``assay convert`` and ``push --safe`` as people type them."""

from __future__ import annotations

import json
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression

import assay
from assay.cli.main import invoke
from assay.conversion.registry import all_converters
from assay.conversion.targets import TARGETS


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ASSAY_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def weights(here: Path) -> Path:
    torch.save({"w": torch.arange(6.0).reshape(2, 3)}, here / "m.pt")
    return here / "m.pt"


def test_what_can_be_asked_for_is_what_there_are_converters_to() -> None:
    assert tuple(converter.target for converter in all_converters()) == TARGETS


def test_the_result_lies_in_a_folder_named_for_model_and_form(weights: Path, here: Path, capsys) -> None:
    assert invoke(["convert", "./m.pt", "--to", "safetensors"]) == 0

    said = capsys.readouterr()
    assert said.out == "m-safetensors\n"
    assert "m.pt -> m.safetensors: 1 tensor equal bit for bit" in said.err
    assert (here / "m-safetensors" / "m.safetensors").is_file()


def test_a_folder_that_is_not_empty_stays_as_it_is(weights: Path, here: Path, capsys) -> None:
    (here / "out").mkdir()
    (here / "out" / "mine").write_text("mine")

    assert invoke(["convert", "./m.pt", "out", "--to", "safetensors", "--json"]) == 2

    assert json.loads(capsys.readouterr().out)["error"]["code"] == "destination-not-empty"
    assert [path.name for path in (here / "out").iterdir()] == ["mine"]


def test_a_version_converts_to_a_version_that_says_where_it_came_from(weights: Path, capsys) -> None:
    source = assay.push("./m.pt", "raw")

    assert invoke(["convert", "raw", "--to", "safetensors", "--push", "safe", "--json"]) == 0

    said = json.loads(capsys.readouterr().out)
    assert (said["reference"], said["folder"]) == ("safe:1", None)
    shown = assay.show("safe")
    statements = {item["kind"]: item["predicate"] for item in shown["statements"]}
    assert statements["base"] == {
        "relation": "converted-from",
        "source": "given",
        "name": "raw:1",
        "reference": "raw:1",
        "manifest": str(source.manifest),
    }
    record = statements["conversion"]
    assert record["tool"]["name"] == "assay"
    (step,) = record["steps"]
    assert (step["from"], step["to"], step["isolation"], step["dropped"]) == ("pytorch", "safetensors", None, [])
    assert step["proof"]["method"] == "tensors"
    assert step["results"]["m.safetensors"] == shown["files"][0]["digest"]
    assert list(step["sources"]) == ["m.pt"]
    assert list(step["proof"]["digests"]) == ["w"]


def test_a_safe_push_stores_the_safe_form_and_not_the_original(here: Path, capsys) -> None:
    folder = here / "model"
    folder.mkdir()
    torch.save({"w": torch.ones(2)}, folder / "pytorch_model.bin")
    joblib.dump(LinearRegression().fit(np.eye(3), [1.0, 2.0, 3.0]), folder / "head.joblib")
    (folder / "README.md").write_text("# Mine\n")

    assert invoke(["push", "./model", "mine", "--safe"]) == 0

    shown = assay.show("mine")
    assert sorted(file["path"] for file in shown["files"]) == ["README.md", "head.skops", "model.safetensors"]
    assert "conversion" in {item["kind"] for item in shown["statements"]}
    assert shown["audit"]["verdict"] == "safe"
    said = capsys.readouterr().err
    assert "pytorch_model.bin -> model.safetensors" in said
    assert "head.joblib -> head.skops" in said
    assert (folder / "pytorch_model.bin").is_file()


def test_a_safe_push_of_a_safe_model_changes_nothing(here: Path) -> None:
    (here / "notes.txt").write_text("text")

    assert assay.push(here / "notes.txt", "a", safe=True).manifest == assay.push(here / "notes.txt", "b").manifest


def test_a_safe_push_keeps_and_names_what_has_no_safe_form(here: Path, capsys) -> None:
    folder = here / "model"
    folder.mkdir()
    torch.save({"w": torch.ones(2)}, folder / "m.pt")
    torch.save({"epochs": 3}, folder / "training_args.bin")

    assert invoke(["push", "./model", "mine", "--safe"]) == 0

    assert "kept as it is: training_args.bin: it holds no tensors" in capsys.readouterr().err


def test_moving_and_converting_exclude_each_other(weights: Path) -> None:
    assert invoke(["push", "./m.pt", "mine", "--safe", "--move"]) == 64


def test_two_files_of_one_name_are_not_made(here: Path, capsys) -> None:
    folder = here / "model"
    folder.mkdir()
    torch.save({"w": torch.ones(2)}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")

    assert invoke(["convert", "./model", "out", "--to", "safetensors", "--json"]) == 2

    assert json.loads(capsys.readouterr().out)["error"]["code"] == "target-exists"
    assert not (here / "out").exists()


def test_what_has_no_converter_says_so(here: Path, capsys) -> None:
    (here / "notes.txt").write_text("text")

    assert invoke(["convert", "./notes.txt", "--to", "skops", "--json"]) == 2

    assert json.loads(capsys.readouterr().out)["error"]["code"] == "not-convertible"


def test_python_converts_too(weights: Path, here: Path) -> None:
    done = assay.convert(weights, here / "out", to="safetensors")

    assert [step.target for step in done.steps] == ["safetensors"]
    assert assay.open(here / "out").tensors["w"].numpy().tolist() == [[0, 1, 2], [3, 4, 5]]
