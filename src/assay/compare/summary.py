"""What a comparison means: how the two relate, whether new can take old's place, and a few sentences about it."""

from __future__ import annotations

from collections.abc import Sequence

from assay.compare.sides import Compared
from assay.compare.tensors import Tensors
from assay.spec.changes import DropIn, Item, Kinship
from assay.spec.finding import Finding


def kinship(old: Compared, new: Compared, tensors: Tensors, items: Sequence[Item], *, equal_bytes: bool) -> Kinship:
    """How the new one relates to the old one."""
    raise NotImplementedError


def drop_in(
    old: Compared, new: Compared, tensors: Tensors, items: Sequence[Item], findings: Sequence[Finding]
) -> DropIn:
    """Whether whoever calls the old one can call the new one instead."""
    raise NotImplementedError


def sentences(
    old: Compared, new: Compared, kin: Kinship, tensors: Tensors, items: Sequence[Item], decision: DropIn
) -> tuple[str, ...]:
    """Two to six sentences a person would write."""
    raise NotImplementedError
