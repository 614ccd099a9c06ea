"""Tensors that share their storage with another of their side: one parameter under two names.

torch keeps what is tied once and names it twice; safetensors files name it once. A second name that comes or goes is
told as the pair of the first one, so that it is no weight that was added or taken away.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace

from assay.spec.changes import Match, State, TensorChange
from assay.spec.tensor import TensorSpec

SHARES = "shares its storage with "
"""How the reason of such a pair begins."""


def second_names(changes: Sequence[TensorChange]) -> list[TensorChange]:
    """The changes, those of second names told as the change of the parameter that they name.

    Only where nothing but second names came, or went: with a head that was taken away goes the name it had for the
    embeddings, too.
    """
    found = list(changes)
    for state, side in ((State.ADDED, "new"), (State.REMOVED, "old")):
        alone = [at for at, change in enumerate(changes) if change.state is state]
        owners: dict[Hashable, TensorChange] = {
            _place(getattr(change, side)): change for change in changes if change.old and change.new
        }
        owners.pop(None, None)
        firsts = [owners.get(_place(getattr(changes[at], side))) for at in alone]
        if all(first is not None for first in firsts):
            for at, first in zip(alone, firsts, strict=True):
                assert first is not None
                found[at] = _second(changes[at], first, getattr(first, side))
    return found


def _second(change: TensorChange, first: TensorChange, owner: TensorSpec) -> TensorChange:
    old, new = change.old or first.old, change.new or first.new
    return replace(first, old=old, new=new, match=Match.CONTENT, reason=f"{SHARES}{owner.name}")


def is_second_name(change: TensorChange) -> bool:
    """Whether the pair is of a parameter that has another name on its side."""
    return (change.reason or "").startswith(SHARES)


def _place(spec: TensorSpec | None) -> Hashable:
    """Where the elements lie, and how they are read; None where that is not known."""
    if spec is None or spec.extent is None or not spec.size:
        return None
    return spec.extent, spec.dtype, spec.shape, spec.strides, spec.big_endian
