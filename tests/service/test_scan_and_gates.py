"""Scans, what they remember, and the gates: what is not safe is kept, shown, and goes no further."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import pytest
from model_files import safetensors
from store_faults import contents

import assay
from assay.audit import ruleset
from assay.errors import InvalidInput, LimitExceeded, Refused
from assay.policy.policy import DEFAULT, STRICT, Policy
from assay.service import scan as scanning
from assay.service import transfer
from assay.service.audit import MAX_DEPTH, Auditing, audit
from assay.service.gate import Guard
from assay.service.registry import Registry
from assay.service.remembering import Remembered, forget_other_rules
from assay.settings import Settings, read_settings
from assay.spec.digest import Digest
from assay.spec.finding import Finding, Severity
from assay.spec.inspection import Inspection
from assay.spec.reference import Reference
from assay.spec.report import Report, Verdict
from assay.spec.statement import Statement
from assay.trees import Tree
from assay.wiring.auditing import auditing, guard_of, policies_of
from assay.wiring.places import AUDITS, open_layout, open_registry
from assay.wiring.scanning import Failed, scan

SAFE = safetensors(weight=("F32", [2, 3], struct.pack("<6f", *range(6))))
ODD = SAFE + b"more bytes than the header says"


def guard(*policies: Policy) -> Guard:
    return Guard(auditing, policies or (DEFAULT,), lambda: date(2026, 11, 28), lambda _: None)


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A file that contradicts itself: unverified."""
    (tmp_path / "odd.safetensors").write_bytes(ODD)
    return tmp_path / "odd.safetensors"


@pytest.fixture
def good(tmp_path: Path) -> Path:
    (tmp_path / "good.safetensors").write_bytes(SAFE)
    return tmp_path / "good.safetensors"


def test_push_records_the_audit_of_what_it_stores_and_lets_it_in(push, registry: Registry, odd: Path) -> None:
    pushed = push(odd)

    (said,) = registry.statements(pushed.version.manifest, "audit")
    assert pushed.decision.verdict is Verdict.UNVERIFIED
    assert said.predicate["verdict"] == "unverified"
    assert Report.parse(said.predicate["report"]).findings == tuple(item.finding for item in pushed.decision.judged)


def test_an_alias_is_not_moved_to_what_is_not_safe_and_the_version_stays(push, registry: Registry, odd: Path) -> None:
    with pytest.raises(Refused) as caught:
        push(odd, "m", alias="champion")

    assert caught.value.code == "not-safe"
    assert "stored as m:1; alias champion was not moved" in caught.value.message
    assert registry.catalog.alias("m", "champion") is None
    assert registry.resolve(Reference.parse("m")).number == 1


def test_a_strict_policy_keeps_what_is_not_safe_under_quarantine(
    registry: Registry, odd: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Refused) as caught:
        assay.push(odd, "m", alias="champion", policy="strict", home=home)

    assert caught.value.code == "quarantined"
    assert "kept as quarantine/m:1" in caught.value.message
    assert [model.name for model in registry.catalog.models()] == ["quarantine/m"]
    assay.pull("quarantine/m", odd.parent / "out", home=home)
    assert contents(odd.parent / "out") == {"odd.safetensors": ODD}


def test_what_is_not_safe_is_not_loaded_from_a_registry_or_a_path(push, odd: Path, home: Path) -> None:
    push(odd, "m")

    for reference in ("m", odd):
        with pytest.raises(Refused) as caught:
            assay.load(reference, home=home)
        assert caught.value.code == "not-safe"
        assert "rule safetensors-trailing-bytes" in caught.value.message
        assert "assay scan" in (caught.value.hint or "")


def test_an_exception_bound_to_the_digest_opens_the_gate_for_that_artifact(
    push, odd: Path, home: Path, tmp_path: Path
) -> None:
    digest = push(odd, "m").version.manifest
    (tmp_path / "policy.toml").write_text(
        f'[[exception]]\nrule = "safetensors-trailing-bytes"\ndigest = "{digest}"\n'
        'author = "kim"\nreason = "checked"\nexpires = 9999-01-01\n'
    )
    scanned = assay.scan("m", policy=tmp_path / "policy.toml", home=home)

    assert scanned.decision.verdict is Verdict.SAFE
    assert assay.scan(odd, policy=tmp_path / "policy.toml", home=home).decision.verdict is Verdict.SAFE


def test_an_exception_counts_for_a_path_that_is_loaded_as_it_does_for_its_scan(
    tmp_path: Path, odd: Path, good: Path
) -> None:
    digest = assay.push(odd, "m", home=tmp_path / "home").manifest
    body = f'[[exception]]\nrule = "safetensors-trailing-bytes"\ndigest = "{digest}"\n'
    (tmp_path / "policy.toml").write_text(body + 'author = "kim"\nreason = "checked"\nexpires = 9999-01-01\n')

    with pytest.raises(assay.AssayError) as caught:  # the gate is open: now the library itself refuses the file
        assay.load(odd, policy=tmp_path / "policy.toml")
    assert caught.value.code != "not-safe"
    (tmp_path / "other.safetensors").write_bytes(ODD + b"!")
    with pytest.raises(Refused) as refused:
        assay.load(tmp_path / "other.safetensors", policy=tmp_path / "policy.toml")
    assert refused.value.code == "not-safe"


def test_classes_must_be_listed_by_every_policy() -> None:
    one, two = Policy(name="a", globals=frozenset({"x.Y", "x.Z"})), Policy(name="b", globals=frozenset({"x.Y"}))

    assert guard(one, two).globals == {"x.Y"}


def test_what_was_remembered_under_other_rules_is_forgotten_and_the_rest_kept(tmp_path: Path) -> None:
    described = Remembered(tmp_path, "old", {"a.safetensors": Digest.of(SAFE)})
    tree = Tree.of({"a.safetensors": SAFE})
    form = next(form for form in auditing().formats if form.name == "safetensors")
    described(tree, form, ("a.safetensors",))
    forget_other_rules(tmp_path, "old")
    kept = list(tmp_path.rglob("*.json"))
    forget_other_rules(tmp_path, "new")

    assert (len(kept), list(tmp_path.rglob("*.json"))) == (1, [])


def test_the_rule_set_changes_with_any_file_that_judges(tmp_path: Path) -> None:
    def digest() -> str:
        found = hashlib.sha256()
        ruleset._add(found, tmp_path, "audit")
        return found.hexdigest()

    (tmp_path / "table.json").write_text("{}")
    first = digest()
    (tmp_path / "notes.md").write_text("words judge nothing")
    assert digest() == first
    (tmp_path / "table.json").write_text("[]")
    assert digest() != first


def test_a_forged_report_opens_nothing(push, registry: Registry, odd: Path, home: Path) -> None:
    manifest = registry.manifest(push(odd, "m").version)
    clean = Report(ruleset=auditing().ruleset, findings=())
    scanning.attach(registry, manifest, clean, guard().decide(clean, subject=None))

    with pytest.raises(Refused):
        assay.load("m", home=home)
    assert assay.scan("m", home=home).decision.verdict is Verdict.UNVERIFIED


def test_a_report_is_attached_once_however_often_it_is_made(push, registry: Registry, good: Path, home: Path) -> None:
    manifest = push(good, "m").version.manifest
    for _ in range(3):
        assay.scan("m", home=home)

    assert len(registry.statements(manifest, "audit")) == 1


def test_a_blob_that_was_audited_with_these_rules_is_not_read_again(
    push, registry: Registry, good: Path, home: Path
) -> None:
    version = push(good, "m").version
    first = scanning.scan_version(registry, version, guard(), memory=home / AUDITS)
    again = scanning.scan_version(registry, version, guard(), memory=home / AUDITS)
    other = replace(guard(), auditing=lambda: replace(auditing(), ruleset="other rules"))
    renewed = scanning.scan_version(registry, version, other, memory=home / AUDITS)

    assert (first.known, again.known, renewed.known) == (0, 1, 0)
    assert again.report == first.report


def test_what_is_remembered_and_damaged_is_read_again(push, registry: Registry, odd: Path, home: Path) -> None:
    version = push(odd, "m").version
    first = scanning.scan_version(registry, version, guard(), memory=home / AUDITS)
    for file in (home / AUDITS).rglob("*.json"):
        file.write_bytes(b'{"format": "safetensors", "paths": [], "findings": [{"rule": 1}]}')

    again = scanning.scan_version(registry, version, guard(), memory=home / AUDITS)

    assert (again.known, again.report) == (0, first.report)


def test_pull_can_ask_for_an_audit_and_then_writes_nothing_unsafe(
    push, registry: Registry, odd: Path, home: Path
) -> None:
    from assay.policy.policy import Gate

    version = push(odd, "m").version
    scanning.admit(registry, version, guard(), Gate.PULL, memory=None)
    for policies, required in (((DEFAULT,), True), ((STRICT,), False)):
        with pytest.raises(Refused) as caught:
            scanning.admit(registry, version, guard(*policies), Gate.PULL, memory=None, required=required)
        assert "nothing was written" in caught.value.message


def test_a_pull_from_python_asks_the_policies_and_then_writes_nothing_unsafe(push, odd: Path, home: Path) -> None:
    push(odd, "m")
    target = odd.parent / "out"

    with pytest.raises(Refused) as chosen:
        assay.pull("m", target, policy="strict", home=home)
    (home / "policy.toml").write_text('extends = "strict"\n')
    with pytest.raises(Refused) as ruled:
        assay.pull("m", target, policy="audit-only", home=home)

    assert (chosen.value.code, ruled.value.code) == ("not-safe", "not-safe")
    assert not target.exists()


def test_an_ignore_file_does_not_hide_anything_from_a_scan(tmp_path: Path, good: Path, odd: Path) -> None:
    (tmp_path / ".assayignore").write_text("odd.safetensors\n")
    rules = {item.finding.rule for item in assay.scan(tmp_path).decision.refused}

    assert "safetensors-trailing-bytes" in rules


def test_the_registry_may_be_stricter_than_the_person_and_never_laxer(home: Path, registry: Registry) -> None:
    (home / "policy.toml").write_text('extends = "strict"\n[rules]\n"some-rule" = "refuse"\n')
    person = Settings(home, "tester", "audit-only")

    names = [policy.name for policy in policies_of(person)]
    found = Report(ruleset="r", findings=(Finding("some-rule", Severity.NOTE, "m"),))
    assert names == ["audit-only", str(home / "policy.toml")]
    assert guard_of(person).decide(found, subject=None).verdict is Verdict.UNSAFE


def test_a_project_file_cannot_name_a_policy_because_it_may_be_the_models_own(tmp_path: Path) -> None:
    (tmp_path / "assay.toml").write_text('policy = "audit-only"\n')

    with pytest.raises(InvalidInput) as caught:
        read_settings(environ={}, folder=tmp_path)
    assert caught.value.code == "bad-settings"


def test_a_layout_is_scanned_where_it_lies(push, registry: Registry, odd: Path, tmp_path: Path, home: Path) -> None:
    blobs, index = open_layout(tmp_path / "layout")
    transfer.copy_out(registry, push(odd, "m").version, blobs, index, tag="v1")

    scanned = assay.scan(f"oci:{tmp_path}/layout:v1", home=tmp_path / "none")

    assert scanned.decision.verdict is Verdict.UNVERIFIED
    assert scanned.subject == str(registry.resolve(Reference.parse("m")).manifest)


def test_several_processes_find_what_one_finds_and_a_failure_is_an_outcome(
    push, good: Path, odd: Path, home: Path
) -> None:
    push(good, "a")
    push(odd, "b")
    targets = ["a", "b", "c", str(good), str(odd)]
    settings = Settings(home, "tester")

    def said(outcomes) -> list:
        return [
            outcome.error.code if isinstance(outcome, Failed) else (outcome.decision.verdict, outcome.report)
            for outcome in outcomes
        ]

    alone = said(scan(targets, settings, jobs=1))
    assert said(scan(targets, settings, jobs=2)) == alone
    assert [one if isinstance(one, str) else one[0].value for one in alone] == [
        "safe", "unverified", "model-not-found", "safe", "unverified",
    ]  # fmt: skip


def test_a_purged_version_is_left_out_of_a_scan_of_everything(push, good: Path, odd: Path, home: Path) -> None:
    push(good, "a")
    push(odd, "b")
    from assay.wiring.scanning import all_targets

    assert sorted(all_targets(Settings(home, "tester"))) == ["a:1", "b:1"]
    from assay.service.purge import purge

    registry = open_registry(Settings(home, "tester"))
    purge(registry, registry.resolve(Reference.parse("b")), reason="test", snapshots=home / "snapshots")
    assert all_targets(Settings(home, "tester")) == ["a:1"]


def test_a_class_that_a_policy_lists_is_built_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ourteam.py").write_text(
        "class Net:\n    def __init__(self):\n        raise RuntimeError('made by calling it')\n\n\nclass Other(Net):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    net = b"\x80\x02courteam\nNet\n)\x81}U\x06layersK\x03sb."
    (tmp_path / "net.pkl").write_bytes(net)
    (tmp_path / "other.pkl").write_bytes(net.replace(b"\nNet\n", b"\nOther\n"))
    (tmp_path / "policy.toml").write_text('[globals]\nconstruct = ["ourteam.Net"]\n')

    with pytest.raises(Refused):
        assay.load(tmp_path / "net.pkl")
    built = assay.load(tmp_path / "net.pkl", policy=tmp_path / "policy.toml")
    assert (type(built).__name__, vars(built)) == ("Net", {"layers": 3})
    with pytest.raises(Refused) as caught:
        assay.load(tmp_path / "other.pkl", policy=tmp_path / "policy.toml")
    assert caught.value.code == "not-safe"


# What an audit does with auditors and archives, on small parts made for it


@dataclass
class Box:
    tree: Tree
    findings: Sequence[Finding] = ()


class Nosy:
    """Finds the word evil, fails on the word broken, and knows that notes are inert."""

    name = "nosy"

    def audit(self, tree: Tree, inspection: Inspection) -> Sequence[Finding]:
        if any(b"broken" in tree.head(path) for path in tree):
            raise LimitExceeded("too much of it")
        return [Finding("nosy-evil", Severity.READ, "evil", path) for path in tree if b"evil" in tree.head(path)]

    def inert(self, tree: Tree, paths: Sequence[str]) -> Sequence[str]:
        return [path for path in paths if path.endswith(".txt")]


def expand(tree: Tree, path: str) -> Box | None:
    data = tree.head(path)
    return Box(Tree.of({"inner": data[3:]}), (Finding("box", Severity.NOTE, "a box"),)) if data[:3] == b"BOX" else None


def looked(files: dict[str, bytes]) -> set[tuple[str, str]]:
    found = audit(Tree.of(files), Auditing((), (Nosy(),), expand, "r"))
    return {(finding.rule, finding.path) for finding in found.findings}


def test_what_nobody_knows_is_a_finding_and_what_is_inert_or_empty_is_none() -> None:
    assert looked({"a.txt": b"hello", "b": b"\x00\x01", "c": b""}) == {("file-unknown", "b")}


def test_an_auditor_that_gives_up_leaves_a_finding() -> None:
    assert looked({"a.txt": b"broken evil"}) == {("nosy-unreadable", "")}


def test_archives_are_opened_and_their_members_named_by_the_way_to_them() -> None:
    assert looked({"x": b"BOXBOXevil"}) == {("nosy-evil", "x"), ("box", ""), ("nosy-evil", "x!/inner"), ("box", "x"), ("nosy-evil", "x!/inner!/inner")}  # fmt: skip


def test_archives_nested_too_deep_are_not_called_clean() -> None:
    rules = looked({"x": b"BOX" * MAX_DEPTH + b"fine"})

    assert "archive-nesting" in {rule for rule, _ in rules}


def test_a_report_survives_its_json_form() -> None:
    found = audit(Tree.of({"x": b"BOXevil", "y": b"?"}), Auditing((), (Nosy(),), expand, "r"))

    assert Report.parse(json.loads(json.dumps(found.to_json()))) == found


@pytest.mark.parametrize("change", [{"schema": 2}, {"findings": 3}, {"files": -1}, {"ruleset": None}])
def test_a_report_of_another_form_is_refused(change: dict) -> None:
    body = {**audit(Tree.of({}), Auditing((), (), expand, "r")).to_json(), **change}

    with pytest.raises(InvalidInput) as caught:
        Report.parse(body)
    assert caught.value.code == "invalid-report"


def test_a_statement_of_an_audit_is_about_the_manifest(push, registry: Registry, good: Path) -> None:
    pushed = push(good)
    (said,) = registry.statements(pushed.version.manifest, "audit")

    assert isinstance(said, Statement)
    assert said.subject == pushed.version.manifest
    assert Digest.of(said.document())
