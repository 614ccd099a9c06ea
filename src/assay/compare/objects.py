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
from typing import Any

from assay.compare.covered import Cover
from assay.compare.spellings import bytes_of, class_name, dtype_text, fields_of, scalar, size_of, without_padding
from assay.containers.npy import dtype_from_numpy
from assay.containers.pickle.values import Blob, Call, Global, Persistent, Symbol, Unknown, payload, plain
from assay.trees import Window

MAX_HELD = 64 << 20
"""Bytes of one array that are read to be compared here, because no tensor of the description stands for it."""

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
            data = bytes_of(call)
            if data is not None:
                return Atom(data)
        if name == "numpy.dtype" and call.args and isinstance(call.args[0], str) and "V" not in call.args[0]:
            return Atom(f"dtype {dtype_text(call)}")
        if name == "numpy._core.multiarray.scalar" and len(call.args) == 2:
            number = scalar(call)
            if number is not None:
                return Atom(number)
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
        sizes = tuple(size_of(size) for size in shape) if isinstance(shape, (tuple, list)) else (size_of(shape),)
        text = dtype_text(dtype)
        if text is None or any(size is None for size in sizes):
            return None
        counted = tuple(size for size in sizes if size is not None)
        name = dtype_from_numpy(text).name
        where = (self.window.start + place[0], place[1]) if place is not None and self.plain_bytes else None
        label = f"{name}{list(counted)}{fields_of(dtype)}"
        if self.cover.holds(where, counted, name):
            return Numbers(label, held=True)
        raw = data if isinstance(data, bytes) else bytes_of(data) if type(data) is Call else None
        if raw is None and isinstance(data, str):
            raw = data.encode("latin-1", "replace")
        if raw is None and place is not None and place[1] <= MAX_HELD:
            raw = self.window.exactly(*place)
        if raw is not None:
            raw = without_padding(raw, dtype)
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
        made = scalar(name) if len(name.args) == 2 else None
        if made is not None:
            return made
    return f"<{type(name).__name__}>"
