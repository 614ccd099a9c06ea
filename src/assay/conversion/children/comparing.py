"""Comparing two live objects: value for value, and by what they answer."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import BuiltinFunctionType, FunctionType
from typing import Any

import numpy as np

from assay.errors import IntegrityError, InvalidInput

MAX_DEPTH = 200
_ADDRESSES = frozenset({"_stop_words_id"})
# Attributes in which scikit-learn keeps the memory address of another one.


@dataclass(slots=True)
class Compared:
    """What a comparison came to.

    Args:
        arrays: arrays that were compared bit for bit.
        outputs: numbers of outputs that were compared.
        max_difference: the largest difference of any.
        tolerance: how large it may be.
        methods: what was compared: ``state``, ``outputs``, ``tensors``.
        dropped: what the result does not hold: place and words.
        notes: what else is worth knowing.
        tools: library to version.
        unsuited: inputs that the original does not take.
    """

    arrays: int = 0
    outputs: int = 0
    max_difference: float = 0.0
    tolerance: float = 0.0
    methods: list[str] = field(default_factory=list)
    dropped: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    tools: dict[str, str] = field(default_factory=dict)
    unsuited: list[str] = field(default_factory=list)

    def answers(self, first: Any, second: Any, what: str) -> None:
        """Compare two answers to the same question.

        Raises:
            IntegrityError: they differ by more than the tolerance (code ``not-equal``).
        """
        one, two = _dense(first), _dense(second)
        if one.shape != two.shape or one.dtype.kind != two.dtype.kind:
            raise unequal(f"{what} gives {two.dtype}{list(two.shape)}, the original {one.dtype}{list(one.shape)}")
        self.outputs += one.size
        if one.dtype.kind in "fc" and one.size:
            same = (one == two) | (np.isnan(one) & np.isnan(two))
            with np.errstate(invalid="ignore"):
                apart = np.where(same, 0.0, np.abs(one.astype(np.float64) - two.astype(np.float64)))
            scale = np.maximum(1.0, np.abs(np.where(np.isfinite(one), one, 1.0)))
            difference = float(np.max(apart / scale))
            if not difference <= self.tolerance:
                raise unequal(f"{what} differs by {difference:.3g}, at most {self.tolerance:.3g} is allowed")
            self.max_difference = max(self.max_difference, difference)
        elif not np.array_equal(one, two):
            raise unequal(f"{what} gives other answers than the original")


def same_state(first: Any, second: Any) -> int:
    """Compare two object graphs value for value; the number of arrays in them.

    Raises:
        IntegrityError: they differ; the message says where (code ``not-equal``).
        InvalidInput: an object cannot be looked into (code ``not-convertible``).
    """
    walk = _Walk()
    walk.same(first, second, "the object", 0)
    return walk.arrays


class _Walk:
    """One comparison."""

    def __init__(self) -> None:
        self.arrays = 0
        self._done: dict[tuple[int, int], tuple[Any, Any]] = {}
        # Pairs that were compared; both objects are held, so that no other object gets their addresses.

    def same(self, first: Any, second: Any, where: str, depth: int) -> None:
        if first is second:
            return
        if type(first) is not type(second):
            raise unequal(f"{where} is a {type(second).__name__}, it was a {type(first).__name__}")
        if isinstance(first, (float, np.floating, complex)):
            if not _same_number(first, second):
                raise unequal(f"{where} is {second!r:.60}, it was {first!r:.60}")
            return
        if isinstance(first, (bool, int, str, bytes, np.generic, np.dtype)):
            if first != second:
                raise unequal(f"{where} is {second!r:.60}, it was {first!r:.60}")
            return
        if (id(first), id(second)) in self._done:
            return
        if depth > MAX_DEPTH:
            raise InvalidInput(f"{where} nests too deeply to be compared", code="not-convertible")
        self._done[id(first), id(second)] = (first, second)
        self._compound(first, second, where, depth + 1)

    def _compound(self, first: Any, second: Any, where: str, depth: int) -> None:
        if isinstance(first, np.ndarray):
            self._array(first, second, where, depth)
        elif isinstance(first, Mapping):
            if list(first) != list(second) and set(first) != set(second):
                raise unequal(f"{where} has other keys")
            for key in first:
                self.same(first[key], second[key], f"{where}[{key!r:.60}]", depth)
        elif isinstance(first, (list, tuple)):
            if len(first) != len(second):
                raise unequal(f"{where} has {len(second)} items, it had {len(first)}")
            for index, (one, two) in enumerate(zip(first, second, strict=True)):
                self.same(one, two, f"{where}[{index}]", depth)
        elif isinstance(first, (set, frozenset)):
            if first != second:
                raise unequal(f"{where} has other members")
        else:
            self._object(first, second, where, depth)

    def _array(self, first: Any, second: Any, where: str, depth: int) -> None:
        self.arrays += 1
        if first.dtype != second.dtype or first.shape != second.shape:
            raise unequal(f"{where} is {second.dtype}{list(second.shape)}, it was {first.dtype}{list(first.shape)}")
        if first.dtype.hasobject:
            self.same(list(first.ravel()), list(second.ravel()), where, depth)
        elif any(first[name].tobytes() != second[name].tobytes() for name in first.dtype.names or ()) or (
            first.dtype.names is None and first.tobytes() != second.tobytes()
        ):  # of records only the fields: what lies between them says nothing
            raise unequal(f"{where} does not have the bits of the original")

    def _object(self, first: Any, second: Any, where: str, depth: int) -> None:
        if isinstance(first, (type, FunctionType, BuiltinFunctionType, np.ufunc)):  # equal only if it is the same one
            raise unequal(f"{where} is another function or class")
        states = [_state(one) for one in (first, second)]
        if states[0] is None or states[1] is None:
            raise InvalidInput(f"{where} is a {type(first).__name__}, which cannot be compared", code="not-convertible")
        self.same(states[0], states[1], where, depth)


def _state(value: Any) -> Any:
    """Everything that makes an object what it is, as plain values; None when nobody can tell."""
    if isinstance(value, np.random.RandomState):
        return value.get_state(legacy=False)
    if isinstance(value, np.random.Generator):
        return value.bit_generator.state
    attributes = getattr(value, "__dict__", None)
    cls: Any = type(value)
    plain = cls.__reduce__ is object.__reduce__ and cls.__reduce_ex__ is object.__reduce_ex__
    if isinstance(attributes, dict) and plain and cls.__getstate__ is object.__getstate__:
        return _without_addresses(attributes)
    try:
        reduced = value.__reduce_ex__(4)
    except Exception:  # noqa: BLE001 - an object that cannot be pickled cannot be compared this way
        return None
    return [_without_addresses(part) for part in reduced[1:3]] if isinstance(reduced, tuple) else None


def _without_addresses(state: Any) -> Any:
    return {key: item for key, item in state.items() if key not in _ADDRESSES} if isinstance(state, dict) else state


def _same_number(first: Any, second: Any) -> bool:
    if isinstance(first, complex):
        return struct.pack("<2d", first.real, first.imag) == struct.pack("<2d", second.real, second.imag)
    if math.isnan(first) and math.isnan(second):
        return True
    return bool(first == second) and math.copysign(1, first) == math.copysign(1, second)


def _dense(value: Any) -> np.ndarray:
    if hasattr(value, "toarray"):
        value = value.toarray()
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], np.ndarray):
        value = np.concatenate([np.asarray(part).reshape(-1) for part in value])
    return np.asarray(value)


def unequal(message: str) -> IntegrityError:
    """The error of a result that is not the same model."""
    return IntegrityError(message[:600], code="not-equal", hint="nothing was written; the source is as it was")
