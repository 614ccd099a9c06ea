"""How long the catalog takes when it holds 100,000 versions; prints medians. The target is under 100 ms each.

python benchmarks/catalog_scale.py [--models 1000] [--versions 100] [--runs 15] [--folder DIR]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from assay.catalog.journal import START, FileJournal, encode, mark_behind
from assay.catalog.memory import MemoryCatalog
from assay.catalog.sql import SqlCatalog
from assay.spec.digest import Digest
from assay.spec.records import Event, EventKind

TARGET = 0.1


def fill(journal: Path, models: int, versions: int) -> int:
    """A journal of models with versions and one alias each, as years of pushes would leave it."""
    at, mark = datetime(2024, 1, 1, tzinfo=UTC), START
    with journal.open("wb") as handle:

        def record(kind: EventKind, name: str, data: dict[str, object]) -> None:
            nonlocal mark, at
            at += timedelta(seconds=90)
            event = Event(mark.sequence + 1, kind, name, at, "ada", data)
            line = encode(event)
            handle.write(line)
            mark = mark_behind(line, event, mark.offset)

        for number in range(1, versions + 1):
            for model in range(models):
                name = f"team-{model % 40}/model-{model:05d}"
                manifest = str(Digest.of(f"{model} {number}".encode()))
                record(
                    EventKind.VERSION_ADDED,
                    name,
                    {"number": number, "manifest": manifest, "size": 10**9, "entries": 12},
                )
                if number % 10 == 1:
                    data = {"alias": "champion", "number": number, "from": number - 10 or None, "reason": ""}
                    record(EventKind.ALIAS_MOVED, name, data)
    return mark.sequence


def median(work: Callable[[int], object], runs: int) -> float:
    found = []
    for run in range(runs):
        started = time.perf_counter()
        work(run)
        found.append(time.perf_counter() - started)
    return statistics.median(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--versions", type=int, default=100)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        measure(Path(name), options.models, options.versions, options.runs)


def measure(folder: Path, models: int, versions: int, runs: int) -> None:
    journal, database = folder / "journal.jsonl", folder / "catalog.sqlite3"
    events = fill(journal, models, versions)
    print(
        f"{models * versions:,} versions of {models:,} models, {events:,} events, {journal.stat().st_size / 1e6:.0f} MB"
    )

    def opened(_: int = 0) -> SqlCatalog:
        return SqlCatalog(database, FileJournal(journal))

    print(f"{'make all rows from the journal':42} {median(opened, 1) * 1e3:9.1f} ms (once)")
    read_only = MemoryCatalog(FileJournal(journal, writable=False))
    print(f"{'read-only home: journal into memory':42} {median(lambda _: read_only.models(), 1) * 1e3:9.1f} ms (once)")
    catalog = opened()
    name = catalog.models(limit=models // 2)[-1].name
    some = Digest.of(f"{models // 3} {versions // 2}".encode())

    def push_open(run: int) -> None:
        opened().add_version(name, Digest.of(f"cold {run}".encode()), size=1, entries=1, actor="ada")

    works: dict[str, Callable[[int], object]] = {
        "open": opened,
        "models()": lambda _: catalog.models(),
        "models(prefix, limit=50)": lambda _: catalog.models(prefix="team-7/", limit=50),
        "versions(name)": lambda _: catalog.versions(name),
        "version(name)": lambda _: catalog.version(name),
        "version(name, 50)": lambda _: catalog.version(name, 50),
        "alias(name, 'champion')": lambda _: catalog.alias(name, "champion"),
        "by_manifest(digest)": lambda _: catalog.by_manifest(some),
        "events(name=, limit=50)": lambda _: catalog.events(name=name, limit=50),
        "events(kinds=alias-moved, limit=50)": lambda _: catalog.events(kinds=[EventKind.ALIAS_MOVED], limit=50),
        "add_version(name, new)": lambda run: catalog.add_version(
            name, Digest.of(f"new {run}".encode()), size=1, entries=1, actor="ada"
        ),
        "add_version(name, known)": lambda _: catalog.add_version(
            name, Digest.of(b"new 0"), size=1, entries=1, actor="ada"
        ),
        "open + add_version(name, new)": push_open,
        "models() in a fresh process's catalog": lambda _: opened().models(),
    }
    worst = 0.0
    for what, work in works.items():
        seconds = median(work, runs)
        worst = max(worst, seconds)
        print(f"{what:42} {seconds * 1e3:9.2f} ms")
    print(f"slowest median {worst * 1e3:.1f} ms, target {TARGET * 1e3:.0f} ms: {'met' if worst < TARGET else 'MISSED'}")


if __name__ == "__main__":
    main()
