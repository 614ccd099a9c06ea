"""Ensembles of trees: how many, whether the first ones are the same, and what stands beside them.

A tree's digest is over what prediction reads (splits, children, leaf values, defaults, categories); gains, weights and
counts of its training are left out, and told as a note where they alone differ.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.compare.catboosted import catboost_parts
from assay.compare.gathering import Gathered, Judgement
from assay.compare.values import Change, changes
from assay.containers.documents import read_json
from assay.containers.guard import guarded
from assay.containers.ubjson import TypedArray, load
from assay.errors import AssayError
from assay.spec.changes import Area, Effect, Item, ItemKind
from assay.trees import BytesWindow, Window

BOOSTERS = frozenset({"xgboost", "lightgbm", "catboost"})
"""Formats whose trees are compared here."""
GOES_ON = "training went on"
TREES = ": trees"
"""How the path of the item that tells of trees ends."""
_KEPT = re.compile(r"the first ([\d,]+) (?:are|is) the same")
_DIFFER = re.compile(r"^([\d,]+) of ([\d,]+) trees?")
FEW = 8
"""Numbers of an array that are kept as they are."""
MAX_TEXT = 1 << 30
"""Bytes of a LightGBM text that are read."""
_REALS = frozenset({"base_weights", "split_conditions", "loss_changes", "sum_hessian", "weights", "weight_drop"})
"""Arrays of floats of XGBoost; all others hold whole numbers."""
_STATISTICS = frozenset({"sum_hessian", "loss_changes", "id"})
_LINE_STATISTICS = (
    "split_gain=", "leaf_weight=", "leaf_count=", "internal_value=", "internal_weight=", "internal_count=", "Tree=",
)  # fmt: skip
_FOLLOWS = frozenset({"tree_sizes"})
_TRAINING = Judgement(Area.PARAMS, Effect.NOTE, "settings of the training, which prediction does not read")
_STATISTIC = Judgement(
    Area.METADATA, Effect.NOTE, "statistics of the training, or the form of the file; prediction reads neither"
)
_RUN = Judgement(Area.METADATA, Effect.NOTE, "an id or the time of the training")
_STAMP = Judgement(Area.DEPENDENCIES, Effect.NOTE, "a library's own stamp")


@dataclass(slots=True)
class Ensemble:
    """Trees, and what stands beside them.

    Args:
        trees: a digest per tree.
        settings: everything else that prediction may read.
        training: settings of the training.
    """

    trees: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)


def lightgbm_text(text: str) -> Ensemble:
    """A model as LightGBM writes it."""
    found = Ensemble()
    head, *blocks = text.partition("\nend of trees")[0].split("\nTree=")
    rest = text.partition("\nend of trees")[2]
    for line in head.splitlines():
        name, equals, value = line.partition("=")
        if name not in _FOLLOWS:
            found.settings[name] = value if equals else True
    for block in blocks:
        kept = [line for line in block.splitlines()[1:] if line and not line.startswith(_LINE_STATISTICS)]
        found.trees.append(hashlib.sha256("\n".join(kept).encode()).hexdigest())
    inside, beside, after = rest.partition("\nparameters:")
    found.training["feature importances"] = hashlib.sha256(inside.encode()).hexdigest()[:16]
    parameters, _, tail = after.partition("end of parameters")
    for line in parameters.splitlines():
        name, _, value = line.strip("[]").partition(": ")
        if name:
            found.training[name] = value
    extra = tail.strip()
    if extra:
        found.settings["after the parameters"] = extra
    elif not beside and "\n" not in rest.strip():
        found.settings["ending"] = rest.strip()
    return found


def xgboost_document(window: Window, *, is_json: bool) -> Ensemble:
    """A model as XGBoost writes it, in JSON or UBJSON.

    Raises:
        AssayError: it cannot be read.
    """
    trees: list[str] = []

    def hook(body: dict[str, Any]) -> Any:
        if "left_children" not in body:
            return {name: _short(value, window, name) for name, value in body.items()}
        kept = {name: _short(value, window, name) for name, value in body.items() if name not in _STATISTICS}
        trees.append(hashlib.sha256(_canonical(kept)).hexdigest())
        return None

    with guarded("an XGBoost model", window.path):
        value = read_json(window, MAX_TEXT, condense=hook).value if is_json else load(window, object_hook=hook)
        if not isinstance(value, Mapping):
            raise TypeError("no object")
        return Ensemble(trees, dict(value))


def compare_ensembles(gathered: Gathered, old: Ensemble, new: Ensemble, path: str) -> None:
    """Note what changed between two ensembles."""
    found, cut = changes(old.settings, new.settings)
    text = between(old.trees, new.trees)
    if text:
        judged = Judgement(Area.ARCHITECTURE)
        gathered.add(judged, f"{path}{TREES}", ItemKind.CHANGED, len(old.trees), len(new.trees), text)
        found = [change for change in found if not _counts(change)]
    gathered.changes(path, found, _judge, cut=cut)
    trained, _ = changes(old.training, new.training)
    gathered.changes(path, trained, lambda _: _TRAINING)
    if not text and not found and not trained:
        gathered.add(_STATISTIC, path, ItemKind.CHANGED)


def compare_boosters(gathered: Gathered, old: Window, new: Window, path: str, format_name: str) -> None:
    """Note what changed between two model files of XGBoost, LightGBM or CatBoost."""
    try:
        pair = [_open(window, format_name) for window in (old, new)]
    except AssayError as error:
        gathered.unread(path, error.message, Area.ARCHITECTURE)
        return
    compare_ensembles(gathered, pair[0], pair[1], path)


def trees_between(old: object, new: object) -> str | None:
    """What changed between two models kept as text or bytes inside something else; None when they are none."""
    try:
        pair = [_inside(value) for value in (old, new)]
    except AssayError:
        return None
    before, after = pair
    if before is None or after is None:
        return None
    text = between(before.trees, after.trees)
    found, _ = changes(before.settings, after.settings)
    parts = [*([text] if text else []), *(".".join(map(str, change.keys)) + " differs" for change in found[:5])]
    return "; ".join(parts) or "statistics of the training differ"


def between(old: Sequence[str], new: Sequence[str]) -> str | None:
    """What changed from one list of trees to another, in words; None when nothing did.

    >>> between(["a", "b"], ["a", "b", "c"])
    '1 tree added, the first 2 are the same: training went on'
    """
    if list(old) == list(new):
        return None
    shared = next((at for at, (one, other) in enumerate(zip(old, new, strict=False)) if one != other), None)
    kept = min(len(old), len(new))
    if shared is None:
        same = f"the first {kept:,} {'is' if kept == 1 else 'are'} the same"
        if len(new) > len(old):
            return f"{_trees(len(new) - len(old))} added, {same}: {GOES_ON}"
        return f"{_trees(len(old) - len(new))} taken away at the end, {same}"
    differ = sum(one != other for one, other in zip(old, new, strict=False))
    counted = "" if len(old) == len(new) else f"; {len(old):,} trees before, {len(new):,} now"
    return f"{differ:,} of {_trees(kept)} {'differs' if differ == 1 else 'differ'}{counted}"


@dataclass(frozen=True, slots=True)
class Regrown:
    """What items say of trees that changed.

    Args:
        item: the one that says it.
        same: trees in the same place that are the same.
    """

    item: Item
    same: int

    @property
    def mostly(self) -> bool:
        """Whether most trees of the shorter of the two are the same."""
        counts = [count for count in (self.item.old, self.item.new) if isinstance(count, int)]
        return 0 < min(counts, default=0) <= 2 * self.same


def regrown(items: Sequence[Item]) -> Regrown | None:
    """What the items say of trees; None where all trees are the same, or none were compared."""
    for item in items:
        if item.area is Area.ARCHITECTURE and item.path.endswith(TREES) and item.text:
            kept, differ = _KEPT.search(item.text), _DIFFER.search(item.text)
            if kept:
                return Regrown(item, int(kept[1].replace(",", "")))
            if differ:
                count, common = (int(number.replace(",", "")) for number in differ.groups())
                return Regrown(item, common - count)
    return None


def _canonical(value: Any) -> bytes:
    """One form of a value; unlike a manifest's it may hold NaN, which models use for what is missing."""
    return json.dumps(value, sort_keys=True, default=str).encode()


def _trees(count: int) -> str:
    return f"{count:,} tree{'' if count == 1 else 's'}"


def _open(window: Window, format_name: str) -> Ensemble:
    if format_name == "lightgbm":
        with guarded("a LightGBM model", window.path):
            if window.size > MAX_TEXT:
                raise ValueError(f"longer than {MAX_TEXT:,} bytes")
            return lightgbm_text(window.read().decode("utf-8"))
    if format_name == "catboost":
        return Ensemble(*catboost_parts(window))
    head = window.read(0, 16).lstrip()
    return xgboost_document(window, is_json=head[:1] == b"{" and head[1:2] in (b'"', b" ", b"\n", b"\r", b"\t"))


def _inside(value: object) -> Ensemble | None:
    if isinstance(value, str) and value.startswith("tree\n"):
        return lightgbm_text(value)
    if isinstance(value, bytes) and value[:1] == b"{" and b"learner" in value[:4096]:
        body = BytesWindow(value, "booster")
        return xgboost_document(body, is_json=value[1:2] == b'"')
    return None


def _short(value: Any, window: Window, name: str) -> Any:
    """Arrays of numbers as digests that do not depend on how the document writes them; all else as it is."""
    if isinstance(value, TypedArray):
        data = window.exactly(value.offset, value.count * np.dtype(value.dtype).itemsize)
        return _numbers(np.frombuffer(data, np.dtype(value.dtype).newbyteorder(">")), name)
    if isinstance(value, list):
        if all(isinstance(item, (int, float)) for item in value):
            return _numbers(np.array(value), name)
        return [_short(item, window, name) for item in value]
    return value


def _numbers(values: NDArray[Any], name: str) -> Any:
    """Numbers, or a digest of many: as 32-bit floats where XGBoost keeps such, else whole where they are."""
    whole = name not in _REALS and bool(np.all(values == np.floor(values)))
    kept = values.astype("<i8" if whole else "<f4" if name in _REALS else "<f8")
    if kept.size <= FEW:
        return kept.tolist()
    return f"{kept.size:,} numbers {hashlib.sha256(kept.tobytes()).hexdigest()[:16]}"


def _counts(change: Change) -> bool:
    """Whether a change follows from the number of trees."""
    return bool(change.keys) and change.keys[-1] in {
        "num_trees", "tree_info", "trees", "iteration_indptr", "best_iteration", "num_iteration",
    }  # fmt: skip


def _judge(change: Change) -> Judgement:
    last = change.keys[-1] if change.keys else ""
    if change.keys[:1] in {("version",), ("catboost_version_info",)}:
        return _STAMP
    if change.keys[:1] in {("model_guid",), ("train_finish_time",)}:
        return _RUN
    if change.keys[:1] == ("columns",) or last in {"feature_names", "feature_types", "num_feature", "max_feature_idx"}:
        return Judgement(Area.SIGNATURE)
    return Judgement(Area.CONFIG)
