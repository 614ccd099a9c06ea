"""MLflow registries in a folder: made by MLflow itself, read without it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow_registry import make_files

from assay.errors import AssayError, NotFound
from assay.importers.mlflow_files import MlflowFiles, is_store
from assay.ports.importers import Offered
from assay.wiring.importing import importer_of, told


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``mlruns`` with two models; one was logged as MLflow 3 does it."""
    return make_files(tmp_path_factory.mktemp("mlflow-files"))


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A store that is written by hand: a version, its run, and its files."""
    run = tmp_path / "mlruns" / "0" / "r1"
    for name, text in {
        "models/m/meta.yaml": "name: m\n",
        "models/m/version-1/meta.yaml": f"name: m\nversion: 1\nrun_id: r1\nsource: {run}/artifacts\n",
        "models/m/aliases/best": "1",
        "0/r1/meta.yaml": "run_id: r1\nstatus: 3\n",
        "0/r1/params/a/b": "0.5\r\n",
        "0/r1/metrics/auc": "1 0.1 0\n2 0.2 1\n",
        "0/r1/artifacts/w": "weights",
    }.items():
        file = tmp_path / "mlruns" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path / "mlruns"


def test_versions_come_with_what_mlflow_knows_of_them(store: Path, read) -> None:
    found = read(MlflowFiles(store))
    assert list(found) == [("Fraud Model", "1"), ("Fraud Model", "2"), ("churn", "1"), ("churn", "2")]
    first, files = found["Fraud Model", "1"]
    assert files == {"sub/weights.bin": b"w" * 10}
    assert (first.params, first.metrics) == ({"optimizer/lr": 0.1}, {"val/auc": 0.2})
    assert first.tags == {"note": "two\nlines"}
    assert (first.aliases, found["Fraud Model", "2"][0].aliases) == ((), ("production",))
    assert first.run_details["name"] == "by hand"
    assert first.created is not None


def test_a_logged_model_is_found_with_its_metrics_on_a_data_set(store: Path, read) -> None:
    first, files = read(MlflowFiles(store))["churn", "1"]
    assert b"python_function" in files["MLmodel"]
    assert (first.params, first.aliases, first.note) == ({"depth": 2, "solver": "saga"}, ("champion",), "the first one")
    assert first.run_details["status"] == "FINISHED"
    assert [(result.metrics, result.dataset) for result in first.results] == [({"f1": 0.2}, "train")]
    assert "broken" not in first.metrics


def test_it_is_told_from_a_folder_of_checkpoints_and_found_from_the_folder_above(store: Path, tmp_path: Path) -> None:
    (tmp_path / "models" / "a").mkdir(parents=True)
    assert not is_store(tmp_path)
    assert [told(str(folder)) for folder in (store, store.parent, tmp_path)] == ["mlflow", "mlflow", "folder"]
    places = {importer_of(source).place for source in (str(store), str(store.parent), store.as_uri())}
    assert places == {str(store)}


def test_a_store_that_was_moved_is_read_where_it_lies_now(small: Path, tmp_path: Path, read) -> None:
    shutil.move(small, tmp_path / "copied")
    moved = read(MlflowFiles(tmp_path / "copied", {str(small): tmp_path / "copied"}))
    assert moved["m", "1"][1] == {"w": b"weights"}


def test_a_folder_that_registers_no_models_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no models are registered") as caught:
        list(MlflowFiles(tmp_path).offered())
    assert "assay push" in str(caught.value.hint)


def test_links_and_pipes_in_a_store_are_not_read(small: Path, tmp_path: Path, read) -> None:
    (tmp_path / "secret").write_text("key")
    (small / "models" / "m" / "tags").mkdir()
    (small / "models" / "m" / "tags" / "stolen").symlink_to(tmp_path / "secret")
    (small / "0" / "r1" / "params" / "stolen").symlink_to(tmp_path / "secret")
    (small / "0" / "r1" / "metrics" / "stolen").symlink_to(tmp_path / "secret")
    os.mkfifo(small / "models" / "m" / "aliases" / "pipe")
    ((offered, _),) = read(MlflowFiles(small)).values()
    assert (offered.params, offered.metrics, offered.tags) == ({"a/b": 0.5}, {"auc": 0.2}, {})
    assert offered.aliases == ("best",)


@pytest.mark.parametrize("run", ["../../outside", "*", "r1/../r1", "", "r" * 300])
def test_a_version_cannot_name_a_run_outside(small: Path, run: str, read) -> None:
    meta = small / "models" / "m" / "version-1" / "meta.yaml"
    meta.write_text(meta.read_text().replace("run_id: r1", f"run_id: '{run}'"))
    ((offered, _),) = read(MlflowFiles(small)).values()
    assert offered.params == {}


def test_a_long_history_of_a_metric_ends_with_its_last_value(small: Path, read) -> None:
    history = "".join(f"{step} {step}.5 {step}\n" for step in range(50_000))
    (small / "0" / "r1" / "metrics" / "auc").write_text(history)
    ((offered, _),) = read(MlflowFiles(small)).values()
    assert offered.metrics == {"auc": 49_999.5}


FILES = ["models/m/meta.yaml", "models/m/version-1/meta.yaml", "models/m/aliases/best", "0/r1/meta.yaml"]
FILES += ["0/r1/params/a/b", "0/r1/metrics/auc"]
KEYS = ["name", "version", "run_id", "source", "status", "artifact_uri", "start_time", "current_stage"]
SAID = ["1", "[1]", "{a: 1}", "null", "1e400", "-1", "runs:/r1/x", "models:/m/1", "9" * 40, "x", "!!float"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    st.sampled_from(FILES),
    st.one_of(
        st.binary(max_size=40),
        st.dictionaries(st.sampled_from(KEYS), st.sampled_from(SAID)).map(
            lambda body: "".join(f"{key}: {value}\n" for key, value in body.items()).encode()
        ),
    ),
)
def test_a_store_may_say_anything_anywhere(small: Path, name: str, data: bytes) -> None:
    file = small / name
    before = file.read_bytes()
    file.write_bytes(data)
    try:
        for found in MlflowFiles(small).offered():
            if isinstance(found, Offered):
                with found.open():
                    pass
    except AssayError:
        pass
    finally:
        file.write_bytes(before)
