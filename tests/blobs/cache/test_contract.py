"""The contract of blob stores over a cached bucket: nobody who uses the store can tell."""

from __future__ import annotations

from pathlib import Path

from bucket_builders import bucket_in_memory
from hypothesis import settings

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
