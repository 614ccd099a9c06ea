"""What helpers may be called with: one rule each, which approves arguments or says what is wrong with them.

Rule for editors: a rule names what it approves; whatever it does not know is refused. Every other call among the
arguments is judged for itself, so a rule may take the result of a call for what its function makes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from math import prod
from typing import Any

from assay.audit.globals import Role, entry
from assay.containers.npy import dtype_from_numpy
from assay.containers.pickle.values import Blob, Call, Global, Opaque, Persistent, plain
from assay.errors import BadFormat

MAX_EMPTY = 1 << 20
"""Elements of an array that is made before its bytes are known."""
MAX_TEXT = 10_000
"""Characters of a text that something is compiled or computed from."""

_ATOMS = (str, bytes, int, float, type(None), Blob)
_DTYPE = re.compile(r"[|<>=]?(?:[?bBhHiIlLqQpPefdgFDGO]|[biufcO]\d{1,3}|[SUVaT]\d{0,9}|[mM]8?(?:\[\w+\])?)")
_FRACTION = re.compile(r"[+-]?\d+(?:/\d+)?")
_CODECS = frozenset({"latin1", "latin-1", "utf-8", "utf8", "ascii"})
_ARRAYS = frozenset({"numpy.ndarray", "numpy.matrix", "numpy.memmap", "numpy.recarray", "numpy.rec.recarray"})
_MASKED = frozenset({"numpy.ma.core.MaskedArray", "numpy.ma.MaskedArray"})
_FACTORIES = frozenset({"builtins.dict", "builtins.float", "builtins.int", "builtins.list", "builtins.set"}) | {
    "builtins.str", "builtins.tuple", "builtins.bool", "collections.OrderedDict", "builtins.object"
}  # fmt: skip
_OBJECTS = 3  # NPY_ITEM_REFCOUNT and NPY_LIST_PICKLE: what a dtype that holds objects must say of itself
_MAX_DIMENSIONS = 64

Rule = Callable[[Call], str | None]


def objection(call: Call, rule: str) -> str | None:
    """What is wrong with the arguments of *call*, or None."""
    return next(filter(None, map(_endless, call.args)), None) or _RULES[rule](call)


def _endless(value: object) -> str | None:
    """Why going through *value*, which a few bytes stand for, takes all memory; None when it does not."""
    if type(value) is not Call or type(value.function) is not Global:
        return None
    name, numbers = str(value.function), [part for part in value.args if isinstance(part, int)]
    if name == "builtins.range" and any(abs(number) > MAX_EMPTY for number in numbers):
        return f"a length of {max(map(abs, numbers)):,} that the stream does not hold"
    return "a length of a whole network" if name in ("ipaddress.IPv4Network", "ipaddress.IPv6Network") else None


def role_of(value: object) -> Role | None:
    """Role of a global of the tables; None for everything else."""
    row = entry(value.module, value.name) if type(value) is Global else None
    return row.role if row else None


def is_class(value: object) -> bool:
    """Whether *value* is a global that may be kept: a class that is made, called or named."""
    return role_of(value) in (Role.CONSTRUCT, Role.CALL, Role.VALUE, Role.HELPER)


def dtype_objection(call: Call) -> str | None:
    """What is wrong with the state of a ``numpy.dtype``.

    The state decides how the bytes of an array are taken: objects that are not said to be objects would be made of raw
    bytes, fields outside the element would reach beyond the array.
    """
    state = call.state
    if not isinstance(state, tuple) or not 4 <= len(state) <= 9:
        return "a numpy dtype gets a state that is not one"
    flags = state[7] if len(state) > 7 else None
    code = call.args[0] if call.args else None
    if (
        isinstance(code, str)
        and "O" in code
        and flags is not None
        and (type(flags) is not int or flags & 3 != _OBJECTS)
    ):
        return "a numpy dtype of objects denies that it holds objects"
    fields = state[4] if len(state) > 4 else None
    if fields is None:
        return None
    size = state[5] if len(state) > 5 else None
    if not isinstance(fields, dict) or type(size) is not int:
        return "a numpy dtype gets fields that are none"
    for field in fields.values():
        if not isinstance(field, tuple) or len(field) < 2 or type(field[1]) is not int:
            return "a numpy dtype gets a field that is none"
        inner, objects = _size_and_objects(field[0])
        if not 0 <= field[1] <= size - inner:
            return "a numpy dtype gets a field that lies outside of it"
        if objects and (type(flags) is not int or flags & 3 != _OBJECTS):
            return "a numpy dtype denies that one of its fields holds objects"
    return None


def _size_and_objects(dtype: object) -> tuple[int, bool]:
    if type(dtype) is not Call or not dtype.args or not isinstance(dtype.args[0], str):
        return 0, True
    state = dtype.state if isinstance(dtype.state, tuple) else ()
    flags = state[7] if len(state) > 7 and isinstance(state[7], int) else 0
    try:
        found = dtype_from_numpy(dtype.args[0])
    except BadFormat:
        return 0, bool(flags & 1)
    size = state[5] if found.name == "void" and len(state) > 5 and isinstance(state[5], int) else found.itemsize
    return size if size is not None and size >= 0 else 8, found.itemsize is None or bool(flags & 1)


def partial_objection(call: Call) -> str | None:
    """What is wrong with the state of a ``functools.partial``."""
    state = call.state
    fits = isinstance(state, tuple) and len(state) == 4 and bool(call.args) and state[0] is call.args[0]
    if not fits or not isinstance(state[1], tuple) or not isinstance(state[2], (dict, type(None))):
        return "a partial gets another function or a state that is not one"
    return None if state[3] is None or isinstance(state[3], dict) else "a partial gets attributes that are none"


def _is_plain(value: object, depth: int = 2) -> bool:
    if isinstance(value, (tuple, list)) and depth:
        return len(value) < 1000 and all(_is_plain(part, depth - 1) for part in value)
    return isinstance(value, (*_ATOMS, Call))


def _plain(call: Call) -> str | None:
    for value in call.args:
        if isinstance(value, str) and len(value) > MAX_TEXT:
            return "a very long text as argument"
        if not _is_plain(value):
            return f"a {type(value).__name__} as argument"
    return None


def _nothing(call: Call) -> str | None:
    return "arguments, where there are none" if call.args else None


def _bytes(call: Call) -> str | None:
    first = call.args[0] if call.args else b""
    if isinstance(first, int):
        return f"a length of {first:,} instead of bytes"
    if not isinstance(first, (str, bytes, Blob)) and not (isinstance(first, list) or type(first) is Call):
        return f"a {type(first).__name__} instead of bytes"
    return None if all(isinstance(codec, str) and codec in _CODECS for codec in call.args[1:]) else "an unknown codec"


def _codec(call: Call) -> str | None:
    text, codec = (*call.args, "utf-8")[:2] if call.args else (None, None)
    if isinstance(text, (str, Blob)) and isinstance(codec, str) and codec in _CODECS and len(call.args) <= 2:
        return None
    return f"codec {str(codec)[:40]!r}"


def _collection(call: Call) -> str | None:
    for value in call.args:
        if not isinstance(value, (list, tuple, set, frozenset, dict, int, type(None), str, bytes, Call)):
            return f"a {type(value).__name__} as argument"
    return None


def _default_dict(call: Call) -> str | None:
    if len(call.args) > 1 and not isinstance(call.args[1], (dict, list, tuple)):
        return "more than a factory"
    factory = call.args[0] if call.args else None
    known = type(factory) is Global and (str(factory) in _FACTORIES or role_of(factory) is Role.CALL)
    return None if factory is None or known else "a factory that is not a plain type"


def _array(call: Call) -> str | None:
    kinds = (Global, str, int)
    fits = len(call.args) == 4 and all(isinstance(one, kind) for one, kind in zip(call.args, kinds, strict=False))
    return None if fits and str(call.args[0]) == "array.array" else "unexpected arguments"


def _pattern(call: Call) -> str | None:
    text, flags = (*call.args, 0)[:2] if call.args else (None, 0)
    long = not isinstance(text, (str, bytes)) or len(text) > MAX_TEXT
    return "no pattern of ordinary length" if long or not isinstance(flags, (int, Call)) else None


def _fraction(call: Call) -> str | None:
    for part in call.args:
        text = isinstance(part, str) and len(part) <= MAX_TEXT and _FRACTION.fullmatch(part)
        if not text and not isinstance(part, int):
            return "neither numbers nor their text"
    return None


def _attributes(call: Call) -> str | None:
    names = [part for name in call.args for part in (name.split(".") if isinstance(name, str) else [""])]
    fits = all(name.isidentifier() and not name.startswith("_") for name in names)
    return None if fits else "attribute names that are not plain"


def _partial(call: Call) -> str | None:
    function = call.args[0] if call.args else None
    if role_of(function) not in (Role.VALUE, Role.CALL):
        return "something else than a function that is harmless"
    return None if all(map(_is_plain, call.args[1:])) else "unexpected arguments"


def _reconstructor(call: Call) -> str | None:
    cls, base, _ = call.args if len(call.args) == 3 else (None, None, None)
    bases = ("builtins.object", "builtins.dict", "builtins.list", "builtins.set", "builtins.tuple", "builtins.str")
    numbers = ("builtins.int", "builtins.float")
    if not _makes(cls) or str(base) not in (*bases, *numbers):
        return "a class that is not made empty"
    return None


def _newobj(call: Call) -> str | None:
    return None if call.args and _makes(call.args[0]) else "a class that is not made empty"


def is_distribution(value: object) -> bool:
    """Whether *value* names a distribution of scipy, whose state is judged for itself (``distributions``)."""
    row = entry(value.module, value.name) if type(value) is Global else None
    return row is not None and row.rule == "distribution"


def vectorize_objection(call: Call) -> str | None:
    """What is wrong with the state of a ``numpy.vectorize``: it wraps what a distribution keeps, and nothing else."""
    function = call.state.get("pyfunc") if isinstance(call.state, dict) else None
    if type(function) is Call and function.calls("builtins.getattr") and function.state is None:
        owner = function.args[0] if function.args else None
        if type(owner) is Call and is_distribution(owner.function):
            return None
    return "a function of the pickle's own is made to loop"


def _distribution(call: Call) -> str | None:  # noqa: ARG001 - whatever the arguments are
    return "arguments, while it may only be made empty"


def _makes(value: object) -> bool:
    harmless = role_of(value) in (Role.CONSTRUCT, Role.CALL) or is_distribution(value)
    return harmless or str(value) in ("collections.OrderedDict", "builtins.object", "builtins.set", "torch.Size")


def _compiled(call: Call) -> str | None:
    if len(call.args) in (2, 3) and is_class(call.args[0]) and isinstance(call.args[1], int):
        return None
    return "unexpected arguments"


def _dtype(call: Call) -> str | None:
    code = call.args[0] if call.args else None
    if isinstance(code, str) and _DTYPE.fullmatch(code):
        return None
    return None if type(code) is Global and is_class(code) else f"{str(code)[:40]!r}, which is no element type"


def _shape(value: object) -> tuple[int, ...] | None:
    sizes = value if isinstance(value, tuple) else (value,)
    fits = len(sizes) <= _MAX_DIMENSIONS and all(type(size) is int and size >= 0 for size in sizes)
    return sizes if fits else None


def _reconstruct(call: Call) -> str | None:
    kind, shape = call.args[:2] if len(call.args) == 3 else (None, None)
    sizes = _shape(shape)
    if str(kind) not in _ARRAYS | _MASKED or type(kind) is not Global or sizes is None:
        return "an array of an unknown class"
    return None if prod(sizes) <= MAX_EMPTY else f"an array of {prod(sizes):,} elements that the stream does not hold"


def _mareconstruct(call: Call) -> str | None:
    fits = len(call.args) == 4 and str(call.args[0]) in _MASKED and str(call.args[1]) in _ARRAYS
    sizes = _shape(call.args[2]) if fits else None
    return None if sizes is not None and prod(sizes) <= MAX_EMPTY else "a masked array of an unknown class"


def _scalar(call: Call) -> str | None:
    fits = len(call.args) == 2 and type(call.args[0]) is Call and call.args[0].calls("numpy.dtype")
    return None if fits and isinstance(call.args[1], (bytes, str, Blob, Call)) else "unexpected arguments"


def _frombuffer(call: Call) -> str | None:
    if not 4 <= len(call.args) <= 5 or _shape(call.args[2]) is None:
        return "unexpected arguments"
    fits = type(call.args[1]) is Call and call.args[1].calls("numpy.dtype")
    return None if fits and not isinstance(call.args[0], (Global, int, str)) else "unexpected arguments"


def _generator(call: Call) -> str | None:
    for value in call.args:
        fits = (
            isinstance(value, str)
            or type(value) is Call
            or (type(value) is Global and value.module.startswith("numpy.random."))
        )
        if not fits:
            return "an unknown source of random numbers"
    return None


def _ufunc(call: Call) -> str | None:
    module, name = call.args if len(call.args) == 2 else (None, None)
    known = isinstance(module, str) and isinstance(name, str) and role_of(Global(module, name)) is Role.VALUE
    return None if known else f"{module}.{name}"[:80] + ", which is no known function"


def _tree(call: Call) -> str | None:
    fits = len(call.args) == 3 and isinstance(call.args[0], int) and isinstance(call.args[2], int)
    return None if fits and isinstance(call.args[1], Call) else "unexpected arguments"


def _parameter(call: Call) -> str | None:
    if not 3 <= len(call.args) <= 4 or not isinstance(call.args[0], Call):
        return "unexpected arguments"
    hooks = call.args[2]
    empty = hooks is None or (isinstance(hooks, dict) and not hooks)
    bare = (
        type(hooks) is Call
        and hooks.calls("collections.OrderedDict")
        and not hooks.entries
        and hooks.args in ((), ([],))
    )
    return None if empty or bare else "hooks that would be called"


def _from_type(call: Call) -> str | None:
    function, kind, args, _ = call.args if len(call.args) == 4 else (None, None, None, None)
    row = entry(function.module, function.name) if type(function) is Global else None
    if row is None or not is_class(kind) or not isinstance(args, tuple):
        return "a function that may not be called"
    if row.role is Role.CALL:
        return None
    if row.role is not Role.HELPER:
        return f"{function}, which may not be called"
    return objection(Call(function, args), row.rule)


def _pandas_class(call: Call) -> str | None:
    fits = bool(call.args) and type(call.args[0]) is Global and call.args[0].module.partition(".")[0] == "pandas"
    return None if fits and is_class(call.args[0]) and isinstance(call.args[-1], dict) else "an unknown class"


def storage_objection(value: Persistent) -> str | None:
    """What is wrong with a persistent id as torch's: a storage, or the source of a module in old files."""
    pid = value.pid
    if not isinstance(pid, tuple) or not pid:
        return "a persistent id that torch does not write"
    if pid[0] == "module" and len(pid) == 4:
        fits = role_of(pid[1]) is Role.CONSTRUCT and all(isinstance(text, (str, type(None))) for text in pid[2:])
        return None if fits else "the source of an unknown class"
    if pid[0] not in ("storage", b"storage") or not 5 <= len(pid) <= 6:
        return "a persistent id that torch does not write"
    kind = pid[1]
    if type(kind) is not Global or not kind.name.endswith("Storage") or not is_class(kind):
        return f"{str(kind)[:80]} in the place of a storage type"
    fits = type(pid[2]) in (str, int) and isinstance(pid[3], str) and type(pid[4]) is int  # torch.package counts keys
    return None if fits else "a storage with an unexpected key, place or size"


_TEXT_METHODS = frozenset(
    "capitalize casefold lower lstrip rsplit rstrip split splitlines strip swapcase title upper".split()
)


def _text_method(call: Call) -> str | None:
    """``str.lower`` and its like, which pickle as ``getattr``: texts in and out. ``format`` would walk attributes.

    A discrete distribution of scipy keeps its own method ``_entropy`` that way.
    """
    kind, name = call.args if len(call.args) == 2 else (None, None)
    if type(kind) is Call and is_distribution(kind.function) and name == "_entropy":
        return None
    harmless = type(kind) is Global and str(kind) == "builtins.str" and isinstance(name, str) and name in _TEXT_METHODS
    return None if harmless else "what is no method of texts"


_NEVER_LOOKED_UP = {"__orig_class__", "__overloads__"}
# Attributes Python itself never reads: typing leaves the first, scripting a module with torch.jit the second.


def dunder(attributes: Mapping[Any, Any]) -> str | None:
    """The first key that would shadow something Python itself looks up, or None."""
    for name in attributes:
        if isinstance(name, str) and name.startswith("__") and name.endswith("__") and name not in _NEVER_LOOKED_UP:
            return name
        if isinstance(name, Opaque) or not isinstance(
            plain(name), (str, int, float, bytes, tuple, type(None), Global, Call)
        ):
            return "?"
    return None


_RULES: dict[str, Rule] = {
    "array": _array,
    "attributes": _attributes,
    "bytes": _bytes,
    "codec": _codec,
    "collection": _collection,
    "compiled": _compiled,
    "defaultdict": _default_dict,
    "distribution": _distribution,
    "dtype": _dtype,
    "fraction": _fraction,
    "frombuffer": _frombuffer,
    "from-type": _from_type,
    "generator": _generator,
    "mareconstruct": _mareconstruct,
    "newobj": _newobj,
    "nothing": _nothing,
    "pandas-class": _pandas_class,
    "parameter": _parameter,
    "partial": _partial,
    "pattern": _pattern,
    "plain": _plain,
    "reconstruct": _reconstruct,
    "reconstructor": _reconstructor,
    "scalar": _scalar,
    "text-method": _text_method,
    "tree": _tree,
    "ufunc": _ufunc,
    "vectorize": _distribution,
}
