"""Looking at the processes of the system: who descends from whom, and how much memory they have."""

from __future__ import annotations

import os
from pathlib import Path

_PROC = Path("/proc")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def descendants(pid: int) -> list[int]:
    """Processes that *pid* started, and those started; empty where the system does not say."""
    found: list[int] = []
    pending = [pid]
    while pending:
        started = children(pending.pop())
        found += started
        pending += started
    return found


def resident(pid: int) -> int:
    """Bytes of a process that are in memory; 0 when it is gone or the system does not say."""
    try:
        return int((_PROC / str(pid) / "statm").read_text("ascii").split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return 0


def alive(pid: int) -> bool:
    """Whether a process still runs: it is there, and not waiting to be reaped."""
    try:
        text = (_PROC / str(pid) / "stat").read_text("ascii", "replace")
    except OSError:
        return False
    return text.rpartition(")")[2].split()[:1] not in (["Z"], ["X"])


def children(pid: int) -> list[int]:
    """Processes that any thread of *pid* started and that are its children still."""
    found: list[int] = []
    try:
        threads = list((_PROC / str(pid) / "task").iterdir())
    except OSError:
        return found
    for thread in threads:
        try:
            text = (thread / "children").read_text("ascii")
        except (OSError, ValueError):
            continue
        found += [int(word) for word in text.split()]
    return found
