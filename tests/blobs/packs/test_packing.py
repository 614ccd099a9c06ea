"""The contract of packing, and random changes, over the store of a home."""

from __future__ import annotations

from pathlib import Path

from hypothesis import settings

from assay.blobs.packs.store import PackedStore
from assay.testing.packs import PackingContract, PackingStore
from assay.testing.packs_machine import PackingMachine


class TestPacking(PackingContract):
    def fresh_store(self, folder: Path) -> PackingStore:
        return PackedStore(folder)


class Machine(PackingMachine):
    def fresh_store(self, folder: Path) -> PackingStore:
        return PackedStore(folder)


TestMachine = Machine.TestCase
TestMachine.settings = settings(deadline=None, max_examples=25, stateful_step_count=25)
