"""The contract of exchanging packed blobs, over packs in a folder."""

from __future__ import annotations

from pathlib import Path

from assay.blobs.packs.store import PackedStore
from assay.testing.exchange import ExchangeContract, ExchangingStore


class TestExchange(ExchangeContract):
    def fresh_store(self, folder: Path) -> ExchangingStore:
        return PackedStore(folder)
