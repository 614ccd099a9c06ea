"""CatBoost models, described from ``.cbm`` files and JSON exports."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flatbuffers
import pytest
from damage import survives
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import AssayError, BadFormat
from assay.formats.boosting.catboost import CatBoostFormat
from assay.ports.formats import Format
from assay.spec.description import Description, Port
from assay.testing.formats import FormatContract
from assay.trees import Tree

FORMAT = CatBoostFormat()
PARAMS = {
    "metrics": {"objective_metric": {"type": "Logloss", "params": {"border": "0.5"}}},
    "boosting_options": {"iterations": 2},
}


def describe(data: bytes) -> Description:
    tree = Tree.of({"model": data})
    groups = FORMAT.detect(tree)
    assert groups == [("model",)]
    return FORMAT.describe(tree, groups[0])


def vector(builder: Any, items: list[int], code: str) -> int:
    """A vector of offsets (code ``O``), 32-bit integers (``i``) or doubles (``d``)."""
    size = 8 if code == "d" else 4
    builder.StartVector(size, len(items), size)
    for item in reversed(items):
        {"O": builder.PrependUOffsetTRelative, "i": builder.PrependInt32, "d": builder.PrependFloat64}[code](item)
    return int(builder.EndVector())


def table(builder: Any, **slots: int) -> int:
    """A table of offsets (``o3=``) and 32-bit integers (``i3=``) by slot."""
    builder.StartObject(1 + max(int(key[1:]) for key in slots))
    for key, value in slots.items():
        add = builder.PrependUOffsetTRelativeSlot if key[0] == "o" else builder.PrependInt32Slot
        add(int(key[1:]), value, 0 if key[0] == "o" else -99)
    return int(builder.EndObject())


def cbm(
    *,
    sizes: tuple[int, ...] = (1, 2),
    leaves: int = 6,
    names: tuple[str, ...] = ("a", "b"),
    info: dict[str, str] | None = None,
) -> bytes:
    """A model of symmetric trees, from the published schema."""
    builder = flatbuffers.Builder(1024)
    floats = [
        table(builder, i1=i, i2=i, o4=text) for i, text in enumerate([builder.CreateString(n) for n in ("a", "b")])
    ]
    parts = {"o2": vector(builder, list(sizes), "i"), "o5": vector(builder, floats, "O")}
    trees = table(builder, i0=1, **parts, o8=vector(builder, [0] * leaves, "d"))
    entries = {"params": json.dumps(PARAMS), "model_guid": "1-2-3", "note": "hello"} if info is None else info
    pairs = [(builder.CreateString(key), builder.CreateString(value)) for key, value in entries.items()]
    rows = vector(builder, [table(builder, o0=key, o1=value) for key, value in pairs], "O")
    builder.Finish(table(builder, o0=builder.CreateString("FlabuffersModel_v1"), o1=trees, o2=rows))
    core = bytes(builder.Output())
    return b"CBM1" + struct.pack("<I", len(core)) + core


def rules(found: Description) -> set[str]:
    return {finding.rule for finding in found.findings}


def test_a_core_says_trees_features_loss_and_info() -> None:
    found = describe(cbm())

    assert found.inputs == (Port("a", "float32", (None,)), Port("b", "float32", (None,)))
    assert found.task == "binary-classification"
    assert found.hyperparameters == {"iterations": 2, "loss_function": "Logloss", "loss_function.border": 0.5}
    assert {key: found.metadata[key] for key in ("trees", "leaves", "max_depth", "guid", "info")} == {
        "trees": 2, "leaves": 6, "max_depth": 2, "guid": "1-2-3", "info": {"note": "hello"},
    }  # fmt: skip
    assert found.findings == ()


def test_leaves_that_do_not_fit_the_trees_are_reported() -> None:
    assert rules(describe(cbm(leaves=5))) == {"catboost-leaf-count"}
    assert rules(describe(cbm(sizes=(-1, 1000), leaves=0))) == {"catboost-leaf-count"}


def test_info_that_is_not_json_is_reported_and_the_rest_kept() -> None:
    found = describe(cbm(info={"params": "{{{", "model_guid": "x"}))

    assert rules(found) == {"catboost-info"}
    assert found.metadata["guid"] == "x"


def test_a_core_that_is_cut_off_is_refused() -> None:
    with pytest.raises(BadFormat, match="bytes of model core"):
        describe(cbm()[:-50])


def test_a_vector_longer_than_the_file_is_reported_and_the_rest_kept() -> None:
    data = cbm()
    broken = data.replace(struct.pack("<Iii", 2, 1, 2), struct.pack("<Iii", 0x7FFFFFFF, 1, 2))
    assert broken != data

    found = describe(broken)

    assert not found.complete
    assert found.metadata["guid"] == "1-2-3"


@pytest.mark.parametrize(
    "data", [b"", b"CBM1", b"CBM1" + bytes(4), b'{"features": {}}', b'{"features_info": 5}', b'{"ctr_data": {}}']
)
def test_other_files_are_not_claimed(data: bytes) -> None:
    assert FORMAT.detect(Tree.of({"model": data})) == []


def test_an_export_without_features_is_refused() -> None:
    with pytest.raises(BadFormat, match="features_info"):
        FORMAT.describe(Tree.of({"model": b"[]"}), ("model",))


EXPORT = json.dumps(
    {
        "features_info": {"float_features": [{"flat_feature_index": 0, "feature_id": "a"}]},
        "model_info": {"params": PARAMS},
        "trees": [{"left": {"value": 1, "weight": 2}, "right": {"value": [1, 2], "weight": 3}, "split": {}}],
    }
).encode()


def test_an_export_with_grown_trees_is_described() -> None:
    found = describe(EXPORT)

    assert (found.metadata["trees"], found.metadata["leaves"], found.metadata["max_depth"]) == (1, 2, 1)
    assert found.inputs == (Port("a", "float32", (None,)),)


@settings(deadline=None, max_examples=200)
@given(st.sampled_from([cbm(), EXPORT]), st.integers(0, 900), st.binary(max_size=8), st.booleans())
def test_damaged_models_give_a_description_or_our_errors(seed: bytes, at: int, patch: bytes, cut: bool) -> None:
    at %= len(seed)
    survives(FORMAT, seed[:at] + patch + (b"" if cut else seed[at + len(patch) :]))


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=300))
def test_random_bytes_behind_the_magic_give_our_errors(data: bytes) -> None:
    try:
        FORMAT.describe(Tree.of({"m": b"CBM1" + struct.pack("<I", len(data)) + data}), ("m",))
    except AssayError:
        return


@pytest.mark.framework
@pytest.mark.parametrize(
    ("case", "encoding"),
    [
        ("categorical multiclass", "cbm"),
        ("categorical multiclass", "json"),
        ("lossguide regression", "cbm"),
        ("lossguide regression", "json"),
        ("text and embedding", "cbm"),  # which CatBoost cannot export as JSON
    ],
)
def test_freshly_trained_models_agree_with_the_library(case: str, encoding: str, tmp_path: Path) -> None:
    import catboost
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(120, 3)), columns=["a", "b", "c"])
    common: dict[str, Any] = {
        "iterations": 4,
        "depth": 3,
        "verbose": 0,
        "thread_count": 1,
        "allow_writing_files": False,
    }
    if case == "categorical multiclass":
        frame["town"] = rng.choice(["x", "y", "z"], 120)
        pool = catboost.Pool(frame, rng.integers(0, 3, 120), cat_features=["town"])
        model = catboost.CatBoostClassifier(**common, loss_function="MultiClass")
    elif case == "text and embedding":
        frame["words"] = rng.choice(["red apple pie", "green tea cup", "blue red sky"], 120)
        frame["vector"] = list(rng.normal(size=(120, 4)))
        pool = catboost.Pool(frame, rng.integers(0, 2, 120), text_features=["words"], embedding_features=["vector"])
        model = catboost.CatBoostClassifier(**common)
    else:
        pool = catboost.Pool(frame, frame["a"] * 2)
        model = catboost.CatBoostRegressor(**common, grow_policy="Lossguide")
    model.fit(pool, eval_set=pool)
    model.save_model(tmp_path / "model", format=encoding, pool=pool)

    found = describe((tmp_path / "model").read_bytes())

    assert found.metadata["trees"] == model.tree_count_
    assert found.parameter_count == len(model.get_leaf_values())
    assert found.metadata["leaves"] == sum(model.get_tree_leaf_counts())
    assert [port.name for port in found.inputs] == model.feature_names_
    assert found.framework_version == catboost.__version__
    assert found.hyperparameters["loss_function"] == model.get_all_params()["loss_function"]
    assert found.hyperparameters["learning_rate"] == pytest.approx(model.learning_rate_, rel=1e-6)
    if case != "lossguide regression":
        assert found.metadata["class_names"] == [*model.classes_]
    loss = str(found.hyperparameters["loss_function"])
    assert found.metrics[f"test {loss}"] == pytest.approx(model.best_score_["validation"][loss])
    assert found.findings == ()


class TestCoreContract(FormatContract):
    def make_format(self) -> Format:
        return CatBoostFormat()

    def make_files(self) -> Mapping[str, bytes]:
        return {"model": cbm()}


class TestExportContract(FormatContract):
    def make_format(self) -> Format:
        return CatBoostFormat()

    def make_files(self) -> Mapping[str, bytes]:
        return {"model": EXPORT}
