"""Writers and sweeps of different machines, which see each other through the bucket alone."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import timedelta

import pytest
from bucket_builders import bucket_in_memory
from net_builders import FarObjects, Net, fail_once, stand_still
from obstore.store import MemoryStore

from assay.blobs.bucket import guarding
from assay.blobs.bucket.objects import BucketObjects
from assay.blobs.bucket.store import BucketStore
from assay.errors import StorageError
from assay.spec.digest import Digest


@pytest.fixture
def objects() -> BucketObjects:
    return bucket_in_memory()


def test_a_sweep_spares_what_another_machine_adds_under_a_hold(objects: BucketObjects) -> None:
    here, there = BucketStore(objects), BucketStore(objects)
    before = here.add(b"before")
    with there.hold():
        added = there.add(b"added")
        with here.sweep() as sweep:
            assert sweep.idle(before)
            assert not sweep.idle(added)
    with here.sweep() as sweep:
        assert sweep.idle(added)


def test_a_hold_waits_for_the_sweep_of_another_machine(objects: BucketObjects) -> None:
    here, there = BucketStore(objects), BucketStore(objects)

    def push() -> Digest:
        with there.hold():
            return there.add(b"weights")

    digest = here.add(b"weights")
    with ThreadPoolExecutor(1) as pool:
        with here.sweep() as sweep:
            job = pool.submit(push)
            wait((job,), timeout=0.2)
            assert not job.done()
            assert sweep.delete(digest) == 7
        assert job.result() == digest
    assert here.size(digest) == 7
    assert [one.key for folder in ("holds/", "sweeps/") for one in objects.list(folder)] == []


def test_marks_of_the_dead_stop_counting_and_are_removed(
    objects: BucketObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = BucketStore(objects)
    objects.put("holds/dead/began", b"")
    objects.put("sweeps/dead", b"")
    digest = store.add(b"weights")
    assert list(store.leftovers()) == []
    with store.sweep() as sweep:
        assert not sweep.idle(digest)
    monkeypatch.setattr(guarding, "LEASE", timedelta(0))
    monkeypatch.setattr(guarding, "SWEEP_LEASE", timedelta(0))
    with store.hold():
        pass
    assert {one.name for one in store.leftovers(clear=True)} == {"holds/dead/began", "sweeps/dead"}
    assert list(store.leftovers()) == []


def test_a_sweep_whose_mark_was_not_written_for_long_deletes_nothing(
    objects: BucketObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = BucketStore(objects)
    digest = store.add(b"weights")
    with store.sweep() as sweep:
        assert sweep.idle(digest)
        stand_still(monkeypatch)
        with pytest.raises(StorageError) as caught:
            sweep.delete(digest)
    assert caught.value.code == "sweep-lapsed"
    assert store.size(digest) == 7


def test_a_sweep_whose_mark_lapsed_deletes_nothing_also_when_the_network_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(guarding, "SWEEP_LEASE", timedelta(seconds=0.4))
    monkeypatch.setattr(guarding, "BEAT", 0.02)
    monkeypatch.setattr(guarding, "_LOOK", 0.02)
    far, net = MemoryStore(), Net()
    here, there = BucketStore(FarObjects(far, net)), BucketStore(BucketObjects(far))
    digest = here.add(b"weights")
    with here.sweep() as sweep:
        assert sweep.idle(digest)
        net.is_down = True
        with there.hold():  # begins when the mark of the sweep no longer counts
            assert there.renew(digest) == 7
            net.is_down = False
            time.sleep(0.1)
            with pytest.raises(StorageError) as caught:
                sweep.delete(digest)
            assert caught.value.code == "sweep-lapsed"
            assert there.size(digest) == 7


def test_a_deletion_is_not_tried_again_once_the_sweep_lapsed(
    objects: BucketObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = BucketStore(objects)
    digest = store.add(b"weights")
    with store.sweep() as sweep:
        fail_once(monkeypatch, "delete", lambda: stand_still(monkeypatch))
        with pytest.raises(StorageError) as caught:
            sweep.delete(digest)
    assert caught.value.code == "sweep-lapsed"
    assert store.size(digest) == 7
