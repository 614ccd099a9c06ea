"""Evidence: gather what the gates of a promotion are decided on, and nothing that no gate asks for.

The files are looked at afresh. Statements are claims that may come from anywhere: each is told with who attached it
here, by the journal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from assay.errors import AssayError
from assay.policy.deciding import Decision
from assay.policy.promotion import Evidence, LicencesFound, Recorded, Rehearsed, Rule, Unavailable
from assay.policy.trust import Judgement, Trust
from assay.service.approvals import approvals, attached_by, referring
from assay.service.examine import inspect
from assay.service.gate import Guard
from assay.service.registry import Registry
from assay.spec.changes import DropIn
from assay.spec.evaluation import KIND as EVALUATION
from assay.spec.evaluation import PUSHED, finite, read_evaluation, said_at
from assay.spec.inspection import Inspection
from assay.spec.json import Json
from assay.spec.records import Version
from assay.trees import Tree

REHEARSAL = "rehearsal"


@dataclass(frozen=True, slots=True)
class Looked:
    """Files of a version that were looked at just now.

    Args:
        tree: them.
        inspection: what they hold.
        decision: what the policies make of an audit of them.
    """

    tree: Tree
    inspection: Inspection
    decision: Decision


def look(registry: Registry, version: Version, guard: Guard) -> Looked:
    """Inspect and audit the files of a version.

    Raises:
        NotFound: its bytes are missing, or were purged or removed.
        IntegrityError: its manifest is damaged.
    """
    manifest = registry.manifest(version)
    registry.check_present(version, manifest.entries())
    tree = registry.tree(manifest)
    inspection = inspect(tree, guard.auditing().formats)
    _, decision = guard.judge(tree, inspection, subject=str(manifest.digest))
    return Looked(tree, inspection, decision)


def gather(
    registry: Registry,
    guard: Guard,
    rules: Sequence[Rule],
    version: Version,
    alias: str,
    *,
    holder: Version | None,
    looked: Looked,
) -> Evidence:
    """Everything that *rules* ask about pointing *alias* at *version*.

    Raises:
        NotFound, IntegrityError: a statement about the version cannot be read.
    """
    metrics = any(rule.metrics for rule in rules)
    compared = any(metric.not_worse_by is not None for rule in rules for metric in rule.metrics)
    words = approvals(registry, version, alias) if any(rule.approvals for rule in rules) else ((), ())
    return Evidence(
        version=version,
        alias=alias,
        holder=holder,
        actor=registry.actor,
        now=datetime.now(UTC),
        verdict=looked.decision.verdict,
        summary=looked.decision.summary,
        judged={rule.trust: _judged(registry, guard, version, rule.trust) for rule in rules if rule.trust.requirements},
        metrics=_metrics(registry, version) if metrics else (),
        holder_metrics=_metrics_of_holder(registry, holder) if compared else (),
        drop_in=_drop_in(registry, guard, holder, version) if any(rule.drop_in for rule in rules) else None,
        rehearsals=_rehearsals(registry, version) if any(rule.asks_rehearsal for rule in rules) else (),
        licences=_licences(guard, looked) if any(rule.licences is not None for rule in rules) else None,
        approvals=words[0],
        ignored=words[1],
    )


def _judged(registry: Registry, guard: Guard, version: Version, trust: Trust) -> Judgement | Unavailable:
    if guard.signers is None:
        return Unavailable("nobody here can check signatures")
    try:
        return guard.signers(registry, version, trust)
    except AssayError as error:
        return Unavailable(f"the signatures could not be checked: {error.message}")


def _metrics(registry: Registry, version: Version) -> list[Recorded]:
    referrers = referring(registry, version, EVALUATION, PUSHED)
    actors = attached_by(registry, version, referrers) if referrers else {}
    found = []
    for referrer in referrers:
        said = read_evaluation(registry.statement(referrer))
        if said is None:
            continue
        digest = None if said.dataset_digest is None else str(said.dataset_digest)
        found += [
            Recorded(
                metric=name,
                value=value,
                dataset=said.dataset,
                dataset_digest=digest,
                at=said.at,
                actor=actors.get(referrer.manifest),
            )
            for name, value in said.metrics.items()
        ]
    return found


def _metrics_of_holder(registry: Registry, holder: Version | None) -> list[Recorded] | None:
    """None when what was said of it went with its bytes."""
    if holder is None:
        return []
    return None if holder.gone else _metrics(registry, holder)


def _drop_in(registry: Registry, guard: Guard, holder: Version | None, version: Version) -> DropIn | Unavailable | None:
    if holder is None:
        return None
    if guard.promoting.compare is None:
        return Unavailable("nobody here can compare versions")
    try:
        return guard.promoting.compare(registry, holder, version)
    except AssayError as error:
        return Unavailable(f"they could not be compared: {error.message}")


def _rehearsals(registry: Registry, version: Version) -> list[Rehearsed]:
    referrers = referring(registry, version, REHEARSAL)
    actors = attached_by(registry, version, referrers) if referrers else {}
    found = []
    for referrer in referrers:
        statement = registry.statement(referrer)
        said = statement.predicate
        seconds, memory = finite(said.get("load_seconds")), finite(said.get("peak_rss"))
        found.append(
            Rehearsed(
                passed=said.get("passed") is True,
                load_seconds=seconds if seconds and seconds > 0 else None,
                memory=int(memory) if memory and memory > 0 else None,
                problem=_problem(said),
                at=said_at(said.get("at"), statement.created),
                actor=actors.get(referrer.manifest),
            )
        )
    return found


def _problem(said: Mapping[str, Json]) -> str:
    """The first check of a rehearsal that did not pass, in its own words."""
    checks = said.get("checks")
    for check in checks if isinstance(checks, list | tuple) else ():
        if isinstance(check, Mapping) and check.get("passed") is not True:
            return str(check.get("message", ""))
    return ""


def _licences(guard: Guard, looked: Looked) -> LicencesFound | None:
    if guard.promoting.licences is None:
        return None
    found = guard.promoting.licences(looked.tree, looked.inspection.to_json())
    own = [claim for claim in found.claims if not claim.third_party]
    identifiers = dict.fromkeys(name for claim in own for name in claim.identifiers)
    unknown = dict.fromkeys(claim.stated for claim in own if not claim.identifiers)
    return LicencesFound(tuple(identifiers), tuple(unknown))
