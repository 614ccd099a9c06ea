"""How the new one relates to the old one, as far as the content of the two shows."""

from __future__ import annotations

import re
from collections.abc import Sequence

from assay.compare.boosted import BOOSTERS, regrown
from assay.compare.gathering import NOT_UNDERSTOOD
from assay.compare.sides import Compared
from assay.compare.tensors import Tensors
from assay.compare.weights import Weights, elements, weigh
from assay.spec.changes import Area, Effect, Item, ItemKind, Kinship, State, TensorChange

MOSTLY = 0.5
"""Share of elements that decides for the whole."""

FOREIGN = 0.1
"""Share of a body's tensors without a partner from which it is another architecture, when the rest is not near."""

SURVIVE = 0.9
"""Share of the paired elements that are equal from which another format is a conversion: converters fold some tensors
together and lay others out anew."""

FOLDING = frozenset({"onnx", "tflite", "tensorflow-savedmodel", "coreml", "openvino", "torchscript", "torch-export"})
"""Formats of graphs, whose converters fold tensors together. Between others every tensor is kept as it is."""

CAST = 1.5
"""How much more than the cast alone explains a difference may be and still be that cast: rounding of ties, flushed
denormals. A fine-tune kept in a narrower dtype differs by a multiple."""

ROUNDED = 0.4
"""Relative distance up to which weights in a storage type of few bits still count as the same numbers, rounded:
4-bit blocks are 0.05 to 0.1 off, 2-bit ones about 0.3."""

CLASSICAL = frozenset({"scikit-learn", "xgboost", "lightgbm", "catboost"})
"""Frameworks that fit from the data each time: near numbers mean like data, not a continued training."""

_SCALES = re.compile(r"(scales?|zero_points?|g_idx|quant_state\..*|absmax|quant_map|weight_scale_inv|SCB)$")
"""Names of what quantisation adds beside the weights."""


def kinship(old: Compared, new: Compared, tensors: Tensors, items: Sequence[Item], *, equal_bytes: bool) -> Kinship:
    """How the new one relates to the old one."""
    if equal_bytes:
        return Kinship.IDENTICAL
    weights = weigh(tensors.changes)
    if adapts(old, new) or adapts(new, old):
        return Kinship.ADAPTER
    if not weights.every:
        return _without_weights(old, new, items)
    if not weights.pairs:
        return Kinship.OTHER_ARCHITECTURE if _one_purpose(old, new) else Kinship.UNRELATED
    if len(weights.equal) == len(weights.every):
        others = any(change.effect is Effect.BEHAVIOUR for change in tensors.changes)
        return Kinship.SAME_WEIGHTS if others or _behaves(items) else Kinship.SAME_MODEL
    if is_recast(weights):
        return Kinship.RECAST
    if weights.known_share < MOSTLY:
        return _by_shape(weights)
    return _by_elements(old, new, weights, items)


def adapts(base: Compared, adapter: Compared) -> bool:
    """Whether one side is an adapter on top of a model like the other side."""
    formats = {found.format for found in adapter.inspection.descriptions}
    return "peft" in formats and all(found.format != "peft" for found in base.inspection.descriptions)


def _behaves(items: Sequence[Item]) -> bool:
    return any(item.effect is Effect.BEHAVIOUR for item in items)


def _without_weights(old: Compared, new: Compared, items: Sequence[Item]) -> Kinship:
    """Trees, rules, tables: told by what describes them."""
    if not _behaves(items):
        return Kinship.SAME_MODEL
    trees = regrown(items)
    if trees is None and _same_trees(old, new, items):
        return Kinship.SAME_WEIGHTS
    if trees is not None and trees.mostly and _one_kind(old, new):
        return Kinship.FINE_TUNE
    return Kinship.RETRAINED if _one_kind(old, new) and same_purpose(old, new) else Kinship.UNRELATED


def _same_trees(old: Compared, new: Compared, items: Sequence[Item]) -> bool:
    """Whether trees were compared, and none was found to differ."""
    formats = {side.inspection.leading.format if side.inspection.leading else "" for side in (old, new)}
    return len(formats) == 1 and formats <= BOOSTERS and not any(_unread(item) for item in items)


def _unread(item: Item) -> bool:
    return item.effect is Effect.BEHAVIOUR and (item.why or "").startswith(NOT_UNDERSTOOD)


def _one_kind(old: Compared, new: Compared) -> bool:
    """Whether both are of one class, where that is known."""
    before, after = old.inspection.first("architecture"), new.inspection.first("architecture")
    return before is not None and before == after


def same_purpose(old: Compared, new: Compared) -> bool:
    """Whether task and names of the inputs are the same, where both state them."""
    task, now = old.inspection.first("task"), new.inspection.first("task")
    before, after = old.inspection.first("inputs") or (), new.inspection.first("inputs") or ()
    same = not before or not after or {port.name for port in before} == {port.name for port in after}
    return same and (not task or not now or same_task(task, now))


def same_task(one: str, other: str) -> bool:
    """Whether two names may be of one task, one of them less exact: a classification, into two or more classes."""
    return one == other or one.endswith(f"-{other}") or other.endswith(f"-{one}")


def _one_purpose(old: Compared, new: Compared) -> bool:
    """Whether both take and give the same by name, or do the same task, as far as they say."""
    for attribute in ("inputs", "outputs"):
        before, after = old.inspection.first(attribute), new.inspection.first(attribute)
        if before and after and {port.name for port in before} == {port.name for port in after}:
            return True
    task = old.inspection.first("task")
    return task is not None and task == new.inspection.first("task")


def _by_shape(weights: Weights) -> Kinship:
    same = weights.foreign < FOREIGN and weights.shared >= MOSTLY
    return Kinship.SAME_ARCHITECTURE if same else Kinship.OTHER_ARCHITECTURE


def _refitted(old: Compared, new: Compared, items: Sequence[Item]) -> bool:
    """Whether a classical model was fitted again: the same class with the same steps, whatever its size is now."""
    return (
        {old.side().framework, new.side().framework} <= CLASSICAL
        and _one_kind(old, new)
        and not any(
            item.area is Area.PIPELINE and (item.kind is not ItemKind.CHANGED or "(class)" in item.path)
            for item in items
            if not is_learned(item)
        )
    )


def is_learned(item: Item) -> bool:
    """Whether an item is about what fitting left in an estimator, by the names scikit-learn gives such things."""
    keys = item.path.rpartition(": ")[2].split(".")
    return any(key.endswith("_") or key.startswith("_") for key in keys)


def _by_elements(old: Compared, new: Compared, weights: Weights, items: Sequence[Item]) -> Kinship:
    if _refitted(old, new, items):
        return Kinship.RETRAINED
    if weights.shared < MOSTLY:
        return Kinship.OTHER_ARCHITECTURE
    formats = {old.side().format, new.side().format}
    if len(formats) > 1:
        if formats & FOLDING and not any(one.nonfinite_appeared for one in weights.pairs) and _survives(weights):
            return Kinship.SAME_WEIGHTS
        if weights.foreign >= MOSTLY:
            return Kinship.OTHER_ARCHITECTURE
    classical = {old.side().framework, new.side().framework} & CLASSICAL
    if weights.near >= MOSTLY and not classical:
        return Kinship.ADAPTER if is_low_rank(weights) else Kinship.FINE_TUNE
    return Kinship.RETRAINED if weights.foreign < FOREIGN else Kinship.OTHER_ARCHITECTURE


def _survives(weights: Weights) -> bool:
    """Whether what is equal is nearly the whole model, or nearly all of what has a counterpart in a like one."""
    same = elements(weights.equal)
    whole = max(elements([*weights.pairs, *weights.added]), elements([*weights.pairs, *weights.removed]))
    return same >= SURVIVE * whole or (weights.foreign < MOSTLY and same >= SURVIVE * elements(weights.pairs))


def is_recast(weights: Weights) -> bool:
    """Whether the weights are the same numbers in other dtypes: no difference beyond what the cast explains."""
    without = [one for one in (*weights.added, *weights.removed) if not _SCALES.search(one.name)]
    recast = [one for one in weights.pairs if one.state is State.RECAST]
    known = all(one.state in {State.EQUAL, State.RECAST} for one in weights.pairs)
    return bool(recast) and not without and known and all(is_cast(one) for one in recast)


def is_cast(change: TensorChange) -> bool:
    """Whether the cast alone explains the difference."""
    numbers = change.numbers
    if numbers is None:  # integers that stand for floats, by a scale kept elsewhere
        return change.state is State.RECAST
    if numbers.cast_error is not None:
        return numbers.relative_l2 <= numbers.cast_error * CAST + 1e-9
    return numbers.relative_l2 <= ROUNDED


def is_low_rank(weights: Weights) -> bool:
    """Whether an adapter was merged: nine in ten of the changed matrices changed by a matrix of low rank."""
    matrices = [one for one in weights.moved if one.new is not None and len(one.new.shape) == 2]
    low = [one for one in matrices if one.numbers is not None and one.numbers.rank is not None]
    return bool(low) and len(low) * 10 >= len(matrices) * 9
