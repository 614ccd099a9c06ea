"""Which tensor belongs to which when names changed."""

from __future__ import annotations

import re

import numpy as np
import pytest
from tensor_sides import diffed, weights

from assay.compare.naming import canonical, stem
from assay.spec.changes import Match, State


def bert(prefix: str = "", layers: int = 3, seed: int = 0) -> dict[str, np.ndarray]:
    found = {f"{prefix}embeddings.word.weight": weights(seed, 50, 16)}
    for layer in range(layers):
        for at, part in enumerate(("query", "key", "value", "output")):
            found[f"{prefix}encoder.layer.{layer}.{part}.weight"] = weights(seed + 10 * layer + at + 1, 16, 16)
            found[f"{prefix}encoder.layer.{layer}.{part}.bias"] = weights(seed + 10 * layer + at + 101, 16)
    return found


def tuned(tensors: dict[str, np.ndarray], by: float = 0.003) -> dict[str, np.ndarray]:
    return {name: array + weights(len(name), *array.shape, scale=by) for name, array in tensors.items()}


def pairs(found) -> dict[str, tuple[str, Match, str | None]]:
    return {
        change.new.name: (change.old.name, change.match, change.transform)
        for change in found.changes
        if change.old is not None and change.new is not None
    }


@pytest.mark.parametrize("prefix", ["bert.", "module.", "_orig_mod.", "model.language_model."])
@pytest.mark.parametrize("dropped", [True, False], ids=["dropped", "added"])
def test_a_prefix_that_was_dropped_or_added_is_seen_through(prefix, dropped) -> None:
    plain, prefixed = bert(), bert(prefix)
    old, new = (prefixed, tuned(plain)) if dropped else (plain, tuned(prefixed))

    found = diffed(old, new)

    assert {change.state for change in found.changes} == {State.CHANGED}
    assert {change.match for change in found.changes} == {Match.RENAMED}
    assert all(a.removeprefix(prefix) == b.removeprefix(prefix) for b, (a, _, _) in pairs(found).items())


def test_one_prefix_may_take_the_place_of_another() -> None:
    found = diffed(bert("bert."), tuned(bert("roberta.")))

    assert len(pairs(found)) == len(bert())
    assert {match for _, match, _ in pairs(found).values()} == {Match.RENAMED}


def test_a_dropped_prefix_does_not_hide_what_was_added_and_removed() -> None:
    old = {**bert("bert."), "cls.predictions.weight": weights(900, 50, 16)}
    new = {**tuned(bert()), "classifier.weight": weights(901, 2, 16)}

    found = diffed(old, new)

    assert {change.name: change.state for change in found.changes if change.state is not State.CHANGED} == {
        "classifier.weight": State.ADDED,
        "cls.predictions.weight": State.REMOVED,
    }


def test_slashes_and_names_of_other_frameworks_are_one_spelling() -> None:
    assert canonical("encoder/layer_norm/gamma:0") == canonical("encoder.layer_norm.weight")
    assert canonical("model_weights/conv/sequential/conv/bias:0") == canonical("conv.bias")
    assert canonical("model_weights/conv_2/conv_2_1/kernel:0") == canonical("conv_2.weight")
    assert canonical("layer-0/kernel/.ATTRIBUTES/VARIABLE_VALUE") == canonical("layer-0.weight")
    assert canonical("encoder.layer.1.weight") != canonical("encoder.layer.11.weight")


def test_counters_of_tools_are_no_part_of_a_stem_and_layers_are() -> None:
    assert stem("const_fold_opt__210") == stem("const_fold_opt__209")
    assert stem("dense_3/kernel:0") == stem("dense_12/kernel:0")
    assert stem("layers.3.weight") != stem("layers.4.weight")


def test_tensors_of_unrelated_names_are_found_by_their_elements() -> None:
    old = {f"a{at}": weights(at, 40, 30) for at in range(6)}
    new = {f"z{9 - at}": array for at, array in enumerate(tuned(old).values())}

    found = diffed(old, new)

    assert {new: old for new, (old, _, _) in pairs(found).items()} == {f"z{9 - at}": f"a{at}" for at in range(6)}
    assert {match for _, match, _ in pairs(found).values()} == {Match.CONTENT}


def test_strangers_are_not_paired() -> None:
    old = {f"first.{at}": weights(at, 40, 30) for at in range(8)} | {"first.norm": weights(50, 512, scale=0.01, mean=1)}
    new = {f"other-{at}": weights(60 + at, 40, 30) for at in range(8)}
    new["scale"] = weights(90, 512, scale=0.01, mean=1)

    assert pairs(diffed(old, new)) == {}


def test_fresh_biases_are_not_kin_because_they_are_all_zero() -> None:
    zero = np.zeros(100, np.float32)

    assert pairs(diffed({"encoder.bias": zero}, {"head.offset": zero})) == {}


def test_a_rule_for_part_of_a_model_needs_elements_that_are_alike() -> None:
    old = {
        **bert(),
        "encoder.layer.7.query.weight": weights(500, 16, 16),
        "encoder.layer.7.query.bias": weights(501, 16),
    }
    new = {
        **bert(),
        "decoder.block.0.query.weight": weights(600, 16, 16),
        "decoder.block.0.query.bias": weights(601, 16),
    }

    found = diffed(old, new)

    assert [change.name for change in found.changes if change.state is State.ADDED] == [
        "decoder.block.0.query.weight",
        "decoder.block.0.query.bias",
    ]


def test_layers_that_were_renumbered_are_found() -> None:
    old = {f"h.{layer}.weight": weights(layer, 20, 20) for layer in range(6)}
    new = {f"h.{layer + 10}.weight": array for layer, array in enumerate(tuned(old).values())}

    assert {new: old for new, (old, _, _) in pairs(diffed(old, new)).items()} == {
        f"h.{layer + 10}.weight": f"h.{layer}.weight" for layer in range(6)
    }


def test_a_layer_that_was_taken_out_does_not_make_all_others_strangers() -> None:
    old = bert(layers=6)
    kept = {name: array for name, array in old.items() if ".layer.2." not in name}
    new = {
        re.sub(r"layer\.(\d+)", lambda found: f"layer.{int(found[1]) - (int(found[1]) > 2)}", name): array
        for name, array in tuned(kept).items()
    }

    found = diffed(old, new)

    assert {change.name.split(".")[2] for change in found.changes if change.state is State.REMOVED} == {"2"}
    assert {change.state for change in found.changes} == {State.CHANGED, State.REMOVED}
    assert pairs(found)["encoder.layer.4.key.weight"] == ("encoder.layer.5.key.weight", Match.RENAMED, None)
    assert pairs(found)["encoder.layer.1.key.weight"] == ("encoder.layer.1.key.weight", Match.NAME, None)


def test_layers_that_were_put_on_top_leave_the_others_their_names() -> None:
    found = diffed(bert(layers=3), {**tuned(bert(layers=3)), **bert(layers=5, seed=700), **tuned(bert(layers=3))})

    assert {match for _, match, _ in pairs(found).values()} == {Match.NAME}


def test_layers_that_were_trained_anew_keep_their_names() -> None:
    found = diffed(bert(layers=3), bert(layers=5, seed=700))

    assert {match for _, match, _ in pairs(found).values()} == {Match.NAME}


def test_keras_counters_that_moved_are_paired_in_order() -> None:
    old = {f"dense_{at}/kernel": weights(at, 8, 8) for at in (2, 10, 3)}
    new = {f"dense_{at}/kernel": weights(40 + at, 8, 8) for at in (11, 12, 13)}

    assert {new: old for new, (old, _, _) in pairs(diffed(old, new)).items()} == {
        "dense_11/kernel": "dense_2/kernel",
        "dense_12/kernel": "dense_3/kernel",
        "dense_13/kernel": "dense_10/kernel",
    }


def test_a_transposed_matrix_is_compared_in_its_own_order() -> None:
    a = weights(1, 30, 50)

    (change,) = diffed({"dense.kernel": a}, {"dense.weight": np.ascontiguousarray(a.T)}).changes

    assert (change.state, change.match, change.transform) == (State.EQUAL, Match.RENAMED, "transposed")


def test_a_convolution_that_moved_its_axes_is_compared_in_its_own_order() -> None:
    a = weights(1, 3, 3, 8, 16)
    b = np.ascontiguousarray(a.transpose(3, 2, 0, 1)) + weights(2, 16, 8, 3, 3, scale=0.001)

    (change,) = diffed({"conv.kernel": a}, {"conv.weight": b}).changes

    assert (change.state, change.transform) == (State.CHANGED, "transposed")
    assert change.numbers.relative_l2 == pytest.approx(0.02, rel=0.1)


def test_a_square_matrix_that_was_renamed_may_be_transposed() -> None:
    a = weights(1, 64, 64)

    (change,) = diffed({"dense.kernel": a}, {"dense.weight": np.ascontiguousarray(a.T)}).changes

    assert (change.state, change.transform) == (State.EQUAL, "transposed")


def test_dimensions_of_one_come_and_go() -> None:
    a = weights(1, 1, 64, 1)

    (change,) = diffed({"w": a}, {"w": a.reshape(64)}).changes

    assert (change.state, change.transform) == (State.EQUAL, "reshaped")


def test_the_same_elements_under_another_shape_are_equal() -> None:
    a = weights(1, 12, 64)

    (change,) = diffed({"w": a}, {"w": a.reshape(4, 3, 64)}).changes

    assert (change.state, change.transform) == (State.EQUAL, "reshaped")
