"""Policies: what a report comes to, and who may let what pass."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.policy.capability import capability
from assay.policy.deciding import decide
from assay.policy.policy import AUDIT_ONLY, DEFAULT, STRICT, Action, Gate, Handling, Pardon, Policy
from assay.spec.finding import Finding, Severity
from assay.spec.report import Report, Verdict

DAY = date(2026, 11, 28)
SUBJECT = "sha256:" + "a" * 64
HARM = (Severity.EXHAUST, Severity.READ, Severity.NETWORK, Severity.WRITE, Severity.EXECUTE)


def report(*findings: Finding) -> Report:
    return Report(ruleset="r", findings=findings)


def one(severity: Severity, rule: str = "some-rule", **fields) -> Report:
    return report(Finding(rule, severity, "something is there", **fields))


def verdict(found: Report, *policies: Policy, subject: str | None = SUBJECT, today: date = DAY) -> Verdict:
    return decide(found, policies or (DEFAULT,), subject=subject, today=today).verdict


def test_nothing_found_is_safe_and_so_are_notes() -> None:
    assert verdict(report()) is Verdict.SAFE
    assert verdict(one(Severity.NOTE)) is Verdict.SAFE


@pytest.mark.parametrize("severity", HARM)
def test_whatever_can_do_harm_is_unsafe(severity: Severity) -> None:
    assert verdict(one(severity)) is Verdict.UNSAFE


@pytest.mark.parametrize("severity", [Severity.INCOMPLETE, Severity.MISLEAD])
def test_what_was_not_understood_or_contradicts_itself_is_unverified(severity: Severity) -> None:
    assert verdict(one(severity)) is Verdict.UNVERIFIED


def test_a_report_that_lost_findings_is_never_safe() -> None:
    assert verdict(Report(ruleset="r", findings=(), left_out=1)) is Verdict.UNVERIFIED


def test_the_strictest_of_several_policies_decides() -> None:
    lenient = Policy(name="mine", rules={"some-rule": Action.ALLOW})

    assert verdict(one(Severity.READ), lenient) is Verdict.SAFE
    assert verdict(one(Severity.READ), lenient, DEFAULT) is Verdict.UNSAFE
    assert verdict(one(Severity.READ), DEFAULT, lenient) is Verdict.UNSAFE


def test_the_longest_matching_rule_wins_and_an_exact_one_beats_it() -> None:
    policy = Policy(name="p", rules={"a-*": Action.ALLOW, "a-b-*": Action.REFUSE, "a-b-c": Action.WARN})

    assert verdict(one(Severity.READ, "a-x"), policy) is Verdict.SAFE
    assert verdict(one(Severity.NOTE, "a-b-x"), policy) is Verdict.UNSAFE
    decision = decide(one(Severity.READ, "a-b-c"), (policy,), subject=None, today=DAY)
    assert (decision.verdict, [item.action for item in decision.judged]) == (Verdict.SAFE, [Action.WARN])


def pardon(**changes) -> Pardon:
    fields = dict(rule="some-rule", digest=SUBJECT, author="kim", reason="read by hand", expires=DAY)
    return Pardon(**{**fields, **changes})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Verdict.SAFE),
        ({"path": "m.pkl", "evidence": "x"}, Verdict.SAFE),
        ({"expires": date(2026, 11, 27)}, Verdict.UNSAFE),
        ({"rule": "other-rule"}, Verdict.UNSAFE),
        ({"digest": "sha256:" + "b" * 64}, Verdict.UNSAFE),
        ({"path": "n.pkl"}, Verdict.UNSAFE),
        ({"evidence": "y"}, Verdict.UNSAFE),
    ],
)
def test_an_exception_holds_for_its_rule_artifact_place_and_time_only(changes: dict, expected: Verdict) -> None:
    policy = Policy(name="p", pardons=(pardon(**changes),))

    assert verdict(one(Severity.EXECUTE, path="m.pkl", evidence="x"), policy) is expected


def test_an_exception_is_shown_with_its_author_and_reason() -> None:
    decision = decide(one(Severity.EXECUTE), (Policy(name="p", pardons=(pardon(),)),), subject=SUBJECT, today=DAY)

    (item,) = decision.warned
    assert item.because == "exception by kim until 2026-11-28: read by hand"


def test_an_exception_never_helps_files_whose_digest_is_not_known() -> None:
    assert verdict(one(Severity.EXECUTE), Policy(name="p", pardons=(pardon(),)), subject=None) is Verdict.UNSAFE


def test_an_allowed_class_lets_that_name_pass_and_no_other() -> None:
    policy = Policy(name="p", globals=frozenset({"team.nets.Net"}))

    assert verdict(one(Severity.EXECUTE, "pickle-unknown-global", evidence="team.nets.Net"), policy) is Verdict.SAFE
    assert verdict(one(Severity.EXECUTE, "pickle-unknown-global", evidence="team.nets.Nets"), policy) is Verdict.UNSAFE
    assert verdict(one(Severity.EXECUTE, "pickle-dangerous-global", evidence="team.nets.Net"), policy) is Verdict.UNSAFE


def test_presets_differ_in_what_their_gates_do_and_not_in_what_is_safe() -> None:
    bad = one(Severity.EXECUTE)
    handled = {
        policy.name: [decide(bad, (policy,), subject=None, today=DAY).handling(gate).value for gate in Gate]
        for policy in (DEFAULT, STRICT, AUDIT_ONLY)
    }

    assert handled == {
        "default": ["record", "record", "refuse", "refuse"],
        "strict": ["quarantine", "refuse", "refuse", "refuse"],
        "audit-only": ["record", "record", "warn", "warn"],
    }
    assert {verdict(bad, policy) for policy in (DEFAULT, STRICT, AUDIT_ONLY)} == {Verdict.UNSAFE}
    assert decide(report(), (STRICT,), subject=None, today=DAY).handling(Gate.PUSH) is Handling.RECORD


def test_a_forgotten_secret_is_shown_by_default_and_refused_by_strict() -> None:
    secret = one(Severity.NOTE, "secret-token")

    assert len(decide(secret, (DEFAULT,), subject=None, today=DAY).warned) == 1
    assert verdict(secret, DEFAULT) is Verdict.SAFE
    assert verdict(secret, STRICT) is Verdict.UNSAFE


FINDINGS = st.builds(
    Finding,
    rule=st.sampled_from(["a-b", "a-c", "pickle-unknown-global", "secret-token"]),
    severity=st.sampled_from([*Severity]),
    message=st.just("m"),
    evidence=st.sampled_from(["", "x.Y"]),
)
POLICIES = st.sampled_from([DEFAULT, STRICT, AUDIT_ONLY, Policy(name="p", globals=frozenset({"x.Y"}))])


@given(st.lists(FINDINGS, max_size=6), st.lists(FINDINGS, max_size=3), st.lists(POLICIES, min_size=1, max_size=3))
def test_more_findings_and_more_policies_never_make_anything_safer(found, more, policies) -> None:
    order = [Verdict.SAFE, Verdict.UNVERIFIED, Verdict.UNSAFE]
    few = verdict(report(*found), policies[0])

    assert order.index(verdict(report(*found, *more), policies[0])) >= order.index(few)
    assert order.index(verdict(report(*found), *policies)) >= order.index(few)


@pytest.mark.parametrize(
    ("findings", "sentence"),
    [
        ([], "Loading this runs no code"),
        ([(Severity.NOTE, "")], "Loading this runs no code"),
        ([(Severity.EXECUTE, "start a process")], "Loading this would start a process"),
        (
            [(Severity.READ, "read a file"), (Severity.EXECUTE, "start a process"), (Severity.READ, "read a file")],
            "Loading this would start a process and read a file",
        ),
        ([(Severity.EXECUTE, "")], "Loading this would run code that is not known to be harmless"),
        (
            [(Severity.EXECUTE, "run Python source from the artifact")],
            "Loading this runs code from the artifact itself (26 kB of source): not known to be malicious",
        ),
        (
            [(Severity.INCOMPLETE, "")],
            "Nothing harmful was found, but not everything could be looked at: m.py: 26,114 bytes of Python",
        ),
        (
            [(Severity.EXECUTE, "start a process"), (Severity.INCOMPLETE, "")],
            "Loading this would start a process; not everything could be looked at",
        ),
        (
            [(Severity.MISLEAD, "")],
            "Nothing harmful was found, but the files contradict themselves: m.py: 26,114 bytes of Python",
        ),
    ],
)
def test_one_sentence_says_what_loading_does(findings: list[tuple[Severity, str]], sentence: str) -> None:
    found = [Finding("r", severity, "26,114 bytes of Python", "m.py", effect=effect) for severity, effect in findings]

    assert capability(report(*found)) == sentence
