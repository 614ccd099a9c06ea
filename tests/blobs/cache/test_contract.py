"""The contract of blob stores over a cached bucket: nobody who uses the store can tell."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from bucket_builders import bucket_in_memory
from hypothesis import settings

from assay.blobs.bucket.packed import PackedBucket
from assay.blobs.bucket.store import BucketStore
from assay.blobs.cache.folder import CacheFolder
from assay.blobs.cache.store import CachedStore
from assay.ports.blobs import BlobStore
from assay.testing.blobs import BlobStoreContract
from assay.testing.blobs_machine import BlobStoreMachine


class TestWithRoom(BlobStoreContract):
    def fresh_store(self, folder: Path) -> BlobStore:
        return CachedStore(BucketStore(bucket_in_memory()), CacheFolder(folder, 1 << 30), "memory://")


class TestWithoutRoom(BlobStoreContract):
    def fresh_store(self, folder: Path) -> BlobStore:
        return CachedStore(BucketStore(bucket_in_memory()), CacheFolder(folder, 1 << 20), "memory://")


class TestThatCannotBeWritten(BlobStoreContract):
    def fresh_store(self, folder: Path) -> BlobStore:
        (folder / "file").touch()
        return CachedStore(BucketStore(bucket_in_memory()), CacheFolder(folder / "file", 1 << 20), "memory://")


class Machine(BlobStoreMachine):
    def fresh_store(self, folder: Path) -> BlobStore:
        return CachedStore(BucketStore(bucket_in_memory()), CacheFolder(folder, 100), "memory://")


TestMachine = Machine.TestCase
TestMachine.settings = settings(deadline=None, max_examples=30, stateful_step_count=20)


@pytest.mark.parametrize("packing", [False, True])
def test_a_blob_that_another_machine_put_right_is_read_right(tmp_path: Path, packing: bool) -> None:
    objects = bucket_in_memory()

    def machine(name: str) -> CachedStore:
        raw = BucketStore(objects)
        far = PackedBucket(raw, tmp_path / f"{name}-state") if packing else raw
        return CachedStore(far, CacheFolder(tmp_path / name, 1 << 30), "memory://")

    data = random.Random(5).randbytes(3 << 20)
    digest = machine("one").add(data)
    objects.put(f"blobs/sha256/{digest.hex}", bytes([data[0] ^ 1]) + data[1:])
    store = machine("one")
    assert store.open(digest).read(0, 1 << 20) != data[: 1 << 20]
    store._hands.keeper._pool.shutdown()
    other = machine("other")
    other.set_aside(digest)
    other.add(data)
    assert machine("one").open(digest).read(0, 1 << 20) == data[: 1 << 20]
