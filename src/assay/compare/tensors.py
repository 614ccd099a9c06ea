"""Tensors of two sides: matched, then compared element by element in blocks."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from assay.compare.arranging import SAME
from assay.compare.blocks import Job, Result, compare_all, raw_equal
from assay.compare.contents import Content, contents
from assay.compare.groups import group_names, roll_up
from assay.compare.histograms import Members, histograms
from assay.compare.matching import Matching, Pair
from assay.compare.ranks import is_matrix, ranks
from assay.compare.remembered import Remembered, tensor_digest
from assay.compare.sampling import Samples
from assay.compare.shared import second_names
from assay.compare.sides import Compared, Options
from assay.errors import AssayError
from assay.spec.changes import GroupChange, Histogram, State, TensorChange
from assay.spec.finding import Finding, Severity

MAX_FINDINGS = 100
"""Tensors that could not be compared and are told one by one; the others are counted."""


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
    """Match the tensors of two sides and compare their elements; memory is bounded by the block, not by the model.

    Optimizer state and tensors without elements are left out. What cannot be read is told in ``findings``.
    """
    (before, left_old), (after, left_new) = contents(old), contents(new)
    pairs = Matching(before, after, Samples() if options.tensors else None).pairs()
    comparing = _Comparing(pairs, options)
    changes = second_names(comparing.changes())
    names = group_names([change.name for change in changes])
    return Tensors(
        changes=tuple(changes),
        groups=roll_up(changes, names),
        histograms=_histograms(pairs, names, options),
        findings=(*_unreadable(changes), *_left_out(left_old, left_new)),
    )


class _Comparing:
    """One comparison under way.

    Args:
        pairs: what belongs together.
        options: how it is done.
    """

    def __init__(self, pairs: Sequence[Pair], options: Options) -> None:
        self._pairs = pairs
        self._options = options
        self._memory = Remembered(options.memory)
        self._jobs: dict[int, Job] = {}

    def changes(self) -> list[TensorChange]:
        """What became of each pair."""
        found = [self._first_look(at, pair) for at, pair in enumerate(self._pairs)]
        total = sum(job.old.nbytes + job.new.nbytes for job in self._jobs.values())
        self._options.progress.start("comparing tensors", total)
        try:
            results = compare_all(list(self._jobs.values()), workers(self._options), self._options.progress)
            for (at, job), result in zip(self._jobs.items(), results, strict=True):
                found[at] = self._outcome(job, found[at], result)
            self._estimate_ranks(found)
        finally:
            self._options.progress.finish()
            self._memory.save()
        return found

    def _first_look(self, at: int, pair: Pair) -> TensorChange:
        """What can be said without reading; pairs that must be read are put down as jobs."""
        old, new = pair.old, pair.new
        if old is None or new is None:
            state = State.ADDED if old is None else State.REMOVED
            return TensorChange(state=state, old=old.spec if old else None, new=new.spec if new else None)
        change = TensorChange(
            state=State.CHANGED,
            old=old.spec,
            new=new.spec,
            match=pair.match,
            transform=pair.arrangement.transform if pair.arrangement else None,
            shared=pair.arrangement.shared if pair.arrangement else None,
        )
        if pair.arrangement is None or not self._options.tensors:
            return self._by_outline(change, old, new)
        if pair.arrangement is SAME and self._known_equal(old, new):
            return replace(change, state=State.EQUAL)
        if not (old.comparable and new.comparable):
            return _compared_as_bytes(change, old, new)
        if ("complex" in old.spec.dtype) is not ("complex" in new.spec.dtype):
            reason = "complex numbers and plain ones cannot be compared"
            return replace(change, state=State.UNREADABLE, reason=reason)
        self._jobs[at] = Job(old, new, pair.arrangement, recast=old.spec.dtype != new.spec.dtype)
        return change

    def _by_outline(self, change: TensorChange, old: Content, new: Content) -> TensorChange:
        """Shapes and types alone: where shapes cannot be brought together, or elements are not asked for."""
        if old.shape != new.shape and change.transform is None:
            return replace(change, state=State.RESHAPED)
        if self._known_equal(old, new):
            return replace(change, state=State.EQUAL)
        if old.spec.dtype != new.spec.dtype:
            return replace(change, state=State.RECAST)
        return replace(change, state=State.UNREADABLE, reason="elements were not compared")

    def _known_equal(self, old: Content, new: Content) -> bool:
        """Whether they are the same bytes of the same blob, or known to have equal elements."""
        if old.shape != new.shape or old.spec.dtype != new.spec.dtype:
            return False
        if old.key is not None and old.key == new.key:
            return True
        known = self._memory.digest(old)
        return known is not None and known == self._memory.digest(new)

    def _outcome(self, job: Job, change: TensorChange, result: Result) -> TensorChange:
        if result.failure is not None:
            return replace(change, state=State.UNREADABLE, reason=result.failure)
        equal = result.equal or (result.sums is not None and result.sums.changed == 0)
        if job.arrangement.shared is not None:
            numbers = result.sums.numbers(recast=job.recast) if result.sums is not None and not equal else None
            return replace(change, state=State.RESHAPED, numbers=numbers)
        if equal and not job.recast:
            if result.equal and not job.arrangement.moves:
                self._remember(job)
            return replace(change, state=State.EQUAL)
        assert result.sums is not None
        if not equal and job.old.floating is not job.new.floating:
            reason = f"integers of {job.new.spec.dtype} stand for floats by a scale that is not in the tensor"
            if job.old.floating:
                return replace(change, state=State.RECAST, reason=reason)
            return replace(change, state=State.RECAST, reason=reason.replace(job.new.spec.dtype, job.old.spec.dtype))
        numbers = result.sums.numbers(recast=job.recast)
        return replace(change, state=State.RECAST if job.recast else State.CHANGED, numbers=numbers)

    def _remember(self, job: Job) -> None:
        """Equal tensors have one digest: it is taken once, so that the next comparison need not read them."""
        if not self._memory.wants(job.old, job.new):
            return
        digest = self._memory.digest(job.old) or self._memory.digest(job.new) or tensor_digest(job.new)
        if digest is not None:
            self._memory.keep(job.old, digest)
            self._memory.keep(job.new, digest)

    def _estimate_ranks(self, found: list[TensorChange]) -> None:
        if not self._options.ranks:
            return
        asked = [at for at, job in self._jobs.items() if found[at].numbers is not None and is_matrix(job)]
        for at, rank in zip(asked, ranks([self._jobs[at] for at in asked]), strict=True):
            numbers = found[at].numbers
            if rank is not None and numbers is not None:
                found[at] = replace(found[at], numbers=replace(numbers, rank=rank))


def workers(options: Options) -> int:
    """How many threads: as asked, else one per processor this process may use."""
    if options.workers is not None:
        return max(1, options.workers)
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def _compared_as_bytes(change: TensorChange, old: Content, new: Content) -> TensorChange:
    """Tensors whose elements are no plain numbers are equal when their bytes are; otherwise nothing is known."""
    if old.shape != new.shape:
        reason = f"numbers stored as {new.spec.dtype} cannot be read"
        return replace(change, state=State.RESHAPED, shared=None, reason=reason)
    if old.spec.dtype != new.spec.dtype:
        reason = f"{old.spec.dtype} and {new.spec.dtype} cannot be compared"
        return replace(change, state=State.UNREADABLE, reason=reason)
    try:
        if raw_equal(old, new):
            return replace(change, state=State.EQUAL)
    except (AssayError, ValueError, OSError) as error:
        reason = error.message if isinstance(error, AssayError) else str(error)
        return replace(change, state=State.UNREADABLE, reason=reason)
    reason = f"the bytes differ, and numbers stored as {new.spec.dtype} cannot be read"
    return replace(change, state=State.UNREADABLE, reason=reason)


def _unreadable(changes: Sequence[TensorChange]) -> list[Finding]:
    missed = [change for change in changes if change.state is State.UNREADABLE]
    found = []
    for change in missed[:MAX_FINDINGS]:
        spec = change.new or change.old
        path = spec.extent.path if spec is not None and spec.extent is not None else ""
        message = f"tensor {change.name!r} was not compared: {change.reason}"
        found.append(Finding("diff-unreadable-tensor", Severity.INCOMPLETE, message, path))
    if len(missed) > MAX_FINDINGS:
        message = f"{len(missed) - MAX_FINDINGS:,} more tensors were not compared"
        found.append(Finding("diff-unreadable-tensor", Severity.INCOMPLETE, message))
    return found


def _left_out(old: int, new: int) -> list[Finding]:
    if not old and not new:
        return []
    message = f"{max(old, new):,} tensors of optimizer state were left out: nothing the model computes depends on them"
    return [Finding("diff-optimizer-state", Severity.NOTE, message)]


def _histograms(pairs: Sequence[Pair], names: Sequence[str], options: Options) -> tuple[Histogram, ...]:
    if not options.histograms:
        return ()
    members: defaultdict[str, list[tuple[Content | None, Content | None]]] = defaultdict(list)
    for pair, name in zip(pairs, names, strict=True):
        members[name].append((pair.old, pair.new))
    groups: list[tuple[str, Members]] = list(members.items())
    return histograms(groups, workers(options))
