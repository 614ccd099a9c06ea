"""The fields of a zip's headers."""

from __future__ import annotations

import struct
import zlib

ALL32 = 0xFFFFFFFF
"""What a 32-bit field says when its value stands in the zip64 field."""
_UTF8 = 0x800
_UNICODE_PATH = 0x7075


def text(raw: bytes, flags: int) -> str:
    """A name as it is written: UTF-8 when the flags say so; bytes that are not become lone surrogates."""
    if not flags & _UTF8:
        return raw.decode("cp437")
    return raw.decode("utf-8", "surrogateescape")


def partly(local: list[int], central: list[int]) -> bool:
    """Whether each number is either not known yet or as stated."""
    return all(here in (0, there) for here, there in zip(local, central, strict=True))


def _fields(extra: bytes, wanted: int) -> bytes | None:
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, position)
        if kind == wanted:
            return extra[position + 4 : position + 4 + length]
        position += 4 + length
    return None


def wide(extra: bytes, size: int, packed: int, header: int) -> tuple[int, int, int]:
    """Size, packed size and header offset with those that do not fit into 32 bits taken from the zip64 field."""
    body = _fields(extra, 1) or b""
    numbers = [value for (value,) in struct.iter_unpack("<Q", body[: len(body) // 8 * 8])]
    wide = []
    for value in (size, packed, header):
        if value == ALL32 and numbers:
            wide.append(numbers.pop(0))
        else:
            wide.append(value)
    return wide[0], wide[1], wide[2]


def other_name(extra: bytes, raw: bytes, written: str) -> bool:
    """Whether a Unicode path field that readers honour says another name."""
    body = _fields(extra, _UNICODE_PATH)
    if body is None or len(body) < 5 or body[0] != 1:
        return False
    return struct.unpack_from("<L", body, 1)[0] == zlib.crc32(raw) and body[5:] != written.encode("utf-8", "replace")


def described(raw: bytes, stated: list[int]) -> bool:
    """Whether the data descriptor *raw* says *stated*: checksum, packed size, size."""
    for signature in (b"PK\x07\x08", b""):
        if raw.startswith(signature + struct.pack("<L2Q", *stated)):
            return True
        if max(stated) <= ALL32 and raw.startswith(signature + struct.pack("<3L", *stated)):
            return True
    return False
