"""The tensor index: which tensors a file holds, and where their bytes lie.

This is the waist of the house: inspecting, comparing, packing and lazy reading all live off this one list.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from assay.errors import InvalidInput

ELEMENT_BITS: dict[str, int] = {
    "bool": 8,
    "int4": 4,
    "uint4": 4,
    "int8": 8,
    "uint8": 8,
    "int16": 16,
    "uint16": 16,
    "int32": 32,
    "uint32": 32,
    "int64": 64,
    "uint64": 64,
    "float4_e2m1fn": 4,
    "float6_e2m3fn": 6,
    "float6_e3m2fn": 6,
    "float8_e4m3fn": 8,
    "float8_e4m3fnuz": 8,
    "float8_e4m3b11fnuz": 8,
    "float8_e5m2": 8,
    "float8_e5m2fnuz": 8,
    "float8_e8m0fnu": 8,
    "float16": 16,
    "bfloat16": 16,
    "float32": 32,
    "float64": 64,
    "float80": 96,
    "float128": 128,
    "complex32": 32,
    "complex64": 64,
    "complex128": 128,
}
"""Bits per element of the dtypes that are plain arrays of numbers, by their numpy / ml_dtypes names.

Anything else (``string``, ``object``, ``q4_k``, ``qint8`` …) is a named storage type, not a plain array."""


NEVER_TRAINED = frozenset(
    {"bool", "int32", "uint32", "int64", "uint64", "datetime64", "timedelta64"}
    | {"string", "bytes", "object", "void", "opaque", "compound", "resource", "variant"}
)
"""Dtypes of shapes, indices, counters, masks and text. Narrower integers may be quantised weights."""

PACKED = (".qweight", ".weight_packed")
"""Endings of names of quantised weights that lie packed in wide integers (GPTQ, AWQ, compressed-tensors)."""


@dataclass(frozen=True, slots=True)
class Extent:
    """Where a tensor's bytes lie plainly (uncompressed, contiguous) in an entry.

    Args:
        path: the entry's path in the tree.
        offset: first byte, counted from the start of the entry.
        length: number of bytes.
    """

    path: str
    offset: int
    length: int

    def __post_init__(self) -> None:
        if self.offset < 0 or self.length < 0:
            raise InvalidInput(f"extent is negative: offset {self.offset}, length {self.length}")


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor of a file.

    Args:
        name: its name in the file; unique within one description.
        dtype: numpy / ml_dtypes name (``float32``, ``bfloat16``, ``int8``, ``bool``), or the lower-case name of the
            format's own storage type where elements are not plain numbers (``q4_1``, ``string``, ``object``).
        shape: number of elements per dimension; ``()`` is a scalar.
        extent: where the bytes lie, or None when they do not lie plainly (compressed, chunked, unknown).
        big_endian: byte order of the elements.
        strides: distance between neighbours per dimension, counted in elements; None means C order without gaps.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    extent: Extent | None = None
    big_endian: bool = False
    strides: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.shape and min(self.shape) < 0:
            raise InvalidInput(f"tensor {self.name!r} has a negative dimension: {self.shape}")

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def trained(self) -> bool:
        """Whether the elements may be trained numbers: floats and quantised weights, not shapes, indices or text."""
        return self.dtype not in NEVER_TRAINED or self.name.endswith(PACKED)

    @property
    def plain(self) -> bool:
        """Whether the elements are plain numbers of whole bytes that numpy (with ml_dtypes) can view."""
        return ELEMENT_BITS.get(self.dtype, 1) % 8 == 0

    @property
    def nbytes(self) -> int | None:
        """Bytes of the elements: from the extent, else from dtype and shape, else None."""
        bits = ELEMENT_BITS.get(self.dtype)
        if bits is not None:
            return (self.size * bits + 7) // 8
        return self.extent.length if self.extent else None
