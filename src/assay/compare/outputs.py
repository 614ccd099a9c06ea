"""What a model answers, held against what it answered: array by array, within stated tolerances."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from assay.spec.example import DEFAULTS, EXACT, Array, Items, Named, Plain, Table, Tolerance, Value
from assay.spec.json import Json

Numpy = np.ndarray[Any, Any]
Allowed = Callable[[str], Tolerance]


@dataclass(frozen=True, slots=True)
class Compared:
    """One array or value of the answer.

    Args:
        name: its place in the answer, empty for the answer itself.
        count: elements that were compared.
        max_absolute: largest difference of two numbers.
        max_relative: largest difference as a share of the expected number, where that is not zero.
        tolerance: what was allowed.
        problem: what is wrong, for people; None when it is as expected.
        expected, found: where they first differ.
    """

    name: str
    count: int = 0
    max_absolute: float = 0.0
    max_relative: float = 0.0
    tolerance: Tolerance = EXACT
    problem: str | None = None
    expected: Json = None
    found: Json = None


def compare_outputs(expected: Value, found: Value, allowed: Allowed, name: str = "") -> Iterator[Compared]:
    """Hold an answer against the expected one, leaf by leaf.

    Names beyond the expected ones are not looked at; a single named output stands for itself.

    Args:
        expected: what was recorded.
        found: what was answered.
        allowed: array type to tolerance.
        name: where in the answer this is.
    """
    if isinstance(found, Named) and not isinstance(expected, Named) and len(found.values) == 1:
        ((key, found),) = found.values.items()
        name = f"{name}[{key!r}]"
    if isinstance(expected, Named):
        yield from _named(expected, found, allowed, name)
        return
    if isinstance(expected, Items) and isinstance(found, Items):
        if len(expected.values) != len(found.values):
            yield _differs(name, f"expected {len(expected.values)} values, found {len(found.values)}")
        for at, (before, after) in enumerate(zip(expected.values, found.values, strict=False)):
            yield from compare_outputs(before, after, allowed, f"{name}[{at}]")
        return
    if isinstance(expected, Table) and isinstance(found, Table):
        yield from compare_outputs(_columns(expected), _columns(found), allowed, name)
        return
    recorded, answered = _as_array(expected), _as_array(found)
    if recorded is None or answered is None:
        yield _differs(name, f"expected {_kind(expected)}, found {_kind(found)}")
        return
    yield _arrays(recorded, answered, allowed(_precision(expected, found)), name)


def as_numpy(value: Array) -> Numpy:
    """An array of an example as numpy's; text becomes ``str_``, or objects when some of it is None."""
    if isinstance(value.data, tuple):
        array = np.empty(len(value.data), dtype=object)
        array[:] = value.data
        if all(isinstance(text, str) for text in value.data):
            array = array.astype(np.str_)
        return array.reshape(value.shape)
    if value.dtype == "bfloat16":
        halves: Numpy = np.frombuffer(value.data, "<u2").astype(np.uint16).view(ml_dtypes.bfloat16)
        return halves.reshape(value.shape)
    kind = np.dtype(value.dtype)
    return np.frombuffer(value.data, kind.newbyteorder("<")).astype(kind).reshape(value.shape)


def _named(expected: Named, found: Value, allowed: Allowed, name: str) -> Iterator[Compared]:
    if not isinstance(found, Named):
        yield _differs(name, f"expected the outputs {', '.join(expected.values)}, found {_kind(found)}")
        return
    for key, value in expected.values.items():
        where = f"{name}[{key!r}]"
        if key in found.values:
            yield from compare_outputs(value, found.values[key], allowed, where)
        else:
            yield _differs(where, f"it is not among the answers ({', '.join(found.values) or 'there are none'})")


def _arrays(expected: Numpy, found: Numpy, tolerance: Tolerance, name: str) -> Compared:
    if expected.shape != found.shape:
        said = f"expected the shape {list(expected.shape)}, found {list(found.shape)}"
        return Compared(name, tolerance=tolerance, problem=said, expected=[*expected.shape], found=[*found.shape])
    if _family(expected) != _family(found):
        return _differs(name, f"expected {_family(expected)}, found {_family(found)}")
    if _family(expected) != "numbers":
        return _exact(expected, found, name)
    wide = np.complex128 if "c" in (expected.dtype.kind, found.dtype.kind) else np.float64
    whole = expected.dtype.kind in "iu" and found.dtype.kind in "iu"
    before, after = expected.astype(wide), found.astype(wide)
    with np.errstate(all="ignore"):
        apart = np.abs(after - before)
        same = (before == after) | (np.isnan(before) & np.isnan(after))
        apart = np.where(same, 0.0, np.where(np.isnan(apart), np.inf, apart))
        size = np.abs(before)
        finite = size[np.isfinite(size)]
        floor = tolerance.absolute
        if floor is None:
            floor = tolerance.relative * float(np.sqrt(np.mean(finite**2))) if finite.size else 0.0
        limit = floor + tolerance.relative * np.where(np.isfinite(size), size, 0.0)
        wrong = expected != found if whole else apart > limit
        share = np.where(size > 0, apart / size, 0.0)
    most = float(apart.max()) if apart.size else 0.0
    relative = float(np.nan_to_num(share, nan=0.0, posinf=0.0).max()) if share.size else 0.0
    return _judged(expected, found, wrong, Compared(name, expected.size, most, relative, tolerance))


def _judged(expected: Numpy, found: Numpy, wrong: Numpy, seen: Compared) -> Compared:
    """The comparison with its problem, if any number is wrong: the one that is furthest off is named."""
    count = int(np.count_nonzero(wrong))
    if not count:
        return seen
    with np.errstate(all="ignore"):
        apart = np.abs(found.astype(np.complex128) - expected.astype(np.complex128))
    apart = np.where(wrong, np.where(np.isnan(apart), np.inf, apart), -1.0)
    at = np.unravel_index(int(np.argmax(apart)), expected.shape) if expected.shape else ()
    before, after = expected[at], found[at]
    where = f" at {[int(one) for one in at]}" if at else ""
    said = (
        f"{count:,} of {seen.count:,} numbers differ by more than is allowed, most{where}: expected {_said(before)}, "
        f"found {_said(after)} (difference {float(apart.max()):.3g})"
    )
    return Compared(
        seen.name, seen.count, seen.max_absolute, seen.max_relative, seen.tolerance, said, _said(before), _said(after)
    )


def _exact(expected: Numpy, found: Numpy, name: str) -> Compared:
    before, after = expected.reshape(-1).tolist(), found.reshape(-1).tolist()
    wrong = [at for at, (one, other) in enumerate(zip(before, after, strict=True)) if one != other]
    if not wrong:
        return Compared(name, len(before))
    at = wrong[0]
    place = [int(one) for one in np.unravel_index(at, expected.shape)] if expected.shape else []
    said = (
        f"{len(wrong):,} of {len(before):,} values differ, first{f' at {place}' if place else ''}: expected "
        f"{before[at]!r:.80}, found {after[at]!r:.80}"
    )
    return Compared(name, len(before), problem=said, expected=str(before[at]), found=str(after[at]))


def _as_array(value: Value) -> Numpy | None:
    if isinstance(value, Array):
        return as_numpy(value)
    if isinstance(value, Plain):
        try:
            array = np.asarray(value.value)
        except ValueError:  # rows of unequal length
            return None
        return array if array.dtype.kind in "biufU" or value.value is None else array.astype(object)
    if isinstance(value, Items) and not value.pair:
        members = [_as_array(one) for one in value.values]
        shapes = {None if one is None else one.shape for one in members}
        return (
            np.stack([one for one in members if one is not None]) if len(shapes) == 1 and None not in shapes else None
        )
    return None


def _precision(expected: Value, found: Value) -> str:
    """The coarser array type of the two; what a person wrote as plain numbers has none of its own."""
    names = [one.dtype for one in (expected, found) if isinstance(one, Array)]
    coarse = sorted((name for name in names if name in DEFAULTS), key=lambda name: -DEFAULTS[name].relative)
    if coarse:
        return coarse[0]
    return names[0] if names else "float64"


def _family(array: Numpy) -> str:
    kind = "f" if array.dtype == np.dtype(ml_dtypes.bfloat16) else array.dtype.kind
    if kind in "iufc":
        return "numbers"
    return {"b": "truth values", "U": "text", "O": "text", "M": "times", "m": "times"}.get(kind, str(array.dtype))


def _kind(value: Value) -> str:
    if isinstance(value, Array):
        return f"an array of {value.dtype}{list(value.shape)}"
    if isinstance(value, Named):
        return f"the outputs {', '.join(value.values)}" if value.values else "no outputs"
    if isinstance(value, Items):
        return f"{len(value.values)} values"
    return "a table" if isinstance(value, Table) else f"{value.value!r:.60}"


def _columns(table: Table) -> Named:
    return Named({str(column.name): column.values for column in table.columns})


def _said(value: Any) -> Json:
    """A number as a record keeps it; JSON has neither NaN nor complex numbers."""
    plain = value.item() if hasattr(value, "item") else value
    if isinstance(plain, (bool, int)):
        return plain
    return float(plain) if isinstance(plain, float) and np.isfinite(plain) else str(plain)


def _differs(name: str, problem: str) -> Compared:
    return Compared(name, problem=problem)
