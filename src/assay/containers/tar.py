"""Tar archives as a list of members, read block by block.

The headers of POSIX (ustar, pax) and of GNU (long names, large sizes) are understood; what is not (sparse files,
continuations) is reported. Nothing is extracted: a member says where its bytes lie.

Source of the layout: POSIX.1-2017 ``pax``, "ustar Interchange Format" and "pax Extended Header"; GNU tar manual,
"Basic Tar Format".
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from assay.errors import LimitExceeded
from assay.spec.finding import Finding, Severity
from assay.trees import Window

MAX_MEMBERS = 100_000
MAX_HEADER = 1 << 20
"""Bytes of one extended header."""
_BLOCK = 512
_ZEROS = bytes(_BLOCK)


class Kind(StrEnum):
    """What a member is."""

    FILE = "file"
    FOLDER = "folder"
    SYMLINK = "symbolic link"
    HARDLINK = "hard link"
    DEVICE = "device"
    PIPE = "pipe"
    OTHER = "unknown"


_KINDS = {
    b"0": Kind.FILE,
    b"\0": Kind.FILE,
    b"7": Kind.FILE,
    b"1": Kind.HARDLINK,
    b"2": Kind.SYMLINK,
    b"3": Kind.DEVICE,
    b"4": Kind.DEVICE,
    b"5": Kind.FOLDER,
    b"6": Kind.PIPE,
}


class Member(NamedTuple):
    """One member.

    Args:
        name: as stated; a folder's without its slash.
        kind: what it is.
        target: what a link points to.
        mode: permissions, set-user-id and set-group-id included.
        offset: first byte of its data in the window.
        size: length of its data in bytes.
        header: offset of its header.
    """

    name: str
    kind: Kind
    target: str
    mode: int
    offset: int
    size: int
    header: int


def is_tar(head: bytes) -> bool:
    """Whether an entry's head is a tar header: its checksum must be right."""
    if len(head) < _BLOCK or head[:1] == b"\0":
        return False
    return _whole(head[:_BLOCK])


def read_tar(window: Window) -> tuple[list[Member], list[Finding]]:
    """The members of an archive, as far as it can be read, and what is odd: rules ``tar-…``.

    Raises:
        LimitExceeded: more than ``MAX_MEMBERS`` members, or a header of more than ``MAX_HEADER`` bytes.
    """
    members: list[Member] = []
    findings: list[Finding] = []
    position = 0
    extended: dict[str, str] = {}

    def say(rule: str, severity: Severity, message: str) -> None:
        findings.append(Finding(rule, severity, message, window.path, window.start + position))

    while position < window.size:
        block = window.read(position, _BLOCK)
        if block == _ZEROS[: len(block)]:
            _end(window, position, findings)
            return members, findings
        size = _number(block[124:136]) if len(block) == _BLOCK else None
        if size is None or size < 0 or not _whole(block):
            say("tar-broken", Severity.INCOMPLETE, "the archive is damaged here: the rest is not read")
            return members, findings
        data = position + _BLOCK
        kind = block[156:157]
        if kind in b"LKxgX" and kind:
            if size > MAX_HEADER:
                raise LimitExceeded(f"{window.path}: a tar header of {size:,} bytes", path=window.path, offset=position)
            _extend(extended, kind, window.read(data, size))
        else:
            size = _sized(extended, size)
            if data + size > window.size:
                message = f"a member needs {size:,} bytes, {max(0, window.size - data):,} are there"
                say("tar-broken", Severity.INCOMPLETE, message)
                size = max(0, window.size - data)
            if kind not in _KINDS or any(key.startswith("GNU.sparse") for key in extended):
                say("tar-unknown-member", Severity.INCOMPLETE, f"a member of type {kind!r} is not read here")
            if kind not in (b"0", b"\0", b"7") and kind in _KINDS:
                size = 0
            members.append(_member(block, extended, data, size, position))
            extended = {key: value for key, value in extended.items() if key.startswith("g ")}
        if len(members) > MAX_MEMBERS:
            raise LimitExceeded(f"{window.path}: more than {MAX_MEMBERS:,} tar members", path=window.path)
        position = data + size + -size % _BLOCK
    say("tar-broken", Severity.INCOMPLETE, "the archive has no end: members may be missing")
    return members, findings


def _member(block: bytes, extended: dict[str, str], data: int, size: int, header: int) -> Member:
    name = _text(block[:100])
    if block[257:263] == b"ustar\0":
        prefix = _text(block[345:500])
        name = f"{prefix}/{name}" if prefix else name
    name = extended.get("path") or extended.get("g path") or name
    target = extended.get("linkpath") or extended.get("g linkpath") or _text(block[157:257])
    kind = _KINDS.get(block[156:157], Kind.OTHER)
    if kind is Kind.FILE and name.endswith("/"):
        kind = Kind.FOLDER
    return Member(name.rstrip("/") or name, kind, target, _number(block[100:108]) or 0, data, size, header)


def _end(window: Window, position: int, findings: list[Finding]) -> None:
    """Report what follows the end of the archive; writers fill up with zeros."""
    while position < window.size:
        data = window.read(position, 1 << 20)
        rest = data.lstrip(b"\0")
        if rest:
            position += len(data) - len(rest)
            message = f"{window.size - position:,} bytes follow the end of the archive"
            where = window.start + position
            findings.append(Finding("tar-trailing", Severity.MISLEAD, message, window.path, where, rest[:16].hex(" ")))
            return
        position += len(data)


def _extend(extended: dict[str, str], kind: bytes, data: bytes) -> None:
    if kind == b"L":
        extended["path"] = _text(data)
        return
    if kind == b"K":
        extended["linkpath"] = _text(data)
        return
    everywhere = "g " if kind == b"g" else ""
    while data:
        length, blank, _ = data.partition(b" ")
        if not blank or not length.isdigit() or not len(length) + 1 < int(length[:9]) <= len(data):
            return
        key, _, value = data[len(length) + 1 : int(length[:9])].rstrip(b"\n").partition(b"=")
        extended[everywhere + key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        data = data[int(length[:9]) :]


def _sized(extended: dict[str, str], size: int) -> int:
    stated = extended.get("size") or extended.get("g size") or ""
    return int(stated) if stated.isascii() and stated.isdigit() and len(stated) < 19 else size


def _number(field: bytes) -> int | None:
    """A number in octal digits, or in GNU's base 256; None when it is neither."""
    if field[:1] in (b"\x80", b"\xff"):
        return int.from_bytes(field[1:], "big") if field[0] == 0x80 else -1
    digits = field.split(b"\0", 1)[0].strip()
    try:
        return int(digits, 8) if digits else 0
    except ValueError:
        return None


def _whole(block: bytes) -> bool:
    """Whether the checksum of a header is right, as POSIX or as old systems with signed bytes count it."""
    stated = _number(block[148:156])
    counted = block[:148] + b" " * 8 + block[156:]
    total = sum(counted)
    return stated == total or stated == total - 256 * sum(byte > 127 for byte in counted)


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
