"""The pytorch format against torch: what torch writes is described as torch itself reads it."""

from __future__ import annotations

import argparse
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.formats.pytorch.files import PyTorchFormat
from assay.spec.description import Description
from assay.spec.tensor import Extent, TensorSpec
from assay.trees import Tree
from assay.trees.window import FileSource

pytestmark = pytest.mark.framework
FORMAT = PyTorchFormat()


def described(file: Path) -> Description:
    tree = Tree({file.name: FileSource(file)})
    (group,) = FORMAT.detect(tree)
    return FORMAT.describe(tree, group)


def saved(tmp_path: Path, value: object, *, legacy: bool = False) -> tuple[Path, Description]:
    import torch

    file = tmp_path / "model.pt"
    torch.save(value, file, _use_new_zipfile_serialization=not legacy)
    return file, described(file)


def same_elements(file: Path, spec: TensorSpec, tensor: Any) -> None:
    """The bytes at the extent, seen with the description's strides, are torch's elements bit by bit."""
    import torch

    assert spec.shape == tuple(tensor.shape), spec.name
    width = tensor.element_size()
    expected = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
    assert isinstance(spec.extent, Extent), spec.name
    with file.open("rb") as handle:
        handle.seek(spec.extent.offset)
        raw = handle.read(spec.extent.length)
    if spec.strides is not None:
        elements = np.frombuffer(raw, f"V{width}")
        steps = [step * width for step in spec.strides]
        raw = np.ascontiguousarray(np.lib.stride_tricks.as_strided(elements, spec.shape, steps)).tobytes()
    assert raw == expected, spec.name


@pytest.mark.parametrize("legacy", [False, True])
def test_every_dtype_torch_saves_is_named_as_numpy_names_it(tmp_path: Path, legacy: bool) -> None:
    import torch

    names = [
        "float32", "float64", "float16", "bfloat16", "complex64", "complex128",
        "int8", "int16", "int32", "int64", "uint8", "bool",
    ]  # fmt: skip
    if not legacy:
        names += ["uint16", "uint32", "uint64", "complex32"]
        names += ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tensors = {name: torch.arange(6).reshape(2, 3).to(getattr(torch, name)) for name in names}
        file, found = saved(tmp_path, tensors, legacy=legacy)

    assert {spec.name: spec.dtype for spec in found.tensors} == {name: name for name in names}
    for spec in found.tensors:
        same_elements(file, spec, tensors[spec.name])
    assert not found.findings


@pytest.mark.parametrize("legacy", [False, True])
def test_views_of_one_storage_are_described_by_offset_and_strides(tmp_path: Path, legacy: bool) -> None:
    import torch

    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    views = {
        "base": base,
        "turned": base.T,
        "row": base[2],
        "column": base[:, 3],
        "steps": base[::2, 1::2],
        "spread": base[0].expand(3, 6),
        "one": base[3, 5],
        "none": base[0:0],
    }
    file, found = saved(tmp_path, views, legacy=legacy)

    for spec in found.tensors:
        same_elements(file, spec, views[spec.name])
    assert len(found.tensors) == len(views)
    assert not found.findings


def test_tensors_of_every_kind_are_listed(tmp_path: Path) -> None:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantized = torch.quantize_per_tensor(torch.ones(2, 2), 0.1, 0, torch.qint8)
        per_channel = torch.quantize_per_channel(
            torch.ones(2, 2), torch.tensor([0.1, 0.2]), torch.tensor([0, 0]), 0, torch.quint8
        )
        parameter = torch.nn.Parameter(torch.ones(3))
        parameter.note = "kept"  # type: ignore[attr-defined]  # saved by _rebuild_parameter_with_state
        value = {
            "sparse": torch.eye(3).to_sparse(),
            "csr": torch.eye(4).to_sparse_csr(),
            "quantized": quantized,
            "channels": per_channel,
            "meta": torch.empty(5, 6, device="meta"),
            "conjugate": torch.ones(2, dtype=torch.complex64).conj(),
            "parameter": parameter,
            "array": np.arange(3.0),
        }
        _, found = saved(tmp_path, value)

    shapes = {spec.name: (spec.dtype, spec.shape) for spec in found.tensors}
    assert shapes == {
        "sparse": ("float32", (3, 3)),
        "sparse.indices": ("int64", (2, 3)),
        "sparse.values": ("float32", (3,)),
        "csr": ("float32", (4, 4)),
        "csr.compressed_indices": ("int64", (5,)),
        "csr.plain_indices": ("int64", (4,)),
        "csr.values": ("float32", (4,)),
        "quantized": ("qint8", (2, 2)),
        "channels": ("quint8", (2, 2)),
        "channels.scales": ("float64", (2,)),
        "channels.zero_points": ("int64", (2,)),
        "meta": ("float32", (5, 6)),
        "conjugate": ("complex64", (2,)),
        "parameter": ("float32", (3,)),
        "array": ("float64", (3,)),
    }
    assert {finding.rule for finding in found.findings} == {"pytorch-no-data", "pytorch-lazy-elements"}
    assert found.complete


@pytest.mark.parametrize("legacy", [False, True])
def test_a_whole_module_has_the_names_of_its_state_dict(tmp_path: Path, legacy: bool) -> None:
    import torch

    encoder = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = torch.nn.Sequential(
        OrderedDict(embed=torch.nn.Embedding(10, 8), encoder=encoder, norm=torch.nn.BatchNorm1d(8))
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file, found = saved(tmp_path, model, legacy=legacy)

    expected = model.state_dict()
    assert [spec.name for spec in found.tensors] == list(expected)
    for spec in found.tensors:
        same_elements(file, spec, expected[spec.name])
    assert found.architecture == "Sequential"
    assert found.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert [part.name for part in found.components] == ["embed", "encoder", "norm"]
    assert found.components[0].kind == "torch.nn.modules.sparse.Embedding"
    assert found.components[0].hyperparameters["num_embeddings"] == 10
    assert found.complete


def test_a_training_checkpoint_is_told_apart_into_model_and_optimizer(tmp_path: Path) -> None:
    import torch

    model = torch.nn.Linear(4, 3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3)
    model(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    value = {
        "epoch": 7,
        "model_state_dict": model.state_dict(),
        "optimizer_state_dict": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "loss": torch.tensor(0.5),
        "args": argparse.Namespace(layers=2, name="tiny"),
        "rng_state": torch.get_rng_state(),
    }
    file, found = saved(tmp_path, value)

    assert found.parameters == 15
    assert found.metrics == {"loss": 0.5}
    assert found.metadata["epoch"] == 7
    assert found.hyperparameters["args"] == {"class": "argparse.Namespace", "layers": 2, "name": "tiny"}
    assert found.hyperparameters["optimizer_state_dict"]["lr"] == 0.01
    assert found.metadata["tensor_roles"]["optimizer"]["tensors"] == 6
    by_name = {spec.name: spec for spec in found.tensors}
    same_elements(file, by_name["model_state_dict.weight"], model.weight)
    same_elements(file, by_name["optimizer_state_dict.state.0.exp_avg"], optimizer.state[model.weight]["exp_avg"])


def test_a_tied_embedding_counts_once(tmp_path: Path) -> None:
    import torch

    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = torch.nn.Embedding(10, 4)
            self.head = torch.nn.Linear(4, 10, bias=False)
            self.head.weight = self.embed.weight

    model = Tied()
    _, found = saved(tmp_path, model.state_dict())

    assert found.parameters == 40
    assert found.metadata["tied_tensors"] == [["embed.weight", "head.weight"]]


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_pickle_protocol_is_read(tmp_path: Path, protocol: int, legacy: bool) -> None:
    import torch

    model = torch.nn.Linear(3, 4)
    file = tmp_path / "model.pt"
    torch.save(model.state_dict(), file, pickle_protocol=protocol, _use_new_zipfile_serialization=not legacy)
    found = described(file)

    assert [spec.name for spec in found.tensors] == ["weight", "bias"]
    for spec in found.tensors:
        same_elements(file, spec, model.state_dict()[spec.name])
    assert not found.findings


def test_a_tensor_alone_is_described(tmp_path: Path) -> None:
    import torch

    file, found = saved(tmp_path, torch.arange(5))

    assert [spec.name for spec in found.tensors] == ["tensor"]
    same_elements(file, found.tensors[0], torch.arange(5))
    assert found.metadata["kind"] == "tensor"


def test_the_packed_weights_of_a_quantized_model_belong_to_the_model(tmp_path: Path) -> None:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.ao.quantization.quantize_dynamic(torch.nn.Sequential(torch.nn.Linear(4, 4)))
        _, found = saved(tmp_path, model.state_dict())

    assert {spec.name: spec.dtype for spec in found.tensors} == {
        "0.scale": "float32",
        "0.zero_point": "int64",
        "0._packed_params._packed_params.0": "qint8",
        "0._packed_params._packed_params.1": "float32",
    }
    assert found.parameters == 21
    assert "tensor_roles" not in found.metadata


def test_a_list_of_state_dicts_is_numbered(tmp_path: Path) -> None:
    import torch

    _, found = saved(tmp_path, [torch.nn.Linear(2, 2).state_dict() for _ in range(2)])

    assert [spec.name for spec in found.tensors] == ["0.weight", "0.bias", "1.weight", "1.bias"]


def test_tensor_gives_the_bytes_torch_gives(tmp_path: Path) -> None:
    import torch

    value = {"turned": torch.arange(6, dtype=torch.bfloat16).reshape(2, 3).T, "plain": torch.arange(4)}
    file, found = saved(tmp_path, value)
    tree = Tree({file.name: FileSource(file)})

    for spec in found.tensors:
        expected = value[spec.name].contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        assert FORMAT.tensor(tree, spec) == expected


def test_a_traced_graph_module_has_the_names_of_its_state_dict(tmp_path: Path) -> None:
    import torch

    model = torch.fx.symbolic_trace(torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2)))
    file, found = saved(tmp_path, model)

    expected = model.state_dict()
    assert [spec.name for spec in found.tensors] == list(expected)
    for spec in found.tensors:
        same_elements(file, spec, expected[spec.name])
    assert found.architecture == "GraphModule"
    assert found.metadata["source_size"] == len(model.code)


def test_transformers_training_arguments_become_hyperparameters(tmp_path: Path) -> None:
    from transformers import TrainingArguments

    _, found = saved(tmp_path, TrainingArguments(output_dir=str(tmp_path), learning_rate=3e-5, report_to=[]))

    assert found.architecture is None
    assert found.hyperparameters["learning_rate"] == 3e-5
    assert found.hyperparameters["lr_scheduler_type"] == "linear"
    assert "transformers" in found.requirements
    assert found.tensors == ()
