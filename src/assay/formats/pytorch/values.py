"""Tensors as torch writes them into pickles: rebuild calls over storages, read as values.

Concept: torch never pickles numbers. A tensor is a call of a rebuild function in ``torch._utils`` on a storage (a
persistent id naming a run of bytes outside the pickle), an offset, a shape and strides. This module holds the values
those calls become; ``rebuild`` reads the calls, ``state`` says what a tensor belongs to, and where the
storage's bytes lie ``zip`` and ``legacy`` know.

Source of the layout: the argument lists of the ``_rebuild_*`` functions of ``torch._utils`` (torch 1.0 to 2.13).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from assay.containers.pickle.values import Call, Global, Persistent
from assay.spec.tensor import ELEMENT_BITS

MAX_RANK = 64
"""Dimensions a tensor may state; torch itself allows 64."""

MAX_TEXT = 400
"""Characters kept of a string that is shown."""

MAX_ELEMENTS = 1 << 60
"""Elements and offsets beyond this are nonsense, whatever the file says."""

STORAGE_DTYPES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "QInt8Storage": "qint8",
    "QUInt8Storage": "quint8",
    "QInt32Storage": "qint32",
    "QUInt4x2Storage": "quint4x2",
    "QUInt2x4Storage": "quint2x4",
    "UntypedStorage": "uint8",
    "_UntypedStorage": "uint8",
}
"""Storage class to dtype name (``torch.storage._dtype_to_storage_type_map``)."""

DTYPE_ALIASES = {
    "half": "float16",
    "float": "float32",
    "double": "float64",
    "short": "int16",
    "int": "int32",
    "long": "int64",
    "cfloat": "complex64",
    "cdouble": "complex128",
    "chalf": "complex32",
}

OWN_BITS = {
    "qint8": 8,
    "quint8": 8,
    "qint32": 32,
    "quint4x2": 4,
    "quint2x4": 2,
    "float4_e2m1fn_x2": 8,
    "bits8": 8,
    "bits16": 16,
    "bits1x8": 8,
    "bits2x4": 8,
    "bits4x2": 8,
    **{f"uint{bits}": 8 for bits in range(1, 8)},
    **{f"int{bits}": 8 for bits in range(1, 8)},
}
"""Bits one element of torch's own storage types takes in a file; its sub-byte integers take a whole byte each."""

_SHELL_DTYPES = {"int4": "int4_in_8", "uint4": "uint4_in_8"}
# numpy's names int4/uint4 mean packed nibbles; torch's shell dtypes of that name are one byte per element.


@dataclass(frozen=True, slots=True)
class StorageValue:
    """A run of elements outside the pickle.

    Args:
        key: name of its record.
        dtype: dtype its class states; ``uint8`` when untyped.
        count: elements (bytes when untyped).
        device: where it lived when saved (``cpu``, ``cuda:0``).
        start: first element of the view (only files of torch before 0.4 hold views of storages).
    """

    key: str
    dtype: str
    count: int
    device: str
    start: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes the pickle says the record has."""
        return (self.count * (element_bits(self.dtype) or 8) + 7) // 8


@dataclass(frozen=True, slots=True)
class TensorValue:
    """One tensor as the pickle describes it.

    Args:
        storage: where the elements are; None for meta tensors, arrays inside the pickle and composed tensors.
        dtype: numpy / ml_dtypes name, or torch's own in lower case.
        shape: number of elements per dimension.
        strides: distance between neighbours in elements, None when C order without gaps.
        offset: first element, counted in elements of *dtype* from the start of the storage.
        kind: ``tensor``, ``parameter``, ``sparse``, ``quantized``, ``meta``, ``numpy`` or ``nested``.
        parts: dense tensors a composed tensor consists of, by role (``indices``, ``values``, ``scales``).
        lazy: operations torch has yet to apply to the stored elements (``conj``, ``neg``).
    """

    storage: StorageValue | None
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None = None
    offset: int = 0
    kind: str = "tensor"
    parts: tuple[tuple[str, TensorValue], ...] = ()
    lazy: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def text(self) -> str:
        """Dtype and shape, as shown to people."""
        return f"{self.dtype}{list(self.shape)}"

    def span(self) -> tuple[int, int]:
        """First byte and number of bytes, in the storage, from the first to the last element."""
        bits = element_bits(self.dtype) or 8
        if self.size == 0:
            return self.offset * bits // 8, 0
        strides = self.strides if self.strides is not None else c_strides(self.shape)
        last = sum((size - 1) * stride for size, stride in zip(self.shape, strides, strict=True))
        return self.offset * bits // 8, ((last + 1) * bits + 7) // 8


class Malformed(ValueError):
    """A rebuild call whose arguments are not what torch writes; the message says which."""


def shorten(text: str, limit: int = MAX_TEXT) -> str:
    """A string cut to *limit* characters, without lone surrogates (which no JSON document can hold)."""
    cut = text if len(text) <= limit else f"{text[: limit - 1]}…"
    return cut.encode("utf-8", "replace").decode("utf-8")


def element_bits(dtype: str) -> int | None:
    """Bits per stored element of a dtype, or None when unknown."""
    return ELEMENT_BITS.get(dtype) or OWN_BITS.get(dtype) or (8 if dtype in _SHELL_DTYPES.values() else None)


def c_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides of C order without gaps, in elements."""
    strides: list[int] = []
    step = 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def dtype_of(value: object) -> str | None:
    """The dtype a ``torch.<dtype>`` global names, or None when it is something else."""
    if not isinstance(value, Global) or value.module != "torch":
        return None
    name = DTYPE_ALIASES.get(value.name, value.name)
    name = _SHELL_DTYPES.get(name, name)
    return name if element_bits(name) else None


def storage_of(value: object) -> StorageValue | None:
    """The storage a persistent id names, or None when it names something else.

    Raises:
        Malformed: it is a storage, but its fields are not what torch writes.
    """
    if not isinstance(value, Persistent):
        return None
    pid = value.pid
    if not isinstance(pid, tuple) or not pid or _text(pid[0]) != "storage":
        return None
    if len(pid) not in (5, 6) or not isinstance(pid[1], Global):
        raise Malformed("a storage id has other fields than torch writes")
    dtype = STORAGE_DTYPES.get(pid[1].name)
    # torch.package numbers its storages, torch.save names them.
    key, device = _key(pid[2]), _text(pid[3])
    if dtype is None:
        raise Malformed(f"storage class {pid[1].module}.{pid[1].name} is not known"[:200])
    if key is None:
        raise Malformed("a storage id has no key")
    view = pid[5] if len(pid) == 6 else None
    start = checked_count(view[1], "storage offset") if isinstance(view, tuple) and len(view) == 3 else 0
    return StorageValue(key, dtype, checked_count(pid[4], "storage size"), shorten(device or "", 40), start)


def is_module_class(value: object) -> bool:
    """Whether a value is a class kept by the legacy layout together with its source code."""
    return (
        isinstance(value, Persistent)
        and isinstance(value.pid, tuple)
        and len(value.pid) == 4
        and _text(value.pid[0]) == "module"
    )


_MAKERS = frozenset({"_reconstructor", "__newobj__", "__newobj_ex__"})
# Functions of ``copyreg`` whose first argument is the class they make an instance of.


def class_of(call: Call) -> str:
    """Dotted name of the class or function a call builds its object with."""
    function: object = call.function
    if (
        isinstance(function, Global)
        and function.name in ("_reconstructor", "__newobj__", "__newobj_ex__")
        and call.args
    ):
        function = call.args[0]
    return name_of(function) or "object"


def name_of(value: object) -> str | None:
    """Dotted name of a class, function or legacy module class; None for anything else."""
    if isinstance(value, Persistent) and is_module_class(value) and isinstance(value.pid, tuple):
        value = value.pid[1]
    if isinstance(value, Global):
        return shorten(f"{value.module}.{value.name}")
    return None


def checked_layout(shape: object, strides: object) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """Shape and strides as plain numbers; strides are None when they are those of C order.

    Raises:
        Malformed: they do not belong together, or no file could hold what they reach.
    """
    sizes, steps = checked_shape(shape), checked_shape(strides)
    if len(sizes) != len(steps):
        raise Malformed(f"a tensor has {len(sizes)} dimensions and {len(steps)} strides")
    plain = c_strides(sizes)
    if 0 in sizes or all(size == 1 or a == b for size, a, b in zip(sizes, steps, plain, strict=True)):
        return sizes, None
    last = sum((size - 1) * step for size, step in zip(sizes, steps, strict=True))
    if last > MAX_ELEMENTS:
        raise Malformed("a tensor's strides reach beyond any file")
    return sizes, steps


def checked_shape(value: object) -> tuple[int, ...]:
    """A shape (tuple, list or ``torch.Size``) as plain numbers.

    Raises:
        Malformed: it is something else, or no file could hold that many elements.
    """
    if isinstance(value, Call) and isinstance(value.function, Global) and value.function.name == "Size":
        value = value.args[0] if len(value.args) == 1 else None
    if not isinstance(value, (tuple, list)) or len(value) > MAX_RANK:
        raise Malformed("a tensor's shape is not a short tuple of sizes")
    sizes = tuple(checked_count(size, "size") for size in value)
    if prod(sizes) > MAX_ELEMENTS:
        raise Malformed("a tensor states more elements than any file can hold")
    return sizes


def checked_count(value: object, what: str) -> int:
    """A size, offset or stride as a plain number; *what* names it in the message.

    Raises:
        Malformed: it is something else or not plausible.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_ELEMENTS:
        raise Malformed(f"a {what} is not a plausible number")
    return value


def _key(value: object) -> str | None:
    return str(value) if isinstance(value, int) and value.bit_length() <= 64 else _text(value)


def _text(value: object) -> str | None:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return value if isinstance(value, str) else None
