"""Starting to write data to the disk while more of it is still being copied, so that the flush at the end is short.

A hint only: nothing here makes anything durable, and every failure is left for the flush to report.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable

_WRITE = 2
"""SYNC_FILE_RANGE_WRITE (sync_file_range(2)): begin, do not wait, and leave the file's metadata alone."""

_Call = Callable[[int, int, int, int], int]


def _find() -> _Call | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        call = ctypes.CDLL(None).sync_file_range
    except (OSError, AttributeError):
        return None
    call.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    call.restype = ctypes.c_int
    return call


_sync_file_range = _find()


def start_writing(descriptor: int, offset: int, length: int) -> None:
    """Send a range of a file towards the disk; may wait while the disk's queue is full."""
    if _sync_file_range is not None:
        _sync_file_range(descriptor, offset, length, _WRITE)
    else:
        os.fsync(descriptor)
