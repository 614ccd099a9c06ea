"""How long storing a large model takes, against the two things it cannot do without: hashing it and copying it durably.

    python benchmarks/store_add.py [--gib 4] [--files 2] [--runs 6] [--folder DIR]

Each run does all three, one after the other, in every possible order by turns: a disk that just wrote is slower for
whoever comes next. Before each, everything is flushed and the disk is left alone for a moment. Medians are compared,
and the ratio is against the larger of the two. Prints the peak of anonymous memory while storing.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from assay.blobs.directory import DirectoryStore

BLOCK = 1 << 20
PAUSE = 3.0
"""Seconds for the disk to come to rest."""


def make(folder: Path, files: int, size: int) -> list[Path]:
    """Incompressible files of *size* bytes each."""
    paths = [folder / f"model-{index}.safetensors" for index in range(files)]
    for path in paths:
        with path.open("wb") as handle:
            for offset in range(0, size, 64 << 20):
                handle.write(os.urandom(min(64 << 20, size - offset)))
    return paths


def hash_one(path: Path) -> str:
    with path.open("rb", buffering=0) as handle:
        hasher, buffer = hashlib.sha256(), memoryview(bytearray(BLOCK))
        while count := handle.readinto(buffer):
            hasher.update(buffer[:count])
    return hasher.hexdigest()


def copy_one(path: Path, target: Path) -> None:
    """A plain copy the way shutil does it, made durable."""
    shutil.copyfile(path, target)
    descriptor = os.open(target, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


class Peak:
    """The most anonymous memory this process had while the block ran."""

    def __enter__(self) -> Self:
        self.kib, self._over = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("RssAnon:"):
                    self.kib = max(self.kib, int(line.split()[1]))


def timed(work: Callable[[], object]) -> float:
    os.sync()
    time.sleep(PAUSE)
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gib", type=float, default=4.0)
    parser.add_argument("--files", type=int, default=2)
    parser.add_argument("--runs", type=int, default=6)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        paths = make(folder, options.files, int(options.gib * (1 << 30) / options.files))
        run(folder, paths, options.runs, options.threads)


def run(folder: Path, paths: list[Path], runs: int, threads: int) -> None:
    home, copies = folder / "home", folder / "copies"
    peak = Peak()

    def hashing() -> None:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(hash_one, paths))

    def copying() -> None:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(copy_one, paths, [copies / path.name for path in paths]))

    def storing() -> None:
        with peak:
            DirectoryStore(home).add_files(paths, threads=threads)

    jobs = [("hash", hashing), ("copy", copying), ("store", storing)]
    times: dict[str, list[float]] = {name: [] for name, _ in jobs}
    orders = list(itertools.permutations(jobs))
    most = 0
    for turn in range(runs):
        for name, job in orders[turn % len(orders)]:
            shutil.rmtree(home, ignore_errors=True)
            shutil.rmtree(copies, ignore_errors=True)
            copies.mkdir()
            times[name].append(timed(job))
            most = max(most, peak.kib if name == "store" else 0)
        print("  ".join(f"{name} {times[name][-1]:6.2f} s" for name, _ in jobs), flush=True)
    middle = {name: statistics.median(found) for name, found in times.items()}
    total = sum(path.stat().st_size for path in paths)
    for name, seconds in middle.items():
        print(f"{name:6} median {seconds:6.2f} s  {total / seconds / 1e9:5.2f} GB/s")
    yardstick = max(middle["hash"], middle["copy"])
    print(f"store / max(hash, copy) = {middle['store'] / yardstick:.3f}  ({threads} threads, {len(paths)} files)")
    print(f"peak anonymous memory while storing: {most / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
