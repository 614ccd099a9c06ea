"""Leases: what lapsed is lost for good, on a clock that does not stand still."""

from __future__ import annotations

import time
from datetime import timedelta
from threading import Event

import pytest
from bucket_builders import bucket_in_memory
from net_builders import fail_once, stand_still

from assay.blobs.bucket import leases
from assay.blobs.bucket.leases import Lease, held
from assay.blobs.bucket.objects import BucketObjects
from assay.errors import StorageError

LASTS = timedelta(minutes=3)
KEY = "marks/one"


@pytest.fixture
def objects() -> BucketObjects:
    return bucket_in_memory()


def lapsed() -> StorageError:
    return StorageError("lapsed", code="lapsed")


def test_a_mark_is_there_as_long_as_it_is_held(objects: BucketObjects) -> None:
    with held(objects, KEY, LASTS, 0.01, lapsed) as lease:
        assert objects.head(KEY) is not None
        lease.check()
    assert objects.head(KEY) is None


def test_a_lease_that_lapsed_is_lost_however_the_clock_goes_on(
    objects: BucketObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = Lease(objects, KEY, LASTS, lapsed)
    lease.write()
    with monkeypatch.context() as still:
        stand_still(still)
        with pytest.raises(StorageError, match="lapsed"):
            lease.check()
    objects.delete(KEY)
    for again in (lease.check, lease.write):
        with pytest.raises(StorageError, match="lapsed"):
            again()
    assert objects.head(KEY) is None


def test_a_sign_of_life_that_came_too_late_counts_for_nothing_and_is_removed(
    objects: BucketObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = BucketObjects.put
    lease = Lease(objects, KEY, timedelta(seconds=0.2), lapsed)
    lease.write()

    def late(there: BucketObjects, key: str, data: bytes) -> None:
        there.delete(KEY)  # another machine took it for dead
        stand_still(monkeypatch)
        put(there, key, data)

    monkeypatch.setattr(BucketObjects, "put", late)
    lease.keep(0.0, Event())
    with pytest.raises(StorageError, match="lapsed"):
        lease.check()
    assert objects.head(KEY) is None


def test_a_sign_of_life_that_is_under_way_when_the_lease_lapses_does_not_save_it(
    objects: BucketObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = Lease(objects, KEY, LASTS, lapsed)
    lease.write()
    stand_still(monkeypatch, 80)
    put = BucketObjects.put

    def slow(there: BucketObjects, key: str, data: bytes) -> None:
        put(there, key, data)
        stand_still(monkeypatch, 20)

    monkeypatch.setattr(BucketObjects, "put", slow)
    for do in (lease.write, lease.check):
        with pytest.raises(StorageError, match="lapsed"):
            do()


def test_a_sign_of_life_counts_from_when_the_try_began_that_succeeded(
    objects: BucketObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = Lease(objects, KEY, LASTS, lapsed)
    fail_once(monkeypatch, "put", lambda: stand_still(monkeypatch))
    lease.write()
    lease.check()


def test_the_clock_of_leases_goes_on_while_the_machine_is_suspended() -> None:
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    assert abs(leases.now() - time.clock_gettime(clock)) < 5
    assert clock == leases._CLOCK
