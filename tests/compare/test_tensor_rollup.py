"""Tensors rolled up by layer: frozen parts, low-rank changes, histograms."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensor_sides import diffed, only, weights

from assay.artifact.elements import flat_part
from assay.compare.groups import MAX_GROUPS, group_names
from assay.compare.histograms import BINS
from assay.spec.changes import State

BF16 = np.dtype(ml_dtypes.bfloat16)


def merged(a: np.ndarray, rank: int, by: float = 0.02, seed: int = 7) -> np.ndarray:
    """A matrix with an adapter of a rank merged into it, moved by that part of its norm."""
    wide = a.reshape(a.shape[0], -1).astype(np.float32)
    change = weights(seed, wide.shape[0], rank, scale=1) @ weights(seed + 1, rank, wide.shape[1], scale=1)
    change *= by * np.linalg.norm(wide) / np.linalg.norm(change)
    return (wide + change).reshape(a.shape).astype(a.dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, BF16], ids=["f32", "f16", "bf16"])
@pytest.mark.parametrize("rank", [1, 4, 8, 16])
def test_a_merged_adapter_is_found_with_its_rank(rank, dtype) -> None:
    a = weights(1, 256, 384).astype(dtype)

    assert only(a, merged(a, rank)).numbers.rank == rank


@pytest.mark.parametrize("rank", [32, 64])
def test_a_larger_rank_is_found_by_a_second_look(rank) -> None:
    a = weights(1, 512, 768)

    assert only(a, merged(a, rank)).numbers.rank == rank


def test_an_adapter_of_a_convolution_is_found() -> None:
    a = weights(1, 96, 32, 3, 3)

    assert only(a, merged(a, 4)).numbers.rank == 4


def test_an_adapter_merged_into_other_precision_is_found() -> None:
    a = weights(1, 256, 256)

    assert only(a, merged(a, 8).astype(BF16)).numbers.rank == 8


@pytest.mark.parametrize("dtype", [np.float32, BF16], ids=["f32", "bf16"])
@pytest.mark.parametrize("by", [0.2, 0.02, 0.002])
def test_a_full_fine_tune_has_no_rank(dtype, by) -> None:
    a = weights(1, 256, 384).astype(dtype)
    b = (a.astype(np.float32) + weights(2, 256, 384, scale=0.05 * by)).astype(dtype)

    change = only(a, b)

    assert change.numbers is not None
    assert change.numbers.rank is None


def test_a_few_rows_that_moved_are_no_adapter() -> None:
    a = weights(1, 256, 384)
    b = a.copy()
    b[::64] += weights(2, 4, 384)

    assert only(a, b).numbers.rank is None


def test_ranks_are_not_estimated_when_not_asked_for() -> None:
    a = weights(1, 256, 384)

    assert only(a, merged(a, 4), ranks=False).numbers.rank is None


def test_groups_are_layers_in_model_order() -> None:
    names = [
        "bert.encoder.layer.10.attention.query.weight",
        "bert.encoder.layer.2.attention.query.weight",
        "bert.encoder.layer.2.output.dense.bias",
        "bert.embeddings.word_embeddings.weight",
        "bert.embeddings.LayerNorm.weight",
    ]
    tensors = {name: weights(at, 9, 9) for at, name in enumerate(names)}

    groups = diffed(tensors, tensors).groups

    assert [(group.name, group.tensors[State.EQUAL], group.frozen) for group in groups] == [
        ("bert.encoder.layer.2", 2, True),
        ("bert.encoder.layer.10", 1, True),
        ("bert.embeddings.word_embeddings", 1, True),
        ("bert.embeddings.LayerNorm", 1, True),
    ]


def test_what_all_names_begin_with_does_not_hide_the_modules() -> None:
    names = ["model.state_dict.a.weight", "model.state_dict.b.weight", "model.state_dict.convs.0.weight"]

    assert group_names(names) == ["model.state_dict.a", "model.state_dict.b", "model.state_dict.convs.0"]


def test_a_model_of_nothing_but_layers_is_rolled_up_by_layer() -> None:
    names = [f"model.layers.{layer}.{part}.weight" for layer in range(2) for part in "qkv"]

    assert group_names(names) == ["model.layers.0"] * 3 + ["model.layers.1"] * 3


def test_frozen_and_moved_parts_are_told_apart() -> None:
    old = {f"layers.{at}.weight": weights(at, 64, 64) for at in range(4)}
    new = {**old, "layers.3.weight": merged(old["layers.3.weight"], 4, by=0.03)}

    groups = diffed(old, new).groups

    assert [group.frozen for group in groups] == [True, True, True, False]
    assert [group.ranks for group in groups] == [(), (), (), (4,)]
    assert groups[3].relative_l2 == pytest.approx(0.03, rel=1e-3)
    assert groups[0].relative_l2 == 0
    assert [group.parameters for group in groups] == [4096] * 4


@given(st.lists(st.text("ab.1/", min_size=1, max_size=9), max_size=30))
def test_every_name_has_a_group_that_it_begins_with(names) -> None:
    groups = group_names(names)

    assert len(groups) == len(names)
    assert all(name.startswith(group) and group for name, group in zip(names, groups, strict=True))


def test_groups_stay_few_whatever_the_names() -> None:
    many = [f"block{at}.part{part}.weight" for at in range(300) for part in range(3)]

    assert len(set(group_names(many))) <= MAX_GROUPS


def test_histograms_count_every_finite_element_of_both_sides() -> None:
    old = {"a.0.weight": weights(1, 100, 100), "a.0.bias": weights(2, 100), "a.1.weight": weights(3, 50, 50)}
    new = {name: array * np.float32(2) for name, array in old.items()}
    new["a.0.bias"][3] = np.nan

    found = diffed(old, new, histograms=True).histograms

    assert [(one.group, sum(one.old), sum(one.new)) for one in found] == [("a.0", 10100, 10099), ("a.1", 2500, 2500)]
    assert all(len(one.old) == len(one.new) == BINS and one.low < one.high for one in found)
    middle = BINS // 2
    assert found[0].old[middle] > 1.5 * found[0].new[middle]
    assert diffed(old, new).histograms == ()


@given(st.integers(0, 119), st.integers(0, 120), st.permutations(range(4)))
def test_a_stretch_of_a_view_is_the_stretch_of_its_copy(start, length, axes) -> None:
    view = np.arange(120).reshape(2, 3, 4, 5).transpose(axes)
    stop = min(120, start + length)

    np.testing.assert_array_equal(flat_part(view, start, stop), np.ascontiguousarray(view).reshape(-1)[start:stop])
