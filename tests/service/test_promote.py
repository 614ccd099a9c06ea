"""Promotions: gates from real evidence, moves by compare-and-swap, a history that says why; rollbacks and yanks."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from model_files import safetensors

import assay
from assay.artifact.collect import collect
from assay.errors import AssayError, BadFormat, Conflict, InvalidInput, NotFound, Refused
from assay.loaders.registry import choose_loader
from assay.policy.promotion import State
from assay.service import approvals, evaluations, loading, promote, publish, rollback, transfer, yanking
from assay.service.gate import Guard
from assay.service.promote import Request
from assay.service.publish import Claims, Pushed
from assay.service.registry import Registry
from assay.service.signatures import sign
from assay.settings import Settings
from assay.signing.keys import KeySigner, make_key, read_private_key
from assay.spec.changes import Answer, DropIn
from assay.spec.records import EventKind, Version
from assay.spec.reference import Reference
from assay.spec.statement import Statement
from assay.wiring.auditing import guard_of
from assay.wiring.places import open_layout, open_registry

FITTING = DropIn(Answer.YES, ("the same inputs and outputs",))


def weights(seed: int) -> bytes:
    return safetensors(weight=("F32", [2], struct.pack("<2f", seed, seed + 1)))


@pytest.fixture
def add(registry: Registry, tmp_path: Path) -> Callable[..., Version]:
    """``add(seed, metrics, card=…)``: a version of ``m``; the same seed is the same version."""

    def do(seed: int, metrics: Mapping[str, float] | None = None, *, card: str = "", **options) -> Version:
        return pushed(registry, tmp_path, seed, metrics, card=card, **options).version

    return do


def pushed(
    registry: Registry,
    folder: Path,
    seed: int,
    metrics: Mapping[str, float] | None = None,
    *,
    card: str = "",
    guard: Guard | None = None,
    data: bytes | None = None,
    **options,
) -> Pushed:
    model = folder / f"model-{seed}"
    shutil.rmtree(model, ignore_errors=True)
    model.mkdir()
    (model / "model.safetensors").write_bytes(weights(seed) if data is None else data)
    if card:
        (model / "README.md").write_text(f"---\nlicense: {card}\n---\n")
    guard = guard or guard_of(Settings(Path(registry.place), registry.actor))
    return publish.push(registry, collect(model), "m", guard=guard, claims=Claims(metrics=metrics or {}), **options)


@pytest.fixture
def guard(registry: Registry) -> Callable[..., Guard]:
    """``guard(rules, …)``: what judges under these rules of the registry."""

    def make(rules: str = "", *, policy: str | None = None, drop_in: DropIn | Exception | None = FITTING) -> Guard:
        home = Path(registry.place)
        (home / "promotion.toml").write_text(f"[[promotion]]\nalias = 'champion'\n{rules}\n" if rules else "")
        made = guard_of(Settings(home, registry.actor, policy))
        return replace(made, promoting=replace(made.promoting, compare=comparing(drop_in)))

    return make


def comparing(answer: DropIn | Exception | None):
    def compare(registry: Registry, old: Version, new: Version) -> DropIn:
        if isinstance(answer, Exception):
            raise answer
        assert answer is not None
        return answer

    return None if answer is None else compare


def move(registry: Registry, version: Version, guard: Guard, alias: str = "champion", **wish) -> promote.Moved:
    return promote.carry_out(registry, promote.plan(registry, version, alias, guard=guard, request=Request(**wish)))


def at(registry: Registry, alias: str = "champion") -> int | None:
    found = registry.catalog.alias("m", alias)
    return None if found is None else found.number


def as_(registry: Registry, actor: str) -> Registry:
    return replace(registry, actor=actor)


def attach(registry: Registry, version: Version, kind: str, predicate: dict) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    registry.attach(Statement(version.manifest, kind, predicate, now), registry.manifest(version))


def shut(caught: pytest.ExceptionInfo[Refused]) -> set[str]:
    assert caught.value.code == "promotion-refused"
    return {gate["gate"] for gate in caught.value.details["gates"] if gate["state"] != "passed"}


def test_a_promotion_moves_the_alias_and_keeps_who_why_and_the_evidence(registry, add, guard) -> None:
    one, two = add(1, {"auc": 0.9}), add(2, {"auc": 0.95})
    rules = "[[promotion.metrics]]\nname = 'auc'\nmin = 0.9\nnot_worse_by = 0\nbetter = 'higher'"

    first = move(registry, one, guard(rules), reason="the first")
    second = move(as_(registry, "eve"), two, guard(rules), reason="better")

    assert (first.moved, second.moved, at(registry)) == (True, True, 2)
    event = registry.catalog.events(name="m", limit=1)[0]
    assert (event.actor, event.data["reason"], event.data["from"], event.data["number"]) == ("eve", "better", 1, 2)
    kept = event.data["evidence"]
    assert (kept["kind"], kept["digest"]) == ("promotion", str(two.manifest))
    assert {gate["gate"]: gate["state"] for gate in kept["gates"]} == {
        "safety": "passed",
        "metric auc": "passed",
        "metric auc against the holder": "passed",
    }
    against = kept["gates"][-1]["evidence"]
    assert (against["holder"], against["holder_value"], against["value"], against["by"]) == ("m:1", 0.9, 0.95, "tester")
    assert [one["source"] for one in kept["rules"]] == ["promotion.toml"]


REHEARSED = {"passed": True, "load_seconds": 2.5, "peak_rss": 1000, "checks": []}

SHUT = {
    "below a bound": ("[[promotion.metrics]]\nname = 'auc'\nmin = 0.96", {}, {"metric auc"}),
    "not measured": ("[[promotion.metrics]]\nname = 'f1'\nmin = 0.5", {}, {"metric f1"}),
    "worse than the holder": (
        "[[promotion.metrics]]\nname = 'loss'\nnot_worse_by = 0.1\nbetter = 'lower'",
        {},
        {"metric loss against the holder"},
    ),
    "not measured on that data": (
        "[[promotion.metrics]]\nname = 'auc'\ndataset = 'holdout'\nmin = 0.5",
        {},
        {"metric auc on holdout"},
    ),
    "somebody else's number": (
        "recorded_by = ['ci']\n[[promotion.metrics]]\nname = 'auc'\nmin = 0.5",
        {},
        {"metric auc"},
    ),
    "too large": ("max_size = '10 B'", {}, {"size"}),
    "not a drop-in": ("drop_in = true", {"drop_in": DropIn(Answer.NO, ("other inputs",))}, {"drop-in"}),
    "not comparable": ("drop_in = true", {"drop_in": BadFormat("damaged")}, {"drop-in"}),
    "nobody who compares": ("drop_in = true", {"drop_in": None}, {"drop-in"}),
    "slow": ("max_load_seconds = 2", {}, {"load-time"}),
    "hungry": ("max_memory = '999 B'", {}, {"memory"}),
    "another licence": ("licences = ['Apache-2.0']", {}, {"licence"}),
    "not approved": ("approvals = 1", {}, {"approvals"}),
    "not one of the movers": ("movers = ['ci']", {}, {"mover"}),
}


@pytest.mark.parametrize("case", SHUT)
def test_a_gate_that_is_shut_is_named_and_nothing_changes(registry, add, guard, case: str) -> None:
    rules, options, gates = SHUT[case]
    one, two = add(1, {"auc": 0.9, "loss": 0.3}), add(2, {"auc": 0.95, "loss": 0.5}, card="mit")
    attach(registry, two, "rehearsal", REHEARSED)
    move(registry, one, guard(), reason="the first")
    before = registry.catalog.events()

    with pytest.raises(Refused) as caught:
        move(registry, two, guard(rules, **options))

    assert shut(caught) == gates
    assert all(gate in caught.value.message for gate in gates)
    assert caught.value.exit_status == 1
    assert at(registry) == 1
    assert registry.catalog.events() == before


OPEN = {
    "within bounds": "[[promotion.metrics]]\nname = 'auc'\nmin = 0.9\nmax = 1.0",
    "no worse than allowed": "[[promotion.metrics]]\nname = 'loss'\nnot_worse_by = 0.2\nbetter = 'lower'",
    "small enough": "max_size = '1 MB'",
    "a drop-in": "drop_in = true",
    "rehearsed": "rehearsed = true\nrehearsal_days = 1\nmax_load_seconds = 3\nmax_memory = '1 kB'",
    "a licence of the list": "licences = ['apache-2.0', 'mit']",
    "one of the movers": "movers = ['ci', 'tester']",
    "safe": "audit = 'safe'",
}


@pytest.mark.parametrize("case", OPEN)
def test_a_gate_is_open_when_its_evidence_is_there(registry, add, guard, case: str) -> None:
    one, two = add(1, {"auc": 0.9, "loss": 0.3}), add(2, {"auc": 0.95, "loss": 0.5}, card="mit")
    attach(registry, two, "rehearsal", REHEARSED)
    move(registry, one, guard())

    assert move(registry, two, guard(OPEN[case])).moved
    assert at(registry) == 2


def test_a_rehearsal_that_failed_is_told_in_its_own_words(registry, add, guard) -> None:
    version = add(1)
    checks = [{"name": "load", "passed": True, "message": "loaded"}, {"passed": False, "message": "numpy is not there"}]
    attach(registry, version, "rehearsal", {"passed": False, "checks": checks})

    with pytest.raises(Refused, match="numpy is not there") as caught:
        move(registry, version, guard("rehearsed = true"))
    assert shut(caught) == {"rehearsal"}


@pytest.mark.parametrize("said", [{}, {"passed": "yes"}, {"passed": 1}, {"checks": 3, "passed": None}])
def test_a_rehearsal_of_another_form_opens_nothing(registry, add, guard, said: dict) -> None:
    version = add(1)
    attach(registry, version, "rehearsal", said)

    with pytest.raises(Refused) as caught:
        move(registry, version, guard("rehearsed = true"))
    assert shut(caught) == {"rehearsal"}


def test_evaluations_count_on_their_dataset(registry, add, guard) -> None:
    one, two = add(1), add(2)
    rules = (
        "[[promotion.metrics]]\nname = 'auc'\ndataset = 'holdout'\nmin = 0.9\nnot_worse_by = 0.005\nbetter = 'higher'"
    )
    evaluations.give(registry, one, {"auc": 0.95}, dataset="holdout")
    evaluations.give(registry, two, {"auc": 0.93}, dataset="holdout")
    move(registry, one, guard(rules))

    with pytest.raises(Refused) as caught:
        move(registry, two, guard(rules))
    assert shut(caught) == {"metric auc on holdout against the holder"}

    evaluations.give(registry, two, {"auc": 0.945}, dataset="holdout")
    assert move(registry, two, guard(rules)).moved


def test_the_policies_gate_of_safety_always_holds_and_no_override_opens_it(registry, add, guard) -> None:
    version = add(1, data=weights(1) + b"more than the header says")

    for rules, override in (("", None), ("", "now"), ("max_size = '1 MB'", "now")):
        with pytest.raises(Refused) as caught:
            move(registry, version, guard(rules), override=override)
        assert shut(caught) == {"safety"}
    assert at(registry) is None
    assert move(registry, version, guard(policy="audit-only")).moved


def test_a_rule_may_ask_for_more_safety_than_the_policies(registry, add, guard) -> None:
    version = add(1, data=weights(1) + b"more than the header says")

    with pytest.raises(Refused) as caught:
        move(registry, version, guard("audit = 'safe'", policy="audit-only"))
    assert shut(caught) == {"audit"}


def signers(*names: str, folder: Path) -> tuple[str, dict[str, KeySigner]]:
    found, tables = {}, ""
    for name in names:
        public = make_key(folder / name, None)
        tables += f"[[trust.signer]]\nname = '{name}'\npublic_key = '''{public.read_text()}'''\n"
        found[name] = KeySigner(read_private_key(folder / name, None))
    return tables, found


def test_only_signatures_of_those_a_rule_names_open_its_gate(registry, add, guard, tmp_path: Path) -> None:
    version = add(1)
    tables, keys = signers("release", "other", folder=tmp_path)
    rules = f"signed_by = ['release']\n{tables}"

    with pytest.raises(Refused, match="signed by none of them") as caught:
        move(registry, version, guard(rules))
    assert shut(caught) == {"signed"}
    sign(registry, version, keys["other"])
    with pytest.raises(Refused):
        move(registry, version, guard(rules))
    sign(registry, version, keys["release"])
    assert move(registry, version, guard(rules)).moved


def test_a_rule_may_name_whom_the_registrys_policy_trusts_and_nobody_whom_a_person_chose(
    registry, add, guard, tmp_path: Path
) -> None:
    version = add(1)
    tables, keys = signers("release", folder=tmp_path)
    (tmp_path / "mine.toml").write_text(tables)
    with pytest.raises(InvalidInput, match="of that name here or in the registry"):
        move(registry, version, guard("signed_by = ['release']", policy=str(tmp_path / "mine.toml")))

    (Path(registry.place) / "policy.toml").write_text(tables)
    sign(registry, version, keys["release"])
    assert move(registry, version, guard("signed_by = ['release']")).moved


def test_approvals_are_counted_by_the_journal_and_not_by_what_they_say(registry, add, guard) -> None:
    version = add(1)
    rules = "approvals = 2"
    forged = {"approves": True, "actor": "bob", "model": "m", "at": "2026-11-28T00:00:00Z"}
    attach(as_(registry, "eve"), version, "approval", forged)
    approvals.approve(as_(registry, "eve"), version)
    approvals.approve(registry, version)  # who pushed it

    with pytest.raises(Refused) as caught:
        move(registry, version, guard(rules))
    assert shut(caught) == {"approvals"}
    assert "said to be by bob, attached by eve" in caught.value.message
    assert "tester pushed it" in caught.value.message

    approvals.approve(as_(registry, "bob"), version, alias="champion", note="looked at it")
    assert move(registry, version, guard(rules)).moved


def test_an_approval_holds_for_its_model_alias_and_artifact_until_it_is_taken_back(registry, add, guard) -> None:
    version, other = add(1), add(2)
    bob = as_(registry, "bob")
    approvals.approve(bob, version, alias="beta")
    approvals.approve(bob, other)
    attach(bob, version, "approval", {"approves": True, "actor": "bob", "model": "n", "at": "x"})
    for strange in ({}, {"approves": 1, "actor": "bob", "model": "m"}, {"approves": True, "actor": "bob"}):
        attach(bob, version, "approval", {**strange, "at": str(strange)})
    with pytest.raises(Refused):
        move(registry, version, guard("approvals = 1"))

    assert approvals.approve(bob, version).new
    assert not approvals.approve(bob, version).new
    assert promote.plan(registry, version, "champion", guard=guard("approvals = 1")).shut == ()
    assert approvals.approve(bob, version, withdraw=True).new
    assert not approvals.approve(bob, version, withdraw=True).new
    with pytest.raises(Refused):
        move(registry, version, guard("approvals = 1"))


def test_a_copy_brings_no_approvals_along(registry, add, guard, tmp_path: Path) -> None:
    version = add(1)
    approvals.approve(as_(registry, "bob"), version)
    blobs, index = open_layout(tmp_path / "layout")
    transfer.copy_out(registry, version, blobs, index, tag="v1")
    settings = Settings(tmp_path / "elsewhere", "eve")
    other = open_registry(settings, create=True)
    copied = transfer.copy_in(other, "m", blobs, index).version
    (settings.home / "promotion.toml").write_text("[[promotion]]\nalias = 'champion'\napprovals = 1\n")

    with pytest.raises(Refused) as caught:
        move(other, copied, guard_of(settings))
    assert shut(caught) == {"approvals"}


def test_an_override_passes_gates_and_is_kept_with_its_reason(registry, add, guard) -> None:
    version = add(1)

    moved = move(registry, version, guard("approvals = 1\nmax_size = '1 B'"), override="the old one is down")

    assert moved.plan.overridden == ("size", "approvals")
    kept = registry.catalog.events(name="m", limit=1)[0].data["evidence"]
    assert kept["override"] == {"reason": "the old one is down", "gates": ["size", "approvals"]}
    assert {gate["gate"]: gate["state"] for gate in kept["gates"]}["size"] == "failed"


def test_an_override_of_nothing_is_none(registry, add, guard) -> None:
    moved = move(registry, add(1), guard("max_size = '1 MB'"), override="to be sure")

    assert moved.plan.overridden == ()
    assert "override" not in registry.catalog.events(name="m", limit=1)[0].data["evidence"]


@pytest.mark.parametrize("allowed", ["false", "['ada']"])
def test_who_may_not_override_does_not(registry, add, guard, allowed: str) -> None:
    with pytest.raises(Refused) as caught:
        move(registry, add(1), guard(f"override = {allowed}\nmax_size = '1 B'"), override="now")
    assert shut(caught) == {"size", "override"}
    assert at(registry) is None


def test_one_rule_that_forbids_overriding_forbids_it_for_all(registry, add, guard) -> None:
    rules = "max_size = '1 B'\n[[promotion]]\nalias = '*'\noverride = false\nmax_size = '1 MB'"

    with pytest.raises(Refused) as caught:
        move(registry, add(1), guard(rules), override="now")
    assert shut(caught) == {"size", "override"}


def test_an_override_without_a_reason_is_no_override(registry, add, guard) -> None:
    with pytest.raises(InvalidInput) as caught:
        move(registry, add(1), guard(), override=" ")
    assert caught.value.code == "reason-missing"


def test_a_project_adds_gates_and_loosens_none(registry, add, guard, tmp_path: Path) -> None:
    version = add(1)
    guard("max_size = '1 B'\noverride = false")
    project = tmp_path / "assay.toml"
    project.write_text("[[promotion]]\nalias = 'champion'\nmax_size = '1 GB'\noverride = true\napprovals = 1\n")
    found = guard_of(Settings(Path(registry.place), "tester", project=project))

    with pytest.raises(Refused) as caught:
        move(registry, version, found, override="now")
    assert shut(caught) == {"size", "approvals", "override"}
    sources = {gate["source"] for gate in caught.value.details["gates"] if gate["gate"] == "size"}
    assert sources == {"promotion.toml", "assay.toml"}


def test_a_broken_file_of_rules_moves_nothing_and_stops_nothing_else(registry, add, guard) -> None:
    version = add(1)
    found = guard("max_size = 3")

    with pytest.raises(InvalidInput) as caught:
        move(registry, version, found)
    assert caught.value.code == "bad-promotion"
    (Path(registry.place) / "promotion.toml").write_text("[[promotion")
    with pytest.raises(InvalidInput, match="cannot be read"):
        move(registry, version, found)
    assert add(2).number == 2


@pytest.mark.parametrize("expect", ["none", 2])
def test_an_alias_that_is_not_where_it_was_expected_is_left_alone(registry, add, guard, expect) -> None:
    one, two = add(1), add(2)
    move(registry, one, guard(), expect="none")

    with pytest.raises(Conflict) as caught:
        move(registry, two, guard(), expect=expect)
    assert (caught.value.code, at(registry)) == ("alias-moved", 1)
    assert move(registry, two, guard(), expect=1).moved


def test_what_was_compared_with_must_still_be_there_when_the_alias_moves(registry, add, guard) -> None:
    one, two, three = add(1), add(2), add(3)
    move(registry, one, guard())
    planned = promote.plan(registry, three, "champion", guard=guard())
    move(as_(registry, "eve"), two, guard())

    with pytest.raises(Conflict) as caught:
        promote.carry_out(registry, planned)
    assert (caught.value.code, at(registry)) == ("alias-moved", 2)


def test_who_wants_what_somebody_else_just_did_is_told_so(registry, add, guard) -> None:
    one, two = add(1), add(2)
    move(registry, one, guard())
    mine = promote.plan(registry, two, "champion", guard=guard())
    move(as_(registry, "eve"), two, guard())

    assert not promote.carry_out(registry, mine).moved
    assert not move(registry, two, guard("approvals = 1")).moved  # it is there, so nothing is asked
    assert len(registry.catalog.events(name="m", kinds=[EventKind.ALIAS_MOVED])) == 2


def test_of_promotions_at_the_same_time_one_wins_and_the_others_are_told(registry, add, guard) -> None:
    home = Path(registry.place)
    for seed in range(1, 5):
        add(seed)
    move(registry, registry.resolve(Reference("m", "1")), guard())
    script = Path(__file__).with_name("promoting.py")
    racers = [
        subprocess.Popen(
            [sys.executable, "-W", "error", str(script), str(home), f"user-{number}", str(number)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2, 5)
    ]
    while not all((home / f"planned-{number}").exists() for number in range(2, 5)):
        assert all(racer.poll() is None for racer in racers), [racer.communicate() for racer in racers]
        time.sleep(0.01)
    (home / "start").touch()
    told = {}
    for racer in racers:
        out, error = racer.communicate(timeout=120)
        assert racer.returncode == 0, error
        number, what = out.split()
        told[int(number)] = what

    (winner,) = (number for number, what in told.items() if what == "moved")
    assert [what for number, what in told.items() if number != winner] == ["alias-moved"] * 2
    assert at(registry) == winner
    newest, _ = registry.catalog.events(name="m", kinds=[EventKind.ALIAS_MOVED])
    assert (newest.actor, newest.data["from"], newest.data["number"]) == (f"user-{winner}", 1, winner)


def test_a_push_to_a_protected_alias_is_refused_before_anything_is_stored(registry, add, guard) -> None:
    found = guard("protected = true")

    with pytest.raises(Refused) as caught:
        add(1, alias="champion", guard=found)

    assert caught.value.code == "alias-protected"
    assert "assay promote m champion" in caught.value.hint
    assert registry.catalog.models() == []
    assert list(registry.blobs.digests()) == []
    assert add(1, alias="beta", guard=found).number == 1
    assert move(registry, add(1), found).moved


def test_a_push_passes_the_gates_of_its_alias_as_a_promotion_does(registry, add, guard) -> None:
    found = guard("recorded_by = ['tester']\n[[promotion.metrics]]\nname = 'auc'\nmin = 0.9")

    with pytest.raises(Refused, match="stored as m:1; alias champion was not moved") as caught:
        add(1, {"auc": 0.8}, alias="champion", guard=found)
    assert shut(caught) == {"metric auc"}
    assert at(registry) is None

    assert add(2, {"auc": 0.95}, alias="champion", guard=found).number == 2
    event = registry.catalog.events(name="m", limit=1)[0]
    assert (at(registry), event.data["evidence"]["kind"]) == (2, "push")
    with pytest.raises(Refused) as caught:
        add(3, {"auc": 0.95}, alias="champion", guard=guard("movers = ['ci']"))
    assert (caught.value.code, len(registry.catalog.versions("m"))) == ("alias-protected", 2)


def test_a_rollback_restores_exactly_and_a_second_one_goes_further_back(registry, add, guard) -> None:
    versions = [add(seed) for seed in (1, 2, 3)]
    for version in versions:
        move(registry, version, guard())
    state = [registry.catalog.versions("m"), registry.catalog.alias("m", "beta")]

    def back(**wish) -> int | None:
        planned = rollback.plan_rollback(registry, "m", "champion", guard=guard("approvals = 2"), **wish)
        assert promote.carry_out(registry, planned).moved
        return at(registry)

    assert [back(), back()] == [2, 1]
    assert [registry.catalog.versions("m"), registry.catalog.alias("m", "beta")] == state
    with pytest.raises(NotFound) as caught:
        back()
    assert caught.value.code == "no-earlier-state"
    assert back(to=3) == 3
    event = registry.catalog.events(name="m", limit=1)[0]
    assert (event.data["from"], event.data["evidence"]["kind"]) == (1, "rollback")
    with pytest.raises(InvalidInput) as caught:
        back(to=7)
    assert caught.value.code == "never-there"
    move(registry, versions[1], guard())
    assert back(steps=2) == 1


def test_a_rollback_stays_where_safety_says_no_and_whoever_may_not_move_does_not(registry, add, guard) -> None:
    odd, good = add(1, data=weights(1) + b"more than the header says"), add(2)
    move(registry, odd, guard(policy="audit-only"))
    move(registry, good, guard())

    for rules, policy, gate in (("", None, "safety"), ("movers = ['ci']", "audit-only", "mover")):
        planned = rollback.plan_rollback(registry, "m", "champion", guard=guard(rules, policy=policy))
        with pytest.raises(Refused) as caught:
            promote.carry_out(registry, planned)
        assert caught.value.code == "rollback-refused"
        assert {one["gate"] for one in caught.value.details["gates"] if one["state"] != "passed"} == {gate}
    assert at(registry) == 2


def test_a_rollback_to_what_must_not_be_used_is_refused_and_names_the_next_one(registry, add, guard) -> None:
    for seed in (1, 2, 3):
        move(registry, add(seed), guard())
    yanking.yank(registry, Reference("m", "2"), reason="wrong labels")

    with pytest.raises(Refused, match="yanked: wrong labels") as caught:
        rollback.plan_rollback(registry, "m", "champion", guard=guard())
    assert (caught.value.code, caught.value.hint) == ("rollback-refused", "assay rollback m champion --to 1")
    assert at(registry) == 3

    registry.catalog.mark_purged(registry.resolve(Reference("m", "1")).manifest, reason="leaked", actor="ada")
    with pytest.raises(Refused, match="purged: leaked") as caught:
        rollback.plan_rollback(registry, "m", "champion", guard=guard(), steps=2)
    assert caught.value.hint == "no earlier version of it may be used"


def test_the_next_one_lies_further_back_before_it_lies_nearer(registry, add, guard) -> None:
    for seed in (1, 2, 3, 4):
        move(registry, add(seed), guard())
    yanking.yank(registry, Reference("m", "2"), reason="wrong labels")
    with pytest.raises(Refused) as caught:
        rollback.plan_rollback(registry, "m", "champion", guard=guard(), steps=2)
    assert caught.value.hint == "assay rollback m champion --to 1"

    yanking.yank(registry, Reference("m", "1"), reason="wrong labels")
    with pytest.raises(Refused) as caught:
        rollback.plan_rollback(registry, "m", "champion", guard=guard(), steps=2)
    assert caught.value.hint == "assay rollback m champion --to 3"


class Meddler:
    """A catalog in which somebody moves the alias as soon as somebody else has looked where it is."""

    def __init__(self, registry: Registry, number: int) -> None:
        self._catalog = registry.catalog
        self._number = number

    def __getattr__(self, name: str):
        return getattr(self._catalog, name)

    def alias(self, name: str, alias: str):
        found = self._catalog.alias(name, alias)
        self._catalog.move_alias(name, alias, self._number, expect=found.number, actor="eve")
        return found


def test_an_alias_that_moved_since_one_looked_is_not_taken_away(registry, add, guard) -> None:
    move(registry, add(1), guard())
    meddled = replace(registry, catalog=Meddler(registry, add(2).number))

    with pytest.raises(Conflict) as caught:
        rollback.unalias(meddled, "m", "champion", guard=guard(), reason="old")
    assert (caught.value.code, at(registry)) == ("alias-moved", 2)


def test_a_rollback_and_a_removal_are_compare_and_swap_too(registry, add, guard) -> None:
    for seed in (1, 2):
        move(registry, add(seed), guard())
    planned = rollback.plan_rollback(registry, "m", "champion", guard=guard())
    move(registry, add(3), guard())

    with pytest.raises(Conflict):
        promote.carry_out(registry, planned)
    with pytest.raises(Conflict):
        rollback.unalias(registry, "m", "champion", guard=guard(), reason="old", request=Request(expect=2))
    assert at(registry) == 3


def test_an_alias_that_was_taken_away_comes_back_with_a_rollback(registry, add, guard) -> None:
    move(registry, add(1), guard())
    move(registry, add(2), guard())

    removed = rollback.unalias(registry, "m", "champion", guard=guard(), reason="retired")
    assert (removed.number, at(registry)) == (2, None)
    promote.carry_out(registry, rollback.plan_rollback(registry, "m", "champion", guard=guard()))
    assert at(registry) == 2
    with pytest.raises(NotFound) as caught:
        rollback.unalias(registry, "m", "beta", guard=guard(), reason="retired")
    assert caught.value.code == "alias-not-found"
    for rules in ("protected = true", "movers = ['ci']"):
        with pytest.raises(Refused) as caught:
            rollback.unalias(registry, "m", "champion", guard=guard(rules), reason="retired")
        assert caught.value.code == "alias-protected"
    with pytest.raises(InvalidInput):
        rollback.unalias(registry, "m", "champion", guard=guard(), reason="")
    assert at(registry) == 2


def test_a_yanked_version_is_warned_about_passed_over_and_not_promoted(registry, add, guard) -> None:
    warned: list[str] = []
    listening = replace(registry, warn=warned.append)
    add(1)
    move(registry, add(2), guard())
    outcome = yanking.yank(registry, Reference("m", "champion"), reason="wrong labels")

    assert (outcome.version.number, outcome.changed, outcome.aliases) == (2, True, ["champion"])
    assert listening.resolve(Reference("m")).number == 1
    assert warned == []
    assert listening.resolve(Reference("m", "champion")).yanked == "wrong labels"
    assert listening.resolve(Reference("m", "2")).number == 2
    assert listening.resolve(Reference("m", digest=outcome.version.manifest)).number == 2
    assert warned[:2] == ["m:champion is m:2, which was yanked: wrong labels", "m:2 was yanked: wrong labels"]
    assert len(warned) == 3
    with pytest.raises(Refused) as caught:
        move(registry, outcome.version, guard(), alias="beta", override="we need it")
    assert shut(caught) == {"fit"}
    assert add(2) == outcome.version  # the same content is the same version, still yanked
    assert add(3).number == 3

    assert yanking.yank(registry, Reference("m", "2"), reason="", undo=True).version.yanked is None
    assert not yanking.yank(registry, Reference("m", "2"), reason="", undo=True).changed
    assert move(registry, registry.resolve(Reference("m", "2")), guard(), alias="beta").moved


def test_loading_what_was_yanked_takes_a_word(registry, guard, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "weights.npy").write_bytes(npy())
    found = guard()
    version = publish.push(registry, collect(tmp_path / "one"), "arrays", guard=found).version
    version = yanking.yank(registry, Reference("arrays", "1"), reason="wrong labels").version
    snapshots = Path(registry.place) / "snapshots"

    with pytest.raises(Refused, match="yanked: wrong labels") as caught:
        loading.load(registry, version, guard=found, choose=choose_loader, snapshots=snapshots)
    assert caught.value.code == "version-yanked"
    loaded = loading.load(registry, version, guard=found, choose=choose_loader, snapshots=snapshots, yanked=True)
    assert loaded is not None


def npy() -> bytes:
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }".ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + struct.pack("<d", 1.0)


def test_a_yank_needs_a_reason_and_says_which_version(registry, add) -> None:
    add(1)
    for reference, reason, code in (
        (Reference("m"), "bad", "version-missing"),
        (Reference("m", "1"), " ", "reason-missing"),
    ):
        with pytest.raises(InvalidInput) as caught:
            yanking.yank(registry, reference, reason=reason)
        assert caught.value.code == code


class PromotionMachine(RuleBasedStateMachine):
    """Promotions, rollbacks, removals and yanks of one alias in random order, against a list of where it was."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.settings = Settings(self.folder / "home", "tester")
        self.registry = open_registry(self.settings, create=True)
        self.guard = guard_of(self.settings)
        self.versions = [pushed(self.registry, self.folder, seed).version.number for seed in range(4)]
        self.stack: list[int] = []
        self.ever: set[int] = set()
        self.now: int | None = None
        self.yanked: set[int] = set()

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    def earlier(self) -> list[int]:
        """Where a rollback can go, nearest first."""
        found, after = [], self.now
        for number in reversed(self.stack):
            if number != after:
                found.append(number)
            after = number
        return found

    @rule(number=st.integers(1, 4))
    def promote(self, number: int) -> None:
        version = self.registry.catalog.version("m", number)
        if number == self.now:
            assert not move(self.registry, version, self.guard).moved
        elif number in self.yanked:
            with pytest.raises(Refused):
                move(self.registry, version, self.guard)
        else:
            assert move(self.registry, version, self.guard).moved
            self.now = number
            self.stack.append(number)
            self.ever.add(number)

    @rule(steps=st.integers(1, 3))
    def roll_back(self, steps: int) -> None:
        back = self.earlier()
        if len(back) < steps:
            self._refused(NotFound, steps=steps)
        elif back[steps - 1] == self.now:  # it was there before, too: nothing moves, and the history stays as it is
            planned = rollback.plan_rollback(self.registry, "m", "champion", guard=self.guard, steps=steps)
            assert not promote.carry_out(self.registry, planned).moved
        elif back[steps - 1] in self.yanked:
            self._refused(Refused, steps=steps)
        else:
            self._roll(steps=steps)
            for _ in range(steps):
                while self.stack[-1] == self.now:
                    self.stack.pop()
                self.now = self.stack[-1]
            assert self.now == back[steps - 1]

    @rule(number=st.integers(1, 5))
    def roll_back_to(self, number: int) -> None:
        if number not in self.ever:
            self._refused(InvalidInput, to=number)
        elif number != self.now and number in self.yanked:
            self._refused(Refused, to=number)
        elif number != self.now:
            self._roll(to=number)
            self.now = number
            if number in self.stack and self._latest_is_on_stack(number):
                del self.stack[len(self.stack) - self.stack[::-1].index(number) :]
            else:
                self.stack.append(number)

    def _latest_is_on_stack(self, number: int) -> bool:
        undo, every = rollback.stays(self.registry, "m", "champion")
        before = [stay for stay in every[:-1] if stay.number == number][-1]
        return any(stay.sequence == before.sequence for stay in undo)

    @precondition(lambda self: self.now is not None)
    @rule()
    def take_away(self) -> None:
        rollback.unalias(self.registry, "m", "champion", guard=self.guard, reason="r")
        self.now = None

    @rule(number=st.integers(1, 4), undo=st.booleans())
    def yank(self, number: int, undo: bool) -> None:
        yanking.yank(self.registry, Reference("m", str(number)), reason="r", undo=undo)
        (self.yanked.discard if undo else self.yanked.add)(number)

    @rule()
    def reopen(self) -> None:
        self.registry = open_registry(self.settings)
        self.registry.catalog.reindex()

    def _roll(self, **where) -> None:
        planned = rollback.plan_rollback(self.registry, "m", "champion", guard=self.guard, **where)
        assert promote.carry_out(self.registry, planned).moved

    def _refused(self, error: type[AssayError], **where) -> None:
        before = len(self.registry.catalog.events())
        with pytest.raises(error):
            rollback.plan_rollback(self.registry, "m", "champion", guard=self.guard, **where)
        assert len(self.registry.catalog.events()) == before

    @invariant()
    def the_alias_is_where_the_model_says(self) -> None:
        assert at(self.registry) == self.now
        versions = self.registry.catalog.versions("m")
        assert {version.number for version in versions if version.yanked} == self.yanked
        assert [version.number for version in versions] == [4, 3, 2, 1]
        fit = [number for number in (4, 3, 2, 1) if number not in self.yanked]
        assert self.registry.resolve(Reference("m")).number == (fit or [4])[0]
        assert [stay.number for stay in rollback.stays(self.registry, "m", "champion")[0]] == self.stack


TestPromotionMachine = PromotionMachine.TestCase
TestPromotionMachine.settings = settings(
    deadline=None, max_examples=12, stateful_step_count=20, suppress_health_check=[HealthCheck.too_slow]
)


def test_states_are_words_that_journals_keep() -> None:
    assert [state.value for state in State] == ["passed", "failed", "missing"]


@pytest.mark.framework
def test_the_comparison_that_diff_makes_decides_whether_a_model_is_a_drop_in(registry, tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression

    points = np.random.default_rng(0).normal(size=(60, 4))
    labels = (points[:, 0] > 0).astype(int)
    home = Path(registry.place)
    for shift, width in ((0, 4), (1, 4), (1, 3)):
        assay.push(LogisticRegression().fit(points[:, :width] + shift, labels), "lr", home=home)
    (home / "promotion.toml").write_text("[[promotion]]\nalias = 'champion'\ndrop_in = true\n")

    assert assay.promote("lr:1", "champion", home=home).moved
    assert assay.promote("lr:2", "champion", home=home).moved
    with pytest.raises(Refused) as caught:
        assay.promote("lr:3", "champion", home=home)
    assert shut(caught) == {"drop-in"}
    assert "3] instead of" in caught.value.message
