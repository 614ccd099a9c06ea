"""The SDK: the same verbs as functions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import assay


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ASSAY_ACTOR", "tester")


@pytest.fixture
def weights() -> dict[str, np.ndarray]:
    return {"layer.weight": np.arange(6, dtype="float32").reshape(2, 3), "layer.bias": np.zeros(2, dtype="float16")}


def test_a_live_object_becomes_a_version_with_its_environment(weights: dict[str, np.ndarray]) -> None:
    version = assay.push(weights, "toys/linear", metrics={"loss": np.float32(0.5)}, params={"epochs": 3}, note="hello")

    card = assay.show("toys/linear")
    said = {statement["kind"]: statement["predicate"] for statement in card["statements"]}
    assert version.reference == card["reference"] == "toys/linear:1"
    assert said["metrics"] == {"metrics": {"loss": 0.5}}
    assert said["params"]["params"]["epochs"] == 3
    assert said["environment"]["distributions"]["numpy"] == np.__version__
    assert card["description"]["summary"]["format"] == "safetensors"


def test_the_same_live_object_is_the_same_version(weights: dict[str, np.ndarray]) -> None:
    assert assay.push(weights, "toys/linear") == assay.push(dict(reversed(weights.items())), "toys/linear")


def test_what_is_loaded_is_what_was_pushed(weights: dict[str, np.ndarray]) -> None:
    assay.push(weights, "toys/linear", alias="best")

    loaded = assay.load("toys/linear:best")

    assert {name: np.asarray(value).tolist() for name, value in loaded.items()} == {
        name: value.tolist() for name, value in weights.items()
    }


def test_tensors_are_read_lazily_by_reference_and_by_path(weights: dict[str, np.ndarray], tmp_path: Path) -> None:
    assay.push(weights, "toys/linear")
    folder = assay.pull("toys/linear", tmp_path / "out")

    for where in ("toys/linear", folder):
        with assay.open(where) as artifact:
            assert artifact.tensors["layer.weight"][1].tolist() == [3, 4, 5]
            assert set(artifact.tensors) == set(weights)


def test_loading_twice_uses_one_snapshot_of_links(weights: dict[str, np.ndarray], tmp_path: Path) -> None:
    version = assay.push(weights, "toys/linear")
    assay.load("toys/linear")
    assay.load("toys/linear")

    (snapshot,) = (tmp_path / "home/snapshots").iterdir()
    assert snapshot.name == version.manifest.hex
    assert all(file.stat().st_nlink > 1 for file in snapshot.iterdir())


def test_a_snapshot_follows_the_store_after_a_repair(weights: dict[str, np.ndarray], tmp_path: Path) -> None:
    assay.push(weights, "toys/linear")
    assay.load("toys/linear")
    (snapshot,) = (tmp_path / "home/snapshots").iterdir()
    (file,) = (path for path in snapshot.iterdir() if path.suffix == ".safetensors")
    good = file.read_bytes()
    file.chmod(0o644)
    file.write_bytes(good[:-4] + b"\xff\xff\xff\xff")
    assert not assay.verify("toys/linear").ok

    assay.push(weights, "toys/linear")

    assert assay.verify("toys/linear").ok
    assert np.asarray(assay.load("toys/linear")["layer.bias"]).tolist() == [0, 0]


def test_an_object_that_cannot_be_saved_is_refused_with_the_way_out() -> None:
    with pytest.raises(assay.AssayError) as caught:
        assay.push(object(), "toys/thing")

    assert caught.value.hint
    assert assay.versions("toys/thing") == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "high", None])
def test_a_metric_that_is_no_number_is_refused(weights: dict[str, np.ndarray], value: object) -> None:
    with pytest.raises(assay.AssayError) as caught:
        assay.push(weights, "toys/linear", metrics={"auc": value})  # type: ignore[dict-item]

    assert caught.value.code == "bad-metric"


def test_what_has_no_loader_says_so_and_how_to_get_the_files(tmp_path: Path) -> None:
    (tmp_path / "mystery.txt").write_text("a mystery\n" * 100)
    assay.push(tmp_path / "mystery.txt", "toys/mystery")

    with pytest.raises(assay.AssayError) as caught:
        assay.load("toys/mystery")

    assert caught.value.code == "no-loader"
    assert "pull" in (caught.value.hint or "")


@pytest.mark.framework
def test_one_of_several_models_is_loaded_by_its_file(tmp_path: Path) -> None:
    import joblib
    from sklearn.linear_model import LinearRegression, Ridge

    data, target = np.arange(8.0).reshape(4, 2), np.arange(4.0)
    (tmp_path / "models").mkdir()
    joblib.dump(LinearRegression().fit(data, target), tmp_path / "models/plain.joblib")
    joblib.dump(Ridge().fit(data, target), tmp_path / "models/ridge.joblib")
    assay.push(tmp_path / "models", "toys/two")

    with pytest.raises(assay.AssayError) as caught:
        assay.load("toys/two")
    assert caught.value.code == "ambiguous-model"
    assert isinstance(assay.load("toys/two", part="ridge.joblib"), Ridge)
    assert isinstance(assay.load(tmp_path / "models", part="plain.joblib"), LinearRegression)
    with pytest.raises(assay.AssayError) as caught:
        assay.load("toys/two", part="tokenizer")
    assert caught.value.code in {"part-not-found", "ambiguous-model"}


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ({"name": None}, "wrong-type"),
        ({"note": 3}, "wrong-type"),
        ({"alias": 3}, "wrong-type"),
        ({"metrics": [("auc", 1)]}, "wrong-type"),
        ({"metrics": {1: 0.5}}, "wrong-type"),
        ({"params": {1: 2}}, "wrong-type"),
        ({"params": {"optimizer": object()}}, "bad-param"),
        ({"params": {"nested": [{1, 2}]}}, "bad-param"),
    ],
)
def test_what_cannot_be_said_is_refused_before_anything_is_stored(
    weights: dict[str, np.ndarray], tmp_path: Path, said: dict, code: str
) -> None:
    with pytest.raises(assay.AssayError) as caught:
        assay.push(weights, **{"name": "toys/linear", **said})

    assert caught.value.code == code
    assert not (tmp_path / "home").exists()


def test_params_of_training_code_are_kept_as_json(weights: dict[str, np.ndarray]) -> None:
    params = {
        "depth": np.int64(3),
        "lr": np.float32(0.5),
        "missing": float("nan"),
        "shape": (2, 3),
        "data": Path("d.csv"),
    }

    assay.push(weights, "toys/linear", params=params)

    (said,) = [one["predicate"] for one in assay.show("toys/linear")["statements"] if one["kind"] == "params"]
    assert said["params"] == {"depth": 3, "lr": 0.5, "missing": "nan", "shape": [2, 3], "data": "d.csv"}


def test_one_pattern_may_be_given_as_text(weights: dict[str, np.ndarray], tmp_path: Path) -> None:
    assay.push(weights, "toys/linear")

    assert [path.name for path in assay.pull("toys/linear", tmp_path / "out", only="*.safetensors").iterdir()]


@pytest.mark.parametrize("verb", [assay.load, assay.open, assay.inspect, assay.verify, assay.show])
def test_no_reference_is_a_clear_error(weights: dict[str, np.ndarray], verb) -> None:
    assay.push(weights, "toys/linear")

    with pytest.raises(assay.AssayError, match="the reference is a NoneType, expected text"):
        verb(None)


@pytest.mark.framework
def test_the_environment_is_recorded_for_a_path_when_this_process_uses_what_the_files_need(tmp_path: Path) -> None:
    import joblib
    from sklearn.linear_model import Ridge

    joblib.dump(Ridge().fit(np.arange(8.0).reshape(4, 2), np.arange(4.0)), tmp_path / "ridge.joblib")
    (tmp_path / "opaque.bin").write_bytes(b"nobody knows")
    assay.push(tmp_path / "ridge.joblib", "toys/ridge")
    assay.push(tmp_path / "opaque.bin", "toys/opaque")

    said = {found["kind"]: found["predicate"] for found in assay.show("toys/ridge")["statements"]}
    assert {"scikit-learn", "numpy", "scipy"} <= set(said["environment"]["distributions"])
    assert said["environment"]["python"]["version"]
    assert assay.show("toys/opaque")["statements"] == []


@pytest.mark.framework
def test_a_class_is_not_a_model() -> None:
    from sklearn.linear_model import LogisticRegression

    with pytest.raises(assay.AssayError, match="is the class LogisticRegression, not a model of it"):
        assay.push(LogisticRegression, "toys/class")
