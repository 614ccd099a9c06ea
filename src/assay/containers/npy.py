"""The header of a ``.npy`` file: element type, shape, order, and where the elements begin.

Source of the layout: NumPy's enhancement proposal 1 and the module ``numpy.lib.format`` (versions 1.0, 2.0, 3.0).
The header is a Python literal; only the tokens a type and a shape need are accepted before it is evaluated, so that no
hostile text ever reaches Python's parser.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

from assay.containers.guard import guarded
from assay.errors import BadFormat, LimitExceeded
from assay.trees import Window

MAGIC = b"\x93NUMPY"
MAX_HEADER = 1 << 16
"""Bytes of header text that are read; NumPy itself refuses more than 10,000 unless told otherwise."""
MAX_DIMENSIONS = 64
MAX_NESTING = 16
_MAX_ELEMENTS = 1 << 63

_TOKEN = re.compile(
    r"""\s+|(?P<open>[\[({])|(?P<close>[\])}])|[,:]|True\b|False\b|None\b|(?P<number>\d{1,19})L?\b|'[^'\\\n]*'|"[^"\\\n]*\"""",
    re.ASCII,
)
_DESCR = re.compile(r"(?P<order>[<>|=]?)(?P<kind>[biufcOSaUVMm])(?P<size>\d{0,9})(?P<unit>\[[^\]]{0,40}\])?", re.ASCII)
_PLAIN = {
    ("b", 1): "bool",
    ("f", 2): "float16",
    ("f", 4): "float32",
    ("f", 8): "float64",
    ("f", 12): "float80",
    ("f", 16): "float128",
    ("c", 8): "complex64",
    ("c", 16): "complex128",
    **{("i", size): f"int{8 * size}" for size in (1, 2, 4, 8)},
    **{("u", size): f"uint{8 * size}" for size in (1, 2, 4, 8)},
}
_NAMED = {"O": "object", "S": "bytes", "a": "bytes", "U": "string", "V": "void", "M": "datetime64", "m": "timedelta64"}


class NumpyDtype(NamedTuple):
    """What a NumPy type description says.

    ``name`` is the dtype as tensors are named here (``float32``), or ``object``, ``void`` (raw or structured),
    ``bytes``, ``string``, ``datetime64``, ``timedelta64``; ``itemsize`` is in bytes, None where elements are not in the
    array itself.
    """

    name: str
    big_endian: bool
    itemsize: int | None


@dataclass(frozen=True, slots=True)
class NpyHeader:
    """What the header of one array says.

    Args:
        dtype: as in ``TensorSpec``; ``object`` (elements are pickled) and ``void`` (structured) are not plain arrays.
        shape: elements per dimension.
        fortran: whether the first index varies fastest.
        big_endian: byte order of the elements.
        offset: first element byte, counted from the start of the window.
        nbytes: length of the elements, None for ``object``. It is what the header claims: compare it with the window.
        descr: the type description verbatim, shortened.
    """

    dtype: str
    shape: tuple[int, ...]
    fortran: bool
    big_endian: bool
    offset: int
    nbytes: int | None
    descr: str


def is_npy(head: bytes) -> bool:
    """Whether an entry's head is that of a ``.npy`` file."""
    return head[:6] == MAGIC and head[6:8] in {b"\x01\0", b"\x02\0", b"\x03\0"}


def dtype_from_numpy(descr: str) -> NumpyDtype:
    """Understand a simple NumPy type description such as ``<f4``.

    Raises:
        BadFormat: it is not one.

    >>> dtype_from_numpy(">f4")
    NumpyDtype(name='float32', big_endian=True, itemsize=4)
    """
    match = _DESCR.fullmatch(descr)
    if match is None:
        raise BadFormat(f"not a numpy type description: {descr[:80]!r}")
    kind = match["kind"]
    big_endian = match["order"] == ">"
    size = int(match["size"] or {"O": 8, "b": 1}.get(kind, 0))
    if kind == "O":
        return NumpyDtype("object", big_endian=False, itemsize=None)
    if kind in _NAMED:
        if kind in "Mm":
            size = size or 8
        return NumpyDtype(_NAMED[kind], big_endian, size * 4 if kind == "U" else size)
    name = _PLAIN.get((kind, size))
    if name is None:
        raise BadFormat(f"not a numpy type: {descr[:80]!r}")
    return NumpyDtype(name, big_endian and size > 1, size)


def parse_npy(window: Window) -> NpyHeader:
    """Read the header at the beginning of *window*, nothing of the elements.

    Raises:
        BadFormat: it is not a ``.npy`` header.
        LimitExceeded: the header is longer than ``MAX_HEADER`` or nested deeper than ``MAX_NESTING``.
    """
    path = window.path
    head = window.exactly(0, 8)
    if not is_npy(head):
        raise BadFormat(f"{path}: expected the magic of a .npy file, found {head[:8]!r}", path=path)
    version = head[6]
    width = 2 if version == 1 else 4
    length = int.from_bytes(window.exactly(8, width), "little")
    if length > MAX_HEADER:
        raise LimitExceeded(f"{path}: .npy header of {length:,} bytes, at most {MAX_HEADER:,} are read", path=path)
    offset = 8 + width + length
    with guarded("a .npy header", path):
        text = window.exactly(8 + width, length).decode("utf-8" if version == 3 else "latin-1")
        literal = ast.parse(_checked(text, path), mode="eval")
        if isinstance(literal.body, ast.Dict) and len(literal.body.keys) != 3:
            raise BadFormat(f"{path}: .npy header must hold three entries, each once", path=path)
        header = ast.literal_eval(literal)
        if not isinstance(header, dict) or set(header) != {"descr", "fortran_order", "shape"}:
            raise BadFormat(f"{path}: .npy header must hold descr, fortran_order and shape", path=path)
        shape = _shape(header["shape"], path)
        descr = header["descr"]
        dtype = dtype_from_numpy(descr) if isinstance(descr, str) else _structured(descr, 0)
    if not isinstance(header["fortran_order"], bool):
        raise BadFormat(f"{path}: fortran_order must be True or False", path=path)
    return NpyHeader(
        dtype=dtype.name,
        shape=shape,
        fortran=header["fortran_order"],
        big_endian=dtype.big_endian,
        offset=offset,
        nbytes=None if dtype.itemsize is None else prod(shape) * dtype.itemsize,
        descr=(descr if isinstance(descr, str) else repr(descr))[:400],
    )


def _checked(text: str, path: str) -> str:
    """The literal, rebuilt from tokens a type and a shape can need, with Python 2's long suffix taken off."""
    parts = []
    depth = position = 0
    text = text.strip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise BadFormat(
                f"{path}: unexpected text in the .npy header: {text[position : position + 40]!r}", path=path
            )
        depth += bool(match["open"]) - bool(match["close"])
        if depth > MAX_NESTING:
            raise LimitExceeded(f"{path}: .npy header nested deeper than {MAX_NESTING}", path=path)
        parts.append(str(int(match["number"])) if match["number"] else match[0])
        position = match.end()
    return "".join(parts)


def _shape(value: object, path: str) -> tuple[int, ...]:
    if not isinstance(value, tuple) or not all(type(size) is int for size in value):
        raise BadFormat(f"{path}: .npy shape must be a tuple of integers, found {value!r:.80}", path=path)
    if len(value) > MAX_DIMENSIONS:
        raise LimitExceeded(f"{path}: {len(value)} dimensions, at most {MAX_DIMENSIONS}", path=path)
    if prod(size for size in value if size) >= _MAX_ELEMENTS:
        raise BadFormat(f"{path}: .npy shape {value} has more elements than any file holds", path=path)
    return value


def _structured(descr: object, depth: int) -> NumpyDtype:
    """The size of a structured type: a list of (name, type[, shape]) fields, or a (type, shape) pair."""
    if isinstance(descr, str):
        return dtype_from_numpy(descr)
    if isinstance(descr, tuple) and len(descr) == 2 and depth < MAX_NESTING:
        inner = _structured(descr[0], depth + 1)
        count = prod(_field_shape(descr[1]))
        return NumpyDtype("void", inner.big_endian, None if inner.itemsize is None else inner.itemsize * count)
    if not isinstance(descr, list) or depth >= MAX_NESTING:
        raise BadFormat(f"not a numpy type description: {descr!r:.80}")
    total: int | None = 0
    objects = False
    for field in descr:
        if not isinstance(field, tuple) or len(field) not in {2, 3}:
            raise BadFormat(f"not a field of a numpy type: {field!r:.80}")
        inner = _structured(field[1], depth + 1)
        count = prod(_field_shape(field[2])) if len(field) == 3 else 1
        objects = objects or inner.name == "object"
        total = None if total is None or inner.itemsize is None else total + inner.itemsize * count
    # An object field makes numpy pickle the whole array, exactly as for a plain object array.
    return NumpyDtype("object" if objects else "void", big_endian=False, itemsize=total)


def _field_shape(value: object) -> tuple[int, ...]:
    sizes = value if isinstance(value, tuple) else (value,)
    if len(sizes) > MAX_DIMENSIONS or not all(type(size) is int and size < _MAX_ELEMENTS for size in sizes):
        raise BadFormat(f"not the shape of a numpy field: {value!r:.80}")
    return sizes
