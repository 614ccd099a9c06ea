"""XGBoost models, described from JSON, UBJSON and the old binary layout."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from damage import survives
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import AssayError, BadFormat
from assay.formats.boosting.xgboost import XGBoostFormat
from assay.ports.formats import Format
from assay.spec.description import Description, Port
from assay.testing.formats import FormatContract
from assay.trees import Tree
from assay.trees.window import FileSource

FORMAT = XGBoostFormat()


def describe(data: bytes, name: str = "model") -> Description:
    tree = Tree.of({name: data})
    groups = FORMAT.detect(tree)
    assert groups == [(name,)]
    return FORMAT.describe(tree, groups[0])


def rules(description: Description) -> set[str]:
    return {finding.rule for finding in description.findings}


def tree_of(left: list[int], right: list[int]) -> dict[str, Any]:
    """A tree as the document holds it."""
    return {"left_children": left, "right_children": right, "tree_param": {"size_leaf_vector": "0"}}


STUMP = tree_of([1, -1, -1], [2, -1, -1])


def document(trees: list[dict[str, Any]] | None = None, **learner: Any) -> dict[str, Any]:
    """A model of stumps; keywords replace parts of the learner."""
    trees = [STUMP] * 2 if trees is None else trees
    model = {"gbtree_model_param": {"num_trees": str(len(trees)), "num_parallel_tree": "1"}, "trees": trees}
    body: dict[str, Any] = {
        "attributes": {},
        "feature_names": ["age", "income"],
        "feature_types": ["int", "float"],
        "gradient_booster": {"model": model, "name": "gbtree"},
        "learner_model_param": {"base_score": "5E-1", "num_class": "0", "num_feature": "2"},
        "objective": {"name": "binary:logistic", "reg_loss_param": {"scale_pos_weight": "1"}},
    }
    return {"learner": body | learner, "version": [1, 7, 6]}


def as_json(body: dict[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def as_ubj(value: Any) -> bytes:
    """*value* in the dialect XGBoost writes: integer lists typed, everything else plain."""
    if isinstance(value, dict):
        return b"{" + b"".join(as_ubj(key)[1:] + as_ubj(item) for key, item in value.items()) + b"}"
    if isinstance(value, list) and value and all(isinstance(item, int) for item in value):
        return b"[$l#L" + struct.pack(f">q{len(value)}i", len(value), *value)
    if isinstance(value, list):
        return b"[#L" + struct.pack(">q", len(value)) + b"".join(map(as_ubj, value))
    if isinstance(value, int):
        return b"l" + struct.pack(">i", value)
    return b"SL" + struct.pack(">q", len(value.encode())) + value.encode()


def string(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def binary(
    *,
    trees: int = 2,
    booster: str = "gbtree",
    attributes: dict[str, str] | None = None,
    version: tuple[int, int] = (1, 2),
) -> bytes:
    """A model of stumps in the old layout, from the structs in XGBoost's sources."""
    out = struct.pack("<fIiiiII", 0.25, 3, 0, int(attributes is not None), 0, 1, 2) + bytes(27 * 4)
    out += string("reg:squarederror") + string(booster)
    if booster == "gblinear":
        out += bytes(136) + struct.pack("<Q4f", 4, 1, 2, 3, 4)
    else:
        out += struct.pack("<2i", trees, 1) + bytes(152)
        for _ in range(trees):
            out += struct.pack("<6i", 1, 3, 0, 0, 3, 0) + bytes(124)
            out += struct.pack("<iiiIf", -1, 1, 2, 0, 0.5)
            out += struct.pack("<iiiIf", 0, -1, -1, 0, 0.1) + struct.pack("<iiiIf", 0, -1, -1, 0, -0.1) + bytes(48)
        out += bytes(4 * trees)
        if booster == "dart":
            out += struct.pack("<Q", trees) + bytes(4 * trees)
    if attributes is not None:
        out += struct.pack("<Q", len(attributes)) + b"".join(string(k) + string(v) for k, v in attributes.items())
    return out


@pytest.mark.parametrize("encode", [as_json, as_ubj])
def test_json_and_ubj_say_the_same(encode: Callable[[dict[str, Any]], bytes]) -> None:
    found = describe(encode(document(attributes={"best_iteration": "1", "best_score": "0.25"})))

    assert (found.architecture, found.framework_version, found.task) == ("gbtree", "1.7.6", "binary-classification")
    assert found.inputs == (Port("age", "int64", (None,)), Port("income", "float32", (None,)))
    assert found.outputs == (Port("prediction", "float32", (None,)),)
    assert found.hyperparameters["objective"] == "binary:logistic"
    assert found.hyperparameters["base_score"] == 0.5
    assert found.metrics == {"best_score": 0.25}
    assert found.parameter_count == 4
    assert {key: found.metadata[key] for key in ("trees", "leaves", "nodes", "max_depth", "boosted_rounds")} == {
        "trees": 2, "leaves": 4, "nodes": 6, "max_depth": 1, "boosted_rounds": 2,
    }  # fmt: skip
    assert found.metadata["best_iteration"] == 1
    assert found.findings == ()


@pytest.mark.parametrize("start", [b"", b"binf"])
def test_the_old_binary_layout_is_read_with_and_without_its_magic(start: bytes) -> None:
    objective = '{"name":"reg:squarederror","reg_loss_param":{"scale_pos_weight":"2"}}'
    attributes = {"note": "kept", "objective": objective, "metrics": "rmse;mae;", "SAVED_PARAM_x": "7"}

    found = describe(start + binary(attributes=attributes))

    assert (found.architecture, found.format_version, found.framework_version) == ("gbtree", "binary", "1.2")
    assert found.inputs == (Port("features", "float32", (None, 3)),)
    assert (found.metadata["trees"], found.metadata["leaves"], found.metadata["boosted_rounds"]) == (2, 4, 2)
    assert found.metadata["attributes"] == {"note": "kept"}
    assert found.hyperparameters["scale_pos_weight"] == 2
    assert found.hyperparameters["eval_metric"] == ["rmse", "mae"]
    assert found.hyperparameters["x"] == 7
    assert rules(found) == {"xgboost-old-binary"}


def test_binary_dart_and_linear_boosters_are_read() -> None:
    assert describe(binary(booster="dart")).parameter_count == 4
    assert describe(binary(booster="gblinear")).parameter_count == 4
    assert describe(binary(booster="gblinear")).metadata == {"features": 3}


def test_a_binary_from_before_1_0_ends_with_its_metrics() -> None:
    data = bytearray(binary(attributes={"note": "x"}))
    data[16:28] = struct.pack("<iII", 1, 0, 0)

    found = describe(bytes(data) + struct.pack("<Q", 1) + string("rmse"))

    assert found.framework_version is None
    assert found.hyperparameters["eval_metric"] == ["rmse"]
    assert rules(found) == {"xgboost-old-binary"}


def test_bytes_behind_a_binary_model_are_reported() -> None:
    assert rules(describe(binary() + b"more")) == {"xgboost-old-binary", "xgboost-trailing-bytes"}


def test_the_configuration_behind_a_pickled_binary_booster_is_read() -> None:
    model = binary()
    config = {"learner": {"gradient_booster": {"gbtree_train_param": {"tree_method": "hist"}}}}

    found = describe(b"CONFIG-offset:" + struct.pack("<q", len(model)) + model + as_json(config))

    assert found.hyperparameters["tree_method"] == "hist"


@pytest.mark.parametrize("encode", [as_json, as_ubj])
def test_a_saved_state_gives_its_training_parameters(encode: Callable[[dict[str, Any]], bytes]) -> None:
    config = {"learner": {"learner_train_param": {"booster": "gbtree"}, "updater": [{"train_param": {"eta": "0.3"}}]}}

    found = describe(encode({"Config": config, "Model": document()}))

    assert found.hyperparameters["eta"] == 0.3
    assert found.metadata["trees"] == 2


def test_unreachable_nodes_do_not_count() -> None:
    pruned = tree_of([1, -1, -1, -1, -1], [2, -1, -1, -1, -1])

    assert describe(as_json(document([pruned]))).metadata["leaves"] == 2


@pytest.mark.parametrize(
    "tree",
    [
        pytest.param(tree_of([1, 0, -1], [2, 0, -1]), id="circle"),
        pytest.param(tree_of([7, -1, -1], [2, -1, -1]), id="child outside"),
        pytest.param(tree_of([1, 2, 3, -1], [1, 2, 3, -1]), id="paths that meet"),
        pytest.param(tree_of([1, -1, -1], [2]), id="sides of different length"),
        pytest.param({"left_children": "x", "right_children": None}, id="not numbers"),
        pytest.param(tree_of([1 << 80], [1]), id="number too large"),
        pytest.param(tree_of([*range(1, 20_000), -1], [-1] * 20_000), id="endless chain"),
    ],
)
def test_trees_that_are_no_trees_are_reported(tree: dict[str, Any]) -> None:
    assert "xgboost-tree-shape" in rules(describe(as_json(document([STUMP, tree]))))


def test_lying_counts_are_reported() -> None:
    body = document(learner_model_param={"num_feature": "9"})
    body["learner"]["gradient_booster"]["model"]["gbtree_model_param"]["num_trees"] = "1000000"

    found = describe(as_json(body))

    assert rules(found) == {"xgboost-tree-count", "xgboost-feature-count"}
    assert found.metadata["trees"] == 2


def test_a_truncated_ubj_keeps_what_came_before() -> None:
    data = as_ubj(document())
    cut = data.rindex(b"learner_model_param")

    found = describe(data[:cut])

    assert not found.complete
    assert found.metadata["trees"] == 2
    assert len(found.inputs) == 2


def test_a_truncated_binary_keeps_what_came_before() -> None:
    found = describe(binary(trees=50)[:-300])

    assert not found.complete
    assert found.hyperparameters["objective"] == "reg:squarederror"


@pytest.mark.parametrize("count", [-5, 1 << 30])
def test_a_binary_that_promises_absurd_trees_is_incomplete_not_slow(count: int) -> None:
    data = bytearray(binary())
    at = data.index(b"gbtree") + 6
    data[at : at + 4] = struct.pack("<i", count)

    assert not describe(bytes(data)).complete


def test_keys_that_occur_twice_are_reported() -> None:
    data = as_json(document()).replace(b'"feature_types"', b'"feature_names":["x","y"],"feature_types"')

    assert "xgboost-repeated-key" in rules(describe(data))


def test_deep_json_is_refused() -> None:
    data = as_json(document(attributes={"deep": "HERE"})).replace(b'"HERE"', b"[" * 200_000 + b"]" * 200_000)

    with pytest.raises(BadFormat):
        describe(data)


def test_deep_ubj_is_cut_off_and_said_so() -> None:
    data = as_ubj(document()).replace(as_ubj("gbtree"), b"[" * 200_000)

    assert not describe(data).complete


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b'{"learner": {"generic_param": {"seed": "0"}}}', id="only a configuration"),
        pytest.param(b'{"version": "1.0", "model": {"type": "BPE"}}', id="a tokenizer"),
        pytest.param(b'{"feature_names": ["a"]}', id="another document"),
        pytest.param(bytes(400), id="zeros"),
        pytest.param(b"binf" + bytes(400), id="magic alone"),
        pytest.param(binary()[:150], id="half of the fixed part"),
        pytest.param(b"{L" + bytes(40), id="other UBJSON"),
        pytest.param(b"", id="empty"),
    ],
)
def test_other_files_are_not_claimed(data: bytes) -> None:
    assert list(FORMAT.detect(Tree.of({"model.json": data}))) == []


def test_a_model_without_a_learner_object_is_refused() -> None:
    with pytest.raises(BadFormat, match="learner"):
        describe(b'{"Model": {"learner": 5}}')


SEEDS = [as_json(document()), as_ubj(document()), binary(attributes={"a": "b"}), binary(booster="dart")]


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(SEEDS), st.integers(0, 2000), st.binary(max_size=8), st.booleans())
def test_damaged_models_give_a_description_or_our_errors(seed: bytes, at: int, patch: bytes, cut: bool) -> None:
    data = seed[:at] + patch + (b"" if cut else seed[at + len(patch) :])
    survives(FORMAT, data)


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=300))
def test_random_bytes_behind_each_magic_give_our_errors(data: bytes) -> None:
    for start in (
        b"",
        b'{"learner":{"feature_names":',
        b"{L\0\0\0\0\0\0\0\x07learner{L\0\0\0\0\0\0\0\x0dfeature_names",
    ):
        tree = Tree.of({"m": start + data})
        for group in FORMAT.detect(tree):
            try:
                FORMAT.describe(tree, group)
            except AssayError:
                continue


# -- real files and the real library ----------------------------------------------------------------------------------


def describe_file(file: Path) -> Description:
    tree = Tree({file.name: FileSource(file)})
    return FORMAT.describe(tree, FORMAT.detect(tree)[0])


@pytest.mark.real
def test_real_models_are_described_as_measured(real_model: Callable[[str, str, str], Path]) -> None:
    package, folder = "sportsdataverse==0.1.4", "sportsdataverse"

    small = describe_file(real_model(package, f"{folder}/nfl/models/wp_naive.ubj", "5099367dfc6b"))
    large = describe_file(real_model(package, f"{folder}/cfb/models/ep_model.ubj", "44516f561836"))

    assert (small.metadata["trees"], small.metadata["features"], small.task) == (65, 11, "binary-classification")
    assert small.inputs[0].name == "receive_2h_ko"
    assert (large.metadata["trees"], large.metadata["boosted_rounds"], large.parameter_count) == (3675, 525, 105_083)
    assert large.outputs == (Port("prediction", "float32", (None, 7)),)
    assert small.findings == large.findings == ()


@pytest.mark.real
@pytest.mark.framework
def test_real_models_agree_with_the_library(real_model: Callable[[str, str, str], Path]) -> None:
    import xgboost

    file = real_model("sportsdataverse==0.1.4", "sportsdataverse/nfl/models/wp_naive.ubj", "5099367dfc6b")
    booster = xgboost.Booster(model_file=str(file))

    agrees(describe_file(file), booster)


def agrees(found: Description, booster: Any) -> None:
    """What we say is what the library says."""
    config = json.loads(booster.save_config())["learner"]
    assert found.metadata["boosted_rounds"] == booster.num_boosted_rounds()
    assert found.metadata["features"] == booster.num_features()
    assert found.hyperparameters["objective"] == config["objective"]["name"]
    assert found.architecture == config["learner_train_param"]["booster"]
    if booster.feature_names:
        assert [port.name for port in found.inputs] == booster.feature_names
    if found.architecture != "gblinear":
        dumps = booster.get_dump()
        assert found.metadata["trees"] == len(dumps)
        assert found.metadata["leaves"] == sum(dump.count("leaf=") for dump in dumps)


PARAMETERS: dict[str, dict[str, Any]] = {
    "binary": {"objective": "binary:logistic", "max_depth": 3, "gamma": 1.0},
    "multiclass": {"objective": "multi:softprob", "num_class": 3, "num_parallel_tree": 2},
    "vector leaves": {"objective": "multi:softprob", "num_class": 3, "multi_strategy": "multi_output_tree"},
    "dart": {"booster": "dart", "objective": "reg:squarederror", "rate_drop": 0.5},
    "linear": {"booster": "gblinear", "objective": "reg:squarederror"},
    "ranking": {"objective": "rank:ndcg"},
    "poisson": {"objective": "count:poisson"},
}


@pytest.mark.framework
@pytest.mark.parametrize("suffix", ["json", "ubj"])
@pytest.mark.parametrize("case", PARAMETERS)
def test_freshly_trained_boosters_agree_with_the_library(case: str, suffix: str, tmp_path: Path) -> None:
    import numpy as np
    import xgboost

    rng = np.random.default_rng(0)
    names = ["a", "b", "c d", "é"] if case == "binary" else None
    labels = rng.integers(0, 3 if "num_class" in PARAMETERS[case] else 2, 120)
    data = xgboost.DMatrix(rng.normal(size=(120, 4)), labels, feature_names=names, nthread=1)
    booster = xgboost.train({**PARAMETERS[case], "nthread": 1}, data, 4)
    booster.set_attr(note="hello")
    booster.save_model(tmp_path / f"model.{suffix}")

    found = describe_file(tmp_path / f"model.{suffix}")

    agrees(found, booster)
    attributes = found.metadata["attributes"]
    assert isinstance(attributes, dict)
    assert attributes["note"] == "hello"
    assert found.framework_version == xgboost.__version__
    assert found.findings == ()


@pytest.mark.framework
def test_a_booster_kept_as_raw_state_is_described() -> None:
    import numpy as np
    import xgboost

    data = xgboost.DMatrix(np.eye(8), np.arange(8), nthread=1)
    booster = xgboost.train({"max_depth": 2, "nthread": 1, "eta": 0.125}, data, 2)

    found = describe(bytes(booster.__getstate__()["handle"]))

    agrees(found, booster)
    assert found.hyperparameters["eta"] == 0.125


class TestJsonContract(FormatContract):
    def make_format(self) -> Format:
        return XGBoostFormat()

    def make_files(self) -> Mapping[str, bytes]:
        return {"model": as_json(document())}


class TestUbjContract(FormatContract):
    def make_format(self) -> Format:
        return XGBoostFormat()

    def make_files(self) -> Mapping[str, bytes]:
        return {"model": as_ubj(document())}


class TestBinaryContract(FormatContract):
    def make_format(self) -> Format:
        return XGBoostFormat()

    def make_files(self) -> Mapping[str, bytes]:
        return {"model": binary(attributes={"a": "b"})}
