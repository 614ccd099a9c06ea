"""Giving objects the state a pickle holds for them, after checking it.

``numpy.ndarray.__setstate__`` and its like trust what they are given: here the bytes are held against dtype and shape
first. Other objects get their state through the ``__setstate__`` of their class, or as plain attributes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from math import prod
from typing import Any, Protocol, cast

import numpy as np

from assay.errors import BadFormat
from assay.loaders.allowed_calls import refuse

MAX_DIMENSIONS = 64
_CHUNK = 1 << 26
# Bytes of an array that are read at a time, so that a lying size fails before it takes memory.


class PickleSource(Protocol):
    """The stream that is unpickled."""

    def read(self, size: int, /) -> bytes:
        """Up to *size* bytes; fewer only at the end."""
        ...

    def readline(self) -> bytes:
        """Bytes up to the next line feed, included."""
        ...

    def tell(self) -> int:
        """Bytes read so far."""
        ...


class ArrayPlace:
    """Where joblib's ``NumpyArrayWrapper`` stood: describes the array whose bytes follow in the stream."""

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = ()
        self.dtype: np.dtype[Any] = np.dtype("V")
        self.fortran = False
        self.padded = False

    def describe(self, state: object) -> None:
        """Take the wrapper's attributes.

        Raises:
            Refused: they are not those of an array.
        """
        if not isinstance(state, dict):
            refuse("the pickle describes an array without a dictionary")
        shape, dtype = state.get("shape"), state.get("dtype")
        if not isinstance(dtype, np.dtype) or not _is_shape(shape):
            refuse("the pickle describes an array of an impossible shape or dtype")
        if state.get("subclass") not in (np.ndarray, np.memmap, np.matrix):
            refuse("the pickle describes an array of an unknown class")
        self.shape, self.dtype = cast("tuple[int, ...]", shape), dtype
        self.fortran = state.get("order") == "F"
        # joblib 1.2 and later align arrays; the attribute is absent or None where they do not.
        self.padded = state.get("numpy_array_alignment_bytes") is not None

    def read(self, source: PickleSource, nested: Callable[[PickleSource], object]) -> np.ndarray[Any, Any]:
        """The array that follows, through *nested* when it holds objects.

        Raises:
            BadFormat: the stream ends before the array does.
        """
        if self.dtype.hasobject:
            value = nested(source)
            if type(value) is not np.ndarray:
                refuse("the pickle puts something else in the place of an array")
            return value
        if self.padded:
            _exactly(source, _exactly(source, 1)[0])
        size = prod(self.shape) * self.dtype.itemsize
        data = bytearray()
        while len(data) < size:
            data += _exactly(source, min(_CHUNK, size - len(data)))
        array = np.frombuffer(data, self.dtype) if size else np.empty(prod(self.shape), self.dtype)
        shaped = array.reshape(self.shape[::-1]).transpose() if self.fortran else array.reshape(self.shape)
        return shaped if shaped.dtype.isnative else shaped.astype(shaped.dtype.newbyteorder("="))


def set_state(target: object, state: object, *, named: set[int], known: bool) -> None:
    """Give an object its state.

    Args:
        target: what the stream made.
        state: what it holds for it.
        named: ids of the functions the stream named: they may be values, but never stand where a method is.
        known: whether the class of *target* is in the table.

    Raises:
        Refused: state of this kind is never given to such an object.
    """
    if type(target) is np.ndarray:
        target.__setstate__(cast("Any", _array_state(state)))
    elif isinstance(target, np.dtype):
        target.__setstate__(_dtype_state(target, state))  # type: ignore[attr-defined] # as above
    elif type(target) is np.ma.MaskedArray:
        _set_masked(target, state)
    elif isinstance(target, (np.random.RandomState, np.random.BitGenerator, np.random.Generator)):
        _set_random(target, state)
    elif isinstance(target, np.random.SeedSequence):
        cast("Any", target).__setstate_cython__(state)  # typed assignments of a compiled class
    elif type(target) is functools.partial:
        _set_partial(target, state, named)
    elif known:
        _set_instance(target, state, named)
    else:
        refuse(f"the pickle sets the state of a {type(target).__qualname__}")


def _array_state(state: object) -> tuple[object, ...]:
    if not isinstance(state, tuple) or len(state) != 5:
        refuse("the pickle gives an array a state that is not one")
    version, shape, dtype, fortran, data = state
    if version != 1 or not _is_shape(shape) or not isinstance(dtype, np.dtype) or not isinstance(fortran, (bool, int)):
        refuse("the pickle gives an array an impossible shape or dtype")
    if dtype.hasobject:
        fits = dtype == np.dtype(object) and type(data) is list and len(data) == prod(shape)
    else:
        data = data.encode("latin1") if isinstance(data, str) else data  # how Python 2 wrote bytes
        fits = isinstance(data, (bytes, bytearray)) and len(data) == prod(shape) * dtype.itemsize
    if not fits:
        refuse("the pickle gives an array bytes that do not fill its shape")
    return version, shape, dtype, bool(fortran), bytes(data) if isinstance(data, bytearray) else data


def _set_masked(target: Any, state: object) -> None:
    if not isinstance(state, tuple) or len(state) != 7:
        refuse("the pickle gives a masked array a state that is not one")
    version, shape, dtype, fortran, data, mask, fill = state
    _array_state((version, shape, dtype, fortran, data))
    if dtype.names or not isinstance(mask, bytes) or len(mask) != prod(shape):
        refuse("the pickle gives a masked array a mask that does not fill its shape")
    target.__setstate__((version, shape, dtype, bool(fortran), data, mask, fill))


def _dtype_state(target: np.dtype[Any], state: object) -> tuple[object, ...]:
    if not isinstance(state, tuple) or len(state) not in (8, 9):
        refuse("the pickle gives a dtype a state that is not one")
    order, subarray, names, fields = state[1:5]
    sizes = state[5:8]
    if state[0] not in (3, 4) or order not in ("<", ">", "|", "=") or not all(type(size) is int for size in sizes):
        refuse("the pickle gives a dtype an unknown byte order or version")
    if names is None and fields is None and subarray is None:
        return state[:8] if len(state) == 8 or state[8] is None else _dated(state)
    if subarray is not None or target.kind != "V" or not isinstance(names, tuple) or not isinstance(fields, dict):
        refuse("the pickle gives a dtype fields that it cannot have")
    if set(names) != set(fields) or not all(type(name) is str for name in names) or sizes[0] != target.itemsize:
        refuse("the pickle gives a dtype fields that it cannot have")
    for field in fields.values():
        if not isinstance(field, tuple) or len(field) != 2 or not isinstance(field[0], np.dtype):
            refuse("the pickle gives a dtype a field that is none")
        inner, offset = field
        if inner.hasobject or type(offset) is not int or not 0 <= offset <= target.itemsize - inner.itemsize:
            refuse("the pickle gives a dtype a field that lies outside it")
    return state[:8]


def _dated(state: tuple[Any, ...]) -> tuple[object, ...]:
    """The state of a date dtype, which ends in ``({}, (unit, number, 1, 1))``."""
    extra = state[8]
    unit = extra[1] if isinstance(extra, tuple) and len(extra) == 2 else None
    if not isinstance(unit, tuple) or len(unit) != 4 or not all(isinstance(part, (bytes, str, int)) for part in unit):
        refuse("the pickle gives a dtype an unknown unit of time")
    return state


def _set_random(target: Any, state: object) -> None:
    # A bit generator's own setter checks the names and sizes in its state; the seed sequence only serves spawning.
    if isinstance(target, np.random.Generator):
        if state is not None:
            target.bit_generator.state = cast("Any", state)
        return
    if isinstance(state, tuple):
        inner, sequence = state if len(state) == 2 else (None, None)
        if not isinstance(inner, dict) or not isinstance(sequence, (np.random.SeedSequence, type(None))):
            refuse("the pickle gives a random generator an unknown state")
    elif not isinstance(state, dict):
        refuse("the pickle gives a random generator an unknown state")
    target.__setstate__(state)


def _set_partial(target: functools.partial[Any], state: object, named: set[int]) -> None:
    if not isinstance(state, tuple) or len(state) != 4 or state[0] is not target.func:
        refuse("the pickle gives a partial another function")
    _, arguments, keywords, attributes = state
    if type(arguments) is not tuple or type(keywords) is not dict or attributes not in (None, {}):
        refuse("the pickle gives a partial a state that is not one")
    if any(id(value) in named or isinstance(value, functools.partial) for value in (*arguments, *keywords.values())):
        refuse("the pickle gives a partial a function as argument")
    cast("Any", target).__setstate__((target.func, arguments, keywords, None))


def _set_instance(target: object, state: object, named: set[int]) -> None:
    cls = type(target)
    for attributes in state if isinstance(state, tuple) and not hasattr(cls, "__setstate__") else (state,):
        if isinstance(attributes, Mapping):
            _check_attributes(cls, attributes, named)
    if _is_booster(cls):
        _check_booster(state)
    setstate = getattr(cls, "__setstate__", None)
    if setstate is not None:
        setstate(target, state)
        return
    plain, slots = state if isinstance(state, tuple) and len(state) == 2 else (state, None)
    if plain is not None:
        if not isinstance(plain, dict):
            refuse(f"the pickle gives a {cls.__qualname__} a state that is not a dictionary")
        vars(target).update(plain)
    for key, value in (slots or {}).items():
        if type(getattr(cls, key, None)).__name__ != "member_descriptor":
            refuse(f"the pickle sets {key!r:.60} of a {cls.__qualname__}")
        setattr(target, key, value)


def _check_attributes(cls: type, attributes: Mapping[object, object], named: set[int]) -> None:
    for key, value in attributes.items():
        if type(key) is not str or (key.startswith("__") and key.endswith("__")):
            refuse(f"the pickle gives a {cls.__qualname__} the attribute {key!r:.60}")
        if id(value) in named and callable(getattr(cls, key, None)):
            refuse(f"the pickle puts a function in the place of {cls.__qualname__}.{key:.60}")


def _is_booster(cls: type) -> bool:
    return cls.__name__ == "Booster" and cls.__module__.partition(".")[0] in ("xgboost", "lightgbm")


def _check_booster(state: object) -> None:
    """Boosters hand their state to compiled code, as bytes (XGBoost) or text (LightGBM)."""
    if not isinstance(state, dict):
        refuse("the pickle gives a booster a state that is not a dictionary")
    for key in ("handle", "_handle"):
        if not isinstance(state.get(key), (bytes, bytearray, str, type(None))):
            refuse("the pickle gives a booster a handle that is not a saved model")


def _is_shape(shape: object) -> bool:
    return (
        isinstance(shape, tuple)
        and len(shape) <= MAX_DIMENSIONS
        and all(type(size) is int and size >= 0 for size in shape)
    )


def _exactly(source: PickleSource, size: int) -> bytes:
    data = source.read(size)
    if len(data) != size:
        raise BadFormat(f"the stream ends inside an array: expected {size:,} bytes, found {len(data):,}")
    return data
