"""One level of a pickled object in a form that does not depend on how it was pickled.

The same object can be written in many ways: by another protocol, by joblib or by pickle, with arrays beside the opcodes
or between them, its class under the name it had before a library moved its modules. ``view`` takes those apart: what
comes out is an atom, an array, a sequence, a mapping or an object (a class and named parts).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from assay.compare.covered import Cover
from assay.containers.npy import dtype_from_numpy
from assay.containers.pickle.values import Blob, Call, Global, Persistent, Symbol, Unknown, payload, plain
from assay.errors import BadFormat
from assay.trees import Window

MAX_HELD = 64 << 20
"""Bytes of one array that are read to be compared here, because no tensor of the description stands for it."""

_MOVED = {
    "numpy.core": "numpy._core",
    "__builtin__": "builtins",
    "copy_reg": "copyreg",
    "sklearn.externals.joblib": "joblib",
}
_MANGLED = re.compile(r"\.___torch_mangle_\d+")
_HAS_OBJECT = 0x01  # NPY_ITEM_REFCOUNT in the flags of a dtype's state
_REBUILT = re.compile(r"torch\._utils\._rebuild_(?:tensor|tensor_v2|tensor_v3|meta_tensor_no_storage)")
_PARAMETER = re.compile(r"torch\._utils\._rebuild_parameter(?:_with_state)?")


@dataclass(frozen=True, slots=True)
class Atom:
    """A constant."""

    value: Any


@dataclass(frozen=True, slots=True)
class Numbers:
    """An array of plain numbers or text.

    Args:
        text: element type and shape.
        held: whether it is one of the description's tensors, which are compared element by element elsewhere.
        digest: of its elements, when it is not; None when they could not be had.
    """

    text: str
    held: bool
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class Parts:
    """Something with parts.

    Args:
        kind: ``list``, ``tuple``, ``set``, ``dict``, or the dotted name of a class or function.
        parts: the parts by position, key or name.
    """

    kind: str
    parts: Mapping[Any, Any]


@dataclass(frozen=True, slots=True)
class Lost:
    """What cannot be compared.

    Args:
        reason: why.
    """

    reason: str


View = Atom | Numbers | Parts | Lost


class Viewer:
    """Takes the values of one pickle apart.

    Args:
        window: the stream's bytes.
        cover: the tensors of the entry; None of them for streams whose arrays nobody lists.
        places: where joblib put the elements of its arrays, by identity of the wrapper; what it wrapped for objects.
        plain_bytes: whether positions in the window are positions in the entry.
    """

    def __init__(self, window: Window, cover: Cover, places: Mapping[int, Any], *, plain_bytes: bool) -> None:
        self.window = window
        self.cover = cover
        self.places = places
        self.plain_bytes = plain_bytes
        self._numbers: dict[int, Numbers] = {}

    def view(self, value: Any) -> View:
        """One level of *value*."""
        kind = type(value)
        if kind is dict:
            return _mapping("dict", value.items())
        if kind in (list, tuple):
            return Parts(kind.__name__, dict(enumerate(value)))
        if kind in (set, frozenset):
            return self._members(list(map(plain, value)))
        if kind is Global:
            return Atom(f"<{class_name(value)}>")
        if kind is Call:
            return self._call(value)
        if kind is Persistent:
            return self._persistent(value)
        if kind is Unknown:
            return Lost(value.reason)
        if kind is Blob:
            return self._blob(value)
        if kind is bytearray or isinstance(value, bytes):
            return Atom(bytes(value))
        return Atom(value)

    def _call(self, call: Call) -> View:
        numbers = self._array(call)
        if numbers is not None:
            return numbers
        if type(call.function) is not Global:
            inner = self.view(call.function)
            name = inner.kind if isinstance(inner, Parts) else "computed"
            return _mapping(f"a call of what {name} gives", [*self._parts(call), ("(function)", call.function)])
        name = class_name(call.function)
        if name in {"builtins.set", "builtins.frozenset"} and len(call.args) == 1 and isinstance(call.args[0], list):
            return self._members(call.args[0])
        if name in {"builtins.bytearray", "builtins.bytes", "_codecs.encode"}:
            data = _bytes(call)
            if data is not None:
                return Atom(data)
        if name == "numpy.dtype" and call.args and isinstance(call.args[0], str) and "V" not in call.args[0]:
            return Atom(f"dtype {dtype_text(call)}")
        if name == "numpy._core.multiarray.scalar" and len(call.args) == 2:
            scalar = _scalar(call)
            if scalar is not None:
                return scalar
        if _PARAMETER.fullmatch(name) and call.args:
            return self.view(call.args[0])
        if name == "copyreg._reconstructor" and len(call.args) == 3 and type(call.args[0]) is Global:
            return _mapping(class_name(call.args[0]), self._named(call))
        if name in {"collections.OrderedDict", "builtins.dict"}:
            return self._ordered(call)
        return _mapping(name, self._parts(call))

    def _ordered(self, call: Call) -> View:
        """An ordered dict: its entries, and what else was set on it under one name."""
        pairs: list[tuple[Any, Any]] = list(call.entries.items())
        for pair in call.args[0] if call.args and isinstance(call.args[0], list) else ():
            if not isinstance(pair, (list, tuple)) or len(pair) != 2:
                return Lost("an ordered dict made of something else than pairs")
            pairs.append((pair[0], pair[1]))
        if call.state is not None:
            pairs.append(("(attributes)", call.state))
        return _mapping("dict", pairs)

    def _named(self, call: Call) -> list[tuple[Any, Any]]:
        """State, items and entries under their names."""
        pairs: list[tuple[Any, Any]] = []
        state = call.state
        if isinstance(state, tuple) and len(state) == 2 and all(part is None or type(part) is dict for part in state):
            pairs.extend((state[0] or {}).items())
            pairs.extend((state[1] or {}).items())
        elif isinstance(state, dict):
            pairs.extend(state.items())
        elif state is not None:
            pairs.append(("(state)", state))
        pairs.extend((f"(state {at})", earlier) for at, earlier in enumerate(call.earlier_states))
        pairs.extend((f"[{at}]", item) for at, item in enumerate(call.items))
        pairs.extend((("(entry)", _key(name)), item) for name, item in call.entries.items())
        return pairs

    def _parts(self, call: Call) -> list[tuple[Any, Any]]:
        pairs: list[tuple[Any, Any]] = [(f"({at})", item) for at, item in enumerate(call.args)]
        pairs.extend((f"({name})", item) for name, item in call.kwargs.items())
        return pairs + self._named(call)

    def _members(self, values: list[Any]) -> View:
        """A set: by its members where they are constants, else by position."""
        if all(isinstance(value, (str, bytes, int, float, bool, type(None))) for value in values):
            return Parts("set", {repr(value): True for value in values})
        return Parts("set", dict(enumerate(values)))

    def _persistent(self, value: Persistent) -> View:
        pid = value.pid
        if isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage":
            return Lost("a storage that no tensor stands for")
        return Parts("persistent", {"id": pid})

    def _blob(self, value: Blob) -> View:
        if value.length > MAX_HELD:
            return Lost(f"{value.length:,} bytes that no tensor stands for")
        data = self.window.exactly(value.offset, value.length)
        return Atom(data)

    def _array(self, call: Call) -> Numbers | Parts | None:
        found = self._numbers.get(id(call))
        if found is None:
            made = self._recognise(call)
            if not isinstance(made, Numbers):
                return made
            found = self._numbers[id(call)] = made
        return found

    def _recognise(self, call: Call) -> Numbers | Parts | None:
        if type(call.function) is not Global:
            return None
        name = class_name(call.function)
        if _REBUILT.fullmatch(name) and len(call.args) >= 3:
            return self._tensor(call)
        if name.endswith("joblib.numpy_pickle.NumpyArrayWrapper") and isinstance(call.state, dict):
            inner = self.places.get(id(call))
            if inner is None:
                return None
            if not isinstance(inner, tuple):
                return Parts("array of objects", {"value": inner.value})
            return self._numbers_of(call.state.get("dtype"), call.state.get("shape"), inner, None)
        if name in {"numpy._core.multiarray._reconstruct", "numpy.ma.core._mareconstruct"}:
            state = call.state
            if isinstance(state, tuple) and len(state) == 5:
                return self._built(state[2], state[1], state[4])
        if name == "numpy._core.numeric._frombuffer" and len(call.args) == 4:
            return self._built(call.args[1], call.args[2], call.args[0])
        return None

    def _built(self, dtype: Any, shape: Any, data: Any) -> Numbers | Parts | None:
        if isinstance(data, list):
            return Parts("array of objects", {"shape": shape, **dict(enumerate(data))})
        inner = data.args[0] if type(data) is Call and len(data.args) == 1 else data
        return self._numbers_of(dtype, shape, payload(inner), data)

    def _numbers_of(self, dtype: Any, shape: Any, place: tuple[int, int] | None, data: Any) -> Numbers | None:
        sizes = tuple(_size(size) for size in shape) if isinstance(shape, (tuple, list)) else (_size(shape),)
        text = dtype_text(dtype)
        if text is None or any(size is None for size in sizes):
            return None
        counted = tuple(size for size in sizes if size is not None)
        name = dtype_from_numpy(text).name
        offset = self.window.start + place[0] if place is not None and self.plain_bytes else None
        label = f"{name}{list(counted)}{_fields(dtype)}"
        if self.cover.holds(offset, counted, name):
            return Numbers(label, held=True)
        raw = data if isinstance(data, bytes) else _bytes(data) if type(data) is Call else None
        if raw is None and isinstance(data, str):
            raw = data.encode("latin-1", "replace")
        if raw is None and place is not None and place[1] <= MAX_HELD:
            raw = self.window.exactly(*place)
        if raw is not None:
            raw = _without_padding(raw, dtype)
        return Numbers(
            f"{label} {text}", held=False, digest=hashlib.sha256(raw).hexdigest() if raw is not None else None
        )

    def _tensor(self, call: Call) -> Numbers | None:
        shape = call.args[2]
        storage = call.args[0]
        if not isinstance(shape, tuple) or type(storage) is not Persistent or not isinstance(storage.pid, tuple):
            return None
        kind = storage.pid[1] if len(storage.pid) > 1 else ""
        name = str(kind.name) if type(kind) is Global else str(kind)
        label = f"{name.removesuffix('Storage').lower()}{list(shape)}"
        sizes = tuple(size for size in shape if isinstance(size, int))
        listed = any(spec.shape == sizes for spec in self.cover.specs)
        return Numbers(label, held=listed and self.cover.complete)


def class_name(name: Global) -> str:
    """The dotted name of a class, under the modules where today's libraries keep it, without torch's own numbers."""
    module = _MANGLED.sub("", name.module)
    for old, new in _MOVED.items():
        if module == old or module.startswith(f"{old}."):
            module = new + module[len(old) :]
    return f"{module}.{name.name}"


def dtype_text(value: Any) -> str | None:
    """The short form (``<f8``) of a dtype in a graph; None for objects and records."""
    if type(value) is Global:
        return dtype_text(Call(value, (value.name.rstrip("_"),)))
    if type(value) is not Call or not value.args or not isinstance(value.args[0], str):
        return None
    code = value.args[0]
    state = value.state if isinstance(value.state, tuple) else ()
    order = state[1] if len(state) > 1 and state[1] in ("<", ">", "|", "=") else "|"
    text = code if code[:1] in "<>|=" else f"{order}{code}"
    if "V" in code and len(state) > 7:  # a record: its size and whether it holds objects stand in the state
        size, flags = state[5], state[7]
        return f"|V{size}" if isinstance(size, int) and isinstance(flags, int) and not flags & _HAS_OBJECT else None
    try:
        found = dtype_from_numpy(text)
    except BadFormat:
        return None
    return text if found.itemsize is not None and found.name != "object" else None


def _fields(value: Any) -> str:
    """Names and types of a record's fields; nothing for other types."""
    state = value.state if type(value) is Call and isinstance(value.state, tuple) else ()
    names, fields = state[3:5] if len(state) > 7 else (None, None)
    if not isinstance(names, tuple) or not isinstance(fields, dict):
        return ""
    kinds = [fields.get(name) for name in names]
    return str(
        [
            (name, dtype_text(kind[0]) if isinstance(kind, tuple) and kind else None)
            for name, kind in zip(names, kinds, strict=True)
        ]
    )


def _without_padding(raw: bytes, dtype: Any) -> bytes:
    """Records without the bytes between their fields, in which whatever was in memory is saved."""
    state = dtype.state if type(dtype) is Call and isinstance(dtype.state, tuple) else ()
    names, fields = state[3:5] if len(state) > 7 else (None, None)
    if not isinstance(names, tuple) or not isinstance(fields, dict):
        return raw
    try:
        record = np.dtype(
            {
                "names": list(names),
                "formats": [dtype_text(fields[name][0]) for name in names],
                "offsets": [fields[name][1] for name in names],
                "itemsize": state[5],
            }
        )
        values = np.frombuffer(raw, record)
        return b"|".join(values[name].tobytes() for name in names)
    except (TypeError, ValueError, KeyError, IndexError):
        return raw


def extent_of(state: Mapping[Any, Any]) -> int | None:
    """Bytes of the elements that joblib puts behind a wrapper with this state; None for objects."""
    text = dtype_text(state.get("dtype"))
    shape = state.get("shape")
    sizes = [_size(size) for size in shape] if isinstance(shape, (tuple, list)) else [_size(shape)]
    if text is None or any(size is None for size in sizes):
        return None
    return prod(size for size in sizes if size is not None) * (dtype_from_numpy(text).itemsize or 0)


def _size(value: Any) -> int | None:
    if type(value) is Call and type(value.function) is Global and value.function.name == "scalar":
        made = _scalar(value)
        value = made.value if made is not None else None
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 60 else None


def _scalar(call: Call) -> Atom | None:
    text, data = dtype_text(call.args[0]), call.args[1]
    raw = data if isinstance(data, bytes) else _bytes(data) if type(data) is Call else None
    if raw is None and isinstance(data, str):
        raw = data.encode("latin-1", "replace")
    if text is None or raw is None:
        return None
    try:
        values = np.frombuffer(raw, np.dtype(text)).tolist()
    except (TypeError, ValueError):
        return None
    return Atom(values[0]) if len(values) == 1 else None


def _bytes(call: Call) -> bytes | None:
    """Bytes as the protocols before 3 spell them, and bytearrays."""
    if type(call.function) is not Global:
        return None
    if not call.args:
        return b"" if class_name(call.function) in {"builtins.bytes", "builtins.bytearray"} else None
    first = call.args[0]
    if class_name(call.function) == "_codecs.encode":
        codec = call.args[1] if len(call.args) > 1 else "utf-8"
        if isinstance(first, str) and codec in {"latin1", "latin-1"}:
            return first.encode("latin-1", "replace")
        return None
    if isinstance(first, bytes) and len(call.args) == 1:
        return bytes(first)
    if isinstance(first, str) and len(call.args) == 2 and call.args[1] in {"latin-1", "latin1"}:
        return first.encode("latin-1", "replace")
    return _bytes(first) if type(first) is Call and len(call.args) == 1 else None


def _mapping(kind: str, pairs: Iterable[tuple[Any, Any]]) -> View:
    """Parts by their keys; lost when two keys cannot be told apart, because one would hide the other."""
    parts: dict[Any, Any] = {}
    count = 0
    for name, item in pairs:
        parts[_key(name)] = item
        count += 1
    return Parts(kind, parts) if len(parts) == count else Lost("keys that cannot be told apart")


def _key(name: Any) -> Any:
    """A key by which parts of two graphs find each other: constants themselves, all else by what it says."""
    name = plain(name)
    if isinstance(name, (str, int, float, bool, type(None))):
        return name
    if isinstance(name, bytes):
        return bytes(name)
    if isinstance(name, tuple) and all(isinstance(part, (str, int, float, bool, type(None))) for part in name):
        return name
    if type(name) is Global:
        return f"<{class_name(name)}>"
    if isinstance(name, Symbol) and type(name) is Call:
        made = _scalar(name) if len(name.args) == 2 else None
        if made is not None:
            return made.value
    return f"<{type(name).__name__}>"
