"""LightGBM model texts, in files and in memory."""

from __future__ import annotations

import pickletools
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from damage import survives
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import AssayError, BadFormat
from assay.formats.boosting.lightgbm import LightGBMFormat
from assay.formats.boosting.lightgbm_text import describe_text
from assay.ports.formats import Format
from assay.spec.description import Description, Port
from assay.testing.formats import FormatContract
from assay.trees import Tree

FORMAT = LightGBMFormat()


def tree_text(index: int, leaves: int = 3) -> str:
    values = " ".join(["0.5"] * leaves)
    return f"Tree={index}\nnum_leaves={leaves}\nnum_cat=0\nleaf_value={values}\nshrinkage=0.1\n\n\n"


def model(trees: int = 4, *, sizes: list[int] | None = None, names: str = "age town", tail: str | None = None) -> bytes:
    """A model text of two features; sizes default to the true ones."""
    bodies = [tree_text(index) for index in range(trees)]
    stated = " ".join(str(size) for size in (sizes if sizes is not None else [len(body) for body in bodies]))
    header = (
        "tree\nversion=v4\nnum_class=2\nnum_tree_per_iteration=2\nlabel_index=0\nmax_feature_idx=1\n"
        f"objective=multiclass num_class:2\nfeature_names={names}\nfeature_infos=[0:99] 1:2:3\ntree_sizes={stated}\n\n"
    )
    end = (
        "end of trees\n\nfeature_importances:\ntown=9\nage=3\n\nparameters:\n[boosting: dart]\n[learning_rate: 0.1]\n"
        '[data: ]\n\nend of parameters\n\npandas_categorical:[["a", "b"]]\n'
    )
    return (header + "".join(bodies) + (end if tail is None else tail)).encode()


def describe(data: bytes) -> Description:
    tree = Tree.of({"model.txt": data})
    groups = FORMAT.detect(tree)
    assert groups == [("model.txt",)]
    return FORMAT.describe(tree, groups[0])


def rules(found: Description) -> set[str]:
    return {finding.rule for finding in found.findings}


def test_a_model_text_says_trees_features_and_parameters() -> None:
    found = describe(model())

    assert (found.architecture, found.format_version, found.task) == ("dart", "v4", "multiclass-classification")
    assert found.inputs == (Port("age", "float64", (None,)), Port("town", "categorical", (None,)))
    assert found.outputs == (Port("prediction", "float64", (None, 2)),)
    assert found.hyperparameters == {
        "boosting": "dart", "learning_rate": 0.1, "objective": "multiclass", "num_class": 2,
    }  # fmt: skip
    assert found.metadata["feature_importances"] == {"town": 9, "age": 3}
    assert found.metadata["pandas_categorical"] == [["a", "b"]]
    assert (found.metadata["trees"], found.metadata["leaves"], found.metadata["boosted_rounds"]) == (4, 12, 2)
    assert found.findings == ()


def test_text_in_memory_says_the_same_as_a_file() -> None:
    assert describe_text(model(), "model.txt") == describe(model())


def test_only_the_first_lines_of_trees_are_read_when_their_sizes_are_stated() -> None:
    body = tree_text(0, leaves=200_000)
    data = model(0).replace(b"tree_sizes=\n\n", f"tree_sizes={' '.join([str(len(body))] * 12)}\n\n{body * 12}".encode())
    tree = Tree.of({"m": data})

    found = FORMAT.describe(tree, ("m",))

    assert found.metadata["leaves"] == 2_400_000
    assert tree.budget.used < len(data) * 0.6


@pytest.mark.parametrize(
    "sizes",
    [
        pytest.param([], id="none stated"),
        pytest.param([1, 1, 1, 1], id="too small"),
        pytest.param([10**11] * 4, id="far beyond the file"),
        pytest.param([-5] * 4, id="negative"),
        pytest.param([1] * 100_000, id="a hundred thousand"),
    ],
)
def test_lying_tree_sizes_are_reported_and_the_trees_counted_anyway(sizes: list[int]) -> None:
    found = describe(model(sizes=sizes))

    assert (found.metadata["trees"], found.metadata["leaves"]) == (4, 12)
    assert rules(found) == ({"lightgbm-tree-sizes"} if sizes else set())


def test_trees_are_counted_across_the_seams_of_chunks() -> None:
    found = describe(model(trees=60_000, sizes=[]))

    assert (found.metadata["trees"], found.metadata["leaves"]) == (60_000, 180_000)


def test_lying_feature_counts_are_reported() -> None:
    assert rules(describe(model(names="only_one"))) == {"lightgbm-feature-count"}


def test_damaged_categories_are_reported() -> None:
    found = describe(model(tail="end of trees\n\npandas_categorical:[[[\n"))

    assert rules(found) == {"lightgbm-categories"}


@pytest.mark.parametrize("cut", [200, -330])
def test_a_text_that_ends_early_is_incomplete_and_keeps_its_header(cut: int) -> None:
    found = describe(model()[:cut])

    assert not found.complete
    assert found.hyperparameters["objective"] == "multiclass"


@pytest.mark.parametrize("data", [b"", b"tree", b"tree\nbranch\n", b"a tree\nversion=v4\n", b"tree\r\n{}", b"\0" * 100])
def test_other_texts_are_not_claimed(data: bytes) -> None:
    assert FORMAT.detect(Tree.of({"model.txt": data})) == []
    with pytest.raises(BadFormat):
        describe_text(data)


def test_endless_lines_take_no_endless_time() -> None:
    started = time.process_time()

    for filling in (
        b"[" * 8_000_000,
        b"feature_names=" + b"a " * 4_000_000,
        b"\nTree=" * 1_500_000,
        b"\n\n" * 4_000_000,
    ):
        describe_text(b"tree\nversion=v4\n" + filling)
        describe_text(model(tail="end of trees\n\nparameters:\n") + filling)

    assert time.process_time() - started < 20


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 700), st.binary(max_size=8), st.booleans())
def test_damaged_texts_give_a_description_or_our_errors(at: int, patch: bytes, cut: bool) -> None:
    seed = model()
    survives(FORMAT, seed[:at] + patch + (b"" if cut else seed[at + len(patch) :]))


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=300))
def test_random_bytes_behind_the_first_lines_give_our_errors(data: bytes) -> None:
    try:
        describe_text(b"tree\nversion=" + data)
    except AssayError:
        return


def agrees(found: Description, booster: Any) -> None:
    """What we say is what the library says."""
    dump = booster.dump_model()
    assert found.metadata["trees"] == booster.num_trees()
    assert found.metadata["features"] == booster.num_feature()
    assert found.metadata["leaves"] == sum(tree["num_leaves"] for tree in dump["tree_info"])
    assert found.metadata["boosted_rounds"] == booster.current_iteration()
    assert [port.name for port in found.inputs] == booster.feature_name()
    assert found.format_version == dump["version"]


@pytest.mark.real
def test_a_real_model_inside_a_pickle_is_described(real_model: Callable[[str, str, str], Path]) -> None:
    pickle = real_model("rs3==0.0.18", "rs3/RuleSet3.pkl", "88e75f7cb7d1").read_bytes()
    text = next(
        arg for _, arg, _ in pickletools.genops(pickle) if isinstance(arg, str) and arg.startswith("tree\n")
    ).encode()
    started = time.process_time()

    found = describe_text(text, "RuleSet3.txt")

    assert time.process_time() - started < 1
    assert (found.metadata["trees"], found.metadata["features"], found.task) == (2279, 632, "regression")
    assert found.inputs[0].name == "GC_content"
    assert found.complete


@pytest.mark.framework
@pytest.mark.parametrize(
    "parameters",
    [
        {"objective": "multiclass", "num_class": 3, "boosting": "dart"},
        {"objective": "binary", "boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.7},
        {"objective": "regression", "linear_tree": True},
        {"objective": "lambdarank"},
    ],
    ids=lambda parameters: str(parameters["objective"]),
)
def test_freshly_trained_models_agree_with_the_library(parameters: dict[str, Any], tmp_path: Path) -> None:
    import lightgbm
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(200, 4)), columns=["a", "b", "c", "d"])
    if parameters["objective"] != "regression":
        table["d"] = pd.Categorical(rng.choice(["x", "y", "z"], 200))
    labels = rng.integers(0, 3 if "num_class" in parameters else 2, 200)
    group = [100, 100] if parameters["objective"] == "lambdarank" else None
    data = lightgbm.Dataset(table, labels, group=group)
    booster = lightgbm.train({**parameters, "num_leaves": 5, "verbose": -1, "num_threads": 1}, data, 4)
    booster.save_model(tmp_path / "model.txt")

    found = describe((tmp_path / "model.txt").read_bytes())

    agrees(found, booster)
    assert found.hyperparameters["num_leaves"] == 5
    assert str(found.hyperparameters["objective"]) == parameters["objective"]
    assert found.architecture == parameters.get("boosting", "gbdt")
    categorical = parameters["objective"] != "regression"
    assert found.metadata.get("pandas_categorical") == ([["x", "y", "z"]] if categorical else None)
    assert found.findings == ()


class TestLightGBMContract(FormatContract):
    def make_format(self) -> Format:
        return LightGBMFormat()

    def make_files(self) -> Mapping[str, bytes]:
        return {"model": model()}
