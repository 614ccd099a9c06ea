"""Conversions that run a framework, in the sandbox: each result is held against the framework itself."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import joblib
import numpy as np
import pytest
import skops.io
import xgboost
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from assay.conversion.children.comparing import Compared, same_state
from assay.errors import AssayError, IntegrityError, InvalidInput, MissingDependency, Refused

ROWS = np.random.default_rng(1).normal(size=(60, 4))
LABELS = (ROWS[:, 0] > 0).astype(int)


@pytest.fixture(scope="module")
def pipeline():
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(ROWS, LABELS)


def test_a_pickled_pipeline_becomes_skops_with_equal_values_and_answers(tmp_path: Path, convert, pipeline) -> None:
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(pipeline))

    done = convert(tmp_path / "m.pkl", "skops")

    assert [path.name for path in done.folder.iterdir()] == ["m.skops"]
    found = skops.io.load(done.folder / "m.skops")
    assert np.array_equal(found.predict_proba(ROWS), pipeline.predict_proba(ROWS))
    proof = done.steps[0].made.proof
    assert (proof.method, proof.max_difference, proof.tolerance) == ("state+outputs", 0.0, 0.0)
    assert proof.tensors > 4
    assert proof.outputs > 100


def test_the_sandbox_says_what_it_enforced(tmp_path: Path, convert, pipeline) -> None:
    joblib.dump(pipeline, tmp_path / "m.joblib")

    (step,) = convert(tmp_path / "m.joblib", "skops").steps

    assert step.made.isolation is not None
    assert set(step.made.isolation) == {"mechanism", "network", "files", "home", "resources"}
    assert step.to_json()["isolation"] == dict(step.made.isolation)


def test_trees_and_text_models_convert_too(tmp_path: Path, convert) -> None:
    forest = RandomForestClassifier(5, random_state=0).fit(ROWS, LABELS)
    texts = TfidfVectorizer(ngram_range=(1, 2)).fit(["a good day", "a bad day", "the fox jumps over"])
    joblib.dump(forest, tmp_path / "forest.joblib", compress=3)
    joblib.dump(texts, tmp_path / "texts.joblib")

    first = convert(tmp_path / "forest.joblib", "skops", out="a")
    second = convert(tmp_path / "texts.joblib", "skops", out="b")

    file = first.folder / "forest.skops"
    found = skops.io.load(file, trusted=skops.io.get_untrusted_types(file=file))
    assert np.array_equal(found.predict(ROWS), forest.predict(ROWS))
    assert second.steps[0].made.proof.outputs > 0


class Mark:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (self.path,))


def test_a_hostile_pickle_is_refused_before_anything_runs(tmp_path: Path, convert, pipeline) -> None:
    mark = tmp_path / "ran"
    (tmp_path / "m.pkl").write_bytes(pickle.dumps([pipeline, Mark(str(mark))]))

    with pytest.raises(AssayError) as caught:
        convert(tmp_path / "m.pkl", "skops")

    assert isinstance(caught.value, Refused)
    assert caught.value.code == "unsafe-pickle"
    assert not mark.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.pkl"]


def test_onnx_needs_its_translator(tmp_path: Path, convert, pipeline) -> None:
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(pipeline))
    try:
        import skl2onnx  # noqa: F401
    except ImportError:
        with pytest.raises(MissingDependency, match="skl2onnx"):
            convert(tmp_path / "m.pkl", "onnx")
        return

    proof = convert(tmp_path / "m.pkl", "onnx").steps[0].made.proof

    assert 0 < proof.tolerance <= 1e-3
    assert proof.max_difference <= proof.tolerance


@pytest.fixture(scope="module")
def booster():
    matrix = xgboost.DMatrix(ROWS, label=LABELS, feature_names=["a", "b", "c", "d"])
    return xgboost.train({"objective": "binary:logistic", "max_depth": 3}, matrix, num_boost_round=5)


def test_xgboost_json_becomes_ubj_with_equal_trees_and_predictions(tmp_path: Path, convert, booster) -> None:
    booster.save_model(tmp_path / "m.json")

    done = convert(tmp_path / "m.json", "ubj")

    found = xgboost.Booster(model_file=str(done.folder / "m.ubj"))
    assert found.get_dump(with_stats=True) == booster.get_dump(with_stats=True)
    assert done.steps[0].made.proof.method == "state+outputs"


def test_what_is_in_the_form_already_is_not_converted_again(tmp_path: Path, convert, booster) -> None:
    booster.save_model(tmp_path / "m.ubj")

    with pytest.raises(InvalidInput, match="UBJSON already"):
        convert(tmp_path / "m.ubj", "ubj")


def test_a_damaged_model_converts_to_nothing(tmp_path: Path, convert, booster) -> None:
    booster.save_model(tmp_path / "m.json")
    body = json.loads((tmp_path / "m.json").read_text())
    body["learner"]["gradient_booster"]["model"]["trees"][0]["left_children"][0] = 10**6
    (tmp_path / "m.json").write_text(json.dumps(body))

    with pytest.raises(AssayError):
        convert(tmp_path / "m.json", "ubj")
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore:__array__ implementation")
def test_a_keras_h5_becomes_keras_with_equal_weights_and_outputs(tmp_path: Path, convert) -> None:
    import keras

    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Dense(4, activation="relu")(inputs)))
    model.save(tmp_path / "m.h5")

    done = convert(tmp_path / "m.h5", "keras")

    found = keras.saving.load_model(done.folder / "m.keras")
    for one, two in zip(model.get_weights(), found.get_weights(), strict=True):
        assert one.tobytes() == two.tobytes()
    proof = done.steps[0].made.proof
    assert (proof.method, proof.tensors) == ("tensors+outputs", 4)
    assert proof.max_difference <= proof.tolerance <= 1e-5


def test_a_lambda_layer_is_refused(tmp_path: Path, convert) -> None:
    import keras

    inputs = keras.Input((3,))
    keras.Model(inputs, keras.layers.Lambda(lambda x: x)(inputs)).save(tmp_path / "m.h5")

    with pytest.raises(Refused):
        convert(tmp_path / "m.h5", "keras")
    assert not (tmp_path / "out").exists()


class Holder:
    def __init__(self, **values: object) -> None:
        vars(self).update(values)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (1.0, 1.0000000001),
        (0.0, -0.0),
        (1, True),
        ("a", "b"),
        ([1, 2], [1, 2, 3]),
        ((1,), [1]),
        ({"a": 1}, {"b": 1}),
        ({1, 2}, {1, 3}),
        (np.array([1.0]), np.array([1.0], dtype=np.float32)),
        (np.array([[1.0]]), np.array([1.0])),
        (np.array([0.0]), np.array([-0.0])),
        (np.array([1, "a"], dtype=object), np.array([1, "b"], dtype=object)),
        (np.random.RandomState(0), np.random.RandomState(1)),
        (len, max),
    ],
    ids=lambda value: type(value).__name__,
)
def test_two_values_that_differ_are_told_apart_wherever_they_are(one: object, two: object) -> None:
    same_state(Holder(x=[one]), Holder(x=[one]))
    with pytest.raises(IntegrityError):
        same_state(Holder(x=[one]), Holder(x=[two]))


def test_objects_inside_themselves_are_compared_to_their_end() -> None:
    def ring(value: int) -> Holder:
        first, second = Holder(value=1), Holder(value=value)
        first.other, second.other = second, first
        return first

    same_state(ring(2), ring(2))
    with pytest.raises(IntegrityError, match="value"):
        same_state(ring(2), ring(3))


def test_answers_within_the_tolerance_count_as_equal_and_beyond_it_do_not() -> None:
    compared = Compared(tolerance=1e-3)
    compared.answers(np.array([1.0, np.nan]), np.array([1.0005, np.nan]), "it")

    assert compared.max_difference == pytest.approx(5e-4)
    with pytest.raises(IntegrityError):
        compared.answers(np.array([1.0]), np.array([1.01]), "it")
    with pytest.raises(IntegrityError):
        compared.answers(np.array([1.0]), np.array([np.nan]), "it")
    with pytest.raises(IntegrityError):
        compared.answers(np.array([1, 2]), np.array([1, 3]), "it")
