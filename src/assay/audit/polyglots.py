"""Polyglots: files that are two things at once, or another thing than their name says where that matters.

A scanner that trusts a name, or stops where the first format ends, does not see the second one; a loader may. Only
contradictions count that no honest file has: a ``.bin`` may be anything, a ``.pth.tar`` may be a zip.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from posixpath import basename

from assay.containers import magic
from assay.containers.archive import is_archive
from assay.containers.pickle.parse import looks_like_pickle
from assay.containers.tar import is_tar
from assay.containers.zip_ends import SIGNATURE
from assay.spec.finding import Finding, Severity
from assay.spec.inspection import Inspection
from assay.trees import Tree, Window

_OUTSIDE = ("bytes", "trailing", "hole", "padding", "tail")
# How rules end that say where bytes lie outside their format.
_MAX_OUTSIDE = 16
_TAIL = 22 + 0xFFFF
_HDF5 = b"\x89HDF\r\n\x1a\n"
_PNG = b"\x89PNG\r\n\x1a\n"

_DATA = frozenset(
    "safetensors gguf ggml onnx npy json jsonl txt md csv tsv yaml yml toml xml pmml html h5 hdf5 ubj ubjson tflite pb "
    "msgpack png jpg jpeg gif webp bmp svg wav mp3 flac parquet arrow model bin pt pth pkl pickle joblib ckpt keras "
    "npz weights dat params mlmodel caffemodel".split()
)
"""Suffixes of files that hold data: no program has one of them for an honest reason."""
_NO_SCRIPT = _DATA - frozenset("txt md model dat html".split())
_NO_PICKLE = frozenset(
    "safetensors gguf ggml onnx npy json jsonl txt md csv tsv yaml yml toml xml pmml html h5 hdf5 ubj ubjson tflite pb "
    "png jpg jpeg gif webp bmp svg wav mp3 flac parquet arrow mlmodel".split()
)
"""Suffixes of formats that are no pickle; many others are by somebody's convention."""
_NO_ZIP = _NO_PICKLE - frozenset(["mlmodel"])
_TEXT = frozenset("json jsonl txt md csv tsv yaml yml toml xml pmml html svg".split())


class PolyglotsAuditor:
    """Looks for content that contradicts a name, and for a second format inside or behind the first."""

    name = "polyglots"

    def audit(self, tree: Tree, inspection: Inspection) -> Sequence[Finding]:
        """Contradictions and second formats, of each entry at its path."""
        findings: list[Finding] = []
        outside: dict[str, list[int]] = {}
        for finding in inspection.all_findings:
            if finding.offset is not None and finding.rule.rpartition("-")[2] in _OUTSIDE:
                outside.setdefault(finding.path, []).append(finding.offset)
        for path in tree:
            window = tree.open(path)
            head = tree.head(path)
            findings += _disguised(path, head)
            for look in _LOOKS:
                findings += look(window, head)
            for offset in outside.get(path, ())[:_MAX_OUTSIDE]:
                findings += _behind(window, offset)
        return findings


def _disguised(path: str, head: bytes) -> Iterable[Finding]:
    """Content that contradicts the suffix."""
    suffix = basename(path).rpartition(".")[2].lower()
    if suffix not in _DATA:
        return
    program = magic.program_of(head)
    if program is not None and (program != magic.SCRIPT or suffix in _NO_SCRIPT):
        message = f"named as data (.{suffix}), it is a {program}"
        evidence = head[:16].hex(" ")
        yield Finding(
            "polyglot-program", Severity.EXECUTE, message, path, 0, evidence, "run a program if anything starts it"
        )
    elif program is None and suffix in _NO_ZIP and is_archive(head):
        yield _named(path, suffix, magic.ZIP, head)
    elif program is None and suffix in _NO_PICKLE and _is_pickle(head, suffix):
        yield _named(path, suffix, magic.PICKLE, head)


def _is_pickle(head: bytes, suffix: str) -> bool:
    # Text that happens to run as a pickle of protocol 0 is text: "I1\n." and the like.
    return magic.kind_of(head) == magic.PICKLE and (head[0] == 0x80 or suffix not in _TEXT or head[0] == 0x63)


def _named(path: str, suffix: str, kind: str, head: bytes) -> Finding:
    message = f"the name says .{suffix}, the content is a {kind}"
    return Finding("polyglot-name", Severity.MISLEAD, message, path, 0, head[:16].hex(" "))


def _zip_behind(window: Window, head: bytes) -> Iterable[Finding]:
    """A zip archive at the end of something else: readers of zips look from the end."""
    if is_archive(head) or window.size < _MIN_ZIP:
        return
    holds = is_tar(head) or looks_like_pickle(head)
    base = max(0, window.size - _TAIL)
    tail = window.read(base)
    at = tail.rfind(SIGNATURE)
    while at >= 0:
        begin = _zip_begin(window, tail, at, base)
        ends = at + _MIN_ZIP + int.from_bytes(tail[at + 20 : at + 22], "little") >= len(tail)
        # A tar's last member, or bytes inside a pickle, may be a zip; one that ends the file is not inside anything.
        if begin is not None and (ends or not holds):
            yield from _zip_at(window, head, begin)
            return
        at = tail.rfind(SIGNATURE, 0, at)


_MIN_ZIP = 22


def _zip_begin(window: Window, tail: bytes, at: int, base: int) -> int | None:
    """Where the archive begins whose end is at *at*, if its central directory is there too."""
    size = int.from_bytes(tail[at + 12 : at + 16], "little")
    offset = int.from_bytes(tail[at + 16 : at + 20], "little")
    start = base + at - size
    if at + _MIN_ZIP > len(tail) or size < 46 or start < 0 or window.read(start, 4) != b"PK\x01\x02":
        return None
    for begin in (start - offset, 0):
        if begin >= 0:
            return begin
    return None


def _zip_at(window: Window, head: bytes, begin: int) -> Iterable[Finding]:
    if head[4:8] == b"TFL3":
        # Associated files of TensorFlow Lite's metadata are a zip behind the model; its own readers look there.
        message = "a zip archive of associated files follows the model"
        yield Finding("polyglot-associated", Severity.NOTE, message, window.path, begin)
        return
    message = "it is a zip archive too: readers of zips find one at its end"
    yield Finding("polyglot-zip", Severity.MISLEAD, message, window.path, begin)


def _tar_too(window: Window, head: bytes) -> Iterable[Finding]:
    """A tar whose first member's name is the head of another format."""
    if is_tar(head) and (magic.program_of(head) or is_archive(head) or head[:1] == b"\x80" or head[:4] in _OTHERS):
        yield Finding("polyglot-tar", Severity.MISLEAD, "it is a tar archive and something else", window.path, 0)


_OTHERS = (b"GGUF", _HDF5[:4], _PNG[:4], b"\x93NUM", b"%PDF")


def _hdf5_inside(window: Window, head: bytes) -> Iterable[Finding]:
    """HDF5 behind a block of something else: its readers look at 512, 1024, 2048 … too.

    MATLAB writes a line of text and zeros there.
    """
    if head[:8] == _HDF5 or head.startswith(b"MATLAB 7") or not head[:512].strip(b"\0"):
        return
    place = 512
    while place + 8 <= min(window.size, 1 << 20):
        there = head[place : place + 8] if place + 8 <= len(head) else window.read(place, 8)
        if there == _HDF5:
            message = "it is an HDF5 file too, behind a block of something else"
            yield Finding("polyglot-hdf5", Severity.MISLEAD, message, window.path, place)
            return
        place *= 2


def _image_end(window: Window, head: bytes) -> Iterable[Finding]:
    """Something behind the end of an image."""
    if head[:8] == _PNG:
        end = _png_end(window)
    elif head[:3] == b"\xff\xd8\xff":
        end = _jpeg_end(window)
    elif head[:4] == b"RIFF" and len(head) >= 12:
        end = 8 + int.from_bytes(head[4:8], "little")
        end += end % 2
    else:
        return
    if end is not None and end < window.size:
        yield from _behind(window, end)


def _png_end(window: Window) -> int | None:
    position = 8
    for _ in range(10_000):
        chunk = window.read(position, 8)
        if len(chunk) < 8:
            return None
        position += 12 + int.from_bytes(chunk[:4], "big")
        if chunk[4:] == b"IEND":
            return position
    return None


def _jpeg_end(window: Window) -> int | None:
    base = max(0, window.size - (1 << 20))
    at = window.read(base).rfind(b"\xff\xd9")
    return None if at < 0 else base + at + 2


def _behind(window: Window, offset: int) -> Iterable[Finding]:
    """What follows the end of a format, when it is something a loader or a system would run or open."""
    if not 0 < offset < window.size:
        return
    rest = window.read(offset, 1 << 16)
    skipped = len(rest) - len(rest.lstrip(b"\0\n\r "))
    kind = magic.kind_of(rest[skipped:]) or (_compressed(rest[skipped:]))
    if kind is not None:
        message = f"a {kind} follows the end of its format"
        evidence = rest[skipped : skipped + 16].hex(" ")
        yield Finding("polyglot-appended", Severity.MISLEAD, message, window.path, offset + skipped, evidence)


def _compressed(data: bytes) -> str | None:
    if data[:3] != b"\x1f\x8b\x08":
        return None
    try:
        return "gzip stream" if zlib.decompressobj(31).decompress(data, 64) else None
    except zlib.error:
        return None


_LOOKS: tuple[Callable[[Window, bytes], Iterable[Finding]], ...] = (_zip_behind, _tar_too, _hdf5_inside, _image_end)
