"""What grows with a registry, at three sizes, and the slope: index of packs, catalog, reachability; prints tables.

Blobs are synthetic directories of packs: nothing is packed, everything else is what a store does with them. A blob has
SEGMENTS segments of its own, every eighth of them with the name and sample of a tensor.

python benchmarks/scale.py [--blobs 20000 100000 500000] [--versions 1000 4000 16000] [--segments 1] [--folder DIR]
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from assay.blobs.packs.gone import Gone
from assay.blobs.packs.index import PackIndex
from assay.catalog.journal import FileJournal
from assay.catalog.sql import SqlCatalog
from assay.packing import directory
from assay.packing.codec import WORDS
from assay.packing.directory import Directory, Hint, PackedBlob
from assay.packing.segments import Segment
from assay.service.reachability import Reachability
from assay.settings import Settings
from assay.spec.digest import Digest
from assay.wiring.places import open_registry

PER_PACK = 2000
"""Blobs per synthetic pack."""
LOOKUPS = 3000


def pack(number: int, count: int, segments: int) -> Directory:
    """The directory of a pack with blobs that nobody else has."""
    chance, held, blobs, hints, at = random.Random(number), [], [], {}, len(directory.MAGIC)
    for _ in range(count):
        parts = []
        for place in range(segments):
            own, size = chance.randbytes(32), 1 << 20
            held.append(Segment(own, size, WORDS["bfloat16"], None, 0, at, 700_000, own[:8]))
            at += 700_000
            parts.append(own)
            if len(held) % 8 == 0:
                hints[own] = Hint(f"layer.{place}.{len(held) % 500}.weight", "bfloat16", chance.randbytes(64))
        blobs.append(PackedBlob(Digest("sha256", chance.randbytes(32).hex()), segments << 20, tuple(parts)))
    return Directory(tuple(held), tuple(blobs), hints)


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def forked(work: Callable[[], list[float]]) -> list[float]:
    """Numbers out of a process of its own, and the megabytes by which it grew."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        numbers = work()
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        os.write(writer, repr([*numbers, grown]).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        found = stream.read()
    os.waitpid(pid, 0)
    return [float(one) for one in found.decode().strip("[]").split(",")]


def index_of(folder: Path, blobs: int, segments: int) -> list[float]:
    """Bytes, seconds to make, seconds per look-up, seconds to list: of an index of so many packed blobs."""
    file = folder / f"index-{blobs}.sqlite3"
    packs = -(-blobs // PER_PACK)
    spent = 0.0
    index = PackIndex(file, scratch=True)
    for number in range(packs):
        held = pack(number, min(PER_PACK, blobs - number * PER_PACK), segments)
        with index.change():
            spent += timed(
                lambda held=held, number=number: index.take_in_segments(f"{number:064x}", 1 << 30, held, Gone())
            )  # type: ignore[misc]
            spent += timed(lambda held=held, number=number: index.take_in_blobs(f"{number:064x}", held, Gone(), 1))  # type: ignore[misc]
    index.close()
    wanted = [
        blob for number in range(0, packs, max(1, packs // 20)) for blob in pack(number, PER_PACK, segments).blobs
    ]
    random.Random(1).shuffle(wanted)

    def ask() -> list[float]:
        opened = PackIndex(file, writable=False)
        size = timed(lambda: [opened.blob(blob.digest) for blob in wanted[:LOOKUPS]]) / LOOKUPS
        absent = [Digest.of(blob.digest.hex.encode()) for blob in wanted[:LOOKUPS]]
        missing = timed(lambda: [opened.blob(digest) for digest in absent]) / LOOKUPS
        read = timed(lambda: [opened.segment(blob.parts[0]) for blob in wanted[:LOOKUPS]]) / LOOKUPS
        listed = timed(lambda: sum(1 for _ in opened.blobs()))
        return [size, missing, read, listed]

    return [file.stat().st_size, spent, *forked(ask)]


def catalog_of(folder: Path, models: int, versions: int) -> list[float]:
    """Bytes of journal and rows, seconds to make the rows, seconds to open, and per look-up."""
    scale = _neighbour("catalog_scale")
    journal, database = folder / f"journal-{versions}", folder / f"rows-{versions}.sqlite3"
    scale.fill(journal, models, versions)
    made = timed(lambda: SqlCatalog(database, FileJournal(journal)))

    def ask() -> list[float]:
        opening = timed(lambda: SqlCatalog(database, FileJournal(journal)))
        catalog = SqlCatalog(database, FileJournal(journal))
        names = [f"team-{model % 40}/model-{model:05d}" for model in range(models)]
        each = statistics.median(timed(lambda name=name: catalog.version(name, 1)) for name in names)  # type: ignore[misc]
        return [opening, each]

    return [journal.stat().st_size, database.stat().st_size, made, *forked(ask)]


def reachability_of(folder: Path, versions: int) -> list[float]:
    """Seconds and megabytes to tell what so many versions of eight files and two statements need; blobs of them."""
    home = folder / f"home-{versions}"
    _neighbour("gc_scale").fill(home, versions, 8)

    def ask() -> list[float]:
        registry = open_registry(Settings(home, "ada"))
        spent = timed(lambda: Reachability(registry))
        count = 0

        def listing() -> None:
            nonlocal count
            count = sum(1 for _ in registry.blobs.inventory())

        return [spent, timed(listing), count]

    return forked(ask)


def _neighbour(name: str) -> object:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def table(heads: str, rows: list[tuple[int, list[float]]], units: list[float]) -> None:
    """Rows, and the slope between the last two per thing counted."""
    print(heads)
    for count, found in rows:
        print(f"{count:>12,}" + "".join(f"{one / unit:>13,.2f}" for one, unit in zip(found, units, strict=True)))
    (less, before), (more, after) = rows[-2:]
    slopes = [(b - a) / (more - less) for a, b in zip(before, after, strict=True)]
    print(f"{'each more':>12}" + "".join(f"{slope:>13.3g}" for slope in slopes) + "   (bytes, seconds, MB)")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--blobs", type=int, nargs="*", default=[20_000, 100_000, 500_000])
    options.add_argument("--versions", type=int, nargs="*", default=[1000, 4000, 16_000])
    options.add_argument("--segments", type=int, default=1)
    options.add_argument("--folder", type=Path)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as scratch:
        folder = Path(scratch)
        rows = [(count, index_of(folder, count, chosen.segments)) for count in chosen.blobs]
        heads = (
            "       blobs     index MB       made s      size us    absent us   segment us       list s    memory MB"
        )
        table(heads, rows, [1e6, 1, 1e-6, 1e-6, 1e-6, 1, 1])
        rows = [(count // 10 * 100, catalog_of(folder, 100, count // 10)) for count in chosen.versions]
        heads = "    versions   journal MB      rows MB       made s      open ms     look-up us    memory MB"
        table(heads, rows, [1e6, 1e6, 1, 1e-3, 1e-6, 1])
        rows = [(count, reachability_of(folder, count)) for count in chosen.versions]
        table("    versions  reachable s       list s        blobs    memory MB", rows, [1, 1, 1, 1])


if __name__ == "__main__":
    main()
