"""Comparing two sides: the one door into this room."""

from __future__ import annotations

from assay.compare.dropin import drop_in
from assay.compare.items import compare_items, in_order
from assay.compare.kinship import kinship
from assay.compare.renamed import renamed_items
from assay.compare.sentences import sentences
from assay.compare.sides import DEFAULT, Compared, Options
from assay.compare.tensors import Tensors, compare_tensors
from assay.spec.changes import Answer, Comparison, DropIn
from assay.streams.copying import digest_source

SAME_BYTES = DropIn(Answer.YES, ("the same bytes",))


def compare(old: Compared, new: Compared, options: Options = DEFAULT) -> Comparison:
    """Everything that changed from *old* to *new*."""
    equal_bytes = same_files(old, new)
    tensors = Tensors() if equal_bytes and not options.histograms else compare_tensors(old, new, options)
    beside, findings = compare_items(old, new, options)
    items = in_order((*beside, *renamed_items(old, new, tensors.changes)))
    every = (*tensors.findings, *findings)
    kin = kinship(old, new, tensors, items, equal_bytes=equal_bytes)
    decision = SAME_BYTES if equal_bytes else drop_in(old, new, tensors, items, every)
    return Comparison(
        old=old.side(),
        new=new.side(),
        kinship=kin,
        summary=sentences(old, new, kin, tensors, items, decision, every),
        drop_in=decision,
        tensors=tensors.changes,
        groups=tensors.groups,
        items=items,
        findings=every,
        histograms=tensors.histograms,
        equal_bytes=equal_bytes,
    )


def same_files(old: Compared, new: Compared) -> bool:
    """Whether both sides have the same files with the same bytes; reads only what has no digest yet."""
    if old.artifact.manifest is not None and new.artifact.manifest is not None:
        return old.artifact.manifest.digest == new.artifact.manifest.digest
    paths = old.tree.paths
    if paths != new.tree.paths or any(old.tree.size(path) != new.tree.size(path) for path in paths):
        return False
    return all(_digest(old, path) == _digest(new, path) for path in paths)


def _digest(side: Compared, path: str) -> object:
    known = side.digests.get(path)
    return known if known is not None else digest_source(side.tree.source(path))
