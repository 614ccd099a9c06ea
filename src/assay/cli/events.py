"""What happened to a model, and how the gates of a promotion stand: tables for terminals, drawn from JSON values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from assay.cli.render import plain_table
from assay.spec.statement import kind_of

_STYLES = {"passed": "green", "failed": "red", "missing": "yellow", "overridden": "yellow"}

_UNDOCUMENTED = (KeyError, TypeError, ValueError, AttributeError)
"""What reading evidence of another form raises."""


def history_table(events: Sequence[Mapping[str, Any]], moment: Callable[[str], str]) -> RenderableType:
    """What ``assay history`` shows."""
    table = plain_table("When", "Who", "What")
    for event in events:
        table.add_row(moment(event["at"]), event["actor"], _happened(event))
    return table


def gates_table(gates: Sequence[Mapping[str, Any]], overridden: Sequence[str] = ()) -> RenderableType:
    """Every gate of a promotion, with what it found and what it asks."""
    table = plain_table("", "Gate", "Found", "Asked", "By")
    for gate in gates:
        state = "overridden" if gate["gate"] in overridden and gate["state"] != "passed" else gate["state"]
        table.add_row(
            Text(state, style=_STYLES.get(state, "")), gate["gate"], gate["found"], gate["expected"], gate["source"]
        )
    return table


def _happened(event: Mapping[str, Any]) -> str:
    data, kind = event["data"], event["kind"]
    digest = str(data.get("manifest", "")).removeprefix("sha256:")[:12]
    reason = f": {data['reason']}" if data.get("reason") else ""
    match kind:
        case "version-added":
            return f"version {data['number']} pushed, {digest}"
        case "alias-moved":
            return _moved(data, reason)
        case "alias-removed":
            return f"alias {data['alias']} removed from {data['from']}{reason}"
        case "copied":
            return f"{digest} copied to {data['place']}"
        case "purged":
            return f"{digest} purged{reason}"
        case "statement-added":
            said = kind_of(str(data.get("artifactType", ""))) or "statement"
            return f"{said} attached, {digest}"
    if "number" in data:
        return f"version {data['number']} {kind.removeprefix('version-')}{reason}"
    return f"{kind.replace('-', ' ')} {digest}"


def _moved(data: Mapping[str, Any], reason: str) -> str:
    """A move, with the gates it went through."""
    evidence = data.get("evidence") or {}
    how = {"promotion": "promoted", "rollback": "rolled back"}.get(str(evidence.get("kind")), "moved")
    before = f" from {data['from']}" if data.get("from") else ""
    said = f"alias {data['alias']} {how}{before} to {data['number']}{reason}"
    try:
        gates = [f"{gate['gate']} {gate['found']}" for gate in evidence.get("gates", ()) if gate["state"] == "passed"]
        override = evidence.get("override")
        if gates:
            said += f"\n  passed {'; '.join(gates)}"
        if override:
            said += f"\n  overridden {', '.join(override['gates'])}: {override['reason']}"
    except _UNDOCUMENTED:
        said += "\n  evidence not in the form that is documented; --json shows it"
    return said
