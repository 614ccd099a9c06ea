"""The schema of a skops file as the object it stands for: classes, settings and steps under the names people know.

Nodes of the schema carry ids of the process that saved them and names of member files made of those ids; both are left
out, because they link the parts of one file and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assay.compare.documents import MAX_DOCUMENT
from assay.compare.gathering import Gathered, Judgement
from assay.compare.noise import noise
from assay.compare.values import Change, changes
from assay.containers.documents import parse_json, read_json
from assay.containers.guard import guarded
from assay.errors import AssayError
from assay.spec.changes import Area, Effect, ItemKind
from assay.trees import Window

_LINKS = frozenset({"__id__", "file", "__loader__", "__class__", "__module__"})
_STAMP = Judgement(Area.DEPENDENCIES, Effect.NOTE, "a library's own stamp")
_IDENTITY = Judgement(Area.FORMAT, Effect.NOTE, "numbers that link the parts of one file")


def compare_schemas(gathered: Gathered, old: Window, new: Window, path: str) -> None:
    """Note what changed between two schemas."""
    try:
        with guarded("a skops schema", path):
            before, after = (_node(read_json(window, MAX_DOCUMENT).value) for window in (old, new))
    except AssayError as error:
        gathered.unread(path, error.message, Area.PIPELINE)
        return
    found, cut = changes(before, after)
    gathered.changes(path, found, lambda change: _judge(path, change), cut=cut)
    if not found:
        gathered.add(_IDENTITY, path, ItemKind.CHANGED)


def _judge(path: str, change: Change) -> Judgement:
    names = [str(key) for key in change.keys]
    if names[-1:] == ["protocol"] or {"_sklearn_version", "_skops_version"} & set(names):
        return _STAMP
    why = noise(path, change)
    if why:
        return Judgement(_STAMP.area if "library" in why else Area.METADATA, Effect.NOTE, why)
    if names[-1:] and names[-1] in {"n_jobs", "verbose"}:
        return Judgement(Area.PARAMS, Effect.NOTE, "how it is run, not what comes out")
    return Judgement(Area.PIPELINE)


def _node(value: Any) -> Any:
    """A node as what it stands for: its class, and its content under the names it has there."""
    if isinstance(value, list):
        return _steps([_node(item) for item in value])
    if not isinstance(value, Mapping):
        return value
    if "__class__" not in value:
        return {key: _node(item) for key, item in value.items()}
    if value.get("__loader__") == "JsonNode" and isinstance(value.get("content"), str):
        return parse_json(value["content"].encode(), "schema.json").value
    rest = {key: _node(item) for key, item in value.items() if key not in _LINKS}
    content = rest.pop("content", None)
    name = f"{value.get('__module__')}.{value['__class__']}"
    plain = name.startswith("builtins.")
    if plain and not rest.keys() - {"key_types"} and not isinstance(content, Mapping):
        return content
    inside = dict(content) if isinstance(content, Mapping) else {} if content is None else {"(content)": content}
    if "key_types" in rest:
        inside["(key types)"] = rest.pop("key_types")
    return {**({} if plain else {"(class)": name}), **inside, **{f"({key})": item for key, item in rest.items()}}


def _steps(values: list[Any]) -> Any:
    """Steps of a pipeline by name; their order beside them."""
    if values and all(isinstance(one, list) and len(one) == 2 and isinstance(one[0], str) for one in values):
        named = {one[0]: one[1] for one in values}
        if len(named) == len(values):
            return {**named, "(order)": list(named)}
    return values
