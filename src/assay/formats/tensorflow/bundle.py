"""TensorFlow's tensor bundles: an index of names and the data shards that hold the elements.

    X.index                     sorted string table: "" -> header, tensor name -> entry
    X.data-00000-of-00002       elements, one tensor after another
    X.data-00001-of-00002

A checkpoint of either TensorFlow and the ``variables`` of a SavedModel are bundles.

Source: the field numbers of ``tensor_bundle.proto`` and ``trackable_object_graph.proto``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from posixpath import basename

from assay.containers.protobuf.message import BYTES, message
from assay.containers.sstable import entries
from assay.errors import BadFormat
from assay.formats.tensorflow.types import dtype_name, fixed_shape
from assay.spec.finding import Finding, Severity
from assay.spec.tensor import ELEMENT_BITS, Extent, TensorSpec
from assay.trees import BytesWindow, Tree

MAX_SHARDS = 10_000
"""Shards of one bundle."""

MAX_NAME = 4096
"""Characters of a tensor name."""

MAX_FINDINGS = 100
"""Findings of one bundle; more of them say nothing new."""

OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
"""The name under which TensorFlow 2 keeps which object owns which tensor."""

_SHARD = re.compile(r"\.data-(\d{5})-of-(\d{5})", re.ASCII)
_SLOTS = re.compile(
    r"(^|/)\.OPTIMIZER_SLOT/|^(_?optimizer|optimizer_[^/]*)/|/(Adam|AdamW|Adamax|Nadam|Momentum|RMSProp|Adagrad|Adadelta"
    r"|Ftrl|LAMB|LARS|AdamAsync|AdamWeightDecay|YellowFin|Nesterov)(_\d+)?$|/(adam_[mv]|m_slot|v_slot)$",
    re.ASCII,
)
_COUNTERS = re.compile(
    r"(^|/)(beta[12]_power(_\d+)?|global_step|save_counter|iterations?|learning_rate)(/\.ATTRIBUTES/.*)?$", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Bundle:
    """What an index says.

    Args:
        tensors: named as in the index.
        shards: number of data shards, as stated.
        version: of the layout, as stated by the producer.
        findings: what is missing, outside or odd.
        sliced: number of tensors stored in parts.
    """

    tensors: tuple[TensorSpec, ...] = ()
    shards: int = 0
    version: int = 0
    findings: tuple[Finding, ...] = field(default=())
    sliced: int = 0


def shard_paths(tree: Tree, index: str) -> tuple[str, ...]:
    """The data shards beside an index, sorted."""
    prefix = index.removesuffix(".index")
    found = (path for path in tree.paths if path.startswith(prefix))
    return tuple(path for path in found if _SHARD.fullmatch(path[len(prefix) :]))


def is_optimizer(name: str) -> bool:
    """Whether a variable belongs to the optimizer or the metrics, or counts steps, judging by its name."""
    return bool(_SLOTS.search(name) or _COUNTERS.search(name))


def parameter_count(specs: Iterable[TensorSpec]) -> int:
    """Trained numbers: everything that may be one and is not the optimizer's."""
    return sum(spec.size for spec in specs if spec.trained and not is_optimizer(spec.name))


def read_bundle(tree: Tree, index: str) -> Bundle:
    """Read an index and look where its shards are.

    Raises:
        BadFormat: the index is not a sorted string table; an entry that disobeys is a finding instead.
    """
    shards = {}
    for path in shard_paths(tree, index):
        found = _SHARD.search(basename(path))
        if found:
            shards[int(found[1])] = path
    builder = _Builder(tree, index, shards)
    try:
        for key, value in entries(tree.open(index)):
            builder.add(key, value)
    except BadFormat as error:
        if not builder.seen:
            raise
        builder.report("tf-checkpoint-index", Severity.INCOMPLETE, "the index ends early", error.message)
    for number in range(min(builder.stated, MAX_SHARDS)):
        if number not in shards:
            builder.report("tf-checkpoint-missing-shard", Severity.INCOMPLETE, f"data shard {number} is not there", "")
    return Bundle(
        tuple(builder.tensors.values()), builder.stated, builder.version, tuple(builder.findings), builder.sliced
    )


class _Builder:
    """Collects tensors while an index is read."""

    def __init__(self, tree: Tree, index: str, shards: dict[int, str]) -> None:
        self.tree = tree
        self.index = index
        self.shards = shards
        self.tensors: dict[str, TensorSpec] = {}
        self.findings: list[Finding] = []
        self.seen = 0
        self.stated = len(shards)
        self.version = 0
        self.sliced = 0
        self.big_endian = False

    def add(self, key: bytes, value: bytes) -> None:
        self.seen += 1
        try:
            if not key:
                self._header(value)
            elif key[0] == 0:
                # A part of a tensor: its key is an encoding of name and slice. The whole is listed by its name.
                return
            else:
                self._entry(key.decode("utf-8", "replace"), value)
        except BadFormat as error:
            self.report("tf-checkpoint-entry", Severity.INCOMPLETE, "an entry cannot be read", error.message)

    def report(self, rule: str, severity: Severity, text: str, evidence: str) -> None:
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(rule, severity, text, self.index, evidence=evidence[:200]))

    def _header(self, value: bytes) -> None:
        for part in message(BytesWindow(value, self.index)):
            if part.number == 1:
                self.stated = part.integer
            elif part.number == 2:
                self.big_endian = part.integer == 1
            elif part.number == 3:
                self.version = next((inner.integer for inner in part if inner.number == 1), 0)

    def _entry(self, name: str, value: bytes) -> None:
        numbers = {1: 0, 3: 0, 4: 0, 5: 0}
        shape: tuple[int, ...] = ()
        sliced = False
        for part in message(BytesWindow(value, self.index)):
            if part.number == 2:
                shape = fixed_shape(part)
            elif part.number == 7:
                sliced = True
            elif part.wire != BYTES:
                numbers[part.number] = part.integer
        if len(name) > MAX_NAME or name in self.tensors:
            self.report("tf-checkpoint-entry", Severity.INCOMPLETE, "a name is too long or there twice", name)
            return
        dtype = dtype_name(numbers[1])
        self.sliced += sliced
        extent = None if sliced else self._extent(name, numbers[3], numbers[4], numbers[5])
        spec = TensorSpec(name, dtype, shape, extent, self.big_endian and dtype != "string")
        if extent is not None and dtype in ELEMENT_BITS and spec.nbytes != extent.length:
            text = f"{name!r} has {extent.length:,} bytes, its shape says {spec.nbytes:,}"
            self.report("tf-checkpoint-size", Severity.MISLEAD, text, "")
            spec = TensorSpec(name, dtype, shape)
        self.tensors[name] = spec

    def _extent(self, name: str, shard: int, offset: int, size: int) -> Extent | None:
        path = self.shards.get(shard)
        if path is None:
            if shard >= self.stated:
                self.report("tf-checkpoint-entry", Severity.MISLEAD, f"{name!r} lies in shard {shard}", "")
            return None
        if offset + size > self.tree.size(path):
            text = f"{name!r} lies outside its data shard"
            self.report("tf-checkpoint-truncated", Severity.INCOMPLETE, text, f"{offset}+{size} in {path}")
            return None
        return Extent(path, offset, size)
