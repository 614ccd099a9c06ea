"""One writer at a time among the processes of one machine: ``flock`` on a file."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from assay.errors import Conflict, StorageError

LOCK_SECONDS = 60.0
"""How long a writer waits for another one; a change takes milliseconds."""


@contextmanager
def alone(file: Path) -> Iterator[None]:
    """Hold off every other thread and process that locks the same file; it is made when it is not there.

    Raises:
        Conflict: another one did not finish in time (code ``catalog-busy``).
        StorageError: the file cannot be written.
    """
    descriptor = _open(file)
    try:
        _wait_for(descriptor, file)
        yield
    finally:
        os.close(descriptor)


def _open(file: Path) -> int:
    try:
        return os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise StorageError.of(error, f"cannot lock the journal {file}", path=str(file)) from error


def _wait_for(descriptor: int, file: Path) -> None:
    deadline = time.monotonic() + LOCK_SECONDS
    pause = 0.001
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Conflict(
                    f"another process has been changing the catalog for {LOCK_SECONDS:.0f} seconds: {file}",
                    code="catalog-busy",
                    hint="wait until it is done, or end it, then try again",
                ) from None
            time.sleep(pause)
            pause = min(0.02, pause * 1.5)
        except OSError as error:
            raise StorageError.of(error, f"cannot lock the journal {file}", path=str(file)) from error
        else:
            return
