"""Elements of tensors that are written one by one (``int32_data``, a Constant's ``value_int``) instead of as bytes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from assay.containers.protobuf.message import BYTES, Field
from assay.errors import BadFormat, NotFound
from assay.formats.onnx.tensors import RawTensor
from assay.spec.tensor import TensorSpec

_INT32_DATA, _INT64_DATA, _UINT64_DATA = 5, 7, 11
_BITS_OF = {"float16": "uint16", "bfloat16": "uint16"}
"""Types whose bits stand in ``int32_data`` as integers."""

_WIDE = {_INT32_DATA: "int64", _INT64_DATA: "int64", _UINT64_DATA: "uint64"}
_ATTRIBUTE_INT, _ATTRIBUTE_FLOATS, _ATTRIBUTE_INTS = 3, 7, 8

MAX_ELEMENTS = 1 << 24


def elements(source: RawTensor | Field, spec: TensorSpec) -> bytes:
    """The elements of a tensor, little-endian.

    Args:
        source: the tensor, or the attribute of a Constant that gives it as numbers.
        spec: its index entry.

    Raises:
        BadFormat: there are more or fewer than its shape says.
        NotFound: they are given in a way that is not read (code ``tensor-not-readable``).
    """
    numbers = _of_attribute(source) if isinstance(source, Field) else _of_tensor(source, spec)
    if numbers is None:
        raise NotFound(f"tensor {spec.name!r} is given in a way that is not read", code="tensor-not-readable")
    if numbers.size != spec.size:
        raise BadFormat(f"tensor {spec.name!r} has {numbers.size} elements for the shape {list(spec.shape)}")
    dtype = np.dtype(_BITS_OF.get(spec.dtype, spec.dtype)).newbyteorder("<")
    return numbers.astype(dtype).tobytes()


def _of_tensor(tensor: RawTensor, spec: TensorSpec) -> NDArray[np.generic] | None:
    if tensor.raw is not None or tensor.is_external or tensor.segmented or spec.dtype == "string":
        return None
    if spec.dtype.endswith("int4") or spec.dtype.startswith(("float4", "float8", "complex")):
        return None
    for number, parts in tensor.typed.items():
        if number in _WIDE and len(parts) == 1:
            return _integers(parts[0], _WIDE[number])
    return None


def _of_attribute(attribute: Field) -> NDArray[np.generic] | None:
    integers: list[int] = []
    floats: list[float] = []
    for part in attribute:
        if part.number == _ATTRIBUTE_INT:
            integers.append(part.signed)
        elif part.number == _ATTRIBUTE_INTS:
            integers += part.signed_integers()
        elif part.number == _ATTRIBUTE_FLOATS:
            floats += part.reals(4) if part.wire == BYTES else [part.real]
    return np.array(floats, np.float32) if floats else np.array(integers, np.int64)


def _integers(part: Field, dtype: str) -> NDArray[np.generic]:
    if part.wire != BYTES:
        return np.array([part.integer], np.uint64).astype(dtype)
    return np.array(part.integers(MAX_ELEMENTS), np.uint64).astype(dtype)
