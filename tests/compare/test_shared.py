"""Weights under two names, and integers that stand for weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tensor_sides import diffed, of_path, weights

from assay.compare.comparing import compare
from assay.compare.sides import Options
from assay.spec.changes import Answer, Kinship, Match, State

QUIET = Options(audit=False)


@pytest.fixture
def tied(tmp_path: Path) -> tuple[Path, Path]:
    """One model twice: as torch keeps it, its embeddings under two names, and as safetensors does, under one."""
    embeddings = torch.from_numpy(weights(1, 40, 16))
    body = {"body.weight": torch.from_numpy(weights(2, 16, 16))}
    torch.save({"emb.weight": embeddings, **body, "head.weight": embeddings}, tmp_path / "tied.pt")
    save_file({"emb.weight": embeddings, **body}, tmp_path / "once.safetensors")
    return tmp_path / "tied.pt", tmp_path / "once.safetensors"


@pytest.mark.framework
@pytest.mark.parametrize("turned", [False, True], ids=["gone", "come"])
def test_a_second_name_of_tied_weights_is_no_weight_that_came_or_went(tied, turned: bool) -> None:
    sides = [of_path(path) for path in (reversed(tied) if turned else tied)]

    found = compare(sides[0], sides[1], QUIET)

    assert found.states == {State.EQUAL: 3}
    assert found.kinship is Kinship.SAME_MODEL
    assert not found.behaves_differently
    assert "one of them is a second name of tied weights" in " ".join(found.summary)
    assert found.drop_in.answer is Answer.NO  # code that loads a file of weights alone looks for every name


@pytest.mark.framework
def test_a_copy_that_has_a_storage_of_its_own_is_a_weight_that_was_added(tmp_path: Path) -> None:
    embeddings = torch.from_numpy(weights(1, 40, 16))
    torch.save({"emb.weight": embeddings}, tmp_path / "a.pt")
    torch.save({"emb.weight": embeddings, "head.weight": embeddings.clone()}, tmp_path / "b.pt")

    found = compare(of_path(tmp_path / "a.pt"), of_path(tmp_path / "b.pt"), QUIET)

    assert found.states == {State.EQUAL: 1, State.ADDED: 1}
    assert found.behaves_differently


@pytest.mark.parametrize("transposed", [False, True])
def test_integers_that_follow_the_old_weights_are_found_whatever_their_names(transposed: bool) -> None:
    old = {f"f{at}.weight": weights(at, 32, 24) for at in range(3)}
    new = {}
    for name, array in old.items():
        scale = np.abs(array).max() / 127
        stored = np.round(array / scale).astype(np.int8)
        new[f"{name}_quantized"] = np.ascontiguousarray(stored.T) if transposed else stored
        new[f"{name}_scale"] = np.float32(scale).reshape(1)

    found = diffed(old, new)

    recast = {change.new.name: change for change in found.changes if change.state is State.RECAST}
    assert {change.old.name: name for name, change in recast.items()} == {name: f"{name}_quantized" for name in old}
    assert {change.match for change in recast.values()} == {Match.CONTENT}


def test_integers_that_follow_nothing_find_no_partner() -> None:
    old = {"f.weight": weights(1, 32, 24)}
    new = {"g.stored": np.random.default_rng(5).integers(-127, 127, (32, 24)).astype(np.int8)}

    assert {change.state for change in diffed(old, new).changes} == {State.ADDED, State.REMOVED}


@pytest.mark.framework
def test_with_a_head_that_was_taken_away_goes_its_name_for_the_embeddings(tmp_path: Path) -> None:
    embeddings, bias = torch.from_numpy(weights(1, 40, 16)), torch.from_numpy(weights(3, 40))
    torch.save({"emb.weight": embeddings, "cls.weight": embeddings, "cls.bias": bias}, tmp_path / "a.pt")
    torch.save({"emb.weight": embeddings}, tmp_path / "b.pt")

    found = compare(of_path(tmp_path / "a.pt"), of_path(tmp_path / "b.pt"), QUIET)

    assert found.states == {State.EQUAL: 1, State.REMOVED: 2}


@pytest.mark.framework
def test_complex_numbers_are_held_against_plain_ones_without_a_crash(tmp_path: Path) -> None:
    torch.save({"w": torch.randn(8, 8, dtype=torch.complex64)}, tmp_path / "a.pt")
    save_file({"w": torch.randn(8, 8)}, tmp_path / "b.safetensors")

    found = compare(of_path(tmp_path / "a.pt"), of_path(tmp_path / "b.safetensors"), QUIET)

    assert not found.complete
    assert [one.reason for one in found.tensors] == ["complex numbers and plain ones cannot be compared"]
