"""The schema of a skops file as the object it stands for: classes, settings and steps under the names people know.

Nodes of the schema carry ids of the process that saved them and names of member files made of those ids; both are left
out, because they link the parts of one file and nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from assay.compare.archives import Part, held_array
from assay.compare.covered import Cover, window_digest
from assay.compare.documents import MAX_DOCUMENT
from assay.compare.gathering import Gathered, Judgement
from assay.compare.noise import noise
from assay.compare.values import Change, changes
from assay.containers.archive import Archive
from assay.containers.documents import parse_json, read_json
from assay.containers.guard import guarded
from assay.containers.npy import parse_npy
from assay.errors import AssayError
from assay.spec.changes import Area, Effect, ItemKind
from assay.trees import Window

Read = Callable[[str, str], Any]
"""Gives what a member file holds: an array where the second argument is its class, else a scalar."""
FEW = 64
"""Elements of an array up to which it is told by what it holds."""
NDARRAY = "ndarray"
ARRAY = "(array)"
_LINKS = frozenset({"__id__", "file", "__loader__", "__class__", "__module__"})
_NO_VALUES = frozenset({"void", "object"})
"""Types of elements that are no single numbers or texts: records of trees, pickled objects."""
_OWN = frozenset({"(key types)", "(protocol)", "(_skops_version)"})
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


def plain_schema(archive: Archive, cover: Cover) -> Any:
    """The object in a skops file, with its arrays as ``ARRAY``.

    Raises:
        AssayError, ValueError: it holds what is compared nowhere.
    """

    def read(name: str, kind: str) -> Any:
        if kind == NDARRAY:
            return ARRAY
        window = archive.open(name)
        header = parse_npy(window)
        values = np.frombuffer(window.exactly(header.offset, header.nbytes or 0), header.descr)
        if header.shape or values.size != 1:
            raise ValueError(f"{name} is no scalar")
        scalars.add(name)
        return values[0].item()

    scalars: set[str] = set()
    document = _node(read_json(archive.open("schema.json"), MAX_DOCUMENT).value, read)
    for member in archive.members:
        if member.name not in {"schema.json", *scalars} and not held_array(archive.open(member.name), cover):
            raise ValueError(f"{member.name} is no array that is listed")
    return bare(document)


def compare_arrays(gathered: Gathered, part: Part) -> bool:
    """Name the arrays and scalars that differ and for which no tensor stands; whether what differs is told by now."""
    try:
        with guarded("a skops file", part.path):
            sides = [(Archive(window), cover) for window, cover in ((part.old, part.before), (part.new, part.after))]
            told = [_node(_document(archive), _values(archive, cover)) for archive, cover in sides]
            plain = [_node(_document(archive), lambda _name, _kind: ARRAY) for archive, _ in sides]
            parts = changes(plain[0], plain[1])[0]
            found, cut = changes(told[0], told[1])
    except AssayError as error:
        gathered.unread(part.path, error.message, Area.PIPELINE)
        return True
    elsewhere = {change.keys for change in parts}  # told with the schema
    loose = [change for change in found if change.keys not in elsewhere]
    gathered.changes(part.path, loose, lambda change: _judge(part.path, change), cut=cut)
    # Parts that came or went bring their arrays along, and were told.
    return bool(loose) or any(_judge(part.path, change).effect is Effect.BEHAVIOUR for change in parts)


def _document(archive: Archive) -> Any:
    return read_json(archive.open("schema.json"), MAX_DOCUMENT).value


def _values(archive: Archive, cover: Cover) -> Read:
    """Arrays that no tensor stands for by what they hold: few texts and numbers as they are, others by a digest."""
    own = replace(cover, shapes=Counter(cover.shapes))

    def read(name: str, kind: str) -> Any:
        window = archive.open(name)
        if kind == NDARRAY and held_array(window, own):
            return ARRAY
        try:
            header = parse_npy(window)
        except AssayError:
            return f"array {window_digest(window)[:16]}"
        few = not header.shape or prod(header.shape) <= FEW
        if few and header.dtype not in _NO_VALUES:
            values = np.frombuffer(window.exactly(header.offset, header.nbytes or 0), header.descr)
            return values.tolist() if kind == NDARRAY else values[0].item()
        return f"{header.dtype}{list(header.shape)} {window_digest(window)[:16]}"

    return read


def bare(value: Any) -> Any:
    """A schema without what only skops says."""
    if isinstance(value, dict):
        return {key: bare(item) for key, item in value.items() if key not in _OWN}
    return [bare(item) for item in value] if isinstance(value, list) else value


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


def _node(value: Any, read: Read | None = None) -> Any:
    """A node as what it stands for: its class, and its content under the names it has there.

    With *read* arrays are ``ARRAY`` and NumPy's scalars are what their files hold, so that it can be held against the
    same object in another form.
    """
    if isinstance(value, list):
        return steps([_node(item, read) for item in value])
    if not isinstance(value, Mapping):
        return value
    if "__class__" not in value:
        return {key: _node(item, read) for key, item in value.items()}
    if read is not None and value.get("__loader__") == "TypeNode":
        return f"<{value.get('__module__')}.{value['__class__']}>"
    if read is not None and value.get("type") == "numpy" and isinstance(value.get("file"), str):
        return read(value["file"], value["__class__"])
    if value.get("__loader__") == "JsonNode" and isinstance(value.get("content"), str):
        return parse_json(value["content"].encode(), "schema.json").value
    rest = {key: _node(item, read) for key, item in value.items() if key not in _LINKS}
    content = rest.pop("content", None)
    name = f"{value.get('__module__')}.{value['__class__']}"
    plain = name.startswith("builtins.")
    if plain and not rest.keys() - {"key_types"} and not isinstance(content, Mapping):
        return content
    inside = dict(content) if isinstance(content, Mapping) else {} if content is None else {"(content)": content}
    if "key_types" in rest:
        inside["(key types)"] = rest.pop("key_types")
    return {**({} if plain else {"(class)": name}), **inside, **{f"({key})": item for key, item in rest.items()}}


def steps(values: list[Any]) -> Any:
    """Steps of a pipeline by name; their order beside them."""
    if values and all(isinstance(one, list) and len(one) == 2 and isinstance(one[0], str) for one in values):
        named = {one[0]: one[1] for one in values}
        if len(named) == len(values):
            return {**named, "(order)": list(named)}
    return values
