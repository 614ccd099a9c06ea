"""What is said about two versions: parameters, metrics, environment, run, base, notes.

Nothing of it changes what the files do: every difference is a note. Sides that were not pushed have no statements;
where one side has none, nothing is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assay.compare.gathering import Gathered, Judgement, examples
from assay.compare.requirements import step
from assay.compare.sides import Compared
from assay.compare.values import Change, changes
from assay.spec.changes import Area, Effect, ItemKind
from assay.spec.evaluation import Measured, lower_is_better, measured

_PARAMS = Judgement(Area.PARAMS, Effect.NOTE, "settings of a training that has ended")
_METRIC = Judgement(Area.METRICS, Effect.NOTE, "what was measured does not change what is computed")
_MADE = Judgement(Area.ENVIRONMENT, Effect.NOTE, "where it was made, not where it runs")
_LINEAGE = Judgement(Area.LINEAGE, Effect.NOTE, "where it comes from, not what it is")
_ABOUT = Judgement(Area.METADATA, Effect.NOTE, "said about the files, which are the same with and without it")

_PACKAGES_SHOWN = 6


def compare_said(gathered: Gathered, old: Compared, new: Compared) -> None:
    """Note what is said differently about two versions."""
    if not old.statements or not new.statements:
        return
    found, _ = changes(_part(old, "params", "params"), _part(new, "params", "params"))
    gathered.changes("params", found, lambda _: _PARAMS)
    _metrics(gathered, measured(old.statements), measured(new.statements))
    _environment(gathered, _predicate(old, "environment"), _predicate(new, "environment"))
    for kind, judged, keys in (
        ("base", _LINEAGE, ("relation", "name", "reference")),
        ("run", _LINEAGE, ("system", "run_id", "uri")),
        ("conversion", _LINEAGE, ("tool",)),
        ("note", _ABOUT, ("text",)),
    ):
        before, after = ({key: _predicate(side, kind).get(key) for key in keys} for side in (old, new))
        found = _differing(before, after)
        gathered.changes(kind, found, lambda _, judged=judged: judged)  # type: ignore[misc]


def metrics_in_files(gathered: Gathered, old: Mapping[str, float], new: Mapping[str, float], place: str) -> None:
    """Note metrics that the files themselves record."""
    for name in sorted({*old, *new}):
        one, other = old.get(name), new.get(name)
        if one != other:
            _metric(gathered, f"{place}: {name}", name, one, other)


def _metrics(
    gathered: Gathered,
    old: Mapping[tuple[str, str | None], Measured],
    new: Mapping[tuple[str, str | None], Measured],
) -> None:
    for metric, dataset in sorted({*old, *new}, key=str):
        one, other = old.get((metric, dataset)), new.get((metric, dataset))
        if one is None or other is None or one.value != other.value:
            path = f"{metric} on {dataset}" if dataset else metric
            _metric(gathered, path, metric, one.value if one else None, other.value if other else None)


def _metric(gathered: Gathered, path: str, metric: str, one: float | None, other: float | None) -> None:
    if one is None or other is None:
        kind = ItemKind.ADDED if one is None else ItemKind.REMOVED
        gathered.add(_METRIC, path, kind, one, other)
        return
    better = (other < one) == lower_is_better(metric)
    text = f"{other - one:+.4g}, {'better' if better else 'worse'} as such metrics go"
    gathered.add(_METRIC, path, ItemKind.CHANGED, one, other, text)


def _environment(gathered: Gathered, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    if not old or not new:
        return
    for name in ("python", "platform"):
        before, after = _mapping(old.get(name)), _mapping(new.get(name))
        found, _ = changes(before, after)
        gathered.changes(f"environment: {name}", found, lambda _: _MADE)
    one, other = _mapping(old.get("distributions")), _mapping(new.get("distributions"))
    parts = []
    for names, what in (
        ([f"{name} {one[name]} → {other[name]} ({step(f'=={one[name]}', f'=={other[name]}')})"
          for name in one if name in other and one[name] != other[name]], "changed"),
        ([name for name in other if name not in one], "added"),
        ([name for name in one if name not in other], "removed"),
    ):  # fmt: skip
        if names:
            parts.append(f"{len(names):,} {what}: {examples(sorted(names), _PACKAGES_SHOWN)}")
    if parts:
        gathered.add(_MADE, "environment: packages", ItemKind.CHANGED, len(one), len(other), "; ".join(parts))
    found, _ = changes(_mapping(old.get("hardware")), _mapping(new.get("hardware")))
    gathered.changes("environment: hardware", found, lambda _: _MADE)


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """Changes of fields that may be absent on either side."""
    found = []
    for key in old:
        one, other = old[key], new.get(key)
        if one != other:
            kind = ItemKind.ADDED if one is None else ItemKind.REMOVED if other is None else ItemKind.CHANGED
            found.append(Change((key,), kind, one, other))
    return found


def _predicate(side: Compared, kind: str) -> Mapping[str, Any]:
    statement = side.said(kind)
    return statement.predicate if statement is not None else {}


def _part(side: Compared, kind: str, key: str) -> Mapping[str, Any]:
    return _mapping(_predicate(side, kind).get(key))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
