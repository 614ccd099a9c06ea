"""Golden examples: inputs, and the outputs that they gave, kept so exactly that another machine can ask again.

Values are arrays as bytes, tables as columns, and plain JSON; containers hold them by name or in order. Written format:
``docs/spec/statements.md``, section "example".
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from assay.errors import InvalidInput
from assay.spec.json import Json

SCHEMA = 1
MAX_EXAMPLE = 4 << 20
"""Bytes of array data and text of one example, inputs and outputs together."""
MAX_DEPTH = 16
"""Containers within containers."""

STRING = "string"
SIZES: Mapping[str, int] = {
    "bool": 1,
    "int8": 1,
    "uint8": 1,
    "int16": 2,
    "uint16": 2,
    "float16": 2,
    "bfloat16": 2,
    "int32": 4,
    "uint32": 4,
    "float32": 4,
    "int64": 8,
    "uint64": 8,
    "float64": 8,
    "complex64": 8,
    "complex128": 16,
}
"""Array types and the bytes of one element; times (``datetime64[ns]``, ``timedelta64[s]``) have eight."""
_TIMES = re.compile(r"(?:datetime|timedelta)64\[(?:\d+)?(?:Y|M|W|D|h|m|s|ms|us|ns)\]", re.ASCII)


@dataclass(frozen=True, slots=True)
class Array:
    """Numbers, truth values, times or text of one type and shape.

    Args:
        dtype: one of ``SIZES``, a time, or ``string``.
        shape: elements per dimension.
        data: the elements in row-major order: little-endian bytes, or for ``string`` a tuple of text and None.
        kind: whose array it is: ``numpy`` or ``torch``.
    """

    dtype: str
    shape: tuple[int, ...]
    data: bytes | tuple[str | None, ...]
    kind: str = "numpy"

    @property
    def weight(self) -> int:
        """Bytes it counts against ``MAX_EXAMPLE``."""
        if isinstance(self.data, bytes):
            return len(self.data)
        return sum(8 + len((text or "").encode("utf-8", "surrogatepass")) for text in self.data)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Args:
        name: as the table calls it; text or a number.
        dtype: as pandas writes it (``float64``, ``object``, ``category``).
        values: its cells, a one-dimensional array, or plain JSON cells of mixed type.
        categories: of a ``category`` column, in order.
        ordered: whether the categories are.
    """

    name: str | int
    dtype: str
    values: Value
    categories: Value | None = None
    ordered: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A pandas data frame, without its index."""

    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Plain:
    """A value that JSON has a form of: a number, text, a truth value, None, or lists of them."""

    value: Json


@dataclass(frozen=True, slots=True)
class Items:
    """Values in order.

    Args:
        values: them.
        pair: whether it is a tuple: a model gets its members as its arguments. A list is one argument.
    """

    values: tuple[Value, ...]
    pair: bool = False


@dataclass(frozen=True, slots=True)
class Named:
    """Values by name."""

    values: Mapping[str, Value]


Value = Array | Table | Plain | Items | Named


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a number may be off: at most ``absolute + relative * |expected|``.

    Args:
        relative: share of the expected number.
        absolute: in the output's unit; None for ``relative`` times the root mean square of the expected array, because
            rounding follows the size of what was added up, not of what was left.
    """

    relative: float
    absolute: float | None = None

    def to_json(self) -> dict[str, Json]:
        """The tolerance as a JSON object."""
        return {"relative": self.relative, "absolute": self.absolute}


EXACT = Tolerance(0.0, 0.0)
DEFAULTS: Mapping[str, Tolerance] = {
    "float16": Tolerance(1e-2),
    "bfloat16": Tolerance(4e-2),
    "float32": Tolerance(1e-4),
    "float64": Tolerance(1e-5),
    "complex64": Tolerance(1e-4),
    "complex128": Tolerance(1e-5),
}
"""What is allowed when nobody says otherwise. Everything else must be equal. About ten roundings of half precision, a
thousand of single: other processors add up in another order. Double outputs often come from single inputs."""
ANY = "*"
"""Stands for all types of floating point in ``Example.tolerance``."""


@dataclass(frozen=True, slots=True)
class Output:
    """What one call gave.

    Args:
        call: the model's own function (``predict``, ``call``, ``run``); None for the one natural to whatever is loaded.
        value: its answer.
    """

    call: str | None
    value: Value


@dataclass(frozen=True, slots=True)
class Example:
    """Inputs and what they give.

    Args:
        inputs: a tuple is the model's arguments, names are its keyword arguments or named inputs, all else is its one
            argument.
        outputs: per call.
        tolerance: array type, or ``*``, to what is allowed.
        captured: whether the outputs were taken from the live model, not given by a person.
        modules: top-level packages that the inputs themselves need (``pandas``).
    """

    inputs: Value
    outputs: tuple[Output, ...]
    tolerance: Mapping[str, Tolerance] = field(default_factory=dict)
    captured: bool = False
    modules: tuple[str, ...] = ()

    def allowed(self, dtype: str) -> Tolerance:
        """How far numbers of an array type may be off."""
        if dtype not in DEFAULTS:
            return EXACT
        return self.tolerance.get(dtype) or self.tolerance.get(ANY) or DEFAULTS[dtype]

    def to_json(self) -> dict[str, Json]:
        """The predicate of an ``example`` statement.

        Raises:
            InvalidInput: it is too large (code ``example-too-large``).
        """
        size = weight(self.inputs) + sum(weight(output.value) for output in self.outputs)
        if size > MAX_EXAMPLE:
            raise InvalidInput(
                f"the example holds {size:,} bytes, at most {MAX_EXAMPLE:,} are kept",
                code="example-too-large",
                hint="a few rows say as much: example=X[:8]",
            )
        body: dict[str, Json] = {
            "schema": SCHEMA,
            "inputs": to_json(self.inputs),
            "outputs": [{"call": output.call, "value": to_json(output.value)} for output in self.outputs],
            "tolerance": {name: allowed.to_json() for name, allowed in self.tolerance.items()},
            "source": "captured" if self.captured else "given",
        }
        if self.modules:
            body["modules"] = list(self.modules)
        return body

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> Example:
        """Read the predicate of an ``example`` statement.

        Raises:
            InvalidInput: it is not one (code ``bad-example``).
        """
        try:
            outputs = tuple(Output(_text(one["call"]), parse(one["value"])) for one in body["outputs"])
            tolerance = {str(name): _tolerance(allowed) for name, allowed in (body.get("tolerance") or {}).items()}
            modules = tuple(str(name) for name in body.get("modules") or ())
            return cls(parse(body["inputs"]), outputs, tolerance, body.get("source") == "captured", modules)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _bad(f"{type(error).__name__}: {error}") from error


def weight(value: Value) -> int:
    """Bytes that a value counts against ``MAX_EXAMPLE``."""
    if isinstance(value, Array):
        return value.weight
    if isinstance(value, Plain):
        return len(repr(value.value))
    if isinstance(value, Table):
        return sum(weight(one.values) + (weight(one.categories) if one.categories else 0) for one in value.columns)
    members = value.values.values() if isinstance(value, Named) else value.values
    return sum(8 + weight(member) for member in members)


def to_json(value: Value) -> Json:
    """A value as JSON: an object with one key that says what it is."""
    if isinstance(value, Array):
        data: Json = list(value.data) if isinstance(value.data, tuple) else base64.b64encode(value.data).decode("ascii")
        return {"array": {"dtype": value.dtype, "shape": list(value.shape), "kind": value.kind, "data": data}}
    if isinstance(value, Table):
        return {"table": [_column_json(column) for column in value.columns]}
    if isinstance(value, Plain):
        return {"json": _plain_json(value.value)}
    if isinstance(value, Items):
        return {"tuple" if value.pair else "list": [to_json(one) for one in value.values]}
    return {"named": [[name, to_json(one)] for name, one in value.values.items()]}  # pairs, since they keep their order


def parse(body: Any, depth: int = 0) -> Value:
    """A value from its JSON.

    Raises:
        InvalidInput: it is none (code ``bad-example``).
    """
    if depth > MAX_DEPTH or not isinstance(body, Mapping) or len(body) != 1:
        raise _bad("expected an object with one key" if depth <= MAX_DEPTH else "containers are too deep")
    ((kind, inner),) = body.items()
    if kind == "array":
        return _array(inner)
    if kind == "json":
        return Plain(_json_plain(inner))
    if kind in ("list", "tuple") and isinstance(inner, Sequence) and not isinstance(inner, str):
        return Items(tuple(parse(one, depth + 1) for one in inner), pair=kind == "tuple")
    if kind == "named" and isinstance(inner, Sequence):
        return Named({str(name): parse(one, depth + 1) for name, one in inner})
    if kind == "table" and isinstance(inner, Sequence):
        return Table(tuple(_column(one, depth + 1) for one in inner))
    raise _bad(f"no value of the kind {kind!r:.40}")


def _column_json(column: Column) -> Json:
    body: dict[str, Json] = {"name": column.name, "dtype": column.dtype, "values": to_json(column.values)}
    if column.categories is not None:
        body |= {"categories": to_json(column.categories), "ordered": column.ordered}
    return body


def _column(body: Mapping[str, Any], depth: int) -> Column:
    name = body["name"] if isinstance(body["name"], int) else str(body["name"])
    categories = parse(body["categories"], depth) if "categories" in body else None
    return Column(name, str(body["dtype"]), parse(body["values"], depth), categories, bool(body.get("ordered")))


def _array(body: Mapping[str, Any]) -> Array:
    dtype, shape = str(body["dtype"]), tuple(body["shape"])
    if not all(isinstance(size, int) and 0 <= size < 1 << 40 for size in shape):
        raise _bad(f"a shape of {shape!r:.60}")
    count = math.prod(shape)
    data: bytes | tuple[str | None, ...]
    if dtype == STRING:
        data = tuple(body["data"])
        fits = len(data) == count and all(text is None or isinstance(text, str) for text in data)
    else:
        each = SIZES.get(dtype) or (8 if _TIMES.fullmatch(dtype) else None)
        if each is None:
            raise _bad(f"no array type {dtype!r:.40}")
        try:
            data = base64.b64decode(body["data"], validate=True)
        except binascii.Error as error:
            raise _bad(f"array data is not base64: {error}") from error
        fits = len(data) == count * each
    if not fits:
        raise _bad(f"an array of {dtype}{list(shape)} has {len(data):,} bytes or elements")
    return Array(dtype, shape, data, "torch" if body.get("kind") == "torch" else "numpy")


_ODD = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def _plain_json(value: Json) -> Json:
    """JSON has no NaN and no infinity: they become ``{"float": "NaN"}``."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"}
    if isinstance(value, (list, tuple)):
        return [_plain_json(one) for one in value]
    return value


def _json_plain(body: Any) -> Json:
    if isinstance(body, Mapping):
        return _ODD[body["float"]]
    if isinstance(body, list):
        return [_json_plain(one) for one in body]
    if body is None or isinstance(body, (bool, int, float, str)):
        return body
    raise _bad(f"a plain {type(body).__name__}")


def _tolerance(body: Mapping[str, Any]) -> Tolerance:
    absolute = body.get("absolute")
    return tolerance(float(body["relative"]), None if absolute is None else float(absolute))


def tolerance(relative: float, absolute: float | None = None) -> Tolerance:
    """A tolerance that was given.

    Raises:
        InvalidInput: a number is negative or not finite (code ``bad-tolerance``).
    """
    for number in (relative, 0.0 if absolute is None else absolute):
        if not (math.isfinite(number) and number >= 0):
            raise InvalidInput(f"a tolerance of {number} is none: expected 0 or more", code="bad-tolerance")
    return Tolerance(relative, absolute)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _bad(why: str) -> InvalidInput:
    return InvalidInput(f"not a golden example: {why:.300}", code="bad-example")
