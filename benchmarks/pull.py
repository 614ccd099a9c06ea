"""How long `assay pull` takes, plain and with `--link`, against `cp -r` of the same files in the same run.

    python benchmarks/pull.py [--gib 4] [--runs 5] [--folder DIR]

The whole command counts: start of the interpreter, hashing every byte, making it durable. `cp` does neither of the last
two; beside it stands `cp` followed by `sync -d` of what it wrote, which is what a durable copy costs. They take turns;
medians are compared.
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
from pathlib import Path

from push_large import model
from store_add import PAUSE


def run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def durable_copy(source: Path, target: Path) -> None:
    run("cp", "-r", str(source), str(target))
    run("sync", "-d", *(str(file) for file in target.iterdir()))


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
        ways = {
            "cp": lambda: run("cp", "-r", str(files), str(target)),
            "cp + sync": lambda: durable_copy(files, target),
            "pull": lambda: run(*assay, "pull", "bench/model", str(target)),
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
                shutil.rmtree(target)
        medians = {way: statistics.median(found) for way, found in seconds.items()}
        best = {way: min(found) for way, found in seconds.items()}
        for way in ways:
            print(f"{way:>11}: median {medians[way]:6.2f} s, best {best[way]:6.2f} s")
        print(f"pull / cp = {medians['pull'] / medians['cp']:.2f} (best {best['pull'] / best['cp']:.2f})")
        print(f"pull / (cp + sync) = {medians['pull'] / medians['cp + sync']:.2f}")


if __name__ == "__main__":
    main()
