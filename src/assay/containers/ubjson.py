"""Universal Binary JSON (draft 12), read in one bounded pass.

Strongly typed arrays (``[$type#count``) are where models keep their numbers: they become ``TypedArray`` (dtype, count,
where the elements lie) and are skipped, except under the keys a caller wants to see. An ``object_hook`` may replace
each object as soon as it is read, so that ten thousand trees never exist side by side. ``salvage`` keeps what came
before the place where a damaged document stops making sense.

Sources of the layout: ubjson.org type reference; XGBoost's dialect (``src/common/json.cc``): int64 lengths everywhere,
counted containers without a closing bracket, no no-ops.

Not here: writing, and draft-9 and earlier layouts.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.errors import BadFormat, LimitExceeded
from assay.trees import Window

MAX_DEPTH = 64
MAX_VALUES = 8_000_000
"""Values (containers, keys, scalars; a typed array is one) read from one document."""
MAX_STRING = 1 << 24
MAX_KEPT = 1 << 24
"""Elements of one typed array that are kept."""

_CHUNK = 1 << 18
_NUMBERS = {
    marker: (struct.Struct(f">{code}"), dtype)
    for marker, code, dtype in [
        (0x69, "b", "int8"),
        (0x55, "B", "uint8"),
        (0x49, "h", "int16"),
        (0x6C, "i", "int32"),
        (0x4C, "q", "int64"),
        (0x64, "f", "float32"),
        (0x44, "d", "float64"),
    ]
}
"""Marker (``i U I l L d D``) to big-endian layout and numpy name."""
_CONSTANTS: dict[int, bool | None] = {0x5A: None, 0x54: True, 0x46: False}
"""``Z T F``: values without a payload."""
_NO_OP, _CHARACTER, _STRING, _PRECISE = b"NCSH"
_ARRAY, _ARRAY_END, _OBJECT, _OBJECT_END, _TYPE, _COUNT = b"[]{}$#"


@dataclass(frozen=True, slots=True)
class TypedArray:
    """An array whose elements all have one number type.

    Args:
        dtype: numpy name.
        count: number of elements; they lie inside the window.
        offset: first byte of the first element, counted from the start of the window.
        values: the elements in native byte order, when the array's key was among those to keep.
    """

    dtype: str
    count: int
    offset: int
    values: NDArray[Any] | None = None


Hook = Callable[[dict[str, Any]], Any]


def load(
    window: Window,
    *,
    keep: Collection[str] = (),
    object_hook: Hook | None = None,
    max_values: int = MAX_VALUES,
) -> Any:
    """The document in *window* as dicts, lists, scalars and ``TypedArray``.

    Args:
        window: the document's bytes; what follows its end is not looked at.
        keep: keys whose typed arrays get their elements.
        object_hook: what an object becomes; called innermost first.
        max_values: how many values may be read.

    Raises:
        BadFormat: the bytes are not UBJSON, or end early.
        LimitExceeded: more than ``MAX_DEPTH`` levels, *max_values* values, or a string above ``MAX_STRING`` bytes.
    """
    reader = _Reader(window, frozenset(keep), object_hook, max_values)
    document = reader.document()
    if reader.error is not None:
        raise reader.error
    return document


def salvage(
    window: Window,
    *,
    keep: Collection[str] = (),
    object_hook: Hook | None = None,
    max_values: int = MAX_VALUES,
) -> tuple[Any, BadFormat | None]:
    """The document in *window* up to its end or the first thing wrong in it, and what that was; as ``load``.

    Containers that are cut off hold the members read before; the hook sees them too.

    Raises:
        BadFormat: not even the first value could be begun.
    """
    reader = _Reader(window, frozenset(keep), object_hook, max_values)
    return reader.document(), reader.error


class _Reader:
    """One pass over one document."""

    def __init__(self, window: Window, keep: frozenset[str], hook: Hook | None, max_values: int) -> None:
        self._window = window
        self._keep = keep
        self._hook = hook
        self._left = max_values
        self._chunk = b""
        self._start = 0  # where the chunk begins in the window
        self._at = 0  # next byte, counted in the chunk
        self.error: BadFormat | None = None  # what ended the reading inside a container
        self._containers: Mapping[int, Callable[[str, int], Any]] = {_ARRAY: self._array, _OBJECT: self._object}

    def document(self) -> Any:
        return self._value(self._marker(), "", 0)

    def _fail(self, message: str) -> BadFormat:
        offset = self._start + self._at
        return BadFormat(f"{self._window.path}: {message} at offset {offset}", path=self._window.path, offset=offset)

    def _take(self, length: int) -> bytes:
        end = self._at + length
        if end > len(self._chunk):
            self._start += self._at
            if length > self._window.size - self._start:
                self._at = 0
                raise self._fail(f"expected {length:,} more bytes of UBJSON, found {self._window.size - self._start:,}")
            self._chunk = self._window.read(self._start, max(length, _CHUNK))
            self._at, end = 0, length
        data = self._chunk[self._at : end]
        self._at = end
        return data

    def _skip(self, length: int) -> None:
        position = self._start + self._at + length
        if position > self._window.size:
            raise self._fail(f"expected {length:,} bytes of elements, found fewer")
        if self._at + length <= len(self._chunk):
            self._at += length
        else:
            self._start, self._chunk, self._at = position, b"", 0

    def _marker(self) -> int:
        marker = self._take(1)[0]
        while marker == _NO_OP:
            self._charge(16)  # legal padding, but nobody needs half a million of it
            marker = self._take(1)[0]
        return marker

    def _charge(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise LimitExceeded(f"{self._window.path}: too many UBJSON values", path=self._window.path)

    def _value(self, marker: int, key: str, depth: int) -> Any:
        self._charge(1)
        number = _NUMBERS.get(marker)
        if number is not None:
            return number[0].unpack(self._take(number[0].size))[0]
        if marker == _STRING:
            return self._text()
        container = self._containers.get(marker)
        if container is not None:
            if depth >= MAX_DEPTH:
                raise LimitExceeded(
                    f"{self._window.path}: UBJSON nests deeper than {MAX_DEPTH}", path=self._window.path
                )
            return container(key, depth + 1)
        if marker in _CONSTANTS:
            return _CONSTANTS[marker]
        if marker == _CHARACTER:
            return self._take(1).decode("latin-1")
        if marker == _PRECISE:
            return self._text()
        raise self._fail(f"expected a UBJSON type marker, found {chr(marker)!r} just before")

    def _length(self, marker: int) -> int:
        number = _NUMBERS.get(marker)
        if number is None or number[1].startswith("float"):
            raise self._fail(f"expected a UBJSON length, found {chr(marker)!r} just before")
        length = int(number[0].unpack(self._take(number[0].size))[0])
        if length < 0:
            raise self._fail(f"negative UBJSON length {length}")
        return length

    def _text(self, marker: int | None = None) -> str:
        length = self._length(self._marker() if marker is None else marker)
        if length > MAX_STRING:
            raise LimitExceeded(
                f"{self._window.path}: UBJSON string of {length:,} bytes, at most {MAX_STRING:,} are read",
                path=self._window.path,
            )
        self._charge(length >> 10)
        return self._take(length).decode("utf-8", "replace")

    def _header(self) -> tuple[int, int | None, int | None]:
        """The first marker behind the header, the type of all elements, their count."""
        kind = count = None
        marker = self._marker()
        if marker == _TYPE:
            kind = self._take(1)[0]
            marker = self._take(1)[0]
            if marker != _COUNT:
                raise self._fail("a typed UBJSON container must be counted")
        if marker == _COUNT:
            count = self._length(self._marker())
        return marker, kind, count

    def _array(self, key: str, depth: int) -> Any:
        marker, kind, count = self._header()
        if count is not None and kind in _NUMBERS:
            return self._typed(kind, count, key)
        items: list[Any] = []
        try:
            if count is None:
                while marker != _ARRAY_END and self.error is None:
                    items.append(self._value(marker, key, depth))
                    marker = self._marker()
            else:
                self._charge(count)  # so that a count without bytes behind it (``$Z``, ``$T``) stays bounded
                while len(items) < count and self.error is None:
                    items.append(self._value(self._marker() if kind is None else kind, key, depth))
        except BadFormat as error:
            self.error = error
        return items

    def _typed(self, kind: int | None, count: int, key: str) -> TypedArray:
        form, dtype = _NUMBERS[kind or 0]
        offset = self._start + self._at
        if count * form.size > self._window.size - offset:
            raise self._fail(f"UBJSON array of {count:,} {dtype} is longer than the file")
        if key not in self._keep:
            self._skip(count * form.size)
            return TypedArray(dtype, count, offset)
        if count > MAX_KEPT:
            raise LimitExceeded(
                f"{self._window.path}: array {key!r} has {count:,} elements, at most {MAX_KEPT:,} are read",
                path=self._window.path,
            )
        stored = np.dtype(dtype).newbyteorder(">")
        return TypedArray(dtype, count, offset, np.frombuffer(self._take(count * form.size), stored).astype(dtype))

    def _object(self, _: str, depth: int) -> Any:
        body: dict[str, Any] = {}
        try:
            marker, kind, count = self._header()
            if count is None:
                while marker != _OBJECT_END and self.error is None:
                    self._member(marker, None, body, depth)
                    marker = self._marker()
            else:
                for _index in range(count):
                    self._member(self._marker(), kind, body, depth)
                    if self.error is not None:
                        break
        except BadFormat as error:
            self.error = error
        return body if self._hook is None else self._hook(body)

    def _member(self, marker: int, kind: int | None, body: dict[str, Any], depth: int) -> None:
        self._charge(1)
        key = self._text(marker)
        body[key] = self._value(self._marker() if kind is None else kind, key, depth)
