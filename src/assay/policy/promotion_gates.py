"""Decide the gates of a promotion from evidence. Pure: nothing is read, and the time comes with the evidence.

Every comparison is written so that only a plain yes opens a gate. Numbers are compared as the decimal numbers that
people typed: 0.91 is not worse than 0.915 by more than 0.005.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from assay.policy.promotion import Evidence, MetricRule, Outcome, Recorded, Rehearsed, Rule, State, Unavailable
from assay.spec.changes import Answer
from assay.spec.figures import size
from assay.spec.json import Json
from assay.spec.records import Version
from assay.spec.report import Verdict
from assay.spec.signature import Standing

_NO_HOLDER = "no holder to compare with"


def decide(rules: Sequence[Rule], evidence: Evidence) -> tuple[Outcome, ...]:
    """Every gate that *rules* put before a promotion, in the order of the rules."""
    return tuple(outcome for rule in rules for outcome in _gates(rule, evidence))


def may_move(rules: Sequence[Rule], actor: str) -> tuple[Outcome, ...]:
    """The gates that ask who moves an alias; no override opens them, else they would ask nobody."""
    return tuple(
        replace(
            _outcome(rule, "mover", rule.lets_move(actor), _either(rule.movers), actor, "ask one of them to do it"),
            binding=True,
        )
        for rule in rules
        if rule.movers is not None
    )


def _gates(rule: Rule, evidence: Evidence) -> Iterator[Outcome]:
    if rule.safe:
        yield _audit(rule, evidence)
    if rule.trust.requirements:
        yield _signed(rule, evidence)
    for metric in rule.metrics:
        yield from _metric(rule, metric, evidence)
    if rule.drop_in:
        yield _drop_in(rule, evidence)
    if rule.asks_rehearsal:
        yield from _rehearsal(rule, evidence)
    if rule.max_size is not None:
        yield _size(rule, rule.max_size, evidence)
    if rule.licences is not None:
        yield _licence(rule, rule.licences, evidence)
    if rule.approvals:
        yield _approvals(rule, evidence)


def _audit(rule: Rule, evidence: Evidence) -> Outcome:
    advice = f"assay scan {evidence.version.reference} shows every finding"
    found = f"{evidence.verdict.value}: {evidence.summary}"
    return _outcome(rule, "audit", evidence.verdict is Verdict.SAFE, "safe", found, advice)


def _signed(rule: Rule, evidence: Evidence) -> Outcome:
    (requirement,) = rule.trust.requirements
    expected = f"signed by {requirement.at_least} of {', '.join(requirement.signers)}"
    advice = f"assay sign {evidence.version.reference} --key KEY"
    judged = evidence.judged.get(rule.trust)
    if judged is None or isinstance(judged, Unavailable):
        why = judged.why if judged is not None else "the signatures were not looked at"
        return _outcome(rule, "signed", State.MISSING, expected, why, advice)
    valid = sorted({check.signer for check in judged.checks if check.standing is Standing.VALID})
    found = "; ".join(judged.problems) or f"signed by {', '.join(valid)}"
    return _outcome(rule, "signed", judged.ok, expected, found, advice, evidence={"signers": valid})


def _metric(rule: Rule, metric: MetricRule, evidence: Evidence) -> Iterator[Outcome]:
    """The bounds of a number, and the comparison with the holder, as two gates."""
    found = _newest(rule, metric, evidence.metrics)
    name = f"metric {metric.label}"
    bounds = [
        f"{sign} {_shown(value)}"
        for sign, value in (("at least", metric.minimum), ("at most", metric.maximum))
        if value is not None
    ]
    if found is None:
        why = _none_recorded(rule, metric, evidence.metrics)
        yield _outcome(
            rule, name, State.MISSING, " and ".join(bounds) or "recorded", why, _evaluate(evidence.version, metric)
        )
        return
    if bounds:
        value = _exact(found.value)
        within = (metric.minimum is None or value >= _exact(metric.minimum)) and (
            metric.maximum is None or value <= _exact(metric.maximum)
        )
        yield _outcome(
            rule, name, within, " and ".join(bounds), _shown(found.value), _compare(evidence), evidence=_recorded(found)
        )
    if metric.not_worse_by is not None:
        yield _against_holder(rule, metric, metric.not_worse_by, found, evidence)


def _against_holder(rule: Rule, metric: MetricRule, margin: float, found: Recorded, evidence: Evidence) -> Outcome:
    name = f"metric {metric.label} against the holder"
    holder = evidence.holder
    better = "less" if metric.lower else "more"
    expected = f"not worse than the holder by more than {margin:g} ({better} is better)"
    if holder is None:
        return _outcome(rule, name, State.PASSED, expected, _NO_HOLDER, evidence=_recorded(found))
    if evidence.holder_metrics is None:
        return _outcome(rule, name, State.MISSING, expected, f"what was recorded of {holder.reference} is gone")
    before = _newest(rule, metric, evidence.holder_metrics)
    if before is None:
        why = f"{holder.reference}: {_none_recorded(rule, metric, evidence.holder_metrics)}"
        return _outcome(rule, name, State.MISSING, expected, why, _evaluate(holder, metric))
    kept = {"holder": holder.reference, "holder_value": before.value, **_recorded(found)}
    if before.dataset_digest and found.dataset_digest and before.dataset_digest != found.dataset_digest:
        why = (
            f"{metric.dataset} is not the same data for both: {before.dataset_digest[:19]}, {found.dataset_digest[:19]}"
        )
        return _outcome(rule, name, State.FAILED, expected, why, "evaluate both on the same data", evidence=kept)
    worse = _exact(found.value) - _exact(before.value) if metric.lower else _exact(before.value) - _exact(found.value)
    said = f"{_shown(found.value)}, and {holder.reference} has {_shown(before.value)}"
    return _outcome(
        rule,
        name,
        worse <= _exact(margin),
        expected,
        said,
        _compare(evidence),
        evidence=kept,
    )


def _drop_in(rule: Rule, evidence: Evidence) -> Outcome:
    holder, found = evidence.holder, evidence.drop_in
    expected = "whoever calls the holder can call it without changing anything"
    if holder is None:
        return _outcome(rule, "drop-in", State.PASSED, expected, _NO_HOLDER)
    advice = f"assay diff {holder.reference} {evidence.version.reference} shows what differs"
    if found is None or isinstance(found, Unavailable):
        why = "they were not compared" if found is None else found.why
        return _outcome(rule, "drop-in", State.MISSING, expected, why, advice)
    kept: Mapping[str, Json] = {"holder": holder.reference, "answer": found.answer.value, "reasons": [*found.reasons]}
    said = f"{found.answer.value}: {'; '.join(found.reasons)}"
    return _outcome(rule, "drop-in", found.answer is Answer.YES, expected, said, advice, evidence=kept)


def _rehearsal(rule: Rule, evidence: Evidence) -> Iterator[Outcome]:
    counting = [one for one in evidence.rehearsals if rule.counts(one.actor)]
    advice = f"assay rehearse {evidence.version.reference}"
    expected = "passed"
    if rule.rehearsal_days is not None:
        expected += f" within {rule.rehearsal_days:g} days"
    if not counting:
        others = len(evidence.rehearsals)
        found = f"none by {_either(rule.recorded_by)}" if others else "none was recorded"
        yield _outcome(rule, "rehearsal", State.MISSING, expected, found, advice)
        return
    newest = max(counting, key=lambda one: one.at)
    kept = {"at": newest.at.isoformat(), "by": newest.actor}
    old = rule.rehearsal_days is not None and evidence.now - newest.at > timedelta(days=rule.rehearsal_days)
    day = newest.at.date().isoformat()
    found = f"passed on {day}" if newest.passed else f"did not pass on {day}" + f": {newest.problem}".rstrip(": ")
    yield _outcome(rule, "rehearsal", newest.passed and not old, expected, found, advice, evidence=kept)
    yield from _measured(rule, newest, advice)


def _measured(rule: Rule, newest: Rehearsed, advice: str) -> Iterator[Outcome]:
    """What a rehearsal measured, within its bounds."""
    if rule.max_load_seconds is not None:
        seconds = newest.load_seconds
        within = State.MISSING if seconds is None else _exact(seconds) <= _exact(rule.max_load_seconds)
        found = "the rehearsal did not measure it" if seconds is None else f"{seconds:g} s"
        kept: dict[str, Json] = {} if seconds is None else {"load_seconds": seconds}
        yield _outcome(rule, "load-time", within, f"at most {rule.max_load_seconds:g} s", found, advice, evidence=kept)
    if rule.max_memory is not None:
        memory = newest.memory
        fits = State.MISSING if memory is None else memory <= rule.max_memory
        found = "the rehearsal did not measure it" if memory is None else size(memory)
        kept = {} if memory is None else {"peak_rss": memory}
        yield _outcome(rule, "memory", fits, f"at most {size(rule.max_memory)}", found, advice, evidence=kept)


def _size(rule: Rule, most: int, evidence: Evidence) -> Outcome:
    count = evidence.version.size
    exact = f"{count:,} bytes" if size(count) == size(most) else size(count)
    return _outcome(
        rule, "size", count <= most, f"at most {size(most)}", exact, "make it smaller: another dtype, fewer files",
        evidence={"size": count, "max_size": most},
    )  # fmt: skip


def _licence(rule: Rule, allowed: Sequence[str], evidence: Evidence) -> Outcome:
    found, expected = evidence.licences, f"only {', '.join(allowed)}"
    advice = f"assay bom {evidence.version.reference} shows where its licences lie"
    stated = () if found is None else (*found.identifiers, *found.unrecognised)
    if found is None or not stated:
        return _outcome(rule, "licence", State.MISSING, expected, "no licence is stated in its files", advice)
    known = {one.casefold() for one in allowed}
    others = [one for one in found.identifiers if one.casefold() not in known]
    others += [f"{one!r} (not recognised)" for one in found.unrecognised]
    said = ", ".join(stated) if not others else f"also {', '.join(others)}"
    return _outcome(rule, "licence", not others, expected, said, advice, evidence={"licences": [*stated]})


def _approvals(rule: Rule, evidence: Evidence) -> Outcome:
    pusher = evidence.version.actor
    counting = [one for one in evidence.approvals if rule.self_approval or one.actor != pusher]
    names = sorted({one.actor for one in counting})
    own = "" if rule.self_approval else f" other than {pusher}, who pushed it"
    left_out = [*evidence.ignored]
    if not rule.self_approval and any(one.actor == pusher for one in evidence.approvals):
        left_out.append(f"{pusher} pushed it")
    found = ", ".join(names) if names else "nobody"
    if left_out:
        found += f" (not counted: {'; '.join(left_out)})"
    people = "1 person" if rule.approvals == 1 else f"{rule.approvals} people"
    enough = len(names) >= rule.approvals if names else State.MISSING
    return _outcome(
        rule, "approvals", enough, f"{people}{own}", found,
        f"assay approve {evidence.version.reference} --for {evidence.alias}", evidence={"approved_by": [*names]},
    )  # fmt: skip


def _newest(rule: Rule, metric: MetricRule, recorded: Sequence[Recorded]) -> Recorded | None:
    """The number that counts: the latest on just this dataset, by somebody whose numbers count."""
    found = [
        one
        for one in recorded
        if one.metric == metric.name and one.dataset == metric.dataset and rule.counts(one.actor)
    ]
    return max(enumerate(found), key=lambda item: (item[1].at, item[0]))[1] if found else None


def _none_recorded(rule: Rule, metric: MetricRule, recorded: Sequence[Recorded]) -> str:
    """Why there is no number that counts."""
    named = [one for one in recorded if one.metric == metric.name]
    here = [one for one in named if one.dataset == metric.dataset]
    if here:
        return f"recorded by {', '.join(sorted({str(one.actor) for one in here}))}, not by {_either(rule.recorded_by)}"
    if not named:
        return f"no {metric.label} was recorded"
    elsewhere = sorted({f"on {one.dataset}" if one.dataset else "without a dataset" for one in named})
    return f"no {metric.label} was recorded, only {', '.join(elsewhere)}"


def _evaluate(version: Version, metric: MetricRule) -> str:
    on = f" --dataset {metric.dataset}" if metric.dataset is not None else ""
    return f"assay evaluate {version.reference} --metric {metric.name}=NUMBER{on}"


def _compare(evidence: Evidence) -> str:
    return f"assay show {evidence.version.name} --metrics compares the versions"


def _recorded(found: Recorded) -> dict[str, Json]:
    body: dict[str, Json] = {
        "value": found.value,
        "at": found.at.isoformat(),
        "by": found.actor,
        "dataset": found.dataset,
        "dataset_digest": found.dataset_digest,
    }
    return {key: value for key, value in body.items() if value is not None}


def _exact(value: float) -> Decimal:
    """A number as it is written, not as it is stored."""
    return Decimal(repr(value))


def _shown(value: float) -> str:
    """A number in as many figures as tell it from its neighbours."""
    return f"{value:.12g}"


def _either(names: Sequence[str] | None) -> str:
    return " or ".join(names or ()) or "nobody"


def _outcome(
    rule: Rule,
    gate: str,
    holds: bool | State,  # noqa: FBT001 - the answer itself
    expected: str,
    found: str,
    advice: str = "",
    *,
    evidence: Mapping[str, Json] | None = None,
) -> Outcome:
    state = holds if isinstance(holds, State) else State.PASSED if holds else State.FAILED
    return Outcome(
        gate=gate,
        source=rule.source,
        state=state,
        expected=expected,
        found=f"missing: {found}" if state is State.MISSING else found,
        advice="" if state is State.PASSED else advice,
        evidence=evidence or {},
    )
