"""The machine: processor, memory and, where torch is imported already, its accelerators."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any

from assay.spec.json import Json

_CPUINFO = Path("/proc/cpuinfo")


def hardware() -> dict[str, Json]:
    """Model and number of processors, bytes of memory, accelerators. No serial numbers, no host name."""
    found: dict[str, Json] = {"cpu": _processor(), "cores": os.cpu_count(), "memory": _memory()}
    devices = _accelerators()
    if devices:
        found["accelerators"] = devices
    return {key: value for key, value in found.items() if value is not None}


def _processor() -> str | None:
    try:
        lines = _CPUINFO.read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (names[0] if names else platform.processor() or platform.machine())[:120] or None


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def _accelerators() -> list[Json]:
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return []
    try:
        if torch.cuda.is_available():
            count = torch.cuda.device_count()
            return [
                {
                    "name": torch.cuda.get_device_name(index),
                    "memory": torch.cuda.get_device_properties(index).total_memory,
                }
                for index in range(count)
            ]
        if torch.backends.mps.is_available():
            return [{"name": "Apple MPS"}]
    except Exception:  # noqa: BLE001 - drivers fail in any way; the record then says nothing about them
        return []
    return []
