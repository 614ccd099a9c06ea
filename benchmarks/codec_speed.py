"""How fast the codec of packs is in memory, and how small what it makes: beside zstd, ZipNN and a plain copy.

    python benchmarks/codec_speed.py [--runs 9] [--mib 64] [--threads 2] [--no-zipnn]

The weights are real ones (all-MiniLM-L6-v2 out of a package; its fine-tunes where benchmarks/fine_tunes.py was run,
else the base with noise of like size, and then it says so), and normal ones with a scale per tensor. Everybody takes
the same bytes; blocks of 1 MiB go to as many threads as are named, and what is encoded is put into a buffer that stays.
In each round everybody has one turn; the best round counts, because other work on the machine only ever slows one down.
GB are raw bytes, for decoding, too. ZipNN is fetched with pip into a folder of its own and runs by itself.

A plain copy is what no codec can be faster than. Targets are those of two threads on the machine of the study
(two cores of Sapphire Rapids); "cpu" is per second of processor time, which other work on the machine disturbs less.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import zstandard
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

from fine_tunes import BASE, FOLDER
from real_models import fetch

from assay.packing import codec, native, planes
from assay.packing.codec import BLOCK, WORDS, Words

Bytes = NDArray[np.uint8]
TARGETS = {
    "real fp32": (2.28, 4.63, 1.215),
    "real bf16": (1.74, 2.82, 1.503),
    "real fp16": (2.07, 2.4, 1.179),
}
"""GB/s of encoding and decoding with two threads, and the ratio."""

ZIPNN = """
import json, sys, time
import numpy as np
from zipnn import ZipNN
raw = np.load(sys.argv[1]).tobytes()
best = [9e9, 9e9]
for _ in range(int(sys.argv[4])):
    coder = ZipNN(input_format="byte", bytearray_dtype=sys.argv[2], threads=int(sys.argv[3]))
    kept = bytearray(raw)  # it writes into what it is given
    began = time.perf_counter(); coded = coder.compress(kept); best[0] = min(best[0], time.perf_counter() - began)
    began = time.perf_counter(); back = coder.decompress(coded); best[1] = min(best[1], time.perf_counter() - began)
    assert bytes(back) == raw
print(json.dumps([*best, len(coded)]))
"""


@dataclass
class Input:
    """Weights: their bytes, what they are made of, and the base that they are stored as the difference to."""

    name: str
    raw: Bytes
    words: Words
    base: Bytes | None = None
    ordered: bool = False
    zipnn: str = ""


@dataclass
class Turn:
    """Somebody's best rounds."""

    encode: Callable[[], int]
    decode: Callable[[], None]
    walls: list[float] = field(default_factory=lambda: [9e9, 9e9])
    cpus: list[float] = field(default_factory=lambda: [9e9, 9e9])
    size: int = 0

    def take(self) -> None:
        for number, work in enumerate((self.encode, self.decode)):
            wall, cpu = time.perf_counter(), time.process_time()
            found = work()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            self.walls[number] = min(self.walls[number], wall)
            self.cpus[number] = min(self.cpus[number], cpu)
            self.size = self.size if found is None else found


def real(dtype: str, file: Path | None = None) -> Bytes:
    """The weights of a safetensors file, as one run of numbers of *dtype*."""
    data = (file or fetch(*BASE) / BASE[1] / "model.safetensors").read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    spans = sorted(one["data_offsets"] for one in header.values() if one.get("dtype") in ("F32", "BF16", "F16"))
    found = np.concatenate([np.frombuffer(data[start + first : start + last], np.uint8) for first, last in spans])
    return found if file is not None else cast(found.view("<f4"), dtype)


def cast(values: NDArray[np.float32], dtype: str) -> Bytes:
    if dtype == "bf16":  # rounded to the nearest, as frameworks do
        bits = values.view("<u4")
        return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2").view(np.uint8)
    return values.astype("<f2" if dtype == "fp16" else "<f4").view(np.uint8)


def inputs(most: int) -> list[Input]:
    chance = np.random.default_rng(0)
    kinds = {"fp32": WORDS["float32"], "bf16": WORDS["bfloat16"], "fp16": WORDS["float16"]}
    zipnn = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
    found = []
    for dtype, words in kinds.items():
        found.append(Input(f"real {dtype}", real(dtype)[:most], words, zipnn=zipnn[dtype]))
    scales = np.repeat(chance.uniform(0.01, 0.2, 64), most // 256).astype("<f4")
    normal = (chance.standard_normal(len(scales)) * scales).astype("<f4")
    found += [
        Input(f"normal {dtype}", cast(normal, dtype), kinds[dtype], zipnn=zipnn[dtype]) for dtype in ("fp32", "bf16")
    ]
    for dtype in ("fp32", "bf16"):
        base, file = real(dtype)[:most], FOLDER / "minilm" / f"full-{dtype}.safetensors"
        if file.is_file():
            origin, tune = "tune", real(dtype, file)[:most]
            base = real(dtype, file.with_name(f"base-{dtype}.safetensors"))[:most]
        else:
            values = real("fp32").view("<f4")
            noise = chance.laplace(0, 3e-5, len(values)).astype("<f4")
            origin, tune = "noise", cast(values + noise, dtype)[:most]
        for ordered in (False, True):
            name = f"{origin} {dtype}" + (" ordered" if ordered else "")
            found.append(Input(name, tune, kinds[dtype], base, ordered))
    return found


class Threads:
    """Blocks, given to threads that take the next one when they are done."""

    def __init__(self, count: int) -> None:
        self.count, self.pool = count, ThreadPoolExecutor(count)

    def each(self, spans: Sequence[tuple[int, int]], work: Callable[[int, int], None]) -> None:
        if self.count == 1:
            for span in spans:
                work(*span)
            return
        jobs, lock = iter(spans), threading.Lock()

        def run() -> None:
            while True:
                with lock:
                    span = next(jobs, None)
                if span is None:
                    return
                work(*span)

        for done in [self.pool.submit(run) for _ in range(self.count)]:
            done.result()


class Room(threading.local):
    def __init__(self) -> None:
        self.out = bytearray(BLOCK + 1024)
        self.fast = {level: zstandard.ZstdCompressor(level=level) for level in (1, 3)}
        self.back = zstandard.ZstdDecompressor()


room = Room()


def ours(one: Input, threads: Threads, kernels: planes.Kernels) -> Turn:
    """The codec, with one kind of kernels."""
    spans = [(at, min(at + BLOCK, len(one.raw))) for at in range(0, len(one.raw), BLOCK)]
    stored: dict[int, bytes] = {}
    lengths: dict[int, int] = {}
    back = np.zeros(len(one.raw), np.uint8)

    def encoded(start: int, stop: int) -> memoryview:
        base = None if one.base is None else one.base[start:stop]
        at = 0
        for part in codec.encode(one.raw[start:stop], one.words, base=base, ordered=one.ordered):
            room.out[at : at + len(part)] = memoryview(part)
            at += len(part)
        return memoryview(room.out)[:at]

    def keep(start: int, stop: int) -> None:
        stored[start] = bytes(encoded(start, stop))

    def encode_one(start: int, stop: int) -> None:
        lengths[start] = len(encoded(start, stop))

    def decode_one(start: int, stop: int) -> None:
        base = None if one.base is None else one.base[start:stop]
        codec.decode(memoryview(stored[start]), one.words, back[start:stop], base=base)

    def encode() -> int:
        codec.kernels = kernels
        threads.each(spans, encode_one)
        return sum(lengths.values())

    def decode() -> None:
        codec.kernels = kernels
        threads.each(spans, decode_one)

    codec.kernels = kernels
    threads.each(spans, keep)
    decode()
    assert np.array_equal(back, one.raw)
    return Turn(encode, decode)


def plain(one: Input, level: int) -> Turn:
    """Zstandard as it comes, per block."""
    spans = [(at, min(at + BLOCK, len(one.raw))) for at in range(0, len(one.raw), BLOCK)]
    stored: list[bytes] = []

    def encode() -> int:
        stored[:] = [room.fast[level].compress(one.raw[start:stop].data) for start, stop in spans]
        return sum(map(len, stored))

    def decode() -> None:
        for part in stored:
            room.back.decompress(part)

    return Turn(encode, decode)


def copied(one: Input) -> Turn:
    """A plain copy into memory that was used before."""
    target = np.zeros(len(one.raw), np.uint8)

    def copy() -> int:
        for at in range(0, len(one.raw), BLOCK):
            target[at : at + BLOCK] = one.raw[at : at + BLOCK]
        return len(one.raw)

    return Turn(copy, lambda: [None, copy()][0])


def kernel_alone(one: Input, kernels: planes.Kernels) -> Turn:
    """Taking words apart, and putting them together, without coding anything."""
    width, back = one.words.width, np.zeros(BLOCK, np.uint8)
    spans = range(0, len(one.raw) - BLOCK + 1, BLOCK)
    split = np.zeros((width, BLOCK // width), np.uint8)
    rotate = one.words.rotate and one.base is None

    def turn(which: Callable[..., None], *, into: Bytes, first: object = None) -> None:
        for at in spans:
            words = one.raw[at : at + BLOCK] if first is None else first
            base = None if one.base is None else one.base[at : at + BLOCK]
            which(words, width, rotate=rotate, base=base, ordered=one.ordered, into=into)

    def encode() -> int:
        turn(kernels.split, into=split)
        return len(one.raw)

    return Turn(encode, lambda: turn(kernels.join, into=back, first=list(split)))


def zipnn(one: Input, threads: int, runs: int) -> list[float] | None:
    """What ZipNN needs: seconds of encoding and decoding, bytes; None where it cannot be had."""
    place = FOLDER / "zipnn"
    if not (place / "zipnn").is_dir():
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--target",
            str(place),
            "zipnn==0.5.4",
        ]
        if subprocess.run(command, check=False).returncode:
            return None
    file = FOLDER / "zipnn-input.npy"
    np.save(file, one.raw)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ZIPNN, str(file), one.zipnn, str(threads), str(runs)],
        env={**os.environ, "PYTHONPATH": str(place)},
        capture_output=True,
        text=True,
        check=False,
    )
    file.unlink()
    if done.returncode:
        print(f"  zipnn failed: {done.stderr.strip().splitlines()[-1:]}")
        return None
    return list(json.loads(done.stdout))


def line(name: str, size: int, walls: Sequence[float], cpus: Sequence[float] | None, stored: int) -> None:
    speeds = [size / seconds / 1e9 for seconds in walls]
    per_cpu = "" if cpus is None else "   cpu " + "  ".join(f"{size / max(one, 1e-9) / 1e9:6.2f}" for one in cpus)
    print(f"  {name:30} {speeds[0]:6.2f} {speeds[1]:6.2f} GB/s   ratio {size / stored:7.3f}{per_cpu}")


def measure(one: Input, options: argparse.Namespace) -> None:
    compiled, size = native.kernels(), len(one.raw)
    print(f"{one.name}: {size / 1e6:.0f} MB   (encode, decode)")
    alone, several = Threads(1), Threads(options.threads)
    turns = {"copy": copied(one)}
    if one.base is None:
        turns |= {f"zstd -{level}": plain(one, level) for level in (1, 3)}
    for name, kernels in {"compiled": compiled, "numpy": planes}.items():
        if name == "compiled" and compiled is planes:
            continue
        turns[f"kernel alone, {name}"] = kernel_alone(one, kernels)
        turns[f"assay, {name}, 1 thread"] = ours(one, alone, kernels)
        turns[f"assay, {name}, {options.threads} threads"] = ours(one, several, kernels)
    for _ in range(options.runs):
        for turn in turns.values():
            turn.take()
    for name, turn in turns.items():
        line(name, size, turn.walls, turn.cpus, turn.size)
    best = turns.get(f"assay, compiled, {options.threads} threads", turns[f"assay, numpy, {options.threads} threads"])
    for threads in (1, options.threads):
        found = zipnn(one, threads, options.runs) if one.zipnn and options.zipnn else None
        if found is not None:
            line(f"zipnn, {threads} threads", size, found[:2], None, int(found[2]))
            against = [found[number] / best.walls[number] for number in (0, 1)]
            if threads == options.threads:
                print(f"    assay is {against[0]:.1f} x as fast at encoding, {against[1]:.1f} x at decoding")
    if one.name in TARGETS:
        judge(one, best, options.threads)


def judge(one: Input, best: Turn, threads: int) -> None:
    """Hold what was reached against the targets; on a busy machine processor time says what is possible."""
    for number, what in enumerate(("encoding", "decoding")):
        target = TARGETS[one.name][number]
        found = len(one.raw) / best.walls[number] / 1e9
        free = threads * len(one.raw) / max(best.cpus[number], 1e-9) / 1e9
        said = "reached" if found >= target else "reached by processor time" if free >= target else "MISSED"
        print(f"    {what}: {found:.2f} GB/s, {free:.2f} on {threads} free cores, target {target}: {said}")
    ratio, target = len(one.raw) / best.size, TARGETS[one.name][2]
    print(f"    ratio: {ratio:.3f}, target {target}: {'reached' if ratio >= target * 0.999 else 'MISSED'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--mib", type=int, default=64, help="of each kind of weights, at most")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-zipnn", dest="zipnn", action="store_false")
    parser.add_argument("--only", default="", help="inputs whose name contains this")
    options = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    for one in inputs(options.mib << 20):
        if options.only in one.name:
            measure(one, options)


if __name__ == "__main__":
    main()
