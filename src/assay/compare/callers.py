"""What callers rely on beside inputs and outputs: classes, methods, names under which weights are looked for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from assay.compare.renamed import NAMES
from assay.compare.sides import Compared
from assay.compare.words import brief, listing
from assay.spec.changes import Answer, Area, Effect, Item, ItemKind, State, TensorChange

CLASSES = "classes_"
"""Where scikit-learn keeps what its classifiers answer."""
_CLASS = ".(class)"


def relied_on(new: Compared, changes: Sequence[TensorChange], items: Sequence[Item]) -> Iterator[tuple[Answer, str]]:
    """What the answers mean, which methods there are, and what is looked for by name."""
    yield from _answers(changes, items)
    yield from _methods(new, items)
    for item in items:
        if item.path == NAMES and item.effect is Effect.BEHAVIOUR:
            example = brief((item.text or "").partition(": ")[2])
            yield Answer.UNKNOWN, f"tensors have other names ({example}): what loads it may not find them"
    stated = [
        brief(item.path.rpartition(": ")[2])
        for item in items
        if item.area is Area.DEPENDENCIES and item.kind is ItemKind.ADDED and item.effect is Effect.BEHAVIOUR
        if not item.path.startswith("requirements: ") and ": " in item.path
    ]
    if stated:
        yield Answer.NO, f"its requirements name {listing(stated, 4)} now"


def _answers(changes: Sequence[TensorChange], items: Sequence[Item]) -> Iterator[tuple[Answer, str]]:
    """A classifier whose classes have other names gives other answers."""
    for item in items:
        places = item.path.rpartition(": ")[2].split(".")
        if item.area is Area.PIPELINE and CLASSES in places and item.effect is Effect.BEHAVIOUR:
            told = f" ({brief(item.old)} → {brief(item.new)})" if item.old is not None and item.new is not None else ""
            yield Answer.NO, f"it gives other classes{told}"
            return
    for change in changes:
        last = re.split(r"[./]", change.name)[-1]
        if last == CLASSES and change.old and change.new and change.state not in {State.EQUAL, State.UNREADABLE}:
            yield Answer.NO, f"it gives other classes ({brief(change.name)})"
            return


def _methods(new: Compared, items: Sequence[Item]) -> Iterator[tuple[Answer, str]]:
    """The last step of a pipeline says what can be called."""
    described = new.inspection.leading
    parts = described.components if described is not None else ()
    places = {_CLASS.strip(".")}
    if len(parts) == 1 and parts[0].children:
        last = f"{parts[0].children[-1].name}{_CLASS}"
        places |= {last, f"steps.{last}"}
    for item in items:
        if item.area is Area.PIPELINE and item.path.rpartition(": ")[2] in places and item.old and item.new:
            names = [brief(str(value).rpartition(".")[2]) for value in (item.old, item.new)]
            yield Answer.UNKNOWN, f"another class ({names[0]} → {names[1]}): its methods may differ"
