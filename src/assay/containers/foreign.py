"""Side files that are files of another kind: whoever names one must not hide it from those who know that kind.

A model may name side files (external data, assets) that then count as understood. A pickle, an archive or a program
among them is left to be looked at for itself.
"""

from __future__ import annotations

import re

_MAGIC = re.compile(
    rb"PK\x03\x04|PK\x05\x06|\x89HDF\r\n|\x93NUMPY|GGUF|\x7fELF|MZ|#!|\x1f\x8b\x08|BZh[1-9]|\xfd7zXZ|7z\xbc\xaf|Rar!"
    rb"|\x04\x22\x4d\x18|\x28\xb5\x2f\xfd|\xca\xfe\xba\xbe|[\xce\xcf]\xfa\xed\xfe"
    # A pickle: its protocol, then a frame, a container, a global, a text or a memo.
    rb"|\x80[\x02-\x05][\x95\]\}\)\(c\x8c\x8dXKMJG\x8fN]"
    rb"|c[A-Za-z_][\w.]*\n[A-Za-z_][\w.]*\n|\(?[ild]?\(?c[A-Za-z_][\w.]*\n[A-Za-z_]"
)


def is_foreign(head: bytes) -> bool:
    """Whether a file that starts with *head* is an archive, a program, a pickle or a model file of its own."""
    return _MAGIC.match(head) is not None
