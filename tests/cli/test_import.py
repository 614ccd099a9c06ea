"""``assay import`` as people type it."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from model_files import safetensors

from assay.cli.main import invoke

FIELDS = {
    "model", "version", "reference", "digest", "new", "known", "aliases", "aliases_kept", "checksums", "error",
}  # fmt: skip


@pytest.fixture
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ASSAY_HOME", str(tmp_path / "home"))
    folder = tmp_path / "Runs of May"
    folder.mkdir()
    for number in (9, 10):
        data = struct.pack("<f", number)
        (folder / f"step-{number}.safetensors").write_bytes(safetensors(weight=("F32", [1], data)))
    return folder


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    status = invoke([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return status, out, err


def test_a_folder_of_checkpoints_becomes_versions_in_one_command(checkpoints: Path, capsys) -> None:
    status, out, err = call(capsys, "import", checkpoints)
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()] == ["runs-of-may:1", "runs-of-may:2"]
    assert "2 new versions of 1 model" in err
    status, out, err = call(capsys, "import", checkpoints, "--json")
    rows = json.loads(out)["versions"]
    assert status == 0
    assert [set(row) for row in rows] == [FIELDS, FIELDS]
    assert [(row["version"], row["known"]) for row in rows] == [
        ("step-9.safetensors", True),
        ("step-10.safetensors", True),
    ]


def test_a_name_or_a_prefix_may_be_given(checkpoints: Path, capsys) -> None:
    assert call(capsys, "import", checkpoints, "team/net")[1].startswith("team/net:1 ")
    assert call(capsys, "import", checkpoints, "--prefix", "x/")[1].startswith("x/runs-of-may:1 ")
    assert call(capsys, "import", checkpoints, "a", "--prefix", "x/")[0] == 64


def test_a_dry_run_says_what_there_is_and_makes_nothing(checkpoints: Path, capsys, tmp_path: Path) -> None:
    status, out, _ = call(capsys, "import", checkpoints, "--dry-run", "--json")
    assert status == 0
    body = json.loads(out)
    assert body["system"] == "folder"
    assert [row["version"] for row in body["versions"]] == ["step-9.safetensors", "step-10.safetensors"]
    assert {"model", "version", "name", "aliases", "where", "error"} == set(body["versions"][0])
    assert not (tmp_path / "home").exists()


def test_what_is_not_there_or_not_understood_ends_with_an_error(checkpoints: Path, capsys, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for source, code in (
        (tmp_path / "missing", "import-source-missing"),
        (tmp_path / "file", "unknown-source"),
        ("sqlite:///missing.db", "import-source-missing"),
    ):
        status, out, _ = call(capsys, "import", source, "--json")
        assert (status, json.loads(out)["error"]["code"]) == (2, code)
    status, out, _ = call(capsys, "import", checkpoints, "--model", "other", "--json")
    assert json.loads(out)["error"]["code"] == "import-model-missing"


def test_what_could_not_be_imported_is_named_and_the_answer_is_no(checkpoints: Path, capsys) -> None:
    (checkpoints / "step-11").mkdir()
    status, out, err = call(capsys, "import", checkpoints)
    assert status == 1
    assert len(out.splitlines()) == 2
    assert "not imported: Runs of May step-11" in err
