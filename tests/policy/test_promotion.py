"""Gates of promotions: each is shut alone, is named, and only a plain yes opens it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.policy.promotion import (
    Approval,
    Evidence,
    LicencesFound,
    MetricRule,
    Recorded,
    Rehearsed,
    Rule,
    State,
    Unavailable,
)
from assay.policy.promotion_gates import decide, may_move
from assay.policy.trust import Judgement, Requirement, Trust
from assay.spec.changes import Answer, DropIn
from assay.spec.digest import Digest
from assay.spec.records import Version
from assay.spec.report import Verdict

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
TRUST = Trust((), (Requirement("*", ("release",)),))
AUC = MetricRule(name="auc", dataset="holdout", minimum=0.9, not_worse_by=0.005)
RULE = Rule(
    source="promotion.toml",
    safe=True,
    trust=TRUST,
    drop_in=True,
    rehearsed=True,
    rehearsal_days=30,
    max_size=1000,
    max_load_seconds=20,
    max_memory=4000,
    licences=("MIT", "Apache-2.0"),
    approvals=2,
    metrics=(AUC,),
)


def version(number: int, **changes) -> Version:
    return replace(Version("m", number, Digest.of(b"%d" % number), 900, 1, NOW, "ada"), **changes)


def said(value: float = 0.93, **changes) -> Recorded:
    fields = dict(metric="auc", value=value, dataset="holdout", dataset_digest=None, at=NOW, actor="ci")
    return Recorded(**{**fields, **changes})


def rehearsed(**changes) -> Rehearsed:
    fields = dict(passed=True, load_seconds=3.0, memory=3000, problem="", at=NOW, actor="ci")
    return Rehearsed(**{**fields, **changes})


def evidence(**changes) -> Evidence:
    """Evidence that opens every gate of ``RULE``."""
    fields = dict(
        version=version(2),
        alias="champion",
        holder=version(1),
        actor="ada",
        now=NOW,
        verdict=Verdict.SAFE,
        summary="loading this runs no code",
        judged={TRUST: Judgement((), ())},
        metrics=[said()],
        holder_metrics=[said(0.93)],
        drop_in=DropIn(Answer.YES, ("the same contract",)),
        rehearsals=[rehearsed()],
        licences=LicencesFound(("MIT",)),
        approvals=[Approval(actor="bob", at=NOW), Approval(actor="eve", at=NOW)],
    )
    return Evidence(**{**fields, **changes})


def shut(rule: Rule, found: Evidence) -> dict[str, State]:
    return {one.gate: one.state for one in decide([rule], found) if not one.passed}


def test_every_gate_is_open_when_all_that_is_asked_is_there() -> None:
    outcomes = decide([RULE], evidence())

    assert {one.gate for one in outcomes} == {
        "audit", "signed", "metric auc on holdout", "metric auc on holdout against the holder", "drop-in",
        "rehearsal", "load-time", "memory", "size", "licence", "approvals",
    }  # fmt: skip
    assert all(one.passed and not one.advice for one in outcomes)


FAILED, MISSING = State.FAILED, State.MISSING
METRIC, AGAINST = "metric auc on holdout", "metric auc on holdout against the holder"


@pytest.mark.parametrize(
    ("changes", "gates"),
    [
        pytest.param({"verdict": Verdict.UNSAFE}, {"audit": FAILED}, id="unsafe"),
        pytest.param({"verdict": Verdict.UNVERIFIED}, {"audit": FAILED}, id="unverified"),
        pytest.param({"judged": {TRUST: Judgement((), ("unsigned",))}}, {"signed": FAILED}, id="unsigned"),
        pytest.param({"judged": {TRUST: Unavailable("no library")}}, {"signed": MISSING}, id="no library"),
        pytest.param({"judged": {}}, {"signed": MISSING}, id="signatures not judged"),
        pytest.param({"metrics": [said(0.8999)], "holder_metrics": [said(0.9)]}, {METRIC: FAILED}, id="below"),
        pytest.param({"holder_metrics": [said(0.9351)]}, {AGAINST: FAILED}, id="worse than the holder"),
        pytest.param({"metrics": []}, {METRIC: MISSING}, id="no metric"),
        pytest.param({"metrics": [said(dataset=None)]}, {METRIC: MISSING}, id="other dataset"),
        pytest.param({"metrics": [said(metric="f1")]}, {METRIC: MISSING}, id="other metric"),
        pytest.param({"holder_metrics": []}, {AGAINST: MISSING}, id="no metric of the holder"),
        pytest.param({"holder_metrics": [said(dataset="train")]}, {AGAINST: MISSING}, id="holder on other data"),
        pytest.param({"holder_metrics": None}, {AGAINST: MISSING}, id="holder purged"),
        pytest.param(
            {"metrics": [said(dataset_digest="a")], "holder_metrics": [said(dataset_digest="b")]},
            {AGAINST: FAILED},
            id="other data under one name",
        ),
        pytest.param({"drop_in": DropIn(Answer.NO, ("other inputs",))}, {"drop-in": FAILED}, id="not drop-in"),
        pytest.param({"drop_in": DropIn(Answer.UNKNOWN, ("no signature",))}, {"drop-in": FAILED}, id="unknown drop-in"),
        pytest.param({"drop_in": Unavailable("bytes are missing")}, {"drop-in": MISSING}, id="not comparable"),
        pytest.param({"drop_in": None}, {"drop-in": MISSING}, id="not compared"),
        pytest.param({"rehearsals": []}, {"rehearsal": MISSING}, id="no rehearsal"),
        pytest.param({"rehearsals": [rehearsed(passed=False)]}, {"rehearsal": FAILED}, id="rehearsal failed"),
        pytest.param(
            {"rehearsals": [rehearsed(at=NOW - timedelta(days=31))]}, {"rehearsal": FAILED}, id="old rehearsal"
        ),
        pytest.param({"rehearsals": [rehearsed(load_seconds=20.01)]}, {"load-time": FAILED}, id="slow"),
        pytest.param({"rehearsals": [rehearsed(load_seconds=None)]}, {"load-time": MISSING}, id="load not measured"),
        pytest.param({"rehearsals": [rehearsed(memory=4001)]}, {"memory": FAILED}, id="too much memory"),
        pytest.param({"rehearsals": [rehearsed(memory=None)]}, {"memory": MISSING}, id="memory not measured"),
        pytest.param({"version": version(2, size=1001)}, {"size": FAILED}, id="too large"),
        pytest.param({"licences": LicencesFound(("MIT", "GPL-3.0-only"))}, {"licence": FAILED}, id="another licence"),
        pytest.param({"licences": LicencesFound(("MIT",), ("ours",))}, {"licence": FAILED}, id="unknown licence"),
        pytest.param({"licences": LicencesFound(())}, {"licence": MISSING}, id="no licence"),
        pytest.param({"licences": None}, {"licence": MISSING}, id="licences not read"),
        pytest.param({"approvals": [Approval(actor="bob", at=NOW)]}, {"approvals": FAILED}, id="one approval"),
        pytest.param({"approvals": []}, {"approvals": MISSING}, id="no approval"),
        pytest.param({"approvals": [Approval(actor="bob", at=NOW)] * 2}, {"approvals": FAILED}, id="one person twice"),
        pytest.param(
            {"approvals": [Approval(actor="bob", at=NOW), Approval(actor="ada", at=NOW)]},
            {"approvals": FAILED},
            id="own approval",
        ),
    ],
)
def test_a_gate_is_shut_alone_and_says_what_it_asks_what_it_found_and_what_to_do(changes: dict, gates: dict) -> None:
    found = evidence(**changes)

    assert shut(RULE, found) == gates
    (outcome,) = (one for one in decide([RULE], found) if not one.passed)
    assert outcome.expected
    assert outcome.found.startswith("missing: ") is (outcome.state is State.MISSING)
    assert outcome.source == "promotion.toml"
    assert bool(outcome.advice) is (changes != {"holder_metrics": None})


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"metrics": [said(0.9)], "holder_metrics": [said(0.905)]}, id="bounds belong to what is allowed"),
        pytest.param(
            {"metrics": [said(0.5, at=NOW - timedelta(days=1)), said()]}, id="the latest number counts, not the worst"
        ),
        pytest.param({"metrics": [said(), said(0.1, dataset="other")]}, id="other data says nothing"),
        pytest.param({"holder": None, "holder_metrics": [], "drop_in": None}, id="no holder"),
        pytest.param(
            {"rehearsals": [rehearsed(passed=False, at=NOW - timedelta(1)), rehearsed()]}, id="last rehearsal"
        ),
        pytest.param({"rehearsals": [rehearsed(load_seconds=20.0, memory=4000)]}, id="as much as is allowed"),
        pytest.param({"version": version(2, size=1000)}, id="as large as is allowed"),
        pytest.param({"licences": LicencesFound(("mit",))}, id="licences in any case"),
        pytest.param({"metrics": [said(dataset_digest="a")], "holder_metrics": [said()]}, id="a digest for one alone"),
    ],
)
def test_what_is_just_good_enough_passes(changes: dict) -> None:
    assert shut(RULE, evidence(**changes)) == {}


@pytest.mark.parametrize(("old", "new", "passes"), [(0.915, 0.91, True), (0.9151, 0.91, False), (0.3, 0.295, True)])
def test_numbers_are_compared_as_people_typed_them(old: float, new: float, passes: bool) -> None:
    rule = Rule(source="r", metrics=(replace(AUC, minimum=None),))

    assert (shut(rule, evidence(metrics=[said(new)], holder_metrics=[said(old)])) == {}) is passes


@pytest.mark.parametrize(("old", "new", "passes"), [(0.5, 0.4, True), (0.5, 0.505, True), (0.5, 0.506, False)])
def test_where_less_is_better_more_is_worse(old: float, new: float, passes: bool) -> None:
    rule = Rule(source="r", metrics=(replace(AUC, minimum=None, lower=True),))

    assert (shut(rule, evidence(metrics=[said(new)], holder_metrics=[said(old)])) == {}) is passes


def test_a_number_above_its_bound_is_named() -> None:
    rule = Rule(source="r", metrics=(MetricRule(name="auc", dataset="holdout", maximum=0.92),))

    assert shut(rule, evidence()) == {METRIC: FAILED}
    assert shut(rule, evidence(metrics=[said(0.92)])) == {}


def test_only_numbers_and_rehearsals_of_those_who_are_named_count() -> None:
    rule = replace(RULE, recorded_by=("ci",))

    assert shut(rule, evidence()) == {}
    assert shut(rule, evidence(metrics=[said(actor="ada")])) == {METRIC: MISSING}
    assert shut(rule, evidence(metrics=[said(actor=None)])) == {METRIC: MISSING}
    assert shut(rule, evidence(holder_metrics=[said(actor="ada")])) == {AGAINST: MISSING}
    assert shut(rule, evidence(rehearsals=[rehearsed(actor="ada")])) == {"rehearsal": MISSING}
    assert shut(rule, evidence(metrics=[said(), said(0.1, actor="ada", at=NOW + timedelta(1))])) == {}


def test_the_pusher_counts_among_approvals_only_where_the_rule_says_so() -> None:
    both = evidence(approvals=[Approval(actor="bob", at=NOW), Approval(actor="ada", at=NOW)])

    assert shut(replace(RULE, self_approval=True), both) == {}


def test_approvals_that_do_not_count_are_told() -> None:
    found = evidence(approvals=[], ignored=["one said to be by bob, attached by eve"])

    (outcome,) = (one for one in decide([RULE], found) if one.gate == "approvals")
    assert "not counted: one said to be by bob, attached by eve" in outcome.found


def test_whoever_is_not_named_may_not_move_and_no_override_opens_that() -> None:
    rules = [Rule(source="a", movers=("ada", "ci")), Rule(source="b", movers=("ci",)), Rule(source="c")]

    assert [(one.source, one.passed, one.binding) for one in may_move(rules, "ada")] == [
        ("a", True, True),
        ("b", False, True),
    ]


def test_patterns_name_models_and_aliases() -> None:
    rule = Rule(source="r", aliases=("champion", "prod-*"), models=("fraud/*",))

    assert rule.holds_for("fraud/churn", "champion")
    assert rule.holds_for("fraud/churn", "prod-eu")
    assert not rule.holds_for("fraud/churn", "beta")
    assert not rule.holds_for("credit/churn", "champion")


STATES = st.sampled_from(
    [
        {},
        {"verdict": Verdict.UNSAFE},
        {"metrics": []},
        {"metrics": [said(0.1)]},
        {"holder": None},
        {"drop_in": None},
        {"rehearsals": []},
        {"approvals": []},
        {"licences": None},
    ]
)
PARTS = st.sampled_from(
    [
        Rule(source="r", safe=True),
        Rule(source="r", metrics=(AUC,)),
        Rule(source="r", drop_in=True),
        Rule(source="r", rehearsed=True),
        Rule(source="r", approvals=1),
        Rule(source="r", licences=("MIT",)),
        Rule(source="r", max_size=10),
        RULE,
    ]
)


@given(st.lists(PARTS, max_size=4), st.lists(PARTS, max_size=3), STATES)
def test_more_rules_never_open_a_gate(rules: list[Rule], more: list[Rule], changes: dict) -> None:
    found = evidence(**changes)
    few, many = decide(rules, found), decide([*rules, *more], found)

    assert many[: len(few)] == few
    assert all(one.passed for one in few) or not all(one.passed for one in many)
