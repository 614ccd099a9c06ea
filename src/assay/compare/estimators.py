"""One estimator pickled and the same in skops' form: compared part by part, as both say what they hold.

What only one of the two forms can say, or what neither comparison of tensors nor this one would see, makes them
incomparable; then nothing is claimed.
"""

from __future__ import annotations

from typing import Any

from assay.compare.covered import Cover
from assay.compare.gathering import Gathered, Judgement
from assay.compare.judging import judge_pickled
from assay.compare.objects import Atom, Numbers, Parts, Viewer
from assay.compare.pickled import open_pickles
from assay.compare.sides import Compared
from assay.compare.skops import ARRAY, plain_schema, steps
from assay.compare.values import changes
from assay.containers.archive import Archive
from assay.containers.guard import guarded
from assay.errors import AssayError
from assay.spec.changes import Area, Effect, ItemKind

PICKLED = frozenset({"pickle", "joblib"})
SKOPS = "skops"
MAX_VALUES = 500_000
_FORM = Judgement(Area.FORMAT, Effect.NOTE, "the same object in another form; both were compared part by part")


def compare_forms(gathered: Gathered, old: tuple[Compared, str, str], new: tuple[Compared, str, str]) -> bool:
    """Note what changed between an object pickled and one in skops' form; whether they could be compared.

    Args:
        gathered: where to note it.
        old, new: side, path and format.
    """
    if {old[2] in PICKLED, new[2] in PICKLED} != {True, False} or SKOPS not in {old[2], new[2]}:
        return False
    try:
        with guarded("an estimator", new[1]):
            before, after = (_plain(*side) for side in (old, new))
    except AssayError:
        return False
    found, cut = changes(before, after)
    if cut:
        return False
    gathered.add(_FORM, "format", ItemKind.CHANGED, old[2], new[2], f"{old[1]} → {new[1]}")
    gathered.changes(new[1], found, judge_pickled(new[1]))
    return True


def _plain(side: Compared, path: str, format_name: str) -> Any:
    cover = Cover.of(side, path)
    if format_name == SKOPS:
        return plain_schema(Archive(side.tree.open(path)), cover)
    opened = open_pickles(side.tree.open(path), cover)
    if len(opened.values) != 1:
        raise ValueError("not one object")
    return _Flat(opened.viewer).value(opened.values[0])


class _Flat:
    """A pickled object as a plain document."""

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer
        self.left = MAX_VALUES

    def value(self, value: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise ValueError("too many values")
        view = self.viewer.view(value)
        if isinstance(view, Atom) and not isinstance(view.value, bytes):
            return view.value
        if isinstance(view, Numbers) and view.held:
            return ARRAY
        if not isinstance(view, Parts) or view.kind == "set" or (not view.parts and view.kind not in _PLAIN):
            raise ValueError("something that skops says in another way")
        if view.kind in {"list", "tuple"}:
            return steps([self.value(part) for part in view.parts.values()])
        if not all(isinstance(name, str) and not name.startswith("(") for name in view.parts):
            raise ValueError("something that skops says in another way")
        inside = {name: self.value(part) for name, part in view.parts.items()}
        return inside if view.kind == "dict" else {"(class)": view.kind, **inside}


_PLAIN = frozenset({"dict", "list", "tuple"})
