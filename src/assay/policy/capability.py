"""One sentence on what loading an artifact does, for people who will not read findings."""

from __future__ import annotations

import re
from collections.abc import Sequence

from assay.spec.finding import Finding, Severity
from assay.spec.report import Report

OWN_CODE = "from the artifact"
"""What the effect of a finding says when the code that runs lies in the artifact itself."""

_HARM = (Severity.EXECUTE, Severity.NETWORK, Severity.WRITE, Severity.READ, Severity.EXHAUST)
_PLAIN = {
    Severity.EXECUTE: "run code that is not known to be harmless",
    Severity.NETWORK: "reach the network",
    Severity.WRITE: "write files",
    Severity.READ: "read files outside the artifact",
    Severity.EXHAUST: "use up memory, disk or time",
}
_MOST = 3
_BYTES = re.compile(r"(\d[\d,]*) bytes")


def capability(report: Report) -> str:
    """What loading does, as one sentence.

    >>> capability(Report(ruleset="r", findings=()))
    'Loading this runs no code'
    """
    harm = [finding for finding in report.findings if finding.severity in _HARM]
    unread = [finding for finding in report.findings if finding.severity is Severity.INCOMPLETE]
    odd = [finding for finding in report.findings if finding.severity is Severity.MISLEAD]
    if harm:
        own = [finding for finding in harm if OWN_CODE in finding.effect]
        others = [finding for finding in harm if OWN_CODE not in finding.effect]
        said = _would(others) if others else _own(own)
        return f"{said}; not everything could be looked at" if unread else said
    if unread:
        return f"Nothing harmful was found, but not everything could be looked at: {_first(unread)}"
    if odd:
        return f"Nothing harmful was found, but the files contradict themselves: {_first(odd)}"
    return "Loading this runs no code"


def _would(findings: Sequence[Finding]) -> str:
    ranked = sorted(findings, key=lambda finding: (_HARM.index(finding.severity), not finding.effect))
    effects = list(dict.fromkeys(finding.effect or _PLAIN[finding.severity] for finding in ranked))
    more = len(effects) - _MOST
    said = effects[:_MOST] if more <= 0 else [*effects[:_MOST], f"do {more} more such things"]
    listed = said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}"
    return f"Loading this would {listed}"


def _own(findings: Sequence[Finding]) -> str:
    sizes = {
        (finding.path, found[1]): int(found[1].replace(",", ""))
        for finding in findings
        if (found := _BYTES.search(f"{finding.evidence} {finding.message}"))
    }
    size = f" ({_size(sum(sizes.values()))} of source)" if sizes else ""
    return f"Loading this runs code from the artifact itself{size}: not known to be malicious"


def _size(count: int) -> str:
    return f"{count} B" if count < 1000 else f"{count / 1000:.0f} kB" if count < 1_000_000 else f"{count / 1e6:.1f} MB"


def _first(findings: Sequence[Finding]) -> str:
    more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
    where = f"{findings[0].path}: " if findings[0].path else ""
    return f"{where}{findings[0].message}{more}"
