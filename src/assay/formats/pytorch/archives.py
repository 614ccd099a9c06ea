"""Telling torch's zip archives apart by their members.

Concept: every one of them keeps all members under one folder; which record names lie in it says who wrote it. One
function decides, so that no archive is claimed by two formats.

Drawn as trees (``P`` is the folder, any name)::

    torch.save      P/data.pkl  P/version  P/byteorder  P/data/0 …
    TorchScript     P/data.pkl  P/constants.pkl  P/code/__torch__/*.py  P/version  P/data/0 …  (P/bytecode.pkl: lite)
    torch.export    P/archive_format  P/models/*.json  P/data/weights/*  P/data/constants/*  (since torch 2.8)
                    serialized_exported_program.json  serialized_state_dict.pt  …            (before; no folder)
    AOTInductor     P/data/aotinductor/MODEL/*.so
    torch.package   P/.data/extern_modules  P/.data/version  P/package/module.py …
    TorchServe      MAR-INF/MANIFEST.json  handler.py  weights …
"""

from __future__ import annotations

import struct
from enum import StrEnum

from assay.containers.archive import Archive, is_archive, open_archive
from assay.errors import BadFormat
from assay.trees import Tree


class Kind(StrEnum):
    """Who wrote an archive."""

    PICKLE = "torch.save"
    SCRIPT = "TorchScript"
    EXPORT = "torch.export"
    PACKAGE = "torch.package"
    SERVE = "TorchServe"


EXPORT_PROGRAM = "serialized_exported_program.json"
"""The member that marks a ``torch.export`` archive written before torch 2.8."""

_MAX_FOLDERS = 16

_MARKS = (
    "data.pkl",
    "constants.pkl",
    "model.json",
    "archive_format",
    ".data/extern_modules",
    EXPORT_PROGRAM,
    "MAR-INF/MANIFEST.json",
)


def archive_kind(archive: Archive) -> tuple[Kind, str] | None:
    """Kind and folder prefix (``"P/"`` or ``""``) of an archive, or None when torch did not write it.

    torch takes the folder of the first member (``PyTorchStreamReader::init``), so that folder decides here too; other
    folders are looked at only when it says nothing.
    """
    if not archive.members:
        return None
    folder, slash, _ = archive.members[0].name.partition("/")
    first = f"{folder}/" if slash else ""
    for prefix in (first, "", *_marked_folders(archive)):
        kind = _kind_at(archive, prefix)
        if kind is not None:
            return kind, prefix
    return None


def _marked_folders(archive: Archive) -> list[str]:
    """Folders that hold a member torch's archives are known by; at most a few, in archive order."""
    found: dict[str, None] = {}
    for member in archive.members:
        folder, slash, rest = member.name.partition("/")
        if slash and rest in _MARKS:
            found[f"{folder}/"] = None
            if len(found) >= _MAX_FOLDERS:
                break
    return list(found)


def find_archives(tree: Tree, *kinds: Kind) -> list[str]:
    """Entries that are archives of the given kinds; damaged archives are nobody's."""
    found = []
    for path in tree.paths:
        head = tree.head(path)
        if not is_archive(head) or not _may_be_torch(head):
            continue
        try:
            kind = archive_kind(open_archive(tree, path))
        except BadFormat:
            continue
        if kind is not None and kind[0] in kinds:
            found.append(path)
    return found


def _kind_at(archive: Archive, prefix: str) -> Kind | None:
    if f"{prefix}MAR-INF/MANIFEST.json" in archive:
        return Kind.SERVE
    if f"{prefix}{EXPORT_PROGRAM}" in archive or f"{prefix}archive_format" in archive:
        return Kind.EXPORT
    if f"{prefix}.data/extern_modules" in archive:
        return Kind.PACKAGE
    code = f"{prefix}code/"
    if f"{prefix}constants.pkl" in archive and f"{prefix}data.pkl" in archive:
        return Kind.SCRIPT
    if f"{prefix}model.json" in archive and any(member.name.startswith(code) for member in archive.members):
        return Kind.SCRIPT
    if f"{prefix}data.pkl" in archive and _versioned(archive, prefix):
        return Kind.PICKLE
    return None


def _versioned(archive: Archive, prefix: str) -> bool:
    records = ("version", ".data/version", "byteorder", ".format_version", "data/0")
    return any(f"{prefix}{record}" in archive for record in records)


def _may_be_torch(head: bytes) -> bool:
    # torch's own reader insists on a folder; only the older torch.export and TorchServe have members at the top.
    if len(head) < 30:
        return False
    (length,) = struct.unpack_from("<H", head, 26)
    name = head[30 : 30 + length]
    return b"/" in name or name.startswith((b"MAR-INF", b"serialized_", b"version")) or name.endswith(b".py")
