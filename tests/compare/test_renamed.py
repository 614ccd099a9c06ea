"""Tensors that kept their elements and changed their names: what that means."""

from __future__ import annotations

import re

import numpy as np
import pytest
from comparisons import change, side, told
from hypothesis import given
from hypothesis import strategies as st
from tensor_sides import diffed, of_arrays, weights

from assay.compare.comparing import compare
from assay.compare.renamed import NAMES, ORDER, renamed_items
from assay.compare.sides import Options
from assay.spec.changes import Answer, Effect, Kinship, State

QUIET = Options(audit=False)


def stack(layers: list[int], seed: int = 7) -> dict[str, np.ndarray]:
    """A model whose layers are those of the given numbers of one and the same model."""
    found = {"embeddings.weight": weights(1, 40, 16)}
    for at, layer in enumerate(layers):
        for part in range(3):
            found[f"encoder.layer.{at}.part{part}.weight"] = weights(seed + 10 * layer + part, 16, 16)
    return found


def bert_side(label: str = "./m"):
    return side(label, metadata={"model_type": "bert"})


@given(st.permutations(range(5)))
def test_layers_in_another_order_are_the_same_weights_and_never_the_same_model(order: list[int]) -> None:
    found = compare(of_arrays(stack(list(range(5)))), of_arrays(stack(order)), QUIET)

    turned = order != sorted(order)
    assert {one.state for one in found.tensors} <= {State.EQUAL}
    assert found.behaves_differently is turned
    assert any(item.path.startswith(ORDER) for item in found.items) is turned
    if turned:
        assert found.kinship is Kinship.SAME_WEIGHTS
        assert "its layers in another order" in found.summary[0]


@pytest.mark.parametrize("kept", [[0, 2], [0, 2, 3], [1, 3], [0, 1, 1, 2, 3]], ids=str)
def test_layers_that_stayed_in_order_find_their_old_ones_whatever_their_numbers(kept: list[int]) -> None:
    found = compare(of_arrays(stack([0, 1, 2, 3])), of_arrays(stack(kept)), QUIET)

    assert not any(one.state is State.CHANGED for one in found.tensors)
    assert all(item.effect is Effect.NOTE for item in found.items if item.path.startswith(ORDER))
    assert found.summary[0].startswith("Built on")


def test_a_layer_that_was_made_anew_does_not_move_the_others() -> None:
    new = {**stack([0, 1, 2, 3]), **{f"encoder.layer.2.part{at}.weight": weights(900 + at, 16, 16) for at in range(3)}}

    found = diffed(stack([0, 1, 2, 3]), new)

    assert all(one.old.name == one.new.name for one in found.changes)
    assert {re.split(r"\.", one.name)[2] for one in found.changes if one.state is State.CHANGED} == {"2"}


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model."])
def test_names_that_a_library_looks_for_in_vain_can_change_what_is_loaded(prefix: str) -> None:
    changes = tuple(
        change(f"{prefix}{name}", was=name) for name in ("bert.encoder.layer.0.weight", "cls.predictions.bias")
    )

    (found,) = renamed_items(bert_side(), bert_side(), changes)

    assert (found.path, found.effect) == (NAMES, Effect.BEHAVIOUR)


@pytest.mark.parametrize(
    ("prefix", "names"),
    [
        ("bert.", ("encoder.layer.0.weight", "embeddings.weight")),
        ("model.", ("layers.0.weight", "embed_tokens.weight")),
        ("transformer.", ("h.0.weight", "wte.weight")),
    ],
)
def test_the_prefix_of_a_body_is_one_that_transformers_looks_through(prefix: str, names: tuple[str, ...]) -> None:
    changes = tuple(change(name, was=f"{prefix}{name}") for name in names)

    assert renamed_items(bert_side(), bert_side(), changes) == ()


def test_names_inside_a_file_of_weights_alone_are_left_to_its_caller() -> None:
    bare = side("a.pt", format="pytorch")

    assert renamed_items(bare, bare, (change("module.w", was="w"),)) == ()


def test_a_model_whose_weights_may_not_be_found_is_no_replacement_without_a_look() -> None:
    changes = (change("module.w", was="w"),)

    found = told(bert_side("a"), bert_side("b"), changes, renamed_items(bert_side(), bert_side(), changes))

    assert found.drop_in.answer is Answer.UNKNOWN
    assert "what loads it may not find them" in found.drop_in.reasons[0]
    assert found.kinship is Kinship.SAME_WEIGHTS
