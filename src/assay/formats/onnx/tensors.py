"""``TensorProto`` and ``TypeProto``: which tensor it is, where its bytes lie, and whether the two agree.

A tensor's bytes lie in the model file (``raw_data``, or packed little-endian floats), in a side file that it names, or
nowhere plainly. What it states is checked against the bytes that are there before anything relies on it.

Source of the layout: onnx.proto (``TensorProto``, ``SparseTensorProto``, ``TypeProto``) and docs/ExternalData.md.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod

from assay.containers.locations import escaping
from assay.containers.protobuf.message import BYTES, Field
from assay.errors import BadFormat, NotFound
from assay.formats.onnx.schema import ELEMENT_TYPES
from assay.spec.description import Port
from assay.spec.finding import Severity
from assay.spec.tensor import Extent, TensorSpec
from assay.trees import Tree

MAX_RANK = 64
"""Dimensions of a tensor; frameworks stop at 32 or below."""

MAX_TYPE_NESTING = 8
"""Sequences of maps of optionals of …"""

HUGE_BYTES = 1 << 32
"""A tensor that states this many bytes without having them is reported as exhausting, not merely as wrong."""

_LARGEST_SIZE = 1 << 63
_TYPED_WIDTHS = {4: 4, 10: 8}  # float_data, double_data: fixed-width, so packed values are the plain array
_TYPED_DTYPES = {4: {"float32", "complex64"}, 10: {"float64", "complex128"}}
_TYPED_NUMBERS = frozenset({4, 5, 6, 7, 10, 11})
_EXTERNAL_KEYS = frozenset({"location", "offset", "length", "checksum", "basepath"})
_PREPACKED = "prepacked_"
"""Beginning of the keys under which ONNX Runtime keeps weights in the order it wants them."""

Report = Callable[[str, Severity, str, int | None, str], None]
"""Takes rule, severity, message, offset and evidence of a finding."""


@dataclass(slots=True)
class Place:
    """The model file that tensors are read from, and the side files they name.

    Args:
        tree: where side files are looked for.
        path: the model's entry.
        report: takes findings.
        side_files: entries that hold bytes of its tensors; filled while reading.
    """

    tree: Tree
    path: str
    report: Report
    side_files: set[str] = field(default_factory=set)


@dataclass(slots=True)
class RawTensor:
    """A ``TensorProto`` as it states itself.

    Args:
        name: as stated; often empty in attributes.
        data_type: number of its element type.
        dims: as stated, possibly negative.
        offset: where the message begins in the entry.
        raw: ``raw_data``, when present.
        typed: the typed repeated fields that are present, by number; at most the first two of each.
        external: key-value pairs that say where a side file's bytes lie.
        is_external: whether it says that its bytes lie outside.
        segmented: whether it is only a part of a tensor.
    """

    name: str = ""
    data_type: int = 0
    dims: list[int] = field(default_factory=list)
    offset: int = 0
    raw: Field | None = None
    typed: dict[int, list[Field]] = field(default_factory=dict)
    external: dict[str, str] = field(default_factory=dict)
    is_external: bool = False
    segmented: bool = False


def read_tensor(message: Field) -> RawTensor:
    """The fields of a ``TensorProto``; payloads are located, not read.

    Raises:
        BadFormat: it is no such message, or states more than ``MAX_RANK`` dimensions.
    """
    tensor = RawTensor(offset=message.offset)
    for part in message:
        match part.number:
            case 1:
                if len(tensor.dims) + (part.size if part.wire == BYTES else 1) > 10 * MAX_RANK:
                    raise message.reader.fail(part.start, "tensor has too many dimensions")
                tensor.dims += part.signed_integers()
            case 2:
                tensor.data_type = part.signed
            case 3:
                tensor.segmented = True
            case 8:
                tensor.name = part.text(1024)
            case 9:
                tensor.raw = part
            case 13:
                key, value = read_pair(part)
                if len(tensor.external) < 16:
                    tensor.external[key] = value
            case 14:
                tensor.is_external = part.integer == 1
            case number if number in _TYPED_NUMBERS:
                # One packed field is the whole array; a second one says that it lies in pieces.
                parts = tensor.typed.setdefault(number, [])
                if len(parts) < 2:
                    parts.append(part)
    if len(tensor.dims) > MAX_RANK:
        raise message.reader.fail(message.start, f"tensor has {len(tensor.dims)} dimensions, at most {MAX_RANK}")
    return tensor


def read_pair(message: Field, limit: int = 4096) -> tuple[str, str]:
    """Key and value of a ``StringStringEntryProto``, each cut off after *limit* bytes.

    Raises:
        BadFormat: it is no such message.
    """
    key = value = ""
    for part in message:
        if part.number == 1:
            key = part.text(limit)
        elif part.number == 2:
            value = part.text(limit)
    return key, value


def to_spec(tensor: RawTensor, name: str, place: Place) -> TensorSpec | None:
    """The index entry of a tensor, its stated size checked against its bytes.

    Args:
        tensor: what was read.
        name: its unique name.
        place: where it was read from; odd things are reported there.

    Returns:
        None when it cannot be an array at all (reported).
    """
    report, offset = place.report, tensor.offset
    if any(size < 0 for size in tensor.dims):
        report("onnx-dimensions", Severity.MISLEAD, f"tensor {name!r} has a negative dimension", offset, "")
        return None
    count = prod(tensor.dims)
    if count >= _LARGEST_SIZE:
        report("onnx-huge-tensor", Severity.EXHAUST, f"tensor {name!r} states {count:.3g} elements", offset, "")
        return None
    dtype, bits = ELEMENT_TYPES.get(tensor.data_type, (f"onnx-type-{tensor.data_type}", 0))
    if tensor.data_type not in ELEMENT_TYPES:
        message = f"tensor {name!r} has the unknown element type {tensor.data_type}"
        report("onnx-unknown-dtype", Severity.INCOMPLETE, message, offset, "")
    expected = (count * bits + 7) // 8 if bits else None
    if tensor.segmented:
        message = f"tensor {name!r} is only a segment of a tensor"
        report("onnx-segment", Severity.INCOMPLETE, message, offset, "")
        extent = None
    elif tensor.is_external or tensor.external:
        extent = _external_extent(tensor, name, expected, place)
    else:
        extent = _inner_extent(tensor, name, dtype, count, expected, place)
    return TensorSpec(name, dtype, tuple(tensor.dims), extent)


def _inner_extent(
    tensor: RawTensor, name: str, dtype: str, count: int, expected: int | None, place: Place
) -> Extent | None:
    report, offset = place.report, tensor.offset
    if tensor.raw is not None:
        if tensor.typed:
            message = f"tensor {name!r} holds its data twice: raw and typed"
            report("onnx-double-data", Severity.MISLEAD, message, offset, "")
        if expected is None:
            return None
        if tensor.raw.size != expected:
            _wrong_length(name, expected, tensor.raw.size, place, tensor.raw.offset)
            return None
        return Extent(place.path, tensor.raw.offset, expected)
    if not tensor.typed:
        if count and dtype != "string":
            _wrong_length(name, expected if expected is not None else count, 0, place, offset)
        return None
    number, parts = next(iter(tensor.typed.items()))
    single = parts[0]
    if len(parts) > 1 or single.wire != BYTES:
        return None
    if number in _TYPED_WIDTHS and dtype in _TYPED_DTYPES[number]:
        if single.size != expected:
            _wrong_length(name, expected or 0, single.size, place, single.offset)
            return None
        return Extent(place.path, single.offset, single.size)
    # Varints take at least a byte each; two 4-bit elements share one.
    least = count if expected is None else min(count, expected)
    if number != 6 and single.size < least:
        _wrong_length(name, least, single.size, place, single.offset)
    return None


def _wrong_length(name: str, expected: int, found: int, place: Place, offset: int) -> None:
    if expected >= HUGE_BYTES:
        message = f"tensor {name!r} states {expected:,} bytes, {found:,} are there"
        place.report("onnx-huge-tensor", Severity.EXHAUST, message, offset, "")
    else:
        message = f"tensor {name!r} needs {expected:,} bytes for its shape, {found:,} are there"
        place.report("onnx-data-length", Severity.MISLEAD, message, offset, "")


def _external_extent(tensor: RawTensor, name: str, expected: int | None, place: Place) -> Extent | None:
    report, offset = place.report, tensor.offset
    location = tensor.external.get("location", "")
    reason = escaping(location)
    if reason:
        message = f"tensor {name!r}: the location of its external data {reason}"
        report("onnx-external-escape", Severity.READ, message, offset, location[:200])
        return None
    base = tensor.external.get("basepath", "")
    if base and escaping(base):
        message = f"tensor {name!r}: the base folder of its external data {escaping(base)}"
        report("onnx-external-escape", Severity.READ, message, offset, base[:200])
        return None
    unknown = sorted(key for key in set(tensor.external) - _EXTERNAL_KEYS if not key.startswith(_PREPACKED))
    if unknown:
        # Readers set an attribute of this name, whatever it is.
        message = f"tensor {name!r}: unknown key {unknown[0][:80]!r} in its external data"
        report("onnx-external-key", Severity.MISLEAD, message, offset, unknown[0][:200])
    side = posixpath.normpath(place.tree.sibling(place.path, location))
    try:
        size = place.tree.size(side)
    except NotFound:
        message = f"tensor {name!r}: its external data {location[:200]!r} is missing"
        report("onnx-external-missing", Severity.INCOMPLETE, message, offset, location[:200])
        return None
    place.side_files.add(side)
    try:
        first = _number(tensor.external.get("offset", "0"))
        length = _number(tensor.external["length"]) if "length" in tensor.external else None
    except BadFormat as error:
        message = f"tensor {name!r}: {error.message} in its external data"
        report("onnx-external-range", Severity.MISLEAD, message, offset, "")
        return None
    length = (expected if expected is not None else max(0, size - first)) if length is None else length
    if first + length > size:
        message = f"tensor {name!r}: its external data ends at {first + length:,}, the file has {size:,} bytes"
        rule, severity = ("onnx-external-range", Severity.MISLEAD)
        if length >= HUGE_BYTES:
            rule, severity = ("onnx-huge-tensor", Severity.EXHAUST)
        report(rule, severity, message, offset, location[:200])
        return None
    if expected is not None and length != expected:
        _wrong_length(name, expected, length, place, offset)
        return None
    return Extent(side, first, length) if expected is not None else None


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise BadFormat(f"expected a number, found {text[:40]!r}")
    return int(text)


def read_port(message: Field) -> Port:
    """Name and type of a ``ValueInfoProto``.

    Raises:
        BadFormat: it is no such message, or its type nests deeper than ``MAX_TYPE_NESTING``.
    """
    name, dtype, shape = "", "unknown", None
    for part in message:
        if part.number == 1:
            name = part.text(1024)
        elif part.number == 2:
            dtype, shape = _read_type(part, 0)
    return Port(name, dtype, shape)


_Shape = tuple[int | str | None, ...] | None


def _read_type(message: Field, depth: int) -> tuple[str, _Shape]:
    if depth >= MAX_TYPE_NESTING:
        raise message.reader.fail(message.start, "type nests too deep")
    for part in message:
        match part.number:
            case 1:
                return _read_tensor_type(part)
            case 8:
                dtype, shape = _read_tensor_type(part)
                return f"sparse({dtype})", shape
            case 4 | 9:
                kind = "sequence" if part.number == 4 else "optional"
                inner = [_read_type(each, depth + 1)[0] for each in part if each.number == 1]
                return f"{kind}({inner[-1] if inner else 'unknown'})", None
            case 5:
                return _read_map_type(part, depth), None
            case 7:
                words = {each.number: each.text(256) for each in part if each.number in {1, 2}}
                return f"opaque({words.get(1, '')}.{words.get(2, '')})", None
    return "unknown", None


def _read_map_type(message: Field, depth: int) -> str:
    key = value = "unknown"
    for part in message:
        if part.number == 1:
            key = _dtype_name(part.signed)
        elif part.number == 2:
            value = _read_type(part, depth + 1)[0]
    return f"map({key},{value})"


def _read_tensor_type(message: Field) -> tuple[str, _Shape]:
    dtype, shape = "unknown", None
    for part in message:
        if part.number == 1:
            dtype = _dtype_name(part.signed)
        elif part.number == 2:
            dims = [_read_dimension(each) for each in part if each.number == 1]
            shape = tuple(dims[:MAX_RANK])
    return dtype, shape


def _read_dimension(message: Field) -> int | str | None:
    size: int | str | None = None
    for part in message:
        if part.number == 1:
            size = part.signed
        elif part.number == 2:
            size = part.text(256) or None
    return size


def _dtype_name(number: int) -> str:
    return ELEMENT_TYPES.get(number, (f"onnx-type-{number}", 0))[0]
