"""A machine that changes packs of a bucket at random; run by ``test_machines.py``, which kills it now and then.

python packing_much.py URL STATE SEED SECONDS MINE
"""

from __future__ import annotations

import random
import sys
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from assay.blobs.bucket import guarding, turns
from assay.blobs.bucket.folder import open_folder
from assay.blobs.bucket.opening import open_bucket
from assay.blobs.bucket.packed import PackedBucket
from assay.blobs.bucket.store import BucketStore
from assay.blobs.packs.store import PackedStore
from assay.errors import IntegrityError, NotFound
from assay.ports.packs import ToPack
from assay.spec.digest import Digest
from assay.testing.exchange import shipment
from assay.testing.packs import read, stretches, weights

FILES = {Digest.of(data): data for data in (weights(seed, tune=tune) for seed in (1, 2) for tune in range(3))}
MINE = list(FILES)[:3]
"""What nobody deletes, one for each machine; related to the others, so that packs rely on each other."""
THEIRS = list(FILES)[3:]


def machine(url: str, state: Path) -> PackedBucket:
    """The bucket as a machine sees it that keeps its things in *state*."""
    state.mkdir(parents=True, exist_ok=True)
    objects = open_folder(url) if url.startswith("file:") else open_bucket(url)
    return PackedBucket(BucketStore(objects), state)


def beside(state: Path) -> PackedStore:
    """A folder of this machine with every file, packed: what a bucket may take in."""
    (state / "side").mkdir(exist_ok=True)
    side = PackedStore(state / "side")
    for digest, data in FILES.items():
        if side.renew(digest) is None:
            side.add(data)
    side.pack(wanted(*FILES))
    return side


def wanted(*digests: Digest) -> list[ToPack]:
    """Blobs to pack."""
    return [ToPack(digest, stretches(FILES[digest])) for digest in digests]


def main(url: str, state: str, seed: str, seconds: str, own: str) -> None:
    """Change the bucket until the time is over; what is *own* is there and right all the while."""
    turns.LEASE = guarding.SWEEP_LEASE = timedelta(seconds=5)  # others wait for the killed
    turns.BEAT = guarding.BEAT = 0.5
    store, chance, mine = machine(url, Path(state)), random.Random(int(seed)), MINE[int(own)]
    side = beside(Path(state))
    sys.stdout.write("begun\n")
    sys.stdout.flush()
    until = time.monotonic() + float(seconds)
    while time.monotonic() < until:
        _act(store, side, chance, mine)
        assert store.size(mine) == len(FILES[mine])
        assert read(store, mine) == FILES[mine]


def _act(store: PackedBucket, side: PackedStore, chance: random.Random, mine: Digest) -> None:
    act, some = chance.randrange(10), chance.choice(THEIRS)
    if act == 0:
        with store.hold():
            store.add(FILES[some])
    elif act in {1, 2}:
        store.pack(wanted(*(digest for digest in FILES if store.size(digest) is not None)))
    elif act == 3:
        store.delete(some)
    elif act == 4:
        store.compact(least=chance.choice([0.0, 0.25]))
    elif act == 5:
        store.unpack(mine)
    elif act == 6:
        with store.sweep() as sweep:
            if sweep.idle(some):
                sweep.delete(some)
    elif act in {7, 8}:
        with store.hold(), suppress(IntegrityError):  # a base may go before it is taken in
            store.take_in(shipment(side, store, chance.choice([some, mine])))
    else:
        with suppress(NotFound):
            assert read(store, some) == FILES[some]
        with store.hold():
            assert store.renew(mine) == len(FILES[mine])


if __name__ == "__main__":
    main(*sys.argv[1:])
