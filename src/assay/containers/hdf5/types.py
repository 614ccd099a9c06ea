"""HDF5 datatypes and dataspaces: what an element is, and how attribute bytes become values.

Source of the layout: "HDF5 File Format Specification Version 3.0", IV.A.2.b (dataspace) and IV.A.2.d (datatype).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import prod

from assay.containers.hdf5.reader import Cursor, Reader, bytes_for
from assay.errors import BadFormat, LimitExceeded

MAX_NESTING = 16
"""Depth of datatypes inside datatypes."""

MAX_MEMBERS = 4096
"""Members of one compound or enumeration."""

MAX_TEXT = 256 << 20
"""Bytes of text taken out of the global heap of one file, counting repetitions."""

MAX_RANK = 32
"""Dimensions of a dataspace, as in the library (``H5S_MAX_RANK``)."""

_CLASSES = (
    "fixed",
    "float",
    "time",
    "string",
    "bitfield",
    "opaque",
    "compound",
    "reference",
    "enum",
    "vlen",
    "array",
    "complex",
)
_FLOATS = {(2, 5, 10): "float16", (2, 8, 7): "bfloat16", (4, 8, 23): "float32", (8, 11, 52): "float64"}
"""(bytes, exponent bits, mantissa bits) to dtype."""


@dataclass(frozen=True, slots=True)
class Datatype:
    """What one element is.

    Args:
        kind: class name as in the specification, ``vlen-string`` apart.
        size: bytes of one element.
        dtype: name for a tensor index (``float32``), or the kind where it is no plain number.
        big_endian: byte order.
        signed: of whole numbers.
        dims: dimensions of an array type.
        base: type of the elements of an array, sequence or enumeration.
    """

    kind: str
    size: int
    dtype: str
    big_endian: bool = False
    signed: bool = False
    dims: tuple[int, ...] = ()
    base: Datatype | None = None


@dataclass(frozen=True, slots=True)
class Dataspace:
    """How many elements there are.

    Args:
        dims: sizes; ``()`` for one element.
        limits: sizes they may grow to; an unlimited one is all ones.
        null: there is none at all.
    """

    dims: tuple[int, ...]
    limits: tuple[int, ...] = ()
    null: bool = False

    @property
    def count(self) -> int:
        """Number of elements."""
        return 0 if self.null else prod(self.dims)


def read_dataspace(cursor: Cursor) -> Dataspace:
    """Decode a dataspace message.

    Raises:
        BadFormat: unknown version, or too many dimensions.
    """
    version, rank, flags = cursor.number(1), cursor.number(1), cursor.number(1)
    kind = cursor.number(1)
    if version not in {1, 2} or rank > MAX_RANK:
        raise BadFormat(f"{cursor.path}: HDF5 dataspace version {version} of rank {rank}", path=cursor.path)
    if version == 1:
        cursor.take(4)
        kind = 1
    dims = tuple(cursor.length() for _ in range(rank))
    limits = tuple(cursor.length() for _ in range(rank)) if flags & 1 else dims
    return Dataspace(dims, limits, null=kind == 2)


def read_datatype(cursor: Cursor, depth: int = 0) -> Datatype:
    """Decode a datatype message, leaving the cursor behind it.

    Raises:
        BadFormat: unknown class, or nested deeper than ``MAX_NESTING``.
    """
    if depth > MAX_NESTING:
        raise LimitExceeded(f"{cursor.path}: HDF5 datatypes nested deeper than {MAX_NESTING}", path=cursor.path)
    head, bits, size = cursor.number(1), cursor.number(3), cursor.number(4)
    code, version = head & 15, head >> 4
    if code >= len(_CLASSES):
        raise BadFormat(f"{cursor.path}: HDF5 datatype class {code} is not known", path=cursor.path)
    kind = _CLASSES[code]
    if kind in {"fixed", "bitfield"}:
        return _fixed(cursor, kind, bits, size)
    if kind == "float":
        return _float(cursor, bits, size)
    if kind == "enum":
        return _enum(cursor, version, bits, size, depth)
    if kind == "compound":
        return _compound(cursor, version, bits, size, depth)
    if kind == "vlen":
        base = read_datatype(cursor, depth + 1)
        return Datatype(
            "vlen-string" if bits & 15 == 1 else "vlen", size, "string" if bits & 15 == 1 else "vlen", base=base
        )
    if kind == "array":
        return _array(cursor, version, size, depth)
    if kind == "complex":
        base = read_datatype(cursor, depth + 1)
        dtype = {"float32": "complex64", "float64": "complex128"}.get(base.dtype, kind)
        return Datatype(kind, size, dtype, base.big_endian, base=base)
    if kind == "opaque":
        cursor.take(min(bits & 0xFF, cursor.left))
    elif kind == "time":
        cursor.take(2)
    return Datatype(kind, size, kind)


def _fixed(cursor: Cursor, kind: str, bits: int, size: int) -> Datatype:
    offset, precision = cursor.number(2), cursor.number(2)
    signed = bool(bits & 8)
    plain = kind == "fixed" and offset == 0 and precision == 8 * size and size in {1, 2, 4, 8}
    dtype = f"{'int' if signed else 'uint'}{8 * size}" if plain else kind
    return Datatype(kind, size, dtype, bool(bits & 1), signed)


def _float(cursor: Cursor, bits: int, size: int) -> Datatype:
    cursor.take(5)
    exponent = cursor.number(1)
    cursor.take(1)
    mantissa = cursor.number(1)
    cursor.take(4)
    vax = bool(bits & 64)
    dtype = "float" if vax else _FLOATS.get((size, exponent, mantissa), f"float{exponent}e{mantissa}m")
    return Datatype("float", size, dtype, bool(bits & 1))


def _enum(cursor: Cursor, version: int, bits: int, size: int, depth: int) -> Datatype:
    base = read_datatype(cursor, depth + 1)
    count = bits & 0xFFFF
    if count > MAX_MEMBERS:
        raise LimitExceeded(f"{cursor.path}: HDF5 enumeration of {count} members", path=cursor.path)
    names = [cursor.text(padded_to=8 if version < 3 else 1) for _ in range(count)]
    values = [cursor.number(base.size) for _ in range(count)]
    boolean = base.size == 1 and sorted(zip(names, values, strict=True)) == [("FALSE", 0), ("TRUE", 1)]
    return Datatype("enum", size, "bool" if boolean else base.dtype, base.big_endian, base.signed, base=base)


def _compound(cursor: Cursor, version: int, bits: int, size: int, depth: int) -> Datatype:
    count = bits & 0xFFFF
    if count > MAX_MEMBERS:
        raise LimitExceeded(f"{cursor.path}: HDF5 compound of {count} members", path=cursor.path)
    members = []
    for _ in range(count):
        name = cursor.text(padded_to=8 if version < 3 else 1)
        offset = cursor.number(4 if version < 3 else min(4, bytes_for(size)))
        if version == 1:
            cursor.take(28)
        members.append((name, offset, read_datatype(cursor, depth + 1)))
    dtype = "compound"
    # NumPy's complex numbers, as h5py writes them.
    if [name for name, _, _ in members] == ["r", "i"] and members[0][2] == members[1][2]:
        dtype = {"float32": "complex64", "float64": "complex128"}.get(members[0][2].dtype, dtype)
    return Datatype("compound", size, dtype, bool(members) and members[0][2].big_endian)


def _array(cursor: Cursor, version: int, size: int, depth: int) -> Datatype:
    rank = cursor.number(1)
    if rank > MAX_RANK:
        raise BadFormat(f"{cursor.path}: HDF5 array type of rank {rank}", path=cursor.path)
    if version < 3:
        cursor.take(3)
    dims = tuple(cursor.number(4) for _ in range(rank))
    if version < 3:
        cursor.take(4 * rank)
    base = read_datatype(cursor, depth + 1)
    return Datatype("array", size, base.dtype, base.big_endian, base.signed, dims=dims, base=base)


AttributeValue = bool | int | float | str | None | list["AttributeValue"]
"""An attribute as Python sees it; text in angle brackets stands for what has no such form."""


def decode(kind: Datatype, raw: bytes, heap: Heap) -> AttributeValue:
    """The value of one element.

    Args:
        kind: its type.
        raw: its bytes.
        heap: gives objects of the global heap.

    Raises:
        BadFormat: the bytes do not decode.
    """
    order = "big" if kind.big_endian else "little"
    if kind.kind in {"fixed", "bitfield", "enum"}:
        number = int.from_bytes(raw, "big" if order == "big" else "little", signed=kind.signed)
        return bool(number) if kind.dtype == "bool" else number
    if kind.kind == "float" and kind.dtype in {"float16", "float32", "float64"}:
        code = {2: "e", 4: "f", 8: "d"}[kind.size]
        return float(struct.unpack((">" if kind.big_endian else "<") + code, raw)[0])
    if kind.kind == "string":
        return raw.split(b"\0", 1)[0].decode("utf-8", "replace")
    if kind.kind == "vlen-string":
        return heap.text(raw)
    if kind.kind == "array" and kind.base is not None and 0 < prod(kind.dims) * kind.base.size <= len(raw):
        step = kind.base.size
        return [decode(kind.base, raw[i * step : (i + 1) * step], heap) for i in range(prod(kind.dims))]
    return f"<{kind.kind}>"


class Heap:
    """The global heap: where variable-length values lie.

    Collections are read once and kept.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._collections: dict[int, dict[int, bytes]] = {}
        self._taken = 0

    def text(self, raw: bytes) -> str:
        """The text behind a variable-length reference of the file.

        Raises:
            BadFormat: there is no such object.
            LimitExceeded: ``MAX_TEXT`` bytes were taken before.
        """
        cursor = self._reader.over(raw)
        length, address, index = cursor.number(4), cursor.address(), cursor.number(4)
        if length == 0 or address in {0, self._reader.undefined}:
            return ""
        found = self.object(address, index)
        # Many references may lead to one long text.
        self._taken += min(length, len(found))
        if self._taken > MAX_TEXT:
            raise LimitExceeded(
                f"{self._reader.window.path}: more than {MAX_TEXT:,} bytes of HDF5 text", path=self._reader.window.path
            )
        return found[:length].split(b"\0", 1)[0].decode("utf-8", "replace")

    def object(self, address: int, index: int) -> bytes:
        """Object *index* of the collection at *address*.

        Raises:
            BadFormat: there is none.
        """
        found = self._collections.get(address)
        if found is None:
            found = self._collections[address] = self._collection(address)
        if index not in found:
            raise self._reader.bad(f"the global heap has no object {index}", address)
        return found[index]

    def _collection(self, address: int) -> dict[int, bytes]:
        reader = self._reader
        fixed = 8 + reader.superblock.length_size
        cursor = reader.cursor(address, fixed, b"GCOL")
        cursor.take(4)
        size = cursor.length()
        cursor = reader.cursor(address, size, b"GCOL")
        cursor.take(fixed - 4)
        objects: dict[int, bytes] = {}
        while cursor.left >= fixed:
            reader.step()
            index = cursor.number(2)
            cursor.take(6)
            length = cursor.length()
            if index == 0:
                break
            objects[index] = cursor.take(length)
            cursor.take(min(-length % 8, cursor.left))
        return objects
