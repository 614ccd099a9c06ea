"""Scan results as machines of others read them: SARIF 2.1.0 and annotations of GitHub workflows.

Sources: OASIS SARIF 2.1.0 (``sarif-schema-2.1.0.json``); GitHub "workflow commands" (``::error file=…::message``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import PurePosixPath
from urllib.parse import quote

from assay.audit.advice import advice
from assay.policy.deciding import Judged
from assay.policy.policy import Action
from assay.service.scan import Scanned
from assay.spec.finding import Finding, Severity
from assay.spec.json import Json
from assay.wiring.scanning import Failed

_RULES = "https://assay.dev/findings"
_LEVELS = {Action.REFUSE: "error", Action.WARN: "warning", Action.ALLOW: "note"}
_COMMANDS = {Action.REFUSE: "error", Action.WARN: "warning", Action.ALLOW: "notice"}
_RANKS = {
    Severity.EXECUTE: 100.0,
    Severity.WRITE: 90.0,
    Severity.NETWORK: 80.0,
    Severity.READ: 70.0,
    Severity.EXHAUST: 50.0,
    Severity.INCOMPLETE: 40.0,
    Severity.MISLEAD: 40.0,
    Severity.NOTE: 0.0,
}


def sarif(outcomes: Sequence[Scanned | Failed]) -> Json:
    """One run over all targets; targets that could not be scanned are notifications of a run that did not succeed."""
    results: list[Json] = []
    rules: dict[str, Json] = {}
    failures: list[Json] = []
    for outcome in outcomes:
        if isinstance(outcome, Failed):
            failures.append(
                {"level": "error", "message": {"text": f"{outcome.target}: {outcome.error.message}"},
                 "descriptor": {"id": outcome.error.code}}
            )  # fmt: skip
            continue
        for item in outcome.decision.judged:
            rules.setdefault(item.finding.rule, _rule(item.finding))
            results.append(_result(outcome, item))
    driver: dict[str, Json] = {
        "name": "assay",
        "semanticVersion": version("assay"),
        "informationUri": "https://assay.dev",
        "rules": list(rules.values()),
        "notifications": [{"id": code} for code in dict.fromkeys(_code(failure) for failure in failures)],
    }
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": driver},
                "invocations": [
                    {"executionSuccessful": not failures, "toolExecutionNotifications": failures},
                ],
                "results": results,
            }
        ],
    }


def github(outcomes: Sequence[Scanned | Failed]) -> Iterator[str]:
    """One workflow command per finding that people should see."""
    for outcome in outcomes:
        if isinstance(outcome, Failed):
            yield _command("error", outcome.target, "assay", outcome.error.message)
            continue
        for item in outcome.decision.judged:
            if item.action is not Action.ALLOW:
                finding = item.finding
                yield _command(
                    _COMMANDS[item.action], _file(outcome, finding), f"assay: {finding.rule}", finding.message
                )


def _rule(finding: Finding) -> Json:
    said = advice(finding.rule)
    return {
        "id": finding.rule,
        "shortDescription": {"text": finding.rule.replace("-", " ")},
        "fullDescription": {"text": said.means},
        "help": {"text": said.do},
        "helpUri": f"{_RULES}#{finding.rule}",
        "properties": {"severity": finding.severity.value, "security-severity": f"{_RANKS[finding.severity] / 10:.1f}"},
    }


def _result(outcome: Scanned, item: Judged) -> Json:
    finding = item.finding
    physical: dict[str, Json] = {"artifactLocation": {"uri": quote(_file(outcome, finding), safe="/:!@+,=")}}
    if finding.offset is not None:
        physical["region"] = {"byteOffset": finding.offset}
    said = {"evidence": finding.evidence, "effect": finding.effect}
    properties: dict[str, Json] = {
        "severity": finding.severity.value,
        "because": item.because,
        **{key: value for key, value in said.items() if value},
    }
    return {
        "ruleId": finding.rule,
        "level": _LEVELS[item.action],
        "rank": _RANKS[finding.severity],
        "message": {"text": finding.message},
        "locations": [{"physicalLocation": physical}],
        "properties": properties,
    }


def _file(outcome: Scanned, finding: Finding) -> str:
    """The file as the target's reader knows it: joined to the folder that was named."""
    if outcome.subject is not None or not finding.path:
        return finding.path or outcome.target
    target = PurePosixPath(outcome.target)
    return str(target) if target.name == finding.path else str(target / finding.path)


def _code(failure: Json) -> str:
    assert isinstance(failure, dict)
    descriptor = failure["descriptor"]
    assert isinstance(descriptor, dict)
    return str(descriptor["id"])


def _command(kind: str, file: str, title: str, message: str) -> str:
    return f"::{kind} file={_property(file)},title={_property(title)}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
