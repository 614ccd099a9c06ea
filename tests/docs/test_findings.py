"""The page of rules names every rule that the tests know."""

from __future__ import annotations

import re

from doc_blocks import ROOT

from assay.formats.registry import all_formats

_WORDS = re.compile(r"\"([a-z0-9]+(?:-[a-z0-9]+)+)\"")
_NO_RULES = {"huggingface-trainer", "tensorflow-cpu"} | {form.name for form in all_formats()}


def test_every_rule_a_test_expects_is_in_the_reference() -> None:
    page = (ROOT / "docs" / "reference" / "findings.md").read_text("utf-8")
    listed = set(re.findall(r"^## ([a-z0-9-]+)$", page, re.MULTILINE))
    families = {rule.partition("-")[0] for rule in listed}
    folders = [ROOT / "tests" / name for name in ("formats", "hostile", "audit")]
    tests = "".join(file.read_text("utf-8") for folder in folders for file in folder.rglob("test_*.py"))

    expected = {word for word in _WORDS.findall(tests) if word.partition("-")[0] in families} - _NO_RULES

    expected = {word for word in expected if not word.endswith("-unreadable")}  # one per format, said at the top

    assert len(expected) > 100
    assert sorted(expected - listed) == []
