"""Tensors of two sides: matched, then compared element by element in blocks."""

from __future__ import annotations

from dataclasses import dataclass

from assay.compare.sides import Compared, Options
from assay.spec.changes import GroupChange, Histogram, TensorChange
from assay.spec.finding import Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensors:
    """What became of the tensors.

    Args:
        changes: in the order of the new side, then what was removed, in the order of the old one.
        groups: rolled up, in model order.
        histograms: as asked for.
        findings: what could not be compared.
    """

    changes: tuple[TensorChange, ...] = ()
    groups: tuple[GroupChange, ...] = ()
    histograms: tuple[Histogram, ...] = ()
    findings: tuple[Finding, ...] = ()


def compare_tensors(old: Compared, new: Compared, options: Options) -> Tensors:
    """Match the tensors of two sides and compare their elements; memory is bounded by the block, not by the model."""
    raise NotImplementedError
