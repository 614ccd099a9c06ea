"""Writers and sweeps of different machines, which see each other through the bucket alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from datetime import timedelta

import pytest
from bucket_builders import bucket_in_memory

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
        monkeypatch.setattr(guarding, "SWEEP_LEASE", timedelta(seconds=-1))
        with pytest.raises(StorageError) as caught:
            sweep.delete(digest)
    assert caught.value.code == "sweep-lapsed"
    assert store.size(digest) == 7
