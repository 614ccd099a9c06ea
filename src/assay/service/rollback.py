"""Roll back: put an alias where it was, from the history; and take an alias away.

A history is read like an undo list: a promotion adds a state, a rollback takes states off its end. So a second rollback
goes one further back and does not undo the first. Whatever was taken off can still be named (``to``).

A rollback is what one does in trouble, towards what was good enough before: it passes the gates of safety (the
policies', fresh, since rules and exceptions may have changed) and of who may move the alias, and none that ask for
quality, whose evidence is about another comparison.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from assay.errors import InvalidInput, NotFound, Refused
from assay.policy.promotion_gates import may_move
from assay.service.evidence import look
from assay.service.gate import Guard
from assay.service.promote import (
    NOTHING_CHANGED,
    Plan,
    Request,
    check_unprotected,
    fit,
    held,
    policy_gates,
)
from assay.service.registry import Registry
from assay.spec.records import EventKind, Version
from assay.spec.reference import check_alias, check_name

KIND = "rollback"
"""How the history calls it."""
ROLLBACK = Request(kind=KIND)
"""Nothing is wanted besides."""


@dataclass(frozen=True, slots=True)
class Stay:
    """A time during which an alias pointed at one version.

    Args:
        number: the version.
        sequence: of the event that began it.
    """

    number: int
    sequence: int


def stays(registry: Registry, name: str, alias: str) -> tuple[list[Stay], list[Stay]]:
    """Where an alias was: the states that rolling back goes through, and every one there ever was; oldest first."""
    kinds = [EventKind.ALIAS_MOVED]
    undo: list[Stay] = []
    every: list[Stay] = []
    for event in reversed(registry.catalog.events(name=name, kinds=kinds)):
        if event.data.get("alias") != alias:
            continue
        stay = Stay(int(str(event.data["number"])), event.sequence)
        every.append(stay)
        at = next((at for at, one in enumerate(undo) if one.sequence == _restored(event.data.get("evidence"))), None)
        if at is None:
            undo.append(stay)
        else:
            del undo[at + 1 :]
    return undo, every


def plan_rollback(
    registry: Registry,
    name: str,
    alias: str,
    *,
    guard: Guard,
    to: int | None = None,
    steps: int | None = None,
    request: Request = ROLLBACK,
) -> Plan:
    """Decide on putting an alias back where it was; nothing is changed.

    Args:
        registry: where.
        name: the model.
        alias: which alias; one that was removed comes back.
        guard: rules and policies.
        to: the version it was at; None: as *steps* say.
        steps: how many states back; one when None.
        request: what is wanted besides.

    Raises:
        NotFound: there is no such model, it never had the alias (code ``alias-not-found``), there is no earlier state
            (code ``no-earlier-state``), or its bytes are gone.
        InvalidInput: the alias never was at *to* (code ``never-there``), or *steps* is no such number.
        Refused: that version must not be used any more (code ``rollback-refused``); the hint names one that may.
        Conflict: the alias is not where it was expected (code ``alias-moved``).
    """
    if registry.catalog.version(check_name(name)) is None:
        raise NotFound(
            f"no model {name!r} in {registry.place}", code="model-not-found", hint="assay ls shows the models"
        )
    rules = guard.promoting.rules_for(name, check_alias(alias))
    holder = held(registry, name, alias, request)
    now = None if holder is None else holder.number
    undo, every = stays(registry, name, alias)
    if not every and to is None:
        raise _no_alias(registry, name, alias)
    back = _earlier(undo, now)
    chosen = _named(every, name, alias, to) if to is not None else _steps_back(back, name, alias, steps or 1)
    version = registry.catalog.version(name, chosen.number)
    assert version is not None  # the alias pointed at it
    decided = datetime.now(UTC)
    notes = {"restores": chosen.sequence}
    if now == chosen.number:
        return Plan(
            version=version, alias=alias, holder=now, request=request, outcomes=(), decided=decided, notes=notes
        )
    _check_usable(registry, version, alias, [one for one in back if one.number != now])
    outcomes = (
        *may_move(rules, registry.actor),
        *policy_gates(registry, version, guard, look(registry, version, guard).decision),
    )
    return Plan(
        version=version, alias=alias, holder=now, request=request, outcomes=outcomes, decided=decided, notes=notes
    )


@dataclass(frozen=True, slots=True)
class Removed:
    """The outcome of taking an alias away.

    Args:
        name: the model.
        alias: the alias that was.
        number: where it pointed.
    """

    name: str
    alias: str
    number: int


def unalias(
    registry: Registry, name: str, alias: str, *, guard: Guard, reason: str, request: Request = ROLLBACK
) -> Removed:
    """Take an alias away; the history keeps where it was, and a rollback brings it back.

    Raises:
        InvalidInput: no reason was given (code ``reason-missing``).
        NotFound: there is no such alias (code ``alias-not-found``).
        Refused: it is protected, or somebody else's to move (code ``alias-protected``).
        Conflict: it is not where it was expected (code ``alias-moved``); nothing is changed.
    """
    if not reason.strip():
        raise InvalidInput("taking an alias away needs a reason", code="reason-missing", hint="--reason TEXT")
    hint = "whoever may change the rules can take protected out of them first"
    doing = f"removing {name}:{alias}"
    check_unprotected(guard, check_name(name), check_alias(alias), registry.actor, doing=doing, hint=hint)
    holder = held(registry, name, alias, request)
    if holder is None:
        raise NotFound(
            f"{name} has no alias {alias!r}", code="alias-not-found", hint=f"assay ls {name} shows its versions"
        )
    registry.catalog.remove_alias(name, alias, expect=holder.number, actor=registry.actor, reason=reason)
    return Removed(name, alias, holder.number)


def _earlier(undo: list[Stay], now: int | None) -> list[Stay]:
    """States to go back to, nearest first, each differing from the one after it."""
    found: list[Stay] = []
    after = now
    for stay in reversed(undo):
        if stay.number != after:
            found.append(stay)
        after = stay.number
    return found


def _steps_back(back: list[Stay], name: str, alias: str, steps: int) -> Stay:
    if steps < 1:
        raise InvalidInput(f"cannot go {steps} states back; expected 1 or more", code="no-earlier-state")
    if len(back) < steps:
        there = f"only {len(back)} earlier" if back else "no earlier"
        raise NotFound(
            f"{name}:{alias} has {there} state{'s' if len(back) > 1 else ''} to go back to; {NOTHING_CHANGED}",
            code="no-earlier-state",
            hint=f"assay history {name} shows where it was; assay unalias {name} {alias} takes it away",
        )
    return back[steps - 1]


def _named(every: list[Stay], name: str, alias: str, number: int) -> Stay:
    """The latest stay at a version."""
    for stay in reversed(every):
        if stay.number == number:
            return stay
    there = ", ".join(str(one) for one in dict.fromkeys(stay.number for stay in every)) or "nowhere yet"
    raise InvalidInput(
        f"{name}:{alias} never was at version {number}: it was at {there}; {NOTHING_CHANGED}",
        code="never-there",
        hint=f"assay promote {name}:N {alias} takes it elsewhere through its gates; assay ls {name} shows the versions",
    )


def _no_alias(registry: Registry, name: str, alias: str) -> NotFound:
    known = ", ".join(found.alias for found in registry.catalog.aliases(name))
    return NotFound(
        f"{name} never had an alias {alias!r}; {NOTHING_CHANGED}",
        code="alias-not-found",
        hint=f"its aliases: {known}" if known else f"it has none; assay ls {name} shows its versions",
    )


def _check_usable(registry: Registry, version: Version, alias: str, back: list[Stay]) -> None:
    """Refuse a version that must not or cannot be used, and name the next one that can."""
    why = [f"{what}: {reason}" for what in ("purged", "removed", "yanked") if (reason := getattr(version, what))]
    if not why and not fit(version):
        return
    at = next((at for at, stay in enumerate(back) if stay.number == version.number), -1)
    further = [*back[at + 1 :], *back[: max(at, 0)]]
    candidates = (registry.catalog.version(version.name, stay.number) for stay in further)
    usable = (one for one in candidates if one is not None and not one.gone and one.yanked is None)
    following = next(usable, None)
    raise Refused(
        f"rollback of {version.name}:{alias} to {version.reference} was refused: it was {why[0]}; {NOTHING_CHANGED}",
        code="rollback-refused",
        hint="no earlier version of it may be used"
        if following is None
        else f"assay rollback {version.name} {alias} --to {following.number}",
    )


def _restored(evidence: object) -> int | None:
    """The event that a rollback went back to; None for any other move."""
    if not isinstance(evidence, Mapping) or evidence.get("kind") != KIND:
        return None
    sequence = evidence.get("restores")
    return sequence if isinstance(sequence, int) else None
