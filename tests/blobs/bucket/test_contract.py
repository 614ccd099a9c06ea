"""The contract of blob stores over a bucket: in memory, in a folder, and on the real server."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from bucket_builders import bucket_in_folder, bucket_in_memory, fresh_prefix
from hypothesis import settings

from assay.blobs.bucket.store import BucketStore
from assay.ports.blobs import BlobStore
from assay.testing.blobs import BlobStoreContract
from assay.testing.blobs_machine import BlobStoreMachine


class TestInMemory(BlobStoreContract):
    def fresh_store(self, folder: Path) -> BlobStore:
        return BucketStore(bucket_in_memory())


class TestInAFolder(BlobStoreContract):
    def fresh_store(self, folder: Path) -> BlobStore:
        return BucketStore(bucket_in_folder(folder))


@pytest.mark.root
class TestOnAServer(BlobStoreContract):
    slack = timedelta(seconds=2.2)

    @pytest.fixture(autouse=True)
    def _server(self, bucket_server: dict[str, str]) -> None:
        self.server = bucket_server

    def fresh_store(self, folder: Path) -> BlobStore:
        return BucketStore(fresh_prefix(self.server))


class Machine(BlobStoreMachine):
    def fresh_store(self, folder: Path) -> BlobStore:
        return BucketStore(bucket_in_memory())


TestMachine = Machine.TestCase
TestMachine.settings = settings(deadline=None, max_examples=30, stateful_step_count=20)
