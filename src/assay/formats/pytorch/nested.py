"""Torch files inside torch's other archives: what there is to say about them, as if they lay alone."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace

from assay.containers.archive import Archive, is_archive
from assay.containers.inflating import PartSource
from assay.errors import AssayError
from assay.formats.pytorch.files import PyTorchFormat
from assay.formats.pytorch.legacy import is_legacy
from assay.formats.pytorch.script import TorchScriptFormat
from assay.formats.pytorch.zip import MAX_INFLATED
from assay.spec.finding import Finding, Severity
from assay.trees import Tree

MAX_NESTED = 200
"""Torch files in one archive that are looked at."""


def nested_findings(archive: Archive, known: Container[str] = ()) -> tuple[list[Finding], set[str]]:
    """Findings of every torch file among the members, at ``archive!/member``, and which members they are.

    Args:
        archive: the zip.
        known: members to leave out.
    """
    findings: list[Finding] = []
    seen: set[str] = set()
    for member in archive.members:
        head = archive.head(member, 64)
        if member.name in known or not (is_archive(head) or is_legacy(head)):
            continue
        if len(seen) >= MAX_NESTED:
            message = f"more than {MAX_NESTED} torch files inside, the rest is not looked at"
            findings.append(Finding("pytorch-nested", Severity.INCOMPLETE, message, archive.window.path))
            break
        found = _described(archive, member.name)
        if found is not None:
            findings += found
            seen.add(member.name)
    return findings, seen


def _described(archive: Archive, name: str) -> list[Finding] | None:
    """What is found in one member; None when it is no torch file."""
    path = f"{archive.window.path}!/{name}"
    try:
        budget = archive.window.budget
        tree = Tree({name: PartSource(archive.open(name, MAX_INFLATED))}, limit=max(0, budget.limit - budget.used))
        for form in (PyTorchFormat(), TorchScriptFormat()):
            for group in form.detect(tree):
                found = form.describe(tree, group).findings
                return [*archive.findings, *(replace(finding, path=path) for finding in found)]
    except AssayError as error:
        return [Finding("pytorch-nested", Severity.INCOMPLETE, error.message[:400], path)]
    return None
