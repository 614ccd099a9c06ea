"""Where a zip archive ends: the records behind its members, and whether all readers would choose the same.

Readers look for the end of the central directory from the end of the file; some take the last signature, some one whose
comment fits, some follow zip64's pointer and some compute it. Here the standard library's choice is made and every
other possible choice reported.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from assay.errors import BadFormat
from assay.trees import Window

SIGNATURE = b"PK\x05\x06"
_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_FURTHEST = _END.size + 0xFFFF
_ALL16, _ALL32 = 0xFFFF, 0xFFFFFFFF


@dataclass(slots=True)
class End:
    """The end of an archive.

    Args:
        start: offset of the central directory.
        size: its length in bytes.
        count: members it should have.
        shift: what to add to the offsets it states: bytes before the archive.
        comment: the archive's comment.
        oddities: messages about what readers may see differently, with offsets.
    """

    start: int
    size: int
    count: int
    shift: int
    comment: bytes
    oddities: list[tuple[str, int]] = field(default_factory=list)


def find_end(window: Window) -> End:
    """The end of the archive in *window*.

    Raises:
        BadFormat: there is none, or the central directory it names does not lie before it.
    """
    base = max(0, window.size - _END.size)
    tail = window.read(base)
    at = 0
    if len(tail) < _END.size or tail[:4] != SIGNATURE or tail[-2:] != b"\0\0":
        base = max(0, window.size - _FURTHEST)
        tail = window.read(base)
        at = tail.rfind(SIGNATURE)
    if at < 0 or at + _END.size > len(tail):
        raise BadFormat("no end of central directory", path=window.path, offset=window.size)
    _, disk, first_disk, here, count, size, offset, length = _END.unpack_from(tail, at)
    comment = tail[at + _END.size : at + _END.size + length]
    end = End(0, size, count, 0, comment)
    position = base + at
    if (disk, first_disk) not in {(0, 0), (_ALL16, _ALL16)} or here != count:
        end.oddities.append(("it says that it is spread over several files", position))
    trailing = len(tail) - at - _END.size - length
    if trailing:
        kind = "follow the end of the archive" if trailing > 0 else "of the comment are missing"
        end.oddities.append((f"{abs(trailing):,} bytes {kind}", position + _END.size))
    _other_ends(tail, at, base, end)
    before, stated = _wide_end(window, position, end, offset) or (position, offset)
    end.start = before - end.size
    end.shift = end.start - stated
    if end.start < 0 or end.shift < 0:
        raise BadFormat("the central directory does not lie before its end", path=window.path, offset=position)
    if end.shift:
        end.oddities.append((f"{end.shift:,} bytes stand before the archive, not counted by its offsets", 0))
    return end


def _other_ends(tail: bytes, chosen: int, base: int, end: End) -> None:
    """Report other signatures that a reader could take for the end: with a fitting comment, or inside the comment."""
    at = tail.find(SIGNATURE)
    while at >= 0:
        fits = at + _END.size <= len(tail) and at + _END.size + int.from_bytes(
            tail[at + 20 : at + 22], "little"
        ) == len(tail)
        if at != chosen and (fits or at > chosen):
            end.oddities.append(("there is another end of the archive that readers may choose", base + at))
            return
        at = tail.find(SIGNATURE, at + 1)


def _wide_end(window: Window, position: int, end: End, offset: int) -> tuple[int, int] | None:
    """Take numbers from the zip64 records, if there are any; where they begin and the directory's stated offset."""
    raw = window.read(position - _LOCATOR.size, _LOCATOR.size) if position >= _LOCATOR.size else b""
    narrow = (end.count, end.size, offset)
    if raw[:4] != b"PK\x06\x07":
        if _ALL32 in (end.size, offset):
            end.oddities.append(("it needs the records of zip64, which are not there", position))
        return None
    _, disk, pointer, disks = _LOCATOR.unpack(raw)
    start = position - _LOCATOR.size - _END64.size
    record = window.read(start, _END64.size) if start >= 0 else b""
    if record[:4] != b"PK\x06\x06":
        end.oddities.append(("the record of zip64 is not where it should be", max(0, start)))
        return None
    fields = _END64.unpack(record)
    count, size, wide_offset = fields[7], fields[8], fields[9]
    shift = start - size - wide_offset
    if pointer + max(0, shift) != start or fields[1] != _END64.size - 12 or disk or disks > 1 or fields[6] != count:
        end.oddities.append(("the records of zip64 contradict each other", start))
    for short, wide, unknown in zip(narrow, (count, size, wide_offset), (_ALL16, _ALL32, _ALL32), strict=True):
        if short not in (wide, unknown):
            end.oddities.append(("the end of the archive and that of zip64 contradict each other", start))
            break
    end.count, end.size = count, size
    return start, wide_offset
