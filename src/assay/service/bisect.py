"""Bisect: between a version that is good and one that is bad, find the first one that is not as the older of the two.

The line of versions from the older end to the newer one is halved: of those that can still be tested the middle one
is, and whatever it turns out to be, at most half of them are left. *m* versions between the ends take at most
⌈log2(m + 1)⌉ tests, and one more for each that cannot be tested. Both ends are trusted as given. When the newer end is
the good one, what is looked for is the version that mended it.

Over a metric that was recorded nothing is run: every value between the ends is read, so that it can also be told
whether it changed more than once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from assay.errors import InvalidInput
from assay.service.evaluations import Column, readings
from assay.service.registry import Registry
from assay.spec.evaluation import lower_is_better
from assay.spec.records import Version
from assay.spec.reference import Reference


class Outcome(StrEnum):
    """What a test says of a version."""

    GOOD = "good"
    BAD = "bad"
    SKIP = "skip"
    """It cannot be tested."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came out of one test.

    Args:
        outcome: what it says.
        status: exit status of the command that was run; None where none was.
        value: the metric's value; None where none was read.
        why: why it was skipped, in words.
        ran: whether anything was run for it.
    """

    outcome: Outcome
    status: int | None = None
    value: float | None = None
    why: str | None = None
    ran: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One version, tested."""

    version: Version
    tested: Result


@dataclass(frozen=True, slots=True)
class Span:
    """The versions from one end to the other.

    Args:
        line: oldest first, both ends included.
        seeking: what the newer end is: the first such version is looked for.
    """

    line: tuple[Version, ...]
    seeking: Outcome

    @property
    def older(self) -> Version:
        """The older end."""
        return self.line[0]

    @property
    def newer(self) -> Version:
        """The newer end."""
        return self.line[-1]

    @property
    def good(self) -> Version:
        """The end that is good."""
        return self.older if self.seeking is Outcome.BAD else self.newer

    @property
    def bad(self) -> Version:
        """The end that is bad."""
        return self.newer if self.seeking is Outcome.BAD else self.older

    def of(self, version: Version) -> Outcome:
        """What an end was given as."""
        return Outcome.GOOD if version == self.good else Outcome.BAD


@dataclass(frozen=True, slots=True)
class Found:
    """The outcome of a search.

    Args:
        span: where it searched.
        candidates: the versions one of which is the first that is as the newer end, oldest first; exactly one when
            it was found.
        before: the newest version before all of them that is known to be as the older end.
        steps: what was tested, in that order.
        again: versions after the answer that are as the older end: it changed more than once.
        notes: what a person should know about the answer.
    """

    span: Span
    candidates: tuple[Version, ...]
    before: Version
    steps: tuple[Step, ...]
    again: tuple[Version, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def first(self) -> Version | None:
        """The first version that is as the newer end; None when skipped versions hide it."""
        return self.candidates[0] if len(self.candidates) == 1 else None

    @property
    def tests(self) -> int:
        """How many versions something was run for."""
        return sum(step.tested.ran for step in self.steps)

    @property
    def skipped(self) -> tuple[Step, ...]:
        """What could not be tested."""
        return tuple(step for step in self.steps if step.tested.outcome is Outcome.SKIP)


@dataclass(frozen=True, slots=True)
class Limit:
    """From where on a recorded metric is bad.

    Args:
        threshold: a value that is worse than this is bad.
        drop: a value that is worse than the good end's by more than this is bad; in the metric's own unit.
        lower: metrics of which less is better although their names do not say so.

    Neither is: the middle between the ends' values.
    """

    threshold: float | None = None
    drop: float | None = None
    lower: frozenset[str] = field(default_factory=frozenset)


def span(registry: Registry, name: str, good: str, bad: str) -> Span:
    """The versions between two of a model.

    Args:
        registry: where.
        name: the model.
        good: number or alias of a version that is good.
        bad: of one that is bad.

    Raises:
        NotFound: there is no such model, version or alias.
        InvalidInput: both are the same version (code ``same-version``), or one is no label (``invalid-reference``).
    """
    ends = {Outcome.GOOD: _end(registry, name, good), Outcome.BAD: _end(registry, name, bad)}
    older, newer = sorted(ends, key=lambda outcome: ends[outcome].number)
    if ends[older].number == ends[newer].number:
        raise InvalidInput(
            f"{ends[older].reference} is given as good and as bad; expected two versions",
            code="same-version",
            hint=f"assay ls {name} shows its versions",
        )
    numbers = range(ends[older].number, ends[newer].number + 1)
    line = tuple(version for version in reversed(registry.catalog.versions(name)) if version.number in numbers)
    return Span(line, newer)


def search(
    within: Span, test: Callable[[Version], Result], *, told: Callable[[Step, int], None] | None = None
) -> Found:
    """Find the first version that is as the newer end, by testing few.

    Args:
        within: where.
        test: says what a version is; it is asked at most once about each.
        told: hears each step, and how many versions are left that could be tested.
    """
    steps: list[Step] = []
    known = {0: within.of(within.older), len(within.line) - 1: within.seeking}
    for at, version in enumerate(within.line[1:-1], 1):
        if version.gone:
            steps.append(Step(version, Result(Outcome.SKIP, why=_gone(version))))
            known[at] = Outcome.SKIP
    while True:
        low, high = _bounds(known, within.seeking)
        left = [at for at in range(low + 1, high) if at not in known]
        if not left:
            break
        at = left[len(left) // 2]
        tested = test(within.line[at])
        known[at] = tested.outcome
        steps.append(Step(within.line[at], tested))
        low, high = _bounds(known, within.seeking)
        if told is not None:
            told(steps[-1], sum(at not in known for at in range(low + 1, high)))
    said = [step.tested.outcome for step in steps if step.tested.outcome is not Outcome.SKIP]
    notes = [_one_sided(within, said[0])] if len(said) > 1 and len(set(said)) == 1 else []
    return Found(within, within.line[low + 1 : high + 1], within.line[low], tuple(steps), notes=tuple(notes))


def search_recorded(
    registry: Registry, within: Span, metric: str, *, dataset: str | None = None, limit: Limit = Limit()
) -> Found:
    """Find the first version whose recorded metric is as bad (or as good) as the newer end's; nothing is run.

    Args:
        registry: where the statements are.
        within: where to look.
        metric: which.
        dataset: its dataset, by name or digest; as ``Readings.column`` chooses when None.
        limit: from where on a value is bad.

    Raises:
        InvalidInput: no version has it (codes ``metric-not-recorded``, ``ambiguous-dataset``), or nothing tells good
            from bad (code ``metric-undecided``).
    """
    read = readings(registry, within.line)
    column = read.column(metric, dataset)
    values = read.values[column]
    is_bad, bound = _judge(within, column, values, limit)
    said = {number: Outcome.BAD if is_bad(value) else Outcome.GOOD for number, value in values.items()}
    steps = [Step(version, _recorded(version, column, values, said)) for version in within.line]
    inner = steps[1:-1]
    order = [within.of(within.older), *(step.tested.outcome for step in inner), within.seeking]
    high = order.index(within.seeking)
    low = max(at for at in range(high) if order[at] not in (within.seeking, Outcome.SKIP))
    back = [at for at in range(high + 1, len(order)) if order[at] is order[0]]
    notes = [f"bad is {bound}"]
    if back:
        lasting = next(at for at in range(back[-1] + 1, len(order)) if order[at] is within.seeking)
        notes.append(
            f"from {within.line[lasting].reference} on, every version that was measured is {within.seeking.value}"
        )
    for end in (within.older, within.newer):
        if said.get(end.number, within.of(end)) is not within.of(end):
            value = f"{column.label} is {values[end.number]:g}"
            notes.append(f"{end.reference} is given as {within.of(end).value}, which is trusted, although {value}")
    if damaged := [version.reference for version in within.line if version.number in read.damaged]:
        notes.append(f"statements of {', '.join(damaged)} are damaged and were not read; assay verify says more")
    return Found(
        within,
        within.line[low + 1 : high + 1],
        within.line[low],
        tuple(steps),
        again=tuple(within.line[at] for at in back),
        notes=tuple(notes),
    )


def _end(registry: Registry, name: str, label: str) -> Version:
    """A version by its label; one that was removed or purged can still be an end."""
    if label.isascii() and label.isdecimal() and (version := registry.catalog.version(name, int(label))) is not None:
        return version
    reference = Reference.parse(label if ":" in label else f"{name}:{label}")
    if reference.name != name:
        raise InvalidInput(
            f"{label} is a version of {reference.name}; expected one of {name}",
            code="invalid-reference",
            hint="give a number or an alias",
        )
    return registry.resolve(reference)


def _bounds(known: Mapping[int, Outcome], seeking: Outcome) -> tuple[int, int]:
    """The last place before the change, and the first one after it, as far as is known."""
    high = min(at for at, outcome in known.items() if outcome is seeking)
    return max(at for at, outcome in known.items() if at < high and outcome not in (seeking, Outcome.SKIP)), high


def _gone(version: Version) -> str:
    return f"removed: {version.removed}" if version.removed is not None else f"purged: {version.purged}"


def _recorded(version: Version, column: Column, values: Mapping[int, float], said: Mapping[int, Outcome]) -> Result:
    if version.number not in values:
        return Result(Outcome.SKIP, why=_gone(version) if version.gone else f"no recorded {column.label}")
    return Result(said[version.number], value=values[version.number])


def _judge(
    within: Span, column: Column, values: Mapping[int, float], limit: Limit
) -> tuple[Callable[[float], bool], str]:
    """What is bad: a function of a value, and the same in words.

    Raises:
        InvalidInput: nothing tells it (code ``metric-undecided``).
    """
    good, bad = values.get(within.good.number), values.get(within.bad.number)
    lower = lower_is_better(column.metric, limit.lower)
    if limit.threshold is not None:
        bound = limit.threshold
    elif limit.drop is not None:
        if good is None:
            raise _undecided(
                f"{within.good.reference} has no recorded {column.label}, so that nothing can drop from it"
            )
        bound = good + limit.drop if lower else good - limit.drop
    else:
        if good is None or bad is None:
            end = within.good if good is None else within.bad
            raise _undecided(f"{end.reference} has no recorded {column.label}, which would tell good from bad")
        if good == bad:
            raise _undecided(f"the recorded {column.label} of both ends is {good:g}, which does not tell good from bad")
        lower, bound = good < bad, (good + bad) / 2
    words = f"{column.label} {'above' if lower else 'below'} {bound:g}"

    def is_bad(value: float) -> bool:
        """Whether it is worse, by more than subtracting decimal fractions as floats can make it."""
        return (value > bound if lower else value < bound) and not math.isclose(value, bound, rel_tol=1e-12)

    return is_bad, words


def _one_sided(within: Span, said: Outcome) -> str:
    """A test that always says the same may be broken: the end that would show it."""
    other = within.good if said is Outcome.BAD else within.bad
    return f"every test said {said.value}; if that surprises you, try the test on {other.reference}, too"


def _undecided(what: str) -> InvalidInput:
    return InvalidInput(what, code="metric-undecided", hint="--threshold NUMBER says from where on it is bad")
