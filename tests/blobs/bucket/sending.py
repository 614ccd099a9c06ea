"""Sends files to a bucket until it is killed: run by ``test_killed.py``, in a process of its own.

sending.py URL FOLDER
"""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

from assay.blobs.bucket.opening import open_bucket
from assay.blobs.bucket.options import Options
from assay.blobs.bucket.store import BucketStore


def main() -> None:
    store = BucketStore(open_bucket(sys.argv[1], options=Options(piece=5 << 20, stall=timedelta(seconds=5))))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    with store.hold():
        store.add_files(sorted(Path(sys.argv[2]).iterdir()))


if __name__ == "__main__":
    main()
