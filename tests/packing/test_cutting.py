"""Where blobs are cut."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.packing.codec import OPAQUE, WORDS, Words
from assay.packing.cutting import COARSE, FINE, LEAST, cut
from assay.ports.packs import Stretch
from assay.trees.window import MemorySource


def pieces(blob: bytes, tensors: Sequence[Stretch] = ()) -> list[tuple[int, int, str]]:
    """(offset, length, name) of each piece; they cover the blob, and hold its bytes where they hold any."""
    found, at = [], 0
    for piece in cut(MemorySource(blob), tensors):
        assert piece.offset == at
        assert piece.length > 0
        assert piece.raw is None or piece.raw.tobytes() == blob[at : at + piece.length]
        at += piece.length
        found.append((piece.offset, piece.length, piece.hint.name if piece.hint else ""))
    assert at == len(blob)
    return found


def named(blob: bytes, tensors: Sequence[Stretch]) -> list[str]:
    return [name for *_, name in pieces(blob, tensors) if name]


def text(size: int, seed: int = 0) -> bytes:
    chance = random.Random(seed)
    words = [f"word{number}" for number in range(4000)]
    found = " ".join(chance.choice(words) for _ in range(size // 6))
    return found.encode()[:size].ljust(size, b".")


def weights(count: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).normal(0, 0.02, count).astype("<f4").tobytes()


def contents(blob: bytes) -> set[bytes]:
    return {blob[offset : offset + length] for offset, length, _ in pieces(blob)}


def test_tensors_are_pieces_of_their_own() -> None:
    blob = b"head" + weights(1000, 1) + b"between" + weights(2000, 2) + b"tail"
    tensors = [Stretch(4011, 8000, "second", "float32"), Stretch(4, 4000, "first", "float32")]
    assert pieces(blob, tensors) == [
        (0, 4, ""), (4, 4000, "first"), (4004, 7, ""), (4011, 8000, "second"), (12011, 4, ""),
    ]  # fmt: skip


def test_what_is_cut_is_made_of_the_words_of_its_dtype() -> None:
    blob = weights(1000)
    [piece] = cut(MemorySource(blob), [Stretch(0, 4000, "a", "float32")])
    assert piece.words == WORDS["float32"]
    [piece] = cut(MemorySource(blob), [Stretch(0, 4000, "a", "float8_e4m3fn")])
    assert piece.words == Words()


def test_of_overlapping_tensors_the_first_counts_and_at_one_place_the_longest() -> None:
    blob = weights(10_000)
    shared = [
        Stretch(0, 4000, "part", "float32"),
        Stretch(0, 8000, "whole", "float32"),
        Stretch(4000, 8000, "across", "float32"),
        Stretch(8000, 4000, "next", "float32"),
    ]
    assert named(blob, shared) == ["whole", "next"]
    assert named(blob, shared[::-1]) == ["whole", "next"]


@pytest.mark.parametrize(
    ("offset", "length", "dtype"),
    [(0, LEAST - 4, "float32"), (0, 4002, "float32"), (38_000, 4000, "float32"), (50_000, 4000, "float32")],
    ids=["tiny", "no whole words", "beyond the end", "outside"],
)
def test_a_tensor_that_cannot_be_one_is_left_to_the_chunks(offset: int, length: int, dtype: str) -> None:
    assert named(weights(10_000), [Stretch(offset, length, "odd", dtype)]) == []


def test_text_is_cut_finely_and_found_again_after_an_insertion() -> None:
    before = text(1 << 20)
    after = before[:300_000] + b"something new" + before[300_000:]
    lengths = [length for _, length, _ in pieces(before)]
    assert FINE / 2 < sum(lengths) / len(lengths) < 2 * FINE
    again = contents(before) & contents(after)
    assert sum(map(len, again)) > 0.9 * len(before)


def test_what_does_not_compress_is_cut_coarsely_and_found_again_after_an_insertion() -> None:
    before = random.Random(1).randbytes(12 << 20)
    after = before[:3_000_000] + b"something new" + before[3_000_000:]
    lengths = [length for _, length, _ in pieces(before)]
    assert COARSE / 2 < sum(lengths) / len(lengths) < 2 * COARSE
    assert sum(map(len, contents(before) & contents(after))) > 0.85 * len(before)


def test_only_what_compresses_of_a_mixed_blob_is_cut_finely() -> None:
    blob = text(2 << 20) + random.Random(1).randbytes(2 << 20)
    found = list(cut(MemorySource(blob), []))
    fine = [piece.offset for piece in found if piece.words == OPAQUE]
    coarse = [piece.offset for piece in found if piece.words == Words()]
    assert max(fine) < (2 << 20) + (1 << 20)
    assert min(coarse) > 1 << 20
    assert len(fine) > 10 * len(coarse)


def test_many_tiny_tensors_that_do_not_compress_are_left_to_the_chunks() -> None:
    blob = random.Random(1).randbytes(4000 * 600)
    tensors = [Stretch(600 * number, 600, f"t{number}", "int8") for number in range(4000)]
    assert named(blob, tensors) == []


def test_many_small_tensors_that_compress_are_pieces_of_their_own() -> None:
    blob = b"".join(weights(2048, number) for number in range(200))
    tensors = [Stretch(8192 * number, 8192, f"t{number}", "float32") for number in range(200)]
    assert len(named(blob, tensors)) == 200


def test_large_tensors_stay_apart_where_small_ones_beside_them_do_not() -> None:
    chance = random.Random(1)
    blob = chance.randbytes(1000 * 600 + (4 << 20))
    tensors = [Stretch(600 * number, 600, f"t{number}", "int8") for number in range(1000)]
    tensors.append(Stretch(600_000, 4 << 20, "large", "int8"))
    assert named(blob, tensors) == ["large"]


def test_which_tensors_stay_apart_does_not_depend_on_their_order_in_the_file() -> None:
    sizes = [600 + 8 * number for number in range(800)]
    parts = {  # every other one compresses, just enough to make up for itself
        f"t{number:03}": bytes(random.Random(number).choices(range(48 if number % 2 else 256), k=size))
        for number, size in enumerate(sizes)
    }

    def laid_out(names: Sequence[str]) -> Iterator[tuple[bytes, Stretch]]:
        at = 0
        for name in names:
            yield parts[name], Stretch(at, len(parts[name]), name, "float16")
            at += len(parts[name])

    kept = []
    for names in (sorted(parts), sorted(parts, reverse=True), random.Random(5).sample(sorted(parts), len(parts))):
        laid = list(laid_out(names))
        kept.append(set(named(b"".join(raw for raw, _ in laid), [place for _, place in laid])))
    assert kept[0] == kept[1] == kept[2]


@settings(max_examples=80, deadline=None)
@given(
    st.binary(max_size=8000),
    st.lists(st.tuples(st.integers(0, 9000), st.integers(0, 9000), st.sampled_from([*WORDS, "int8", "?"])), max_size=8),
)
def test_whatever_the_tensors_pieces_cover_the_blob(blob: bytes, tensors: list[tuple[int, int, str]]) -> None:
    stretches = [Stretch(offset, length, "t", dtype) for offset, length, dtype in tensors]
    found = pieces(blob, stretches)
    assert found == pieces(blob, stretches[::-1])


def test_a_header_is_cut_apart_from_the_weights_that_follow() -> None:
    head = json.dumps({f"layer.{number}.weight": [number, 2 * number] for number in range(3000)}).encode()
    blob = head + weights(100_000)
    found = pieces(blob, [Stretch(len(head), 400_000, "w", "float32")])
    assert found[-1] == (len(head), 400_000, "w")
    assert len(found) > 3
