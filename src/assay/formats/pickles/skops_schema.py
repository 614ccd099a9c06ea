"""The object graph in a skops archive, as the same symbols a pickle gives.

A schema is a tree of nodes ``{"__class__", "__module__", "__loader__", "content", "__id__"}``; arrays are members of
the archive. Objects become calls with a state, arrays become arrays, everything else what it is.

Source: the modules of ``skops.io`` (protocols 0 to 2) that write each kind of node.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from assay.containers.archive import Archive
from assay.containers.npy import parse_npy
from assay.containers.pickle.values import Call, Global, Unknown, key
from assay.errors import AssayError
from assay.formats.pickles.arrays import Array, Dtype
from assay.spec.finding import Finding, Severity
from assay.trees import BytesWindow, Window

MAX_NODES = 3_000_000
MAX_DEPTH = 200
MAX_INFLATED = 1 << 26
"""Bytes of a compressed member that are inflated to read its header."""
MAX_HELD = 1 << 16

_MISSING = object()


class Schema:
    """Reads the nodes of one archive.

    Args:
        archive: the skops archive.

    Attributes:
        types: every class and function the file names, in order.
        functions: those that are functions or methods.
        estimators: those whose objects record scikit-learn's version, as its estimators do.
        plain: loss functions of scikit-learn and sparse matrices of SciPy.
        findings: what could not be read.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._known: dict[int, Any] = {}
        self._left = MAX_NODES
        self.types: dict[str, Global] = {}
        self.functions: set[str] = set()
        self.estimators: set[str] = set()
        self.plain: set[str] = set()
        self.findings: list[Finding] = []

    def value(self, node: Any, depth: int = 0) -> Any:
        """The value a node describes; ``Unknown`` with a finding where it cannot be read."""
        if not isinstance(node, dict) or "__loader__" not in node:
            return node if not isinstance(node, (dict, list)) else self._odd("a node without a loader")
        identity = node.get("__id__")
        if isinstance(identity, int):
            known = self._known.get(identity, _MISSING)
            if known is not _MISSING and not isinstance(known, (str, int, float, bool, type(None))):
                return known
        self._left -= 1
        if depth > MAX_DEPTH or self._left < 0:
            return self._odd("more or deeper nodes than are read")
        made = self._made(node, depth)
        if isinstance(identity, int):
            self._known[identity] = made
        return made

    def _made(self, node: dict[str, Any], depth: int) -> Any:
        loader = str(node["__loader__"])
        reader = _READERS.get(loader)
        if loader not in _SILENT:
            self._name(node)
        if reader is not None:
            return reader(self, node, depth)
        made = Call(self._name(node), (), None, 0, "skops")
        arguments = node.get("__reduce__")
        if isinstance(arguments, dict):
            args = self.value(arguments.get("args"), depth + 1)
            made.args = args if isinstance(args, tuple) else ()
        content = node.get("content")
        if isinstance(content, dict):
            made.state = self.value(content, depth + 1) if "__loader__" in content else self._members(content, depth)
        if isinstance(made.state, dict) and "_sklearn_version" in made.state:
            self.estimators.add(str(made.function))
        if loader == "LossNode":
            self.plain.add(str(made.function))
        return made

    def _name(self, node: dict[str, Any]) -> Global:
        name = Global(str(node.get("__module__"))[:200], str(node.get("__class__"))[:200])
        return self.types.setdefault(str(name), name)

    def _members(self, content: Mapping[Any, Any], depth: int) -> dict[Any, Any]:
        return {key(name): self.value(part, depth + 1) for name, part in content.items()}

    def _listed(self, node: dict[str, Any], depth: int) -> list[Any]:
        content = node.get("content")
        return [self.value(part, depth + 1) for part in content] if isinstance(content, list) else []

    def _json(self, node: dict[str, Any], depth: int) -> Any:
        del depth
        content = node.get("content")
        if not isinstance(content, str):
            return (
                content
                if isinstance(content, (int, float, bool, type(None)))
                else self._odd("a value that is not JSON")
            )
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            return self._odd("a value that is not JSON")

    def _dict(self, node: dict[str, Any], depth: int) -> Any:
        content = node.get("content")
        if isinstance(content, dict) and set(content) == {"main", "default_factory"}:  # defaultdict
            return self.value(content["main"], depth + 1)
        return self._members(content, depth) if isinstance(content, dict) else {}

    def _set(self, node: dict[str, Any], depth: int) -> Any:
        return {key(part) for part in self._listed(node, depth) if not isinstance(part, (list, dict, set))}

    def _function(self, node: dict[str, Any], depth: int) -> Any:
        del depth
        self.functions.add(str(self._name(node)))
        return self._name(node)

    def _method(self, node: dict[str, Any], depth: int) -> Any:
        content = node.get("content")
        content = content if isinstance(content, dict) else {}
        name = self._name(node)
        method = Global(name.module, f"{name.name}.{str(content.get('func'))[:200]}")
        self.types.setdefault(str(method), method)
        self.functions.add(str(method))
        return Call(method, (self.value(content.get("obj"), depth + 1),), None, 0, "skops")

    def _slice(self, node: dict[str, Any], depth: int) -> Any:
        del depth
        content = node.get("content")
        parts = content if isinstance(content, dict) else {}
        return Call(Global("builtins", "slice"), tuple(parts.get(name) for name in ("start", "stop", "step")))

    def _type(self, node: dict[str, Any], depth: int) -> Any:
        del depth
        return Global(str(node.get("__module__"))[:200], str(node.get("__class__"))[:200])

    def _constructed(self, node: dict[str, Any], depth: int) -> Any:
        args = self.value(node.get("content"), depth + 1)
        return Call(self._name(node), args if isinstance(args, tuple) else (args,), None, 0, "skops")

    def _bytes(self, node: dict[str, Any], depth: int) -> Any:
        del depth
        try:
            return self._archive.read(str(node.get("file")), MAX_INFLATED)
        except AssayError as error:
            return self._odd(error.message)

    def _array(self, node: dict[str, Any], depth: int) -> Any:
        if node.get("type") == "json":
            items = self._listed(node, depth)
            shape = self.value(node.get("shape"), depth + 1)
            sizes = (
                shape if isinstance(shape, tuple) and all(type(size) is int and size >= 0 for size in shape) else None
            )
            return Array(Dtype("object", text="|O"), sizes or (len(items),), items=items)
        array = self._npy(self._archive, str(node.get("file")), plain=True)
        if isinstance(array, Array) and not array.shape and node.get("__class__") != "ndarray":  # a NumPy scalar
            values = array.values(self._archive.window)
            return values[0] if values else array
        return array

    def _sparse(self, node: dict[str, Any], depth: int) -> Any:
        del depth
        made = Call(self._name(node), (), None, 0, "skops")
        made.state = {}
        self.plain.add(str(made.function))
        name = str(node.get("file"))
        try:
            inner = Archive(BytesWindow(self._archive.read(name, MAX_INFLATED), self._archive.window.path))
            members = {member.name: self._npy(inner, member.name, plain=False) for member in inner.members}
        except AssayError as error:
            self._odd(error.message)
            return made
        for member, array in members.items():
            made.state[member.removesuffix(".npy")] = array
        shape = members.get("shape.npy")
        values = shape.values(inner.window) if isinstance(shape, Array) else None
        made.state["_shape"] = tuple(values or ())
        return made

    def _npy(self, archive: Archive, name: str, *, plain: bool) -> Any:
        try:
            member = archive.member(name)
            window: Window
            if member.stored:
                window = archive.window.sub(member.offset, member.size)
            else:
                window = BytesWindow(archive.read(name, MAX_INFLATED), archive.window.path)
            header = parse_npy(window)
            if header.nbytes is None or header.offset + header.nbytes > window.size:
                return self._odd(f"member {name!r} is shorter than its array")
        except AssayError as error:
            return self._odd(error.message)
        size = header.nbytes // max(1, _count(header.shape))
        dtype = Dtype(header.dtype, header.big_endian, size, header.descr if len(header.descr) < 40 else "")
        fortran = header.fortran and len(header.shape) > 1
        place = (member.offset + header.offset, header.nbytes) if member.stored and plain else None
        data = window.read(header.offset, header.nbytes) if place is None and header.nbytes <= MAX_HELD else None
        return Array(dtype, header.shape, fortran, place, data)

    def _odd(self, reason: str) -> Unknown:
        if len(self.findings) < 100:
            message = f"part of the schema is not understood: {reason}"[:300]
            path = self._archive.window.path
            self.findings.append(Finding("skops-unreadable", Severity.INCOMPLETE, message, path))
        return Unknown(reason)


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


_SILENT = frozenset({"JsonNode", "TypeNode", "DictNode", "ListNode", "TupleNode", "SetNode", "SliceNode", "MethodNode"})

_READERS: dict[str, Callable[[Schema, dict[str, Any], int], Any]] = {
    "JsonNode": Schema._json,  # noqa: SLF001 - the table belongs to the class
    "DictNode": Schema._dict,  # noqa: SLF001
    "DefaultDictNode": Schema._dict,  # noqa: SLF001
    "_DictWithDeprecatedKeysNode": Schema._dict,  # noqa: SLF001
    "ListNode": Schema._listed,  # noqa: SLF001
    "TupleNode": lambda schema, node, depth: tuple(schema._listed(node, depth)),  # noqa: SLF001
    "SetNode": Schema._set,  # noqa: SLF001
    "FunctionNode": Schema._function,  # noqa: SLF001
    "OperatorFuncNode": Schema._function,  # noqa: SLF001
    "MethodNode": Schema._method,  # noqa: SLF001
    "TypeNode": Schema._type,  # noqa: SLF001
    "SliceNode": Schema._slice,  # noqa: SLF001
    "ConstructorFromReduceNode": Schema._constructed,  # noqa: SLF001
    "BytesNode": Schema._bytes,  # noqa: SLF001
    "BytearrayNode": Schema._bytes,  # noqa: SLF001
    "NdArrayNode": Schema._array,  # noqa: SLF001
    "SparseMatrixNode": Schema._sparse,  # noqa: SLF001
}
