"""The bytes of a GGUF header, read only as far as they are needed, and the primitives everything in it is made of."""

from __future__ import annotations

import struct

from assay.errors import BadFormat, LimitExceeded
from assay.formats.gguf.types import SCALARS
from assay.trees import Window

MAX_HEADER = 1 << 28
"""Bytes of header that are read; vocabularies take about 16 million."""
MAX_TEXT = 1 << 20
"""Bytes kept of one text value; a chat template takes some thousands."""
_FIRST_READ = 1 << 16
_LARGEST_READ = 1 << 23


class Buffer:
    """The header's bytes, read as far as they were needed."""

    def __init__(self, window: Window, version: int, *, big_endian: bool) -> None:
        order = ">" if big_endian else "<"
        self.window = window
        self.data = bytearray()
        self.length = struct.Struct(f"{order}{'I' if version == 1 else 'Q'}")
        self.int32 = struct.Struct(f"{order}I")
        self.scalars = {code: struct.Struct(order + letter) for code, letter in SCALARS.items()}

    def need(self, position: int, count: int) -> None:
        """Make the bytes [position, position + count) available.

        Raises:
            BadFormat: the file ends before; nothing was allocated.
            LimitExceeded: they lie beyond ``MAX_HEADER``.
        """
        end = position + count
        if end <= len(self.data):
            return
        path = self.window.path
        if end > self.window.size:
            raise BadFormat(
                f"{path}: header needs {count:,} bytes at offset {position:,}, the file has {self.window.size:,}",
                path=path,
                offset=position,
            )
        if end > MAX_HEADER:
            raise LimitExceeded(f"{path}: GGUF header of more than {MAX_HEADER:,} bytes", path=path, offset=position)
        while len(self.data) < end:
            ahead = min(max(_FIRST_READ, len(self.data)), _LARGEST_READ)
            self.data += self.window.read(len(self.data), max(ahead, end - len(self.data)))

    def size(self, position: int) -> tuple[int, int]:
        """A count or length, and the position behind it."""
        self.need(position, self.length.size)
        return self.length.unpack_from(self.data, position)[0], position + self.length.size

    def word(self, position: int) -> tuple[int, int]:
        """A 32-bit number, and the position behind it."""
        self.need(position, 4)
        return self.int32.unpack_from(self.data, position)[0], position + 4

    def text(self, position: int) -> tuple[str, int]:
        """A text of at most ``MAX_TEXT`` bytes (the rest is cut off), and the position behind it."""
        length, position = self.size(position)
        self.need(position, length)
        raw = self.data[position : position + min(length, MAX_TEXT)]
        return raw.decode("utf-8", "replace"), position + length

    def skip_texts(self, position: int, count: int) -> int:
        """The position behind *count* texts."""
        unpack, width = self.length.unpack_from, self.length.size
        data = self.data
        while count:
            try:
                while count:
                    position += width + unpack(data, position)[0]
                    count -= 1
            except struct.error:
                self.need(position, width)
        self.need(position, 0)
        return position
