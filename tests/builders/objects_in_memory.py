"""Objects in a dictionary, which tests look into, change and count requests of."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from threading import Lock

from assay.errors import NotFound
from assay.ports.objects import Found


class MemoryObjects:
    """Implements ``assay.ports.objects.Objects``."""

    place = "s3://bucket"

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.requests: list[str] = []
        self._lock = Lock()

    def head(self, key: str) -> Found | None:
        self.requests.append(f"HEAD {key}")
        return self._found(key) if key in self.kept else None

    def get(self, key: str) -> bytes:
        self.requests.append(f"GET {key}")
        try:
            return self.kept[key]
        except KeyError:
            raise NotFound(f"no {key}", code="object-missing") from None

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        return self.get(key)[offset : offset + length]

    def put(self, key: str, data: bytes) -> None:
        self.requests.append(f"PUT {key}")
        self.kept[key] = data

    def put_if_absent(self, key: str, data: bytes) -> bool:
        self.requests.append(f"PUT {key}")
        with self._lock:
            return self.kept.setdefault(key, data) == data

    def list(self, prefix: str, *, after: str = "") -> Iterator[Found]:
        self.requests.append(f"LIST {prefix} {after}".rstrip())
        with self._lock:
            keys = sorted(key for key in self.kept if key.startswith(prefix) and key > after)
        return iter([self._found(key) for key in keys if key in self.kept])

    def delete(self, *keys: str) -> None:
        for key in keys:
            self.requests.append(f"DELETE {key}")
            self.kept.pop(key, None)

    def _found(self, key: str) -> Found:
        data = self.kept[key]
        return Found(key, len(data), datetime.now(UTC), hashlib.sha256(data).hexdigest())
