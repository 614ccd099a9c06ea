"""How long finding and freeing garbage takes beside a plain walk of the same blobs; prints medians and ratios.

The walk (``os.scandir`` and ``stat`` of every blob, nothing else) is the least that any collection must do; reading
each manifest and statement once (open, read, close) is the least that one must do which keeps no index of its own.
Deleting is compared with a plain ``unlink`` of as many files of the same sizes.

python benchmarks/gc_scale.py [--versions 1000] [--files 8] [--runs 5] [--folder DIR]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from assay.catalog.journal import START, FileJournal, encode, mark_behind
from assay.service import garbage, usage
from assay.service.registry import Registry
from assay.settings import Settings
from assay.spec.digest import Digest
from assay.spec.manifest import Entry, build
from assay.spec.records import Event, EventKind
from assay.spec.statement import Statement
from assay.wiring.places import open_registry

KINDS = ("description", "audit")
NOW = timedelta()


def fill(home: Path, versions: int, files: int) -> None:
    """Versions that share all files but two with their neighbours; a tenth of them removed; two statements each."""
    open_registry(Settings(home, "ada"), create=True)
    blobs = home / "blobs/sha256"
    journal, mark = home / "journal.jsonl", START
    at = datetime(2026, 1, 1, tzinfo=UTC)

    def put(data: bytes) -> Digest:
        digest = Digest.of(data)
        if not (blobs / digest.hex).exists():
            (blobs / digest.hex).write_bytes(data)
        return digest

    with journal.open("wb") as handle:

        def record(kind: EventKind, name: str, data: dict[str, object]) -> None:
            nonlocal mark
            line = encode(Event(mark.sequence + 1, kind, name, at, "ada", data))
            handle.write(line)
            mark = mark_behind(line, Event(mark.sequence + 1, kind, name, at, "ada", data), mark.offset)

        put(b"{}")
        for number in range(1, versions + 1):
            texts = {f"part-{n}.txt": f"{n} {number if n < 2 else number // 50} ".encode() * 200 for n in range(files)}
            manifest, config = build(Entry(path, put(data), len(data)) for path, data in texts.items())
            put(config)
            put(manifest.data)
            for kind in KINDS:
                said = Statement(manifest.digest, kind, {"number": number}, at)
                put(said.document())
                document = said.manifest(len(manifest.data))
                data = {"subject": str(manifest.digest), "manifest": str(put(document.data))}
                record(
                    EventKind.STATEMENT_ADDED,
                    "",
                    {**data, "artifactType": said.artifact_type, "size": len(document.data)},
                )
            data = {"number": number, "manifest": str(manifest.digest), "size": manifest.size, "entries": files}
            record(EventKind.VERSION_ADDED, "team/model", data)
        for number in range(1, versions + 1, 10):
            record(EventKind.REMOVED, "team/model", {"number": number, "reason": "old"})
    assert FileJournal(journal).end(START) > 0


def walk(home: Path) -> tuple[int, int]:
    """Blobs and bytes."""
    count = total = 0
    with os.scandir(home / "blobs/sha256") as found:
        for entry in found:
            total += entry.stat().st_size
            count += 1
    return count, total


def read(home: Path, registry: Registry) -> int:
    """Open and read every manifest of versions and statements, and nothing more."""
    total = 0
    for event in registry.catalog.events(kinds=(EventKind.VERSION_ADDED, EventKind.STATEMENT_ADDED)):
        total += len((home / "blobs/sha256" / str(event.data["manifest"])[7:]).read_bytes())
    return total


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--versions", type=int, default=1000)
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        home = Path(scratch) / "home"
        fill(home, options.versions, options.files)
        registry = open_registry(Settings(home, "ada"))
        count, total = walk(home)
        print(f"{options.versions:,} versions, {count:,} blobs, {total / 1e6:.1f} MB")

        def median(work: Callable[[], object]) -> float:
            work()
            return statistics.median(timed(work) for _ in range(options.runs))

        walked = median(lambda: walk(home))
        reading = median(lambda: read(home, registry))
        planned = median(lambda: garbage.plan(registry, grace=NOW))
        used = median(lambda: usage.usage(registry))
        floor = walked + reading
        print(f"walk of the blobs             {walked * 1e3:8.1f} ms")
        print(f"reading every manifest        {reading * 1e3:8.1f} ms")
        print(f"gc, dry run                   {planned * 1e3:8.1f} ms   {planned / floor:.1f} x walk and reading")
        print(f"du                            {used * 1e3:8.1f} ms   {used / floor:.1f} x walk and reading")
        plan = garbage.plan(registry, grace=NOW)
        beside = Path(scratch) / "beside"
        beside.mkdir()
        for number, one in enumerate(plan.doomed):
            (beside / str(number)).write_bytes(bytes(one.size))
        unlinked = timed(lambda: [path.unlink() for path in beside.iterdir()])
        freed = timed(lambda: garbage.collect(registry, plan))
        print(f"unlink of {len(plan.doomed):,} files         {unlinked * 1e3:8.1f} ms")
        print(f"gc --yes of as many blobs     {freed * 1e3:8.1f} ms   of which the journal: one flush per artifact")
        assert garbage.plan(registry, grace=NOW).doomed == ()


if __name__ == "__main__":
    main()
