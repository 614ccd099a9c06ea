"""Damaged and hostile files end in findings or errors that say so, never in a crash."""

from __future__ import annotations

import io
from functools import cache

import numpy as np
import pytest
import torch
from hostile_corpus import samples
from hypothesis import given, settings
from hypothesis import strategies as st
from tensor_sides import diffed, of_arrays, of_tree, safetensors, weights

from assay.compare.sides import Options
from assay.compare.tensors import compare_tensors
from assay.errors import AssayError
from assay.spec.changes import State
from assay.trees import Tree

OPTIONS = Options(histograms=True, workers=2)


@cache
def originals() -> dict[str, bytes]:
    tensors = {"a.weight": weights(1, 20, 30), "a.bias": weights(2, 30), "n": np.arange(5)}
    state = {name: torch.tensor(array) for name, array in tensors.items()}
    files = {"m.safetensors": safetensors(tensors)}
    for name, zipped in (("zip.pt", True), ("legacy.pt", False)):
        buffer = io.BytesIO()
        torch.save(state, buffer, _use_new_zipfile_serialization=zipped)
        files[name] = buffer.getvalue()
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **tensors)
    files["m.npz"] = buffer.getvalue()
    return files


@pytest.mark.parametrize("name", ["m.safetensors", "zip.pt", "legacy.pt", "m.npz"])
@given(
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6),
    st.floats(0.3, 1),
)
@settings(deadline=None, max_examples=60)
def test_damaged_files_are_compared_as_far_as_they_go(name, flips, kept) -> None:
    data = bytearray(originals()[name])
    for place, value in flips:
        data[int(place * len(data))] = value
    damaged = bytes(data[: int(len(data) * kept)])

    for old, new in ((originals()[name], damaged), (damaged, originals()[name]), (damaged, damaged)):
        try:
            found = compare_tensors(of_tree(Tree.of({name: old})), of_tree(Tree.of({name: new})), OPTIONS)
        except AssayError:
            continue
        unread = [change for change in found.changes if change.state is State.UNREADABLE]
        assert len(unread) == sum(finding.rule == "diff-unreadable-tensor" for finding in found.findings)


@pytest.mark.parametrize("sample", list(samples()), ids=lambda sample: sample.name)
def test_hostile_files_are_compared_without_harm(sample) -> None:
    side = of_tree(Tree.of(dict(sample.files)))

    for old, new in (
        (side, side),
        (side, of_arrays({"w": weights(1, 4, 4)})),
        (of_arrays({"w": weights(1, 4, 4)}), side),
    ):
        try:
            compare_tensors(old, new, OPTIONS)
        except AssayError:
            continue


def test_many_tensors_of_one_size_are_not_compared_each_with_each() -> None:
    old = {f"a-{at}x": weights(at, 70) for at in range(300)}
    new = {f"b-{at}y": weights(500 + at, 70) for at in range(300)}

    found = diffed(old, new)

    assert len(found.changes) == 600
