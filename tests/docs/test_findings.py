"""The page of rules names every rule that the tests know."""

from __future__ import annotations

import re

from doc_blocks import ROOT

_IN_TESTS = re.compile(r"\.rule == \"([a-z0-9-]+)\"")


def test_every_rule_a_test_expects_is_in_the_reference() -> None:
    page = (ROOT / "docs" / "reference" / "findings.md").read_text("utf-8")
    tests = "".join(file.read_text("utf-8") for file in (ROOT / "tests" / "formats").rglob("test_*.py"))

    expected = {rule for rule in _IN_TESTS.findall(tests) if not rule.endswith("-unreadable")}

    assert len(expected) > 20
    assert [rule for rule in sorted(expected) if f"| `{rule}` |" not in page] == []
