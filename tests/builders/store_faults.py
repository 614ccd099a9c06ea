"""Looking at folders, and damaging stores on purpose."""

from __future__ import annotations

from pathlib import Path

from assay.service.registry import Registry
from assay.spec.digest import Digest


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def damage(registry: Registry, content: bytes) -> Path:
    """Flip one bit of a stored blob."""
    file = registry.blobs.local_file(Digest.of(content))
    assert file is not None
    file.chmod(0o644)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    return file
