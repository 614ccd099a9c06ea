"""What was observed about foreign bytes: one observation, and how much it weighs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from assay.spec.json import Json


class Severity(StrEnum):
    """What a finding can do to whoever loads the artifact, mildest first."""

    NOTE = "note"
    """worth knowing, harmless"""
    MISLEAD = "mislead"
    """says something other than what is there"""
    INCOMPLETE = "incomplete"
    """could not be read to its end: nothing is known about the rest"""
    EXHAUST = "exhaust"
    """can use up memory, disk or time"""
    READ = "read"
    """can read files"""
    NETWORK = "network"
    """can reach the network"""
    WRITE = "write"
    """can write files"""
    EXECUTE = "execute"
    """can run code"""


@dataclass(frozen=True, slots=True)
class Finding:
    """One observation.

    Args:
        rule: stable id, ``<format>-<what>`` (``pickle-unknown-global``, ``safetensors-overlap``).
        severity: what it can do.
        message: one line a person understands.
        path: the entry it is about, or empty for the whole tree.
        offset: byte offset in the entry, where known.
        evidence: what was seen there, shortened.
        effect: what loading would do, completing "loading this would …" (``start a process``); empty where the
            severity says it all.
    """

    rule: str
    severity: Severity
    message: str
    path: str = ""
    offset: int | None = None
    evidence: str = ""
    effect: str = ""

    def to_json(self) -> Mapping[str, Json]:
        """The finding as a JSON object; absent fields are left out."""
        body: dict[str, Json] = {
            "rule": self.rule,
            "severity": self.severity.value,
            "message": self.message,
        }
        if self.path:
            body["path"] = self.path
        if self.offset is not None:
            body["offset"] = self.offset
        if self.evidence:
            body["evidence"] = self.evidence
        if self.effect:
            body["effect"] = self.effect
        return body
