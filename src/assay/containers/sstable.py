"""Sorted string tables as LevelDB lays them out: keys and values of a TensorFlow checkpoint index.

    data blocks | meta index block | index block | footer (48 bytes: two block handles, padding, magic)

A block is a run of entries (bytes shared with the key before, bytes of its own, value), restart points, then one byte
that names its compression and a checksum. TensorFlow writes uncompressed blocks; snappy is decoded too, because the
layout allows it.

Source of the layout: LevelDB, "doc/table_format.md"; snappy, "format_description.txt". Checksums are not verified here.
"""

from __future__ import annotations

from collections.abc import Iterator

from assay.errors import BadFormat, LimitExceeded
from assay.trees import Window

MAGIC = 0xDB4775248B80FB57
FOOTER = 48

MAX_ENTRIES = 2_000_000
"""Entries of one table."""

MAX_BLOCK = 64 << 20
"""Bytes of one block, inflated."""

MAX_KEYS = 512 << 20
"""Bytes of all keys of one table: prefixes are shared, so that a small file can state long keys."""

_SNAPPY = 1
_VARINT_BYTES = 10


def is_table(window: Window) -> bool:
    """Whether a window ends as a table does."""
    tail = window.read(max(0, window.size - 8), 8)
    return window.size >= FOOTER and int.from_bytes(tail, "little") == MAGIC


def entries(window: Window) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of a table, in order.

    Raises:
        BadFormat: the footer or a block disobeys the layout; entries given before stay valid.
        LimitExceeded: more entries, or larger blocks or keys, than are read.
    """
    if not is_table(window):
        raise BadFormat(f"{window.path}: no sorted string table ends here", path=window.path)
    footer = window.exactly(window.size - FOOTER, FOOTER)
    at = 0
    for _ in range(2):
        _, at = _varint(footer, at, window)
    start, at = _varint(footer, at, window)
    size, at = _varint(footer, at, window)
    count = key_bytes = read = 0
    for _, handle in _block(window, start, size):
        place, next_at = _varint(handle, 0, window)
        length, _ = _varint(handle, next_at, window)
        # Blocks of one table do not overlap, so together they are no longer than the file.
        read += length
        if read > window.size:
            raise BadFormat(f"{window.path}: blocks of a sorted string table overlap", path=window.path, offset=place)
        for key, value in _block(window, place, length):
            count += 1
            key_bytes += len(key)
            if count > MAX_ENTRIES or key_bytes > MAX_KEYS:
                raise LimitExceeded(f"{window.path}: more than {MAX_ENTRIES:,} table entries", path=window.path)
            yield key, value


def _block(window: Window, start: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    if size > MAX_BLOCK:
        raise LimitExceeded(f"{window.path}: a table block of {size:,} bytes", path=window.path, offset=start)
    raw = window.exactly(start, size + 1)
    data, compression = raw[:-1], raw[-1]
    if compression == _SNAPPY:
        data = unsnappy(data, window)
    elif compression:
        raise BadFormat(f"{window.path}: a table block of compression {compression}", path=window.path, offset=start)
    restarts = int.from_bytes(data[-4:], "little")
    end = len(data) - 4 - 4 * restarts
    if len(data) < 4 or end < 0:
        raise BadFormat(f"{window.path}: a table block of {restarts} restart points", path=window.path, offset=start)
    key = b""
    at = 0
    while at < end:
        shared, at = _varint(data, at, window)
        own, at = _varint(data, at, window)
        length, at = _varint(data, at, window)
        if shared > len(key) or at + own + length > end:
            raise BadFormat(f"{window.path}: a table entry leaves its block", path=window.path, offset=start + at)
        key = key[:shared] + data[at : at + own]
        at += own
        yield key, data[at : at + length]
        at += length


def unsnappy(data: bytes, window: Window) -> bytes:
    """The bytes behind a raw snappy stream.

    Raises:
        BadFormat: it disobeys the format.
        LimitExceeded: it states more than ``MAX_BLOCK`` bytes.
    """
    size, at = _varint(data, 0, window)
    # Copies of up to 64 bytes cost three: no stream inflates more than that.
    if size > MAX_BLOCK or size > 32 * len(data):
        raise LimitExceeded(f"{window.path}: a snappy block of {size:,} bytes", path=window.path)
    out = bytearray()
    while at < len(data) and len(out) <= size:
        tag = data[at]
        at += 1
        if tag & 3 == 0:
            length = tag >> 2
            if length >= 60:
                extra = length - 59
                length = int.from_bytes(data[at : at + extra], "little")
                at += extra
            out += data[at : at + length + 1]
            at += length + 1
            continue
        if tag & 3 == 1:
            length, extra, high = (tag >> 2 & 7) + 4, 1, (tag >> 5) << 8
        else:
            length, extra, high = (tag >> 2) + 1, 2 if tag & 3 == 2 else 4, 0
        distance = int.from_bytes(data[at : at + extra], "little") | high
        at += extra
        if not 0 < distance <= len(out):
            raise BadFormat(f"{window.path}: a snappy copy from {distance} bytes back", path=window.path)
        first = len(out) - distance
        piece = bytes(out[first : first + length])
        out += (piece * (length // len(piece) + 1))[:length]
    if len(out) != size:
        raise BadFormat(f"{window.path}: a snappy block of {len(out)} bytes, expected {size}", path=window.path)
    return bytes(out)


def _varint(data: bytes, at: int, window: Window) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(data[at : at + _VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at + index + 1
    raise BadFormat(f"{window.path}: a number of a table has no end", path=window.path)
