"""The same tensors in other containers: byte order, strides, compression, quantised blocks, far files."""

from __future__ import annotations

import io
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf import quants
from tensor_sides import of_arrays, of_path, of_tree, weights

from assay.artifact.elements import ArrayElements
from assay.compare.quantised import BLOCK_TYPES, BlockElements, round_trip
from assay.compare.sides import Options
from assay.compare.tensors import compare_tensors
from assay.errors import BadFormat
from assay.spec.changes import State
from assay.spec.finding import Severity
from assay.trees import Tree


def states(found) -> dict[str, State]:
    return {change.name: change.state for change in found.changes}


def stored(array: np.ndarray, *, compressed: bool = False) -> Tree:
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, w=array)
    return Tree.of({"m.npz": buffer.getvalue()})


@pytest.mark.parametrize(
    "array",
    [weights(1, 40, 30).astype(">f4"), np.asfortranarray(weights(1, 40, 30))],
    ids=["big-endian", "fortran"],
)
def test_byte_order_and_strides_are_no_difference(array) -> None:
    found = compare_tensors(of_tree(stored(array)), of_arrays({"w": weights(1, 40, 30)}), Options())

    assert states(found) == {"w": State.EQUAL}


def test_a_compressed_tensor_is_compared_with_a_plain_one() -> None:
    found = compare_tensors(
        of_tree(stored(weights(1, 400, 30), compressed=True)), of_arrays({"w": weights(1, 400, 30)}), Options()
    )

    assert states(found) == {"w": State.EQUAL}


def test_both_layouts_of_torch_and_safetensors_hold_the_same(tmp_path: Path) -> None:
    tensors = {"a.weight": weights(1, 40, 30), "a.bias": weights(2, 40), "n": np.array(3, np.int64)}
    state = {name: torch.tensor(array) for name, array in tensors.items()}
    state["a.weight"] = state["a.weight"].t().contiguous().t()
    torch.save(state, tmp_path / "zip.pt")
    torch.save(state, tmp_path / "legacy.pt", _use_new_zipfile_serialization=False)

    for name in ("zip.pt", "legacy.pt"):
        found = compare_tensors(of_path(tmp_path / name), of_arrays(tensors), Options())
        assert set(states(found).values()) == {State.EQUAL}, name


def test_tensors_that_share_a_storage_are_each_compared(tmp_path: Path) -> None:
    tied = torch.tensor(weights(1, 20, 8))
    torch.save({"embed.weight": tied, "head.weight": tied}, tmp_path / "tied.pt")
    plain = {"embed.weight": weights(1, 20, 8), "head.weight": weights(1, 20, 8)}

    found = compare_tensors(of_path(tmp_path / "tied.pt"), of_arrays(plain), Options())

    assert states(found) == {"embed.weight": State.EQUAL, "head.weight": State.EQUAL}


def test_an_expanded_tensor_of_no_end_is_told_and_not_walked(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(1).expand(1 << 20, 1 << 20)}, tmp_path / "wide.pt")
    torch.save({"w": torch.ones(1).expand(1 << 20, 1 << 20)}, tmp_path / "other.pt")

    found = compare_tensors(of_path(tmp_path / "wide.pt"), of_path(tmp_path / "other.pt"), Options())

    assert states(found) == {"w": State.UNREADABLE}
    assert [finding.severity for finding in found.findings] == [Severity.INCOMPLETE]


def written(path: Path, tensors: dict[str, tuple[np.ndarray, str]]) -> Path:
    """A GGUF file: tensors with the type they are stored as."""
    writer = gguf.GGUFWriter(path, "llama")
    for name, (array, kind) in tensors.items():
        quantised = gguf.GGMLQuantizationType[kind]
        writer.add_tensor(name, quants.quantize(array, quantised), raw_dtype=quantised)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_a_quantised_model_is_a_recast_of_its_source_and_the_cast_explains_it(kind, tmp_path: Path) -> None:
    source = {"model.layers.0.mlp.up_proj.weight": weights(1, 64, 256)}
    file = written(tmp_path / "q.gguf", {"blk.0.ffn_up.weight": (weights(1, 64, 256), kind)})

    (change,) = compare_tensors(of_arrays(source), of_path(file), Options()).changes

    assert change.state is State.RECAST
    assert 0 < change.numbers.relative_l2 < 0.12
    assert change.numbers.relative_l2 == pytest.approx(change.numbers.cast_error, rel=1e-4)


def test_the_numbers_of_a_quantised_model_are_exact(tmp_path: Path) -> None:
    file = written(tmp_path / "q.gguf", {"w": (weights(1, 64, 256), "Q4_1")})
    kind = gguf.GGMLQuantizationType.Q4_1
    plain = quants.dequantize(quants.quantize(weights(1, 64, 256), kind), kind)

    (change,) = compare_tensors(of_path(file), of_arrays({"w": plain}), Options()).changes

    assert (change.state, change.numbers.relative_l2, change.numbers.cast_error) == (State.RECAST, 0, 0)


def test_quantised_rows_of_attention_heads_are_found_interleaved(tmp_path: Path) -> None:
    query = weights(1, 64, 96)
    stored_rows = query.reshape(4, 2, 8, 96).swapaxes(1, 2).reshape(64, 96)  # as conversion to GGUF does
    file = written(tmp_path / "q.gguf", {"blk.0.attn_q.weight": (np.ascontiguousarray(stored_rows), "Q8_0")})
    source = {"model.layers.0.self_attn.q_proj.weight": query}

    for old, new in ((of_arrays(source), of_path(file)), (of_path(file), of_arrays(source))):
        (change,) = compare_tensors(old, new, Options()).changes
        assert change.transform == "heads interleaved"
        assert change.numbers.relative_l2 < 0.01


def test_two_quantised_models_of_one_kind_are_compared_by_their_numbers(tmp_path: Path) -> None:
    old = written(tmp_path / "old.gguf", {"a": (weights(1, 8, 64), "Q8_0"), "b": (weights(2, 8, 64), "Q8_0")})
    new = written(tmp_path / "new.gguf", {"a": (weights(1, 8, 64), "Q8_0"), "b": (weights(3, 8, 64), "Q8_0")})

    found = compare_tensors(of_path(old), of_path(new), Options())

    assert states(found) == {"a": State.EQUAL, "b": State.CHANGED}
    assert found.changes[1].numbers.relative_l2 > 1


@pytest.mark.parametrize("name", sorted(BLOCK_TYPES))
def test_blocks_are_decoded_as_the_gguf_package_does(name) -> None:
    kind = BLOCK_TYPES[name]
    number = gguf.GGMLQuantizationType[name.upper()]
    raw = np.random.default_rng(1).integers(0, 256, (6, 4 * kind.nbytes), np.uint8)
    scales = [208] if name == "q6_k" else [0, 2] if name[-1] in "1k" else [0]
    blocks = raw.reshape(-1, kind.nbytes)
    for at in scales:  # random bits may be no number
        blocks[:, at : at + 2] = np.frombuffer(np.float16(0.013).tobytes(), np.uint8)
    wanted = quants.dequantize(raw, number)
    elements = BlockElements(ArrayElements(raw.reshape(-1)), wanted.shape, kind)

    np.testing.assert_array_equal(elements.grid(), wanted)
    at = np.array([0, 5, wanted.size - 1, kind.elements + 3])
    np.testing.assert_array_equal(elements.pick(at), wanted.reshape(-1)[at])
    np.testing.assert_array_equal(
        elements.stretch(3, 3 * kind.elements - 1), wanted.reshape(-1)[3 : 3 * kind.elements - 1]
    )


@pytest.mark.parametrize("name", [name for name, kind in BLOCK_TYPES.items() if kind.round_trip])
def test_storing_in_blocks_loses_what_the_gguf_package_loses(name) -> None:
    number = gguf.GGMLQuantizationType[name.upper()]
    numbers = np.concatenate([weights(1, 6, 64), np.zeros((2, 64), np.float32)])

    left = round_trip(BLOCK_TYPES[name], numbers.reshape(-1))

    np.testing.assert_array_equal(
        left.reshape(numbers.shape), quants.dequantize(quants.quantize(numbers, number), number)
    )


def test_bytes_that_are_not_the_blocks_of_a_shape_are_refused() -> None:
    with pytest.raises(BadFormat):
        BlockElements(ArrayElements(np.zeros(33, np.uint8)), (32,), BLOCK_TYPES["q8_0"])


def test_what_cannot_be_read_as_numbers_is_equal_or_told(tmp_path: Path) -> None:
    first = np.array([(1, 2.0)] * 5, dtype=[("a", "<i4"), ("b", "<f8")])
    second = first.copy()
    second["a"][2] = 7

    same = compare_tensors(of_tree(stored(first)), of_tree(stored(first)), Options())
    other = compare_tensors(of_tree(stored(first)), of_tree(stored(second)), Options())

    assert states(same) == {"w": State.EQUAL}
    assert states(other) == {"w": State.UNREADABLE}
    assert [finding.rule for finding in other.findings] == ["diff-unreadable-tensor"]
