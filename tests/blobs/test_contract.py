"""The blob store contract over every store in the package."""

from __future__ import annotations

from pathlib import Path

from hypothesis import settings

from assay.blobs.directory import DirectoryStore
from assay.blobs.memory import MemoryStore
from assay.ports.blobs import BlobStore
from assay.testing.blobs import BlobStoreContract
from assay.testing.blobs_machine import BlobStoreMachine


class TestMemoryStore(BlobStoreContract):
    def fresh_store(self, folder: Path) -> BlobStore:
        return MemoryStore()


class TestDirectoryStore(BlobStoreContract):
    def fresh_store(self, folder: Path) -> BlobStore:
        return DirectoryStore(folder)


class MemoryMachine(BlobStoreMachine):
    def fresh_store(self, folder: Path) -> BlobStore:
        return MemoryStore()


class DirectoryMachine(BlobStoreMachine):
    def fresh_store(self, folder: Path) -> BlobStore:
        return DirectoryStore(folder)


TestMemoryMachine = MemoryMachine.TestCase
TestDirectoryMachine = DirectoryMachine.TestCase
TestMemoryMachine.settings = TestDirectoryMachine.settings = settings(
    deadline=None, max_examples=30, stateful_step_count=20
)
