"""NumPy arrays, scalars and dtypes as pickles write them, and joblib's arrays between the opcodes.

How each is recognised in a symbolic graph::

    _reconstruct(ndarray, (0,), b"b")  BUILD (1, shape, dtype, fortran, elements)   protocols 0 to 4, object arrays in 5
    _frombuffer(elements, dtype, shape, order)                                      protocol 5
    scalar(dtype, bytes)
    _array_reconstructor(array, typecode, machine format, elements)                 the standard library's array
    NumpyArrayWrapper  BUILD {shape, order, dtype, ...}, then [padding length, padding] elements    joblib

Source: ``array_reduce`` and ``array_setstate`` in NumPy's ``methods.c``; ``joblib.numpy_pickle.NumpyArrayWrapper``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from assay.containers.npy import dtype_from_numpy
from assay.containers.pickle.parse import Parsed, parse
from assay.containers.pickle.values import Blob, Bytes, Call, Global, payload
from assay.errors import BadFormat
from assay.spec.finding import Finding
from assay.spec.tensor import ELEMENT_BITS
from assay.trees import Window

MAX_RANK = 64
_MAX_ELEMENTS = 1 << 62
_MAX_SHOWN = 4096  # bytes of an array's elements that are decoded to be shown

_MACHINE_FORMATS = dict(enumerate("|u1 |i1 <u2 >u2 <i2 >i2 <u4 >u4 <i4 >i4 <u8 >u8 <i8 >i8 <f4 >f4 <f8 >f8".split()))
_LATIN = frozenset({"latin1", "latin-1"})
_ORDERS = frozenset("<>|=")
_HAS_OBJECT = 0x01  # NPY_ITEM_REFCOUNT, in the flags of a dtype's state


@dataclass(frozen=True, slots=True)
class Dtype:
    """An element type.

    Args:
        name: as in ``TensorSpec``, or ``object``, ``void``, ``string``, ``bytes``, ``datetime64`` …
        big_endian: byte order.
        itemsize: bytes per element; None for objects, which are not in the array itself.
        text: NumPy's own short form (``<f8``).
    """

    name: str
    big_endian: bool = False
    itemsize: int | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Array:
    """An array in a graph.

    Args:
        dtype: its element type.
        shape: elements per dimension.
        fortran: whether the first index varies fastest.
        place: offset and length of the elements in the window, where they lie plainly.
        data: the elements, when the stream holds them as a value.
        items: the elements of an object array.
    """

    dtype: Dtype
    shape: tuple[int, ...]
    fortran: bool = False
    place: tuple[int, int] | None = None
    data: bytes | None = None
    items: Sequence[Any] | None = None

    @property
    def text(self) -> str:
        """Short form: ``float64[1, 7721]``."""
        return f"{self.dtype.name}[{', '.join(map(str, self.shape))}]"

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def values(self, window: Window) -> list[Any] | None:
        """The elements as Python values in memory order, when there are few; else None."""
        if self.items is not None:
            return list(self.items[:_MAX_SHOWN])
        wanted = self.size * (self.dtype.itemsize or 0)
        if not 0 < wanted <= _MAX_SHOWN or self.dtype.name in {"void", "object"}:
            return None
        data = self.data
        if data is None and self.place is not None:
            data = window.exactly(self.place[0], wanted)
        if data is None or len(data) != wanted:
            return None
        return _decoded(data, self.dtype)


class Arrays:
    """Recognises arrays in one graph; remembers where joblib put theirs.

    Use ``on_build`` as the hook of ``pickles.parse``.

    Attributes:
        nested: streams joblib wrote inside the stream, for arrays of objects.
        wrapped: number of joblib arrays met.
    """

    def __init__(self, window: Window) -> None:
        self._window = window
        self._places: dict[int, tuple[int, int]] = {}
        self._inner: dict[int, Parsed] = {}
        self._known: dict[int, Array | None] = {}
        self.nested: list[Parsed] = []
        self.wrapped = 0

    @property
    def places(self) -> tuple[tuple[int, int], ...]:
        """Offset and length of the raw elements joblib put between instructions."""
        return tuple(self._places.values())

    def on_build(self, call: Call, position: int) -> int | None:
        """Skip the elements that joblib writes right after a wrapper; see ``pickles.parse``."""
        if not is_wrapper(call) or not isinstance(call.state, dict):
            return None
        self.wrapped += 1
        shape, dtype = _shape(call.state.get("shape")), dtype_of(call.state.get("dtype"))
        if shape is None or dtype is None:
            return self._window.size + 1  # nobody can tell where the stream goes on
        if dtype.itemsize is None:
            parsed = parse(self._window, offset=position)
            self._inner[id(call)] = parsed
            self.nested.append(parsed)
            return parsed.end if parsed.complete else self._window.size + 1
        if call.state.get("numpy_array_alignment_bytes") is not None:
            padding = self._window.read(position, 1)
            position += 1 + (padding[0] if padding else 0)
        length = math.prod(shape) * dtype.itemsize
        self._places[id(call)] = position, length
        return position + length

    def array(self, value: object) -> Array | None:
        """The array *value* is, or None when it is something else."""
        if type(value) is Array:
            return value
        if type(value) is not Call:
            return None
        if id(value) not in self._known:
            self._known[id(value)] = self._recognise(value)
        return self._known[id(value)]

    def _recognise(self, call: Call) -> Array | None:
        name = call.function.name if type(call.function) is Global else ""
        if is_wrapper(call) and isinstance(call.state, dict):
            return self._wrapped(call, call.state)
        if name in {"_reconstruct", "_mareconstruct"} and call.function.module.startswith("numpy"):
            state = call.state
            if isinstance(state, tuple) and len(state) >= 4:
                return _built(*(state[1:5] if len(state) > 4 else state))
        if call.calls("array._array_reconstructor") and len(call.args) == 4:
            return _standard(call.args[2], call.args[3])
        if name == "_frombuffer" and call.function.module.startswith("numpy") and len(call.args) == 4:
            data, dtype, shape, order = call.args
            return _built(shape, dtype, order == "F", data)
        return None

    def _wrapped(self, call: Call, state: Mapping[Any, Any]) -> Array | None:
        inner = self._inner.get(id(call))
        if inner is not None:
            return self.array(inner.value)
        shape, dtype = _shape(state.get("shape")), dtype_of(state.get("dtype"))
        place = self._places.get(id(call))
        if shape is None or dtype is None:
            return None
        return Array(dtype, shape, fortran=state.get("order") == "F" and len(shape) > 1, place=place)


def is_wrapper(call: Call) -> bool:
    """Whether a call makes joblib's stand-in for an array whose elements follow in the stream."""
    function = call.function
    return (
        type(function) is Global
        and function.name == "NumpyArrayWrapper"
        and function.module.endswith("joblib.numpy_pickle")
    )


def dtype_of(value: object) -> Dtype | None:
    """The element type a graph value is, or None when it is none that is understood."""
    if type(value) is Global:  # a scalar type such as numpy.float32
        value = Call(value, (value.name.rstrip("_"),))
    if type(value) is not Call or not value.args or not isinstance(value.args[0], str):
        return None
    code = value.args[0]
    state = value.state if isinstance(value.state, tuple) else ()
    order = state[1] if len(state) > 1 and isinstance(state[1], str) and state[1] in _ORDERS else "|"
    try:
        found = dtype_from_numpy(code if code[:1] in "<>|=" else order + code)
    except BadFormat:
        if code in ELEMENT_BITS:
            return Dtype(code, itemsize=ELEMENT_BITS[code] // 8, text=code)
        return None
    itemsize = found.itemsize
    if found.name == "void" and len(state) > 7:
        flags, size = state[7], state[5]
        if isinstance(size, int) and size >= 0:
            itemsize = size
        if isinstance(flags, int) and flags & _HAS_OBJECT:
            itemsize = None
    return Dtype(found.name, found.big_endian, itemsize, order + code)


def scalar_of(value: object) -> Any:
    """The Python value of a NumPy scalar, or of a call that only wraps a constant; *value* itself otherwise."""
    if type(value) is not Call or type(value.function) is not Global:
        return value
    if value.function.name == "scalar" and value.function.module.startswith("numpy") and len(value.args) == 2:
        dtype, data = dtype_of(value.args[0]), bytes_of(value.args[1])
        if dtype is not None and data is not None and dtype.itemsize == len(data) and data:
            decoded = _decoded(data, dtype)
            return decoded[0] if decoded else value
    return value


def bytes_of(value: object) -> bytes | None:
    """Bytes however the protocol spells them: as such, as Latin-1 text, through ``_codecs.encode``, as a bytearray."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        try:
            return value.encode("latin-1")
        except UnicodeEncodeError:
            return None
    if type(value) is Call and value.args:
        if value.calls("_codecs.encode"):
            text, codec = (*value.args, None)[:2]
            return bytes_of(text) if isinstance(text, str) and isinstance(codec, str) and codec in _LATIN else None
        if value.calls("builtins.bytearray", "builtins.bytes"):
            return bytes_of(value.args[0]) if not isinstance(value.args[0], str) or len(value.args) > 1 else None
    return None


def place_of(value: object) -> tuple[int, int] | None:
    """Where the bytes of a value lie plainly in the window."""
    if type(value) is Call and value.calls("builtins.bytearray", "builtins.bytes") and len(value.args) == 1:
        return payload(value.args[0])
    return payload(value)


def lost(arrays: Arrays) -> tuple[Finding, ...]:
    """Findings of the streams inside the stream."""
    return tuple(finding for parsed in arrays.nested for finding in parsed.findings)


def _built(shape: object, dtype: object, fortran: object, data: object) -> Array | None:
    sizes, kind = _shape(shape), dtype_of(dtype)
    if sizes is None or kind is None:
        return None
    order = bool(fortran) and len(sizes) > 1
    if isinstance(data, list):
        return Array(kind, sizes, order, items=data)
    if kind.itemsize is None:
        return Array(kind, sizes, order)
    return _sized(kind, sizes, data, fortran=order)


def _sized(kind: Dtype, sizes: tuple[int, ...], data: object, *, fortran: bool = False) -> Array:
    """An array whose elements are bytes, held or placed where their number is right."""
    expected = math.prod(sizes) * (kind.itemsize or 0)
    place = place_of(data)
    if place is not None and place[1] != expected:
        place = None
    held = None if isinstance(data, Blob) or (place and not isinstance(data, Bytes)) else bytes_of(data)
    return Array(kind, sizes, fortran, place, held if held is not None and len(held) == expected else None)


def _standard(code: object, data: object) -> Array | None:
    """An array of the standard library, from its machine format code (``enum machine_format_code`` of ``array``)."""
    text = _MACHINE_FORMATS.get(code) if isinstance(code, int) else None
    held = payload(data)
    length = held[1] if held else len(bytes_of(data) or b"")
    if text is None:
        return None
    found = dtype_from_numpy(text)
    dtype = Dtype(found.name, found.big_endian, found.itemsize, text)
    return _sized(dtype, (length // (found.itemsize or 1),), data)


def _shape(value: object) -> tuple[int, ...] | None:
    if isinstance(value, int) and not isinstance(value, bool):
        value = (value,)
    if not isinstance(value, (tuple, list)) or len(value) > MAX_RANK:
        return None
    sizes = [scalar_of(size) for size in value]
    if not all(isinstance(size, int) and 0 <= size < _MAX_ELEMENTS for size in sizes):
        return None
    return tuple(map(int, sizes)) if math.prod(sizes) < _MAX_ELEMENTS else None


def _decoded(data: bytes, dtype: Dtype) -> list[Any] | None:
    text = dtype.text
    if dtype.name in {"datetime64", "timedelta64"} or not text:
        return None
    try:
        values = np.frombuffer(data, np.dtype(text)).tolist()
    except (TypeError, ValueError):
        return None
    return [value.decode("latin-1") if isinstance(value, bytes) else value for value in values]
