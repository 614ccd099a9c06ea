"""What Assay writes can be read by whoever read ``docs/spec/pack.md``, and nothing else."""

from __future__ import annotations

import ast
import io
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from independent_reader import Reader, Refused
from packs import Hand, Pack, Written, by_hand, written

from assay.packing.codec import BLOCK, WORDS, Words, encode
from assay.ports.packs import Effort, Stretch
from assay.spec.digest import Digest

PAGE = Path(__file__).parents[2] / "docs" / "spec" / "pack.md"
DTYPES = [*WORDS, "int8", "bool", "float8_e4m3fn"]
Raw = bytes


def weights(words: int, width: int, *, seed: int = 0, step: int = 0) -> Raw:
    """Words as trained ones are: a few exponents; *step* > 0: the same, trained on a little."""
    chance = np.random.default_rng(seed)
    bits = 8 * width
    values = chance.normal(0, 2.0 ** (bits - 6 if bits < 64 else 57), words).astype(np.int64)
    if step:
        values += np.random.default_rng(seed + 1000).integers(-step, step + 1, words)
    return values.astype(f"<u{width}").tobytes()


def read_back(packs: Sequence[Pack], blobs: Sequence[Raw]) -> None:
    reader = Reader(*(io.BytesIO(pack.data) for pack in packs))
    for blob in blobs:
        assert reader.read(str(Digest.of(blob))) == blob


def test_the_reader_is_short_and_imports_nothing_of_assay() -> None:
    text = (Path(__file__).parent / "independent_reader.py").read_text("utf-8")
    assert len(text.splitlines()) <= 150
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(text))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([one.name for one in node.names] if isinstance(node, ast.Import) else [node.module or ""])
    }
    assert imported - set(sys.stdlib_module_names) == {"numpy", "zstandard", "blake3"}


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_is_read_back(dtype: str) -> None:
    width = WORDS.get(dtype, Words()).width
    blob = b"head" + weights((BLOCK + 4096) // width, width) + b"tail"
    tensor = Stretch(4, len(blob) - 8, "w", dtype)
    read_back([written([(blob, [tensor])])], [blob])


@pytest.mark.parametrize("effort", Effort)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_tune_beside_its_base_is_read_back(dtype: str, effort: Effort) -> None:
    width = WORDS.get(dtype, Words()).width
    base = weights((BLOCK + 4096) // width, width)
    tune = weights((BLOCK + 4096) // width, width, step=2)
    tensor = Stretch(0, len(base), "w", dtype)
    read_back([written([(base, [tensor]), (tune, [tensor])], effort=effort)], [base, tune])


@pytest.mark.parametrize("ordered", [False, True], ids=["difference", "ordered"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_differences_of_every_width_are_read_back_over_several_bases(dtype: str, ordered: bool) -> None:
    words = WORDS.get(dtype, Words())
    count = (2 * BLOCK + 4096) // words.width
    line = [weights(count, words.width, step=step) for step in range(4)]
    hand = [Hand(raw, words, base=number - 1 if number else None, ordered=ordered) for number, raw in enumerate(line)]
    read_back([by_hand(hand)], line)


def test_segments_and_bases_may_lie_in_other_packs() -> None:
    base, tune = weights(BLOCK // 4, 4), weights(BLOCK // 4, 4, step=3)
    first = by_hand([Hand(base, WORDS["float32"])])
    second = by_hand([Hand(tune, WORDS["float32"], base=0)], others=first)
    third = by_hand([], blobs=[[base, tune, base]], others=second, known=[base, tune])
    read_back([third, second, first], [base, tune, base + tune + base])
    with pytest.raises(Refused, match="in no pack"):
        read_back([second], [tune])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=3000), max_size=6, unique=True), st.data())
def test_any_blobs_are_read_back(blobs: list[bytes], data: st.DataObject) -> None:
    wanted = []
    for blob in blobs:
        tensors = []
        for _ in range(data.draw(st.integers(0, 3))):
            offset, length = data.draw(st.integers(0, 3000)), data.draw(st.integers(0, 3000))
            tensors.append(Stretch(offset, length, "t", data.draw(st.sampled_from(DTYPES))))
        wanted.append((blob, tensors))
    read_back([written(wanted)], blobs)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_words_are_read_back_as_difference_to_any_others(data: st.DataObject) -> None:
    words = WORDS[data.draw(st.sampled_from(sorted(WORDS)))]
    size = words.width * data.draw(st.integers(1, 200))
    raw, base = (data.draw(st.binary(min_size=size, max_size=size)) for _ in range(2))
    if raw == base:
        return
    read_back([by_hand([Hand(base, words), Hand(raw, words, base=0, ordered=data.draw(st.booleans()))])], [raw, base])


def test_the_example_of_the_page_is_what_assay_writes() -> None:
    text = PAGE.read_text("utf-8").partition("## An example")[2].partition("\n## ")[0]
    shown = [bytes.fromhex(line) for line in re.findall(r"^    ([0-9A-F]{2}  .*)$", text, re.MULTILINE)]
    base, tune = bytes.fromhex("803F00BF"), bytes.fromhex("7F3F02BF")
    words = WORDS["bfloat16"]

    def encoded(raw: bytes, base: bytes | None = None, *, ordered: bool = False) -> bytes:
        other = None if base is None else np.frombuffer(base, np.uint8)
        return b"".join(
            bytes(part) for part in encode(np.frombuffer(raw, np.uint8), words, base=other, ordered=ordered)
        )

    assert shown == [encoded(base), encoded(tune, base), encoded(tune, base, ordered=True)]
    pack = by_hand([Hand(base, words), Hand(tune, words, base=0, ordered=True)])
    listed = json.loads(re.search(r"```json\n(.*?)```", text, re.DOTALL)[1])  # type: ignore[index]
    assert pack.directory == listed
    read_back([pack], [base, tune])


def test_a_writer_that_meets_the_same_bytes_again_stores_them_once() -> None:
    blob = weights(BLOCK // 4, 4)
    found: Written = written([(blob, [Stretch(0, len(blob), "a", "float32")]), (blob + b"!", [])]).written
    assert found.size < 2 * len(blob) + 4096
