"""Pickled objects compared part by part: joblib, plain pickles, and what torch keeps beside its tensors.

Two graphs are walked in step. Every constant is compared; arrays and tensors that the description lists are left to the
comparison of tensors, every other array is compared by its bytes; what cannot be compared is said to differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from assay.compare.archives import Part
from assay.compare.boosted import trees_between
from assay.compare.covered import Cover
from assay.compare.gathering import Gathered, Judge, Judgement
from assay.compare.objects import Atom, Lost, Numbers, Parts, View, Viewer
from assay.compare.spellings import extent_of
from assay.compare.values import Change, same
from assay.containers.archive import Archive, is_archive
from assay.containers.compressed import unwrap
from assay.containers.guard import guarded
from assay.containers.pickle.parse import Parsed, parse
from assay.containers.pickle.values import Call, Global
from assay.errors import AssayError, BadFormat
from assay.spec.changes import Area, Effect, ItemKind
from assay.spec.finding import Severity
from assay.trees import Window

MAX_PAIRS = 4_000_000
"""Pairs of values visited in one file."""
MAX_STREAMS = 1_000
MAX_CHANGES = 5_000

LEGACY_PICKLES = 5
"""Pickles that stand before the storages in what torch wrote before 1.6; the fifth lists their keys."""
_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_LAYOUT = Judgement(Area.FORMAT, Effect.NOTE, "the layout of another release of torch, which holds the same")
_CLASS = "(class)"
PLAIN = frozenset({str, int, float, bool, type(None)})
ATTRIBUTES = "(attributes)"
"""Where what is set on an ordered dict stands beside its entries."""
MOVED = "the class moved inside its library"


@dataclass(slots=True)
class Opened:
    """A file of pickles.

    Args:
        values: what its streams say, in order.
        viewer: takes them apart.
    """

    values: list[Any]
    viewer: Viewer


class Joblib:
    """Follows what joblib puts between the opcodes; the hook of ``parse``."""

    def __init__(self, window: Window) -> None:
        self.window = window
        self.places: dict[int, Any] = {}
        self.inner: list[Parsed] = []

    def __call__(self, call: Call, position: int) -> int | None:
        """Where the stream goes on after a wrapper."""
        function = call.function
        wrapper = type(function) is Global and function.name == "NumpyArrayWrapper"
        if not wrapper or not function.module.endswith("joblib.numpy_pickle") or not isinstance(call.state, dict):
            return None
        length = extent_of(call.state)
        if length is None:
            parsed = parse(self.window, offset=position, on_build=self)
            self.inner.append(parsed)
            self.places[id(call)] = parsed
            return parsed.end if parsed.complete else self.window.size + 1
        if call.state.get("numpy_array_alignment_bytes") is not None:
            padding = self.window.read(position, 1)
            position += 1 + (padding[0] if padding else 0)
        self.places[id(call)] = (position, length)
        return position + length


def open_pickles(window: Window, cover: Cover) -> Opened:
    """Every stream of a file, compressed or not.

    Raises:
        BadFormat: it is no pickle, or not read to its end.
    """
    with guarded("a pickle", window.path):
        inside = unwrap(window)
        if any(finding.severity is Severity.INCOMPLETE for finding in inside.findings):
            raise BadFormat(f"{window.path}: its compressed stream breaks off", path=window.path)
        hook = Joblib(inside.window)
        values: list[Any] = []
        position = 0
        while position < inside.window.size and len(values) < MAX_STREAMS:
            parsed = parse(inside.window, offset=position, on_build=hook)
            if not parsed.complete or not all(one.complete for one in hook.inner):
                raise BadFormat(f"{window.path}: a pickle that is not read to its end", path=window.path)
            values.append(parsed.value)
            position = parsed.end
            if len(values) == LEGACY_PICKLES and values[0] == _MAGIC_NUMBER:
                values = values[3:4]  # the object; numbers of the layout before it, keys of storages behind it
                break
        return Opened(values, Viewer(inside.window, cover, hook.places, plain_bytes=not inside.codecs))


def compare_pickles(
    gathered: Gathered, old: tuple[Window, Cover], new: tuple[Window, Cover], path: str, judge: Judge
) -> None:
    """Note what changed between two files of pickles whose bytes differ."""
    try:
        before, after = open_pickles(*old), open_pickles(*new)
        with guarded("a pickle", path):
            walk = Walk(before.viewer, after.viewer)
            walk.compare(before.values, after.values)
    except AssayError as error:
        gathered.unread(path, error.message)
        return
    gathered.changes(path, walk.found, judge)
    if walk.lost:
        gathered.unread(path, walk.lost)


def compare_layouts(gathered: Gathered, part: Part, judge: Judge) -> None:
    """Note what changed between two files of torch of which one is a zip archive and the other the layout before it."""
    sides = []
    try:
        with guarded("a torch file", part.path):
            for window, cover in ((part.old, part.before), (part.new, part.after)):
                sides.append((_object(window), cover))
    except AssayError as error:
        gathered.unread(part.path, error.message)
        return
    count = len(gathered.items)
    compare_pickles(gathered, sides[0], sides[1], part.path, judge)
    if len(gathered.items) == count:
        gathered.add(_LAYOUT, part.path, ItemKind.CHANGED)


def _object(window: Window) -> Window:
    """Where the pickled object lies: the member of an archive, or the file itself."""
    if not is_archive(window.read(0, 4)):
        return window
    archive = Archive(window)
    names = [member.name for member in archive.members if member.name.rpartition("/")[2] == "data.pkl"]
    if len(names) != 1:
        raise ValueError("no one data.pkl")
    return archive.open(names[0])


class Walk:
    """Two graphs in step.

    Attributes:
        found: what differs.
        lost: why something could not be compared; empty when everything was.
    """

    def __init__(self, old: Viewer, new: Viewer) -> None:
        self.old = old
        self.new = new
        self.found: list[Change] = []
        self.lost = ""
        self._seen: set[tuple[int, int]] = set()
        self._kept: list[Any] = []  # values made here: what is known by identity must not go away
        self._left = MAX_PAIRS

    def compare(self, before: list[Any], after: list[Any]) -> None:
        """Compare the values of all streams."""
        if len(before) != len(after):
            text = f"{len(before)} pickled objects before, {len(after)} now"
            self.found.append(Change((), ItemKind.CHANGED, len(before), len(after), text))
            return
        stack = [((at,) if len(before) > 1 else (), one, after[at]) for at, one in enumerate(before)]
        while stack:
            keys, one, other = stack.pop()
            if id(one) == id(other) or (id(one), id(other)) in self._seen:
                continue
            if isinstance(one, (Call, dict, list, tuple)):
                self._seen.add((id(one), id(other)))
            self._left -= 1
            if self._left < 0 or len(self.found) >= MAX_CHANGES:
                self.lost = "too many values or too many differences"
                return
            stack.extend(reversed(self._pair(keys, self.old.view(one), self.new.view(other))))

    def _pair(self, keys: tuple[Any, ...], one: View, other: View) -> list[tuple[tuple[Any, ...], Any, Any]]:
        if isinstance(one, Lost) or isinstance(other, Lost):
            reason = one.reason if isinstance(one, Lost) else other.reason if isinstance(other, Lost) else ""
            self.lost = self.lost or reason
            return []
        if isinstance(one, Atom) and isinstance(other, Atom):
            if not same(one.value, other.value):
                text = trees_between(one.value, other.value)
                old, new = (None, None) if text else (told(one), told(other))
                self.found.append(Change(keys, ItemKind.CHANGED, old, new, text))
            return []
        if isinstance(one, Numbers) and isinstance(other, Numbers):
            self._numbers(keys, one, other)
            return []
        if isinstance(one, Parts) and isinstance(other, Parts):
            return self._parts(keys, one, other)
        self.found.append(Change(keys, ItemKind.CHANGED, told(one), told(other)))
        return []

    def _numbers(self, keys: tuple[Any, ...], one: Numbers, other: Numbers) -> None:
        if one.held and other.held:
            return
        if one.held is not other.held and told(one) != told(other):
            self.found.append(Change(keys, ItemKind.CHANGED, told(one), told(other)))
            return
        if one.digest is None or other.digest is None:
            self.lost = self.lost or "an array that no tensor stands for"
        elif one.digest != other.digest or one.text != other.text:
            self.found.append(Change(keys, ItemKind.CHANGED, one.text, other.text, "the elements differ"))

    def _parts(self, keys: tuple[Any, ...], one: Parts, other: Parts) -> list[tuple[tuple[Any, ...], Any, Any]]:
        if one.kind != other.kind:
            text = MOVED if _moved(one.kind, other.kind) else None
            self.found.append(Change((*keys, _CLASS), ItemKind.CHANGED, one.kind, other.kind, text))
            if text is None:
                return []
        if one.kind in {"list", "tuple"}:
            named, renamed = _steps(one), _steps(other)
            if named is None or renamed is None:
                if len(one.parts) != len(other.parts):
                    text = f"{len(one.parts):,} entries before, {len(other.parts):,} now"
                    self.found.append(Change(keys, ItemKind.CHANGED, told(one), told(other), text))
                    return []
            else:
                self._order(keys, named, renamed)
                self._kept.append((named, renamed))
                one, other = Parts("dict", named), Parts("dict", renamed)
        both = []
        for name, part in one.parts.items():
            if name in other.parts:
                there = other.parts[name]
                if type(part) is type(there) and type(part) in PLAIN and same(part, there):
                    self._left -= 1
                    continue  # most of what there is, and nothing to take apart
                both.append(((*keys, name), part, there))
            else:
                self._alone((*keys, name), part, self.old, ItemKind.REMOVED)
        for name, part in other.parts.items():
            if name not in one.parts:
                self._alone((*keys, name), part, self.new, ItemKind.ADDED)
        return both

    def _order(self, keys: tuple[Any, ...], one: dict[Any, Any], other: dict[Any, Any]) -> None:
        if [name for name in one if name in other] != [name for name in other if name in one]:
            self.found.append(Change(keys, ItemKind.CHANGED, list(one), list(other), "the order changed"))

    def _alone(self, keys: tuple[Any, ...], value: Any, viewer: Viewer, kind: ItemKind) -> None:
        """Note a part without a partner, unless it is tensors and nothing else: those are told as tensors."""
        if keys[-1] == ATTRIBUTES and isinstance(value, dict) and value:
            for name, inner in value.items():
                self._alone((*keys, str(name)), inner, viewer, kind)
            return
        if self._only_tensors(value, viewer):
            return
        text = told(viewer.view(value))
        self.found.append(
            Change(
                keys, kind, old=text if kind is ItemKind.REMOVED else None, new=text if kind is ItemKind.ADDED else None
            )
        )

    def _only_tensors(self, value: Any, viewer: Viewer) -> bool:
        stack, met = [value], 0
        seen: set[int] = set()
        while stack:
            one = stack.pop()
            if id(one) in seen:
                continue
            seen.add(id(one))
            self._left -= 1
            view = viewer.view(one)
            if isinstance(view, Numbers) and view.held:
                met += 1
            elif isinstance(view, Parts) and view.kind == "dict" and self._left > 0:
                stack.extend(view.parts.values())
            else:
                return False
        return met > 0


def told(view: View) -> Any:
    """What a value is, in a word or as it is."""
    if isinstance(view, Atom):
        return view.value if not isinstance(view.value, bytes) else f"{len(view.value):,} bytes"
    if isinstance(view, Numbers):
        return view.text
    if isinstance(view, Parts):
        return f"{view.kind} of {len(view.parts):,}" if view.kind in {"dict", "list", "tuple", "set"} else view.kind
    return view.reason


def _moved(one: str, other: str) -> bool:
    """Whether two class names are one class: its module became private, or a package keeps it one level deeper.

    >>> (
    ...     _moved("sklearn.svm.classes.SVC", "sklearn.svm._classes.SVC"),
    ...     _moved("sklearn.svm.SVC", "sklearn.svm._base.SVC"),
    ... )
    (True, True)
    >>> _moved("sklearn.svm._classes.SVC", "sklearn.dummy._classes.SVC")
    False
    """
    (module, _, name), (another, _, called) = one.rpartition("."), other.rpartition(".")
    parts, others = ([part.lstrip("_") for part in text.split(".")] for text in (module, another))
    shorter = min(len(parts), len(others))
    return name == called and shorter > 1 and parts[:shorter] == others[:shorter] and abs(len(parts) - len(others)) < 2


def _steps(view: Parts) -> dict[Any, Any] | None:
    """The steps of a pipeline by name: a list of tuples that all begin with a text of their own."""
    steps: dict[Any, Any] = {}
    for part in view.parts.values():
        if not isinstance(part, tuple) or len(part) < 2 or not isinstance(part[0], str):
            return None
        steps[part[0]] = part[1] if len(part) == 2 else part[1:]
    return steps if steps and len(steps) == len(view.parts) else None
