"""Zip archives as a set of member windows.

The central directory is read by the standard library; what matters to us beyond it is where each stored member's
bytes lie (so that a tensor inside a zip has an extent), that inflating is bounded by the size the archive states, and
that the local header agrees with the central one. Disagreement is a finding: two readers would see two archives.

Source of the layout: PKWARE APPNOTE 6.3.9, sections 4.3.7 (local header) and 4.3.12 (central directory).
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from dataclasses import dataclass

from assay.containers.guard import guarded
from assay.errors import BadFormat, LimitExceeded
from assay.spec.finding import Finding, Severity
from assay.trees import BytesWindow, Window

MAX_MEMBERS = 100_000
_LOCAL_HEADER = struct.Struct("<4s5H3L2H")
_ENCRYPTED = 0x1


@dataclass(frozen=True, slots=True)
class Member:
    """One member of an archive.

    Args:
        name: as the central directory says.
        size: inflated length in bytes.
        compressed_size: length in the archive.
        stored: whether the bytes lie plainly.
        offset: first byte of the member's data, counted from the start of the archive's window.
        crc: CRC-32 of the inflated bytes.
    """

    name: str
    size: int
    compressed_size: int
    stored: bool
    offset: int
    crc: int


def is_archive(head: bytes) -> bool:
    """Whether an entry's head is that of a zip with at least one member."""
    return head[:4] == b"PK\x03\x04"


class Archive:
    """A zip archive, read through a window.

    Args:
        window: the archive's bytes.

    Attributes:
        members: in central directory order; a name that occurs twice is kept once (the last wins, as in the standard
            library) and reported.
        findings: rules ``zip-duplicate-member``, ``zip-header-mismatch``, ``zip-encrypted``.

    Raises:
        BadFormat: it is not a zip, or the central directory is damaged.
        LimitExceeded: more than ``MAX_MEMBERS`` members.
    """

    def __init__(self, window: Window) -> None:
        self.window = window
        self.findings: list[Finding] = []
        with guarded("a zip archive", window.path):
            self._zip = zipfile.ZipFile(_File(window))
            infos = self._zip.infolist()
        if len(infos) > MAX_MEMBERS:
            raise LimitExceeded(
                f"{window.path}: {len(infos):,} zip members, at most {MAX_MEMBERS:,} are read",
                path=window.path,
            )
        self._infos = {info.filename: info for info in infos}
        if len(self._infos) != len(infos):
            self._report("zip-duplicate-member", "a member name occurs more than once", 0)
        self.members: tuple[Member, ...] = tuple(
            self._member(info) for info in self._infos.values() if not info.filename.endswith("/")
        )
        self._by_name = {member.name: member for member in self.members}

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def member(self, name: str) -> Member:
        """The member called *name*.

        Raises:
            BadFormat: there is none.
        """
        try:
            return self._by_name[name]
        except KeyError:
            raise BadFormat(f"{self.window.path}: no zip member {name!r}", path=self.window.path) from None

    def read(self, name: str, limit: int = 1 << 28) -> bytes:
        """The inflated bytes of a member, checked against its CRC-32.

        Raises:
            LimitExceeded: it states more than *limit* bytes.
            BadFormat: damaged, encrypted, or longer than it states.
        """
        member = self.member(name)
        if member.size > limit:
            raise LimitExceeded(
                f"{self.window.path}: member {name!r} has {member.size:,} bytes, at most {limit:,} are read",
                path=self.window.path,
            )
        with guarded("a zip member", f"{self.window.path}!{name}"):
            if member.stored:
                data = self.window.exactly(member.offset, member.size)
            else:
                self.window.budget.charge(member.size, self.window.path)
                with self._zip.open(self._infos[name]) as stream:
                    data = stream.read(member.size + 1)
            if len(data) != member.size or zlib.crc32(data) != member.crc:
                raise BadFormat(
                    f"{self.window.path}: member {name!r} does not match its size or CRC-32",
                    path=self.window.path,
                    offset=member.offset,
                )
        return data

    def open(self, name: str, limit: int = 1 << 28) -> Window:
        """A window on a member: in place when stored, else inflated into memory.

        In place, ``Window.start`` says where in the entry the member begins.
        """
        member = self.member(name)
        if member.stored:
            return self.window.sub(member.offset, member.size)
        return BytesWindow(self.read(name, limit), f"{self.window.path}!{name}", self.window.budget)

    def _member(self, info: zipfile.ZipInfo) -> Member:
        if info.flag_bits & _ENCRYPTED:
            self._report("zip-encrypted", f"member {info.filename!r} is encrypted", info.header_offset)
        offset = info.header_offset
        raw = self.window.read(offset, _LOCAL_HEADER.size)
        if len(raw) < _LOCAL_HEADER.size or raw[:4] != b"PK\x03\x04":
            raise BadFormat(
                f"{self.window.path}: no local header for {info.filename!r}",
                path=self.window.path,
                offset=offset,
            )
        fields = _LOCAL_HEADER.unpack(raw)
        flags, method, name_length, extra_length = fields[2], fields[3], fields[9], fields[10]
        data = offset + _LOCAL_HEADER.size + name_length + extra_length
        local_name = self.window.read(offset + _LOCAL_HEADER.size, name_length)
        encoding = "utf-8" if flags & 0x800 else "cp437"
        if local_name.decode(encoding, "replace") != info.orig_filename or method != info.compress_type:
            self._report(
                "zip-header-mismatch",
                f"member {info.filename!r} differs between its local and its central header",
                offset,
            )
        return Member(
            name=info.filename,
            size=info.file_size,
            compressed_size=info.compress_size,
            stored=info.compress_type == zipfile.ZIP_STORED,
            offset=data,
            crc=info.CRC,
        )

    def _report(self, rule: str, message: str, offset: int) -> None:
        severity = Severity.INCOMPLETE if rule == "zip-encrypted" else Severity.MISLEAD
        self.findings.append(Finding(rule, severity, message, self.window.path, self.window.start + offset))


class _File(io.RawIOBase):
    """The seekable file object that ``zipfile`` wants, over a window."""

    def __init__(self, window: Window) -> None:
        super().__init__()
        self._window = window
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._window.size}[whence]
        if base + offset < 0:
            raise OSError("negative seek position")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        data = self._window.read(self._position, None if size is None or size < 0 else size)
        self._position += len(data)
        return data
