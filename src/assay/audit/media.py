"""Pictures, sounds, tables and logs that lie beside models: told by their bytes, and followed to their end."""

from __future__ import annotations

import re
from collections.abc import Callable

from assay.trees import Tree, Window

MAX_PARTS = 100_000
"""Parts (chunks, records) of one file that are followed."""
_TAIL = 1 << 16
_ACTIVE = re.compile(
    rb"<script\b|\bon[a-z]{3,20}\s*=|javascript:|<foreignObject\b|<!ENTITY|<iframe\b|data:text/html", re.IGNORECASE
)
_PDF_ACTION = re.compile(rb"/(?:JavaScript|JS|Launch|OpenAction|AA|EmbeddedFile|XFA|RichMedia)\b")


def medium(tree: Tree, path: str) -> str:
    """What kind of picture, sound, table or log the entry is, whole and with nothing behind it; empty when none."""
    head, window = tree.head(path)[:64], tree.open(path)
    for begins, what, whole in _KINDS:
        if head.startswith(begins):
            return what if whole(window) and not _archive_behind(window) else ""
    if head[4:8] == b"ftyp" and _boxes(window):
        return "a video or sound"
    if "tfevents" in path and _records(window):
        return "a log of TensorBoard"
    return ""


def active_picture(text: bytes) -> str:
    """What in a drawing (SVG) a browser would run; empty when nothing."""
    found = _ACTIVE.search(text)
    return found[0].decode("latin-1") if found else ""


def active_pdf(window: Window) -> str:
    """What in a PDF file a reader would act on by itself; empty when nothing is seen in its first megabytes."""
    found = _PDF_ACTION.search(window.read(0, 4 << 20))
    return found[0].decode("latin-1") if found else ""


def _archive_behind(window: Window) -> bool:
    """Whether the file ends as a zip, so that another program finds an archive in it."""
    begin = max(0, window.size - _TAIL - 22)
    return b"PK\x05\x06" in window.read(begin)


def _png(window: Window) -> bool:
    at = 8
    for _ in range(MAX_PARTS):
        chunk = window.read(at, 8)
        if len(chunk) < 8:
            return False
        at += 12 + int.from_bytes(chunk[:4], "big")
        if chunk[4:] == b"IEND":
            return at == window.size
    return False


def _jpeg(window: Window) -> bool:
    return window.read(max(0, window.size - 64)).rstrip(b"\0\r\n").endswith(b"\xff\xd9")


def _gif(window: Window) -> bool:
    return window.read(window.size - 1) == b"\x3b"


def _riff(window: Window) -> bool:
    stated = int.from_bytes(window.read(4, 4), "little") + 8
    return stated in (window.size, window.size - 1) and window.read(8, 4) in (b"WEBP", b"WAVE", b"AVI ")


def _bmp(window: Window) -> bool:
    return int.from_bytes(window.read(2, 4), "little") == window.size


def _any(window: Window) -> bool:
    return window.size > 16


def _ends(mark: bytes) -> Callable[[Window], bool]:
    return lambda window: window.read(window.size - len(mark)) == mark


def _sqlite(window: Window) -> bool:
    page = int.from_bytes(window.read(16, 2), "big") or 65536
    page = 65536 if page == 1 else page
    return page >= 512 and window.size % page == 0


def _boxes(window: Window) -> bool:
    at = 0
    for _ in range(MAX_PARTS):
        head = window.read(at, 16)
        if len(head) < 8:
            return at == window.size
        size = int.from_bytes(head[:4], "big")
        size = int.from_bytes(head[8:16], "big") if size == 1 else size or window.size - at
        if size < 8:
            return False
        at += size
        if at == window.size:
            return True
    return False


def _records(window: Window) -> bool:
    """Records of TensorFlow: a length, its checksum, the data and theirs, up to the very end."""
    at = 0
    for _ in range(MAX_PARTS):
        if at == window.size:
            return True
        length = window.read(at, 8)
        if len(length) < 8:
            return False
        at += 16 + int.from_bytes(length, "little")
        if at > window.size:
            return False
    return True


_KINDS = (
    (b"\x89PNG\r\n\x1a\n", "a picture (PNG)", _png),
    (b"\xff\xd8\xff", "a picture (JPEG)", _jpeg),
    (b"GIF87a", "a picture (GIF)", _gif),
    (b"GIF89a", "a picture (GIF)", _gif),
    (b"RIFF", "a picture or sound (RIFF)", _riff),
    (b"BM", "a picture (BMP)", _bmp),
    (b"\0\0\x01\0", "an icon", _any),
    (b"II*\0", "a picture (TIFF)", _any),
    (b"MM\0*", "a picture (TIFF)", _any),
    (b"OggS", "a sound (Ogg)", _any),
    (b"fLaC", "a sound (FLAC)", _any),
    (b"ID3", "a sound (MP3)", _any),
    (b"\x1aE\xdf\xa3", "a video (Matroska)", _any),
    (b"PAR1", "a table (Parquet)", _ends(b"PAR1")),
    (b"ARROW1\0\0", "a table (Arrow)", _ends(b"ARROW1")),
    (b"FEA1", "a table (Feather)", _ends(b"FEA1")),
    (b"SQLite format 3\0", "a database (SQLite)", _sqlite),
    (b"wOF2", "a font", _any),
    (b"wOFF", "a font", _any),
    (b"\0\0\0\1Bud1", "how a Mac shows a folder (.DS_Store)", _any),
    (b"\0\5\x16\7\0\2\0\0", "what a Mac keeps beside a file (AppleDouble)", _any),
)
