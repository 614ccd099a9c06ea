"""How fast tensors are compared, against one blocked numpy pass over the same bytes on the same cores.

    python benchmarks/diff_speed.py [--gb 1] [--runs 3] [--workers N] [--folder DIR]

The pair is a safetensors file and a fine-tune of it, from weights spread like a transformer's, once in float32 and once
in bfloat16. The peer computes Σ(a-b)², max|a-b| and a·b over both files, mapped into memory, in blocks that stay in the
cache, with buffers made once, in as many threads, and widens bfloat16 by shifting. Both take turns; the best of each
counts, on a warm page cache. Rank estimation is off (``--ranks`` adds it), matching is on. ``--memory`` gives both
files names as blobs and a folder for digests.
"""

from __future__ import annotations

import argparse
import json
import os
import struct
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import ml_dtypes
import numpy as np

from assay.artifact.collect import collect, tree_of
from assay.artifact.reader import Artifact
from assay.compare.sides import Compared, Options
from assay.compare.tensors import compare_tensors
from assay.formats.registry import all_formats
from assay.service.examine import inspect
from assay.spec.changes import State, TensorChange
from assay.streams.copying import digest_file
from assay.wiring.looking import decode

LAYER = {
    "attention.query.weight": (1024, 1024),
    "attention.key.weight": (1024, 1024),
    "attention.value.weight": (1024, 1024),
    "attention.output.weight": (1024, 1024),
    "mlp.up.weight": (4096, 1024),
    "mlp.down.weight": (1024, 4096),
    "mlp.up.bias": (4096,),
    "norm.weight": (1024,),
    "norm.bias": (1024,),
}
NAMES = {"float32": "F32", "bfloat16": "BF16"}
BLOCK = 1 << 16
CHUNK = 1 << 22
T = TypeVar("T")


def shapes(dtype: np.dtype, size: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Embeddings and as many layers as fit."""
    yield "embeddings.word.weight", (30000, 1024)
    used, layer = 30000 * 1024 * dtype.itemsize, 0
    per_layer = sum(int(np.prod(shape)) for shape in LAYER.values()) * dtype.itemsize
    while used + per_layer <= size:
        for name, shape in LAYER.items():
            yield f"encoder.layer.{layer}.{name}", shape
        used, layer = used + per_layer, layer + 1


def make(folder: Path, dtype: np.dtype, size: int) -> tuple[Path, Path]:
    """A base of *size* bytes and its fine-tune."""
    listed = list(shapes(dtype, size))
    header, at = {}, 0
    for name, shape in listed:
        end = at + int(np.prod(shape)) * dtype.itemsize
        header[name] = {"dtype": NAMES[dtype.name], "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    files = folder / f"base-{dtype.name}.safetensors", folder / f"tuned-{dtype.name}.safetensors"
    random = np.random.default_rng(0)
    with files[0].open("wb") as one, files[1].open("wb") as other:
        for handle in (one, other):
            handle.write(struct.pack("<Q", len(text)) + text)
        for _, shape in listed:
            base = random.standard_normal(shape, np.float32) * 0.03
            tuned = base + random.standard_normal(shape, np.float32) * 0.002
            one.write(base.astype(dtype).tobytes())
            other.write(tuned.astype(dtype).tobytes())
    return files


def peer(old: Path, new: Path, dtype: np.dtype, workers: int) -> tuple[float, float, float]:
    """The numpy pass."""
    start = 8 + struct.unpack("<Q", old.open("rb").read(8))[0]
    stored = np.uint16 if dtype.itemsize == 2 else np.float32
    a, b = (np.memmap(file, stored, "r", start) for file in (old, new))

    def run(at: int) -> tuple[float, float, float]:
        wide = [np.empty(BLOCK, np.float32) for _ in range(3)]
        square = peak = product = 0.0
        for first in range(at, min(at + CHUNK, len(a)), BLOCK):
            pair = [one[first : min(first + BLOCK, at + CHUNK)] for one in (a, b)]
            if dtype.itemsize == 2:
                for side in (0, 1):
                    bits = wide[side][: len(pair[side])].view(np.uint32)
                    bits[:] = pair[side]
                    np.left_shift(bits, 16, out=bits)
                    pair[side] = bits.view(np.float32)
            x, y = pair
            difference = np.subtract(x, y, out=wide[2][: len(x)])
            square += float(np.dot(difference, difference))
            product += float(np.dot(x, y))
            np.abs(difference, out=difference)
            peak = max(peak, float(difference.max()))
        return square, peak, product

    with ThreadPoolExecutor(workers) as pool:
        parts = list(pool.map(run, range(0, len(a), CHUNK)))
    return sum(part[0] for part in parts), max(part[1] for part in parts), sum(part[2] for part in parts)


def opened(file: Path, *, named: bool) -> Compared:
    """One side of the comparison."""
    tree = tree_of(collect(file))
    artifact = Artifact(tree, inspect(tree, all_formats()), manifest=None, decode=decode)
    return Compared(label=file.name, artifact=artifact, digests={file.name: digest_file(file)} if named else {})


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Seconds, and what was made."""
    start = time.perf_counter()
    made = work()
    return time.perf_counter() - start, made


def agree(changes: Sequence[TensorChange], wanted: tuple[float, float, float]) -> None:
    """Both passes found the same."""
    square, peak, product = wanted
    moved = sum(one.numbers.cosine * one.numbers.old_norm * one.numbers.new_norm for one in changes)
    assert all(one.state is State.CHANGED for one in changes)
    assert np.isclose(square, sum(one.numbers.difference_norm**2 for one in changes), rtol=1e-4)
    assert np.isclose(peak, max(one.numbers.max_abs for one in changes))
    assert np.isclose(product, moved, rtol=1e-4)


def measure(folder: Path, dtype: np.dtype, options: argparse.Namespace) -> None:
    """Make a pair, let both take turns, print."""
    old, new = make(folder, dtype, int(options.gb * 1e9))
    sides = opened(old, named=options.memory), opened(new, named=options.memory)
    ours, theirs = [], []
    for turn in range(options.runs):
        memory = folder / f"memory-{turn}" if options.memory else None
        chosen = Options(ranks=options.ranks, workers=options.workers, memory=memory)
        theirs.append(timed(partial(peer, old, new, dtype, options.workers)))
        ours.append(timed(partial(compare_tensors, *sides, chosen)))
    changes = ours[0][1].changes
    agree(changes, theirs[0][1])
    fast, base = min(one[0] for one in ours), min(one[0] for one in theirs)
    size = old.stat().st_size + new.stat().st_size
    print(
        f"{dtype.name}: 2 x {size / 2e9:.2f} GB, {len(changes)} tensors, {options.workers} threads: "
        f"diff {fast:.3f} s ({size / fast / 1e9:.1f} GB/s), numpy pass {base:.3f} s ({size / base / 1e9:.1f} GB/s), "
        f"ratio {base / fast:.2f} (target 0.60)"
    )
    for side in sides:
        side.artifact.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gb", type=float, default=1)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--ranks", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    for dtype in (np.dtype(np.float32), np.dtype(ml_dtypes.bfloat16)):
        with tempfile.TemporaryDirectory(prefix="diff-speed-", dir=options.folder) as folder:
            measure(Path(folder), dtype, options)


if __name__ == "__main__":
    main()
