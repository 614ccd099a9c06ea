"""One tensor of 16.8 MB out of a large model: local, from a pack, from S3.

    python benchmarks/one_tensor.py [--size 4] [--runs 9] [--folder DIR] [--s3 s3://bucket/prefix]

Local: a mapped tensor of an opened artifact, every element read (hot), against safetensors' safe_open. Pack: the same
tensor of the packed version, against decoding its blocks with the codec alone (bytes at hand, one buffer), and with
comparing their digests, which no reading of a pack does without. S3: with
--s3 (a home there; AWS_* as obstore takes them) the version is pushed there once, and reading the tensor of an opened
artifact, each time with an empty cache, is held against one plain ranged GET of the same bytes; "cached" is the second
reading. Everything takes turns in one process; medians and bests of the runs. Uses what ``load_models.py`` made.
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
from typing import Any

import numpy as np
from load_models import NAME, SIZES

import assay
from assay.packing import codec, directory
from assay.packing.segments import block_digest, read_table, spans, table_size

ROWS = 16_777_216 // 4
"""Elements of the tensor: 16.8 MB of fp32."""


def tensor_name(size: str) -> tuple[str, slice]:
    """A tensor, and as many of its rows as make 16.8 MB."""
    width = SIZES[size][0]
    return "layers.5.linear1.weight", slice(0, ROWS // width)


def timed(ways: dict[str, Callable[[], object]], runs: int) -> dict[str, tuple[float, float]]:
    """Median and best seconds of each, taking turns."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(runs + 1):
        for name, way in ways.items():
            begun = time.perf_counter()
            way()
            found[name].append(time.perf_counter() - begun)
    return {name: (statistics.median(times[1:]), min(times[1:])) for name, times in found.items()}


def tell(title: str, times: dict[str, tuple[float, float]]) -> None:
    """Print one table."""
    print(f"\n{title}: median (best) ms")
    for name, (median, best) in times.items():
        print(f"  {name:32} {median * 1e3:8.2f} ({best * 1e3:.2f})", flush=True)


def touch(array: Any) -> int:
    """Read every cache line of an array."""
    return int(array.reshape(-1).view(np.uint8)[::64].sum())


def local(folder: Path, size: str, runs: int) -> None:
    """From the raw blob."""
    from safetensors import safe_open

    name, rows = tensor_name(size)
    file = folder / f"{size}.safetensors"

    def ours() -> int:
        with assay.open(NAME, home=folder / f"home-{size}") as artifact:
            return touch(artifact.tensors[name][rows])

    opened = assay.open(NAME, home=folder / f"home-{size}")

    def ours_opened() -> int:
        opened.close()  # maps anew each time: page tables are part of the cost
        return touch(opened.tensors[name][rows])

    def theirs() -> int:
        with safe_open(str(file), "np") as found:
            return touch(found.get_slice(name)[rows])

    tell(
        f"local, {size} GB, hot",
        timed({"assay, opened": ours_opened, "assay.open too": ours, "safe_open": theirs}, runs),
    )


def packed(folder: Path, size: str, runs: int) -> None:
    """From a pack, against the codec alone."""
    home = folder / f"home-packed-{size}"
    if not home.exists():
        shutil.copytree(folder / f"home-{size}", home)
        assay.pack_store(home=home)
    name, rows = tensor_name(size)
    opened = assay.open(NAME, home=home)
    spec = opened.tensors[name].spec
    assert spec.extent is not None
    source: Any = opened.tree.source(spec.extent.path)
    length = opened.tensors[name][rows].nbytes
    into = np.empty(length, np.uint8)
    blocks = stored_blocks(home, spec.name, length)
    pool = ThreadPoolExecutor(os.cpu_count())

    def alone() -> None:
        list(pool.map(lambda one: codec.decode(one[0], one[1], into[one[2] : one[3]]), blocks))

    def checked() -> None:
        def both(one: tuple[memoryview, codec.Words, int, int]) -> None:
            room = into[one[2] : one[3]]
            codec.decode(one[0], one[1], room)
            block_digest(room)

        list(pool.map(both, blocks))

    times = timed(
        {
            "assay": lambda: opened.tensors[name][rows],
            "read into memory that stays": lambda: source.read_into(spec.extent.offset, into.data),
            "the codec alone": alone,
            "the codec, and digests": checked,
        },
        runs,
    )
    tell(f"pack, {size} GB", times)
    for ours in ("assay", "read into memory that stays"):
        for at, what in enumerate(("median", "best")):
            share, both = (times[f"the codec{more}"][at] / times[ours][at] for more in (" alone", ", and digests"))
            print(f"  {ours}: of the codec's own speed, {what}: {share:.2f} (target 0.80); with digests: {both:.2f}")


def stored_blocks(home: Path, tensor: str, length: int) -> list[tuple[memoryview, codec.Words, int, int]]:
    """What is stored of the first *length* bytes of a tensor: each block with its words and its place."""
    for file in (home / "packs").glob("*.pack"):
        data = file.read_bytes()
        offset, size, digest = directory.read_footer(data[-directory.FOOTER.size :], len(data))
        found = directory.decode(data[offset : offset + size], digest, end=offset)
        for segment in found.segments:
            if segment.id in found.hints and found.hints[segment.id].name == tensor:
                stored = data[segment.offset : segment.offset + segment.stored]
                table = read_table(segment, stored[segment.stored - table_size(segment.size) :])
                return [
                    (memoryview(stored[block.offset : block.offset + block.length]), segment.words, start, stop)
                    for block, (start, stop) in zip(table, spans(segment.size), strict=True)
                    if stop <= length
                ]
    raise SystemExit(f"{tensor} is in no pack")


def far(folder: Path, size: str, runs: int, where: str) -> None:
    """From a bucket, against a plain ranged GET."""
    import obstore
    from obstore.store import from_url

    environ = {**os.environ, "ASSAY_REGISTRY": where}
    command = [sys.executable, "-m", "assay", "push", str(folder / f"{size}.safetensors"), NAME]
    subprocess.run(command, env=environ, check=True, stdout=subprocess.DEVNULL)
    os.environ["ASSAY_REGISTRY"] = where
    name, rows = tensor_name(size)
    bucket = from_url(where, client_options={"allow_http": True})
    key, offset = place(bucket, where, name)
    caches = tempfile.TemporaryDirectory()
    found: dict[str, list[float]] = {"assay, cold": [], "assay, cached": [], "a plain ranged GET": []}
    for run in range(runs + 1):
        os.environ["ASSAY_CACHE"] = f"{caches.name}/{run}"
        with assay.open(NAME) as opened:
            assert opened.tensors[name].spec.extent is not None  # its header was read
            ways: dict[str, Callable[[], object]] = {
                "assay, cold": lambda: touch(opened.tensors[name][rows]),
                "assay, cached": lambda: touch(opened.tensors[name][rows]),
                "a plain ranged GET": lambda: touch(
                    np.frombuffer(obstore.get_range(bucket, key, start=offset, length=ROWS * 4), np.uint8)
                ),
            }
            order = list(ways) if run % 2 else ["a plain ranged GET", "assay, cold", "assay, cached"]
            for way in order:
                time.sleep(0.3)  # what is kept behind the reader's back
                begun = time.perf_counter()
                ways[way]()
                found[way].append(time.perf_counter() - begun)
    caches.cleanup()
    times = {way: (statistics.median(spent[1:]), min(spent[1:])) for way, spent in found.items()}
    tell(f"{where}, {size} GB", times)
    for at, what in enumerate(("median", "best")):
        ratio = times["assay, cold"][at] / times["a plain ranged GET"][at]
        print(f"  against the plain GET, {what}: {ratio:.2f} (target 1.3)")


def place(bucket: Any, where: str, tensor: str) -> tuple[str, int]:
    """The key of the object that holds a tensor, and where in it the tensor begins."""
    import obstore

    with assay.open(NAME) as opened:
        spec = opened.tensors[tensor].spec
        assert spec.extent is not None
        assert opened.manifest is not None
        digest = opened.manifest.entries()[0].digest
    names = [item["path"] for batch in obstore.list(bucket) for item in batch]
    key = next(name for name in names if name.endswith(digest.hex[2:]) or digest.hex in name)
    return key.removeprefix(f"{where.removeprefix('s3://').partition('/')[2]}/"), spec.extent.offset


def main() -> None:
    """Measure each place."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--size", choices=list(SIZES), default="4")
    options.add_argument("--runs", type=int, default=9)
    options.add_argument("--folder", type=Path, default=Path.home() / ".cache" / "assay-bench")
    options.add_argument("--places", nargs="+", choices=["local", "pack"], default=["local", "pack"])
    options.add_argument("--s3")
    given = options.parse_args()
    if "local" in given.places:
        local(given.folder, given.size, given.runs)
    if "pack" in given.places:
        packed(given.folder, given.size, given.runs)
    if given.s3:
        far(given.folder, given.size, given.runs, given.s3)


if __name__ == "__main__":
    main()
