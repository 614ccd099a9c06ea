"""Pickles and joblib files, described without loading them."""

from __future__ import annotations

import bz2
import collections
import gzip
import io
import json
import lzma
import pickle
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import AssayError, BadFormat, NotFound
from assay.formats.pickles.estimators import MAX_LISTED
from assay.formats.pickles.pickled import JoblibFormat, PickleFormat
from assay.spec.description import Component, Description
from assay.spec.finding import Severity
from assay.trees import Tree
from assay.trees.window import FileSource

FORMATS = (PickleFormat(), JoblibFormat())


def describe(data: bytes, name: str = "model.pkl") -> Description:
    tree = Tree.of({name: data})
    for form in FORMATS:
        for group in form.detect(tree):
            return form.describe(tree, group)
    raise AssertionError("neither format recognises it")


def described(file: Path) -> Description:
    tree = Tree({file.name: FileSource(file)})
    (found,) = [form.describe(tree, group) for form in FORMATS for group in form.detect(tree)]
    json.dumps(found.metadata, allow_nan=False)
    json.dumps(found.hyperparameters, allow_nan=False)
    assert len({tensor.name for tensor in found.tensors}) == len(found.tensors)
    return found


def part(component: Component, *names: str) -> Component:
    for name in names:
        (component,) = [child for child in component.children if child.name == name]
    return component


ARRAYS = {
    "plain": np.arange(12, dtype="<f8").reshape(3, 4),
    "fortran": np.asfortranarray(np.arange(12, dtype="<f4").reshape(3, 4)),
    "big": np.arange(5, dtype=">i4"),
    "half": np.arange(6, dtype="<f2"),
    "flags": np.array([True, False]),
    "one": np.array([2.5]),
    "empty": np.zeros((0, 3)),
    "large": np.arange(300_000, dtype="<i8"),
}


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_have_their_dtype_shape_order_and_place(protocol: int) -> None:
    data = pickle.dumps(ARRAYS, protocol)
    tree = Tree.of({"arrays.pkl": data})

    found = PickleFormat().describe(tree, ("arrays.pkl",))

    assert [tensor.name for tensor in found.tensors] == list(ARRAYS)
    for tensor in found.tensors:
        array = ARRAYS[tensor.name]
        assert (tensor.dtype, tensor.shape) == (array.dtype.newbyteorder("=").name, array.shape)
        assert (tensor.strides is not None) == (tensor.name == "fortran")
        assert tensor.big_endian == (tensor.name == "big")
        assert PickleFormat().tensor(tree, tensor) == array.astype(array.dtype.newbyteorder("<")).tobytes("C")
        if protocol >= 3:
            assert tensor.extent is not None
            raw = data[tensor.extent.offset : tensor.extent.offset + tensor.extent.length]
            assert raw == array.tobytes("A")
    assert found.framework == "numpy"
    assert found.requirements == ("numpy",)
    assert not found.findings


def test_a_tensor_that_is_not_there_is_not_found() -> None:
    tree = Tree.of({"arrays.pkl": pickle.dumps(ARRAYS)})
    (spec,) = PickleFormat().describe(Tree.of({"a.pkl": pickle.dumps({"x": np.ones(3)})}), ("a.pkl",)).tensors

    with pytest.raises(NotFound):
        PickleFormat().tensor(tree, spec)


def test_values_of_every_kind_become_json() -> None:
    class_like = collections.OrderedDict(rate=0.5)
    value = {"a": class_like, "nan": float("nan"), 3: b"raw", "s": {1}, "f": len, "n": np.float32(1.5), "big": 1 << 90}

    found = describe(pickle.dumps(value))

    assert found.architecture is None
    assert found.metadata["globals"] == [
        "collections.OrderedDict",
        "builtins.len",
        "numpy._core.multiarray.scalar",
        "numpy.dtype",
    ]


def test_several_pickles_in_one_file_are_all_described_and_counted() -> None:
    found = describe(pickle.dumps({"a": np.ones(2)}) + pickle.dumps({"b": np.ones(3)}, 2))

    assert found.metadata["pickles"] == 2
    assert [tensor.name for tensor in found.tensors] == ["0.a", "1.b"]


def test_bytes_after_the_pickle_are_a_finding() -> None:
    found = describe(pickle.dumps({"a": 1}) + b"\xff\xfe no pickle")

    assert [finding.rule for finding in found.findings] == ["pickle-trailing"]


def test_a_broken_pickle_keeps_what_was_understood() -> None:
    data = pickle.dumps({"a": np.ones(1000), "b": list(range(1000))}, 4)

    found = describe(data[:-20])

    assert not found.complete
    assert [tensor.shape for tensor in found.tensors] == [(1000,)]


def test_custom_classes_are_named_and_what_they_need_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    module = type(sys)("somepackage.models")
    monkeypatch.setitem(sys.modules, "somepackage", type(sys)("somepackage"))
    monkeypatch.setitem(sys.modules, "somepackage.models", module)
    inner = type("Inner", (), {"__module__": "somepackage.models"})
    outer = type("Outer", (), {"__module__": "somepackage.models"})
    module.Inner, module.Outer = inner, outer
    model = outer()
    model.alpha, model.part = 0.5, inner()
    model.part.weights = np.ones((2, 3))

    found = describe(pickle.dumps(model))

    assert found.architecture == "Outer"
    assert found.requirements == ("numpy", "somepackage")
    assert found.hyperparameters["alpha"] == 0.5
    assert part(found.components[0], "part").kind == "somepackage.models.Inner"
    assert [tensor.name for tensor in found.tensors] == ["part.weights"]


def test_torch_numpy_text_and_other_files_are_not_claimed() -> None:
    legacy = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."
    npy, npz = io.BytesIO(), io.BytesIO()
    np.save(npy, np.ones(3))
    np.savez(npz, a=np.ones(3))
    tree = Tree.of(
        {
            "legacy.bin": legacy,
            "legacy.gz": gzip.compress(legacy),
            "a.npy": npy.getvalue(),
            "a.npz": npz.getvalue(),
            "readme.txt": b"(c) 2024 Somebody\n" * 300,
            "log.gz": gzip.compress(b"nothing of interest"),
            "empty": b"",
            "data.pkl": b"not a pickle at all",
        }
    )

    assert [form.detect(tree) for form in FORMATS] == [[], []]


def test_a_pickle_bomb_ends_in_findings() -> None:
    doubled = b"\x80\x04]\x94" + b"(h\x00h\x00l\x94h\x00(" * 0 + b"." + b""
    levels = b"\x80\x04]q\x00" + b"".join(b"(h%ch%clq%c" % (i, i, i + 1) for i in range(120)) + b"."
    nested = b"\x80\x04" + b"]" * 100_000 + b"a" * 99_999 + b"."

    assert describe(doubled).complete
    assert describe(levels).complete
    found = describe(nested)
    assert [finding.rule for finding in found.findings] == ["pickle-bomb", "pickle-graph"]


def test_a_bomb_inside_hyperparameters_is_cut_short() -> None:
    levels = b"".join(b"(h%ch%ch%ch%clq%c" % (i, i, i, i, i + 1) for i in range(100))
    stream = b"\x80\x02csklearn.svm\nSVC\n)\x81}X\x01\0\0\0C]q\x00" + levels + b"sb."

    found = describe(stream)

    assert len(json.dumps(found.hyperparameters)) < 100_000


@given(edits=st.lists(st.tuples(st.integers(0, 3000), st.binary(max_size=8)), max_size=5), cut=st.integers(0, 300))
@settings(deadline=None, max_examples=120)
def test_damaged_files_only_ever_cause_findings_or_our_errors(edits: list[tuple[int, bytes]], cut: int) -> None:
    data = bytearray(_SEED)
    for position, junk in edits:
        data[position : position + len(junk)] = junk
    tree = Tree.of({"model.joblib": bytes(data[: len(data) - cut])})

    for form in FORMATS:
        for group in form.detect(tree):
            try:
                found = form.describe(tree, group)
            except AssayError:
                continue
            for tensor in found.tensors:
                assert tensor.extent is None or tensor.extent.offset + tensor.extent.length <= len(data)


def _seed() -> bytes:
    import joblib

    buffer = io.BytesIO()
    value = {"a": np.ones((2, 3)), "o": np.array([None, "x"]), "n": [np.int64(4)], "t": ("x", b"y" * 40), "c": range(3)}
    joblib.dump(value, buffer)
    return buffer.getvalue()


_SEED = _seed()

COMPRESSIONS: dict[str, Any] = {
    "raw": 0,
    "zlib": ("zlib", 3),
    "gzip": ("gzip", 3),
    "bz2": ("bz2", 3),
    "xz": ("xz", 3),
    "lzma": ("lzma", 3),
    "lz4": ("lz4", 3),
}


@pytest.fixture(scope="session")
def pipeline() -> Any:
    """A pipeline over a table with named columns, fitted by the real library."""
    pandas = pytest.importorskip("pandas")
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    table = pandas.DataFrame({"age": np.arange(60.0), "town": ["x", "y", "z"] * 20})
    steps = ColumnTransformer([("num", StandardScaler(), ["age"]), ("cat", OneHotEncoder(), ["town"])])
    forest = RandomForestClassifier(n_estimators=20, max_depth=2, random_state=0)
    return Pipeline([("prep", steps), ("forest", forest)]).fit(table, np.array(["no", "yes"] * 30))


def check_pipeline(found: Description, model: Any) -> None:
    """What every container of the pipeline must say."""
    import sklearn

    assert (found.framework, found.framework_version) == ("scikit-learn", sklearn.__version__)
    assert found.architecture == "Pipeline"
    assert found.task == "binary-classification"
    assert [(port.name, port.shape) for port in found.inputs] == [("age", (None,)), ("town", (None,))]
    assert f"scikit-learn=={sklearn.__version__}" in found.requirements
    (root,) = found.components
    assert [child.name for child in root.children] == ["prep", "forest"]
    assert part(root, "prep", "num").fitted["mean_"] == "float64[1]"
    assert part(root, "prep", "num").hyperparameters["columns"] == ["age"]
    assert part(root, "prep", "cat").kind == "sklearn.preprocessing._encoders.OneHotEncoder"
    forest = part(root, "forest")
    params = model.named_steps["forest"].get_params()
    assert {name: forest.hyperparameters[name] for name in params if name != "estimator"} == params
    nodes = sum(tree.tree_.node_count for tree in model.named_steps["forest"].estimators_)
    trees = part(forest, "estimators_")
    assert trees.fitted == {"count": "20", "nodes": str(nodes)}
    assert found.hyperparameters["forest__max_depth"] == 2
    assert not found.findings


@pytest.mark.framework
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_joblib_pipeline_is_described_step_by_step_in_every_compression(
    compression: str, pipeline: Any, tmp_path: Path
) -> None:
    import joblib

    joblib.dump(pipeline, tmp_path / "model.bin", compress=COMPRESSIONS[compression])

    found = described(tmp_path / "model.bin")

    check_pipeline(found, pipeline)
    assert found.format == "joblib"
    assert found.metadata.get("compression") == (None if compression == "raw" else compression)
    mean = next(tensor for tensor in found.tensors if tensor.name == "steps.0.1.transformers_.0.1.mean_")
    tree = Tree({"model.bin": FileSource(tmp_path / "model.bin")})
    expected = pipeline.named_steps["prep"].named_transformers_["num"].mean_
    assert JoblibFormat().tensor(tree, mean) == expected.tobytes()
    assert (mean.extent is not None) == (compression == "raw")
    if mean.extent:
        raw = (tmp_path / "model.bin").read_bytes()
        assert raw[mean.extent.offset : mean.extent.offset + mean.extent.length] == expected.tobytes()


@pytest.mark.framework
@pytest.mark.parametrize("protocol", range(6))
def test_a_pickled_pipeline_is_described_in_every_protocol(protocol: int, pipeline: Any, tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(pipeline, protocol))

    found = described(tmp_path / "model.pkl")

    check_pipeline(found, pipeline)
    assert found.format == "pickle"
    assert found.metadata["protocol"] == (0 if protocol == 1 else protocol)  # only later ones say so
    assert found.metadata["class_names"] == ["no", "yes"]


@pytest.mark.framework
@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, bz2.compress, lzma.compress])
def test_a_compressed_pickle_of_any_suffix_is_described(
    pack: Callable[[bytes], bytes], pipeline: Any, tmp_path: Path
) -> None:
    (tmp_path / "model.dat").write_bytes(pack(pickle.dumps(pipeline)))

    check_pipeline(described(tmp_path / "model.dat"), pipeline)


@pytest.mark.framework
def test_searches_unions_and_ensembles_show_their_parts(tmp_path: Path) -> None:
    from sklearn.ensemble import GradientBoostingRegressor, VotingClassifier
    from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.naive_bayes import MultinomialNB
    from sklearn.pipeline import FeatureUnion, Pipeline

    texts, labels = ["a b", "b c", "c d", "d a"] * 5, [0, 1, 2, 3] * 5
    union = FeatureUnion([("words", TfidfVectorizer(token_pattern=r"\w")), ("chars", CountVectorizer(analyzer="char"))])
    vote = VotingClassifier([("log", LogisticRegression(C=0.5)), ("nb", MultinomialNB())])
    search = GridSearchCV(Pipeline([("text", union), ("vote", vote)]), {"vote__log__C": [0.1, 1.0]}, cv=2)
    (tmp_path / "search.pkl").write_bytes(pickle.dumps(search.fit(texts, labels)))
    boost = GradientBoostingRegressor(n_estimators=30, max_depth=2).fit(np.ones((8, 2)), np.arange(8.0))
    (tmp_path / "boost.pkl").write_bytes(pickle.dumps(boost))

    found = described(tmp_path / "search.pkl")
    boosted = described(tmp_path / "boost.pkl")

    assert found.architecture == "GridSearchCV"
    assert found.hyperparameters["param_grid"] == {"vote__log__C": [0.1, 1.0]}
    best = part(found.components[0], "best_estimator_")
    assert [child.name for child in part(best, "text").children] == ["words", "chars"]
    voters = [child for child in part(best, "vote").children if child.name in {"log", "nb"}]
    assert [child.name for child in voters] == ["log", "nb"]
    assert voters[0].fitted["coef_"].startswith("float64[4, ")
    assert found.task == "multiclass-classification"
    assert boosted.task == "regression"
    assert part(boosted.components[0], "estimators_").fitted["count"] == "30"
    assert MAX_LISTED < 30


@pytest.mark.framework
def test_boosters_inside_pickles_say_what_they_hold(tmp_path: Path) -> None:
    lightgbm = pytest.importorskip("lightgbm")
    xgboost = pytest.importorskip("xgboost")
    rows, labels = np.random.default_rng(0).normal(size=(80, 3)), np.arange(80) % 2
    light = lightgbm.LGBMClassifier(n_estimators=4, verbose=-1).fit(rows, labels)
    extreme = xgboost.XGBClassifier(n_estimators=5, max_depth=2).fit(rows, labels)
    (tmp_path / "light.pkl").write_bytes(pickle.dumps(light))
    (tmp_path / "extreme.pkl").write_bytes(pickle.dumps(extreme))
    (tmp_path / "both.pkl").write_bytes(pickle.dumps({"light": light, "extreme": extreme}))

    first, second, both = (described(tmp_path / name) for name in ("light.pkl", "extreme.pkl", "both.pkl"))

    assert (first.framework, first.metadata["trees"], first.metadata["features"]) == ("lightgbm", 4, 3)
    assert first.hyperparameters["objective"] == "binary"
    assert (second.framework, second.metadata["trees"], second.metadata["features"]) == ("xgboost", 5, 3)
    assert set(both.metadata["frameworks"]) >= {"lightgbm", "xgboost"}  # type: ignore[arg-type]  # a list
    assert [component.name for component in both.components] == ["light", "extreme"]


@pytest.mark.framework
def test_joblib_arrays_of_objects_and_structured_arrays_are_followed(tmp_path: Path) -> None:
    import joblib

    record = np.zeros(3, dtype=[("a", "<f4"), ("b", "<i8")])
    value = {"objects": np.array([{"x": np.ones(2)}, "text"], dtype=object), "record": record, "after": np.arange(4)}
    joblib.dump(value, tmp_path / "model.joblib")

    found = described(tmp_path / "model.joblib")

    assert {tensor.name: (tensor.dtype, tensor.shape) for tensor in found.tensors} == {
        "objects": ("object", (2,)),
        "objects.0.x": ("float64", (2,)),
        "record": ("void", (3,)),
        "after": ("int64", (4,)),
    }
    assert not found.findings


def test_code_hidden_behind_joblib_arrays_is_seen() -> None:
    data = _SEED.replace(b"builtins\x94\x8c\x05range", b"builtins\x94\x8c\x04eval").replace(b"eval\x94", b"eval\x94")
    assert b"eval" in data

    tree = Tree.of({"model.joblib": data})

    assert "builtins.eval" in JoblibFormat().describe(tree, ("model.joblib",)).metadata["globals"]  # type: ignore[operator]


def test_a_joblib_array_that_claims_more_than_there_is_breaks_the_stream_in_a_finding() -> None:
    data = _SEED.replace(b"K\x02K\x03\x86", b"K\xffK\xff\x86")
    assert data != _SEED

    found = describe(data, "model.joblib")

    assert [finding.severity for finding in found.findings] == [Severity.INCOMPLETE]


def test_lz4_without_its_library_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pytest.importorskip("lz4.frame")
    packed = frame.compress(_SEED)
    monkeypatch.setitem(sys.modules, "lz4.frame", None)

    found = describe(packed, "model.joblib")

    assert [finding.rule for finding in found.findings] == ["pickle-unreadable"]


def test_what_is_no_pickle_is_refused() -> None:
    with pytest.raises(BadFormat):
        PickleFormat().describe(Tree.of({"x": b"\x89PNG\r\n"}), ("x",))


@pytest.mark.real
@pytest.mark.parametrize(
    ("package", "path", "sha", "expected"),
    [
        ("alt-profanity-check==1.8.0", "profanity_check/data/model.joblib", "a42813c4d606", ("joblib", 21, 77_215)),
        ("alt-profanity-check==1.9.0", "profanity_check/data/model.joblib", "1bf6dab21d24", ("joblib", 21, 77_215)),
        ("alt-profanity-check==1.9.1", "profanity_check/data/model.joblib", "aeafc04849d4", ("joblib", 21, 77_215)),
        ("alt-profanity-check==1.9.1", "profanity_check/data/vectorizer.joblib", "19c5200dc6a4", ("joblib", 1, 15_442)),
        ("rs3==0.0.18", "rs3/RuleSet3.pkl", "88e75f7cb7d1", ("pickle", 0, 180_041)),
        ("rs3==0.0.18", "rs3/target_lite_model.pkl", "4eb43794abe5", ("joblib", 1, 14_232)),
        ("ctparse==0.3.6", "ctparse/models/model.pbz", "48130441cf71", ("pickle", 0, None)),
        ("py3langid==0.2.2", "py3langid/data/model.plzma", "8c99809ff6de", ("pickle", 3, 3_059_865)),
    ],
)
def test_real_files_are_understood_whole(
    package: str,
    path: str,
    sha: str,
    expected: tuple[str, int, int | None],
    real_model: Callable[[str, str, str], Path],
) -> None:
    found = described(real_model(package, path, sha))

    assert (found.format, len(found.tensors), found.parameters) == expected
    assert found.complete
    assert {finding.rule for finding in found.findings} == (
        {"pickle-unknown-global"} if "ctparse" in package else set()
    )


@pytest.mark.real
def test_real_boosters_in_pickles_are_counted(real_model: Callable[[str, str, str], Path]) -> None:
    whole = described(real_model("rs3==0.0.18", "rs3/RuleSet3.pkl", "88e75f7cb7d1"))
    lite = described(real_model("rs3==0.0.18", "rs3/target_lite_model.pkl", "4eb43794abe5"))

    assert (whole.metadata["trees"], whole.metadata["features"]) == (2279, 632)
    assert (whole.architecture, whole.task) == ("LGBMRegressor", "regression")
    assert [child.name for child in lite.components[0].children] == ["imputer", "regressor"]
    assert lite.metadata["frameworks"] == ["lightgbm", "scikit-learn"]


@pytest.mark.real
@pytest.mark.framework
def test_real_arrays_lie_where_they_are_said_to(real_model: Callable[[str, str, str], Path]) -> None:
    import joblib

    file = real_model("alt-profanity-check==1.9.1", "profanity_check/data/model.joblib", "aeafc04849d4")
    loaded = joblib.load(file)

    found = {tensor.name: tensor for tensor in described(file).tensors}

    spec = found["calibrated_classifiers_.2.estimator.coef_"]
    assert spec.extent is not None
    raw = file.read_bytes()[spec.extent.offset : spec.extent.offset + spec.extent.length]
    coefficients = loaded.calibrated_classifiers_[2].estimator.coef_
    assert np.array_equal(np.frombuffer(raw, "<f8").reshape(spec.shape), coefficients)


@pytest.mark.real
def test_legacy_torch_files_are_left_to_torch(real_model: Callable[[str, str, str], Path]) -> None:
    path = "rxnfp/models/transformers/bert_ft_10k_25s/training_args.bin"
    file = real_model("rxnfp==0.1.0", path, "a6e70f74c7b5")
    tree = Tree({file.name: FileSource(file)})

    assert [form.detect(tree) for form in FORMATS] == [[], []]
