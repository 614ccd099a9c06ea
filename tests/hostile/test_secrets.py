"""Secrets left in files are told, shortened, and told from examples; they make no model unsafe to load."""

from __future__ import annotations

from datetime import date

import pytest
from hostile_files import ALPHABET, SECRETS
from hostile_folders import repository

from assay.policy.deciding import decide
from assay.policy.policy import DEFAULT, Action, Policy
from assay.service.audit import audit
from assay.spec.finding import Finding
from assay.spec.report import Verdict
from assay.trees import Tree
from assay.wiring.auditing import auditing


def secrets(given: dict[str, bytes]) -> list[Finding]:
    return [item for item in audit(Tree.of(given), auditing()).findings if item.rule.startswith("secret-")]


@pytest.mark.parametrize("rule", SECRETS)
@pytest.mark.parametrize("name", [".env", "train.py", "config/settings.yaml", "notes.md"])
def test_a_secret_is_told_from_an_example(rule: str, name: str) -> None:
    secret, example, key = SECRETS[rule]

    (finding,) = secrets({name: f"a = 1\n{key} = {secret}\n".encode()})

    assert finding.rule == rule
    assert finding.offset is not None
    assert finding.offset >= 6
    assert secrets({name: f"a = 1\n{key} = {example}\n".encode()}) == []


@pytest.mark.parametrize("rule", SECRETS)
def test_a_secret_is_never_shown(rule: str) -> None:
    secret = SECRETS[rule][0]
    (finding,) = secrets({"a.txt": f"{SECRETS[rule][2]} = {secret}\n".encode()})

    shown = f"{finding.message} {finding.evidence}"
    assert not any(
        secret[at : at + 8] in shown for at in range(len(secret) - 8) if secret[at : at + 8] not in _HARMLESS
    )


_HARMLESS = {"postgres"}


def test_a_service_account_is_told() -> None:
    key = f"-----BEGIN PRIVATE KEY-----\\n{ALPHABET * 2}\\n"
    body = f'{{"type": "service_account", "private_key": "{key}"}}'.encode()

    assert "secret-service-account" in {item.rule for item in secrets({"key.json": body})}


def test_an_honest_repository_has_no_secrets() -> None:
    assert secrets(repository()) == []


def test_a_secret_does_not_make_a_model_unsafe_unless_a_policy_says_so() -> None:
    report = audit(Tree.of(repository(**{".env": f"HF = hf_{ALPHABET[:34]}\n"})), auditing())
    strict = Policy(name="strict", rules={"secret-*": Action.REFUSE})

    assert decide(report, [DEFAULT], subject=None, today=date(2026, 1, 1)).verdict is Verdict.SAFE
    assert decide(report, [strict], subject=None, today=date(2026, 1, 1)).verdict is not Verdict.SAFE
