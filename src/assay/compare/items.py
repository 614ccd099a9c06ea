"""Everything that is not a tensor: settings, tokenizer, graph, dependencies, what is said, files."""

from __future__ import annotations

from collections.abc import Sequence

from assay.compare.sides import Compared, Options
from assay.spec.changes import Item
from assay.spec.finding import Finding


def compare_items(old: Compared, new: Compared, options: Options) -> tuple[Sequence[Item], Sequence[Finding]]:
    """Every difference beside tensors, most important area first, and what could not be compared."""
    raise NotImplementedError
