"""``assay import`` as people type it."""

from __future__ import annotations

import json
import sqlite3
import struct
from pathlib import Path

import pytest
from model_files import safetensors

import assay

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


def test_a_folder_of_checkpoints_becomes_versions_in_one_command(checkpoints: Path, run) -> None:
    status, out, err = run("import", checkpoints)
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()] == ["runs-of-may:1", "runs-of-may:2"]
    assert "2 new versions of 1 model" in err
    status, out, err = run("import", checkpoints, "--json")
    rows = json.loads(out)["versions"]
    assert status == 0
    assert [set(row) for row in rows] == [FIELDS, FIELDS]
    assert [(row["version"], row["known"]) for row in rows] == [
        ("step-9.safetensors", True),
        ("step-10.safetensors", True),
    ]


def test_a_name_or_a_prefix_may_be_given(checkpoints: Path, run) -> None:
    assert run("import", checkpoints, "team/net")[1].startswith("team/net:1 ")
    assert run("import", checkpoints, "--prefix", "x/")[1].startswith("x/runs-of-may:1 ")
    assert run("import", checkpoints, "a", "--prefix", "x/")[0] == 64


def test_a_dry_run_says_what_there_is_and_makes_nothing(checkpoints: Path, run, tmp_path: Path) -> None:
    status, out, _ = run("import", checkpoints, "--dry-run", "--json")
    assert status == 0
    body = json.loads(out)
    assert body["system"] == "folder"
    assert [row["version"] for row in body["versions"]] == ["step-9.safetensors", "step-10.safetensors"]
    assert {"model", "version", "name", "aliases", "where", "error"} == set(body["versions"][0])
    assert not (tmp_path / "home").exists()


def test_what_is_not_there_or_not_understood_ends_with_an_error(checkpoints: Path, run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for source, code in (
        (tmp_path / "missing", "import-source-missing"),
        (tmp_path / "file", "unknown-source"),
        ("sqlite:///missing.db", "import-source-missing"),
    ):
        status, out, _ = run("import", source, "--json")
        assert (status, json.loads(out)["error"]["code"]) == (2, code)
    status, out, _ = run("import", checkpoints, "--model", "other", "--json")
    assert json.loads(out)["error"]["code"] == "import-model-missing"


def test_what_could_not_be_imported_is_named_and_the_answer_is_no(checkpoints: Path, run) -> None:
    (checkpoints / "step-11").mkdir()
    status, out, err = run("import", checkpoints)
    assert status == 1
    assert len(out.splitlines()) == 2
    assert "not imported: Runs of May step-11" in err


def test_a_dry_run_says_what_models_would_be_called(checkpoints: Path, run) -> None:
    def names(*options: str) -> list[str]:
        _, out, _ = run("import", checkpoints, *options, "--dry-run", "--json")
        return [row["name"] for row in json.loads(out)["versions"]]

    assert names() == ["runs-of-may"] * 2
    assert names("--prefix", "team/") == ["team/runs-of-may"] * 2
    assert run("import", checkpoints, "net", "--dry-run")[0] == 0
    assert names("net") == ["net"] * 2


def test_importing_from_another_folder_finds_what_was_brought(checkpoints: Path, run, monkeypatch) -> None:
    monkeypatch.chdir(checkpoints)
    assert run("import", ".", "net")[0] == 0
    monkeypatch.chdir(checkpoints.parent)
    _, out, _ = run("import", checkpoints.name, "net", "--json")
    assert [row["known"] for row in json.loads(out)["versions"]] == [True, True]


@pytest.fixture
def database(checkpoints: Path, tmp_path: Path) -> Path:
    """An MLflow database with versions in a server's store and in a bucket."""
    connection = sqlite3.connect(tmp_path / "mlflow.db")
    with connection:
        connection.executescript(
            """CREATE TABLE registered_models (name TEXT);
            CREATE TABLE model_versions (name TEXT, version INTEGER, source TEXT, run_id TEXT);
            INSERT INTO registered_models VALUES ('net');
            INSERT INTO model_versions VALUES ('net', 1, 'mlflow-artifacts:/step-9.safetensors', NULL);
            INSERT INTO model_versions VALUES ('net', 2, 's3://bucket/x/step-10.safetensors', NULL);"""
        )
    connection.close()
    return tmp_path / "mlflow.db"


def test_folders_that_hold_the_files_of_an_mlflow_registry_are_named(database: Path, checkpoints: Path, run) -> None:
    status, _, err = run("import", database)
    assert status == 1
    assert "hint: --artifacts FOLDER" in err
    assert "--artifacts LOCATION=FOLDER" in err
    status, out, _ = run("import", database, "--artifacts", checkpoints, "--json")
    assert [bool(row["reference"]) for row in json.loads(out)["versions"]] == [True, False]
    bucket = f"s3://bucket/x={checkpoints}"
    status, out, _ = run("import", database, "--artifacts", checkpoints, "--artifacts", bucket, "--json")
    assert (status, [row["reference"] for row in json.loads(out)["versions"]]) == (0, ["net:1", "net:2"])
    found = list(assay.import_from(database, "again", artifacts={"s3://bucket/x": checkpoints}))
    assert [imported.label for imported in found if imported.version] == ["2"]


def test_an_option_that_does_not_go_with_the_source_is_refused(checkpoints: Path, run) -> None:
    for options in (("--artifacts", checkpoints), ("--commits",)):
        status, out, _ = run("import", checkpoints, *options, "--json")
        assert (status, json.loads(out)["error"]["code"]) == (2, "import-option")
    status, out, _ = run("import", "http://127.0.0.1:1", "--artifacts", "s3://bucket=missing", "--json")
    assert (status, json.loads(out)["error"]["code"]) == (2, "import-source-missing")


def test_a_folder_that_may_not_be_read_is_told(checkpoints: Path, run, monkeypatch) -> None:
    def refused(self: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "is_file", refused)
        status, out, _ = run("import", checkpoints, "--json")
    assert (status, json.loads(out)["error"]["code"]) == (2, "unreadable")


@pytest.mark.parametrize("source", ["./nowhere", "sqlite:///nowhere.db", "http://127.0.0.1:9"])
def test_a_source_that_is_not_there_makes_no_registry(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source
) -> None:
    monkeypatch.setenv("ASSAY_HOME", str(tmp_path / "new"))
    assert run("import", source)[0] == 2
    with pytest.raises(assay.AssayError):
        assay.import_from(source)
    assert not (tmp_path / "new").exists()
