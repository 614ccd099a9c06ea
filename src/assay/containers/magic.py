"""What bytes begin like, for the cases where the answer matters whatever the name says: programs, scripts, archives.

Only signatures that nothing else begins with by accident are here; the formats themselves know theirs.
"""

from __future__ import annotations

import re

from assay.containers.archive import is_archive
from assay.containers.pickle.parse import looks_like_pickle
from assay.containers.tar import is_tar

SCRIPT = "script"
PICKLE = "pickle"
ZIP = "zip archive"
TAR = "tar archive"

_MACHO = tuple(bytes.fromhex(magic) for magic in ("feedface", "feedfacf", "cefaedfe", "cffaedfe"))
_SHEBANG = re.compile(rb"#! ?/[\x21-\x7e]{2,100}[ \t\r\n]")
_SCRIPTS = (b"<?php", b"@echo off", b"#!python")
_MIN_PROGRAM = 64


def program_of(head: bytes) -> str | None:
    """What kind of program or script an entry with this head is; None when it is none."""
    if head[:4] == b"\x7fELF" and head[4:5] in (b"\1", b"\2") and len(head) >= _MIN_PROGRAM // 2:
        return "ELF program"
    if head[:2] == b"MZ" and _is_portable(head):
        return "Windows program"
    if head[:4] in _MACHO and len(head) >= _MIN_PROGRAM // 2:
        return "Mach-O program"
    if head[:4] == b"\xca\xfe\xba\xbe" and 0 < int.from_bytes(head[4:8], "big") < 32:
        return "Mach-O program"
    if head[:8] == b"\0asm\1\0\0\0":
        return "WebAssembly program"
    if head[:20] == bytes.fromhex("4c0000000114020000000000c000000000000046"):
        return "Windows shortcut"
    start = head.removeprefix(b"\xef\xbb\xbf")
    if _SHEBANG.match(start) or start[:10].lower().startswith(_SCRIPTS):
        return SCRIPT
    return None


def kind_of(head: bytes) -> str | None:
    """A program, script, pickle, zip or tar by its head; None when it is none of them."""
    program = program_of(head)
    if program is not None:
        return program
    if is_archive(head):
        return ZIP
    if is_tar(head):
        return TAR
    return PICKLE if looks_like_pickle(head) else None


def _is_portable(head: bytes) -> bool:
    """Whether the old header points to a new one; where it lies beyond the head, whether it looks sane."""
    where = int.from_bytes(head[60:64], "little") if len(head) >= _MIN_PROGRAM else 0
    if where + 4 <= len(head):
        return where >= 4 and head[where : where + 2] in (b"PE", b"NE", b"LE", b"LX")
    return where < 1 << 20 and b"This program" in head
