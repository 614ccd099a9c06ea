"""What MLflow writes down about runs, whichever way it was read."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from assay.spec.json import Json, read_scalar

_TAGS = {
    "mlflow.source.name": "source",
    "mlflow.source.git.commit": "git_commit",
    "mlflow.source.git.repoURL": "git_repository",
    "mlflow.user": "user",
    "mlflow.runName": "name",
    "mlflow.note.content": "note",
}
TAGS = tuple(_TAGS)
"""Tags of a run that are looked at."""


def rfc3339(milliseconds: object) -> str | None:
    """Milliseconds since 1970 as RFC 3339 in UTC; None for what is no time."""
    if not isinstance(milliseconds, (int, float)) or isinstance(milliseconds, bool):
        return None
    try:
        moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return None
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def numbers(rows: Iterable[tuple[str, Any, Any]]) -> dict[str, float]:
    """Metrics by name out of (name, value, is NaN); the last of a name counts, what is not finite is left out.

    MLflow stores NaN as 0 with a flag, and infinities as the largest floats.
    """
    found: dict[str, float] = {}
    for name, value, is_nan in rows:
        try:
            number = math.nan if is_nan else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if math.isfinite(number) and abs(number) < 1.7976931348623157e308:
            found[str(name)] = number
        else:
            found.pop(str(name), None)
    return found


def details(run: Mapping[str, Any] | None, tags: Mapping[str, str], link: object) -> dict[str, Json]:
    """What is worth keeping of a run beside its parameters and metrics."""
    found: dict[str, Json] = {ours: tags[theirs] for theirs, ours in _TAGS.items() if tags.get(theirs)}
    if link:
        found["link"] = str(link)
    if run is None:
        return found
    found |= {key: str(run[key]) for key in ("status", "experiment_id") if run.get(key) not in {None, ""}}
    if run.get("name"):
        found.setdefault("name", str(run["name"]))
    for theirs, ours in (("start_time", "started"), ("end_time", "ended")):
        if moment := rfc3339(run.get(theirs)):
            found[ours] = moment
    return found


def stage_alias(versions: Sequence[Mapping[str, Any]], version: Mapping[str, Any]) -> tuple[str, ...]:
    """The alias that stands for a version's stage: one per stage, at the newest version in it.

    Stages are MLflow's older way of saying what aliases say; several versions could share one.
    """
    stage = str(version.get("current_stage") or "None")
    if stage in {"None", "Archived"} or not re.fullmatch(r"[A-Za-z]+", stage):
        return ()
    newest = max(int(other["version"]) for other in versions if other.get("current_stage") == stage)
    return (stage.lower(),) if int(version["version"]) == newest else ()


def params(texts: Mapping[str, str]) -> dict[str, Json]:
    """Training parameters; MLflow keeps every value as text."""
    return {key: read_scalar(value) for key, value in texts.items()}
