"""Processes that use one cache at once and are killed: run by ``test_killed.py``, in a process of its own.

    filling.py FAR CACHE SEED ROUNDS

Each round forks four workers that read and fetch blobs of the folder FAR through the cache in random order, compare
every byte, and make room now and then, but not in the last rounds, which leave something to look at; some go on until
they are killed, at a random moment. Prints how many that were.
Exit status 1 when a byte was wrong.
"""

from __future__ import annotations

import math
import os
import random
import signal
import sys
import time
from pathlib import Path

from assay.blobs.cache.folder import CacheFolder
from assay.blobs.cache.store import CachedStore
from assay.blobs.directory import DirectoryStore
from assay.trees import read_into

WORKERS = 4
BOUND = 24 << 20
LAST = 1
"""Rounds without a bound: few, so that not all that was begun is completed."""


def work(far: Path, cache: Path, seed: int, until: float, bound: int) -> None:
    rng = random.Random(seed)
    near = DirectoryStore(far)
    store = CachedStore(near, CacheFolder(cache, bound), "far")
    digests = sorted(near.digests(), key=str)
    while True:
        digest = rng.choice(digests)
        data = near.open(digest).read(0, 1 << 30)
        what = rng.random()
        if bound == BOUND and what < 0.45:
            found = store.fetch_file(digest).read_bytes()
        elif bound != BOUND or what < 0.9:
            offset = rng.randrange(len(data))
            into = bytearray(rng.randrange(len(data) if bound == BOUND else 4 << 20) + 1)
            count = read_into(store.open(digest), offset, memoryview(into))
            found, data = bytes(into[:count]), data[offset : offset + len(into)]
        else:
            store.folder.make_room(rng.randrange(bound))
            found = data
        if found != data:
            os._exit(1)
        if time.monotonic() > until:
            break
    store._hands.keeper._pool.shutdown()
    os._exit(0)


def main() -> int:
    far, cache = Path(sys.argv[1]), Path(sys.argv[2])
    rng = random.Random(int(sys.argv[3]))
    killed = 0
    rounds = int(sys.argv[4])
    for number in range(rounds):
        bound = BOUND if number < rounds - LAST else 1 << 30
        if number == rounds - LAST:
            CacheFolder(cache, BOUND).make_room(0)
        until = time.monotonic() + rng.uniform(0.05, 0.25)
        doomed = rng.randrange(1, WORKERS + 1)
        workers = []
        for worker in range(WORKERS):
            child = os.fork()
            if child == 0:
                work(
                    far, cache, rng.randrange(1 << 30) + worker + number, math.inf if worker < doomed else until, bound
                )
            workers.append(child)
        time.sleep(rng.uniform(0.02, 0.2))
        for child in workers[:doomed]:
            os.kill(child, signal.SIGKILL)
        for child in workers:
            status = os.waitpid(child, 0)[1]
            if os.WIFSIGNALED(status):
                killed += 1
            elif os.WEXITSTATUS(status):
                sys.stdout.write("a worker was given wrong bytes, or failed")
                return 1
    sys.stdout.write(str(killed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
