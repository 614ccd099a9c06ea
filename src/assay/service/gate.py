"""The gates: where a report and the policies decide whether something goes on.

Every gate looks at the bytes it is about to use: a stored report may come from anywhere and opens nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from assay.errors import Refused
from assay.policy.deciding import Decision, decide
from assay.policy.policy import Gate, Handling, Policy
from assay.policy.promotion import Rule
from assay.policy.trust import NO_TRUST, Judgement, Trust
from assay.service.audit import Auditing, report
from assay.service.registry import Registry
from assay.spec.changes import DropIn
from assay.spec.finding import Finding
from assay.spec.inspection import Inspection
from assay.spec.json import Json
from assay.spec.manifest import Entry, build
from assay.spec.materials import Licences
from assay.spec.records import Version
from assay.spec.report import Report
from assay.streams.copying import digest_source
from assay.trees import Tree

_DOES = {
    Gate.PUSH: "push",
    Gate.PULL: "pull",
    Gate.LOAD: "load",
    Gate.PROMOTE: "promote",
}


@dataclass(frozen=True, slots=True)
class Promoting:
    """What moving an alias is judged with.

    Args:
        rules: reads the rules of the registry and of the project; only who moves an alias asks.
        compare: decides whether the second version can take the first one's place; None where nobody can: a gate that
            asks it stays shut.
        licences: reads the licences of a tree, given what formats found in it; None as above.
    """

    rules: Callable[[], Sequence[Rule]] = tuple
    compare: Callable[[Registry, Version, Version], DropIn] | None = None
    licences: Callable[[Tree, Mapping[str, Json]], Licences] | None = None

    def rules_for(self, name: str, alias: str) -> tuple[Rule, ...]:
        """What is asked before *alias* of the model *name* moves.

        Raises:
            InvalidInput: a file of rules cannot be read, or says what no rule can say (code ``bad-promotion``).
        """
        return tuple(rule for rule in self.rules() if rule.holds_for(name, alias))


@dataclass(frozen=True, slots=True)
class Guard:
    """What gates judge with.

    Args:
        auditing: gives formats, auditors and rules, once bytes are to be audited.
        policies: the person's and the registry's; the strictest word counts.
        today: gives the day that exceptions are held against.
        warn: hears of artifacts that a gate lets through although they are not safe.
        signers: judges a version by its signatures; None where no policy is asked about them.
        promoting: what moving an alias is judged with, beside the policies.
    """

    auditing: Callable[[], Auditing]
    policies: tuple[Policy, ...]
    today: Callable[[], date]
    warn: Callable[[str], None]
    signers: Callable[[Registry, Version, Trust], Judgement] | None = None
    promoting: Promoting = Promoting()

    def judge(self, tree: Tree, inspection: Inspection, *, subject: str | None) -> tuple[Report, Decision]:
        """Audit what was inspected, and decide."""
        found = report(tree, inspection, self.auditing())
        return found, self.decide(found, subject=subject)

    def decide(self, found: Report, *, subject: str | None) -> Decision:
        """Decide about a report that was made here."""
        return decide(found, self.policies, subject=subject, today=self.today())

    def subject_of(self, tree: Tree) -> str | None:
        """The digest that files in a folder would have as an artifact; None when no exception asks for it."""
        if not any(policy.pardons for policy in self.policies):
            return None
        entries = [Entry(path, digest_source(tree.source(path)), tree.size(path)) for path in tree.paths]
        return str(build(entries)[0].digest)

    def admit(self, gate: Gate, decision: Decision, what: str, *, instead: str = "") -> None:
        """Let *what* through *gate*, or not.

        Args:
            gate: which.
            decision: about it.
            what: reference or path, for messages.
            instead: what was done or not done, for the message of a refusal.

        Raises:
            Refused: the policies do not let it through (code ``not-safe``); details carry verdict, rule and path.
        """
        handling = decision.handling(gate)
        if handling is Handling.WARN:
            self.warn(f"{what} is {decision.verdict.value}: {decision.summary}")
        if handling in (Handling.REFUSE, Handling.QUARANTINE):
            raise refusal(gate, decision, what, instead=instead)

    def admit_signed(
        self, gate: Gate, registry: Registry, version: Version, *, required: bool = False, instead: str = ""
    ) -> None:
        """Let a version through *gate* by who signed it, or not; each policy with trust is asked.

        Args:
            gate: which; what it does with artifacts that are not safe, it does with those that are not signed.
            registry: where the version is.
            version: which one.
            required: whether the caller asks, whatever the gate says.
            instead: what was done or not done, for the message of a refusal.

        Raises:
            Refused: a required signature is missing, or one is invalid (code ``not-signed``).
        """
        for policy in self.policies:
            handling = Handling.REFUSE if required else policy.gates[gate]
            if self.signers is None or policy.trust == NO_TRUST or handling is Handling.RECORD:
                continue
            judged = self.signers(registry, version, policy.trust)
            if judged.ok:
                continue
            if handling is Handling.WARN:
                self.warn(f"{version.reference} is not signed as policy {policy.name} asks: {judged.problems[0]}")
                continue
            raise Refused(
                f"refused to {_DOES[gate]} {version.reference}: {judged.problems[0]}"
                + (f"; {instead}" if instead else ""),
                code="not-signed",
                hint=f"assay verify {version.reference} shows every signature; assay sign adds one",
                policy=policy.name,
            )

    @property
    def globals(self) -> frozenset[str]:
        """Classes that every policy lets pickles name beside the table."""
        sets = [policy.globals for policy in self.policies]
        return frozenset.intersection(*sets) if sets else frozenset()


def refusal(gate: Gate, decision: Decision, what: str, *, instead: str = "") -> Refused:
    """The error of a gate that stays shut: the first reason, where it lies, and how to go on."""
    reasons = [item.finding for item in decision.refused]
    said = f"refused to {_DOES[gate]} {what}: it is {decision.verdict.value}"
    details: dict[str, object] = {"verdict": decision.verdict.value, "policy": _names(decision)}
    if reasons:
        said += f": {located(reasons[0])}"
        details |= {"rule": reasons[0].rule, "path": reasons[0].path}
        if len(reasons) > 1:
            said += f", and {len(reasons) - 1} more"
    if instead:
        said += f"; {instead}"
    return Refused(said, code="not-safe", hint=_hint(what, reasons), **details)


def located(finding: Finding) -> str:
    """A finding in one line: what, where, which rule."""
    where = [finding.path] if finding.path else []
    if finding.offset is not None:
        where.append(f"offset {finding.offset}")
    where.append(f"rule {finding.rule}")
    return f"{finding.message} ({', '.join(where)})"


def audit_predicate(found: Report, decision: Decision) -> dict[str, Json]:
    """What an ``audit`` statement says: the report, and what it came to under which policies."""
    return {**decision.to_json(), "report": found.to_json()}


def _names(decision: Decision) -> str:
    return ", ".join(name for name, _ in decision.policies)


def _hint(what: str, reasons: Sequence[Finding]) -> str:
    shows = f"assay scan {what} shows every finding"
    if any(finding.rule.startswith("pickle-") for finding in reasons):
        return f"{shows}; assay convert makes a safe form, where there is one"
    return f"{shows}; an exception bound to its digest can be written into a policy file"
