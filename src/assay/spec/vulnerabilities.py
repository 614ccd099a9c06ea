"""What is known to be vulnerable among the distributions a model was made with."""

from __future__ import annotations

from dataclasses import dataclass

from assay.spec.json import Json


@dataclass(frozen=True, slots=True)
class Vulnerability:
    """One known vulnerability of one distribution.

    Args:
        id: what the first database calls it.
        aliases: what others call it.
        package: the distribution, normalised (PEP 503).
        version: as recorded.
        severity: a word (``high``), or a CVSS vector, or ``unknown``.
        fixed: later releases without it, lowest first; empty when there is none.
        summary: in a line.
    """

    id: str
    aliases: tuple[str, ...]
    package: str
    version: str
    severity: str
    fixed: tuple[str, ...]
    summary: str

    def to_json(self) -> dict[str, Json]:
        """The vulnerability as a JSON object."""
        return {
            "id": self.id,
            "aliases": list(self.aliases),
            "package": self.package,
            "version": self.version,
            "severity": self.severity,
            "fixed": list(self.fixed),
            "summary": self.summary,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """The outcome of looking up distributions.

    Args:
        vulnerabilities: by package.
        undecided: what could not be decided, and why.
        distributions: how many were looked up.
        records: how many records about Python distributions there were to look in.
    """

    vulnerabilities: tuple[Vulnerability, ...]
    undecided: tuple[str, ...]
    distributions: int
    records: int
