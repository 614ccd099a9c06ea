"""Audit a tree: everything formats and auditors find in it, archives inside included, as one report.

The report is a pure function of the bytes and the rules. What is found inside an archive that no format describes is
reported at ``archive!/member``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from assay.errors import AssayError
from assay.ports.audit import Auditor, Classifier
from assay.ports.formats import Format
from assay.service.examine import Describe, describe, inspect
from assay.spec.finding import Finding, Severity
from assay.spec.inspection import Inspection
from assay.spec.report import MAX_FINDINGS, Report
from assay.trees import Tree

MAX_DEPTH = 3
"""Archives inside archives that are opened."""
_GRAVEST = [*Severity][::-1]
_MAX_PER_RULE = 200


class Opened(Protocol):
    """An archive opened as a tree: its members, and what was odd about it."""

    @property
    def tree(self) -> Tree:
        """The members."""
        ...

    @property
    def findings(self) -> Sequence[Finding]:
        """What was odd."""
        ...


@dataclass(frozen=True, slots=True)
class Auditing:
    """What an audit is done with.

    Args:
        formats: in order of preference.
        auditors: what looks beyond formats.
        expand: opens an archive as a tree, or gives None when the entry is none.
        ruleset: version of all of it.
    """

    formats: Sequence[Format]
    auditors: Sequence[Auditor]
    expand: Callable[[Tree, str], Opened | None]
    ruleset: str


def audit(tree: Tree, auditing: Auditing, *, describing: Describe = describe) -> Report:
    """Look at everything in *tree* and report."""
    return report(tree, inspect(tree, auditing.formats, describing=describing), auditing)


def report(tree: Tree, inspection: Inspection, auditing: Auditing) -> Report:
    """The report of a tree whose inspection is known already.

    Args:
        tree: what was inspected.
        inspection: by the formats of *auditing*.
        auditing: what to audit with.
    """
    found = _merged(_findings(tree, inspection, auditing, 0))
    kept = found[:MAX_FINDINGS]
    return Report(
        ruleset=auditing.ruleset,
        findings=tuple(kept),
        formats=tuple(dict.fromkeys(described.format for described in inspection.descriptions)),
        files=len(tree.paths),
        size=sum(tree.size(path) for path in tree.paths),
        left_out=len(found) - len(kept),
    )


def _findings(tree: Tree, inspection: Inspection, auditing: Auditing, depth: int) -> list[Finding]:
    found = list(inspection.all_findings)
    for auditor in auditing.auditors:
        found += _guarded(auditor.name, lambda auditor=auditor: auditor.audit(tree, inspection))  # type: ignore[misc]
    unknown = [path for path in inspection.unknown if tree.size(path)]
    for classifier in auditing.auditors:
        if isinstance(classifier, Classifier) and unknown:
            inert = set(classifier.inert(tree, unknown))
            unknown = [path for path in unknown if path not in inert]
    accused = {finding.path for finding in found if finding.severity is not Severity.NOTE}
    for path in unknown:
        inside = _inside(tree, path, auditing, depth)
        if inside is not None:
            found += inside
        elif path not in accused:
            message = "nothing here knows what this file is"
            found.append(Finding("file-unknown", Severity.INCOMPLETE, message, path, 0, _head(tree, path)))
    return found


def _inside(tree: Tree, path: str, auditing: Auditing, depth: int) -> list[Finding] | None:
    """What is found in an archive; None when the entry is none."""
    try:
        opened = auditing.expand(tree, path)
    except AssayError as error:
        return [Finding("archive-unreadable", Severity.INCOMPLETE, error.message, path)]
    if opened is None:
        return None
    found = list(opened.findings)
    if depth + 1 >= MAX_DEPTH:
        if opened.tree.paths:
            message = f"archives are nested more than {MAX_DEPTH} deep: the rest is not looked at"
            found.append(Finding("archive-nesting", Severity.INCOMPLETE, message, path))
        return found
    inspection = inspect(opened.tree, auditing.formats)
    inner = _findings(opened.tree, inspection, auditing, depth + 1)
    return [*found, *(replace(item, path=f"{path}!/{item.path}" if item.path else path) for item in inner)]


def _guarded(name: str, look: Callable[[], Iterable[Finding]]) -> list[Finding]:
    try:
        return list(look())
    except AssayError as error:
        return [Finding(f"{name}-unreadable", Severity.INCOMPLETE, f"could not be audited to its end: {error.message}")]


def _merged(findings: Iterable[Finding]) -> list[Finding]:
    """Gravest first, each once, and of one rule no more than people can use."""
    unique = sorted(dict.fromkeys(findings), key=lambda item: (_GRAVEST.index(item.severity), item.path, item.rule))
    counts: Counter[tuple[str, Severity]] = Counter()
    kept = []
    for finding in unique:
        counts[finding.rule, finding.severity] += 1
        if counts[finding.rule, finding.severity] <= _MAX_PER_RULE:
            kept.append(finding)
    for (rule, severity), count in counts.items():
        if count > _MAX_PER_RULE:
            message = f"{count - _MAX_PER_RULE:,} more findings of this rule are left out"
            kept.append(Finding(rule, severity, message))
    return sorted(kept, key=lambda item: _GRAVEST.index(item.severity))


def _head(tree: Tree, path: str) -> str:
    head = tree.head(path)[:16]
    return f"begins with {head.hex(' ')}" if head else "empty"
