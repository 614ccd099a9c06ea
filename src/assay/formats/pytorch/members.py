"""Members of torch's archives that torch does not read: what they are, by content, whatever they are called.

A pickle that ``torch.load`` passes over is one that another reader, or the next version, may run; so every member is
classified, and every pickle among those is run symbolically and named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from assay.audit.pickles import judge
from assay.containers.archive import Archive, Member
from assay.containers.compressed import peek, unwrap
from assay.containers.magic import PICKLE, kind_of
from assay.containers.pickle import parse as pickles
from assay.errors import AssayError, BadFormat
from assay.formats.pytorch.graph import reachable
from assay.formats.pytorch.values import Malformed, storage_of
from assay.spec.finding import Finding, Severity

MAX_LOOKED_AT = 64 << 20
"""Bytes of members that are looked into beyond their first ones."""
MAX_EQUAL = 20

_HEAD = 4096
_RECORDS = frozenset(["version", "byteorder", ".format_version", ".storage_alignment"])
_RECORD = 256
_TEXT = frozenset(range(32, 127)) | {9, 10, 13}


def storage_keys(value: object) -> set[str]:
    """Keys of every storage an object refers to."""
    found = set()
    for item in reachable(value):
        try:
            storage = storage_of(item)
        except Malformed:
            continue
        if storage is not None:
            found.add(storage.key)
    return found


def unread_members(archive: Archive, prefix: str, read: Callable[[str], bool], *, plain: bool) -> list[Finding]:
    """What the members are that torch does not read.

    Args:
        archive: the zip.
        prefix: the folder torch's members lie in.
        read: whether a member of that name is accounted for.
        plain: whether ``torch.save`` wrote the archive, which writes nothing else; a program's archive has many kinds.
    """
    findings: list[Finding] = []
    extra: list[str] = []
    path = archive.window.path
    for member in archive.members:
        name = member.name.removeprefix(prefix)
        inside = member.name.startswith(prefix)
        if read(member.name) or (inside and name in _RECORDS and member.size <= _RECORD):
            continue
        head = archive.head(member, _HEAD)
        # A storage that nothing refers to is numbers until it looks like something else.
        if inside and name.startswith(("data/", "constants/")) and kind_of(head) is None:
            continue
        findings += _classified(archive, member, head, plain=plain)
        if inside and name == ".data/serialization_id":
            continue
        extra.append(member.name)
    if extra and plain:
        message = f"the archive holds {len(extra):,} members that torch.save does not write"
        evidence = ", ".join(extra[:5])[:200]
        findings.append(Finding("pytorch-extra-member", Severity.NOTE, message, path, None, evidence))
    return findings


def _classified(archive: Archive, member: Member, head: bytes, *, plain: bool) -> Iterable[Finding]:
    path, offset = archive.window.path, archive.window.start + member.offset
    unwrapped, codecs = peek(head)
    kind = kind_of(unwrapped)
    if kind == PICKLE:
        if plain or codecs or _has_globals(archive, member):
            message = f"member {member.name!r:.120} is a pickle that torch does not read"
            yield Finding("pytorch-extra-pickle", Severity.INCOMPLETE, message, path, offset, head[:16].hex(" "))
            yield from _judged(archive, member)
    elif kind is not None or codecs:
        what = kind or f"{codecs[0]} stream"
        message = f"member {member.name!r:.120} is a {what}, which has no place in the archive"
        yield Finding("pytorch-foreign-member", Severity.INCOMPLETE, message, path, offset, head[:16].hex(" "))
    elif member.encrypted or (member.size and not head):
        message = f"member {member.name!r:.120} cannot be looked at"
        yield Finding("pytorch-foreign-member", Severity.INCOMPLETE, message, path, offset)
    elif plain and not _is_text(head):
        message = f"member {member.name!r:.120} is no text and nothing that is known here"
        yield Finding("pytorch-foreign-member", Severity.INCOMPLETE, message, path, offset, head[:16].hex(" "))


def _judged(archive: Archive, member: Member) -> list[Finding]:
    """What unpickling a member would do, as far as it can be read."""
    try:
        window = unwrap(archive.open(member.name, MAX_LOOKED_AT)).window
        return judge([pickles.parse(window)], window, torch=True)
    except AssayError:
        return []  # the member is a finding already


def _has_globals(archive: Archive, member: Member) -> bool:
    """Whether a pickle names anything outside the program itself; one that cannot be read is taken to."""
    try:
        parsed = pickles.parse(archive.open(member.name, MAX_LOOKED_AT))
    except (BadFormat, AssayError):
        return True
    foreign = (use.global_ for use in parsed.globals if not use.global_.module.startswith(("__torch__", "torch")))
    return not parsed.complete or bool(parsed.findings) or any(name.module != "collections" for name in foreign)


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:
            return False
        text = head[: error.start].decode("utf-8")
    return all(ord(character) in _TEXT or ord(character) > 127 for character in text)
