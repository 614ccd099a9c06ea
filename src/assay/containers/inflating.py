"""Sources over parts of other bytes: a range as it lies, and a deflated range inflated as far as it is read."""

from __future__ import annotations

import tempfile
import zlib

from assay.errors import BadFormat
from assay.trees import Budget, Window

FAIR = 20
"""Bytes out per byte in that honest data may take without asking."""
_STEP = 1 << 18
_IN_MEMORY = 16 << 20


class PartSource:
    """The bytes of a window as a source.

    Args:
        window: reading is charged to its budget.
    """

    __slots__ = ("window",)

    def __init__(self, window: Window) -> None:
        self.window = window

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.window.size

    def read(self, offset: int, length: int) -> bytes:
        """The bytes in [offset, offset + length), cut off at the end."""
        return self.window.read(offset, length)


class InflatingSource:
    """A deflated range, inflated from its beginning as far as somebody reads.

    Args:
        window: the deflated bytes.
        size: what they should inflate to.
        allowance: is charged with what comes out beyond ``FAIR`` times what goes in, so that bombs end, however many.
    """

    __slots__ = ("_allowance", "_charged", "_done", "_file", "_inflater", "_position", "_window", "size")

    def __init__(self, window: Window, size: int, allowance: Budget) -> None:
        self.size = size
        self._allowance = allowance
        self._charged = 0
        self._window = window
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._position = 0
        self._done = 0
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - closed by __del__

    def read(self, offset: int, length: int) -> bytes:
        """The bytes in [offset, offset + length), cut off at the stated size.

        Raises:
            BadFormat: they do not inflate, or to another number of bytes than stated.
            LimitExceeded: the allowance is used up.
        """
        end = min(offset + length, self.size)
        while self._done < end:
            self._more()
        self._file.seek(offset)
        return self._file.read(max(0, end - offset))

    def _more(self) -> None:
        data = self._inflater.unconsumed_tail
        if not data and not self._inflater.eof:
            data = self._window.read(self._position, _STEP)
            self._position += len(data)
        try:
            part = self._inflater.decompress(data, _STEP)
        except zlib.error as error:
            raise BadFormat(
                f"{self._window.path}: a member does not inflate: {error}", path=self._window.path
            ) from None
        self._done += len(part)
        excess = self._done - FAIR * self._position
        if excess > self._charged:
            self._allowance.charge(excess - self._charged, self._window.path)
            self._charged = excess
        if self._done > self.size or (not part and (self._inflater.eof or not data)):
            raise BadFormat(
                f"{self._window.path}: a member states {self.size:,} bytes and inflates to another number",
                path=self._window.path,
            )
        self._file.seek(0, 2)
        self._file.write(part)

    def __del__(self) -> None:
        self._file.close()
