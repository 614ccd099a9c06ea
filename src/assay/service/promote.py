"""Promote: point an alias at a version once every gate is open, by compare-and-swap, with the evidence in the history.

A promotion has two halves. ``plan`` gathers evidence and decides every gate against who holds the alias at that moment;
``carry_out`` moves the alias only if that is still so, or says why not. In between nothing is locked: if the holder
changed, what was compared with it is worth nothing, and the swap fails (``alias-moved``).

The gates of the policies (safety, signatures) hold for every move, also where no rule is declared, and no override
opens them: a policy has exceptions of its own, bound to an artifact and a day.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from assay.errors import Conflict, InvalidInput, Refused
from assay.policy.deciding import Decision
from assay.policy.policy import Gate, Handling
from assay.policy.promotion import Outcome, Rule, State
from assay.policy.promotion_gates import decide, may_move
from assay.policy.trust import NO_TRUST
from assay.service.evidence import Looked, gather, look
from assay.service.gate import Guard, located
from assay.service.registry import Registry
from assay.spec.json import Json
from assay.spec.records import EventKind, Version
from assay.spec.reference import check_alias

NOTHING_CHANGED = "nothing was changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What somebody wants beside the move itself.

    Args:
        reason: why; kept in the history.
        override: why gates that are shut shall be passed; None: they are not.
        expect: the version that must hold the alias now, ``none`` for no such alias; None: whoever holds it.
        kind: ``promotion``, ``push``, ``import``, ``copy`` or ``rollback``, as the history keeps it.
    """

    reason: str = ""
    override: str | None = None
    expect: int | Literal["none"] | None = None
    kind: str = "promotion"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A move that was decided on, and not made.

    Args:
        version: the candidate.
        alias: what is to point at it.
        holder: number of the version that holds it, which gates compared with; None: there is no such alias.
        request: what was asked for.
        outcomes: every gate.
        overridden: names of gates that are shut and were overridden.
        decided: when, UTC.
        notes: more for the history, by kind.
    """

    version: Version
    alias: str
    holder: int | None
    request: Request
    outcomes: tuple[Outcome, ...]
    overridden: tuple[str, ...] = ()
    decided: datetime
    notes: Mapping[str, Json] = field(default_factory=dict)

    @property
    def shut(self) -> tuple[Outcome, ...]:
        """Gates that keep it from being made."""
        return tuple(one for one in self.outcomes if not one.passed and one.gate not in self.overridden)

    @property
    def needless(self) -> bool:
        """Whether the alias points there already."""
        return self.holder == self.version.number

    def evidence(self) -> dict[str, Json]:
        """What the history keeps: ``docs/spec/promotion.md``."""
        body: dict[str, Json] = {
            "kind": self.request.kind,
            "decided": self.decided.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "digest": str(self.version.manifest),
            "gates": [outcome.to_json() for outcome in self.outcomes],
            **self.notes,
        }
        if self.overridden:
            body["override"] = {"reason": self.request.override, "gates": [*self.overridden]}
        return body

    def to_json(self) -> dict[str, Json]:
        """As ``assay promote --dry-run --json`` prints it."""
        return {
            "reference": self.version.reference,
            "name": self.version.name,
            "version": self.version.number,
            "digest": str(self.version.manifest),
            "alias": self.alias,
            "from": self.holder,
            "reason": self.request.reason,
            "gates": [outcome.to_json() for outcome in self.outcomes],
            "override": {"reason": self.request.override, "gates": [*self.overridden]} if self.overridden else None,
        }


@dataclass(frozen=True, slots=True)
class Moved:
    """The outcome of a move.

    Args:
        plan: what was decided.
        moved: whether the alias was moved just now; False when it pointed there already.
    """

    plan: Plan
    moved: bool

    def to_json(self) -> dict[str, Json]:
        """As ``assay promote --json`` prints it."""
        return {**self.plan.to_json(), "moved": self.moved}


def plan(
    registry: Registry,
    version: Version,
    alias: str,
    *,
    guard: Guard,
    request: Request = Request(),
    looked: Looked | None = None,
) -> Plan:
    """Decide every gate between *version* and *alias*; nothing is changed.

    Args:
        registry: where.
        version: the candidate.
        alias: what is to point at it.
        guard: rules and policies.
        request: what is wanted besides.
        looked: the candidate's files when they went through the policies' gates just now.

    Raises:
        InvalidInput: that is no alias, an override has no reason, or rules cannot be read (code ``bad-promotion``).
        Conflict: the alias is not where it was expected (code ``alias-moved``).
        NotFound, IntegrityError: the version's bytes or statements are missing or damaged.
    """
    rules = guard.promoting.rules_for(version.name, check_alias(alias))
    if request.override is not None and not request.override.strip():
        raise InvalidInput("an override needs a reason, which is kept for good", code="reason-missing")
    holder = held(registry, version.name, alias, request)
    number = None if holder is None else holder.number
    decided = datetime.now(UTC)
    if number == version.number:
        return Plan(version=version, alias=alias, holder=number, request=request, outcomes=(), decided=decided)
    seen = looked or look(registry, version, guard)
    evidence = gather(registry, guard, rules, version, alias, holder=holder, looked=seen)
    gates = (
        *fit(version),
        *may_move(rules, registry.actor),
        *policy_gates(registry, version, guard, seen.decision, admitted=looked is not None),
        *decide(rules, evidence),
    )
    outcomes, overridden = _override(rules, gates, request, registry.actor)
    return Plan(
        version=version,
        alias=alias,
        holder=number,
        request=request,
        outcomes=outcomes,
        overridden=overridden,
        decided=decided,
        notes={"rules": _digests(rules)} if rules else {},
    )


def carry_out(registry: Registry, planned: Plan, *, instead: str = NOTHING_CHANGED) -> Moved:
    """Make the move that was decided on, if every gate is open and the holder is the one that was compared with.

    Raises:
        Refused: a gate is shut (code ``promotion-refused``, for a rollback ``rollback-refused``); details list all.
        Conflict: somebody else moved the alias meanwhile (code ``alias-moved``); nothing is changed.
    """
    check_open(planned, instead=instead)
    if planned.needless:
        return Moved(planned, moved=False)
    version, evidence = planned.version, planned.evidence()
    registry.catalog.move_alias(
        version.name,
        planned.alias,
        version.number,
        expect=planned.holder,
        actor=registry.actor,
        reason=planned.request.reason,
        evidence=evidence,
    )
    return Moved(planned, moved=_is_ours(registry, planned, evidence))


def check_open(planned: Plan, *, instead: str = NOTHING_CHANGED) -> None:
    """Make sure that no gate is shut.

    Raises:
        Refused: as ``carry_out``.
    """
    if not planned.shut:
        return
    said = "; ".join(f"{one.gate}: expected {one.expected}, found {one.found}" for one in planned.shut)
    advice = "; ".join(dict.fromkeys(one.advice for one in planned.shut if one.advice))
    rollback = planned.request.kind == "rollback"
    what = f"rollback of {planned.version.name}:{planned.alias} to" if rollback else f"promotion to {planned.alias} of"
    raise Refused(
        f"{what} {planned.version.reference} was refused: {said}; {instead}",
        code="rollback-refused" if rollback else "promotion-refused",
        hint=advice or None,
        **planned.to_json(),
    )


def check_unprotected(guard: Guard, name: str, alias: str, actor: str, *, doing: str, hint: str) -> None:
    """Make sure that *alias* may move or go outside of a promotion.

    Args:
        guard: holds the rules.
        name: of the model.
        alias: which alias.
        actor: who wants to.
        doing: what was refused, for the message.
        hint: what to type instead.

    Raises:
        Refused: it is protected, or somebody else's to move (code ``alias-protected``).
    """
    rules = guard.promoting.rules_for(name, alias)
    protecting = next((rule for rule in rules if rule.protected), None)
    if protecting is not None:
        raise Refused(
            f"{doing} was refused: {name}:{alias} is protected by {protecting.source}; {NOTHING_CHANGED}",
            code="alias-protected",
            hint=hint,
        )
    for outcome in may_move(rules, actor):
        if not outcome.passed:
            raise Refused(
                f"{doing} was refused: by {outcome.source} {name}:{alias} is moved by {outcome.expected}, "
                f"not by {actor}; {NOTHING_CHANGED}",
                code="alias-protected",
                hint=outcome.advice,
            )


def held(registry: Registry, name: str, alias: str, request: Request) -> Version | None:
    """The version that holds an alias, if it is the one that was expected.

    Raises:
        Conflict: it is another one (code ``alias-moved``).
    """
    now = registry.catalog.alias(name, alias)
    number = None if now is None else now.number
    if request.expect is not None and request.expect != ("none" if number is None else number):
        there = "there is no such alias" if number is None else f"it points at {number}"
        raise Conflict(
            f"alias {name}:{alias} is not where it was expected: expected {request.expect}, {there}; {NOTHING_CHANGED}",
            code="alias-moved",
            hint=f"look at assay history {name}, then decide again",
        )
    return None if number is None else registry.catalog.version(name, number)


def fit(version: Version) -> list[Outcome]:
    """The gate that a yanked version does not pass."""
    if version.yanked is None:
        return []
    return [
        Outcome(
            gate="fit",
            source="yank",
            state=State.FAILED,
            expected="a version that was not yanked",
            found=f"yanked: {version.yanked}",
            advice=f"assay yank {version.reference} --undo says that it may be used after all",
            binding=True,
        )
    ]


def policy_gates(
    registry: Registry, version: Version, guard: Guard, decision: Decision, *, admitted: bool = False
) -> list[Outcome]:
    """What the policies' own gate for aliases says about a version.

    Args:
        registry: where it is.
        version: which.
        guard: the policies.
        decision: what they make of a fresh audit.
        admitted: whether it went through that gate just now.
    """
    source = f"policy {', '.join(name for name, _ in decision.policies)}"
    handling = decision.handling(Gate.PROMOTE)
    open_ = handling in {Handling.RECORD, Handling.WARN}
    if handling is Handling.WARN and not admitted:
        guard.admit(Gate.PROMOTE, decision, version.reference)
    reasons = [item.finding for item in decision.refused]
    found = f"{decision.verdict.value}: {located(reasons[0]) if reasons else decision.summary}"
    found += f", and {len(reasons) - 1} more" if len(reasons) > 1 else ""
    outcomes = [
        Outcome(
            gate="safety",
            source=source,
            state=State.PASSED if open_ else State.FAILED,
            expected="nothing that the policy refuses",
            found=found,
            advice="" if open_ else f"assay scan {version.reference} shows every finding",
            binding=True,
            evidence={"verdict": decision.verdict.value},
        )
    ]
    asked = any(one.trust != NO_TRUST and one.gates[Gate.PROMOTE] is not Handling.RECORD for one in guard.policies)
    if guard.signers is not None and asked:
        outcomes.append(_signatures(registry, version, guard, source, admitted=admitted))
    return outcomes


def _signatures(registry: Registry, version: Version, guard: Guard, source: str, *, admitted: bool) -> Outcome:
    found, advice, state = "as required", "", State.PASSED
    if not admitted:
        try:
            guard.admit_signed(Gate.PROMOTE, registry, version)
        except Refused as error:
            found, state = error.message.partition(": ")[2], State.FAILED
            advice = f"assay verify {version.reference} shows every signature; assay sign adds one"
    return Outcome(
        gate="signatures",
        source=source,
        state=state,
        expected="signatures that the policy requires",
        found=found,
        advice=advice,
        binding=True,
    )


def _override(
    rules: Sequence[Rule], outcomes: Sequence[Outcome], request: Request, actor: str
) -> tuple[tuple[Outcome, ...], tuple[str, ...]]:
    """All gates, and the names of the shut ones that an override opens; who may not override is told by a gate."""
    shut = tuple(dict.fromkeys(one.gate for one in outcomes if not one.passed and not one.binding))
    if request.override is None or not shut:
        return tuple(outcomes), ()
    for rule in rules:
        if not rule.lets_override(actor):
            refused = Outcome(
                gate="override",
                source=rule.source,
                state=State.FAILED,
                expected=f"by {' or '.join(rule.overriders or ()) or 'nobody'}",
                found=actor,
                binding=True,
            )
            return (*outcomes, refused), ()
    return tuple(outcomes), shut


def _digests(rules: Sequence[Rule]) -> list[Json]:
    """The files of rules that were in force."""
    files = dict.fromkeys((rule.source, rule.digest) for rule in rules)
    return [{"source": source, "digest": digest} for source, digest in files]


def _is_ours(registry: Registry, planned: Plan, evidence: Mapping[str, Json]) -> bool:
    """Whether the last move of the alias is this one: moving to where somebody else moved it is no change."""
    for event in registry.catalog.events(name=planned.version.name, kinds=[EventKind.ALIAS_MOVED]):
        if event.data.get("alias") == planned.alias:
            kept = event.data.get("evidence")
            same = isinstance(kept, Mapping) and kept.get("decided") == evidence["decided"]
            return same and event.actor == registry.actor
    return False
