"""Building protocol-buffer messages by hand, so that tests can also build the ones no library would write."""

from __future__ import annotations

import struct


def varint(value: int) -> bytes:
    """A base-128 varint; negative numbers in two's complement of 64 bits."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number: int, value: float | str | bytes) -> bytes:
    """One field: an int as varint, a float as fixed32, text and bytes as length-delimited."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def fields(*pairs: tuple[int, float | str | bytes]) -> bytes:
    """Several fields, in the order given."""
    return b"".join(field(number, value) for number, value in pairs)
