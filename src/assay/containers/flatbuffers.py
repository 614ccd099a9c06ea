"""FlatBuffers, read without a schema compiler: tables, structs, vectors, strings and unions at random access.

A caller knows the schema and asks by slot (the field's position in its table, from 0). Everything is checked against
the bytes that are there; only the pages that are touched are read, so that the metadata of a 1 GB file costs kilobytes.
Offsets in a hostile file may make cycles or let a million elements share one big table: callers bound their own
recursion, and every value taken is counted against ``max_values``.

Source of the layout: FlatBuffers documentation, "FlatBuffer Internals" (little-endian; a table starts with the signed
distance back to its vtable; a vtable holds its own size, the table's size and one 16-bit field offset per slot).

Not here: any schema.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from assay.errors import BadFormat, LimitExceeded
from assay.trees import Window

MAX_VALUES = 4_000_000
"""Values (scalars, offsets, elements) taken from one buffer before its reading is given up."""
MAX_STRING = 1 << 20
"""Bytes of a string that are read unless a caller allows more."""
MAX_ELEMENTS = 1 << 20
"""Elements of a vector that are materialised unless a caller allows more."""
MAX_SLOTS = 256
"""Fields of a table that can be asked for; no known schema has more."""

_PAGE = 1 << 16
_PAGES = 128
_SCALARS = {code: struct.Struct(f"<{code}") for code in "?bBhHiIqQfd"}
_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")
_I32 = struct.Struct("<i")


@dataclass(frozen=True, slots=True)
class Vector:
    """Where a vector lies.

    Args:
        offset: first byte of the first element, counted from the start of the buffer's window.
        count: number of elements; inside the window for the element size that was asked for.
    """

    offset: int
    count: int


class FlatBuffer:
    """A flatbuffer in a window.

    Args:
        window: exactly the buffer's bytes (for a size-prefixed buffer, without the prefix).
        max_values: how many values may be taken before ``LimitExceeded``.
    """

    __slots__ = ("_left", "_pages", "window")

    def __init__(self, window: Window, *, max_values: int = MAX_VALUES) -> None:
        self.window = window
        self._left = max_values
        self._pages: dict[int, bytes] = {}

    @property
    def identifier(self) -> bytes:
        """The four bytes behind the root offset, where schemas with a ``file_identifier`` put it (``TFL3``)."""
        return self.window.read(4, 4)

    def root(self) -> Table:
        """The root table.

        Raises:
            BadFormat: the root offset leads outside.
        """
        return Table(self, self.u32(0))

    def bytes_at(self, offset: int, length: int) -> bytes:
        """*length* bytes at *offset* of the window; counted as one value, and one more per 64 bytes.

        Raises:
            BadFormat: they lie outside the window.
            LimitExceeded: too many values were taken.
        """
        self._left -= 1 + length // 64
        if self._left < 0:
            raise LimitExceeded(f"{self.window.path}: the flatbuffer refers to too many values", path=self.window.path)
        if offset < 0 or length < 0 or offset + length > self.window.size:
            raise BadFormat(
                f"{self.window.path}: flatbuffer offset leads outside: expected {length} bytes at {offset} of "
                f"{self.window.size}",
                path=self.window.path,
                offset=offset,
            )
        page, start = divmod(offset, _PAGE)
        if start + length > _PAGE:
            return self.window.exactly(offset, length)
        data = self._pages.get(page)
        if data is None:
            if len(self._pages) >= _PAGES:
                del self._pages[next(iter(self._pages))]
            data = self._pages[page] = self.window.read(page * _PAGE, _PAGE)
        return data[start : start + length]

    def u16(self, offset: int) -> int:
        """The unsigned 16-bit number at *offset*."""
        return int(_U16.unpack(self.bytes_at(offset, 2))[0])

    def u32(self, offset: int) -> int:
        """The unsigned 32-bit number at *offset*."""
        return int(_U32.unpack(self.bytes_at(offset, 4))[0])

    def string_at(self, offset: int, limit: int = MAX_STRING) -> str:
        """The string whose length prefix is at *offset*; bytes that are not UTF-8 become replacement characters.

        Raises:
            LimitExceeded: it is longer than *limit* bytes.
        """
        length = self.u32(offset)
        if length > limit:
            raise LimitExceeded(
                f"{self.window.path}: flatbuffer string of {length:,} bytes, at most {limit:,} are read",
                path=self.window.path,
                offset=offset,
            )
        return self.bytes_at(offset + 4, length).decode("utf-8", "replace")


class Table:
    """One table of a flatbuffer; absent fields give the default.

    Raises:
        BadFormat: from the constructor, when table or vtable lie outside or contradict each other.
    """

    __slots__ = ("_size", "_vtable", "buffer", "offset")

    def __init__(self, buffer: FlatBuffer, offset: int) -> None:
        self.buffer = buffer
        self.offset = offset
        vtable = offset - int(_I32.unpack(buffer.bytes_at(offset, 4))[0])
        length = buffer.u16(vtable)
        if length < 4 or length % 2:
            raise BadFormat(
                f"{buffer.window.path}: flatbuffer vtable at {vtable}: expected an even size from 4, found {length}",
                path=buffer.window.path,
                offset=vtable,
            )
        # Kept raw and short: a hostile file can make every one of its tables share one vtable of 64 kB.
        self._vtable = buffer.bytes_at(vtable, min(length, 2 * (MAX_SLOTS + 2)))
        self._size = int(_U16.unpack_from(self._vtable, 2)[0])

    def __contains__(self, slot: object) -> bool:
        """Whether the field is present (a field at its default is usually left out)."""
        return isinstance(slot, int) and self._field(slot) is not None

    def scalar(self, slot: int, code: str, default: float = 0) -> float:
        """A number; *code* is its ``struct`` letter (``?bBhHiIqQfd``)."""
        at = self._field(slot)
        if at is None:
            return default
        form = _SCALARS[code]
        value: float = form.unpack(self.buffer.bytes_at(at, form.size))[0]
        return value

    def integer(self, slot: int, code: str = "i", default: int = 0) -> int:
        """An integer; *code* as in ``scalar``."""
        return int(self.scalar(slot, code, default))

    def boolean(self, slot: int, *, default: bool = False) -> bool:
        """A truth value."""
        return bool(self.scalar(slot, "B", default))

    def struct(self, slot: int, layout: str) -> tuple[float, ...] | None:
        """An inline struct as numbers; *layout* in ``struct`` letters with its padding, without byte order."""
        at = self._field(slot)
        if at is None:
            return None
        form = struct.Struct(f"<{layout}")
        return form.unpack(self.buffer.bytes_at(at, form.size))

    def string(self, slot: int, *, limit: int = MAX_STRING) -> str | None:
        """A string, or None when absent."""
        at = self._target(slot)
        return None if at is None else self.buffer.string_at(at, limit)

    def table(self, slot: int) -> Table | None:
        """A table (or the value of a union whose type says it is one), or None when absent."""
        at = self._target(slot)
        return None if at is None else Table(self.buffer, at)

    def vector(self, slot: int, element_size: int) -> Vector | None:
        """Where a vector lies, without reading its elements; None when absent.

        Raises:
            BadFormat: the elements would end outside the window.
        """
        at = self._target(slot)
        if at is None:
            return None
        count = self.buffer.u32(at)
        room = self.buffer.window.size - at - 4
        if count * element_size > room:
            raise BadFormat(
                f"{self.buffer.window.path}: flatbuffer vector of {count:,} elements of {element_size} bytes does not "
                f"fit in the {max(0, room):,} bytes left",
                path=self.buffer.window.path,
                offset=at,
            )
        return Vector(at + 4, count)

    def numbers(self, slot: int, code: str, *, limit: int = MAX_ELEMENTS) -> tuple[float, ...]:
        """The elements of a vector of scalars; empty when absent.

        Raises:
            LimitExceeded: it has more than *limit* elements.
        """
        form = _SCALARS[code]
        vector = self._bounded(slot, form.size, limit)
        if vector is None:
            return ()
        data = self.buffer.bytes_at(vector.offset, vector.count * form.size)
        return struct.unpack(f"<{vector.count}{code}", data)

    def integers(self, slot: int, code: str = "i", *, limit: int = MAX_ELEMENTS) -> tuple[int, ...]:
        """The elements of a vector of integers; empty when absent. Raises as ``numbers``."""
        return tuple(int(value) for value in self.numbers(slot, code, limit=limit))

    def data(self, slot: int, *, limit: int = MAX_ELEMENTS) -> bytes:
        """The elements of a vector of bytes; empty when absent. Raises as ``numbers``."""
        vector = self._bounded(slot, 1, limit)
        return b"" if vector is None else self.buffer.bytes_at(vector.offset, vector.count)

    def tables(self, slot: int, *, limit: int = MAX_ELEMENTS) -> tuple[Table, ...]:
        """The elements of a vector of tables; empty when absent. Raises as ``numbers``."""
        return tuple(Table(self.buffer, at) for at in self._targets(slot, limit))

    def strings(self, slot: int, *, limit: int = MAX_ELEMENTS) -> tuple[str, ...]:
        """The elements of a vector of strings; empty when absent. Raises as ``numbers``."""
        return tuple(self.buffer.string_at(at) for at in self._targets(slot, limit))

    def _field(self, slot: int) -> int | None:
        place = 2 * slot + 4
        if slot < 0 or place >= len(self._vtable):
            return None
        relative = int(_U16.unpack_from(self._vtable, place)[0])
        if relative == 0:
            return None
        if relative >= self._size:
            raise BadFormat(
                f"{self.buffer.window.path}: flatbuffer field {slot} lies at {relative} of a {self._size}-byte table",
                path=self.buffer.window.path,
                offset=self.offset,
            )
        return self.offset + relative

    def _target(self, slot: int) -> int | None:
        at = self._field(slot)
        return None if at is None else at + self.buffer.u32(at)

    def _bounded(self, slot: int, element_size: int, limit: int) -> Vector | None:
        vector = self.vector(slot, element_size)
        if vector is not None and vector.count > limit:
            raise LimitExceeded(
                f"{self.buffer.window.path}: flatbuffer vector of {vector.count:,} elements, at most {limit:,} read",
                path=self.buffer.window.path,
                offset=vector.offset,
            )
        return vector

    def _targets(self, slot: int, limit: int) -> list[int]:
        vector = self._bounded(slot, 4, limit)
        if vector is None:
            return []
        return [vector.offset + 4 * i + self.buffer.u32(vector.offset + 4 * i) for i in range(vector.count)]
