"""Turns at packs: one machine at a time, the dead make way, and whoever stood still removes nothing."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from bucket_builders import bucket_in_memory
from net_builders import FarObjects, Net, fail_once, stand_still
from obstore.store import MemoryStore
from packing_much import FILES, MINE, THEIRS, wanted

from assay.blobs.bucket import turns
from assay.blobs.bucket.guarding import Watch
from assay.blobs.bucket.leases import Lease
from assay.blobs.bucket.objects import BucketObjects
from assay.blobs.bucket.packed import PackedBucket
from assay.blobs.bucket.store import BucketStore, BucketSweep
from assay.blobs.bucket.turns import Turn
from assay.errors import StorageError
from assay.testing.packs import read


@pytest.fixture
def objects() -> BucketObjects:
    return bucket_in_memory()


def turn(objects: BucketObjects, folder: Path) -> Turn:
    folder.mkdir(exist_ok=True)
    return Turn(objects, folder, lambda: None)


def machines(objects: BucketObjects, folder: Path) -> tuple[PackedBucket, PackedBucket]:
    """Two, with packs of which the second relies on the first."""
    for name in ("here", "there"):
        (folder / name).mkdir()
    here, there = (PackedBucket(BucketStore(objects), folder / name) for name in ("here", "there"))
    for data in FILES.values():
        here.add(data)
    here.pack(wanted(*MINE[:2], THEIRS[0]))
    there.pack(wanted(MINE[2], *THEIRS[1:]))
    return here, there


def test_a_machine_waits_for_the_turn_of_another_one(objects: BucketObjects, tmp_path: Path) -> None:
    here, there = turn(objects, tmp_path / "here"), turn(objects, tmp_path / "there")

    def work() -> None:
        with there.taken():
            there.check()

    with ThreadPoolExecutor(1) as pool:
        with here.taken(), here.taken():
            job = pool.submit(work)
            wait((job,), timeout=0.8)
            assert not job.done()
            here.check()
        job.result()
    assert list(objects.list("")) == []


def test_the_mark_of_a_process_that_died_makes_way_at_once_on_its_machine(
    objects: BucketObjects, tmp_path: Path
) -> None:
    (tmp_path / "here").mkdir()
    objects.put(f"turns/{turns._where(tmp_path / 'here')}-dead", b"")
    with turn(objects, tmp_path / "here").taken():
        assert len(list(objects.list("turns/"))) == 1


def test_the_mark_of_a_machine_that_died_makes_way_when_it_is_old(
    objects: BucketObjects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects.put("turns/elsewhere-dead", b"")
    monkeypatch.setattr(turns, "LEASE", timedelta(seconds=1))
    with turn(objects, tmp_path / "here").taken():
        assert [one.key for one in objects.list("turns/elsewhere")] == []


def test_a_machine_that_stood_still_changes_no_packs(
    objects: BucketObjects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, _ = machines(objects, tmp_path)
    here.delete(THEIRS[1])
    before = [one.key for one in objects.list("packs/")]
    monkeypatch.setattr(turns, "LEASE", timedelta(seconds=-1))
    for change in (lambda: here.delete(THEIRS[0]), lambda: here.compact(least=0.0)):
        with pytest.raises(StorageError) as caught:
            change()
        assert caught.value.code == "turn-lapsed"
    assert [one.key for one in objects.list("packs/")] == before


def test_a_turn_that_another_machine_took_over_does_not_count_again_when_the_network_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "LEASE", timedelta(seconds=0.4))
    monkeypatch.setattr(turns, "BEAT", 0.02)
    far, net = MemoryStore(), Net()
    here, there = turn(FarObjects(far, net), tmp_path / "here"), turn(BucketObjects(far), tmp_path / "there")
    with here.taken():
        here.check()
        net.is_down = True
        with there.taken():  # begins when the mark of the other one no longer counts
            net.is_down = False
            time.sleep(0.1)
            there.check()
            with pytest.raises(StorageError) as caught:
                here.check()
            assert caught.value.code == "turn-lapsed"
            assert len(list(BucketObjects(far).list("turns/"))) == 1


@pytest.mark.parametrize("request_", ["delete", "put"])
def test_a_change_of_packs_is_not_tried_again_once_the_turn_lapsed(
    objects: BucketObjects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request_: str
) -> None:
    here, _ = machines(objects, tmp_path)
    folder = here._folder
    (name, *_) = folder.names()
    before = [one.key for one in objects.list("packs/")]
    with folder.turn():
        fail_once(monkeypatch, request_, lambda: stand_still(monkeypatch))
        with pytest.raises(StorageError) as caught:
            folder.remove(name) if request_ == "delete" else folder.note(name, "blob", [str(MINE[0])])
    assert caught.value.code == "turn-lapsed"
    assert [one.key for one in objects.list("packs/")] == before


def test_what_a_sweep_gave_free_stays_in_packs_when_the_sweep_lapsed(
    objects: BucketObjects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = machines(objects, tmp_path)

    def lapsed(watch: Watch) -> None:
        raise StorageError("this machine stood still", code="sweep-lapsed")

    def collect() -> None:
        with here.sweep() as sweep:
            assert sweep.idle(MINE[0])
            assert sweep.delete(MINE[0])
            monkeypatch.setattr(Watch, "check", lapsed)

    with pytest.raises(StorageError, match="stood still"):
        collect()
    assert read(there, MINE[0]) == FILES[MINE[0]]


def test_a_raw_copy_stays_when_the_turn_lapsed_in_which_it_was_packed(
    objects: BucketObjects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    store = PackedBucket(BucketStore(objects), tmp_path / "here")
    digest = store.add(FILES[MINE[0]])
    idle = BucketSweep.idle

    def idle_then_lapsed(*arguments: Any) -> bool:
        found = idle(*arguments)
        monkeypatch.setattr(store._folder._turn, "_lease", lapsed)
        return found

    lapsed = Lease(objects, "turns/lapsed", timedelta(0), turns._lapsed)
    monkeypatch.setattr(BucketSweep, "idle", idle_then_lapsed)
    with pytest.raises(StorageError) as caught:
        store.pack(wanted(MINE[0]))
    assert caught.value.code == "turn-lapsed"
    assert store.is_raw(digest)


def test_what_another_machine_deleted_stays_deleted_when_both_strike_out_of_one_pack(
    objects: BucketObjects, tmp_path: Path
) -> None:
    here, there = machines(objects, tmp_path)
    assert here.delete(THEIRS[1])
    assert there.delete(THEIRS[2])
    for store in machines_again(objects, tmp_path):
        assert set(store.digests()) == FILES.keys() - {THEIRS[1], THEIRS[2]}


def test_a_reader_goes_on_when_another_machine_compacts(objects: BucketObjects, tmp_path: Path) -> None:
    here, there = machines(objects, tmp_path)
    source = there.open(MINE[1])
    assert source.read(0, 100) == FILES[MINE[1]][:100]
    here.delete(MINE[0])
    here.delete(THEIRS[0])
    assert here.compact(least=0.0) > 0
    assert source.read(0, source.size) == FILES[MINE[1]]
    assert read(there, MINE[2]) == FILES[MINE[2]]
    there.add(FILES[MINE[0]])
    there.pack(wanted(MINE[0]))  # relies on what the other machine left
    assert read(here, MINE[0]) == FILES[MINE[0]]


def machines_again(objects: BucketObjects, folder: Path) -> list[PackedBucket]:
    return [PackedBucket(BucketStore(objects), folder / name) for name in ("here", "there")]
