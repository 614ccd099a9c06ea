"""skops archives, described without skops."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import AssayError, BadFormat
from assay.formats.pickles.skops import SkopsFormat
from assay.spec.description import Description
from assay.trees import Tree
from assay.trees.window import FileSource

FORMAT = SkopsFormat()


def node(loader: str, content: Any, kind: str = "builtins.dict", **more: Any) -> dict[str, Any]:
    module, _, name = kind.rpartition(".")
    return {"__class__": name, "__module__": module, "__loader__": loader, "content": content, **more}


def constant(value: Any) -> dict[str, Any]:
    return node("JsonNode", json.dumps(value), "builtins.str", is_json=True)


def estimator(**attributes: Any) -> dict[str, Any]:
    return node("ObjectNode", node("DictNode", attributes), "sklearn.svm._classes.SVC", protocol=2)


def archive(schema: object, **arrays: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, array in arrays.items():
            data = io.BytesIO()
            np.save(data, array)
            file.writestr(f"{name}.npy", data.getvalue())
        file.writestr("schema.json", json.dumps(schema))
    return buffer.getvalue()


def describe(data: bytes) -> Description:
    tree = Tree.of({"model.skops": data})
    assert FORMAT.detect(tree) == [("model.skops",)]
    return FORMAT.describe(tree, ("model.skops",))


def described(file: Path) -> Description:
    tree = Tree({file.name: FileSource(file)})
    (group,) = FORMAT.detect(tree)
    found = FORMAT.describe(tree, group)
    json.dumps([found.metadata, found.hyperparameters], allow_nan=False)
    return found


def test_settings_arrays_and_places_come_from_the_schema() -> None:
    weights = np.asfortranarray(np.arange(6, dtype="<f4").reshape(2, 3))
    schema = estimator(
        C=constant(0.5),
        coef_=node("NdArrayNode", None, "numpy.ndarray", type="numpy", file="w.npy"),
        _sklearn_version=constant("1.5.0"),
    )
    data = archive(schema, w=weights)

    found = describe(data)

    assert (found.framework, found.framework_version, found.architecture) == ("scikit-learn", "1.5.0", "SVC")
    assert found.hyperparameters == {"C": 0.5}
    assert found.components[0].fitted == {"coef_": "float32[2, 3]"}
    (tensor,) = found.tensors
    assert (tensor.name, tensor.dtype, tensor.shape, tensor.strides) == ("coef_", "float32", (2, 3), (1, 2))
    assert tensor.extent is not None
    assert data[tensor.extent.offset : tensor.extent.offset + tensor.extent.length] == weights.tobytes("A")
    assert found.format_version == "protocol 2"


def test_other_archives_are_not_claimed() -> None:
    other = io.BytesIO()
    with zipfile.ZipFile(other, "w") as file:
        file.writestr("schema.json", "{}")
    npz = io.BytesIO()
    np.savez(npz, a=np.ones(2))

    assert FORMAT.detect(Tree.of({"a.zip": other.getvalue(), "b.npz": npz.getvalue(), "c": b"PK\x03\x04"})) == []


def test_an_array_that_is_missing_or_cut_is_a_finding() -> None:
    missing = estimator(coef_=node("NdArrayNode", None, "numpy.ndarray", type="numpy", file="gone.npy"))

    found = describe(archive(missing))

    assert [finding.rule for finding in found.findings] == ["skops-unreadable"]
    assert not found.complete


def test_a_schema_nested_without_end_is_cut_short_or_refused() -> None:
    deep: Any = constant(1)
    for _ in range(150):
        deep = node("ListNode", [deep], "builtins.list")
    deeper: Any = constant(1)
    for _ in range(300):
        deeper = node("ListNode", [deeper], "builtins.list")
    text = '{"__class__": "a", "__module__": "b", "__loader__": "ListNode", "content": [' * 200_000

    assert describe(archive(estimator(x=deep))).complete
    assert not describe(archive(estimator(x=deeper))).complete
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("schema.json", text)
    with pytest.raises(BadFormat):
        describe(buffer.getvalue())


def test_a_node_that_claims_to_be_inside_itself_ends() -> None:
    schema = estimator(a=constant(1))
    schema["__id__"] = 7
    schema["content"]["content"]["self"] = {**node("CachedNode", None), "__id__": 7}

    assert describe(archive(schema)).architecture == "SVC"


_SCHEMA = json.dumps(
    estimator(
        C=constant(1.5),
        kernel=node("FunctionNode", None, "numpy.tanh"),
        steps=node("ListNode", [node("TupleNode", [constant("a"), estimator(x=constant(1))])], "builtins.list"),
        coef_=node("NdArrayNode", None, "numpy.ndarray", type="numpy", file="w.npy", __id__=5),
        again_=node("NdArrayNode", None, "numpy.ndarray", type="numpy", file="w.npy", __id__=5),
        cut=node("SliceNode", {"start": 0, "stop": None, "step": None}, "builtins.slice"),
        bound=node("MethodNode", {"func": "f", "obj": constant(1)}, "pkg.Thing"),
    )
)


@given(
    swaps=st.lists(
        st.tuples(
            st.sampled_from(["ListNode", "DictNode", "ObjectNode", "content", "__class__", "numpy", "5", "w.npy", "["]),
            st.sampled_from(["null", "TupleNode", "SetNode", "DictNode", "-1", "SparseMatrixNode", "NdArrayNode", "{"]),
        ),
        max_size=5,
    )
)
@settings(deadline=None, max_examples=150)
def test_twisted_schemas_only_ever_cause_findings_or_our_errors(swaps: list[tuple[str, str]]) -> None:
    text = _SCHEMA
    for old, new in swaps:
        text = text.replace(old, new)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        data = io.BytesIO()
        np.save(data, np.ones((2, 2)))
        file.writestr("w.npy", data.getvalue())
        file.writestr("schema.json", text)
    tree = Tree.of({"model.skops": buffer.getvalue()})

    for group in FORMAT.detect(tree):
        try:
            FORMAT.describe(tree, group)
        except AssayError:
            continue


@pytest.mark.framework
def test_a_real_pipeline_says_the_same_as_its_pickle(tmp_path: Path) -> None:
    import pickle

    sio = pytest.importorskip("skops.io")
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    from assay.formats.pickles.pickled import PickleFormat

    rows, labels = load_iris(return_X_y=True)
    model = Pipeline([("scale", StandardScaler()), ("forest", RandomForestClassifier(15, max_depth=3))])
    model.fit(rows, labels)
    (tmp_path / "model.skops").write_bytes(sio.dumps(model))
    pickled = PickleFormat().describe(Tree.of({"m.pkl": pickle.dumps(model)}), ("m.pkl",))

    found = described(tmp_path / "model.skops")

    assert found.components == pickled.components
    assert found.hyperparameters == pickled.hyperparameters
    assert (found.inputs, found.outputs, found.task) == (pickled.inputs, pickled.outputs, pickled.task)
    assert found.metadata["class_names"] == [0, 1, 2]
    shapes = {tensor.name: (tensor.dtype, tensor.shape) for tensor in found.tensors}
    theirs = {tensor.name: (tensor.dtype, tensor.shape) for tensor in pickled.tensors}
    assert {name: shapes[name] for name in shapes if "tree_" not in name} == {
        name: theirs[name] for name in theirs if "tree_" not in name
    }
    assert not found.findings


@pytest.mark.framework
@pytest.mark.real
def test_types_skops_does_not_trust_are_those_it_asks_about(
    real_model: Callable[[str, str, str], Path], tmp_path: Path
) -> None:
    import joblib

    sio = pytest.importorskip("skops.io")
    model = joblib.load(real_model("alt-profanity-check==1.9.1", "profanity_check/data/model.joblib", "aeafc04849d4"))
    words = joblib.load(
        real_model("alt-profanity-check==1.9.1", "profanity_check/data/vectorizer.joblib", "19c5200dc6a4")
    )

    for name, value in (("model", model), ("words", words)):
        file = tmp_path / f"{name}.skops"
        file.write_bytes(sio.dumps(value))
        found = described(file)
        assert sorted(found.metadata["untrusted_types"]) == sorted(sio.get_untrusted_types(file=file))  # type: ignore[arg-type]
        assert found.complete
