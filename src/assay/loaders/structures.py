"""Checks on fitted structures that compiled code walks without looking at where it goes.

A decision tree, a histogram tree, a ball or k-d tree and a sparse matrix are arrays of indices into arrays. Compiled
code trusts them, so an index that points outside reads foreign memory when the model predicts. What was read from a
file is held against its own sizes before anybody gets it.

Not here: other compiled code (support vector machines, distance metrics, native boosters), which gets its input as
it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from assay.errors import Refused

MAX_DEPTH = 100
"""Nesting of an object graph that ``parts`` follows."""

_TREE = "sklearn.tree._tree.Tree"
_HISTOGRAM_TREE = "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"
_SPACE_TREES = ("KDTree", "BallTree")


def check_structures(objects: Iterable[object]) -> None:
    """Look at every fitted structure among *objects*.

    Raises:
        Refused: one points outside its own arrays (code ``unsafe-structure``).
    """
    for value in objects:
        cls = type(value)
        name = f"{cls.__module__}.{cls.__qualname__}"
        if name == _TREE:
            _check_tree(value)
        elif name == _HISTOGRAM_TREE:
            _check_histogram_tree(value)
        elif cls.__module__.startswith("sklearn.neighbors.") and cls.__name__.startswith(_SPACE_TREES):
            _check_space_tree(value)
        elif cls.__module__.startswith("scipy.sparse.") and hasattr(value, "indptr"):
            _check_sparse(value)
        elif cls.__module__.startswith("sklearn.") and hasattr(value, "__dict__"):
            _check_width(value)


def parts(value: object) -> Iterator[object]:
    """Every object reachable from *value* through attributes, containers and object arrays, each once."""
    seen: set[int] = set()
    level: list[object] = [value]
    for _ in range(MAX_DEPTH):
        following: list[object] = []
        for item in level:
            if id(item) in seen or isinstance(item, (str, bytes, int, float, type, type(None))):
                continue
            seen.add(id(item))
            yield item
            following += _inside(item)
        if not following:
            return
        level = following


def _inside(item: object) -> list[Any]:
    if isinstance(item, dict):
        return list(item.values())
    if isinstance(item, (list, tuple, set, frozenset)):
        return list(item)
    if isinstance(item, np.ndarray):
        return list(item.ravel()) if item.dtype == object else []
    return list(getattr(item, "__dict__", {}).values())


def _require(holds: Any, what: str) -> None:
    if not bool(holds):
        raise Refused(f"the file holds {what} that points outside its own arrays", code="unsafe-structure")


def _check_tree(tree: Any) -> None:
    count = tree.node_count
    left, right, feature = tree.children_left, tree.children_right, tree.feature
    index = np.arange(count)
    leaf = left == -1
    what = "a decision tree"
    _require(count > 0 or tree.capacity == 0, what)
    _require(((left == -1) == (right == -1)).all(), what)
    # Children always come after their parent, so there is no way round in a circle either.
    _require((leaf | ((left > index) & (left < count) & (right > index) & (right < count))).all(), what)
    _require((leaf | ((feature >= 0) & (feature < tree.n_features))).all(), what)


def _check_histogram_tree(predictor: Any) -> None:
    what = "a histogram tree"
    nodes: Any = getattr(predictor, "nodes", None)
    _require(isinstance(nodes, np.ndarray) and nodes.dtype.names is not None and len(nodes) > 0, what)
    index, count = np.arange(len(nodes)), len(nodes)
    leaf = nodes["is_leaf"].astype(bool)
    left, right = nodes["left"].astype(np.int64), nodes["right"].astype(np.int64)
    _require((leaf | ((left > index) & (left < count) & (right > index) & (right < count))).all(), what)
    _require((leaf | (nodes["feature_idx"] >= 0)).all(), what)
    categorical = ~leaf & nodes["is_categorical"].astype(bool)
    for name in ("raw_left_cat_bitsets", "binned_left_cat_bitsets"):
        bitsets: Any = getattr(predictor, name, None)
        _require(isinstance(bitsets, np.ndarray) and bitsets.ndim == 2 and bitsets.shape[1] == 8, what)
        _require((~categorical | (nodes["bitset_idx"] < len(bitsets))).all(), what)


def _check_space_tree(tree: Any) -> None:
    state = tree.__getstate__()
    data, order, nodes, bounds = (np.asarray(part) for part in state[:4])
    levels, count = state[5], state[6]
    what = "a neighbours tree"
    _require(data.ndim == 2 and order.shape == (len(data),), what)
    _require(((order >= 0) & (order < len(data))).all(), what)
    _require(count == len(nodes) == 2**levels - 1 and count > 0, what)
    _require(bounds.ndim == 3 and bounds.shape[1:] == (count, data.shape[1]), what)
    start, end = nodes["idx_start"], nodes["idx_end"]
    _require(((start >= 0) & (start <= end) & (end <= len(data))).all(), what)
    _require(((nodes["is_leaf"] != 0) | (2 * np.arange(count) + 2 < count)).all(), what)


def _check_sparse(matrix: Any) -> None:
    try:
        matrix.check_format(full_check=True)
    except (ValueError, TypeError, AttributeError, IndexError) as error:
        raise Refused(
            "the file holds a sparse matrix that points outside its own arrays", code="unsafe-structure"
        ) from error


def _check_width(estimator: Any) -> None:
    """Trees must not look at columns that the estimator does not ask for."""
    width = vars(estimator).get("n_features_in_")
    if not isinstance(width, (int, np.integer)):
        return
    tree = vars(estimator).get("tree_")
    if type(tree).__name__ == "Tree":
        _require(getattr(tree, "n_features", width) == width, "a decision tree")
    for key in ("estimators_", "_predictors"):
        for part in parts(vars(estimator).get(key)):
            if type(part).__name__ == "TreePredictor" and isinstance(getattr(part, "nodes", None), np.ndarray):
                _require((part.nodes["feature_idx"] < width).all(), "a histogram tree")  # type: ignore[attr-defined] # just looked
