"""Machines that share a bucket in memory, one of which loses its network, or stands still."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import obstore
import pytest
from bucket_builders import QUICK
from obstore.exceptions import GenericError
from obstore.store import MemoryStore

from assay.blobs.bucket import leases
from assay.blobs.bucket.objects import BucketObjects
from assay.errors import StorageError


@dataclass
class Net:
    """The way of one machine to a bucket."""

    is_down: bool = False


class FarObjects(BucketObjects):
    """A bucket to which a machine writes over a network that may be down."""

    def __init__(self, far: MemoryStore, net: Net) -> None:
        super().__init__(far, options=QUICK)
        self.net = net

    def put(self, key: str, data: bytes) -> None:
        """Write a small object."""
        if self.net.is_down:
            raise StorageError("no network")
        super().put(key, data)


def stand_still(monkeypatch: pytest.MonkeyPatch, seconds: float = 100.0) -> None:
    """So much time passes for leases, at once."""
    now = leases.now
    monkeypatch.setattr(leases, "now", lambda: now() + seconds)


def fail_once(monkeypatch: pytest.MonkeyPatch, request: str, meanwhile: Callable[[], None]) -> None:
    """The next request of a kind gets no answer, and *meanwhile* happens while it is waited for."""
    send = getattr(obstore, request)

    def lost(*arguments: Any, **named: Any) -> Any:
        monkeypatch.setattr(obstore, request, send)
        meanwhile()
        raise GenericError("no answer")

    monkeypatch.setattr(obstore, request, lost)
