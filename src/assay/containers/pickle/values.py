"""What a pickle stream means, as values that nothing can execute.

Concept: constants and the built-in containers are themselves (``list``, ``dict``, ``str`` …); whatever a real unpickler
would import, call or ask its caller for is a symbol that only says so. Objects that the stream shares through its memo
are the same Python object here, so sharing and cycles are visible.

Rule for editors: values come from foreign bytes. They may be nested a million levels deep or double in size with
every level, so nothing here compares, hashes or prints more than one level; use identity.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_SHORT = 16
_SAFE_INTEGER = (1 << 61) - 1  # Python hashes integers modulo this prime: larger ones can be made to collide


@dataclass(frozen=True, slots=True)
class Global:
    """Something importable that the stream names: a class or a function.

    Args:
        module: as the unpickler would import it (Python 2 names are mapped where the unpickler maps them).
        name: attribute in the module, dotted for a nested one.
    """

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Symbol:
    """An object that only a real unpickler could build, with everything the stream does to it.

    Attributes:
        state: argument of the last BUILD, or None.
        grown: where ``items``, ``entries`` and ``earlier_states`` are kept, or None while there are none.
    """

    __slots__ = ("grown", "state")

    def __init__(self) -> None:
        self.state: Any = None
        self.grown: _Grown | None = None

    @property
    def items(self) -> Sequence[Any]:
        """What APPEND, APPENDS and ADDITEMS put into it, in order."""
        return self.grown.items if self.grown else ()

    @property
    def entries(self) -> Mapping[Any, Any]:
        """What SETITEM and SETITEMS put into it; see ``key`` for the keys."""
        return self.grown.entries if self.grown else {}

    @property
    def earlier_states(self) -> Sequence[Any]:
        """Arguments of all BUILDs but the last."""
        return self.grown.states if self.grown else ()

    def build(self, state: object) -> None:
        """BUILD: set its state."""
        if self.state is not None:
            self._grow().states.append(self.state)
        self.state = state

    def extend(self, values: Iterable[object]) -> None:
        """APPEND, APPENDS, ADDITEMS: put values into it."""
        self._grow().items.extend(values)

    def update(self, pairs: Iterable[tuple[object, object]]) -> None:
        """SETITEM, SETITEMS: put keys and values into it."""
        self._grow().entries.update((key(name), value) for name, value in pairs)

    def merge(self, pairs: Iterable[tuple[Any, object]]) -> None:
        """Like ``update``, with keys that ``key`` gives back as they are."""
        self._grow().entries.update(pairs)

    def _grow(self) -> _Grown:
        if self.grown is None:
            self.grown = _Grown()
        return self.grown


class _Grown:
    """The rarely needed part of a symbol."""

    __slots__ = ("entries", "items", "states")

    def __init__(self) -> None:
        self.items: list[Any] = []
        self.entries: dict[Any, Any] = {}
        self.states: list[Any] = []


class Call(Symbol):
    """The result of calling or instantiating something.

    Args:
        function: the ``Global`` (or another symbol) that would be called.
        args: positional arguments; one ``Unknown`` when the stream computes them.
        kwargs: keyword arguments (NEWOBJ_EX only).
        offset: byte offset of the opcode in the window.
        how: ``reduce`` (a plain call), ``newobj`` (``cls.__new__``), ``inst`` or ``obj`` (instantiation, protocols 0
            and 1).
    """

    __slots__ = ("args", "function", "how", "kwargs", "offset")

    def __init__(
        self,
        function: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[Any, Any] | None = None,
        offset: int = 0,
        how: str = "reduce",
    ) -> None:
        self.state = None
        self.grown = None
        self.function = function
        self.args = args
        self.kwargs: Mapping[Any, Any] = kwargs if kwargs is not None else NOTHING
        self.offset = offset
        self.how = how

    def calls(self, *names: str) -> bool:
        """Whether the function is a global with one of these dotted names (``torch._utils._rebuild_tensor_v2``)."""
        return type(self.function) is Global and str(self.function) in names

    def __repr__(self) -> str:
        return f"<Call {self.function if type(self.function) is Global else '…'} at {self.offset}>"


NOTHING: Mapping[Any, Any] = {}


class Persistent(Symbol):
    """An object the stream does not hold but names to its loader (PERSID, BINPERSID).

    Args:
        pid: the name: text, or any value.
        offset: byte offset of the opcode in the window.
    """

    __slots__ = ("offset", "pid")

    def __init__(self, pid: Any, offset: int = 0) -> None:
        super().__init__()
        self.pid = pid
        self.offset = offset

    def __repr__(self) -> str:
        return f"<Persistent at {self.offset}>"


class Unknown(Symbol):
    """A value that cannot be known without executing something.

    Args:
        reason: why.
        about: the value it would be computed from, if there is one.
    """

    __slots__ = ("about", "reason")

    def __init__(self, reason: str, about: Any = None) -> None:
        super().__init__()
        self.reason = reason
        self.about = about

    def __repr__(self) -> str:
        return f"<Unknown {self.reason}>"


class Bytes(bytes):
    """Bytes of the stream that know where they lie: ``offset`` counts from the start of the window.

    The up to 8 bytes of a NumPy scalar are plain ``bytes``, because there are so many of them.
    """

    offset: int


class Blob:
    """Bytes too long to be worth reading: where they lie in the window.

    Args:
        offset: first byte, counted from the start of the window.
        length: number of bytes.
    """

    __slots__ = ("length", "offset")

    def __init__(self, offset: int, length: int) -> None:
        self.offset = offset
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __repr__(self) -> str:
        return f"<Blob {self.length} at {self.offset}>"


def payload(value: object) -> tuple[int, int] | None:
    """Offset and length of a bytes value in the window, when the stream holds it plainly; else None."""
    if isinstance(value, (Bytes, Blob)):
        return value.offset, len(value)
    return None


class Opaque:
    """A dict key or set member compared by identity, because hashing it could cost without bound.

    Args:
        value: what it stands for.
    """

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"<Opaque {type(self.value).__name__}>"


_PLAIN = frozenset((str, bytes, Bytes, bool, type(None), float, Global, Call, Persistent, Unknown, Blob))
_UNHASHABLE = frozenset((list, dict, set, bytearray))


def key(value: Any) -> Any:
    """The form in which *value* is a dict key or set member: itself where that is safe, else wrapped in ``Opaque``.

    Text, bytes, small integers, None, booleans, floats, symbols and short tuples of text stay themselves.

    Raises:
        TypeError: the value is not hashable, so a real unpickler fails too.
    """
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is int:
        return value if -_SAFE_INTEGER < value < _SAFE_INTEGER else Opaque(value)
    if kind is tuple and len(value) <= _SHORT and all(type(part) is str for part in value):
        return value
    if kind in _UNHASHABLE:
        raise TypeError(f"a {kind.__name__} cannot be a key")
    return Opaque(value)


_PLAIN_OR_NUMBER = _PLAIN | {int}


def keys(values: list[Any]) -> list[Any]:
    """The forms in which *values* are dict keys, as ``key`` makes them."""
    kinds = set(map(type, values))
    if not kinds <= _PLAIN:
        if not kinds <= _PLAIN_OR_NUMBER:
            return [*map(key, values)]
        numbers = values if len(kinds) == 1 else [value for value in values if type(value) is int]
        if max(numbers) >= _SAFE_INTEGER or min(numbers) <= -_SAFE_INTEGER:
            return [*map(key, values)]
    return values


def plain(name: Any) -> Any:
    """The value a key made by ``key`` stands for."""
    return name.value if type(name) is Opaque else name
