"""Sends a large file to a bucket and fetches it back, in a process of its own; prints the peak of its memory.

    moving_much.py URL FILE CACHE

Settings of the server are taken from the environment.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from assay.blobs.bucket.opening import open_bucket
from assay.blobs.bucket.store import BucketStore
from assay.blobs.cache.folder import CacheFolder
from assay.blobs.cache.store import CachedStore
from assay.streams.copying import digest_source


def peak() -> int:
    """Of this program alone: ru_maxrss begins with what the parent had when it forked."""
    return int(next(line for line in Path("/proc/self/status").open() if line.startswith("VmHWM")).split()[1])


def main() -> None:
    url, file, cache = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    before = peak()
    store = CachedStore(BucketStore(open_bucket(url)), CacheFolder(cache, 10 << 30), url)
    began = time.monotonic()
    with store.hold():
        digest, size = store.add_file(file)
    sent = time.monotonic()
    path = store.fetch_file(digest)
    fetched = time.monotonic()
    ok = path.stat().st_size == size and digest_source(store.past().open(digest)) == digest
    read = time.monotonic()
    store.delete(digest)
    body = {
        "ok": ok,
        "before_mib": before // 1024,
        "peak_mib": peak() // 1024,
        "sent_s": sent - began,
        "fetched_s": fetched - sent,
        "read_s": read - fetched,
    }
    sys.stdout.write(json.dumps(body))


if __name__ == "__main__":
    main()
