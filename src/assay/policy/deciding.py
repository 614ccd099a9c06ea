"""Apply policies to a report: an action per finding, and one verdict.

Pure: the day comes from the caller, because exceptions expire. Of several policies the strictest word counts, so that a
person's own policy cannot weaken that of the registry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from assay.policy.capability import capability
from assay.policy.policy import Action, Gate, Handling, Policy
from assay.spec.finding import Finding, Severity
from assay.spec.json import Json
from assay.spec.report import Report, Verdict

UNKNOWN_GLOBAL = "pickle-unknown-global"
"""The rule whose evidence is a name that a policy may add to the table."""
_UNPROVED = frozenset({Severity.INCOMPLETE, Severity.MISLEAD})
_ORDER = [*Action]
_STRICTNESS = [Handling.RECORD, Handling.WARN, Handling.QUARANTINE, Handling.REFUSE]


@dataclass(frozen=True, slots=True)
class Judged:
    """A finding and what is done about it.

    Args:
        finding: what was found.
        action: what the policy says.
        because: which line of the policy says so.
    """

    finding: Finding
    action: Action
    because: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What a report comes to under policies.

    Args:
        verdict: safe, unsafe or unverified.
        judged: every finding with its action, gravest first.
        summary: one sentence on what loading does.
        policies: the policies, as ``name (digest)`` pairs.
        gates: what each gate does with what is not safe, by the strictest of the policies.
    """

    verdict: Verdict
    judged: tuple[Judged, ...]
    summary: str
    policies: tuple[tuple[str, str], ...]
    gates: dict[Gate, Handling]

    @property
    def refused(self) -> tuple[Judged, ...]:
        """The findings that keep it from being safe."""
        return tuple(item for item in self.judged if item.action is Action.REFUSE)

    @property
    def warned(self) -> tuple[Judged, ...]:
        """The findings that people should see although they stop nothing."""
        return tuple(item for item in self.judged if item.action is Action.WARN)

    def handling(self, gate: Gate) -> Handling:
        """What *gate* does with this artifact: ``record`` when it is safe."""
        return Handling.RECORD if self.verdict is Verdict.SAFE else self.gates[gate]

    def to_json(self) -> dict[str, Json]:
        """The decision as a JSON object, without the findings."""
        return {
            "verdict": self.verdict.value,
            "summary": self.summary,
            "policies": [{"name": name, "digest": digest} for name, digest in self.policies],
        }


def decide(report: Report, policies: Sequence[Policy], *, subject: str | None, today: date) -> Decision:
    """What *report* comes to.

    Args:
        report: everything that was found.
        policies: at least one; the strictest word counts.
        subject: the artifact's manifest digest, for exceptions; None when it has none.
        today: the day exceptions are held against.
    """
    judged = tuple(_judge(finding, policies, subject, today) for finding in report.findings)
    refused = [item.finding for item in judged if item.action is Action.REFUSE]
    verdict = Verdict.SAFE
    if refused or report.left_out:
        verdict = Verdict.UNVERIFIED
    if any(finding.severity not in _UNPROVED for finding in refused):
        verdict = Verdict.UNSAFE
    return Decision(
        verdict,
        judged,
        capability(report),
        tuple((policy.name, policy.digest) for policy in policies),
        {gate: max((policy.gates[gate] for policy in policies), key=_STRICTNESS.index) for gate in Gate},
    )


def _judge(finding: Finding, policies: Sequence[Policy], subject: str | None, today: date) -> Judged:
    words = [_word(finding, policy, subject, today) for policy in policies]
    return max(words, key=lambda item: _ORDER.index(item.action))


def _word(finding: Finding, policy: Policy, subject: str | None, today: date) -> Judged:
    """What one policy says of one finding: an exception beats a rule, a rule beats the severity."""
    for pardon in policy.pardons:
        if pardon.covers(finding, subject, today):
            until = pardon.expires.isoformat()
            return Judged(finding, Action.WARN, f"exception by {pardon.author} until {until}: {pardon.reason}")
    if finding.rule == UNKNOWN_GLOBAL and finding.evidence in policy.globals:
        return Judged(finding, Action.WARN, f"{finding.evidence} is among the globals of policy {policy.name}")
    exact = policy.rules.get(finding.rule)
    if exact is not None:
        return Judged(finding, exact, f"rule {finding.rule} in policy {policy.name}")
    begins = [rule for rule in policy.rules if rule.endswith("*") and finding.rule.startswith(rule[:-1])]
    if begins:
        longest = max(begins, key=len)
        return Judged(finding, policy.rules[longest], f"rule {longest} in policy {policy.name}")
    return Judged(
        finding,
        policy.severities[finding.severity],
        f"severity {finding.severity.value} in policy {policy.name}",
    )
