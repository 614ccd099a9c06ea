"""Killed at every step, and at random moments beside others: each blob is readable from one place or the other."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from rounds import kills

from assay.blobs.packs.rows import Rows
from assay.blobs.packs.store import PackedStore
from assay.errors import NotFound, StorageError
from assay.ports.packs import ToPack
from assay.spec.digest import Digest
from assay.testing.packs import read, stretches, weights

FILES = {Digest.of(data): data for data in (weights(seed, tune=tune) for seed in (1, 2) for tune in range(3))}
BASE, TUNE, SECOND, OTHER, FOURTH, FIFTH = FILES
STEPS = 400
"""More than any of the stories below has."""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder in memory where there is such a place: what is killed is the process, not the machine."""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    yield folder
    shutil.rmtree(folder)


def wanted(*digests: Digest) -> list[ToPack]:
    return [ToPack(digest, stretches(FILES[digest])) for digest in digests]


def prepare(root: Path) -> None:
    """Two packs, the second relies on the first; two raw blobs."""
    store = PackedStore(root)
    for data in FILES.values():
        store.add(data)
    store.pack(wanted(BASE, OTHER))
    store.pack(wanted(TUNE, FOURTH))


def in_child(work: Callable[[], None]) -> int:
    """Run in a process of its own; its exit status, negative where it was killed."""
    child = os.fork()
    if not child:
        run_and_exit(work)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run_and_exit(work: Callable[[], None]) -> None:
    """The whole life of a child: nothing of the test's own process goes on in it."""
    status = 1
    try:
        work()
        status = 0
    finally:
        if status:
            traceback.print_exc()
        os._exit(status)


def die_at(step: int) -> None:
    """Kill this process before its *step*-th change of a file, or of the index."""
    left = iter(range(step))

    def before(act: Callable[..., object]) -> Callable[..., object]:
        def counted(*args: object, **options: object) -> object:
            if next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
            return act(*args, **options)

        return counted

    for name in ("fsync", "replace", "rename", "unlink", "write", "pwrite", "mkdir", "utime", "link"):
        setattr(os, name, before(getattr(os, name)))
    run = Rows.run

    def counted_run(self: Rows, statement: str, *values: object) -> int:
        act = before(run) if statement in {"BEGIN IMMEDIATE", "COMMIT"} else run
        return act(self, statement, *values)  # type: ignore[return-value]

    Rows.run = counted_run  # type: ignore[method-assign]


def check(root: Path, *, must: set[Digest], may: set[Digest]) -> None:
    """*must* is there, *may* is there or not, nothing else; also after the index was made again and all was cleaned."""
    for again in range(3):
        store = PackedStore(root)
        if again == 1:
            store.reindex_packs()
        if again == 2:
            store.leftovers(clear=True)
            store.compact(least=0.0)
        found = set(store.digests())
        assert must <= found <= must | may
        for digest in found:
            assert read(store, digest) == FILES[digest], (digest, again)
        assert list(store.check_packs()) == []
    assert list((root / "staging").iterdir()) == []
    assert store.pack_use().dead == 0
    store.pack(wanted(*found))
    assert not any(store.is_raw(digest) for digest in found)
    assert {digest: read(store, digest) for digest in found} == {digest: FILES[digest] for digest in found}


def pack(store: PackedStore) -> None:
    store.pack(wanted(SECOND, FIFTH))


def delete(store: PackedStore) -> None:
    store.delete(BASE)


def sweep(store: PackedStore) -> None:
    with store.sweep() as gate:
        gate.delete(BASE)
        gate.delete(SECOND)


def compact(store: PackedStore) -> None:
    store.delete(BASE)
    store.compact(least=0.0)


def compact_away(store: PackedStore) -> None:
    store.delete(BASE)
    store.delete(OTHER)
    store.compact(least=0.0)


def unpack(store: PackedStore) -> None:
    store.unpack(TUNE)
    store.pack(wanted(TUNE))


def add(store: PackedStore) -> None:
    store.add(FILES[TUNE])
    store.delete(TUNE)
    store.add(FILES[TUNE])
    store.pack(wanted(TUNE))


def reindex(store: PackedStore) -> None:
    store.reindex_packs()


def set_aside(store: PackedStore) -> None:
    store.set_aside(BASE)


@pytest.mark.parametrize(
    ("story", "lost"),
    [
        (pack, set()),
        (delete, {BASE}),
        (sweep, {BASE, SECOND}),
        (compact, {BASE}),
        (compact_away, {BASE, OTHER}),
        (unpack, set()),
        (add, {TUNE}),
        (reindex, set()),
        (set_aside, {BASE}),
    ],
)
def test_killed_before_any_change_of_a_file(
    place: Path, story: Callable[[PackedStore], None], lost: set[Digest]
) -> None:
    prepare(place / "template")
    for step in range(STEPS):
        root = place / "root"
        shutil.copytree(place / "template", root)

        def work(root: Path = root, step: int = step) -> None:
            die_at(step)
            story(PackedStore(root))

        status = in_child(work)
        assert status in {0, -signal.SIGKILL}
        gone = lost if status == 0 and story is not add else set()
        check(root, must=FILES.keys() - lost, may=lost - gone)
        shutil.rmtree(root)
        if status == 0:
            assert step > 3
            return
    pytest.fail("it never came to its end")


def live(root: Path, seed: int, seconds: float, mine: Digest) -> None:
    """Change the store at random for some time; what is *mine* nobody deletes, and it is always readable."""
    chance, until = random.Random(seed), time.monotonic() + seconds
    store = PackedStore(root)
    theirs = [digest for digest in FILES if digest not in {BASE, TUNE, SECOND}]
    while time.monotonic() < until:
        act = chance.randrange(9)
        some = chance.choice(theirs)
        if act == 0:
            store.add(FILES[some])
        elif act == 1:
            store.pack(wanted(*(digest for digest in FILES if store.size(digest) is not None)))
        elif act == 2:
            store.delete(some)
        elif act == 3:
            store.compact(least=chance.choice([0.0, 0.25]))
        elif act == 4:
            store.unpack(mine)
        elif act == 5:
            with store.sweep() as sweep:
                if sweep.idle(some):
                    sweep.delete(some)
        elif act == 6:
            assert store.renew(mine) == len(FILES[mine])
        elif act == 7 and chance.random() < 0.2:
            store.reindex_packs()
        elif act == 8:
            with suppress(NotFound):
                assert read(store, some) == FILES[some]
            store.add(FILES[mine])
        assert store.size(mine) == len(FILES[mine])
        source = store.open(mine)
        assert source.read(0, source.size) == FILES[mine]
        assert mine in set(store.digests())


@pytest.mark.parametrize("kill", [False, True])
def test_several_processes_at_once(place: Path, *, kill: bool) -> None:
    """Each packs, unpacks, adds, deletes, compacts; some are killed meanwhile, and others begin."""
    root = place / "root"
    prepare(root)
    chance = random.Random(7)
    for seed in range(kills(6) if kill else 2):
        children = []
        for number, mine in enumerate((BASE, TUNE, SECOND)):
            child = os.fork()
            if not child:
                run_and_exit(partial(live, root, 10 * seed + number, 0.7, mine))
            children.append(child)
        if kill:
            time.sleep(chance.uniform(0.05, 0.5))
            os.kill(children[seed % 3], signal.SIGKILL)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        assert set(codes) <= {0, -signal.SIGKILL if kill else 0}, (seed, codes)
        store = PackedStore(root)
        for mine in (BASE, TUNE, SECOND):
            assert read(store, mine) == FILES[mine]
        assert list(store.check_packs()) == []
    check(root, must={BASE, TUNE, SECOND}, may=set(FILES))


@pytest.mark.parametrize("story", [pack, compact, unpack, delete, reindex])
def test_a_full_disk_loses_nothing(place: Path, story: Callable[[PackedStore], None]) -> None:
    """Each write of the story in turn finds no room, and so does every one behind it."""
    prepare(place / "template")
    for step in range(STEPS):
        root = place / "root"
        shutil.copytree(place / "template", root)
        status = in_child(partial(_without_room, root, step, story))
        assert status in {0, FULL}
        check(root, must=FILES.keys() - {BASE}, may={BASE} if status or story in {pack, unpack, reindex} else set())
        shutil.rmtree(root)
        if status == 0:
            return
    pytest.fail("it never came to its end")


FULL = 28


def _without_room(root: Path, step: int, story: Callable[[PackedStore], None]) -> None:
    left = iter(range(step))

    def before(act: Callable[..., object]) -> Callable[..., object]:
        def tried(*args: object, **options: object) -> object:
            if next(left, None) is None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return act(*args, **options)

        return tried

    for name in ("write", "pwrite", "fsync", "mkdir", "link"):
        setattr(os, name, before(getattr(os, name)))
    try:
        story(PackedStore(root))
    except StorageError as error:
        if error.code == "store-full":
            os._exit(FULL)
        raise


def test_a_store_that_was_open_when_its_process_forked_serves_both(place: Path) -> None:
    prepare(place / "root")
    store = PackedStore(place / "root")
    assert read(store, BASE) == FILES[BASE]

    def work() -> None:
        assert read(store, TUNE) == FILES[TUNE]
        assert store.delete(OTHER)
        store.compact(least=0.0)
        assert read(store, BASE) == FILES[BASE]

    assert in_child(work) == 0
    assert read(store, BASE) == FILES[BASE]
    assert store.size(OTHER) is None
    assert store.delete(TUNE)
    assert set(store.digests()) == FILES.keys() - {OTHER, TUNE}
