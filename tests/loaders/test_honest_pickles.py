"""Trained models that people really have come through the restricted unpickler as they were."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import fractions
import functools
import json
import pickle
import re
import types
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

from assay.errors import Refused
from assay.loaders.allowed import Role, table
from assay.loaders.pickle_files import read_pickle

# scikit-learn warns about deprecated estimators while they are trained here; that is not what is tested.
pytestmark = [pytest.mark.framework, pytest.mark.filterwarnings("ignore")]

ROWS = np.abs(np.random.default_rng(0).normal(size=(80, 4)))
LABELS = np.arange(80) % 3


def _estimators() -> dict[str, Callable[[], Any]]:
    from sklearn import (
        calibration,
        cluster,
        compose,
        decomposition,
        ensemble,
        gaussian_process,
        impute,
        isotonic,
        linear_model,
        model_selection,
        naive_bayes,
        neighbors,
        neural_network,
        pipeline,
        preprocessing,
        svm,
        tree,
    )

    return {
        "logistic regression": linear_model.LogisticRegression,
        "sgd": lambda: linear_model.SGDClassifier(loss="modified_huber", random_state=np.random.RandomState(3)),
        "poisson": linear_model.PoissonRegressor,
        "linear svc": svm.LinearSVC,
        "svc": svm.SVC,
        "tree": tree.DecisionTreeClassifier,
        "forest": lambda: ensemble.RandomForestClassifier(4),
        "extra trees": lambda: ensemble.ExtraTreesRegressor(4),
        "gradient boosting": lambda: ensemble.GradientBoostingClassifier(n_estimators=3),
        "histogram boosting": lambda: ensemble.HistGradientBoostingClassifier(max_iter=3, categorical_features=[1]),
        "adaboost": lambda: ensemble.AdaBoostClassifier(n_estimators=3),
        "stacking": lambda: ensemble.StackingClassifier([("a", svm.LinearSVC()), ("b", naive_bayes.GaussianNB())], cv=2),
        "isolation forest": lambda: ensemble.IsolationForest(n_estimators=3),
        "nearest neighbours": neighbors.KNeighborsClassifier,
        "ball tree": lambda: neighbors.KNeighborsRegressor(algorithm="ball_tree", metric="manhattan"),
        "gaussian process": lambda: gaussian_process.GaussianProcessRegressor(
            gaussian_process.kernels.RBF() + gaussian_process.kernels.WhiteKernel()
        ),
        "perceptron": lambda: neural_network.MLPClassifier((3,), max_iter=3, early_stopping=True),
        "k-means": lambda: cluster.KMeans(3, n_init=1),
        "pca": lambda: decomposition.PCA(2, random_state=np.random.default_rng(1).bit_generator and 0),
        "calibrated": lambda: calibration.CalibratedClassifierCV(svm.LinearSVC(), cv=2),
        "grid search": lambda: model_selection.GridSearchCV(
            svm.SVC(), {"C": [1, 10], "kernel": ["linear", "rbf"]}, cv=model_selection.StratifiedKFold(2), scoring="f1_macro"
        ),
        "imputer": lambda: pipeline.make_pipeline(impute.KNNImputer(), preprocessing.StandardScaler()),
        "splines": preprocessing.SplineTransformer,
        "logarithm": lambda: preprocessing.FunctionTransformer(np.log1p),
        "partial": lambda: preprocessing.FunctionTransformer(functools.partial(np.clip, a_min=0, a_max=0.5)),
        "columns": lambda: compose.ColumnTransformer(
            [("a", preprocessing.OneHotEncoder(handle_unknown="ignore"), [0]), ("b", preprocessing.RobustScaler(), [1, 2])],
            remainder="passthrough",
        ),
        "target": lambda: compose.TransformedTargetRegressor(isotonic.IsotonicRegression(), func=np.sqrt, inverse_func=np.square),
    }  # fmt: skip


@pytest.mark.parametrize("how", ["pickle 2", "pickle 5", "joblib", "joblib xz"])
@pytest.mark.parametrize("what", list(_estimators()))
def test_a_fitted_estimator_comes_back_and_answers_the_same(what: str, how: str, tmp_path: Path) -> None:
    model = _estimators()[what]()
    rows = ROWS[:, :1] if what == "target" else ROWS
    model.fit(rows, LABELS)
    file = tmp_path / "model"
    library, _, rest = how.partition(" ")
    if library == "pickle":
        file.write_bytes(pickle.dumps(model, int(rest)))
    else:
        joblib.dump(model, file, compress=(rest, 3) if rest else 0)

    loaded = read_pickle(file)

    assert type(loaded) is type(model)
    answer = "predict" if hasattr(model, "predict") else "transform"
    found, expected = (getattr(value, answer)(rows) for value in (loaded, model))
    assert np.allclose(*(part.toarray() if hasattr(part, "toarray") else part for part in (found, expected)))


VALUES = [
    None,
    [1, 2.5, "a", b"b", True, 10**30, (), [[]]],
    {"a": {1: {2, 3}, (1, 2): frozenset({4})}},
    complex(1, 2),
    range(3),
    slice(1, 2),
    bytearray(b"abc"),
    collections.OrderedDict(a=1),
    collections.defaultdict(int, a=1),
    collections.Counter("aab"),
    collections.deque([1, 2], 5),
    dt.datetime(2026, 1, 2, 3, tzinfo=dt.UTC),
    dt.date(2026, 1, 2),
    dt.timedelta(3),
    decimal.Decimal("1.50"),
    fractions.Fraction(1, 3),
    uuid.UUID(int=7),
    types.SimpleNamespace(a=1),
    re.compile("a+", re.IGNORECASE),
    np.float32(2.5),
    np.datetime64("2026-01-02"),
    np.dtype([("a", "<i4"), ("b", "S3")]),
    np.log1p,
]


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_plain_value_comes_back_equal(value: object, protocol: int, tmp_path: Path) -> None:
    file = tmp_path / "value.pkl"
    file.write_bytes(pickle.dumps(value, protocol))

    loaded = read_pickle(file)

    assert type(loaded) is type(value)
    assert loaded == value


ARRAYS = [
    np.arange(6).reshape(2, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.zeros((0, 3)),
    np.array(5),
    np.array(["a", "bcd"]),
    np.array(["x", None, 3], dtype=object),
    np.array([(1, 2.5)], dtype=[("a", "i4"), ("b", "f8")]),
    np.arange(4, dtype=">i4"),
    np.array(["2026-01-02"], dtype="M8[D]"),
    np.array([True, False]),
]


@pytest.mark.parametrize("how", ["pickle 2", "pickle 4", "pickle 5", "joblib", "joblib zlib", "joblib lz4"])
@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}")
def test_an_array_comes_back_with_its_layout_and_type(array: np.ndarray, how: str, tmp_path: Path) -> None:
    file = tmp_path / "array"
    library, _, rest = how.partition(" ")
    if library == "pickle":
        file.write_bytes(pickle.dumps({"a": array, "again": array}, int(rest)))
    else:
        joblib.dump({"a": array, "again": array}, file, compress=(rest, 3) if rest else 0)

    loaded: Any = read_pickle(file)

    assert loaded["a"].dtype.newbyteorder("=") == array.dtype.newbyteorder("=")
    assert loaded["a"].flags.f_contiguous == array.flags.f_contiguous
    np.testing.assert_array_equal(loaded["a"], array)
    np.testing.assert_array_equal(loaded["again"], array)


def test_the_state_of_a_random_generator_goes_on_where_it_was(tmp_path: Path) -> None:
    for live in (np.random.RandomState(5), np.random.default_rng(5)):
        live.normal(size=3)
        file = tmp_path / "random.pkl"
        file.write_bytes(pickle.dumps(live))

        loaded: Any = read_pickle(file)

        assert loaded.normal() == live.normal()


def test_boosters_in_pickles_predict_the_same(tmp_path: Path) -> None:
    import lightgbm
    import xgboost

    for model in (
        xgboost.XGBClassifier(n_estimators=3).fit(ROWS, LABELS),
        lightgbm.LGBMClassifier(n_estimators=3, min_child_samples=2, verbose=-1).fit(ROWS, LABELS),
    ):
        (tmp_path / "pickle").write_bytes(pickle.dumps(model))
        joblib.dump(model, tmp_path / "joblib")

        for name in ("pickle", "joblib"):
            loaded: Any = read_pickle(tmp_path / name)
            assert (loaded.predict(ROWS) == model.predict(ROWS)).all()


@pytest.mark.real
def test_a_real_vectorizer_and_classifier_find_the_profane_text(real_model: Callable[[str, str, str], Path]) -> None:
    package = "alt-profanity-check==1.9.1"
    vectorizer: Any = read_pickle(real_model(package, "profanity_check/data/vectorizer.joblib", "19c5200dc6a4"))
    model: Any = read_pickle(real_model(package, "profanity_check/data/model.joblib", "aeafc04849d4"))

    found = model.predict(vectorizer.transform(["you are a stupid asshole", "the weather is lovely today"]))

    assert found.tolist() == [1, 0]


@pytest.mark.real
def test_a_real_pickled_lightgbm_regressor_has_its_trees(real_model: Callable[[str, str, str], Path]) -> None:
    model: Any = read_pickle(real_model("rs3==0.0.18", "rs3/RuleSet3.pkl", "88e75f7cb7d1"))

    assert model.booster_.num_trees() == 2279
    assert model.booster_.predict(np.zeros((1, 632))).shape == (1,)


@pytest.mark.real
def test_a_real_xz_pickle_of_arrays_comes_back(real_model: Callable[[str, str, str], Path]) -> None:
    found: Any = read_pickle(real_model("py3langid==0.2.2", "py3langid/data/model.plzma", "8c99809ff6de"))

    assert len(found) >= 3


@pytest.mark.real
def test_a_real_pickle_of_custom_classes_is_refused_by_name(real_model: Callable[[str, str, str], Path]) -> None:
    with pytest.raises(Refused, match=r"ctparse\."):
        read_pickle(real_model("ctparse==0.3.6", "ctparse/models/model.pbz", "48130441cf71"))


FORBIDDEN = re.compile(
    r"^(os|posix|nt|sys|subprocess|shutil|socket|importlib|pickle|dill|cloudpickle|operator|functools|code|runpy|ctypes|"
    r"joblib|sklearn\.datasets|sklearn\.externals|sklearn\.utils\._testing|pathlib|io|tempfile|urllib|http|webbrowser|"
    r"numpy\.f2py|numpy\.distutils|numpy\.testing|numpy\.lib)(\.|$)"
)
FORBIDDEN_NAMES = {
    "getattr", "setattr", "eval", "exec", "compile", "open", "input", "__import__", "globals", "vars", "load", "loads",
    "loadtxt", "genfromtxt", "fromfile", "fromregex", "save", "savez", "savetxt", "tofile", "memmap_", "frompyfunc",
    "vectorize", "apply_along_axis", "apply_over_axes", "piecewise", "fromfunction", "fromiter", "lookfor", "source",
    "Memory", "Parallel", "partial", "attrgetter", "methodcaller", "itemgetter", "reduce",
}  # fmt: skip


def test_the_table_holds_no_name_that_can_run_or_open_anything() -> None:
    pairs = table()

    assert len(pairs) > 500
    for module, name in pairs:
        assert not FORBIDDEN.match(module), (module, name)
        assert name not in FORBIDDEN_NAMES, (module, name)
        assert "." not in name
        assert name.isidentifier()


def test_nothing_that_may_be_called_is_a_plain_function() -> None:
    called = {pair for pair, role in table().items() if role is Role.CALL}

    assert called
    assert all(module in ("sklearn._loss._loss", "sklearn.linear_model._sgd_fast") for module, _ in called)


def test_the_table_says_which_library_versions_it_was_made_with() -> None:
    import assay.audit

    document = json.loads((Path(assay.audit.__file__).parent / "tables" / "shared.json").read_text())

    assert set(document["versions"]) >= {"sklearn", "numpy", "scipy"}
