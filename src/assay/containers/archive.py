"""Zip archives as a set of member windows.

The central directory is read as the standard library reads it; what matters to us beyond it is where each stored
member's bytes lie (so that a tensor inside a zip has an extent), that inflating is bounded by the size the archive
states, and that no other reader sees another archive: whatever two readers could understand differently (headers that
disagree, bytes that belong to no member, several ends) is a finding.

Not here: names that are dangerous to unpack (``assay.audit.names``).

Source of the layout: PKWARE APPNOTE 6.3.9, sections 4.3.7 (local header), 4.3.9 (data descriptor), 4.3.12 (central
directory), 4.3.14 to 4.3.16 (ends), 4.5.3 (zip64), 4.6.9 (Unicode path).
"""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from typing import NamedTuple

from assay.containers.guard import guarded
from assay.containers.zip_ends import End, find_end
from assay.containers.zip_headers import ALL32, described, other_name, partly, text, wide
from assay.errors import AssayError, BadFormat, LimitExceeded
from assay.spec.finding import Finding, Severity
from assay.trees import BytesWindow, Tree, Window

MAX_MEMBERS = 100_000
MAX_EQUAL = 20
"""Findings of one rule that one archive gives; one more says that there are others."""

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_ENCRYPTED = 0x2041  # encrypted, strongly encrypted, central directory encrypted
_DESCRIBED = 0x8
_UTF8 = 0x800
_STORED, _DEFLATED = 0, 8
_NEWEST = 63
# Version of the specification that readers know.
_PATCHED = 0x20
_IN_MEMORY = 32 << 20
_PER_MEMBER = 4096
# Archives of at most so many bytes, and so many per member, are read once, as a whole, to look at their local headers.
_CHECKED = 1 << 20
# Stored members up to this size have their CRC-32 checked when they are opened.
_MAX_GAP = 1 << 16
# Bytes between members that are looked at; more is reported without a look.


class Member(NamedTuple):
    """One member of an archive.

    Args:
        name: as the central directory says, up to a NUL as the standard library cuts it.
        size: inflated length in bytes.
        compressed_size: length in the archive.
        stored: whether the bytes lie plainly.
        offset: first byte of the member's data, counted from the start of the archive's window.
        crc: CRC-32 of the inflated bytes.
        method: number of the compression method.
        header: offset of its local header.
        mode: Unix file type and permissions, 0 where not stated.
        encrypted: whether its bytes are.
    """

    name: str
    size: int
    compressed_size: int
    stored: bool
    offset: int
    crc: int
    method: int = 0
    header: int = 0
    mode: int = 0
    encrypted: bool = False


def is_archive(head: bytes) -> bool:
    """Whether an entry's head is that of a zip with at least one member."""
    return head[:4] == b"PK\x03\x04"


def open_archive(tree: Tree, path: str) -> Archive:
    """The entry as a zip archive; read once per tree, however many ask.

    Raises:
        As ``Archive``.
    """

    def make() -> Archive | AssayError:
        try:
            return Archive(tree.open(path))
        except AssayError as error:
            return error

    found = tree.remember(("zip", path), make)
    if isinstance(found, AssayError):
        raise found.with_traceback(None)
    return found


class Archive:
    """A zip archive, read through a window.

    Args:
        window: the archive's bytes.

    Attributes:
        members: in central directory order, folders left out; a name that occurs twice is kept once (the last wins, as
            in the standard library) and reported.
        folders: names of the folders, as stated.
        names: every name as it is written, a NUL and what follows included.
        findings: rules ``zip-…``; opening members adds to them.

    Raises:
        BadFormat: it is not a zip, or the central directory is damaged.
        LimitExceeded: more than ``MAX_MEMBERS`` members.
    """

    def __init__(self, window: Window) -> None:
        self.window = window
        self.findings: list[Finding] = []
        self.names: list[str] = []
        self._said: Counter[str] = Counter()
        self._opened: set[tuple[str, str]] = set()
        self._whole: bytes | None = None
        with guarded("a zip archive", window.path):
            end = find_end(window)
            if window.size <= min(_IN_MEMORY, max(_CHECKED, end.count * _PER_MEMBER)):
                self._whole = window.read()
            for message, offset in end.oddities:
                self._report("zip-ends", message, offset)
            found = self._directory(end)
        by_name = {member.name: member for member in found}
        if len(by_name) != len(found):
            twice = [name for name, count in Counter(member.name for member in found).items() if count > 1]
            message = f"{len(twice):,} member names occur more than once, such as {twice[0]!r:.120}"
            self._report("zip-duplicate-member", message, 0)
        self._layout(found, end)
        self.folders = [name for name in by_name if name.endswith("/")]
        self.members: tuple[Member, ...] = tuple(member for member in by_name.values() if not member.name.endswith("/"))
        self._by_name = {member.name: member for member in self.members}
        self._whole = None

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
        """The inflated bytes of a member, checked against its size and CRC-32.

        Raises:
            LimitExceeded: it states more than *limit* bytes.
            BadFormat: damaged, encrypted, or longer than it states.
        """
        member = self.member(name)
        data = self._inflated(member, limit)
        if len(data) != member.size or zlib.crc32(data) != member.crc:
            self._check(member, data)
            raise BadFormat(
                f"{self.window.path}: member {name!r} does not match its size or CRC-32",
                path=self.window.path,
                offset=member.offset,
            )
        return data

    def open(self, name: str, limit: int = 1 << 28) -> Window:
        """A window on a member: in place when stored, else inflated into memory.

        In place, ``Window.start`` says where in the entry the member begins. A member that does not match its size or
        CRC-32 is opened all the same, with a finding: readers differ in what they make of it.

        Raises:
            LimitExceeded: it is deflated and states more than *limit* bytes.
            BadFormat: damaged or encrypted.
        """
        member = self.member(name)
        if member.stored and not member.encrypted:
            inside = self.window.sub(member.offset, member.size)
            if member.size <= _CHECKED:
                self._check(member, inside.read())
            return inside
        data = self._inflated(member, limit)
        self._check(member, data)
        return BytesWindow(data, f"{self.window.path}!{name}", self.window.budget)

    def verify(self, limit: int = 16 << 20, most: int = 2_000) -> None:
        """Check members against their size and CRC-32, in order, up to *limit* bytes and *most* members.

        What does not match is a finding; a member that cannot be read is left to whoever reads it.
        """
        for member in self.members[:most]:
            limit -= member.size
            if limit < 0:
                return
            if not member.encrypted:
                try:
                    self.open(member.name)
                except BadFormat as error:
                    self._report("zip-broken-member", error.message[:300], member.header, Severity.INCOMPLETE)

    def head(self, member: Member, length: int) -> bytes:
        """The first bytes of a member, as far as they can be had cheaply; empty when it cannot be read."""
        if member.encrypted or member.method not in (_STORED, _DEFLATED):
            return b""
        try:
            raw = self.window.sub(member.offset, member.compressed_size)
            if member.stored:
                return raw.read(0, length)
            inflater = zlib.decompressobj(-zlib.MAX_WBITS)
            out, position = b"", 0
            while len(out) < length and position < min(raw.size, _CHECKED) and not inflater.eof:
                # Blocks may be empty: what comes out of the first bytes need not be the beginning of anything.
                out += inflater.decompress(raw.read(position, 4096), length - len(out))
                position += 4096
        except (BadFormat, zlib.error):
            return b""
        return out

    def _inflated(self, member: Member, limit: int) -> bytes:
        """What a member inflates to, at most one byte more than it states."""
        if member.size > limit:
            raise LimitExceeded(
                f"{self.window.path}: member {member.name!r} states {member.size:,} bytes, at most {limit:,} are read",
                path=self.window.path,
            )
        with guarded("a zip member", f"{self.window.path}!{member.name}"):
            if member.encrypted:
                raise BadFormat(f"{self.window.path}: member {member.name!r} is encrypted", path=self.window.path)
            if member.stored:
                return self.window.exactly(member.offset, member.size)
            self.window.budget.charge(member.size, self.window.path)
            if member.method != _DEFLATED:
                raise BadFormat(f"compressed by method {member.method}", path=self.window.path)
            raw = self.window.exactly(member.offset, member.compressed_size)
            inflater = zlib.decompressobj(-zlib.MAX_WBITS)
            data = inflater.decompress(raw, member.size + 1)
            if len(data) == member.size and (not inflater.eof or inflater.unused_data):
                message = f"the deflated bytes of member {member.name!r:.120} do not end where its header says"
                if self._first("end", member.name):
                    self._report("zip-header-mismatch", message, member.header)
            return data

    def _check(self, member: Member, data: bytes) -> None:
        if len(data) != member.size:
            message = f"member {member.name!r:.120} states {member.size:,} bytes and holds another number"
        elif zlib.crc32(data) != member.crc:
            message = f"member {member.name!r:.120} does not match its CRC-32: some readers refuse it, some do not"
        else:
            return
        if self._first("data", member.name):
            self._report("zip-crc", message, member.header)

    def _directory(self, end: End) -> list[Member]:
        """Every member of the central directory, held against its local header."""
        data = self._bytes(end.start, end.size)
        position = 0
        found: list[Member] = []
        while position < len(data):
            if len(found) >= MAX_MEMBERS:
                raise LimitExceeded(f"{self.window.path}: more than {MAX_MEMBERS:,} zip members", path=self.window.path)
            if data[position : position + 4] != b"PK\x01\x02" or position + _CENTRAL.size > len(data):
                raise BadFormat("damaged central directory", path=self.window.path, offset=end.start + position)
            fields = _CENTRAL.unpack_from(data, position)
            position += _CENTRAL.size
            name = data[position : position + fields[10]]
            extra = data[position + fields[10] : position + fields[10] + fields[11]]
            position += fields[10] + fields[11] + fields[12]
            found.append(self._member(fields, name, extra, end.shift))
        if position != len(data):
            raise BadFormat("the central directory ends inside a record", path=self.window.path, offset=end.start)
        if len(found) != end.count:
            self._report("zip-ends", f"{end.count:,} members stated, {len(found):,} found", end.start)
        return found

    def _member(self, fields: tuple[int, ...], raw: bytes, extra: bytes, shift: int) -> Member:
        flags, method, crc, packed, size = fields[3], fields[4], fields[7], fields[8], fields[9]
        header = fields[16]
        if ALL32 in (packed, size, header):
            size, packed, header = wide(extra, size, packed, header)
        header += shift
        written = text(raw, flags)
        self.names.append(written)
        name = written.partition("\0")[0]
        if flags & _ENCRYPTED:
            self._report("zip-encrypted", f"member {name!r:.120} is encrypted", header, Severity.INCOMPLETE)
        elif method not in (_STORED, _DEFLATED):
            message = f"member {name!r:.120} is compressed by method {method}, which is not read here"
            self._report("zip-method", message, header, Severity.INCOMPLETE)
        if fields[2] & 0xFF > _NEWEST or flags & _PATCHED:
            message = f"member {name!r:.120} asks for a reader that can do more than others"
            self._report("zip-method", message, header, Severity.INCOMPLETE)
        if method == 0 and size != packed:
            message = f"member {name!r:.120} is stored, with {packed:,} bytes that should be {size:,}"
            self._report("zip-header-mismatch", message, header)
        data = self._local(header, (flags, method, crc, packed, size), raw)
        if written != name:
            self._report("zip-header-mismatch", f"the name {written!r:.120} holds a NUL: readers cut it there", header)
        if extra and other_name(extra, raw, written):
            self._report("zip-header-mismatch", f"member {name!r:.120} has another name in its Unicode path", header)
        stored = method == _STORED
        return Member(name, size, packed, stored, data, crc, method, header, fields[15] >> 16, bool(flags & _ENCRYPTED))

    def _local(self, offset: int, stated: tuple[int, int, int, int, int], name: bytes) -> int:
        """Offset of a member's data; reports where its local header says something else than the central one."""
        raw = self._bytes(offset, _LOCAL.size)
        if len(raw) < _LOCAL.size or raw[:4] != b"PK\x03\x04":
            raise BadFormat(f"no local header for {name[:120]!r}", path=self.window.path, offset=offset)
        local: tuple[int, ...] = _LOCAL.unpack(raw)[1:]
        _, flags, method, _, _, crc, packed, size, name_length, extra_length = local
        data = offset + _LOCAL.size + name_length + extra_length
        central_flags, central_method, *central = stated
        different = []
        if self._bytes(offset + _LOCAL.size, name_length) != name:
            different.append("name")
        if method != central_method:
            different.append("method")
        if (flags ^ central_flags) & (_ENCRYPTED | _DESCRIBED | _UTF8):
            different.append("flags")
        if ALL32 in (packed, size):
            extra = self._bytes(offset + _LOCAL.size + name_length, extra_length)
            size, packed, _ = wide(extra, size, packed, 0)
        if flags & _DESCRIBED:
            # Sizes that are not known yet are zero here, and follow the data.
            if (
                (size, packed, crc) != (0, 0, 0)
                and [crc, packed, size] != central
                and not partly([crc, packed, size], central)
            ):
                different.append("size or checksum")
            elif not described(self._bytes(data + central[1], 24), central):
                different.append("size or checksum behind the data")
        elif [crc, packed, size] != central:
            different.append("size or checksum")
        if different:
            message = f"member {name[:120]!r} differs in {' and '.join(different)} between its headers"
            self._report("zip-header-mismatch", message, offset)
        return data

    def _layout(self, found: list[Member], end: End) -> None:
        """Report members that share bytes, and bytes that belong to no member."""
        covered = hidden = 0
        for member in sorted(found, key=lambda item: item.header):
            if member.header > covered:
                hidden += self._gap(covered, member.header)
            elif member.header < covered:
                message = f"member {member.name!r:.120} shares bytes with the one before it"
                self._report("zip-overlap", message, member.header)
            covered = max(covered, member.offset + member.compressed_size)
        if covered > end.start:
            message = f"the members reach to byte {covered:,}, beyond the central directory"
            self._report("zip-overlap", message, end.start)
        elif covered < end.start:
            self._gap(covered, end.start)

    def _gap(self, begin: int, end: int) -> int:
        """Report bytes between members, unless they are a data descriptor or zeros."""
        if end - begin <= 24:
            start = self._bytes(begin, 4)
            if start == b"PK\x07\x08" or (begin and end - begin in (12, 20)):
                return 0
        data = self._bytes(begin, min(end - begin, _MAX_GAP))
        rest = data.lstrip(b"\0")
        if begin and data[:4] == b"PK\x07\x08" and not data[24:].strip(b"\0"):
            return 0
        if not rest and end - begin <= _MAX_GAP:
            return 0
        where = "before the first member" if begin == 0 else "between members"
        message = f"{end - begin:,} bytes {where} belong to no member"
        self._report("zip-hidden-bytes", message, begin, evidence=rest[:16].hex(" "))
        return end - begin

    def _bytes(self, offset: int, length: int) -> bytes:
        if self._whole is None:
            return self.window.read(offset, length)
        return self._whole[offset : offset + length] if offset >= 0 else b""

    def _first(self, what: str, name: str) -> bool:
        """Whether this is the first time; a member that is opened again would be reported again."""
        known = len(self._opened)
        self._opened.add((what, name))
        return len(self._opened) > known

    def _report(
        self, rule: str, message: str, offset: int, severity: Severity = Severity.MISLEAD, *, evidence: str = ""
    ) -> None:
        self._said[rule] += 1
        if self._said[rule] > MAX_EQUAL:
            return
        if self._said[rule] == MAX_EQUAL:
            message = "and more of the same"
        path, where = self.window.path, self.window.start + offset
        self.findings.append(Finding(rule, severity, message, path, where, evidence))
