"""The tensor index of a symbolic object graph: every array once, named by the path that leads to it.

Not here: recognising arrays (``arrays``), meaning (``estimators``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import prod
from typing import Any

from assay.containers.pickle.values import Blob, Bytes, Call, Global, Opaque, Persistent, Unknown, plain
from assay.formats.pickles.arrays import Array, Arrays, is_wrapper
from assay.formats.pickles.estimators import class_of
from assay.spec.finding import Finding, Severity
from assay.spec.tensor import Extent, TensorSpec
from assay.trees import Window

MAX_TENSORS = 200_000
MAX_OBJECTS = 4_000_000
"""Containers, calls and texts that are visited."""
MAX_DEPTH = 200
"""Steps from the root to an array; honest graphs need a dozen, and a path of a million steps is a million long."""
MAX_NAME = 500

_ATOMS = frozenset({int, float, bool, type(None), complex, Global, Blob, Persistent})
_TEXTS = frozenset({str, bytes, Bytes})
_SEQUENCES = frozenset({list, tuple, set, frozenset})


@dataclass(slots=True)
class Index:
    """What a walk over the graph met.

    Attributes:
        tensors: name to array, in the order of the stream.
        texts: long texts and bytes by path, for models written as text inside.
        objects: every call whose result is given a state, and that is no array.
        findings: what the walk left out.
    """

    tensors: dict[str, Array] = field(default_factory=dict)
    texts: list[tuple[str, Any]] = field(default_factory=list)
    objects: list[Call] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def specs(self, window: Window, *, plain_bytes: bool) -> tuple[TensorSpec, ...]:
        """Tensor specs; extents only when the window's bytes lie plainly in the entry."""
        return tuple(_spec(name, array, window, plain_bytes) for name, array in self.tensors.items())


def index(root: object, arrays: Arrays, path: str = "", *, long: int = 1000) -> Index:
    """Walk the graph under *root*, each object once, parents before children.

    Args:
        root: a graph value.
        arrays: recognises its arrays.
        path: the entry, for findings.
        long: from this length on texts and bytes are collected.
    """
    found = Index()
    seen: set[int] = set()
    left_out: set[str] = set()
    stack: list[tuple[_Path | None, Iterator[tuple[object, object]]]] = [(None, iter([(None, root)]))]
    while stack:
        parent, members = stack[-1]
        pair = next(members, None)
        if pair is None:
            stack.pop()
            continue
        key: object
        value: Any
        key, value = pair
        kind = type(value)
        if kind is Opaque:
            value = plain(value)
            kind = type(value)
        if kind in _ATOMS or id(value) in seen:
            continue
        seen.add(id(value))
        step = _Path(parent, key) if len(stack) > 1 else None
        if kind in _TEXTS:
            if len(value) >= long:
                found.texts.append((_name(step), value))
            continue
        if len(seen) > MAX_OBJECTS:
            left_out.add(f"more than {MAX_OBJECTS:,} objects")
            break
        array = arrays.array(value) if kind is Call or kind is Array else None
        if array is not None and len(found.tensors) < MAX_TENSORS:
            found.tensors[_unique(_name(step), found.tensors)] = array
        elif array is not None:
            left_out.add(f"more than {MAX_TENSORS:,} arrays")
        elif kind is Call and value.state is not None:
            found.objects.append(value)
        if len(stack) > MAX_DEPTH:
            left_out.add(f"objects nested deeper than {MAX_DEPTH}")
        elif not ((kind is list or kind is tuple) and _ATOMS.issuperset(map(type, value))):  # millions of numbers
            stack.append((step, _members(value, array, long)))
    for what in sorted(left_out):
        message = f"{what}: the rest is not looked at"
        found.findings.append(Finding("pickle-graph", Severity.INCOMPLETE, message, path))
    return found


class _Path:
    """One step of a path; text is made only for what is kept."""

    __slots__ = ("key", "parent")

    def __init__(self, parent: _Path | None, key: object) -> None:
        self.parent = parent
        self.key = key


def _members(value: Any, array: Array | None, long: int) -> Iterator[tuple[object, object]]:
    if array is not None:
        return _compound(enumerate(array.items or ()), long)
    kind = type(value)
    if kind is dict:
        return _compound(value.items(), long)
    if kind in _SEQUENCES:
        return _compound(enumerate(value), long)
    if kind is Call:
        return _compound(_of_call(value), long)
    if kind is Unknown and isinstance(value.about, (list, tuple)):
        return _compound(enumerate(value.about), long)
    return iter(())


def _of_call(value: Call) -> Iterator[tuple[object, object]]:
    if not is_wrapper(value):
        yield from ((f"args.{at}", part) for at, part in enumerate(value.args))
        yield from value.kwargs.items()
    state = value.state
    if isinstance(state, dict):
        yield from state.items()
    elif isinstance(state, tuple) and len(state) == 2 and all(part is None or isinstance(part, dict) for part in state):
        for part in state:
            yield from (part or {}).items()
    elif state is not None:
        yield "state", state
    yield from enumerate(value.items)
    yield from value.entries.items()


def _compound(pairs: Iterable[tuple[object, Any]], long: int) -> Iterator[tuple[object, object]]:
    """The parts that are worth a visit: no numbers, no short texts."""
    return (
        (key, part)
        for key, part in pairs
        if type(part) not in _ATOMS and not (type(part) in _TEXTS and len(part) < long)
    )


def _name(step: _Path | None) -> str:
    parts = []
    while step is not None:
        parts.append(_key(plain(step.key)))
        step = step.parent
    text = ".".join(reversed(parts))
    return text if len(text) <= MAX_NAME else f"{text[: MAX_NAME // 2]}…{text[-MAX_NAME // 2 :]}"


def _key(key: object) -> str:
    if isinstance(key, str):
        return key[:MAX_NAME].encode("utf-8", "replace").decode("utf-8")
    if isinstance(key, (bool, float)) or key is None:
        return str(key)
    if isinstance(key, int):
        return str(key) if key.bit_length() < 64 else "integer"
    if isinstance(key, bytes):
        return key[:MAX_NAME].decode("latin-1")
    if type(key) is Call:
        return str(class_of(key) or "object")[:MAX_NAME]
    return str(key)[:MAX_NAME] if type(key) is Global else type(key).__name__


def _unique(name: str, taken: dict[str, Array]) -> str:
    name = name or "array"
    if name not in taken:
        return name
    number = len(taken)
    while f"{name}#{number}" in taken:
        number += 1
    return f"{name}#{number}"


def _spec(name: str, array: Array, window: Window, plain_bytes: bool) -> TensorSpec:  # noqa: FBT001 - private
    extent = None
    if plain_bytes and array.place is not None:
        extent = Extent(window.path, window.start + array.place[0], array.place[1])
    strides = None
    if array.fortran:
        strides = tuple(prod(array.shape[:axis]) for axis in range(len(array.shape)))
    return TensorSpec(name, array.dtype.name, array.shape, extent, array.dtype.big_endian, strides)
