"""Gates of promotions as data: what an alias asks of a version before it points at it, and what that is decided on.

Concept: rules add up. Every rule that names an alias of a model must be met, whichever file it stands in, so that a
rule can make a promotion harder and never easier; the strictest word counts without anybody comparing words.

Rules are read by ``promotion_reading`` and applied by ``promotion_gates``. Not here: gathering (``assay.service``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from fnmatch import fnmatchcase

from assay.policy.trust import NO_TRUST, Judgement, Trust
from assay.spec.changes import DropIn
from assay.spec.json import Json
from assay.spec.records import Version
from assay.spec.report import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricRule:
    """What a number must be.

    Args:
        name: of the metric.
        dataset: what it must be measured on; None: what was said without naming a dataset, as at push.
        minimum, maximum: bounds, themselves allowed.
        not_worse_by: how much worse than the current holder it may be, on the same dataset; None: not compared.
        lower: whether less is better.
    """

    name: str
    dataset: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    not_worse_by: float | None = None
    lower: bool = False

    @property
    def label(self) -> str:
        """``auc`` or ``auc on holdout``."""
        return f"{self.name} on {self.dataset}" if self.dataset is not None else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What one ``[[promotion]]`` table asks; what is None or empty is not asked.

    Args:
        source: how messages call the file it stands in.
        digest: of that file's promotion rules, so that a decision can name what it was reached under.
        aliases: patterns of aliases it holds for.
        models: patterns of model names it holds for.
        protected: whether the alias moves by promotion and rollback alone, and cannot be removed.
        movers: who may move it; anybody when None.
        overriders: who may override gates of this rule; anybody when None, nobody when empty.
        recorded_by: whose metrics and rehearsals count; anybody's when None.
        safe: whether the audit must come to ``safe``, whatever the policies let pass.
        trust: signatures that must be there.
        drop_in: whether it must be able to take the holder's place.
        rehearsed: whether a rehearsal must have passed.
        rehearsal_days: age at which a rehearsal does not count any more.
        max_size: bytes of all files.
        max_load_seconds, max_memory: of the newest rehearsal; bytes of memory.
        licences: SPDX identifiers, one of which every licence in it must be.
        approvals: how many people must approve.
        self_approval: whether who pushed it counts.
        metrics: numbers.
    """

    source: str
    digest: str = ""
    aliases: tuple[str, ...] = ("*",)
    models: tuple[str, ...] = ("*",)
    protected: bool = False
    movers: tuple[str, ...] | None = None
    overriders: tuple[str, ...] | None = None
    recorded_by: tuple[str, ...] | None = None
    safe: bool = False
    trust: Trust = NO_TRUST
    drop_in: bool = False
    rehearsed: bool = False
    rehearsal_days: float | None = None
    max_size: int | None = None
    max_load_seconds: float | None = None
    max_memory: int | None = None
    licences: tuple[str, ...] | None = None
    approvals: int = 0
    self_approval: bool = False
    metrics: tuple[MetricRule, ...] = ()

    def holds_for(self, name: str, alias: str) -> bool:
        """Whether it asks anything of *alias* of the model *name*."""
        return any(fnmatchcase(name, pattern) for pattern in self.models) and any(
            fnmatchcase(alias, pattern) for pattern in self.aliases
        )

    def lets_move(self, actor: str) -> bool:
        """Whether *actor* may move the alias."""
        return self.movers is None or actor in self.movers

    def lets_override(self, actor: str) -> bool:
        """Whether *actor* may override its gates."""
        return self.overriders is None or actor in self.overriders

    def counts(self, actor: str | None) -> bool:
        """Whether what *actor* recorded counts; None is somebody unknown."""
        return self.recorded_by is None or actor in self.recorded_by

    @property
    def asks_rehearsal(self) -> bool:
        """Whether anything in it is decided on a rehearsal."""
        measured = (self.rehearsal_days, self.max_load_seconds, self.max_memory)
        return self.rehearsed or any(value is not None for value in measured)


class State(StrEnum):
    """How a gate stands. Append-only: values are written to journals."""

    PASSED = "passed"
    FAILED = "failed"
    MISSING = "missing"
    """The evidence that it asks for is not there: that is a gate which is shut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One gate, decided.

    Args:
        gate: its name, such as ``audit`` or ``metric auc on holdout``.
        source: which file or policy asks.
        state: how it stands.
        expected: what is asked.
        found: what is there.
        advice: what to do or type, where it did not pass.
        binding: whether no override opens it.
        evidence: values it was decided on.
    """

    gate: str
    source: str
    state: State
    expected: str
    found: str
    advice: str = ""
    binding: bool = False
    evidence: Mapping[str, Json] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether it is open."""
        return self.state is State.PASSED

    def to_json(self) -> dict[str, Json]:
        """The outcome as a JSON object: ``docs/spec/promotion.md``."""
        return {
            "gate": self.gate,
            "source": self.source,
            "state": self.state.value,
            "expected": self.expected,
            "found": self.found,
            **({"advice": self.advice} if self.advice else {}),
            **({"evidence": dict(self.evidence)} if self.evidence else {}),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A number somebody recorded.

    Args:
        metric: its name.
        value: finite.
        dataset: what it was measured on.
        dataset_digest: identity of that data, where it was given.
        at: when it was said.
        actor: who attached the statement here, by the journal; None when that is not known.
    """

    metric: str
    value: float
    dataset: str | None
    dataset_digest: str | None
    at: datetime
    actor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsed:
    """A rehearsal somebody recorded.

    Args:
        passed: how it went.
        load_seconds: until the model was ready; None when that was not measured.
        memory: most bytes resident; None when that was not measured.
        problem: what did not go as it should, in a sentence; empty when nothing.
        at: when it was recorded here.
        actor: who attached it here; None when that is not known.
    """

    passed: bool
    load_seconds: float | None
    memory: int | None
    problem: str
    at: datetime
    actor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """One person's word.

    Args:
        actor: who attached it here, by the journal.
        at: when.
        note: free text.
    """

    actor: str
    at: datetime
    note: str = ""


@dataclass(frozen=True, slots=True)
class LicencesFound:
    """Licences of an artifact.

    Args:
        identifiers: SPDX identifiers that its files come to.
        unrecognised: what is stated and has no identifier.
    """

    identifiers: tuple[str, ...]
    unrecognised: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Evidence that could not be had, and why."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that gates are decided on; what no rule asks for is empty.

    Args:
        version: the candidate.
        alias: what is to point at it.
        holder: where that points now; None: it does not exist.
        actor: who wants to move it.
        now: the time that ages are held against, UTC.
        verdict: of a fresh audit.
        summary: that audit in a sentence.
        judged: what the signatures are worth, per trust of a rule.
        metrics, holder_metrics: every number recorded, oldest first; of the holder None when its statements are gone.
        drop_in: what a comparison with the holder decides.
        rehearsals: oldest first.
        licences: of the files.
        approvals: that hold now, one per person; the journal's word.
        ignored: approvals that do not count, and why.
    """

    version: Version
    alias: str
    holder: Version | None
    actor: str
    now: datetime
    verdict: Verdict
    summary: str
    judged: Mapping[Trust, Judgement | Unavailable] = field(default_factory=dict)
    metrics: Sequence[Recorded] = ()
    holder_metrics: Sequence[Recorded] | None = ()
    drop_in: DropIn | Unavailable | None = None
    rehearsals: Sequence[Rehearsed] = ()
    licences: LicencesFound | None = None
    approvals: Sequence[Approval] = ()
    ignored: Sequence[str] = ()
