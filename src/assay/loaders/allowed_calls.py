"""Stand-ins for functions that pickles call to rebuild values: each checks its arguments, then does what is asked.

A pickle never gets hold of the originals, so what a stand-in does not do cannot be done: no file is opened, nothing is
imported, and no memory is taken that the stream does not fill.

Rule for editors: a stand-in refuses what it does not know (``refuse``); it never passes arguments on unchecked.
"""

from __future__ import annotations

import array
import collections
import datetime as dt
import decimal
import fractions
import re
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn, cast

import numpy as np

from assay.errors import Refused

MAX_PATTERN = 10_000
"""Characters of a regular expression that are compiled."""
MAX_KEY_DEPTH = 16
"""Nesting of tuples used as keys or members of sets: hashing them recurses in compiled code."""
MAX_NUMBER_TEXT = 1000
"""Characters of a decimal number or fraction given as text, and bytes of an integer a fraction is made of."""

_DTYPE = re.compile(r"[|<>=]?(?:[?bBhHiIlLqQefdgFDGO]|[biufcO]\d{1,3}|[SUVa]\d{0,9}|[mM]8?(?:\[\w+\])?)")
_FRACTION = re.compile(r"[+-]?\d+(?:/\d+)?")
_ENCODINGS = frozenset({"latin1", "latin-1", "utf-8", "utf8", "ascii"})
_BIT_GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")
_FACTORIES = (dict, float, int, list, set, str, tuple, collections.OrderedDict)


def refuse(message: str) -> NoReturn:
    """Stop: the stream asks for something that is never allowed.

    Raises:
        Refused: always (code ``unsafe-pickle``).
    """
    raise Refused(message, code="unsafe-pickle")


def encode(text: object, encoding: object = "utf-8") -> bytes:
    """``_codecs.encode``: how protocols 0 to 2 write bytes."""
    if not isinstance(text, str) or encoding not in _ENCODINGS:
        refuse(f"pickle calls _codecs.encode with codec {encoding!r:.60}")
    return text.encode(str(encoding))


def checked_key(key: object) -> object:
    """*key*, when hashing it cannot recurse deeply: a deeper one would end the process.

    Raises:
        Refused: tuples are nested in it more than ``MAX_KEY_DEPTH`` deep.
    """
    if type(key) in (str, int, float, bytes, bool, type(None)):
        return key
    level: list[object] = [key]
    for _ in range(MAX_KEY_DEPTH):
        level = [part for item in level if isinstance(item, (tuple, frozenset)) for part in item]
        if not level:
            return key
        if len(level) > 10_000:
            break
    return refuse("the pickle uses a deeply nested tuple as a key")


def _pairs(values: Iterable[object]) -> Iterator[tuple[object, object]]:
    for pair in values:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            refuse("pickle builds a dictionary from something else than pairs")
        yield checked_key(pair[0]), pair[1]


def _collection(kind: type) -> Callable[..., object]:
    def build(values: object = ()) -> object:
        if type(values) not in (list, tuple, set, frozenset, dict):
            refuse(f"pickle builds a {kind.__name__} from a {type(values).__name__}")
        given = cast("Iterable[object]", values)
        if kind is dict and type(values) is not dict:
            return dict(_pairs(given))
        return kind(map(checked_key, given)) if kind in (set, frozenset) else kind(values)

    return build


def bytearray_(data: object = b"", encoding: object = None) -> bytearray:
    """``bytearray``, from bytes or text only: a number would be a length."""
    if isinstance(data, bytes) and encoding is None:
        return bytearray(data)
    return bytearray(encode(data, encoding))


def bytes_(data: object = b"", encoding: object = None) -> bytes:
    """``bytes``, from bytes or text only (Python 2 streams call it without arguments)."""
    if isinstance(data, bytes) and encoding is None:
        return data
    return encode(data, encoding)


def _numbers(kind: Callable[..., object]) -> Callable[..., object]:
    def build(*values: object) -> object:
        if not all(value is None or isinstance(value, (int, float)) for value in values):
            refuse("pickle builds a number or a range from something else than numbers")
        return kind(*values)

    return build


def counter(values: object = ()) -> collections.Counter[Any]:
    """``Counter``, from the dictionary it was."""
    if not isinstance(values, (dict, tuple)):
        refuse(f"pickle builds a Counter from a {type(values).__name__}")
    return collections.Counter(values if isinstance(values, dict) else map(checked_key, values))


def ordered_dict(pairs: object = ()) -> collections.OrderedDict[Any, Any]:
    """``OrderedDict``, empty or from pairs."""
    if not isinstance(pairs, (list, tuple)):
        refuse(f"pickle builds an OrderedDict from a {type(pairs).__name__}")
    return collections.OrderedDict(_pairs(pairs))


def default_dict(factory: object = None) -> collections.defaultdict[Any, Any]:
    """``defaultdict`` with a factory that makes an empty built-in value."""
    if factory is not None and not any(factory is known for known in _FACTORIES):
        refuse("pickle builds a defaultdict with a factory that is not a plain type")
    return collections.defaultdict(cast("Any", factory))


def flat_item(value: object) -> object:
    """*value*, when a deque or a defaultdict may hold it.

    Chains of these (and of arrays of objects) are freed by recursion in compiled code: a long one ends the process.

    Raises:
        Refused: it is such a container itself, or an array that may become one.
    """
    if isinstance(value, (collections.deque, collections.defaultdict)):
        refuse(f"the pickle nests a {type(value).__name__} in another one")
    if isinstance(value, np.ndarray) and (value.dtype.hasobject or value.size == 0):
        refuse("the pickle puts an array of objects into a deque or defaultdict")
    return value


def deque(values: object = (), maxlen: object = None) -> collections.deque[Any]:
    """``deque``."""
    if not isinstance(values, (list, tuple)) or not (maxlen is None or isinstance(maxlen, int)):
        refuse("pickle builds a deque from something else than a list")
    return collections.deque(map(flat_item, values), maxlen)


def array_(kind: object, typecode: object, form: object, data: object) -> array.array[Any]:
    """``array._array_reconstructor``: machine-format arrays from their bytes."""
    rebuild = array._array_reconstructor  # type: ignore[attr-defined] # noqa: SLF001 - what pickled arrays call
    if kind is not array.array or not isinstance(typecode, str) or len(typecode) != 1 or not isinstance(data, bytes):
        refuse("pickle builds an array from unexpected arguments")
    if not isinstance(form, int):
        refuse("pickle builds an array of an unknown machine format")
    return rebuild(array.array, typecode, form, data)  # type: ignore[no-any-return]


def array_of(typecode: object, values: object = ()) -> array.array[Any]:
    """``array.array`` from a list of numbers (protocols 0 to 2)."""
    if typecode not in tuple("bBhHiIlLqQfdu") or not isinstance(values, (list, str, tuple)):
        refuse("pickle builds an array from unexpected arguments")
    return array.array(cast("Any", typecode), cast("Any", values))


def namespace() -> types.SimpleNamespace:
    """``SimpleNamespace``, empty: it is about to get its state."""
    return types.SimpleNamespace()


def pattern(text: object, flags: object = 0) -> re.Pattern[Any]:
    """``re._compile``: a regular expression of bounded length."""
    if not isinstance(text, (str, bytes)) or not isinstance(flags, int) or len(text) > MAX_PATTERN:
        refuse("pickle compiles a regular expression that is too long or no text")
    return re.compile(text, flags & ~int(re.DEBUG))


def _plain(kind: Callable[..., object]) -> Callable[..., object]:
    """A constructor that gets nothing but plain values (and time zones)."""

    def build(*values: object) -> object:
        if not all(isinstance(value, (int, float, str, bytes, dt.tzinfo, dt.timedelta)) for value in values):
            refuse(f"pickle builds a {getattr(kind, '__name__', 'value')} from unexpected arguments")
        if any(isinstance(value, (str, bytes)) and len(value) > MAX_NUMBER_TEXT for value in values):
            refuse(f"pickle builds a {getattr(kind, '__name__', 'value')} from a long text")
        return kind(*values)

    return build


def fraction(*parts: object) -> fractions.Fraction:
    """``Fraction``, from what it was or from the text it pickles as; a power of ten is computed, so none is allowed."""
    for part in parts:
        number = isinstance(part, int) and part.bit_length() <= 8 * MAX_NUMBER_TEXT
        text = isinstance(part, str) and len(part) <= MAX_NUMBER_TEXT and _FRACTION.fullmatch(part) is not None
        if not number and not text:
            refuse("pickle builds a fraction from something else than two numbers or their text")
    return fractions.Fraction(*cast("Any", parts))


def dtype(text: object, align: object = False, copy: object = False) -> np.dtype[Any]:  # noqa: ARG001, FBT002 - numpy's order
    """``numpy.dtype`` from its short name; always a fresh object, so that setting its state changes no shared one."""
    if isinstance(text, type) and issubclass(text, np.generic):
        return np.dtype(np.dtype(text), copy=True)
    if not isinstance(text, str) or not _DTYPE.fullmatch(text):
        refuse(f"pickle builds a numpy dtype from {text!r:.60}")
    return np.dtype(text, copy=True)


def empty_array(kind: object, shape: object, code: object) -> np.ndarray[Any, Any]:
    """``numpy._core.multiarray._reconstruct``: an empty array that is about to get its state."""
    if kind is not np.ndarray or shape != (0,) or code not in (b"b", "b"):
        refuse("pickle builds an array of an unknown class")
    return np.ndarray((0,), "b")


def empty_masked_array(kind: object, base: object, shape: object, code: object) -> object:
    """``numpy.ma.core._mareconstruct``: the same for a masked array."""
    if kind is not np.ma.MaskedArray or base is not np.ndarray or shape != (0,) or code not in (b"b", "b"):
        refuse("pickle builds a masked array of an unknown class")
    return np.ma.MaskedArray.__new__(np.ma.MaskedArray, np.ndarray((0,), "b"), mask=np.ndarray((0,), "?"), dtype="b")


def scalar(kind: object, data: object = b"") -> object:
    """``numpy._core.multiarray.scalar``: one number from its bytes."""
    if not isinstance(kind, np.dtype) or kind.hasobject or not isinstance(data, bytes) or len(data) != kind.itemsize:
        refuse("pickle builds a numpy scalar whose bytes do not fit its dtype")
    return np.frombuffer(data, kind)[0] if kind.itemsize else np.zeros((), kind)[()]


def array_from_buffer(data: object, kind: object, shape: object, order: object, axes: object = None) -> object:
    """``numpy._core.numeric._frombuffer``: an array over bytes in the stream (protocol 5)."""
    sizes = shape if isinstance(shape, tuple) else (shape,)
    if not isinstance(data, (bytes, bytearray)) or not isinstance(kind, np.dtype) or kind.hasobject or axes is not None:
        refuse("pickle builds an array over something that is not its bytes")
    if order not in ("C", "F", "K") or not all(isinstance(size, int) and size >= 0 for size in sizes):
        refuse("pickle builds an array of an impossible shape")
    return np.frombuffer(data, kind).reshape(sizes, order="F" if order == "F" else "C")


def bit_generator(kind: object = "MT19937") -> object:
    """``numpy.random._pickle.__bit_generator_ctor``: a new bit generator, by name or class."""
    for name in _BIT_GENERATORS:
        cls = getattr(np.random, name, None)
        if cls is not None and (kind == name or kind is cls):
            return cls(0)
    return refuse(f"pickle builds an unknown bit generator {kind!r:.60}")


def random_state(source: object = "MT19937", _: object = None) -> np.random.RandomState:
    """``numpy.random._pickle.__randomstate_ctor``."""
    return np.random.RandomState(_source(source))


def generator(source: object = "MT19937", _: object = None) -> np.random.Generator:
    """``numpy.random._pickle.__generator_ctor``."""
    return np.random.Generator(_source(source))


def _source(source: object) -> Any:
    if isinstance(source, np.random.BitGenerator):
        return source
    return bit_generator(source)


def seed_sequence(kind: object, checksum: object, state: object = None) -> object:
    """``numpy.random.bit_generator.__pyx_unpickle_SeedSequence``: an empty one that is about to get its state."""
    if kind is not np.random.SeedSequence or not isinstance(checksum, int) or state is not None:
        refuse("pickle builds a seed sequence from unexpected arguments")
    return np.random.SeedSequence.__new__(np.random.SeedSequence)


FUNCTIONS: dict[tuple[str, str], Callable[..., object]] = {
    ("_codecs", "encode"): encode,
    ("array", "_array_reconstructor"): array_,
    ("numpy._core.multiarray", "_reconstruct"): empty_array,
    ("numpy._core.multiarray", "scalar"): scalar,
    ("numpy._core.numeric", "_frombuffer"): array_from_buffer,
    ("numpy.ma.core", "_mareconstruct"): empty_masked_array,
    ("numpy.random._pickle", "__bit_generator_ctor"): bit_generator,
    ("numpy.random._pickle", "__generator_ctor"): generator,
    ("numpy.random._pickle", "__randomstate_ctor"): random_state,
    ("numpy.random.bit_generator", "__pyx_unpickle_SeedSequence"): seed_sequence,
    ("re", "_compile"): pattern,
}
"""What a pickle gets when it names one of these functions."""

_BUILDERS: dict[type, Callable[..., object]] = {
    bytearray: bytearray_,
    bytes: bytes_,
    collections.Counter: counter,
    collections.OrderedDict: ordered_dict,
    collections.defaultdict: default_dict,
    collections.deque: deque,
    array.array: array_of,
    np.dtype: dtype,
    types.SimpleNamespace: namespace,
}
_BUILDERS.update((kind, _collection(kind)) for kind in (dict, frozenset, list, set, tuple))
_BUILDERS.update((kind, _numbers(kind)) for kind in (bool, complex, float, range, slice))
_BUILDERS.update(
    (kind, _plain(kind))
    for kind in (
        dt.date,
        dt.datetime,
        dt.time,
        dt.timedelta,
        dt.timezone,
        decimal.Decimal,
    )
)
_BUILDERS[fractions.Fraction] = fraction
CLASSES: dict[tuple[str, str], tuple[type, Callable[..., object]]] = {
    (kind.__module__, kind.__qualname__): (kind, build) for kind, build in _BUILDERS.items()
}
"""Classes that may be kept as they are and are called through a stand-in only."""
