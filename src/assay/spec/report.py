"""The outcome of an audit: every finding about one tree, and whether everything was looked at.

A report is a pure function of the bytes and of the rule set; what is done about it is policy (``assay.policy``). Its
JSON form is written format ``docs/spec/audit.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from assay.errors import InvalidInput
from assay.spec.finding import Finding, Severity
from assay.spec.json import Json

SCHEMA = 1
MAX_FINDINGS = 2_000
"""Findings that a report keeps; the gravest are kept."""


class Verdict(StrEnum):
    """What an audit under a policy comes to."""

    SAFE = "safe"
    """proved inert: everything was understood, and nothing in it can do harm when it is loaded"""
    UNSAFE = "unsafe"
    """something in it can do harm when it is loaded"""
    UNVERIFIED = "unverified"
    """not proved inert: unknown, damaged, encrypted, contradictory or beyond a limit"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything an audit found in one tree.

    Args:
        ruleset: version of the rules: the release and a digest of everything that finds or judges.
        findings: gravest first; entries nobody understood are findings too (``file-unknown``).
        formats: names of the formats that were recognised, leading first.
        files: number of entries.
        size: bytes of all entries.
        left_out: how many findings were dropped beyond ``MAX_FINDINGS``.
    """

    ruleset: str
    findings: tuple[Finding, ...]
    formats: tuple[str, ...] = ()
    files: int = 0
    size: int = 0
    left_out: int = 0

    @property
    def complete(self) -> bool:
        """Whether everything was looked at to its end."""
        return all(finding.severity is not Severity.INCOMPLETE for finding in self.findings)

    def to_json(self) -> dict[str, Json]:
        """The report as a JSON object."""
        return {
            "schema": SCHEMA,
            "ruleset": self.ruleset,
            "complete": self.complete,
            "formats": list(self.formats),
            "files": self.files,
            "size": self.size,
            "findings": [finding.to_json() for finding in self.findings],
            **({"left_out": self.left_out} if self.left_out else {}),
        }

    @classmethod
    def parse(cls, body: Mapping[str, Json]) -> Report:
        """Read a report back from its JSON form.

        Raises:
            InvalidInput: it is not one, or of a newer schema (code ``invalid-report``).
        """
        if body.get("schema") != SCHEMA:
            raise InvalidInput(
                f"not an audit report: schema {body.get('schema')!r:.40}, expected {SCHEMA}", code="invalid-report"
            )
        try:
            return cls(
                ruleset=_text(body["ruleset"]),
                findings=tuple(finding(item) for item in _list(body["findings"])),
                formats=tuple(_text(name) for name in _list(body["formats"])),
                files=_count(body["files"]),
                size=_count(body["size"]),
                left_out=_count(body.get("left_out", 0)),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidInput(f"not an audit report ({error})", code="invalid-report") from error


def finding(body: Json) -> Finding:
    """Read a finding back from its JSON form.

    Raises:
        TypeError, KeyError, ValueError: it is not one.
    """
    if not isinstance(body, Mapping):
        raise TypeError("a finding is not an object")
    offset = body.get("offset")
    return Finding(
        _text(body["rule"]),
        Severity(_text(body["severity"])),
        _text(body["message"]),
        _text(body.get("path", "")),
        None if offset is None else _count(offset),
        _text(body.get("evidence", "")),
        _text(body.get("effect", "")),
    )


def _text(value: Json) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, found {type(value).__name__}")
    return value


def _count(value: Json) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError(f"expected a count, found {value!r:.40}")
    return value


def _list(value: Json) -> list[Json]:
    if not isinstance(value, list):
        raise TypeError(f"expected a list, found {type(value).__name__}")
    return list(value)
