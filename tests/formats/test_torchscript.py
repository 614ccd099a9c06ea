"""The torchscript format: against torch, on real models, and on archives that lie."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from damage import survives
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import NotFound
from assay.formats.pytorch.files import PyTorchFormat
from assay.formats.pytorch.script import TorchScriptFormat
from assay.formats.pytorch.script_code import Script, add_source, plain_class
from assay.spec.description import Description, Port
from assay.spec.json import canonical
from assay.spec.tensor import TensorSpec
from assay.trees import Tree
from assay.trees.window import FileSource

FORMAT = TorchScriptFormat()

SOURCE = """class Net(Module):
  __parameters__ = ["weight", ]
  __buffers__ = ["mean", ]
  weight : Tensor
  mean : Tensor
  training : bool
  inner : __torch__.shop.___torch_mangle_3.Inner
  size : Final[int] = 3
  rate : Final[float] = 0.5
  def forward(self: __torch__.shop.Net,
    x: Tensor,
    pair: Tuple[int, Dict[str, Tensor]]=(1, {}),
    flag: bool=True) -> Tuple[Tensor, int]:
    y = torch.add(torch.linear(x, self.weight), self.mean)
    return (y, ops.prim.len(x))
  def other(self: __torch__.shop.Net) -> int:
    return 3
def helper(x: Tensor) -> Tensor:
  return torch.relu(x)
"""


def tensor(key: bytes, size: int) -> bytes:
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x00" + key
    storage += b"X\x03\x00\x00\x00cpuK" + bytes([size]) + b"tQ"
    hooks = b"ccollections\nOrderedDict\n)R"
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00(K" + bytes([size]) + b"t(K\x01t\x89" + hooks + b"tR"
    )


def script(**members: bytes) -> bytes:
    root = b"c__torch__.shop\nNet\n)\x81}(X\x06\x00\x00\x00weight" + tensor(b"0", 2) + b"X\x04\x00\x00\x00mean"
    root += tensor(b"1", 3) + b"ub"
    found = {
        "data.pkl": b"\x80\x02" + root + b".",
        "constants.pkl": b"\x80\x02(" + tensor(b"0", 1) + b"t.",
        "constants/0": b"\0\0\x80?",
        "data/0": bytes(8),
        "data/1": bytes(12),
        "code/__torch__/shop.py": SOURCE.encode(),
        "version": b"3\n",
        **members,
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in found.items():
            if data != b"-":
                method = zipfile.ZIP_DEFLATED if name.startswith("code/") else zipfile.ZIP_STORED
                archive.writestr(f"net/{name}", data, method)
    return buffer.getvalue()


def describe(data: bytes) -> Description:
    tree = Tree.of({"net.pt": data})
    (group,) = FORMAT.detect(tree)
    found = FORMAT.describe(tree, group)
    canonical({**found.metadata, **found.hyperparameters})
    return found


def test_source_gives_parameters_constants_and_the_signature_of_forward() -> None:
    read = Script()
    add_source(read, "__torch__.shop", SOURCE)

    net = read.classes["__torch__.shop.Net"]

    assert net.parameters == {"weight"}
    assert net.buffers == {"mean"}
    assert net.constants == {"size": 3, "rate": 0.5}
    assert net.arguments == [("x", "Tensor"), ("pair", "Tuple[int, Dict[str, Tensor]]"), ("flag", "bool")]
    assert net.returns == "Tuple[Tensor, int]"
    assert net.methods == ["forward", "other"]
    assert read.operators == {"torch.add": 1, "torch.linear": 1, "torch.relu": 1, "ops.prim.len": 1}
    assert plain_class("__torch__.shop.___torch_mangle_3.Inner") == "shop.Inner"


def test_an_archive_gives_tensors_signature_constants_and_ops() -> None:
    found = describe(script())

    assert [(spec.name, spec.shape) for spec in found.tensors] == [
        ("weight", (2,)),
        ("mean", (3,)),
        ("CONSTANTS.0", (1,)),
    ]
    assert found.parameters == 2, "neither buffers nor constants are parameters"
    assert found.architecture == "Net"
    assert [port.name for port in found.inputs] == ["x", "pair", "flag"]
    assert found.outputs == (Port("output", "Tuple[Tensor, int]"),)
    assert found.format_version == "3"
    assert found.metadata["code_size"] == len(SOURCE)
    assert not found.findings
    assert "tied_tensors" not in found.metadata, "weights and constants number their storages apart"


def test_the_pytorch_format_does_not_claim_a_script() -> None:
    assert PyTorchFormat().detect(Tree.of({"net.pt": script()})) == []


def test_a_lite_archive_is_flagged() -> None:
    found = describe(script(**{"bytecode.pkl": b"\x80\x02)."}))

    assert found.metadata["lite"] is True
    assert [finding.rule for finding in found.findings] == ["torchscript-lite"]


def test_an_archive_without_code_is_incomplete() -> None:
    found = describe(script(**{"code/__torch__/shop.py": b"-"}))

    assert "torchscript-no-code" in {finding.rule for finding in found.findings}
    assert len(found.tensors) == 3


def test_damaged_constants_do_not_hide_the_weights() -> None:
    found = describe(script(**{"constants.pkl": b"\xff\xff"}))

    assert [spec.name for spec in found.tensors] == ["weight", "mean"]
    assert [finding.rule for finding in found.findings] == ["torchscript-constants"]


def test_the_layout_of_the_first_releases_is_recognised() -> None:
    found = describe(script(**{"data.pkl": b"-", "constants.pkl": b"-", "model.json": b"{}", "tensors/0": bytes(8)}))

    assert [finding.rule for finding in found.findings] == ["torchscript-old-layout"]
    assert found.metadata["tensor_bytes"] == 8
    assert not found.complete


def test_long_lines_and_open_signatures_end() -> None:
    read = Script()
    add_source(
        read, "m", "class A(Module):\n  def forward(self, " + "x: Tensor, " * 100_000 + "\n" + "    y: int,\n" * 100_000
    )

    assert read.classes["m.A"].arguments == []


@settings(max_examples=150, deadline=None)
@given(
    edits=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=8),
    cut=st.none() | st.integers(0, 4000),
)
def test_mutated_archives_only_ever_give_descriptions_or_our_errors(
    edits: list[tuple[int, int]], cut: int | None
) -> None:
    data = bytearray(script())
    for position, value in edits:
        data[position % len(data)] = value
    survives(FORMAT, bytes(data[:cut]), "net.pt")


def described(file: Path) -> Description:
    tree = Tree({file.name: FileSource(file)})
    (group,) = FORMAT.detect(tree)
    return FORMAT.describe(tree, group)


def same_elements(file: Path, found: Description, expected: dict[str, Any]) -> None:
    import torch

    specs = {spec.name: spec for spec in found.tensors}
    assert expected.keys() <= specs.keys()
    tree = Tree({file.name: FileSource(file)})
    for name, value in expected.items():
        raw = value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        assert specs[name].shape == tuple(value.shape)
        assert FORMAT.tensor(tree, specs[name]) == raw, name


@pytest.mark.framework
@pytest.mark.parametrize("way", ["script", "trace", "freeze"])
def test_what_torch_saves_is_described_as_torch_loads_it(tmp_path: Path, way: str) -> None:
    import torch

    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU()).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = torch.jit.trace(model, torch.ones(1, 3, 8, 8)) if way == "trace" else torch.jit.script(model)
        made = torch.jit.freeze(made) if way == "freeze" else made
        file = tmp_path / "net.pt"
        made.save(str(file))
    found = described(file)

    if way == "freeze":
        assert found.parameters == sum(spec.size for spec in found.tensors if spec.dtype == "float32")
        assert all(spec.name.startswith("CONSTANTS.") for spec in found.tensors)
    else:
        same_elements(file, found, dict(model.state_dict()))
        assert found.parameters == sum(parameter.numel() for parameter in model.parameters())
        assert [part.kind.rpartition(".")[2] for part in found.components] == ["Conv2d", "BatchNorm2d", "ReLU"]
    assert [port.name for port in found.inputs] == ["input"]
    assert found.metadata["traced"] is (way == "trace")
    assert found.complete


@pytest.mark.real
@pytest.mark.framework
@pytest.mark.parametrize(
    ("package", "digest"), [("silero-vad==5.1.2", "85c48e1f0ecb"), ("silero-vad==6.0.0", "b178b4bc3946")]
)
def test_a_real_voice_detector_is_described_without_running_it(
    real_model: Callable[[str, str, str], Path], package: str, digest: str
) -> None:
    import torch

    file = real_model(package, "silero_vad/data/silero_vad.jit", digest)
    found = described(file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.jit.load(str(file), map_location="cpu")
    state = dict(model.state_dict())

    assert len(state) == 30
    same_elements(file, found, state)
    assert found.architecture == "VADRNNJITMerge"
    assert found.inputs == (Port("x", "tensor"), Port("sr", "int"))
    assert found.outputs == (Port("output", "tensor"),)
    assert found.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert found.hyperparameters["sample_rates"] == [8000, 16000]
    assert found.complete


def test_a_tensor_nobody_holds_is_not_found() -> None:
    with pytest.raises(NotFound):
        FORMAT.tensor(Tree.of({"net.pt": script()}), TensorSpec("nothing", "float32", (1,)))
