"""The contract of blob stores over a store whose blobs are raw, packed, or some of each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import settings

from assay.blobs.packs.store import PackedStore
from assay.ports.blobs import BlobStore
from assay.ports.packs import ToPack
from assay.ports.progress import SILENT, Progress
from assay.spec.digest import Digest
from assay.testing.blobs import BlobStoreContract
from assay.testing.blobs_machine import BlobStoreMachine


class PackingAtOnce(PackedStore):
    """Packs what is added, as soon as it is there: all of it, or each second blob."""

    every = 1

    def add(self, data: bytes) -> Digest:
        digest = super().add(data)
        self._pack(digest)
        return digest

    def add_file(self, file: Path, *, move: bool = False, progress: Progress = SILENT) -> tuple[Digest, int]:
        stored = super().add_file(file, move=move, progress=progress)
        self._pack(stored[0])
        return stored

    def add_files(self, files: Sequence[Path], **options: Any) -> list[tuple[Digest, int]]:
        stored = super().add_files(files, **options)
        for digest, _ in stored:
            self._pack(digest)
        return stored

    def _pack(self, digest: Digest) -> None:
        if int(digest.hex[:2], 16) % self.every == 0:
            self.pack([ToPack(digest)])


class PackingSome(PackingAtOnce):
    every = 2


class TestAllRaw(BlobStoreContract):
    def fresh_store(self, folder: Path) -> BlobStore:
        return PackedStore(folder)


class TestAllPacked(BlobStoreContract):
    def fresh_store(self, folder: Path) -> BlobStore:
        return PackingAtOnce(folder)


class TestMixed(BlobStoreContract):
    def fresh_store(self, folder: Path) -> BlobStore:
        return PackingSome(folder)


class RawMachine(BlobStoreMachine):
    def fresh_store(self, folder: Path) -> BlobStore:
        return PackedStore(folder)


class PackedMachine(BlobStoreMachine):
    def fresh_store(self, folder: Path) -> BlobStore:
        return PackingAtOnce(folder)


class MixedMachine(BlobStoreMachine):
    def fresh_store(self, folder: Path) -> BlobStore:
        return PackingSome(folder)


TestRawMachine, TestPackedMachine, TestMixedMachine = RawMachine.TestCase, PackedMachine.TestCase, MixedMachine.TestCase
for machine in (TestRawMachine, TestPackedMachine, TestMixedMachine):
    machine.settings = settings(deadline=None, max_examples=15, stateful_step_count=20)
