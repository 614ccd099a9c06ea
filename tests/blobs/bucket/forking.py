"""Uses a bucket, forks, and says how it goes in the child; run by ``test_forking.py``.

python forking.py FOLDER used|unused
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

from assay.blobs.bucket.folder import open_folder
from assay.blobs.bucket.store import BucketStore
from assay.errors import AssayError

DATA = bytes(9 << 20)


def said(do: Callable[[], object]) -> str:
    try:
        do()
    except AssayError as error:
        return error.code
    return "done"


def main(folder: str, use: str) -> None:
    url = f"file://{folder}"
    store = BucketStore(open_folder(url))
    acts: list[Callable[[], object]] = [lambda: store.add(b"weights"), lambda: list(store.digests())]
    if use == "used":
        source = store.open(store.add(DATA))
        source.read(0, len(DATA))
        acts += [lambda: source.read(0, 10), lambda: source.read(0, len(DATA))]
    acts.append(lambda: BucketStore(open_folder(url)).add(b"weights"))
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # it would wait forever
        sys.stdout.write(" ".join(said(act) for act in acts) + "\n")
        sys.stdout.flush()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    sys.stdout.write(said(acts[0]) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
