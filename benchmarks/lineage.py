"""How long a lineage takes in a registry of many versions, and a search of their weights.

    python benchmarks/lineage.py [VERSIONS]

Prints the time of the first and of the next ``Ancestry`` (statements read, then remembered), of one trace, and of
detection without and with sketches, each per version.
"""

from __future__ import annotations

import struct
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from assay.formats.registry import all_formats
from assay.service.ancestry import Ancestry
from assay.service.examine import inspect
from assay.service.lineage import trace
from assay.service.registry import Registry
from assay.settings import Settings
from assay.spec.lineage import Relation
from assay.spec.manifest import Entry, build
from assay.spec.records import Version
from assay.spec.statement import Statement
from assay.wiring.lineage import Search, declared, lineage
from assay.wiring.places import open_registry

TENSORS, WIDTH = 40, 32


def weights(number: int) -> bytes:
    """A small model; every tenth one is a fine-tune of the one before."""
    made = np.random.default_rng(number // 10 if number % 10 == 1 else number)
    header, data = {}, b""
    for tensor in range(TENSORS):
        values = made.normal(size=(WIDTH, WIDTH)).astype("<f4") * (1.01 if number % 10 == 1 else 1)
        header[f"layer.{tensor}.weight"] = {
            "dtype": "F32",
            "shape": [WIDTH, WIDTH],
            "data_offsets": [len(data), len(data) + values.nbytes],
        }
        data += values.tobytes()
    text = str(header).replace("'", '"').encode()
    return struct.pack("<Q", len(text)) + text + data


def fill(registry: Registry, count: int) -> Version:
    """A chain of versions over ten models, each made from the one before."""
    before, version = None, None
    for number in range(count):
        data = weights(number)
        manifest, config = build([Entry("model.safetensors", registry.blobs.add(data), len(data))])
        registry.blobs.add(config)
        registry.blobs.add(manifest.data)
        now = datetime.now(UTC).replace(microsecond=0)
        said = [("description", inspect(registry.tree(manifest), all_formats()).to_json())]
        if before is not None:
            base = {"relation": Relation.FINETUNED_FROM.value, "name": str(before), "manifest": str(before)}
            said.append(("base", {**base, "source": "given"}))
        for kind, predicate in said:
            registry.attach(Statement(manifest.digest, kind, predicate, now), manifest)
        version, _ = registry.catalog.add_version(
            f"bench/m{number % 10}", manifest.digest, size=len(data), entries=1, actor="bench"
        )
        before = manifest.digest
    assert version is not None
    return version


def timed(what: str, count: int, call: Callable[[], object]) -> None:
    """Run once and print milliseconds, whole and per version."""
    start = time.perf_counter()
    call()
    taken = time.perf_counter() - start
    print(f"{what:34} {taken * 1e3:10.1f} ms {taken / count * 1e6:10.1f} µs per version")


def main() -> None:
    """Fill a registry in a temporary folder and measure."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as scratch:
        registry = open_registry(Settings(Path(scratch) / "home", "bench"), create=True)
        version = fill(registry, count)
        timed("statements read", count, lambda: Ancestry(registry, declared(registry)))
        ancestry = Ancestry(registry, declared(registry))
        timed("statements remembered", count, lambda: Ancestry(registry, declared(registry)))
        timed("one trace", count, lambda: trace(ancestry, version))
        timed("detection, sketches made", count, lambda: lineage(registry, version, Search(detect=True)))
        timed("detection, sketches remembered", count, lambda: lineage(registry, version, Search(detect=True)))


if __name__ == "__main__":
    main()
