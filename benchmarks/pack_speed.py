"""How fast packs are written and read, against Xet, restic, borg, cp, and against what cannot be done without.

    python benchmarks/pack_speed.py [--runs 5] [--folder /dev/shm] [--disk DIR] [--dtypes fp32,bf16] [--mib 0]

Each run lets everybody store and give back the family of ``fine_tunes.py`` (or, with --mib, one synthetic model of that
size and its noisy copy), in turns, each in a process of its own; medians are compared. --folder should be in memory.
--disk names a folder on a disk, where restoring is measured against cp. "alone" is the floor: the same bytes read,
hashed (SHA-256 and BLAKE3), and the new blocks encoded, by as many threads as there are processors, nothing else done:
no decoding for comparison, no looking for bases, no checksums of what is stored, no writing. That of restoring reads,
decodes each segment once, with every base, and hashes (BLAKE3). "in full" is what both need who trust nobody and keep
nothing: what was encoded is decoded again and compared; what several files share is decoded for each.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from blake3 import blake3
from fine_tunes import family
from pack_peers import Clock, Shelf, Spent, measure, missing, wanted

from assay.packing import codec
from assay.packing.codec import BLOCK
from assay.packing.segments import Block, Segment, read_table, table_size
from assay.trees import Source

PEERS = ("assay", "assay without C", "assay memory", "xet", "xet at once", "restic", "borg")
PUT = {"xet": 3.0, "xet at once": 3.0, "restic": 6.0, "borg": 6.0}
GET = {"xet": 4.0, "xet at once": 4.0, "restic": 4.0, "borg": 4.0}
FLOORS = {"alone": False, "in full": True}
ALONE = 0.7
"""Share of what cannot be done without that is to be reached."""
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

Place = tuple[Source, int]


class Alone:
    """The floor of packing and of giving back, on a pack that is there.

    Args:
        files: raw.
        pack: of them.
    """

    def __init__(self, files: Sequence[Path], pack: Path) -> None:
        self._shelf = Shelf(pack)
        self._blobs = dict(
            zip((one.digest for one, _ in wanted(files)), (source for _, source in wanted(files)), strict=True)
        )
        self._raw: dict[bytes, Place] = {}
        self._tables: dict[bytes, list[Block]] = {}
        self._jobs: list[tuple[Place, Segment, int, bool]] = []
        for blob in self._shelf.directory.blobs:
            at = 0
            for part in blob.parts:
                found = self._shelf.find(part)
                assert found is not None
                place = (self._blobs[blob.digest], at)
                new = part not in self._raw
                self._raw.setdefault(part, place)
                self._jobs += [(place, found[0], number, new) for number in range(found[0].blocks)]
                at += found[0].size

    def put(self, *, full: bool) -> Spent:
        """Seconds to read, hash and encode; in full, to decode it again and compare."""
        return _timed(self._jobs, partial(self._put, full=full))

    def get(self, *, full: bool) -> Spent:
        """Seconds to read, decode and hash what is stored; in full, as often as it is given back."""
        return _timed([job for job in self._jobs if full or job[3]], self._get)

    def _put(self, job: tuple[Place, Segment, int, bool], *, full: bool) -> None:
        (source, at), segment, number, new = job
        raw = _read(source, at, segment, number)
        hashlib.sha256(raw).digest()
        blake3(raw.data).digest()
        if new:
            base = None if segment.base is None else _read(*self._raw[segment.base], segment, number)
            stored = codec.encode(raw, segment.words, base=base)
            if full:
                whole = memoryview(b"".join(stored))
                assert codec.matches(whole, segment.words, raw, base=base if codec.needs_base(whole) else None)

    def _get(self, job: tuple[Place, Segment, int, bool]) -> None:
        _, segment, number, _ = job
        into = np.empty(min(BLOCK, segment.size - number * BLOCK), np.uint8)
        self._decode(segment, number, into)
        blake3(into.data).digest()

    def _decode(self, segment: Segment, number: int, into: np.ndarray) -> None:
        """A block, its bases before it: they are nowhere else."""
        found = self._shelf.find(segment.id)
        assert found is not None
        _, pack = found
        if segment.id not in self._tables:
            size = table_size(segment.size)
            self._tables[segment.id] = read_table(segment, pack.read(segment.offset + segment.stored - size, size))
        block = self._tables[segment.id][number]
        stored = memoryview(pack.read(segment.offset + block.offset, block.length))
        leans = codec.needs_base(stored)
        if leans:
            assert segment.base is not None
            base = self._shelf.find(segment.base)
            assert base is not None
            self._decode(base[0], number, into)
        codec.decode(stored, segment.words, into, base=into if leans else None)


def _read(source: Source, at: int, segment: Segment, number: int) -> np.ndarray:
    start = number * BLOCK
    return np.frombuffer(source.read(at + start, min(BLOCK, segment.size - start)), np.uint8)


def _timed(jobs: Sequence[object], do: Callable[..., None]) -> Spent:
    with ThreadPoolExecutor(THREADS) as pool:
        began = Clock()
        list(pool.map(lambda share: [do(job) for job in share], [jobs[start::THREADS] for start in range(THREADS)]))
        return began.stop()


def synthetic(folder: Path, mib: int) -> list[Path]:
    """A model of normal weights, and a copy with noise everywhere: the worst case of a fine-tune."""
    files = [folder / "base.safetensors", folder / "tune.safetensors"]
    shapes = [(1024, 1024), (4096, 1024)] * max(1, mib // 20)
    heads, at = {}, 0
    for number, (rows, columns) in enumerate(shapes):
        size = 4 * rows * columns
        heads[f"layer.{number}"] = {"dtype": "F32", "shape": [rows, columns], "data_offsets": [at, at + size]}
        at += size
    head = json.dumps(heads).encode()
    with files[0].open("wb") as base, files[1].open("wb") as tune:
        for file in (base, tune):
            file.write(len(head).to_bytes(8, "little") + head)
        for number, (rows, columns) in enumerate(shapes):
            chance = np.random.default_rng(number)
            values = chance.standard_normal(rows * columns, dtype=np.float32) * np.float32(0.02 + 0.001 * (number % 7))
            base.write(values.tobytes())
            tune.write((values + chance.laplace(0, 1e-5, len(values)).astype("f4")).tobytes())
    return files


def one_run(peers: Sequence[str], files: Sequence[Path], folder: Path) -> dict[str, dict[str, float]]:
    """Everybody once."""
    found: dict[str, dict[str, float]] = {}
    for name in peers:
        place = folder / "place"
        shutil.rmtree(place, ignore_errors=True)
        native, who = name != "assay without C", name.replace(" without C", "")
        put = measure(who, "put", place, files, native=native)
        get = measure(who, "get", place, files, native=native)
        found[name] = {
            "put": put["seconds"],
            "get": get["seconds"],
            "put cpu": put["cpu"],
            "get cpu": get["cpu"],
            "peak": max(put["peak"], get["peak"]),
        }
        if name == "assay":
            alone = Alone(files, place / "pack")
            for floor, full in FLOORS.items():
                least = alone.put(full=full), alone.get(full=full)
                found[floor] = {
                    "put": least[0].wall,
                    "get": least[1].wall,
                    "put cpu": least[0].cpu,
                    "get cpu": least[1].cpu,
                    "peak": 0,
                }
    return found


def to_disk(files: Sequence[Path], folder: Path, disk: Path, runs: int) -> None:
    """Giving back onto a disk, against cp, in turns; both flushed before, not after."""
    place, out = folder / "place", disk / "restored"
    shutil.rmtree(place, ignore_errors=True)
    measure("assay", "put", place, files)
    times: dict[str, list[float]] = {"cp": [], "assay": []}
    for _ in range(runs):
        for name, spent in times.items():
            shutil.rmtree(out, ignore_errors=True)
            os.sync()
            if name == "cp":
                out.mkdir()
                began = time.perf_counter()
                subprocess.run(["cp", *map(str, files), str(out)], check=True)
                spent.append(time.perf_counter() - began)
            else:
                found = measure("assay", "get", place, files, PACK_PEERS_OUT=str(out))
                spent.append(found["seconds"])
    shutil.rmtree(out, ignore_errors=True)
    ratio = statistics.median(times["cp"]) / statistics.median(times["assay"])
    print(f"  onto the disk: {ratio:.2f} x cp, target 0.9: {'met' if ratio >= 0.9 else 'MISSED'}")


def report(raw: int, runs: Sequence[dict[str, dict[str, float]]]) -> None:
    """Medians, and ratios against targets: of the clock, and of processor time, where others at work matter less."""
    middle = {
        name: {key: statistics.median(run[name][key] for run in runs) for key in runs[0][name]} for name in runs[0]
    }
    print(f"  {'':16} put GB/s  get GB/s  put cpu s/GB  get cpu s/GB  peak MB")
    for name, found in middle.items():
        speeds = f"{raw / found['put'] / 1e9:8.3f} {raw / found['get'] / 1e9:9.3f}"
        costs = f"{found['put cpu'] / raw * 1e9:13.2f} {found['get cpu'] / raw * 1e9:13.2f}"
        print(f"  {name:16} {speeds} {costs} {found['peak'] / 1e6:8.0f}")
    for key in ("put", "get"):
        for who in ("assay", "assay without C"):
            if who not in middle:
                continue
            for name, least in (PUT if key == "put" else GET).items():
                if name in middle:
                    ratios = [middle[name][f"{key}{kind}"] / middle[who][f"{key}{kind}"] for kind in ("", " cpu")]
                    _tell(f"{who}, {key}, against {name}", ratios, least)
    for key, who in (("put", "assay"), ("get", "assay memory")):
        if who in middle:
            for floor in FLOORS:
                ratios = [middle[floor][f"{key}{kind}"] / middle[who][f"{key}{kind}"] for kind in ("", " cpu")]
                _tell(f"{who}, {key}, of {floor}", ratios, ALONE)


def _tell(what: str, ratios: Sequence[float], least: float) -> None:
    wall, cpu = ratios
    print(
        f"  {what}: {wall:.2f}, of processor time {cpu:.2f}; target {least:g}: {'met' if wall >= least else 'MISSED'}"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"))
    parser.add_argument("--disk", type=Path)
    parser.add_argument("--dtypes", default="fp32,bf16")
    parser.add_argument("--mib", type=int, default=0)
    parser.add_argument("--peers", default=",".join(PEERS))
    options = parser.parse_args()
    peers = [name for name in options.peers.split(",") if not missing(name)]
    for name in set(options.peers.split(",")) - set(peers):
        print(missing(name))
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        for title in [f"synthetic, 2 x {options.mib} MiB"] if options.mib else options.dtypes.split(","):
            if options.mib:
                files = synthetic(folder, options.mib)
            else:
                files = [Path(shutil.copy(file, folder)) for file in family(title)]
            raw = sum(file.stat().st_size for file in files)
            print(f"\n{title}: {raw / 1e6:.1f} MB, {THREADS} processors, {options.runs} runs", flush=True)
            report(raw, [one_run(peers, files, folder) for _ in range(options.runs)])
            if options.disk is not None:
                to_disk(files, folder, options.disk, options.runs)


if __name__ == "__main__":
    main()
