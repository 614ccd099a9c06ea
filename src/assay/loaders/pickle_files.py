"""Pickle and joblib files: the compression around them, bounded, and the restricted unpickler inside.

joblib recognises compression by the first bytes (zlib, gzip, bz2, xz, lzma, lz4); so does this. Files of joblib before
0.10 (arrays in side files, or the ``ZF`` layout) are refused: they open further files by names in the stream.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from assay.errors import BadFormat, LimitExceeded
from assay.loaders.frameworks import need, reason
from assay.loaders.restricted import RestrictedUnpickler

MAX_INFLATED = 16 << 30
"""Bytes a compressed file may grow to."""
MAX_RATIO = 2000
"""Times a compressed file may grow, beyond the first ``FREE`` bytes; real models stay under 100."""
FREE = 256 << 20

_PIECE = 1 << 24


def read_pickle(file: Path, names: Collection[str] | None = None, extra: Mapping[str, type] | None = None) -> object:
    """The object a pickle or joblib file holds.

    Args:
        file: the file.
        names: the names it may resolve, as the audit saw them; None leaves the whole table.
        extra: classes beyond the table that a person allowed.

    Raises:
        Refused: it wants something outside the rules (code ``unsafe-pickle`` or ``unsafe-structure``).
        BadFormat, LimitExceeded: it is damaged or a bomb.
        MissingDependency: it needs a library that is not installed.
    """
    with file.open("rb") as raw, _inflated(raw, file) as (stream, limit):
        return RestrictedUnpickler(BoundedStream(stream, limit), names, extra).read_object()


class BoundedStream:
    """A stream that takes no memory for bytes that are not there.

    Args:
        stream: where the bytes come from.
        limit: how many there may be.
    """

    def __init__(self, stream: IO[bytes], limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self._position = 0

    def read(self, size: int) -> bytes:
        """Up to *size* bytes; fewer only at the end.

        Raises:
            LimitExceeded: the stream is longer than it may be.
            BadFormat: it does not inflate.
        """
        if size <= _PIECE:
            return self._charge(self._read(size))
        pieces = []
        while size > 0:
            piece = self._charge(self._read(min(size, _PIECE)))
            if not piece:
                break
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def readline(self) -> bytes:
        """Bytes up to the next line feed, included."""
        return self._charge(self._stream.readline())

    def tell(self) -> int:
        """Bytes read so far."""
        return self._position

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            try:
                piece = self._stream.read(size - len(data))
            except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, RuntimeError) as error:
                raise BadFormat(f"the compressed bytes do not inflate ({reason(error)})") from error
            if not piece:
                break
            data = data + piece if data else piece
        return data

    def _charge(self, data: bytes) -> bytes:
        self._position += len(data)
        if self._position > self._limit:
            raise LimitExceeded(f"the file inflates to more than {self._limit:,} bytes")
        return data


@contextmanager
def _inflated(raw: IO[bytes], file: Path) -> Iterator[tuple[IO[bytes], int]]:
    head = raw.read(6)
    raw.seek(0)
    size = file.stat().st_size
    limit = min(MAX_INFLATED, max(FREE, MAX_RATIO * size))
    if head.startswith(b"ZF"):
        raise BadFormat(
            f"{file.name} was written by joblib before 0.10", hint="load and save it again with its own joblib"
        )
    if head.startswith(b"\x1f\x8b"):
        stream: Any = gzip.GzipFile(fileobj=raw)
    elif head.startswith(b"BZh"):
        stream = bz2.BZ2File(raw)
    elif head.startswith((b"\xfd7zXZ", b"\x5d\x00")):
        stream = lzma.LZMAFile(raw)  # noqa: SIM115 - closed below, like the others
    elif head.startswith(b"\x04\x22\x4d\x18"):
        stream = need("lz4.frame", distribution="lz4", extra="lz4", what="read an lz4-compressed file").open(raw, "rb")
    elif head[:1] == b"\x78" and len(head) > 1 and int.from_bytes(head[:2], "big") % 31 == 0:
        stream = _ZlibStream(raw)
    else:
        yield raw, size
        return
    try:
        yield cast("IO[bytes]", stream), limit
    finally:
        stream.close()


class _ZlibStream:
    """A zlib stream read piece by piece."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self._inflate = zlib.decompressobj()
        self._ready = b""

    def read(self, size: int) -> bytes:
        while not self._ready and not self._inflate.eof:
            compressed = self._inflate.unconsumed_tail or self._raw.read(1 << 16)
            if not compressed:
                break
            self._ready = self._inflate.decompress(compressed, _PIECE)
        piece, self._ready = self._ready[:size], self._ready[size:]
        return piece

    def readline(self) -> bytes:
        line = bytearray()
        while not line.endswith(b"\n"):
            byte = self.read(1)
            if not byte:
                break
            line += byte
        return bytes(line)

    def close(self) -> None:
        self._ready = b""
