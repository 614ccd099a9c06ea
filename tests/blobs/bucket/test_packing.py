"""The contracts of blobs and packing, and random changes, over packs in a bucket."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
from bucket_builders import BUCKET, QUICK, bucket_in_folder
from hypothesis import settings

from assay.blobs.bucket.objects import BucketObjects
from assay.blobs.bucket.opening import open_bucket
from assay.blobs.bucket.packed import PackedBucket
from assay.blobs.bucket.store import BucketStore
from assay.blobs.cache.folder import CacheFolder
from assay.blobs.cache.store import CachedPackingStore
from assay.errors import StorageError
from assay.packing.reading import PackedSource
from assay.ports.packs import PackedBlobs, ToPack
from assay.testing.blobs import BlobStoreContract
from assay.testing.packs import PackingContract, PackingStore
from assay.testing.packs_machine import PackingMachine


def packed_bucket(folder: Path) -> PackedBucket:
    return PackedBucket(BucketStore(bucket_in_folder(folder / "bucket")), folder / "state")


class Settled(PackedBucket):
    """Packs a second later: what was added within the second is spared, for the server only tells seconds."""

    def pack(self, *arguments: Any, **named: Any) -> PackedBlobs:
        time.sleep(1.1)
        return super().pack(*arguments, **named)


class TestPacking(PackingContract):
    def fresh_store(self, folder: Path) -> PackingStore:
        return packed_bucket(folder)


class TestPackingBehindACache(PackingContract):
    def fresh_store(self, folder: Path) -> PackingStore:
        return CachedPackingStore(packed_bucket(folder), CacheFolder(folder / "cache", 1 << 20), "here")


@pytest.mark.root
class TestPackingOnAServer(PackingContract):
    @pytest.fixture(autouse=True)
    def _server(self, bucket_server: dict[str, str]) -> None:
        self.server = bucket_server
        self.prefix = token_hex(8)

    def fresh_store(self, folder: Path) -> PackingStore:
        objects = open_bucket(f"s3://{BUCKET}/{self.prefix}", options=QUICK, environ=self.server)
        return Settled(BucketStore(objects), folder)

    def test_a_packed_blob_keeps_the_time_of_its_raw_copy(self, store: PackingStore) -> None:
        digest = store.add(b"weights")
        (before,) = store.inventory()
        store.pack([ToPack(digest)])
        (after,) = store.inventory()
        assert before.added <= after.added <= before.added + timedelta(seconds=1)  # a list may tell more than seconds


class TestBlobs(BlobStoreContract):
    def fresh_store(self, folder: Path) -> PackingStore:
        return packed_bucket(folder)


class Machine(PackingMachine):
    def fresh_store(self, folder: Path) -> PackingStore:
        return packed_bucket(folder)


TestMachine = Machine.TestCase
TestMachine.settings = settings(deadline=None, max_examples=10, stateful_step_count=20)


def test_a_bucket_that_cannot_be_read_just_now_strikes_nothing_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = packed_bucket(tmp_path)
    digest = store.add(b"weights" * 1000)
    store.pack([ToPack(digest)])
    store.unpack(digest)

    def away(*arguments: object, **named: object) -> bytes:
        monkeypatch.undo()  # it answers again at once
        raise StorageError("the bucket does not answer", code="bucket-unreachable")

    monkeypatch.setattr(PackedSource, "read", away)
    monkeypatch.setattr(PackedSource, "read_into", away)
    with pytest.raises(StorageError, match="does not answer"):
        store.set_aside(digest)

    assert store.is_packed(digest)
    assert store.open(digest).read(0, 7) == b"weights"


def test_a_list_that_missed_what_took_the_place_of_a_pack_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = packed_bucket(tmp_path)
    digest, other = store.add(b"weights" * 1000), store.add(b"others" * 1000)
    store.pack([ToPack(digest), ToPack(other)])
    elsewhere = PackedBucket(BucketStore(bucket_in_folder(tmp_path / "bucket")), tmp_path / "another machine")
    elsewhere.delete(other)
    elsewhere.compact(least=0.0)
    listed, calls = BucketObjects.list, iter(range(1000))

    def torn(objects: BucketObjects, prefix: str, **options: str) -> Iterator[object]:
        missing = next(calls) == 0
        return (one for one in listed(objects, prefix, **options) if not (missing and one.key.endswith(".pack")))

    monkeypatch.setattr(BucketObjects, "list", torn)
    [fresh] = (tmp_path / "bucket/packs").glob("*.pack")
    assert list(store._folder.names()) == [fresh.stem]
    assert store.open(digest).read(0, 7) == b"weights"
