"""Estimators as named parts: pipelines step by step, ensembles counted, hyperparameters apart from what was fitted.

Works on a symbolic object graph and does not care where it comes from (pickle, joblib, skops). scikit-learn's
conventions do most of the work: attributes without underscores are constructor parameters, those that end in one were
fitted, those that begin with one are private; other libraries' wrappers follow the same rules.

Not here: tensors (``tensors``), what is inside a booster (``boosters``), files.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from assay.containers.pickle.values import Blob, Call, Global, Unknown, plain
from assay.formats.pickles.arrays import Array, Arrays, is_wrapper, scalar_of
from assay.spec.description import Component
from assay.spec.json import Json

MAX_DEPTH = 24
MAX_COMPONENTS = 2_000
MAX_TEXT = 300
MAX_ITEMS = 64
MAX_NODES = 1_000
"""Values written of one setting; a graph that shares its parts has no end otherwise."""
MAX_LISTED = 12
"""Estimators of a list that are shown one by one; more are counted and the first one stands for all."""

_VALUE_DEPTH = 6
_LONG_TEXT = 2_000
_RECONSTRUCTORS = ("copyreg._reconstructor", "copyreg.__newobj__", "copy_reg._reconstructor")
_MAPPINGS = ("collections.OrderedDict", "collections.defaultdict", "builtins.dict", "collections.Counter")
_SETS = ("builtins.set", "builtins.frozenset", "builtins.list", "builtins.tuple", "collections.deque")
_PLACEHOLDERS = frozenset({"passthrough", "drop"})
_VALUES = frozenset({"numpy", "scipy", "pandas", "joblib", "torch", "tensorflow", "keras", "pyarrow", "__builtin__"})
_LIBRARIES = frozenset(
    {
        "sklearn",
        "imblearn",
        "lightgbm",
        "xgboost",
        "catboost",
        "sklearn_pandas",
        "category_encoders",
        "skopt",
        "statsmodels",
    }
)


def class_of(call: Call) -> Global | None:
    """The class an object would be of; None when its maker is not a plain global."""
    if type(call.function) is not Global:
        return None
    if call.calls(*_RECONSTRUCTORS) and call.args:
        return call.args[0] if type(call.args[0]) is Global else None
    return call.function


def attributes_of(call: Call) -> dict[str, Any]:
    """The object's attributes: its ``__dict__`` and slots; empty when its state is something else."""
    state = call.state
    parts = state if isinstance(state, tuple) and len(state) == 2 else (state,)
    merged: dict[str, Any] = {}
    for part in parts:
        if isinstance(part, dict):
            merged.update((key, value) for key, value in part.items() if isinstance(key, str))
    return merged


def mapping_of(value: object) -> dict[Any, Any] | None:
    """Keys and values of a dict or of a call that makes one; None for anything else."""
    if isinstance(value, dict):
        return value
    if type(value) is Call and (value.calls(*_MAPPINGS) or (value.entries and not value.state)):
        first = next((part for part in value.args if isinstance(part, (dict, list))), {})
        if isinstance(first, list):
            pairs = [pair for pair in first if isinstance(pair, (list, tuple)) and len(pair) == 2]
            first = {pair[0]: pair[1] for pair in pairs if isinstance(pair[0], (str, int))}
        return {**first, **value.entries}
    return None


def is_estimator(value: object) -> bool:
    """Whether a value is a part worth naming: an object with attributes, of a library of estimators or of own code."""
    if type(value) is not Call or is_wrapper(value):
        return False
    kind = class_of(value)
    if kind is None or not isinstance(value.state, (dict, tuple)):
        return False
    attributes = attributes_of(value)
    if "_sklearn_version" in attributes:
        return True
    top = kind.module.partition(".")[0]
    if not attributes or kind.module.startswith("sklearn.tree._tree"):
        return False
    return top in _LIBRARIES or (top not in sys.stdlib_module_names and top not in _VALUES)


class Reader:
    """Turns estimators of one graph into components.

    Args:
        arrays: recognises the graph's arrays.

    Attributes:
        left: components that may still be made.
    """

    def __init__(self, arrays: Arrays) -> None:
        self._arrays = arrays
        self._done: set[int] = set()
        self.left = MAX_COMPONENTS
        self._nodes = MAX_NODES

    def component(self, name: str, value: object, depth: int = 0) -> Component:
        """The component *value* is; objects of unknown classes and placeholders (``passthrough``) too.

        An object that several parts share is written out where it is met first.
        """
        self.left -= 1
        if type(value) is not Call:
            return Component(name, value[:MAX_TEXT] if isinstance(value, str) else type(value).__name__)
        kind = class_of(value)
        label = str(kind) if kind else "a computed class"
        if depth > MAX_DEPTH or self.left <= 0 or id(value) in self._done:
            return Component(name, label)
        self._done.add(id(value))
        hyperparameters: dict[str, Json] = {}
        fitted: dict[str, str] = {}
        children: list[Component] = []
        attributes = attributes_of(value)
        for key, item in attributes.items():
            parts = self._parts(key, item, attributes, depth)
            if parts is not None:
                children.extend(parts)
            elif key.startswith("_"):
                continue
            elif key.endswith("_"):
                fitted[key] = self.short(item)
            else:
                hyperparameters[key] = self.json(item)
        return Component(name, label, hyperparameters, fitted, tuple(children))

    def is_array(self, value: object) -> bool:
        """Whether a graph value is an array."""
        return self._arrays.array(value) is not None

    def _parts(self, key: str, item: object, attributes: Mapping[str, Any], depth: int) -> list[Component] | None:
        """The parts an attribute holds; None when it is a setting or a fitted value."""
        if is_estimator(item):
            twin = attributes.get(f"{key}_")
            if twin is not None and is_estimator(twin):
                return []  # the fitted one speaks for both
            return [self.component(key, item, depth + 1)]
        array = self._arrays.array(item)
        members = array.items if array is not None else item
        if isinstance(members, list) and members and isinstance(members[0], list) and len(members) < MAX_COMPONENTS:
            nested = [part for row in members if isinstance(row, list) for part in row]
            members = nested if nested and is_estimator(nested[0]) else members
        if not isinstance(members, (list, tuple)) or not members:
            return None
        named = _named_steps(members)
        if named is not None:
            if attributes.get(f"{key}_") is not None:
                return []
            return [self._step(*step, depth=depth) for step in named[:MAX_COMPONENTS]]
        if is_estimator(members[0]):
            names = _names_for(key, attributes, len(members))
            return self._members(key, members, names, depth)
        return None

    def _step(self, name: str, value: object, columns: object, depth: int) -> Component:
        made = self.component(name, value, depth + 1)
        if columns is None:
            return made
        return Component(
            made.name, made.kind, {**made.hyperparameters, "columns": self.json(columns)}, made.fitted, made.children
        )

    def _members(self, key: str, members: Sequence[Any], names: Sequence[str], depth: int) -> list[Component]:
        if len(members) <= MAX_LISTED and names:
            return [self.component(name, member, depth + 1) for name, member in zip(names, members, strict=False)]
        kinds = {str(class_of(member)) for member in members if type(member) is Call}
        if len(members) > MAX_LISTED or len(kinds) == 1:
            first = self.component(key, members[0], depth + 1)
            kind = first.kind if len(kinds) == 1 else f"{len(kinds)} classes"
            settings = {name: value for name, value in first.hyperparameters.items() if name != "random_state"}
            fitted = {"count": str(len(members)), **_tree_sizes(members)}
            return [Component(key, kind, settings, fitted, first.children)]
        return [self.component(f"{key}.{index}", member, depth + 1) for index, member in enumerate(members)]

    def json(self, value: object, depth: int = _VALUE_DEPTH) -> Json:
        """A setting as a JSON value: functions and classes by name, arrays and objects by what they are."""
        self._nodes = MAX_NODES
        return self._json(value, depth)

    def _json(self, value: object, depth: int) -> Json:
        self._nodes -= 1
        value = plain(scalar_of(value))
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            return value if value.bit_length() < 64 else f"an integer of {value.bit_length()} bits"
        if isinstance(value, float):
            return value if math.isfinite(value) else str(value)
        if isinstance(value, str):
            return _text(value) if len(value) < _LONG_TEXT else f"text of {len(value):,} characters"
        if depth <= 0 or self._nodes <= 0:
            return "…"
        if isinstance(value, (list, tuple, set, frozenset)):
            shown = [self._json(part, depth - 1) for _, part in zip(range(MAX_ITEMS), value, strict=False)]
            return [*shown, f"… {len(value) - MAX_ITEMS:,} more"] if len(value) > MAX_ITEMS else shown
        pairs = mapping_of(value)
        if pairs is not None:
            written: dict[str, Json] = {}
            for name, part in pairs.items():
                if len(written) == MAX_ITEMS:
                    written["…"] = f"{len(pairs) - MAX_ITEMS:,} more"
                    break
                written[self._key(name)] = self._json(part, depth - 1)
            return written
        return self._object(value, depth)

    def _key(self, name: object) -> str:
        shown = self._json(name, 2)
        return shown if isinstance(shown, str) else str(shown)[:MAX_TEXT]

    def _object(self, value: object, depth: int) -> Json:
        if type(value) is Global:
            return str(value)[:MAX_TEXT]
        array = self._arrays.array(value)
        if array is not None:
            return array.text
        if isinstance(value, (bytes, Blob)):
            return f"{len(value):,} bytes"
        if isinstance(value, Unknown):
            return f"unknown: {value.reason}"[:MAX_TEXT]
        if type(value) is not Call:
            return type(value).__name__
        kind = class_of(value)
        label = str(kind)[:MAX_TEXT] if kind else "a computed object"
        if value.calls(*_SETS) and value.args and isinstance(value.args[0], (list, tuple)):
            return self._json(value.args[0], depth)
        state = attributes_of(value)
        if state:
            return {
                "class": label,
                **{name: self._json(part, depth - 1) for name, part in [*state.items()][:MAX_ITEMS]},
            }
        arguments = [self._json(part, depth - 1) for part in value.args if type(part) is not Global]
        return f"{label}({', '.join(str(part) for part in arguments)})"[:MAX_TEXT] if arguments else label

    def name(self, value: object) -> str:
        """A mapping's key as text."""
        self._nodes = MAX_NODES
        return self._key(value)

    def short(self, value: object) -> str:
        """What training left in an attribute, as short text."""
        value = scalar_of(value)
        array = self._arrays.array(value)
        if array is not None:
            return array.text
        if isinstance(value, (list, tuple)):
            arrays = [found.text for found in map(self._arrays.array, value[:MAX_LISTED]) if found is not None]
            if arrays:
                return f"{len(value)} of {arrays[0]}" if len(set(arrays)) == 1 else ", ".join(arrays)
            return f"{type(value).__name__} of {len(value):,}" if len(value) > MAX_LISTED else str(self.json(value, 2))
        pairs = mapping_of(value)
        if pairs is not None:
            return f"dict of {len(pairs):,}"
        if type(value) is Call:
            sparse = _sparse(value, self._arrays)
            if sparse:
                return sparse
            kind = class_of(value)
            return str(kind) if kind and value.state is not None else str(self.json(value, 2))[:MAX_TEXT]
        return str(self.json(value, 2))[:MAX_TEXT]


def _text(value: str) -> str:
    cut = value if len(value) <= MAX_TEXT else f"{value[: MAX_TEXT - 1]}…"
    return cut.encode("utf-8", "replace").decode("utf-8")


def _named_steps(members: Sequence[Any]) -> list[tuple[str, Any, Any]] | None:
    """(name, estimator, columns) of the steps of a pipeline, union or column transformer; None when it is none."""
    steps = []
    for member in members:
        if not isinstance(member, (tuple, list)) or not 2 <= len(member) <= 3 or not isinstance(member[0], str):
            return None
        made = member[1]
        if not (is_estimator(made) or type(made) is Call or (isinstance(made, str) and made in _PLACEHOLDERS)):
            return None
        steps.append((member[0][:MAX_TEXT], made, member[2] if len(member) == 3 else None))
    return steps if any(is_estimator(made) or isinstance(made, str) for _, made, _ in steps) else None


def _names_for(key: str, attributes: Mapping[str, Any], count: int) -> list[str]:
    """Names of fitted members whose originals are (name, estimator) pairs in the attribute without underscore."""
    originals = attributes.get(key.removesuffix("_"))
    steps = _named_steps(originals) if isinstance(originals, list) else None
    if steps is None:
        return []
    names = [name for name, made, _ in steps if not isinstance(made, str)]
    return names if len(names) == count else []


def _tree_sizes(members: Sequence[Any]) -> dict[str, str]:
    """Total of nodes of an ensemble of decision trees."""
    nodes = 0
    for member in members:
        tree = attributes_of(member).get("tree_") if type(member) is Call else None
        count = attributes_of(tree).get("node_count") if type(tree) is Call else None
        if not isinstance(count, int):
            return {}
        nodes += count
    return {"nodes": str(nodes)}


def _sparse(call: Call, arrays: Arrays) -> str | None:
    """A SciPy sparse matrix as short text."""
    kind = class_of(call)
    if kind is None or not kind.module.startswith("scipy.sparse"):
        return None
    attributes = attributes_of(call)
    shape = attributes.get("_shape")
    data = arrays.array(attributes.get("data"))
    sizes = [scalar_of(size) for size in shape] if isinstance(shape, tuple) else []
    if data is None or not all(isinstance(size, int) for size in sizes):
        return None
    return f"{data.dtype.name}{sizes} sparse, {data.size:,} stored"


def dtype_of_values(array: Array | None) -> str:
    """The dtype of an array for a port: objects of labels are text."""
    if array is None:
        return "int64"
    return "string" if array.dtype.name in {"object", "string", "bytes"} else array.dtype.name
