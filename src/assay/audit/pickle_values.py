"""Walking everything a stream made, once: what is kept where, how deep it nests, and how large it would be unfolded."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from typing import Any

from assay.containers.pickle.parse import Parsed
from assay.containers.pickle.values import Bytes, Call, Global, Opaque, Persistent, Unknown

MAX_LEVELS = 5_000
"""Containers nested in each other; reading, comparing and freeing recurse."""
MAX_KEY_DEPTH = 16
"""Tuples nested in a key: hashing them recurses in compiled code and cannot be stopped."""
MAX_UNFOLDED = 50_000_000
"""Objects there would be if each was written out wherever it is shared."""

_CONTAINERS = frozenset({list, tuple, dict, set, frozenset})
_LOOKED_INTO = _CONTAINERS | {Opaque, Call, Unknown, Persistent}
_END = object()
_SHARED = 24  # doublings from which unfolding can be too much
_ATOMS = frozenset({str, bytes, Bytes, int, float, bool, type(None)})


def kept(stream: Parsed, wanted: set[int]) -> list[Global]:
    """Those of the globals with the ids *wanted* that stand somewhere as a value."""
    found: dict[int, Global] = {}
    for children in _everything(stream):
        for child in children:
            if type(child) is Global and id(child) in wanted:
                found[id(child)] = child
    return list(found.values())


def dangerous_shape(stream: Parsed) -> str | None:
    """What is wrong with how the objects of a stream hold each other, or None."""
    collecting = gc.isenabled()
    gc.disable()  # nothing here is garbage, and there may be millions of it
    try:
        return _dangerous_shape(stream.value)
    finally:
        if collecting:
            gc.enable()


def _dangerous_shape(root: object) -> str | None:
    level: list[Any] = [root]
    seen: set[int] = {id(root)}
    levels = shared = 0
    while level:
        levels += 1
        if levels > MAX_LEVELS:
            return f"objects are nested more than {MAX_LEVELS:,} deep"
        following: list[Any] = []
        for value in level:
            for child in _children(value):
                kind = type(child)
                if kind in _LOOKED_INTO:
                    if id(child) not in seen:
                        seen.add(id(child))
                        following.append(child)
                    elif kind in _CONTAINERS:
                        shared += 1
                    if kind is Opaque and _deep(child.value):
                        return "a tuple nested too deeply is used as a key: hashing it would end the process"
        level = following
    if shared >= _SHARED and _unfolded(root) > MAX_UNFOLDED:
        return f"objects that share each other unfold to more than {MAX_UNFOLDED:,}"
    return None


def _unfolded(root: object) -> int:
    """Size of the graph written out as a tree, through containers only; cycles are cut."""
    sizes: dict[int, int] = {id(root): 1}
    stack: list[tuple[int, Iterator[Any]]] = [(id(root), iter(_children(root)))]
    largest = 1
    while stack:
        node, rest = stack[-1]
        child = next(rest, _END)
        if child is _END:
            stack.pop()
            if stack:
                sizes[stack[-1][0]] += sizes[node]
            largest = max(largest, sizes[node])
            if largest > MAX_UNFOLDED:
                break
        elif id(child) in sizes:
            sizes[node] += sizes[id(child)]
        elif type(child) in _LOOKED_INTO:
            sizes[id(child)] = 1
            stack.append((id(child), iter(_children(child))))
    return largest


def _deep(value: object) -> bool:
    level = [value]
    for _ in range(MAX_KEY_DEPTH):
        level = [part for item in level if isinstance(item, (tuple, frozenset)) for part in item][:10_000]
        if not level:
            return False
    return True


def _everything(stream: Parsed) -> Iterator[Sequence[Any]]:
    """What stands in every container and every call, also those that are thrown away."""
    seen: set[int] = set()
    pending: list[Any] = [stream.value, *stream.calls, *stream.persistent]
    while pending:
        value = pending.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        children = _children(value)
        yield children
        pending.extend(child for child in children if type(child) in _LOOKED_INTO)


def _children(value: Any) -> Sequence[Any]:
    """What *value* holds directly; of containers that hold only constants, nothing."""
    kind = type(value)
    if kind is list or kind is tuple:
        return () if _ATOMS.issuperset(map(type, value)) else value
    if kind is dict:
        inside = () if _ATOMS.issuperset(map(type, value.values())) else [*value.values()]
        return inside if _ATOMS.issuperset(map(type, value)) else [*inside, *value]
    if kind is set or kind is frozenset:
        return () if _ATOMS.issuperset(map(type, value)) else [*value]
    if kind is Call:
        if value.grown is None and not value.kwargs:
            return (*value.args, value.state)
        return [
            *value.args, *value.kwargs.values(), value.state, *value.items, *value.entries, *value.entries.values(),
            *value.earlier_states,
        ]  # fmt: skip
    if kind is Opaque:
        return (value.value,)
    if kind is Unknown:
        return (value.about,)
    if kind is Persistent:
        return (value.pid, value.state, *value.items, *value.entries.values())
    return ()
