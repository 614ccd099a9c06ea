"""Scan: audit a version or a tree, decide under the policies, and keep the report beside the version."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from assay.errors import StorageError
from assay.policy.deciding import Decision
from assay.policy.policy import Gate, Handling
from assay.service.audit import audit
from assay.service.gate import Guard, audit_predicate, refusal
from assay.service.registry import Registry
from assay.service.remembering import Remembered
from assay.spec.json import Json
from assay.spec.manifest import Manifest
from assay.spec.records import Version
from assay.spec.report import Report, Verdict
from assay.spec.statement import Statement
from assay.trees import Tree


@dataclass(frozen=True, slots=True)
class Scanned:
    """One target, audited.

    Args:
        target: reference or path, as messages call it.
        subject: the artifact's manifest digest; None for files that are no artifact.
        report: what was found.
        decision: what it comes to.
        known: how many groups of blobs were not read because they had been read with these rules before.
    """

    target: str
    subject: str | None
    report: Report
    decision: Decision
    known: int = 0

    def to_json(self) -> dict[str, Json]:
        """As ``assay scan --json`` prints it."""
        body: dict[str, Json] = {"target": self.target}
        if self.subject:
            body["digest"] = self.subject
        return {
            **body,
            **self.decision.to_json(),
            "refused": [{**item.finding.to_json(), "because": item.because} for item in self.decision.refused],
            "warned": [{**item.finding.to_json(), "because": item.because} for item in self.decision.warned],
            "report": self.report.to_json(),
        }


def scan_tree(tree: Tree, guard: Guard, *, target: str, subject: str | None = None) -> Scanned:
    """Audit files that are no version."""
    found = audit(tree, guard.auditing())
    return Scanned(target, subject, found, guard.decide(found, subject=subject))


def scan_version(
    registry: Registry, version: Version, guard: Guard, *, memory: Path | None, record: bool = True
) -> Scanned:
    """Audit a version and attach the report, unless the same report is there already.

    Args:
        registry: where it is.
        version: which.
        guard: rules and policies.
        memory: the home's folder of remembered findings; None reads everything again.
        record: whether to attach the report.

    Raises:
        NotFound: its bytes were purged or are missing.
        IntegrityError: its manifest is damaged.
    """
    manifest = registry.manifest(version)
    registry.check_present(version, manifest.entries())
    scanned = _scan_manifest(registry, manifest, guard, memory, version.reference)
    if record:
        try:
            attach(registry, manifest, scanned.report, scanned.decision)
        except StorageError as error:
            if error.code != "store-read-only":  # who may only read a home may still look at it
                raise
    return scanned


def admit(
    registry: Registry, version: Version, guard: Guard, gate: Gate, *, memory: Path | None, required: bool = False
) -> None:
    """Let a version through a gate, or not; nothing is read when neither the policies nor the caller ask.

    Raises:
        Refused: it is not safe (code ``not-safe``), or not signed as it must be (``not-signed``).
    """
    asked = any(policy.gates[gate] is not Handling.RECORD for policy in guard.policies)
    if not asked and not required:
        return
    guard.admit_signed(gate, registry, version, required=required, instead="nothing was written")
    decision = scan_version(registry, version, guard, memory=memory, record=False).decision
    if required and decision.verdict is not Verdict.SAFE:
        raise refusal(gate, decision, version.reference, instead="nothing was written")
    guard.admit(gate, decision, version.reference, instead="nothing was written")


def every_version(registry: Registry) -> Iterator[Version]:
    """All versions that were not purged, by model, newest first."""
    for model in registry.catalog.models():
        for version in registry.catalog.versions(model.name):
            if not version.gone:
                yield version


def attach(registry: Registry, manifest: Manifest, found: Report, decision: Decision) -> bool:
    """Attach a report to an artifact; False when just this report is there already."""
    now = datetime.now(UTC).replace(microsecond=0)
    return registry.attach(Statement(manifest.digest, "audit", audit_predicate(found, decision), now), manifest)


def _scan_manifest(registry: Registry, manifest: Manifest, guard: Guard, memory: Path | None, target: str) -> Scanned:
    digests = {entry.path: entry.digest for entry in manifest.entries()}
    auditing = guard.auditing()
    remembered = Remembered(memory, auditing.ruleset, digests)
    found = audit(registry.tree(manifest), auditing, describing=remembered)
    subject = str(manifest.digest)
    return Scanned(target, subject, found, guard.decide(found, subject=subject), remembered.known)
