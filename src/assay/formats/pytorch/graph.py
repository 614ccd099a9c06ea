"""Walking the symbolic object graph of a pickle: every object once, or as a JSON value.

Rule for editors: graphs are hostile. They share (a list of lists of lists … grows beyond any memory when written out),
they have cycles, and keys may be of any type and length. Every walk here is bounded and uses no recursion deeper than
its stated limit.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator

from assay.containers.pickle.values import Blob, Call, Global, Opaque, Persistent, Unknown, plain
from assay.formats.pytorch.rebuild import array_of, tensor_of
from assay.formats.pytorch.values import MAX_TEXT, Malformed, class_of, name_of, shorten
from assay.spec.json import Json

MAX_DEPTH = 12
"""Nesting kept in metadata."""

MAX_NODES = 4_000
"""Values kept in one piece of metadata."""

DISTRIBUTIONS = {
    "sklearn": "scikit-learn",
    "pytorch_lightning": "pytorch-lightning",
    "yaml": "PyYAML",
    "PIL": "pillow",
    "cv2": "opencv-python",
    "skimage": "scikit-image",
    "torch_geometric": "torch-geometric",
    "sentence_transformers": "sentence-transformers",
    "google": "protobuf",
    "hydra": "hydra-core",
    "models": "",
    "__torch__": "",
    "__main__": "",
}
"""Top-level module to the distribution that has it, where they differ; empty when no distribution does."""

_HARMLESS = frozenset({"__builtin__", "copy_reg", "_codecs", "exceptions", "UserDict", "StringIO", "cPickle"})
# Modules of Python 2 that torch.load maps to today's names.


def reachable(root: object) -> Iterator[object]:
    """Every object of the graph that is a container, call, persistent id or unknown, each once, parents first."""
    seen: set[int] = set()
    stack: list[object] = [root]
    while stack:
        value = stack.pop()
        if isinstance(value, Opaque):
            value = value.value
        if value is None or isinstance(value, _LEAVES) or id(value) in seen:
            continue
        seen.add(id(value))
        yield value
        stack.extend(_members(value))


_LEAVES = (str, bytes, bytearray, int, float, Global, Blob)


def _members(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    if isinstance(value, (list, tuple, set, frozenset)):
        return value
    if isinstance(value, Call):
        pairs = [part for pair in entries_of(value) for part in pair]
        return [value.function, *value.args, *value.kwargs.values(), value.state, *value.items, *pairs]
    if isinstance(value, Persistent):
        return [value.pid]
    if isinstance(value, Unknown):
        return [value.about]
    return ()


def entries_of(call: Call) -> list[tuple[object, object]]:
    """The keys and values set on a mapping that a call built (``OrderedDict``)."""
    return [(plain(key), value) for key, value in call.entries.items()]


def mapping_of(value: object) -> list[tuple[object, object]] | None:
    """Keys and values of a dict, or of a call that builds a mapping; None for anything else."""
    if isinstance(value, dict):
        return [(plain(key), item) for key, item in value.items()]
    if (
        isinstance(value, Call)
        and isinstance(value.function, Global)
        and (value.function.name in _MAPPINGS or value.entries)
    ):
        return _initial(value) + entries_of(value)
    return None


_MAPPINGS = frozenset({"OrderedDict", "defaultdict", "dict", "Counter", "AttributeDict", "EasyDict", "Box"})


def _initial(call: Call) -> list[tuple[object, object]]:
    # Python 2 wrote OrderedDict([[key, value], …]) where Python 3 writes an empty one and sets its items.
    for argument in call.args[:2]:
        if isinstance(argument, dict):
            return [(plain(key), item) for key, item in argument.items()]
        if isinstance(argument, list) and all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in argument):
            return [(pair[0], pair[1]) for pair in argument]
    return []


def attributes_of(call: Call) -> dict[object, object]:
    """The attributes BUILD set on an object: its ``__dict__`` and its slots; empty when its state is something else."""
    state = call.state
    if isinstance(state, tuple) and len(state) == 2 and all(part is None or isinstance(part, dict) for part in state):
        merged: dict[object, object] = {}
        for part in state:
            if isinstance(part, dict):
                merged.update(part)
        return merged
    if isinstance(state, dict):
        return state
    # torch.fx rebuilds a GraphModule by a call whose first argument is the __dict__ of the module.
    body = call.args[0] if call.args else None
    return body if isinstance(body, dict) and "_modules" in body and "_parameters" in body else {}


class JsonWriter:
    """Turns graph values into JSON values of bounded size.

    Args:
        nodes: values written before the rest becomes ``"…"``.
    """

    def __init__(self, nodes: int = MAX_NODES) -> None:
        self._left = nodes

    def write(self, value: object, depth: int = MAX_DEPTH) -> Json:
        """The value as JSON: tensors as dtype and shape, objects as their attributes with their class."""
        self._left -= 1
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            return value if abs(value) < 1 << 63 else str(value)[:MAX_TEXT] if value.bit_length() < 4096 else "…"
        if isinstance(value, float):
            return value if math.isfinite(value) else str(value)
        if isinstance(value, str):
            return shorten(value)
        if isinstance(value, (bytes, bytearray, Blob)):
            return f"{len(value)} bytes"
        if self._left <= 0 or depth <= 0:
            return "…"
        return self._compound(value, depth - 1)

    def _compound(self, value: object, depth: int) -> Json:
        if isinstance(value, Global):
            return name_of(value)
        if isinstance(value, Unknown):
            return f"unknown: {value.reason}"[:MAX_TEXT]
        if isinstance(value, (list, tuple, set, frozenset)):
            return self._sequence(value, depth)
        pairs = mapping_of(value)
        if pairs is not None:
            return self._mapping(pairs, depth)
        if isinstance(value, Call):
            return self._object(value, depth)
        if isinstance(value, Persistent):
            return name_of(value) or "a storage"
        return type(value).__name__

    def _sequence(self, values: Iterable[object], depth: int) -> Json:
        written: list[Json] = []
        for value in values:
            if self._left <= 0:
                written.append("…")
                break
            written.append(self.write(value, depth))
        return written

    def _mapping(self, pairs: Iterable[tuple[object, object]], depth: int) -> dict[str, Json]:
        written: dict[str, Json] = {}
        for key, value in pairs:
            if self._left <= 0:
                written["…"] = "…"
                break
            written[key_text(key)] = self.write(value, depth)
        return written

    def _object(self, call: Call, depth: int) -> Json:
        try:
            tensor = tensor_of(call) or array_of(call)
        except Malformed:
            return "a malformed tensor"
        if tensor is not None:
            return tensor.text
        kind = class_of(call)
        attributes = attributes_of(call)
        if attributes:
            shown = attributes.items()
            if "_modules" in attributes and "_parameters" in attributes:
                # Of a module's forty attributes only the public ones were chosen by a person.
                shown = {key: item for key, item in shown if isinstance(key, str) and key[:1] != "_"}.items()
            return {"class": kind, **self._mapping(((plain(key), item) for key, item in shown), depth)}
        if call.items:
            return self._sequence(call.items, depth)
        if len(call.args) == 1:
            # Enum members, torch.Size, torch.device, pathlib.Path parts: one argument says it all.
            return self.write(call.args[0], depth)
        if kind.startswith("pathlib.") and all(isinstance(part, str) for part in call.args):
            return shorten("/".join(str(part) for part in call.args).replace("//", "/"))
        if not call.args:
            return kind
        return {"class": kind, "arguments": self._sequence(call.args, depth)}


def as_json(value: object, nodes: int = MAX_NODES) -> Json:
    """A graph value as a JSON value of bounded size."""
    return JsonWriter(nodes).write(value)


def key_text(key: object) -> str:
    """A mapping's key as text."""
    if isinstance(key, str):
        return shorten(key)
    if isinstance(key, bytes):
        return shorten(key.decode("latin-1"))
    if isinstance(key, int) and key.bit_length() < 4096:
        return str(key)
    if isinstance(key, float) or key is None:
        return str(key)
    return name_of(key) or type(key).__name__


def needed_distributions(names: Iterable[Global]) -> tuple[str, ...]:
    """Distributions whose modules the pickle names, ``torch`` first, without the standard library."""
    found = {"torch"}
    for name in names:
        top = name.module.partition(".")[0]
        if top in sys.stdlib_module_names or top in _HARMLESS or not top.isidentifier():
            continue
        distribution = DISTRIBUTIONS.get(top, top)
        if distribution:
            found.add(distribution)
    return ("torch", *sorted(found - {"torch"})[:50])
