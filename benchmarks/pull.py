"""How long `assay pull` takes, plain and with `--link`, against `cp -r` of the same files in the same run.

    python benchmarks/pull.py [--gib 4] [--runs 5] [--folder DIR]

The whole command counts: start of the interpreter, hashing every byte. Neither `cp` nor `pull` flushes what it wrote:
both leave it in the page cache; beside each stands the same followed by `sync -d` of the files, which is what a durable
copy costs. They take turns; medians are compared. Of `--link` the time inside of a process that runs already is printed
too: what is left of it is finding the version and making the links.

The bottleneck is sha256. Every byte that is pulled is hashed, which takes some 0.7 s of processor time per GB where
copying in the page cache takes 0.25, and one file cannot be hashed by two cores. So no verified pull on two cores is
faster than `sha256`, and hot, into the page cache, it takes a multiple of `cp`; only where the disk is slower than
hashing (dirty pages that are throttled, `sync`) the two come close. The `bound` is the larger of `cp` and of hashing
the files on all cores; the `work` is the processor time of both, shared by the cores.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from push_large import model
from store_add import PAUSE, hash_one


def run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def sync(folder: Path) -> None:
    run("sync", "-d", *(str(file) for file in folder.iterdir()))


def hash_all(folder: Path) -> None:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(hash_one, folder.iterdir()))


def used(way: Callable[[], object]) -> float:
    """Processor time of one call, of what it starts included."""
    before = os.times()
    way()
    return sum(after - then for after, then in zip(os.times()[:4], before[:4], strict=True))


def linking(home: Path, target: Path) -> float:
    """Seconds that a pull with `--link` takes in a process that has imported everything."""
    script = (
        "import shutil, sys, time\n"
        "import assay.cli.pull\n"
        "from assay.cli.main import invoke\n"
        "found = []\n"
        "for _ in range(7):\n"
        "    began = time.perf_counter()\n"
        "    assert invoke(sys.argv[1:]) == 0\n"
        "    found.append(time.perf_counter() - began)\n"
        "    shutil.rmtree(sys.argv[-1])\n"
        "print(min(found))"
    )
    command = [sys.executable, "-c", script, "--home", str(home), "pull", "bench/model", "--link", str(target)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=float, default=4)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        root = Path(scratch)
        source, home, target = model(root / "model", int(options.gib * (1 << 30))), root / "home", root / "out"
        assay = (sys.executable, "-m", "assay", "--home", str(home))
        run(*assay, "push", str(source), "bench/model", "--move")
        blobs = home / "blobs/sha256"
        files = root / "files"
        files.mkdir()
        for blob in blobs.iterdir():
            os.link(blob, files / blob.name)

        def copy() -> None:
            run("cp", "-r", str(files), str(target))

        def pull() -> None:
            run(*assay, "pull", "bench/model", str(target))

        ways: dict[str, Callable[[], object]] = {
            "sha256": lambda: hash_all(files),
            "cp": copy,
            "pull": pull,
            "cp + sync": lambda: (copy(), sync(target)),
            "pull + sync": lambda: (pull(), sync(target)),
            "pull --link": lambda: run(*assay, "pull", "bench/model", str(target), "--link"),
        }
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(options.runs):
            for way in ways if number % 2 else reversed(ways):
                os.sync()
                time.sleep(PAUSE)
                started = time.perf_counter()
                ways[way]()
                seconds[way].append(time.perf_counter() - started)
                shutil.rmtree(target, ignore_errors=True)
        work = (used(ways["sha256"]) + used(copy)) / (os.cpu_count() or 1)
        shutil.rmtree(target)
        within = linking(home, target)
        medians = {way: statistics.median(found) for way, found in seconds.items()}
        best = {way: min(found) for way, found in seconds.items()}
        for way in ways:
            print(f"{way:>11}: median {medians[way]:6.2f} s, best {best[way]:6.2f} s")
        bound = max(medians["cp"], medians["sha256"])
        print(f"bound, max(sha256, cp): {bound:.2f} s; work, both on all cores: {work:.2f} s")
        print(f"pull / bound = {medians['pull'] / bound:.2f}, pull / work = {medians['pull'] / work:.2f}")
        print(f"pull / cp = {medians['pull'] / medians['cp']:.2f} (best {best['pull'] / best['cp']:.2f})")
        print(f"(pull + sync) / (cp + sync) = {medians['pull + sync'] / medians['cp + sync']:.2f}")
        print(f"pull --link within a running process: {within * 1000:.1f} ms")


if __name__ == "__main__":
    main()
