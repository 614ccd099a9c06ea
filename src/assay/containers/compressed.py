"""Compressed files, undone in a stream and within bounds: gzip, zlib, bz2, xz, lzma, lz4.

Recognised by their first bytes; one layer inside another is undone up to ``MAX_LAYERS``. What comes out is kept in
memory while it is small and in an unnamed temporary file beyond that.

Not here: archives of several files (``archive``).

Sources: RFC 1950 (zlib), RFC 1952 (gzip), the xz file format 1.1.0, LZMA SDK ``lzma.txt`` (lzma alone), the LZ4 frame
format.
"""

from __future__ import annotations

import bz2
import importlib
import lzma
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from assay.errors import BadFormat, LimitExceeded, MissingDependency
from assay.spec.finding import Finding, Severity
from assay.trees import Budget, Window

MAX_LAYERS = 2
MAX_OUTPUT = 4 << 30
"""Default bound of what comes out, in bytes."""
MAX_RATIO = 1100
"""Bytes out per byte in, once more than ``FREE_OUTPUT`` came out; zlib cannot do more than 1032."""
FREE_OUTPUT = 256 << 20
MAX_DICTIONARY = 256 << 20
"""Bytes of memory a decoder may take, whatever dictionary a file asks for."""

_IN_MEMORY = 32 << 20
_STEP = 1 << 20
_ALONE_HEADER = 13  # properties, dictionary size, length
_ALONE_UNKNOWN = (1 << 64) - 1
_ALONE_LONGEST = 1 << 40


@dataclass(frozen=True, slots=True)
class Unwrapped:
    """What was inside.

    Args:
        window: the bytes inside; the given window itself when it is not compressed.
        codecs: names of the layers undone, outermost first.
        findings: rules ``compressed-trailing``, ``compressed-broken``, ``compressed-layers``.
    """

    window: Window
    codecs: tuple[str, ...]
    findings: tuple[Finding, ...] = ()


def codec_of(head: bytes) -> str | None:
    """Name of the compression an entry with this head has: gzip, zlib, bz2, xz, lzma, lz4; None when it has none."""
    if head[:3] == b"\x1f\x8b\x08":
        return "gzip"
    if head[:3] == b"BZh" and head[3:4] in b"123456789" and head[4:10] == b"1AY&SY":
        return "bz2"
    if head[:6] == b"\xfd7zXZ\x00":
        return "xz"
    if head[:4] == b"\x04\x22\x4d\x18":
        return "lz4"
    if _is_lzma_alone(head):
        return "lzma"
    # zlib has no magic number: deflate with a window of 32 KiB, no preset dictionary, and a checksum over both bytes
    if head[:1] == b"\x78" and len(head) > 2 and int.from_bytes(head[:2], "big") % 31 == 0 and not head[1] & 0x20:
        return "zlib"
    return None


def peek(head: bytes, length: int = 4096) -> tuple[bytes, tuple[str, ...]]:
    """The first bytes inside a compressed entry, from its own first bytes, and the layers undone.

    Cheap and forgiving: what cannot be undone from the head, or is not compressed, is given back as far as it goes.
    """
    codecs: list[str] = []
    while len(codecs) < MAX_LAYERS and (codec := codec_of(head)) is not None:
        try:
            inside = _DECODERS[codec]().decode(head, length)
        except (MissingDependency, *_ERRORS):
            break
        if not inside:
            break
        codecs.append(codec)
        head = inside
    return head, tuple(codecs)


def unwrap(window: Window, limit: int = MAX_OUTPUT) -> Unwrapped:
    """Undo the compression of *window*, if any.

    A layer that breaks in the middle gives what came out before, with a finding of severity incomplete.

    Args:
        window: the bytes; reading and what comes out are charged to its budget.
        limit: most bytes that may come out of one layer.

    Raises:
        LimitExceeded: more than *limit* bytes, or more than ``MAX_RATIO`` times what goes in, come out.
        MissingDependency: the entry is lz4 and the library is not installed.
        BadFormat: the first layer gives nothing at all.
    """
    codecs: list[str] = []
    findings: list[Finding] = []
    current = window
    while (codec := codec_of(current.read(0, 64))) is not None:
        if len(codecs) == MAX_LAYERS:
            message = f"compressed more than {MAX_LAYERS} times"
            findings.append(Finding("compressed-layers", Severity.INCOMPLETE, message, window.path))
            break
        spool = _Spool()
        for part in _decompressed(current, codec, limit, findings):
            window.budget.charge(len(part), window.path)
            spool.write(part)
        if not spool.size:
            if not codecs:
                raise BadFormat(f"{window.path}: nothing can be read from its {codec} stream", path=window.path)
            break
        codecs.append(codec)
        current = Window(spool, window.path, Budget(max(1 << 20, 8 * spool.size)))
    return Unwrapped(current, tuple(codecs), tuple(findings))


def _decompressed(window: Window, codec: str, limit: int, findings: list[Finding]) -> Iterator[bytes]:
    decoder = _DECODERS[codec]()
    position = produced = streams = 0
    pending = b""
    while True:
        if not pending and decoder.needs_input:
            pending = window.read(position, _STEP)
            position += len(pending)
            if not pending:
                findings.append(_broken(window, codec, position, "it ends early"))
                return
        try:
            part = decoder.decode(pending, _STEP)
        except _ERRORS as error:
            findings.append(_broken(window, codec, position, str(error)))
            return
        pending = b""
        produced += len(part)
        if produced > limit or (produced > FREE_OUTPUT and produced > MAX_RATIO * max(1, position)):
            raise LimitExceeded(
                f"{window.path}: its {codec} stream gives more than {produced:,} bytes from {position:,}",
                path=window.path,
            )
        yield part
        if decoder.eof:
            streams += 1
            pending = decoder.unused or window.read(position, _STEP)
            position += 0 if decoder.unused else len(pending)
            if codec in {"gzip", "xz"}:  # both allow zero bytes after a stream
                pending = pending.lstrip(b"\0")
            if not pending:
                return
            if codec_of(pending + window.read(position, 16)) != codec or codec in {"zlib", "lzma"}:
                where = window.start + position - len(pending)
                message = f"bytes follow the end of the {codec} stream"
                findings.append(Finding("compressed-trailing", Severity.MISLEAD, message, window.path, where))
                return
            decoder = _DECODERS[codec]()


def _broken(window: Window, codec: str, position: int, reason: str) -> Finding:
    message = f"the {codec} stream cannot be read to its end: {reason}"[:300]
    return Finding("compressed-broken", Severity.INCOMPLETE, message, window.path, window.start + position)


def _is_lzma_alone(head: bytes) -> bool:
    if len(head) < _ALONE_HEADER or head[0] != 0x5D:  # 0x5D: lc=3, lp=0, pb=2, as every writer leaves them
        return False
    dictionary = int.from_bytes(head[1:5], "little")
    length = int.from_bytes(head[5:13], "little")
    power = dictionary >= 1 << 12 and (dictionary & (dictionary - 1) == 0 or dictionary % (3 << 10) == 0)
    return power and (length == _ALONE_UNKNOWN or length < _ALONE_LONGEST)


class _Decoder(Protocol):
    """One compressed stream being undone."""

    @property
    def needs_input(self) -> bool: ...

    @property
    def eof(self) -> bool: ...

    @property
    def unused(self) -> bytes: ...

    def decode(self, data: bytes, length: int) -> bytes: ...


class _Zlib:
    """zlib's decompressor with the manners of the others."""

    def __init__(self, wbits: int) -> None:
        self._inner = zlib.decompressobj(wbits)

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused(self) -> bytes:
        return self._inner.unused_data

    def decode(self, data: bytes, length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, length)


class _Standard:
    """bz2's, lzma's and lz4's decompressor."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    @property
    def needs_input(self) -> bool:
        return bool(self._inner.needs_input)

    @property
    def eof(self) -> bool:
        return bool(self._inner.eof)

    @property
    def unused(self) -> bytes:
        return self._inner.unused_data or b""

    def decode(self, data: bytes, length: int) -> bytes:
        return bytes(self._inner.decompress(data, max_length=length))


def _lz4() -> _Decoder:
    try:
        frame = importlib.import_module("lz4.frame")
    except ImportError:
        raise MissingDependency(
            "lz4 files need the library lz4, which is not installed", hint="pip install 'assay[lz4]'"
        ) from None
    return _Standard(frame.LZ4FrameDecompressor())


_DECODERS: dict[str, Callable[[], _Decoder]] = {
    "gzip": lambda: _Zlib(31),
    "zlib": lambda: _Zlib(15),
    "bz2": lambda: _Standard(bz2.BZ2Decompressor()),
    "xz": lambda: _Standard(lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_DICTIONARY)),
    "lzma": lambda: _Standard(lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=MAX_DICTIONARY)),
    "lz4": _lz4,
}
_ERRORS = (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError, RuntimeError)  # lz4 raises RuntimeError


class _Spool:
    """A source that grows while it is written: in memory first, then in an unnamed temporary file."""

    __slots__ = ("_file", "size")

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - closed by __del__
        self.size = 0

    def write(self, data: bytes) -> None:
        """Add bytes at the end."""
        self._file.seek(self.size)
        self._file.write(data)
        self.size += len(data)

    def read(self, offset: int, length: int) -> bytes:
        """The bytes in [offset, offset + length), cut off at the end."""
        self._file.seek(offset)
        return self._file.read(length)

    def __del__(self) -> None:
        self._file.close()
