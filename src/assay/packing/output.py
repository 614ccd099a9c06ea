"""The pack file while it is written: in order, whole, and on its way to the disk before anybody waits for that."""

from __future__ import annotations

import io
from typing import IO

from assay.streams.durable import AT_A_TIME
from assay.streams.writeback import start_writing

_STRIDE = 16 << 20


class Output:
    """Counts what is written.

    Args:
        file: empty, writable.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.at, self._sent = file, 0, 0
        try:
            self._descriptor: int | None = file.fileno()
        except (OSError, io.UnsupportedOperation, AttributeError):
            self._descriptor = None

    def write(self, data: memoryview | bytes) -> None:
        """Append all of some bytes.

        Raises:
            OSError: the file cannot take them.
        """
        rest = memoryview(data)
        self.at += len(rest)
        while rest:
            rest = rest[self._file.write(rest[:AT_A_TIME]) :]
        if self._descriptor is not None and self.at - self._sent >= _STRIDE:
            start_writing(self._descriptor, self._sent, self.at - self._sent)
            self._sent = self.at
