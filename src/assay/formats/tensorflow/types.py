"""Names of TensorFlow's element types, and shapes, as they stand in its protobuf messages.

Source: the field numbers of ``types.proto`` and ``tensor_shape.proto``.
"""

from __future__ import annotations

from assay.containers.protobuf.message import BYTES, Field
from assay.errors import BadFormat, LimitExceeded

MAX_RANK = 254
"""Dimensions of a tensor, as in TensorFlow."""

DTYPES = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    7: "string",
    8: "complex64",
    9: "int64",
    10: "bool",
    11: "qint8",
    12: "quint8",
    13: "qint32",
    14: "bfloat16",
    15: "qint16",
    16: "quint16",
    17: "uint16",
    18: "complex128",
    19: "float16",
    20: "resource",
    21: "variant",
    22: "uint32",
    23: "uint64",
    24: "float8_e5m2",
    25: "float8_e4m3fn",
    26: "float8_e4m3fnuz",
    27: "float8_e4m3b11fnuz",
    28: "float8_e5m2fnuz",
    # Numbers of less than a byte are stored one to a byte: not the packed types of those names.
    29: "int4_in_byte",
    30: "uint4_in_byte",
    31: "int2_in_byte",
    32: "uint2_in_byte",
}


def dtype_name(number: int) -> str:
    """Name of an element type; reference types are named as what they refer to."""
    return DTYPES.get(number - 100 if number > 100 else number, f"dtype {number}")


def read_shape(field: Field) -> tuple[int | None, ...] | None:
    """The sizes of a TensorShapeProto, None for any size; None when not even the rank is known.

    Raises:
        BadFormat: it is not one.
        LimitExceeded: it has more than ``MAX_RANK`` dimensions.
    """
    sizes: list[int | None] = []
    for part in field:
        if part.number == 3 and part.wire != BYTES and part.integer:
            return None
        if part.number == 2:
            size = 0
            for inner in part:
                if inner.number == 1:
                    size = inner.signed
            sizes.append(None if size < 0 else size)
            if len(sizes) > MAX_RANK:
                path = field.reader.window.path
                raise LimitExceeded(f"{path}: a tensor of more than {MAX_RANK} dimensions", path=path)
    return tuple(sizes)


def fixed_shape(field: Field) -> tuple[int, ...]:
    """The sizes of a TensorShapeProto that states all of them.

    Raises:
        BadFormat: it does not.
    """
    shape = read_shape(field)
    if shape is None or None in shape:
        path = field.reader.window.path
        raise BadFormat(f"{path}: expected a tensor shape, found {shape}", path=path, offset=field.offset)
    return tuple(size or 0 for size in shape)
