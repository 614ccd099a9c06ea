"""Protocol-buffer messages read without their schema, in place and bounded.

Concept: a message is a sequence of fields; a ``Field`` knows its number, its wire type and where its bytes lie. A
length-delimited field is not read: it is a range that can be iterated as a message, taken as text, bytes or packed
numbers, or skipped. So a multi-gigabyte file costs the bytes around its big payloads, not the payloads: the reader
takes small blocks after a jump and larger ones while reading on.

    for field in message(tree.open("model.onnx")):
        if field.number == 1:
            version = field.signed
        elif field.number == 7:
            for inner in field: ...

Rules for editors: a field never ends after its parent, so positions only grow and a message costs time linear in its
length; nesting is walked by the caller, who must bound it; what the schema means belongs to the formats.

Source of the layout: protobuf.dev, "Encoding" (base-128 varints, tag = number << 3 | wire type, packed fields).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from assay.containers.protobuf.runs import fixed_run, text_run, varint_run
from assay.errors import BadFormat, LimitExceeded
from assay.trees import Window

VARINT = 0
FIXED64 = 1
BYTES = 2
FIXED32 = 5

MAX_FIELDS = 5_000_000
"""Fields yielded by one reader unless told otherwise: some seconds of work."""

MAX_TEXT = 1 << 20
"""Bytes that ``Field.text`` takes unless told otherwise; the rest is cut off."""

MAX_BYTES = 1 << 28
"""Bytes that ``Field.read`` takes unless told otherwise; more is refused."""

_STARTS_WITH_VARINT = frozenset({VARINT, BYTES})
_WIDTHS = {FIXED32: 4, FIXED64: 8}
_STREAK = 16
_FIRST_BLOCK = 512
_LARGEST_BLOCK = 1 << 16
_LONGEST_FIELD_HEAD = 20
_VARINT_BYTES = 10
_MASK = (1 << 64) - 1
_LARGEST_TAG = 1 << 32


def message(window: Window, *, max_fields: int = MAX_FIELDS, clip: bool = False) -> Field:
    """The whole window as one message.

    Args:
        window: where the message lies.
        max_fields: how many fields may be visited below it, skipped ones included, before ``LimitExceeded``.
        clip: whether a length-delimited field that runs past the end of the window (a truncated file) is cut off there
            and noted in ``Reader.cut``, instead of being refused.
    """
    return Field(Reader(window, max_fields=max_fields, clip=clip), 0, BYTES, window.size, 0, window.size)


class Reader:
    """A block-buffered view of a window, shared by all fields of one message.

    Args:
        window: where the message lies.
        max_fields: how many fields may be visited.
        clip: whether a field that runs past the end of the window is cut off there.

    Attributes:
        left: how many fields may still be visited.
        cut: where the last field begins that had to be cut off, or None.
    """

    __slots__ = ("_block", "_first", "_next", "clip", "cut", "left", "max_fields", "window")

    def __init__(self, window: Window, *, max_fields: int = MAX_FIELDS, clip: bool = False) -> None:
        self.window = window
        self.clip = clip
        self.cut: int | None = None
        self.max_fields = max_fields
        self.left = max_fields
        self._block = b""
        self._first = 0
        self._next = _FIRST_BLOCK

    def at(self, position: int) -> tuple[bytes, int]:
        """A block that holds *position* and, unless the window ends, a field's whole head; and where it begins."""
        block, first = self._block, self._first
        end = first + len(block)
        if first <= position and (
            position + _LONGEST_FIELD_HEAD <= end or (position < end and end >= self.window.size)
        ):
            return block, first
        # Reading on doubles the block as a kernel's read-ahead does; after a jump over a payload it starts small again.
        ahead = first <= position <= end
        self._next = min(self._next * 4, _LARGEST_BLOCK) if ahead else _FIRST_BLOCK
        self._block, self._first = self.window.read(position, self._next), position
        return self._block, position

    def fail(self, position: int, reason: str) -> BadFormat:
        """The error that *position* does not hold what a message needs there."""
        offset = self.window.start + position
        path = self.window.path
        return BadFormat(f"{path or 'message'}: {reason} at offset {offset}", path=path, offset=offset)

    def exhausted(self, position: int) -> LimitExceeded:
        """The error that too many fields were visited."""
        path = self.window.path
        return LimitExceeded(
            f"{path or 'message'}: more than {self.max_fields:,} protobuf fields",
            path=path,
            offset=self.window.start + position,
        )


class Field:
    """One field of a message, and itself a message when it is length-delimited.

    Attributes:
        number: the schema's field number; 0 for the outermost message.
        wire: ``VARINT``, ``FIXED64``, ``BYTES`` or ``FIXED32``.
        value: the unsigned number, or the length of a length-delimited field.
        start, end: the value's bytes, counted from the start of the window.
    """

    __slots__ = ("end", "number", "reader", "start", "value", "wire")

    def __init__(self, reader: Reader, number: int, wire: int, value: int, start: int, end: int) -> None:
        self.reader = reader
        self.number = number
        self.wire = wire
        self.value = value
        self.start = start
        self.end = end

    def __repr__(self) -> str:
        return f"Field(number={self.number}, wire={self.wire}, value={self.value}, start={self.start}, end={self.end})"

    @property
    def offset(self) -> int:
        """First byte of the value, counted from the start of the entry, as extents are."""
        return self.reader.window.start + self.start

    @property
    def size(self) -> int:
        """Length of the value in bytes."""
        return self.end - self.start

    @property
    def integer(self) -> int:
        """The number of a varint or fixed field, unsigned.

        Raises:
            BadFormat: the field is length-delimited.
        """
        if self.wire == BYTES:
            raise self._wrong("a number")
        return self.value

    @property
    def signed(self) -> int:
        """The number of a varint or fixed field in two's complement (int32, int64, sfixed, enum).

        Raises:
            BadFormat: the field is length-delimited.
        """
        bits = 32 if self.wire == FIXED32 else 64
        value = self.integer
        return value - (1 << bits) if value >> (bits - 1) else value

    @property
    def zigzag(self) -> int:
        """The number of an sint32 or sint64 field.

        Raises:
            BadFormat: the field is length-delimited.
        """
        value = self.integer
        return (value >> 1) ^ -(value & 1)

    @property
    def real(self) -> float:
        """The number of a float or double field, by its width.

        Raises:
            BadFormat: the field is neither.
        """
        if self.wire == FIXED32:
            return float(struct.unpack("<f", self.value.to_bytes(4, "little"))[0])
        if self.wire == FIXED64:
            return float(struct.unpack("<d", self.value.to_bytes(8, "little"))[0])
        raise self._wrong("a fixed-width number")

    def read(self, limit: int = MAX_BYTES) -> bytes:
        """The bytes of a length-delimited field.

        Raises:
            BadFormat: the field is a number.
            LimitExceeded: it is longer than *limit*.
        """
        if self.wire != BYTES:
            raise self._wrong("bytes")
        if self.size > limit:
            path = self.reader.window.path
            raise LimitExceeded(
                f"{path or 'message'}: field {self.number} has {self.size:,} bytes, at most {limit:,} are read",
                path=path,
                offset=self.offset,
            )
        return self._slice(self.start, self.end)

    def text(self, limit: int = MAX_TEXT) -> str:
        """The text of a length-delimited field, at most *limit* bytes of it; bytes that are not UTF-8 become U+FFFD.

        Raises:
            BadFormat: the field is a number.
        """
        if self.wire != BYTES:
            raise self._wrong("text")
        return self._slice(self.start, min(self.end, self.start + limit)).decode("utf-8", "replace")

    def integers(self, limit: int = MAX_FIELDS) -> list[int]:
        """Unsigned numbers of a repeated varint field, packed or not.

        Raises:
            BadFormat: a number is cut off or too long.
            LimitExceeded: there are more than *limit* bytes of them.
        """
        return unpack_varints(self.read(limit), self) if self.wire == BYTES else [self.integer]

    def signed_integers(self, limit: int = MAX_FIELDS) -> list[int]:
        """The same in two's complement (repeated int32, int64, enum)."""
        return [value - (1 << 64) if value >> 63 else value for value in self.integers(limit)]

    def reals(self, width: int, limit: int = MAX_BYTES) -> tuple[float, ...]:
        """Numbers of a repeated float (*width* 4) or double (8) field, packed or not.

        Raises:
            BadFormat: the length is no multiple of the width.
            LimitExceeded: there are more than *limit* bytes of them.
        """
        if self.wire != BYTES:
            return (self.real,)
        data = self.read(limit)
        if len(data) % width:
            raise self._wrong(f"a multiple of {width} bytes")
        return struct.unpack(f"<{len(data) // width}{'f' if width == 4 else 'd'}", data)

    def __iter__(self) -> Iterator[Field]:
        return self.fields()

    def fields(self, tally: dict[int, int] | None = None) -> Iterator[Field]:
        """The fields of this message, in file order.

        Args:
            tally: field numbers to pass over cheaply: they are checked, but not yielded; how often each occurs is added
                to its value. Long runs of numbers and short texts cost little and count as few visited fields.

        Raises:
            BadFormat: this is a number, or its bytes are not a message (groups, which no schema we read has, are not
                followed).
            LimitExceeded: the reader visited all the fields it may.
        """
        if self.wire != BYTES:
            raise self._wrong("a message")
        reader, position, end = self.reader, self.start, self.end
        before = streak = 0
        while position < end:
            if reader.left <= 0:
                raise reader.exhausted(position)
            reader.left -= 1
            begin = position
            block, first = reader.at(position)
            index = position - first
            try:
                tag = block[index]
                index += 1
                if tag >= 0x80:
                    tag, index = _varint(block, index - 1)
                wire = tag & 7
                if wire in _STARTS_WITH_VARINT:
                    value = block[index]
                    index += 1
                    if value >= 0x80:
                        value, index = _varint(block, index - 1)
                    start = first + index
                    position = start + value if wire == BYTES else start
                elif wire in _WIDTHS:
                    start = first + index
                    position = start + _WIDTHS[wire]
                    value = int.from_bytes(block[index : position - first], "little")
                else:
                    raise reader.fail(begin, f"protobuf wire type {wire} is not supported")
            except (IndexError, ValueError):
                raise reader.fail(begin, "protobuf field is malformed") from None
            if position > end:
                if not (reader.clip and wire == BYTES and end == reader.window.size and start <= end):
                    raise reader.fail(begin, f"protobuf field ends {position - end} bytes after its message")
                reader.cut, position, value = begin, end, end - start
            number = tag >> 3
            if number == 0 or tag >= _LARGEST_TAG:
                raise reader.fail(begin, f"protobuf field number {number} is not allowed")
            if tally and number in tally:
                tally[number] += 1
                streak = streak + 1 if tag == before else 0
                before = tag
                if streak >= _STREAK and tag < 0x80:
                    count, position = self._run(position, end, tag)
                    tally[number] += count
                    streak = 0
                continue
            # For a number, start is where its own bytes begin only when fixed: nobody needs a varint's place.
            yield Field(reader, number, wire, value, start, position)

    def _run(self, position: int, end: int, tag: int) -> tuple[int, int]:
        """Pass over the elements with this one-byte tag at *position*: how many there were, and what comes after."""
        passed = 0
        wire = tag & 7
        while position < end and self.reader.left > 0:
            block, first = self.reader.at(position)
            data = block[position - first : end - first]
            if wire == VARINT:
                count, taken = varint_run(data, tag)
            elif wire == BYTES:
                count, taken = text_run(data, tag)
                self.reader.left -= count // _STREAK
            else:
                count = fixed_run(data, tag, _WIDTHS[wire])
                taken = count * (1 + _WIDTHS[wire])
            self.reader.left -= 1
            passed += count
            position += taken
            if len(data) - taken > _LONGEST_FIELD_HEAD or not taken:
                break
        return passed, position

    def _slice(self, start: int, end: int) -> bytes:
        block, first = self.reader.at(start) if start < end else (b"", start)
        if end - first <= len(block):
            return block[start - first : end - first]
        return self.reader.window.exactly(start, end - start)

    def _wrong(self, expected: str) -> BadFormat:
        return self.reader.fail(
            self.start, f"protobuf field {self.number}: expected {expected}, found wire type {self.wire}"
        )


def unpack_varints(data: bytes, field: Field | None = None) -> list[int]:
    """The varints that *data* is made of, unsigned.

    Args:
        data: packed repeated field.
        field: where it came from, for the message of an error.

    Raises:
        BadFormat: the last one is cut off, or one is longer than ten bytes.
    """
    values: list[int] = []
    index = 0
    try:
        while index < len(data):
            value = data[index]
            index += 1
            if value >= 0x80:
                value, index = _varint(data, index - 1)
            values.append(value)
    except (IndexError, ValueError):
        where = f" at offset {field.offset + index}" if field else ""
        raise BadFormat(f"packed protobuf numbers are malformed{where}") from None
    return values


def _varint(block: bytes, index: int) -> tuple[int, int]:
    """The base-128 varint at *index*, and the index after it; IndexError or ValueError when there is none."""
    value = 0
    for shift in range(0, 7 * _VARINT_BYTES, 7):
        byte = block[index]
        index += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & _MASK, index
    raise ValueError("varint is longer than ten bytes")
