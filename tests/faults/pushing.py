"""Numbers artifacts of one model as fast as it can, once a starting signal exists.

python pushing.py FOLDER WHO COUNT
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from assay.blobs.directory import DirectoryStore
from assay.catalog.opening import open_catalog


def main(folder: Path, who: str, count: int) -> None:
    store = DirectoryStore(folder)
    catalog = open_catalog(folder / "catalog.sqlite3", folder / "journal.jsonl")
    while not (folder / "start").exists():
        time.sleep(0.001)
    for number in range(count):
        source = folder / f"{who}.bin"
        source.write_bytes(f"{who} {number}".encode() * 300_000)
        digest, size = store.add_file(source)
        version, new = catalog.add_version("m", digest, size=size, entries=1, actor=who)
        assert new
        sys.stdout.write(f"{version.number} {version.manifest}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
