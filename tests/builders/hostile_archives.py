"""Archives written byte by byte, so that every field can lie; nothing in them does harm even if it ran.

``zip_of(state_dict())`` is an honest torch archive; every hostile one differs from it in one thing.
"""

from __future__ import annotations

import io
import struct
import tarfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

PRINTS = b"cbuiltins\nprint\n(S'inert'\ntR."
"""A pickle that would print a word."""
EMPTY = b"\x80\x02}."
"""A pickle of an empty dict."""


@dataclass(frozen=True)
class Entry:
    """One zip member; a field that is None says the truth."""

    name: bytes
    data: bytes = b""
    method: int = 0
    flags: int = 0x800
    extra: bytes = b""
    mode: int = 0
    crc: int | None = None
    size: int | None = None
    packed: int | None = None
    local_name: bytes | None = None
    local_method: int | None = None
    local_flags: int | None = None
    local_crc: int | None = None
    local_size: int | None = None
    local_packed: int | None = None
    local_extra: bytes = b""
    descriptor: bytes | None = None
    before: bytes = b""
    """bytes that belong to no member, before the local header"""
    listed: bool = True
    """whether the central directory names it"""


def zip_of(
    entries: Iterable[Entry],
    *,
    prefix: bytes = b"",
    counted: bool = False,
    gap: bytes = b"",
    behind: bytes = b"",
    comment: bytes = b"",
    count: int | None = None,
    trailing: bytes = b"",
    wide: bytes = b"",
) -> bytes:
    """A zip archive.

    Args:
        entries: its members.
        prefix: bytes before the archive; offsets count them when *counted*.
        gap: bytes before the central directory.
        behind: bytes between the central directory and its end.
        comment: of the archive.
        count: members the end states.
        trailing: bytes behind the comment.
        wide: records of zip64 before the end.
    """
    out = bytearray(prefix)
    base = 0 if counted else len(prefix)
    central = bytearray()
    number = 0
    for entry in entries:
        out += entry.before
        where = len(out) - base
        packed = entry.data
        if entry.method == 8:
            squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
            packed = squeeze.compress(entry.data) + squeeze.flush()
        crc = zlib.crc32(entry.data) if entry.crc is None else entry.crc
        size = len(entry.data) if entry.size is None else entry.size
        length = len(packed) if entry.packed is None else entry.packed
        local = entry.name if entry.local_name is None else entry.local_name
        method = entry.method if entry.local_method is None else entry.local_method
        flags = entry.flags if entry.local_flags is None else entry.local_flags
        numbers = [
            stated if told is None else told
            for stated, told in ((crc, entry.local_crc), (length, entry.local_packed), (size, entry.local_size))
        ]
        out += struct.pack(
            "<4s5H3L2H", b"PK\3\4", 20, flags, method, 0, 33, *numbers, len(local), len(entry.local_extra)
        )
        out += local + entry.local_extra + packed
        if entry.descriptor is not None:
            out += entry.descriptor
        if entry.listed:
            number += 1
            central += struct.pack(
                "<4s6H3L5H2L", b"PK\1\2", 20 | 3 << 8, 20, entry.flags, entry.method, 0, 33, crc, length, size,
                len(entry.name), len(entry.extra), 0, 0, 0, entry.mode << 16, where,
            )  # fmt: skip
            central += entry.name + entry.extra
    out += gap
    start = len(out) - base
    out += central + behind + wide
    total = number if count is None else count
    if total > 0xFFFF:
        where = len(out)
        out += struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 20, 20, 0, 0, total, total, len(central), start)
        out += struct.pack("<4sLQL", b"PK\6\7", 0, where, 1)
        total = 0xFFFF
    out += struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, total, total, len(central) + len(behind), start, len(comment))
    return bytes(out + comment + trailing)


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def tensor_pickle(key: str = "0", count: int = 4, *, shape: int = 4, offset: int = 0) -> bytes:
    """What ``torch.save({"w": tensor})`` pickles, for one float tensor of one dimension."""
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu")
    storage += b"J" + struct.pack("<i", count) + b"tQ"
    numbers = b"J" + struct.pack("<i", offset) + b"(J" + struct.pack("<i", shape) + b"t(K\x01t\x89"
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + numbers + b"ccollections\nOrderedDict\n)RtR"
    return b"\x80\x02}" + text("w") + call + b"s."


def state_dict(*more: Entry, pickle: bytes | None = None, storage: bytes = bytes(16)) -> list[Entry]:
    """The members of an honest torch archive, and *more*."""
    return [
        Entry(b"m/data.pkl", tensor_pickle() if pickle is None else pickle),
        Entry(b"m/byteorder", b"little"),
        Entry(b"m/data/0", storage),
        Entry(b"m/version", b"3\n"),
        Entry(b"m/.data/serialization_id", b"0123"),
        *more,
    ]


def changed(entries: Sequence[Entry], number: int, **fields: object) -> list[Entry]:
    """The entries with fields of one of them changed."""
    found = list(entries)
    found[number] = replace(found[number], **fields)  # type: ignore[arg-type]
    return found


def tar_of(*members: tarfile.TarInfo | tuple[str, bytes], form: int = tarfile.GNU_FORMAT) -> bytes:
    """A tar archive of files, and of members made by ``special``."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for member in members:
            if isinstance(member, tuple):
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
            else:
                archive.addfile(member)
    return out.getvalue()


def special(name: str, kind: bytes, target: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    """A tar member that is no plain file."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, target, mode
    return info
