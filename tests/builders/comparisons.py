"""Comparisons made by hand: sides without files, tensors without bytes."""

from __future__ import annotations

from assay.artifact.collect import tree_of
from assay.artifact.reader import Artifact
from assay.compare.comparing import SAME_BYTES
from assay.compare.dropin import drop_in
from assay.compare.kinship import kinship
from assay.compare.sentences import sentences
from assay.compare.sides import Compared
from assay.compare.tensors import Tensors
from assay.spec.changes import (
    Area,
    Comparison,
    Effect,
    GroupChange,
    Histogram,
    Item,
    ItemKind,
    Match,
    Numbers,
    State,
    TensorChange,
)
from assay.spec.description import Description, Tokenizer
from assay.spec.inspection import Inspection
from assay.spec.tensor import TensorSpec


def side(label: str = "./old", *descriptions: Description, **fields: object) -> Compared:
    """One side: a description of the given fields, or those given."""
    found = descriptions or (Description(**{"format": "transformers", "paths": ("config.json",), **fields}),)
    inspection = Inspection(found, (), (), {"model": 1000})
    return Compared(label=label, artifact=Artifact(tree_of({}), inspection, manifest=None, decode=lambda *_: b""))


def unknown_side(label: str = "./odd") -> Compared:
    """One side that no format knows."""
    inspection = Inspection((), ("blob",), (), {"blob": 1000})
    return Compared(label=label, artifact=Artifact(tree_of({}), inspection, manifest=None, decode=lambda *_: b""))


def numbers(relative: float, *, correlation: float | None = None, size: int = 64, **more: object) -> Numbers:
    """Differences of tensors of mean 0 and standard deviation 1; a correlation gives the distance that belongs to it."""
    norm = size**0.5
    if correlation is not None:
        relative = (2 - 2 * correlation) ** 0.5
    cosine = 1 - relative**2 / 2
    fields = dict(
        relative_l2=relative, max_abs=relative, cosine=cosine, changed_fraction=1.0, difference_norm=relative * norm,
        old_norm=norm, new_norm=norm, old_mean=0.0, new_mean=0.0, old_std=1.0, new_std=1.0,
    )  # fmt: skip
    return Numbers(**{**fields, **more})


def change(
    name: str,
    state: State = State.EQUAL,
    relative: float = 0.06,
    *,
    shape: tuple[int, ...] = (8, 8),
    was: str | None = None,
    old_shape: tuple[int, ...] | None = None,
    dtypes: tuple[str, str] = ("float32", "float32"),
    compared: bool = True,
    shared: tuple[int, ...] | None = None,
    **more: object,
) -> TensorChange:
    """One tensor's change."""
    old = TensorSpec(was or name, dtypes[0], old_shape or shape)
    new = TensorSpec(name, dtypes[1], shape)
    if state is State.ADDED:
        return TensorChange(state=state, new=new)
    if state is State.REMOVED:
        return TensorChange(state=state, old=old)
    told = (
        None if state in {State.EQUAL, State.UNREADABLE} or not compared else numbers(relative, size=new.size, **more)
    )
    match = Match.RENAMED if was else Match.NAME
    return TensorChange(state=state, old=old, new=new, match=match, numbers=told, shared=shared)


def group(name: str, relative: float | None = None, *, ranks: tuple[int, ...] = (), **states: int) -> GroupChange:
    """One group; equal when nothing else is said."""
    given = {State(state): count for state, count in states.items()}
    return GroupChange(
        name=name,
        tensors=given or ({State.EQUAL: 2} if relative is None else {State.CHANGED: 2}),
        parameters=128,
        relative_l2=0.0 if relative is None and not given else relative,
        ranks=ranks,
    )


def item(area: Area, path: str, old: object = None, new: object = None, **more: object) -> Item:
    """One other difference."""
    fields = dict(kind=ItemKind.CHANGED, effect=Effect.BEHAVIOUR)
    return Item(area=area, path=path, old=old, new=new, **{**fields, **more})


def tokenizer(size: int = 100, **more: object) -> Tokenizer:
    """A tokenizer."""
    return Tokenizer("wordpiece", size, **more)


def told(
    old: Compared,
    new: Compared,
    changes: tuple[TensorChange, ...] = (),
    items: tuple[Item, ...] = (),
    *,
    groups: tuple[GroupChange, ...] = (),
    histograms: tuple[Histogram, ...] = (),
    findings: tuple = (),
    equal_bytes: bool = False,
) -> Comparison:
    """What is made of two sides and what differs between them."""
    tensors = Tensors(changes=changes, groups=groups)
    kin = kinship(old, new, tensors, items, equal_bytes=equal_bytes)
    decision = SAME_BYTES if equal_bytes else drop_in(old, new, tensors, items, findings)
    return Comparison(
        old=old.side(),
        new=new.side(),
        kinship=kin,
        summary=sentences(old, new, kin, tensors, items, decision, findings),
        drop_in=decision,
        tensors=changes,
        groups=groups,
        items=items,
        findings=findings,
        histograms=histograms,
        equal_bytes=equal_bytes,
    )
