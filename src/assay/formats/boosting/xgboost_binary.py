"""XGBoost's binary model layout of releases up to 2.x (little-endian C structs one after another).

    ["binf"]             optional, from the command line program
    LearnerModelParam    136 bytes: base_score f32, num_feature u32, num_class i32, contain_extra_attrs i32,
                         contain_eval_metrics i32, major u32, minor u32, num_target u32 (since 1.6), reserved
    objective, booster   u64 length + text each
    gbtree, dart:        GBTreeModelParam 160 bytes: num_trees i32, ...
                         per tree: TreeParam 148 bytes: -, num_nodes i32, num_deleted i32, -, -, size_leaf_vector i32
                                   num_nodes x 20 bytes (parent, left, right, split, value)
                                   num_nodes x 16 bytes (statistics)
                         num_trees x i32: output group of each tree
                         dart: u64 count + f32 each
    gblinear:            136 bytes, then u64 count + f32 each
    attributes           when contain_extra_attrs: u64 count, then key and value as u64 length + text

A booster pickled by releases 1.0 to 1.2 has ``CONFIG-offset:`` and an i64 (length of all the above) before it, and its
configuration as JSON behind. Before 1.0 the version is 0.0, the base score is the margin, and behind the attributes
stand max_delta_step as text (count:poisson) and, when contain_eval_metrics, the metrics: u64 count, then text each.
Source: ``src/learner.cc``, ``src/gbm/gbtree_model.h``, ``include/xgboost/tree_model.h`` of XGBoost 0.90 to 1.7.
"""

from __future__ import annotations

import json
import re
import struct

import numpy as np

from assay.containers.documents import read_json
from assay.errors import BadFormat
from assay.formats.boosting.tabular import setting
from assay.formats.boosting.xgboost_model import Booster, check, collect_parameters, shape_of
from assay.spec.finding import Severity
from assay.trees import Window

MAGIC = b"binf"
CONFIGURED = b"CONFIG-offset:"
MAX_TREES = 1_000_000
MAX_NODES = 1 << 24
"""Nodes of one tree."""
MAX_ATTRIBUTES = 100_000
MAX_TEXT = 1 << 24
MAX_CONFIG = 4 << 20

_CONFIG = struct.Struct("<14sq")
_LEARNER = struct.Struct("<fIiiiII108s")
_TREES = struct.Struct("<ii152s")
_TREE = struct.Struct("<6i124s")
_LENGTH = struct.Struct("<Q")
_OBJECTIVE = re.compile(rb"[a-z]{2,12}:[a-z_]{2,40}", re.ASCII)
_BOOSTERS = (b"gbtree", b"gblinear", b"dart")
_NODE_BYTES, _STATISTIC_BYTES = 20, 16


def recognise(head: bytes) -> int | None:
    """Where the model begins in an entry that starts with *head*, or None when it is not one.

    There is no reliable magic: the whole fixed part, objective and booster names must make sense.
    """
    start = _CONFIG.size if head.startswith(CONFIGURED) else 0
    if head[start : start + 4] == MAGIC:
        start += 4
    if len(head) < start + _LEARNER.size + 8:
        return None
    _, features, classes, attributes, metrics, major, minor, reserved = _LEARNER.unpack_from(head, start)
    small = features < 1 << 31 and 0 <= classes < 1 << 20 and attributes in (0, 1) and metrics in (0, 1)
    if not small or major > 2 or minor > 99 or any(reserved[8:]):
        return None
    at = start + _LEARNER.size
    (length,) = _LENGTH.unpack_from(head, at)
    at += 8
    if length > 60 or not _OBJECTIVE.fullmatch(head, at, at + length) or len(head) < at + length + 8:
        return None
    at += length
    (length,) = _LENGTH.unpack_from(head, at)
    return start if head[at + 8 : at + 8 + min(length, 16)] in _BOOSTERS else None


def read(window: Window, start: int) -> Booster:
    """The booster at *start* of *window*; what cannot be finished is a finding in it.

    Raises:
        BadFormat: not even the fixed part is there.
    """
    reader = _Reader(window, start)
    booster = Booster()
    score, features, classes, attributes, metrics, major, minor, reserved = _LEARNER.unpack(reader.take(_LEARNER.size))
    booster.base_score, booster.num_feature, booster.num_class = setting(float(score)), features, classes
    booster.num_target = int.from_bytes(reserved[:4], "little") or 1
    booster.version = f"{major}.{minor}" if major else None
    booster.objective, booster.kind = reader.text(), reader.text()
    try:
        if booster.kind == "gblinear":
            reader.take(136)
            booster.weights = reader.floats()
        else:
            _trees(reader, booster)
            if booster.kind == "dart":
                reader.floats()
        if attributes:
            _attributes(reader, booster)
        if not major:
            _before_1_0(reader, booster, metrics=bool(metrics))
        _rest(reader, booster)
    except BadFormat as error:
        booster.report("xgboost-truncated", Severity.INCOMPLETE, error.message, window.path)
    check(booster, window.path)
    return booster


def _trees(reader: _Reader, booster: Booster) -> None:
    count, second, _ = _TREES.unpack(reader.take(_TREES.size))
    booster.stated_trees = count
    # The second field meant "roots" before 1.3 and "parallel trees" after; both are 1 or more in a valid file.
    booster.parallel_trees = second if booster.version and second > 0 else 1
    if not 0 <= count <= MAX_TREES:
        raise reader.bad(f"expected up to {MAX_TREES:,} trees, found {count:,}")
    for _index in range(count):
        _, nodes, _, _, _, leaf_size, _ = _TREE.unpack(reader.take(_TREE.size))
        if not 0 < nodes <= MAX_NODES:
            raise reader.bad(f"expected a tree of up to {MAX_NODES:,} nodes, found {nodes:,}")
        table = np.frombuffer(reader.take(nodes * _NODE_BYTES), "<i4").reshape(nodes, 5)
        reader.skip(nodes * _STATISTIC_BYTES)
        if leaf_size > 0:
            reader.floats()
        booster.trees.append(shape_of(table[:, 1], table[:, 2]))
    reader.skip(4 * count)
    groups = max(1, booster.num_class or 1)
    booster.rounds = count // (groups * max(1, booster.parallel_trees))


def _attributes(reader: _Reader, booster: Booster) -> None:
    count = reader.count(MAX_ATTRIBUTES, "attributes")
    found = {}
    for _index in range(count):
        key = reader.text()
        found[key] = reader.text()
    objective = found.pop("objective", None)
    if objective is not None:
        try:
            body = json.loads(objective)
        except (ValueError, RecursionError):
            body = {}
        for value in body.values() if isinstance(body, dict) else ():
            if isinstance(value, dict):
                booster.objective_parameters.update({str(key): setting(item) for key, item in value.items()})
    metrics = found.pop("metrics", None)
    if metrics:
        booster.parameters["eval_metric"] = [name for name in metrics.split(";") if name][:100]
    for key in [key for key in found if key.startswith("SAVED_PARAM_")]:
        booster.parameters[key.removeprefix("SAVED_PARAM_")] = setting(found.pop(key))
    booster.attributes = found


def _before_1_0(reader: _Reader, booster: Booster, *, metrics: bool) -> None:
    if booster.objective == "count:poisson":
        booster.objective_parameters["max_delta_step"] = setting(reader.text())
        booster.attributes.pop("count_poisson_max_delta_step", None)
    if metrics:
        booster.parameters["eval_metric"] = [reader.text() for _ in range(reader.count(1000, "metrics"))]


def _rest(reader: _Reader, booster: Booster) -> None:
    if reader.window.read(0, len(CONFIGURED)) == CONFIGURED:
        _, length = _CONFIG.unpack(reader.window.exactly(0, _CONFIG.size))
        configuration = reader.window.sub(_CONFIG.size + max(0, length))
        collect_parameters(read_json(configuration, MAX_CONFIG).value, booster.parameters)
    elif reader.left:
        message = f"{reader.left:,} bytes follow the model"
        booster.report("xgboost-trailing-bytes", Severity.NOTE, message, reader.window.path)


class _Reader:
    """A forward reader over a window that never takes what is not there."""

    def __init__(self, window: Window, start: int) -> None:
        self.window = window
        self._at = start

    @property
    def left(self) -> int:
        """Bytes not taken yet."""
        return self.window.size - self._at

    def bad(self, message: str) -> BadFormat:
        return BadFormat(f"{self.window.path}: {message}", path=self.window.path, offset=self._at)

    def take(self, length: int) -> bytes:
        data = self.window.exactly(self._at, length)
        self._at += length
        return data

    def skip(self, length: int) -> None:
        if self._at + length > self.window.size:
            raise self.bad(f"expected {length:,} more bytes, found {self.window.size - self._at:,}")
        self._at += length

    def count(self, limit: int, what: str) -> int:
        (count,) = _LENGTH.unpack(self.take(8))
        if count > limit:
            raise self.bad(f"expected up to {limit:,} {what}, found {count:,}")
        return int(count)

    def text(self) -> str:
        return self.take(self.count(MAX_TEXT, "bytes of text")).decode("utf-8", "replace")

    def floats(self) -> int:
        count = self.count(self.window.size, "numbers")
        self.skip(4 * count)
        return count
