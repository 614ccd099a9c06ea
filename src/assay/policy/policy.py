"""What a policy is: an action per finding, what the gates do with the outcome, and exceptions that somebody signed for.

Concept: a policy is data with a digest, so that a verdict can name what it was reached under. It is read by ``reading``
and applied by ``deciding``.

Not here: where policies come from (``settings``, ``wiring``), and who must have signed (``trust``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum

from assay.policy.trust import NO_TRUST, Trust
from assay.spec.finding import Finding, Severity
from assay.spec.json import Json, canonical


class Action(StrEnum):
    """What is done about a finding, mildest first."""

    ALLOW = "allow"
    WARN = "warn"
    REFUSE = "refuse"


class Gate(StrEnum):
    """Where a policy is applied."""

    PUSH = "push"
    PULL = "pull"
    LOAD = "load"
    PROMOTE = "promote"


class Handling(StrEnum):
    """What a gate does with an artifact that is not safe."""

    RECORD = "record"
    """let it through; the audit is recorded where there is a record"""
    WARN = "warn"
    """let it through and say so"""
    REFUSE = "refuse"
    """stop it"""
    QUARANTINE = "quarantine"
    """push only: keep it as a version of ``quarantine/NAME`` instead, so that nothing is lost"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pardon:
    """An exception: findings of one rule in one artifact are let pass until a day.

    Args:
        rule: exact id of the rule.
        digest: the artifact's manifest digest (``sha256:…``).
        author: who answers for it.
        reason: why.
        expires: last day it holds.
        path: the entry it is about; any when empty.
        evidence: exactly what was seen there; anything when empty.
    """

    rule: str
    digest: str
    author: str
    reason: str
    expires: date
    path: str = ""
    evidence: str = ""

    def covers(self, finding: Finding, subject: str | None, today: date) -> bool:
        """Whether it lets *finding* in the artifact *subject* pass *today*."""
        return (
            self.rule == finding.rule
            and self.digest == subject
            and self.path in ("", finding.path)
            and self.evidence in ("", finding.evidence)
            and today <= self.expires
        )


_SEVERITIES: Mapping[Severity, Action] = {
    severity: Action.ALLOW if severity is Severity.NOTE else Action.REFUSE for severity in Severity
}
_GATES: Mapping[Gate, Handling] = {
    Gate.PUSH: Handling.RECORD,
    Gate.PULL: Handling.RECORD,
    Gate.LOAD: Handling.REFUSE,
    Gate.PROMOTE: Handling.REFUSE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Rules that turn a report into a decision.

    Args:
        name: how messages call it.
        severities: action per severity.
        rules: action per rule id, or per beginning of ids when it ends in ``*``; the longest match wins, and it beats
            the severity.
        gates: what each gate does with what is not safe.
        globals: names (``package.module.Class``) of classes that pickles may name beside the table: their instances
            are made empty and given state, never called.
        pardons: exceptions.
        trust: who may sign, and who must have.
    """

    name: str
    severities: Mapping[Severity, Action] = field(default_factory=lambda: _SEVERITIES)
    rules: Mapping[str, Action] = field(default_factory=dict)
    gates: Mapping[Gate, Handling] = field(default_factory=lambda: _GATES)
    globals: frozenset[str] = frozenset()
    pardons: tuple[Pardon, ...] = ()
    trust: Trust = NO_TRUST

    def to_json(self) -> dict[str, Json]:
        """Everything that decides, in a stable order."""
        return {
            "severity": {severity.value: self.severities[severity].value for severity in Severity},
            "rules": {rule: action.value for rule, action in sorted(self.rules.items())},
            "gates": {gate.value: self.gates[gate].value for gate in Gate},
            "globals": sorted(self.globals),
            "exceptions": [
                {
                    "rule": pardon.rule,
                    "digest": pardon.digest,
                    "path": pardon.path,
                    "evidence": pardon.evidence,
                    "expires": pardon.expires.isoformat(),
                    "author": pardon.author,
                    "reason": pardon.reason,
                }
                for pardon in self.pardons
            ],
            "trust": self.trust.to_json(),
        }

    @property
    def digest(self) -> str:
        """Digest of what decides about findings; the name is not part of it."""
        return "sha256:" + hashlib.sha256(canonical(self.to_json())).hexdigest()


DEFAULT = Policy(name="default", rules={"secret-*": Action.WARN})
"""Record at push; load and promote refuse what is not safe."""

STRICT = Policy(
    name="strict",
    rules={"secret-*": Action.REFUSE},
    gates={
        Gate.PUSH: Handling.QUARANTINE,
        Gate.PULL: Handling.REFUSE,
        Gate.LOAD: Handling.REFUSE,
        Gate.PROMOTE: Handling.REFUSE,
    },
)
"""What is not safe is quarantined at push, and not pulled, loaded or promoted; forgotten secrets count as not safe."""

AUDIT_ONLY = Policy(
    name="audit-only",
    rules={"secret-*": Action.WARN},
    gates={
        Gate.PUSH: Handling.RECORD,
        Gate.PULL: Handling.RECORD,
        Gate.LOAD: Handling.WARN,
        Gate.PROMOTE: Handling.WARN,
    },
)
"""Find and say everything, stop nothing. Loaders still build only what their own rules allow."""

PRESETS: Mapping[str, Policy] = {policy.name: policy for policy in (DEFAULT, STRICT, AUDIT_ONLY)}
