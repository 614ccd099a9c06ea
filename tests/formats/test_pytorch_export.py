"""torch.export, AOTInductor, torch.package and TorchServe archives: against torch, and archives that lie."""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
from damage import survives
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import NotFound
from assay.formats.pytorch.export import TorchExportFormat
from assay.formats.pytorch.files import PyTorchFormat
from assay.formats.pytorch.package import TorchPackageFormat, TorchServeFormat
from assay.ports.formats import Format
from assay.spec.description import Description, Port
from assay.spec.finding import Severity
from assay.spec.json import canonical
from assay.spec.tensor import TensorSpec
from assay.trees import Tree

EXPORT = TorchExportFormat()


def describe(form: Format, data: bytes) -> Description:
    tree = Tree.of({"model.pt2": data})
    (group,) = form.detect(tree)
    assert PyTorchFormat().detect(tree) == []
    found = form.describe(tree, group)
    canonical({**found.metadata, **found.hyperparameters})
    return found


def rules(found: Description) -> set[str]:
    return {finding.rule for finding in found.findings}


def archive(members: dict[str, bytes], prefix: str = "model/", *, compressed: bool = False) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as made:
        for name, data in members.items():
            made.writestr(prefix + name, data)
    return buffer.getvalue()


def meta(*sizes: object, dtype: int = 7, strides: tuple[int, ...] | None = None, offset: int = 0) -> dict[str, Any]:
    steps = strides if strides is not None else tuple(1 for _ in sizes)
    return {
        "dtype": dtype,
        "sizes": [size if isinstance(size, dict) else {"as_int": size} for size in sizes],
        "strides": [{"as_int": step} for step in steps],
        "storage_offset": {"as_int": offset},
    }


def program() -> dict[str, Any]:
    batch = {"as_expr": {"expr_str": "Add(Symbol('s0', positive=True, integer=True), Integer(1))"}}
    return {
        "graph_module": {
            "graph": {
                "inputs": [],
                "nodes": [
                    {
                        "target": "torch.ops.aten.mul.Tensor",
                        "metadata": {"nn_module_stack": "L__self__,,shop.Net;L__self__a,a,shop.Part"},
                    }
                ],
                "tensor_values": {"p_w": meta(3), "x": meta(batch, 3), "mul": meta(batch, 3)},
            },
            "signature": {
                "input_specs": [
                    {"parameter": {"arg": {"name": "p_w"}, "parameter_name": "w"}},
                    {"buffer": {"arg": {"name": "b_b"}, "buffer_name": "b", "persistent": True}},
                    {"user_input": {"arg": {"as_tensor": {"name": "x"}}}},
                    {"user_input": {"arg": {"as_int": 3}}},
                ],
                "output_specs": [{"user_output": {"arg": {"as_tensor": {"name": "mul"}}}}],
            },
        },
        "opset_version": {"aten": 10},
        "range_constraints": {"s0": {"min_val": 2, "max_val": None}},
        "schema_version": {"major": 8, "minor": 20},
        "torch_version": "2.13.0",
    }


def members(**weights: dict[str, Any]) -> dict[str, bytes]:
    payloads = weights or {
        "w": {"path_name": "weight_0", "is_param": True, "use_pickle": False, "tensor_meta": meta(3)},
        "b": {"path_name": "weight_1", "is_param": False, "use_pickle": False, "tensor_meta": meta(2, dtype=5)},
    }
    return {
        "archive_format": b"pt2",
        "archive_version": b"0",
        "models/model.json": json.dumps(program()).encode(),
        "data/weights/model_weights_config.json": json.dumps({"config": payloads}).encode(),
        "data/weights/weight_0": bytes(range(12)),
        "data/weights/weight_1": bytes(16),
    }


def test_a_program_gives_signature_weights_and_versions() -> None:
    found = describe(EXPORT, archive(members()))

    assert found.inputs == (Port("x", "float32", ("Add(s0, 1)", 3)),)
    assert found.outputs == (Port("mul", "float32", ("Add(s0, 1)", 3)),)
    assert [(spec.name, spec.dtype, spec.shape) for spec in found.tensors] == [
        ("w", "float32", (3,)),
        ("b", "int64", (2,)),
    ]
    assert found.parameters == 3, "a buffer is not a parameter"
    assert (found.format_version, found.framework_version, found.architecture) == ("8.20", "2.13.0", "Net")
    assert [(part.name, part.kind) for part in found.components] == [("a", "shop.Part")]
    assert found.metadata["opsets"] == {"aten": 10}
    assert found.metadata["symbols"] == {"s0": [2, None]}
    assert found.metadata["ops"] == {"torch.ops.aten.mul.Tensor": 1}
    assert not found.findings


def test_deflated_weights_have_no_extent_but_can_be_read() -> None:
    data = archive(members(), compressed=True)
    weight = describe(EXPORT, data).tensors[0]

    assert weight.extent is None
    assert EXPORT.tensor(Tree.of({"m.pt2": data}), weight) == bytes(range(12))
    with pytest.raises(NotFound):
        EXPORT.tensor(Tree.of({"m.pt2": data}), TensorSpec("w", "float32", (4,)))


@pytest.mark.parametrize(
    ("payload", "rule"),
    [
        ({"path_name": "weight_0", "tensor_meta": meta(4)}, "torch-export-view-outside"),
        ({"path_name": "weight_0", "tensor_meta": meta(3, offset=1)}, "torch-export-view-outside"),
        ({"path_name": "../../weight", "tensor_meta": meta(3)}, "torch-export-missing-storage"),
        ({"path_name": "weight_0", "tensor_meta": meta(3, dtype=99)}, "torch-export-config"),
        ({"path_name": "weight_0", "tensor_meta": meta(-1)}, "torch-export-config"),
        ({"path_name": "weight_0", "tensor_meta": meta(1 << 70)}, "torch-export-config"),
        ({"path_name": "weight_0", "tensor_meta": meta(1 << 59, 1 << 59)}, "torch-export-config"),
        ({"path_name": "weight_0", "tensor_meta": meta(3, strides=(1, 1))}, "torch-export-config"),
        ({"path_name": "weight_0", "use_pickle": True}, "torch-export-weights"),
    ],
)
def test_weights_that_lie_are_reported(payload: dict[str, Any], rule: str) -> None:
    found = describe(EXPORT, archive(members(w=payload)))

    assert rules(found) == {rule}
    assert all(spec.extent is None for spec in found.tensors)


def test_compiled_code_and_pickled_objects_are_reported() -> None:
    extra = {"data/aotinductor/model/net.so": b"\x7fELF", "data/constants/custom_obj_0": b"\x80\x02N."}

    found = describe(EXPORT, archive({**members(), **extra}))

    assert {(item.rule, item.severity) for item in found.findings} == {
        ("torch-export-native-code", Severity.EXECUTE),
        ("torch-export-custom-object", Severity.EXECUTE),
    }
    assert found.metadata["compiled"] == ["model/data/aotinductor/model/net.so"]


def test_a_damaged_program_does_not_hide_the_weights() -> None:
    found = describe(EXPORT, archive({**members(), "models/model.json": b"{"}))

    assert len(found.tensors) == 2
    assert rules(found) == {"torch-export-program"}
    assert not found.complete


SAMPLE = archive(members())


@settings(max_examples=150, deadline=None)
@given(
    edits=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=8),
    cut=st.none() | st.integers(0, 4000),
)
def test_mutated_archives_only_ever_give_descriptions_or_our_errors(
    edits: list[tuple[int, int]], cut: int | None
) -> None:
    data = bytearray(SAMPLE)
    for position, value in edits:
        data[position % len(data)] = value
    survives(EXPORT, bytes(data[:cut]), "m.pt2")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_programs_of_any_shape_only_ever_give_descriptions_or_our_errors(data: st.DataObject) -> None:
    document = program()
    holder: Any = document
    for _ in range(data.draw(st.integers(0, 5))):
        keys = (
            list(holder) if isinstance(holder, dict) else list(range(len(holder))) if isinstance(holder, list) else []
        )
        if not keys:
            break
        key = data.draw(st.sampled_from(keys))
        if not isinstance(holder[key], (dict, list)) or data.draw(st.booleans()):
            holder[key] = data.draw(JSON_VALUES)
            break
        holder = holder[key]
    found = describe(EXPORT, archive({**members(), "models/model.json": json.dumps(document).encode()}))

    assert len(found.tensors) == 2


@pytest.mark.framework
@pytest.mark.parametrize("layout", ["new", "old"])
def test_what_torch_exports_is_described_as_torch_says(tmp_path: Path, layout: str) -> None:
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(3, 4)
            self.norm = torch.nn.BatchNorm1d(4)
            self.turned = torch.nn.Parameter(torch.arange(8.0).reshape(2, 4).T)

        def forward(self, x: torch.Tensor, scale: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            y = self.norm(self.linear(x)) * scale
            return y, y @ self.turned

    net = Net().eval()
    shapes = ({0: torch.export.Dim("batch")}, None)
    exported = torch.export.export(net, (torch.ones(5, 3), torch.ones(4)), dynamic_shapes=shapes)
    file = tmp_path / "net.pt2"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that the turned parameter is a view
        torch.export.save(exported, file)
    if layout == "old":
        file = _older(file, exported, tmp_path)
    data = file.read_bytes()
    found = describe(EXPORT, data)

    state = exported.state_dict
    tree = Tree.of({"model.pt2": data})
    specs = {spec.name: spec for spec in found.tensors}
    assert specs.keys() == state.keys()
    for name, value in state.items():
        raw = value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        assert specs[name].shape == tuple(value.shape)
        assert specs[name].extent is not None
        assert EXPORT.tensor(tree, specs[name]) == raw
    assert found.parameters == sum(parameter.numel() for parameter in net.parameters())
    assert [(port.name, port.dtype, (port.shape or ())[1:]) for port in found.inputs] == [
        ("x", "float32", (3,)),
        ("scale", "float32", ()),
    ]
    assert isinstance((found.inputs[0].shape or ())[0], str)
    assert [(port.shape or ())[1] for port in found.outputs] == [4, 2]
    assert found.framework_version == torch.__version__
    assert found.architecture == "Net"
    assert {part.name for part in found.components} == {"linear", "norm"}
    assert found.complete


def _older(file: Path, exported: Any, folder: Path) -> Path:
    """The same program in the layout of torch 2.7, made of the pieces of the new one."""
    import torch

    def packed(value: object) -> bytes:
        buffer = io.BytesIO()
        torch.save(value, buffer)
        return buffer.getvalue()

    with zipfile.ZipFile(file) as new:
        (name,) = [name for name in new.namelist() if name.endswith("models/model.json")]
        document = new.read(name)
    older = folder / "older.pt2"
    pieces = {
        "version": b"8.20",
        "serialized_exported_program.json": document,
        "serialized_state_dict.pt": packed(exported.state_dict),
        "serialized_constants.pt": packed({}),
        "serialized_example_inputs.pt": packed(exported.example_inputs),
    }
    older.write_bytes(archive(pieces, prefix=""))
    return older


@pytest.mark.framework
def test_a_torch_package_lists_its_weights_and_says_that_it_ships_source(tmp_path: Path) -> None:
    import torch
    from torch.package import PackageExporter

    file = tmp_path / "package.pt"
    model = torch.nn.Linear(3, 4)
    with warnings.catch_warnings(), PackageExporter(str(file)) as exporter:
        warnings.simplefilter("ignore")  # torch uses what it deprecates
        exporter.extern(["torch.**", "collections", "builtins"])
        exporter.save_source_string("shop.nets", "X = 1\n")
        exporter.save_pickle("model", "model.pkl", model)
    found = describe(TorchPackageFormat(), file.read_bytes())

    assert [(spec.name, spec.shape) for spec in found.tensors] == [("weight", (4, 3)), ("bias", (4,))]
    extent = found.tensors[0].extent
    assert extent is not None
    raw = file.read_bytes()[extent.offset : extent.offset + extent.length]
    assert raw == model.weight.detach().numpy().tobytes()
    assert [(item.rule, item.severity) for item in found.findings] == [("torch-package-source", Severity.EXECUTE)]
    assert found.metadata["pickles"] == ["model/model.pkl"]
    assert "torch" in found.metadata["extern_modules"]


def test_a_torchserve_archive_gives_its_manifest_and_says_that_it_ships_source() -> None:
    manifest = {
        "runtime": "python",
        "archiverVersion": "0.9",
        "model": {"modelName": "net", "handler": "h.py", "serializedFile": "w.pt"},
    }
    weights = archive({"data.pkl": b"\x80\x02}.", "version": b"3\n"}, "w/")
    found = describe(
        TorchServeFormat(),
        archive({"MAR-INF/MANIFEST.json": json.dumps(manifest).encode(), "h.py": b"", "w.pt": weights}, prefix=""),
    )

    assert found.metadata["name"] == "net"
    assert found.format_version == "0.9"
    assert rules(found) == {"torchserve-source"}


def test_a_damaged_manifest_is_incomplete() -> None:
    found = describe(TorchServeFormat(), archive({"MAR-INF/MANIFEST.json": b"[", "h.py": b""}, prefix=""))

    assert rules(found) == {"torchserve-source", "torchserve-manifest"}
    assert not found.complete
