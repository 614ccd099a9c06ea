"""How long `assay push` of a large model takes, against hashing its files and copying them durably.

    python benchmarks/push_large.py [--gib 4] [--runs 3] [--folder DIR]

The whole command counts: start of the interpreter, storing, describing, statements, numbering. The three take turns in
one run; medians are compared, the ratio is against the larger of hash and copy. Prints the peak of anonymous memory.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from store_add import PAUSE, copy_one, hash_one

SHARDS = 4
TENSOR = 64 << 20


def model(folder: Path, size: int) -> Path:
    """A sharded safetensors directory of random weights."""
    folder.mkdir()
    weight_map = {}
    for shard in range(1, SHARDS + 1):
        name = f"model-{shard:05}-of-{SHARDS:05}.safetensors"
        count = size // SHARDS // TENSOR
        header = {
            f"layer.{shard}.{at}": {
                "dtype": "F32",
                "shape": [TENSOR // 4096, 1024],
                "data_offsets": [at * TENSOR, (at + 1) * TENSOR],
            }
            for at in range(count)
        }
        weight_map.update(dict.fromkeys(header, name))
        text = json.dumps(header).encode()
        with (folder / name).open("wb") as handle:
            handle.write(struct.pack("<Q", len(text)) + text)
            for _ in range(count):
                handle.write(os.urandom(TENSOR))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (folder / "config.json").write_text('{"model_type": "bert", "architectures": ["BertModel"]}')
    return folder


def push(source: Path, home: Path) -> int:
    """Run the command; its peak of anonymous memory in bytes."""
    command = [sys.executable, "-m", "assay", "--home", str(home), "push", str(source), "bench/model"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except OSError:
            break
        found = [int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("RssAnon")]
        peak = max(peak, *found, 0)
        time.sleep(0.02)
    if process.wait():
        raise SystemExit("the push failed")
    return peak


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=float, default=4)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {"hash": [], "copy": [], "push": []}
    peak = 0
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch, ThreadPoolExecutor(os.cpu_count()) as pool:
        source = model(Path(scratch) / "model", int(options.gib * (1 << 30)))
        files = sorted(source.iterdir())
        for run in range(options.runs):
            for what in ("hash", "copy", "push") if run % 2 else ("push", "copy", "hash"):
                target = Path(scratch) / what
                os.sync()
                time.sleep(PAUSE)
                started = time.perf_counter()
                if what == "hash":
                    list(pool.map(hash_one, files))
                elif what == "copy":
                    target.mkdir()
                    list(pool.map(copy_one, files, [target / file.name for file in files]))
                else:
                    peak = max(peak, push(source, target))
                seconds[what].append(time.perf_counter() - started)
                shutil.rmtree(target, ignore_errors=True)
    medians = {what: statistics.median(found) for what, found in seconds.items()}
    limit = max(medians["hash"], medians["copy"])
    for what, median in medians.items():
        print(f"{what:>5}: {median:6.2f} s   {options.gib * (1 << 30) / median / 1e9:5.2f} GB/s")
    print(f"push / max(hash, copy) = {medians['push'] / limit:.2f}   peak anonymous memory {peak / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
