"""MLflow databases: made by MLflow itself, read without it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from mlflow_registry import make

from assay.errors import BadFormat, NotFound
from assay.importers.mlflow_sql import MlflowDatabase
from assay.ports.importers import Result


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with three models, runs, aliases, tags, stages, a deleted version and a prompt."""
    return make(tmp_path_factory.mktemp("mlflow"))


def test_every_version_of_every_model_is_offered_oldest_first(database: Path) -> None:
    found = [(offered.model, offered.label) for offered in MlflowDatabase(f"sqlite:///{database}").offered()]
    assert found == [
        ("Fraud Model", "1"),
        ("Fraud Model", "3"),
        ("churn", "1"),
        ("churn", "2"),
        ("copied", "1"),
        ("raw", "1"),
        ("raw", "2"),
        ("raw", "3"),
    ]


def test_what_mlflow_knows_of_a_version_comes_along(database: Path) -> None:
    offered = {(found.model, found.label): found for found in MlflowDatabase(f"sqlite:///{database}").offered()}
    first, second = offered["churn", "1"], offered["churn", "2"]
    assert first.params == {"depth": 2, "solver": "saga"}
    assert first.metrics == pytest.approx({"auc": 0.82, "f1": 0.2})
    assert [(result.metrics, result.dataset) for result in first.results] == [({"f1": 0.2}, "train")]
    assert isinstance(first.results[0], Result)
    assert first.results[0].digest
    assert first.note == "the first one"
    assert first.aliases == ("champion",)
    assert (first.tags, second.tags) == ({"team": "risk"}, {"team": "risk", "checked": "yes"})
    assert first.run is not None
    assert first.run.startswith("mlflow://")
    assert first.run_details["name"] == "run-2"
    assert first.run_details["status"] == "FINISHED"
    assert first.created is not None


def test_the_files_are_those_that_mlflow_stored(database: Path) -> None:
    for found in MlflowDatabase(f"sqlite:///{database}").offered():
        if found.model == "raw":
            continue
        with found.open() as files:
            content = {path: file.read_bytes() for path, file in files.paths.items()}
        if found.model == "churn":
            assert b"python_function" in content["MLmodel"]
        else:
            number = 3 if found.model == "copied" else int(found.label)
            assert content == {"sub/weights.bin": bytes([number]) * 10}


def test_a_stage_is_an_alias_of_the_newest_version_in_it(database: Path) -> None:
    offered = {(found.model, found.label): found for found in MlflowDatabase(f"sqlite:///{database}").offered()}
    assert offered["Fraud Model", "1"].aliases == ()
    assert offered["Fraud Model", "3"].aliases == ("production",)


def test_a_version_whose_bytes_cannot_be_reached_says_where_they_are_without_credentials(
    database: Path, unreadable
) -> None:
    found = unreadable(MlflowDatabase(f"sqlite:///{database}"))
    assert sorted(found) == ["1", "2", "3"]
    assert "nothing is there" in found["1"]
    assert "s3://bucket/model" in found["2"]
    assert "secret" not in found["2"]
    assert "m-gone" in found["3"]


def test_reading_leaves_the_database_as_it_was(database: Path) -> None:
    before = database.read_bytes()
    list(MlflowDatabase(f"sqlite:///{database}").offered())
    assert database.read_bytes() == before


def test_tables_and_columns_that_an_older_mlflow_did_not_have_are_done_without(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "w").write_bytes(b"1")
    connection = sqlite3.connect(tmp_path / "old.db")
    with connection:
        connection.executescript(
            f"""CREATE TABLE registered_models (name TEXT PRIMARY KEY, creation_time BIGINT);
            CREATE TABLE model_versions (name TEXT, version INTEGER, creation_time BIGINT, source TEXT, run_id TEXT,
              current_stage TEXT);
            INSERT INTO registered_models VALUES ('m', 0);
            INSERT INTO model_versions VALUES ('m', 1, 1600000000000, 'file://{tmp_path}/model', NULL, 'Staging');"""
        )
    connection.close()
    (found,) = MlflowDatabase(f"sqlite:///{tmp_path}/old.db").offered()
    assert (found.created, found.aliases) == ("2020-09-13T12:26:40Z", ("staging",))
    with found.open() as files:
        assert list(files.paths) == ["w"]


def test_what_is_no_mlflow_database_is_refused_and_none_is_made(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database " * 100)
    sqlite3.connect(tmp_path / "other.db").executescript("CREATE TABLE t (a);").connection.close()
    for name, kind in (("text.db", BadFormat), ("other.db", BadFormat), ("missing.db", NotFound)):
        with pytest.raises(kind):
            list(MlflowDatabase(f"sqlite:///{tmp_path}/{name}").offered())
    assert not (tmp_path / "missing.db").exists()


def test_a_database_behind_a_driver_that_is_not_installed_says_which_one(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="psycopg") as caught:
        list(MlflowDatabase("postgresql://ada:secret@127.0.0.1:1/mlflow").offered())
    assert "secret" not in str(caught.value)
