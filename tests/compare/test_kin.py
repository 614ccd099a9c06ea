"""Sketches of weights, and whether one model was made from another."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_files import safetensors

from assay.artifact.reader import Artifact
from assay.compare.kin import Kin, kin, merged_rank
from assay.compare.sketches import RUN, Sketch, positions, remember, remembered, sampled, sketch
from assay.formats.registry import all_formats
from assay.service.examine import inspect
from assay.spec.digest import Digest
from assay.spec.lineage import Relation
from assay.trees import Tree
from assay.wiring.looking import decode

Weights = Mapping[str, np.ndarray]
_CODES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "int8": "I8"}


def network(seed: int, *, layers: int = 6, width: int = 64, prefix: str = "") -> dict[str, np.ndarray]:
    """Matrices and vectors of a small network, as one training would leave them."""
    made = np.random.default_rng(seed)
    weights: dict[str, np.ndarray] = {}
    for layer in range(layers):
        weights[f"{prefix}layer.{layer}.weight"] = (made.normal(size=(width, width)) * 0.05).astype(np.float32)
        weights[f"{prefix}layer.{layer}.norm"] = (1 + made.normal(size=width) * 0.1).astype(np.float32)
        weights[f"{prefix}layer.{layer}.bias"] = np.zeros(width, np.float32)
    return weights


def tuned(weights: Weights, by: float = 0.1, *, seed: int = 99) -> dict[str, np.ndarray]:
    """The same after more training: every tensor moved by a part of its norm."""
    made = np.random.default_rng(seed)
    return {
        name: (value + made.normal(size=value.shape) * by * np.sqrt(np.mean(value**2))).astype(np.float32)
        for name, value in weights.items()
    }


def opened(weights: Weights) -> Artifact:
    """The weights as an artifact in memory."""
    data = safetensors(
        **{name: (_CODES[str(value.dtype)], list(value.shape), value.tobytes()) for name, value in weights.items()}
    )
    tree = Tree.of({"model.safetensors": data})
    return Artifact(tree, inspect(tree, all_formats()), manifest=None, decode=decode)


def related(old: Weights, new: Weights) -> Kin | None:
    return kin(sketch(opened(old)), sketch(opened(new)))


def found(old: Weights, new: Weights) -> Kin:
    shown = related(old, new)
    assert shown is not None
    return shown


def test_a_fine_tune_is_kin_and_the_evidence_says_how_far_it_is() -> None:
    base = network(1)

    shown = found(base, tuned(base, 0.1))

    assert shown.relation is Relation.FINETUNED_FROM
    assert shown.distance == pytest.approx(0.1, rel=0.3)
    assert shown.evidence["renamed"] == 0
    assert shown.evidence["correlation"] == pytest.approx(0.995, abs=0.01)


def test_a_training_from_another_start_is_no_kin_whatever_its_names_and_shapes() -> None:
    assert related(network(1), network(2)) is None


def test_tensors_that_were_renamed_are_known_by_their_elements() -> None:
    base = network(1, prefix="bert.")
    new = {name.removeprefix("bert."): value for name, value in tuned(base, 0.1).items()}

    shown = found(base, new)

    assert shown.evidence["renamed"] == shown.evidence["shared"] == 12


def test_a_few_layers_of_a_large_model_are_enough_to_know_the_small_one() -> None:
    base = network(1, layers=8)
    kept = {name: value for name, value in base.items() if name.split(".")[1] in {"1", "4", "7"}}

    assert found(base, tuned(kept)).evidence["shared"] == 6


def test_a_table_that_two_models_share_makes_them_no_kin() -> None:
    table = {"filterbank": np.random.default_rng(5).normal(size=(64, 64)).astype(np.float32)}

    assert related({**network(1), **table}, {**network(2), **table}) is None


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_same_numbers_in_a_narrower_float_are_a_conversion(dtype: str) -> None:
    base = network(1)
    narrow = {name: value.astype(getattr(ml_dtypes, dtype, dtype)) for name, value in base.items()}

    shown = found(base, narrow)

    assert shown.relation is Relation.CONVERTED_FROM
    assert shown.evidence["casts"] == {f"float32 to {dtype}": 12}


def test_integers_that_follow_the_floats_are_a_quantised_form() -> None:
    base = network(1)
    quantised = {
        name: np.round(value / np.abs(value).max() * 127).astype(np.int8)
        for name, value in base.items()
        if "weight" in name
    }

    shown = found(base, {**base, **quantised})

    assert shown.relation is Relation.QUANTIZED_FROM
    assert shown.evidence["equal"] == 6


def test_kernels_with_their_axes_in_another_order_are_the_same_tensors() -> None:
    made = np.random.default_rng(3)
    keras = {f"conv{at}": made.normal(size=(3, 3, 16, 32)).astype(np.float32) for at in range(4)}
    torch = {
        f"features.{at}": np.ascontiguousarray(value.transpose(3, 2, 0, 1)) for at, value in enumerate(keras.values())
    }

    assert found(keras, torch).evidence["equal"] == 4


def test_a_linear_model_trained_again_on_the_same_data_is_no_kin_however_near_it_is() -> None:
    base = {f"fold.{at}.coef": np.random.default_rng(at).normal(size=(1, 5000)).astype(np.float32) for at in range(5)}

    assert related(base, tuned(base, 0.006)) is None


def test_a_linear_model_that_was_saved_again_is_the_same_model() -> None:
    base = {f"fold.{at}.coef": np.random.default_rng(at).normal(size=(1, 5000)).astype(np.float32) for at in range(5)}

    assert found(base, base).relation is Relation.CONVERTED_FROM


def test_matrices_around_one_large_value_are_near_and_no_kin() -> None:
    old, new = (
        {name: value + np.float32(5) for name, value in network(seed).items() if "weight" in name} for seed in (1, 2)
    )

    assert related(old, new) is None


def test_matrices_on_another_scale_are_far_and_kin() -> None:
    base = {name: value for name, value in network(1).items() if "weight" in name}

    shown = found(base, {name: value * np.float32(3) for name, value in base.items()})

    assert shown.distance == pytest.approx(2)
    assert shown.relation is Relation.FINETUNED_FROM


def test_vectors_of_zeros_and_ones_tell_nothing() -> None:
    fresh = {f"norm.{at}": np.ones(256, np.float32) for at in range(9)}

    assert related(fresh, fresh) is None


def test_an_optimizers_state_is_no_part_of_the_model() -> None:
    base = network(1)
    state = {f"optimizer.state.{at}.exp_avg": value for at, value in enumerate(network(7).values())}

    shown = found({**base, **state}, tuned(base))

    assert shown.evidence["tensors"] == 12
    assert all("optimizer" not in pair.old.name for pair in shown.pairs)


def test_numbers_that_are_not_finite_are_left_out() -> None:
    base = network(1)
    new = tuned(base)
    new["layer.0.weight"][::2] = np.nan

    assert found(base, new).relation is Relation.FINETUNED_FROM


def test_the_rank_of_a_merged_adapter_is_told_and_that_of_a_full_fine_tune_is_none() -> None:
    base = network(1, width=128)
    made = np.random.default_rng(4)
    merged = {
        name: (value + 0.003 * made.normal(size=(128, 8)) @ made.normal(size=(8, 128))).astype(np.float32)
        if "weight" in name
        else value
        for name, value in base.items()
    }
    full = tuned(base)

    assert merged_rank(opened(base), opened(merged), found(base, merged)) == 8
    assert merged_rank(opened(base), opened(full), found(base, full)) is None


@given(st.integers(1, 10**12), st.integers(1, 256), st.integers(1, 256))
def test_positions_are_inside_the_tensor_and_the_fewer_begin_the_more(size: int, one: int, other: int) -> None:
    one, other = sorted((one * RUN, other * RUN))

    few, many = positions(size, one), positions(size, other)

    assert few.min() >= 0
    assert many.max() < size
    assert (many[: len(few)] == few).all()


def test_positions_do_not_change_from_release_to_release() -> None:
    starts = (801_514, 333_848, 475_881, 89_977)

    # Sketches that homes keep were taken there: other positions need another folder (LAYOUT).
    assert positions(1_000_000, 32).tolist() == [start + step for start in starts for step in range(RUN)]


def test_a_sketch_is_kept_and_read_back_as_it_was(tmp_path: Path) -> None:
    digest = Digest.of(b"one")
    made = sketch(opened(network(1)))

    remember(tmp_path, digest, made)
    back = remembered(tmp_path, digest)

    assert back is not None
    assert back.format == made.format
    for one, other in zip(made.tensors, back.tensors, strict=True):
        assert (one.name, one.dtype, one.shape, one.telling) == (other.name, other.dtype, other.shape, other.telling)
        assert np.array_equal(one.elements, other.elements)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "other"])
def test_a_damaged_sketch_is_no_sketch(damage: str, tmp_path: Path) -> None:
    digest = Digest.of(b"one")
    remember(tmp_path, digest, sketch(opened(network(1))))
    (file,) = tmp_path.rglob("*.sketch")
    data = bytearray(file.read_bytes())
    if damage == "flip":
        data[-5] ^= 1
    file.write_bytes({"flip": bytes(data), "cut": bytes(data[:-100]), "empty": b"", "other": b"[1]\n"}[damage])

    assert remembered(tmp_path, digest) is None


def test_of_very_many_tensors_a_bounded_number_is_sketched() -> None:
    many = {f"expert.{at}": np.random.default_rng(at).normal(size=(4, 8)).astype(np.float32) for at in range(700)}

    made = sketch(opened(many))

    assert len(made.tensors) == 512
    assert kin(made, made) is not None


def test_weights_that_cannot_be_read_are_no_evidence() -> None:
    blocks = Sketch("gguf", tuple(sampled(f"t{at}", "q4_1", (64, 64), np.empty(0, np.float32)) for at in range(9)))

    assert kin(blocks, blocks) is None
