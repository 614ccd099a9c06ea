"""MLflow databases: made by MLflow itself, read without it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow_registry import make

from assay.errors import AssayError, BadFormat, NotFound
from assay.importers import mlflow_runs, mlflow_sql
from assay.importers.mlflow_sql import MlflowDatabase
from assay.ports.importers import Offered, Result


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


def by_hand(folder: Path, *versions: tuple[object, ...], more: str = "") -> MlflowDatabase:
    """A database with a model ``m`` whose versions are (number, source, run)."""
    connection = sqlite3.connect(folder / "hand.db")
    with connection:
        connection.executescript(
            f"""CREATE TABLE registered_models (name TEXT, creation_time BIGINT);
            CREATE TABLE model_versions (name TEXT, version INTEGER, creation_time BIGINT, source TEXT, run_id TEXT);
            CREATE TABLE runs (run_uuid TEXT, artifact_uri TEXT, name TEXT);
            CREATE TABLE params (key TEXT, value TEXT, run_uuid TEXT);
            CREATE TABLE latest_metrics (key TEXT, value DOUBLE, is_nan BOOLEAN, run_uuid TEXT);
            CREATE TABLE tags (key TEXT, value TEXT, run_uuid TEXT);
            INSERT INTO registered_models VALUES ('m', 0);
            {more}"""
        )
        connection.executemany("INSERT INTO model_versions VALUES ('m', ?, 0, ?, ?)", versions)
    connection.close()
    return MlflowDatabase(f"sqlite:///{folder}/hand.db")


def test_models_of_several_workspaces_stay_apart(database: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    copy.write_bytes(database.read_bytes())
    connection = sqlite3.connect(copy)
    with connection:
        for table in ("registered_models", "model_versions", "registered_model_aliases", "registered_model_tags"):
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            kept = ", ".join("'risk'" if column == "workspace" else column for column in columns)
            connection.execute(f"INSERT INTO {table} SELECT {kept} FROM {table} WHERE name = 'churn'")
        connection.execute("UPDATE registered_model_aliases SET version = 2 WHERE workspace = 'risk'")
    connection.close()
    offered = {(found.model, found.label): found for found in MlflowDatabase(f"sqlite:///{copy}").offered()}
    assert offered["churn", "1"].aliases == offered["risk/churn", "2"].aliases == ("champion",)
    assert offered["churn", "2"].aliases == offered["risk/churn", "1"].aliases == ()
    assert offered["risk/churn", "1"].tags == {"team": "risk"}


def test_only_runs_that_versions_were_made_in_are_read(tmp_path: Path) -> None:
    """A tracking database may hold millions of others."""
    many = 2000
    more = "".join(
        f"INSERT INTO runs VALUES ('r{n}', '{tmp_path}/{n}', 'n');"
        f"INSERT INTO latest_metrics VALUES ('auc', {n}, 0, 'r{n}');"
        for n in range(many)
    )
    importer = by_hand(tmp_path, *((n, f"runs:/r{n}/model", f"r{n}") for n in range(1, 1200)), more=more)
    connection = sqlite3.connect(tmp_path / "hand.db")
    with connection:  # what is of no version is of no interest, whatever it holds
        connection.execute("UPDATE latest_metrics SET value = 'much' WHERE run_uuid = 'r1500'")
    connection.close()
    with pytest.MonkeyPatch.context() as patch:
        counted = Counting()
        patch.setattr(mlflow_sql, "numbers", counted)
        read = [found.label for found in importer.offered()]
    assert read == [str(n) for n in range(1, 1200)]
    assert counted.rows == 1199


class Counting:
    """``numbers``, counting what it is given."""

    rows = 0

    def __call__(self, rows):
        listed = list(rows)
        self.rows += len(listed)
        return mlflow_runs.numbers(listed)


def test_what_a_server_keeps_is_found_in_the_folder_that_it_was_started_with(tmp_path: Path, read) -> None:
    kept = tmp_path / "served" / "1" / "run" / "artifacts" / "model"
    kept.mkdir(parents=True)
    (kept / "w").write_bytes(b"1")
    places = ["mlflow-artifacts:/1/run/artifacts/model", "mlflow-artifacts://host:5000/1/run/artifacts/model"]
    plain = by_hand(tmp_path, *((number, place, None) for number, place in enumerate(places, 1)))
    for found in plain.offered():
        assert "--artifacts" in str(found.error.hint)
    uri = f"sqlite:///{tmp_path}/hand.db"
    for artifacts in ({"mlflow-artifacts:": tmp_path / "served"}, {"mlflow-artifacts:/1": tmp_path / "served" / "1"}):
        found = read(MlflowDatabase(uri, artifacts))
        assert [files for _, files in found.values()] == [{"w": b"1"}] * 2


def test_nothing_outside_the_named_folders_is_read(tmp_path: Path, unreadable) -> None:
    (tmp_path / "mount").mkdir()
    (tmp_path / "mount" / "a").mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("key")
    (tmp_path / "mount" / "link").symlink_to(tmp_path / "secret")
    inside = ["../secret", "a/../../secret", "a/%2e%2e/../../secret", "link", "link/key", "a" * 5000, "a\0b"]
    places = [f"{tmp_path}/secret", f"file://{tmp_path}/secret", "s3://bucketeer/a", "s3:/bucket/a", "secret"]
    places += ["http://[", "a\0b", *(f"s3://bucket/{path}" for path in inside)]
    importer = by_hand(tmp_path, *((number, place, None) for number, place in enumerate(places, 1)))
    confined = MlflowDatabase(importer.place, {"s3://bucket": tmp_path / "mount"})
    assert sorted(unreadable(confined), key=int) == [str(number) for number in range(1, len(places) + 1)]


def test_a_database_that_is_written_to_meanwhile_is_read_in_one_state(tmp_path: Path, monkeypatch) -> None:
    by_hand(tmp_path, (1, "/a", "r"), more="INSERT INTO runs VALUES ('r', '/a', 'n');")
    writer = sqlite3.connect(tmp_path / "hand.db")
    writer.execute("PRAGMA journal_mode = WAL")
    tables = mlflow_sql._Tables

    class Slow(tables):  # type: ignore[misc, valid-type]
        def of(self, name: str, *arguments: object) -> object:
            with writer:
                writer.execute("INSERT INTO params VALUES (?, 'late', 'r')", (name,))
            return super().of(name, *arguments)

    monkeypatch.setattr(mlflow_sql, "_Tables", Slow)
    (found,) = MlflowDatabase(f"sqlite:///{tmp_path}/hand.db").offered()
    writer.close()
    assert found.params == {}


CELLS = st.one_of(
    st.none(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(max_size=20), st.binary(max_size=20),
    st.sampled_from(["1" * 400, "runs:/r/x", "models:/m/1", "models:/m-1", "file://[", "true", "9" * 18]),
)  # fmt: skip
COLUMNS = {
    "model_versions": "name version creation_time source run_id",
    "registered_models": "name",
    "runs": "run_uuid artifact_uri name",
    "params": "key value run_uuid",
    "latest_metrics": "key value is_nan run_uuid",
    "tags": "key value run_uuid",
}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.sampled_from(sorted(COLUMNS)), st.integers(0, 4), CELLS), max_size=4))
def test_a_database_may_say_anything_anywhere(tmp_path: Path, changes: list[tuple[str, int, object]]) -> None:
    (tmp_path / "hand.db").unlink(missing_ok=True)
    more = """INSERT INTO runs VALUES ('r', '/a', 'n'); INSERT INTO params VALUES ('k', '1', 'r');
        INSERT INTO latest_metrics VALUES ('auc', 0.5, 0, 'r'); INSERT INTO tags VALUES ('mlflow.user', 'a', 'r');"""
    importer = by_hand(tmp_path, (1, "runs:/r/model", "r"), (2, "models:/m/1", "r"), more=more)
    connection = sqlite3.connect(tmp_path / "hand.db")
    with connection:
        for table, number, value in changes:
            columns = COLUMNS[table].split()
            connection.execute(f"UPDATE {table} SET {columns[number % len(columns)]} = ?", (value,))
    connection.close()
    try:
        for found in importer.offered():
            if isinstance(found, Offered):
                with found.open():
                    pass
    except AssayError:
        pass


def test_a_parameter_that_reads_as_an_endless_number_is_text(tmp_path: Path) -> None:
    more = f"INSERT INTO params VALUES ('digits', '{'1' * 400}', 'r'); INSERT INTO runs VALUES ('r', '/a', 'n');"
    (found,) = by_hand(tmp_path, (1, "/a", "r"), more=more).offered()
    assert found.params == {"digits": "1" * 400}
