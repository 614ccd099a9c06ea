"""Comparing pairs of tensors: units of work for threads, each going through its stretch block by block.

Concept: memory is bounded by the block and the number of threads, not by the model. What a result is does not depend
on the number of threads: a unit's bounds are fixed by the tensor, and its sums are added up in order.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from math import prod

import numpy as np

from assay.artifact.elements import Array, ArrayElements, Elements
from assay.compare.arranging import Arrangement
from assay.compare.contents import Content
from assay.compare.numbers import BLOCK, Sums, Workspace, as_float64, cast_loss
from assay.compare.quantised import BlockType, round_trip
from assay.errors import AssayError
from assay.ports.progress import Progress

UNIT = 32 * BLOCK
"""Elements per unit of work; also after how many mapped pages are given back."""

SMALL = 1 << 16
"""Elements up to which everything is summed up in float64 at once."""

MAX_WAITING = 256
"""Units handed to the threads ahead of their results."""

HEAVY = 64 << 20
"""Bytes of a tensor that has to be in memory as a whole from which only one is, at any time."""

_heavy = threading.Lock()
_local = threading.local()


@dataclass(slots=True)
class Job:
    """One pair whose elements are compared.

    Args:
        old, new: the two tensors.
        arrangement: how the old elements are laid out.
        recast: whether their types differ, so that the cast is told apart.
    """

    old: Content
    new: Content
    arrangement: Arrangement
    recast: bool


@dataclass(slots=True)
class Result:
    """What became of one pair.

    Args:
        equal: whether all elements are equal, bit for bit.
        sums: over all elements; None when they are equal.
        failure: why the elements could not be compared.
    """

    equal: bool = False
    sums: Sums | None = None
    failure: str | None = None


def compare_all(jobs: Sequence[Job], workers: int, progress: Progress) -> Iterator[Result]:
    """The results of all jobs, in order.

    A tensor that cannot be read is a result with a failure, never an exception.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="assay-compare")
    waiting: deque[tuple[Job, list[Future[Sums | None]] | Future[Result]]] = deque()
    ahead = 0
    at = 0
    try:
        while at < len(jobs) or waiting:
            while at < len(jobs) and ahead < MAX_WAITING:
                futures, count = _submit(pool, jobs[at])
                waiting.append((jobs[at], futures))
                ahead += count
                at += 1
            job, futures = waiting.popleft()
            ahead -= len(futures) if isinstance(futures, list) else 1
            result = _collect(job, futures)
            progress.advance(job.old.nbytes + job.new.nbytes)
            yield result
    finally:
        pool.shutdown(cancel_futures=True)


def _submit(pool: ThreadPoolExecutor, job: Job) -> tuple[list[Future[Sums | None]] | Future[Result], int]:
    count = prod(job.arrangement.shared or job.new.shape)
    if count <= UNIT or not _streams(job):
        return pool.submit(_whole, job), 1
    futures = [pool.submit(_unit, job, start, min(start + UNIT, count)) for start in range(0, count, UNIT)]
    return futures, len(futures)


def _streams(job: Job) -> bool:
    """Whether a stretch of the pair can be read without the rest."""
    return job.old.spec.extent is not None and job.new.spec.extent is not None


def _collect(job: Job, futures: list[Future[Sums | None]] | Future[Result]) -> Result:
    if isinstance(futures, Future):
        return futures.result()
    found: list[Sums | None] = []
    failure: str | None = None
    for future in futures:
        try:
            found.append(future.result())
        except (AssayError, ValueError, OSError, MemoryError) as error:
            failure = failure or _words(error)
    if failure is not None:
        return Result(failure=failure)
    count = prod(job.arrangement.shared or job.new.shape)
    try:
        return _total(job, found, [(start, min(start + UNIT, count)) for start in range(0, count, UNIT)])
    except (AssayError, ValueError, OSError, MemoryError) as error:
        return Result(failure=_words(error))


def _whole(job: Job) -> Result:
    """Compare a pair in one go."""
    heavy = not _streams(job) and max(job.old.nbytes, job.new.nbytes) >= HEAVY
    try:
        if heavy:
            with _heavy:
                return _in_one(job)
        return _in_one(job)
    except (AssayError, ValueError, OSError, MemoryError) as error:
        return Result(failure=_words(error))


def _in_one(job: Job) -> Result:
    old, new = side_by_side(job)
    count = prod(new.shape)
    bounds = [(start, min(start + UNIT, count)) for start in range(0, count, UNIT)]
    found = [_stretch(job, old, new, start, stop, skip_equal=True) for start, stop in bounds]
    return _total(job, found, bounds, (old, new))


def _unit(job: Job, start: int, stop: int) -> Sums | None:
    old, new = side_by_side(job)
    return _stretch(job, old, new, start, stop, skip_equal=True)


def _total(
    job: Job,
    found: list[Sums | None],
    bounds: Sequence[tuple[int, int]],
    opened: tuple[Elements, Elements] | None = None,
) -> Result:
    """The sums of all units; units that were equal are summed up only when others were not."""
    if all(sums is None for sums in found):
        return Result(equal=True)
    total = Sums()
    for known, (start, stop) in zip(found, bounds, strict=True):
        sums = known
        if sums is None:
            old, new = opened or side_by_side(job)
            sums = _stretch(job, old, new, start, stop, skip_equal=False)
        assert sums is not None
        total.add(sums)
    return Result(sums=total)


def side_by_side(job: Job) -> tuple[Elements, Elements]:
    """The elements of both, arranged so that reading both flat reads what belongs together."""
    old, new, arrangement = job.old.elements(), job.new.elements(), job.arrangement
    if not arrangement.moves:
        return old, new
    if arrangement.shared is not None:
        return _rearranged(old, arrangement.cut(old.grid())), _rearranged(new, arrangement.cut(new.grid()))
    if isinstance(old, ArrayElements) or not isinstance(new, ArrayElements):
        return _rearranged(old, arrangement.apply(old.grid())), new
    return old, _rearranged(new, arrangement.undo(new.grid()))


def _rearranged(elements: Elements, array: Array) -> Elements:
    return elements.arranged(array) if isinstance(elements, ArrayElements) else ArrayElements(array)


def _stretch(job: Job, old: Elements, new: Elements, start: int, stop: int, *, skip_equal: bool) -> Sums | None:
    """Sums over one stretch; None when *skip_equal* and all of it is equal."""
    try:
        if skip_equal and old.dtype == new.dtype and not job.recast and _equal(old, new, start, stop):
            return None
        return _summed(job, old, new, start, stop)
    finally:
        old.release(start, stop)
        new.release(start, stop)


def _equal(old: Elements, new: Elements, start: int, stop: int) -> bool:
    for at in range(start, stop, BLOCK):
        one, other = old.stretch(at, min(at + BLOCK, stop)), new.stretch(at, min(at + BLOCK, stop))
        if not np.array_equal(_bits(one), _bits(other)):
            return False
    return True


def _bits(block: Array) -> Array:
    """Elements as integers of their width, so that equal means the same bits."""
    width = block.dtype.itemsize
    whole = np.ascontiguousarray(block)
    return whole.view(f"u{width}") if width in {1, 2, 4, 8} else whole.view(np.uint8)


def _summed(job: Job, old: Elements, new: Elements, start: int, stop: int) -> Sums:
    work = _workspace()
    exact = prod(new.shape) <= SMALL
    total = Sums()
    with np.errstate(all="ignore"):
        for at in range(start, stop, BLOCK):
            a, b = _real(old.stretch(at, min(at + BLOCK, stop))), _real(new.stretch(at, min(at + BLOCK, stop)))
            sums = work.sums(a, b, exact=exact)
            if job.recast:
                sums.cast = cast_of(a, job.old, job.new)
            total.add(sums)
    return total


def cast_of(a: Array, old: Content, new: Content) -> float:
    """Sum of squares of what storing a block of old elements as the new ones are stored loses; NaN if not known."""
    target, source = new.blocks, old.blocks
    if target is not None:
        return _stored_loss(a, target)
    dtype = new.dtype
    if dtype is None or (source is None and not old.floating and new.floating and old.dtype is None):
        return float("nan")
    return cast_loss(a, _part(dtype))


def _stored_loss(a: Array, kind: BlockType) -> float:
    numbers = a.astype(np.float32)
    with np.errstate(all="ignore"):
        left = round_trip(kind, numbers)
        if left is None:
            return float("nan")
        lost = as_float64(left) - as_float64(numbers)
        lost = lost[np.isfinite(lost)]
    return float(np.dot(lost, lost))


def _real(block: Array) -> Array:
    """Complex numbers as their two parts, truth values as 0 and 1."""
    if block.dtype.kind == "c":
        return np.ascontiguousarray(block).view(_part(block.dtype))
    return block.view(np.uint8) if block.dtype == np.bool_ else block


def _part(dtype: np.dtype[np.generic]) -> np.dtype[np.generic]:
    return np.dtype(f"{dtype.byteorder}f{dtype.itemsize // 2}") if dtype.kind == "c" else dtype


def _workspace() -> Workspace:
    found: Workspace | None = getattr(_local, "workspace", None)
    if found is None:
        found = _local.workspace = Workspace()
    return found


def _words(error: BaseException) -> str:
    return error.message if isinstance(error, AssayError) else f"{type(error).__name__}: {error}"


def raw_equal(old: Content, new: Content) -> bool:
    """Whether two tensors are stored in the same bytes.

    Raises:
        AssayError: they cannot be read.
    """
    one, other = old.stored(), new.stored()
    count = prod(one.shape)
    if count != prod(other.shape):
        return False
    try:
        return _equal(one, other, 0, count)
    finally:
        one.release(0, count)
        other.release(0, count)
