"""Advice: every rule has some, and the most specific one wins."""

from __future__ import annotations

from doc_blocks import ROOT
from finding_rules import rules

from assay.audit.advice import advice

HARM = {"execute", "write", "network", "read", "exhaust"}


def test_every_rule_that_can_do_harm_has_advice_of_its_own_kind() -> None:
    general = advice("nobody-wrote-about-this")
    harmful = [rule for rule, found in rules(ROOT / "src" / "assay").items() if HARM & set(found.severities)]
    without = [rule for rule in harmful if advice(rule) == general]

    assert len(harmful) > 30

    assert without == []


def test_special_advice_beats_general_advice() -> None:
    assert "safetensors, or the estimator as skops" in advice("pickle-unknown-global").do
    assert "followed to its end" in advice("pickle-broken").means
    assert advice("pickle-broken") != advice("onnx-malformed")
