"""The JSON form of a comparison: what ``assay diff --json`` prints, described in ``docs/reference/json.md``."""

from __future__ import annotations

import math

from assay.spec.changes import Comparison, GroupChange, Histogram, Item, Numbers, Side, TensorChange
from assay.spec.json import Json
from assay.spec.tensor import TensorSpec

SCHEMA = 1


def comparison_json(comparison: Comparison) -> dict[str, Json]:
    """A comparison as the JSON object of ``docs/reference/json.md``; numbers that JSON cannot say are null."""
    return {
        "schema": SCHEMA,
        "old": side_json(comparison.old),
        "new": side_json(comparison.new),
        "kinship": comparison.kinship.value,
        "summary": list(comparison.summary),
        "drop_in": {"answer": comparison.drop_in.answer.value, "reasons": list(comparison.drop_in.reasons)},
        "equal_bytes": comparison.equal_bytes,
        "behaves_differently": comparison.behaves_differently,
        "complete": comparison.complete,
        "states": {state.value: count for state, count in comparison.states.items()},
        "groups": [_group(group) for group in comparison.groups],
        "tensors": [tensor_json(change) for change in comparison.tensors],
        "items": [item_json(item) for item in comparison.items],
        "findings": [finding.to_json() for finding in comparison.findings],
        "histograms": [_histogram(histogram) for histogram in comparison.histograms],
    }


def side_json(side: Side) -> dict[str, Json]:
    """One side as a JSON object; what is not known is null."""
    return {
        "label": side.label,
        "digest": side.digest,
        "reference": side.reference,
        "format": side.format,
        "framework": side.framework,
        "framework_version": side.framework_version,
        "architecture": side.architecture,
        "parameters": side.parameters,
        "tensors": side.tensors,
        "size": side.size,
        "files": side.files,
        "dtypes": dict(side.dtypes),
    }


def tensor_json(change: TensorChange) -> dict[str, Json]:
    """One tensor's change as a JSON object; absent fields are left out."""
    body: dict[str, Json] = {"name": change.name, "state": change.state.value, "effect": change.effect.value}
    if change.old is not None:
        body["old"] = _spec(change.old)
    if change.new is not None:
        body["new"] = _spec(change.new)
    if change.match is not None:
        body["match"] = change.match.value
    if change.transform is not None:
        body["transform"] = change.transform
    if change.numbers is not None:
        body["numbers"] = _numbers(change.numbers)
    if change.shared is not None:
        body["shared"] = list(change.shared)
    if change.reason is not None:
        body["reason"] = change.reason
    return body


def item_json(item: Item) -> dict[str, Json]:
    """One other difference as a JSON object; absent fields are left out."""
    body: dict[str, Json] = {
        "area": item.area.value,
        "path": item.path,
        "kind": item.kind.value,
        "effect": item.effect.value,
        "old": _sayable(item.old),
        "new": _sayable(item.new),
    }
    if item.text is not None:
        body["text"] = item.text
    if item.why is not None:
        body["why"] = item.why
    return body


def _spec(spec: TensorSpec) -> dict[str, Json]:
    return {"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape)}


def _numbers(numbers: Numbers) -> dict[str, Json]:
    body: dict[str, Json] = {
        "relative_l2": _finite(numbers.relative_l2),
        "max_abs": _finite(numbers.max_abs),
        "cosine": _finite(numbers.cosine),
        "changed_fraction": _finite(numbers.changed_fraction),
        "difference_norm": _finite(numbers.difference_norm),
        "old_norm": _finite(numbers.old_norm),
        "new_norm": _finite(numbers.new_norm),
        "old_mean": _finite(numbers.old_mean),
        "new_mean": _finite(numbers.new_mean),
        "old_std": _finite(numbers.old_std),
        "new_std": _finite(numbers.new_std),
        "old_nonfinite": numbers.old_nonfinite,
        "new_nonfinite": numbers.new_nonfinite,
    }
    if numbers.cast_error is not None:
        body["cast_error"] = _finite(numbers.cast_error)
    if numbers.rank is not None:
        body["rank"] = numbers.rank
    return body


def _group(group: GroupChange) -> dict[str, Json]:
    return {
        "name": group.name,
        "tensors": {state.value: count for state, count in group.tensors.items()},
        "parameters": group.parameters,
        "relative_l2": _finite(group.relative_l2),
        "ranks": list(group.ranks),
        "frozen": group.frozen,
    }


def _histogram(histogram: Histogram) -> dict[str, Json]:
    return {
        "group": histogram.group,
        "low": _finite(histogram.low),
        "high": _finite(histogram.high),
        "old": list(histogram.old),
        "new": list(histogram.new),
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _sayable(value: Json) -> Json:
    """A value without the floats that JSON has no word for: those become text (``"nan"``)."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _sayable(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_sayable(one) for one in value]
    return value
