"""What changed from one artifact to another: tensors, everything else, and what that means for whoever uses it.

The JSON form (``assay.spec.changes_json``) is what ``assay diff --json`` prints: ``docs/reference/json.md``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from assay.spec.finding import Finding, Severity
from assay.spec.json import Json
from assay.spec.tensor import TensorSpec

_BESIDE_THE_MODEL = re.compile(
    r"(^|[./])(optimi[sz]er(_states?|_weights|_\d+)?|optim|lr_schedulers?|scheduler|training_config)([./]|$)"
)
"""Names of what a checkpoint keeps so that training can go on: moments, step counters, schedules."""

_DERIVED = re.compile(
    r"(^|[./])(num_batches_tracked|position_ids|inv_freq|original_inv_freq|rotary_emb\.(cos|sin)_cached|masked_bias)$"
)
"""Names of buffers that libraries compute from settings and keep or leave out from release to release, and of
counters that inference never reads."""


class Effect(StrEnum):
    """What a difference can do to whoever uses the artifact."""

    BEHAVIOUR = "behaviour"
    """It can change what the model computes, accepts or is able to run on; also whatever is not understood."""
    NOTE = "note"
    """It cannot: another container, other metadata, a newer library's stamp, a time, a run's id."""


class State(StrEnum):
    """What became of a tensor."""

    EQUAL = "equal"
    CHANGED = "changed"
    RECAST = "recast"
    """Other dtype; ``Numbers.cast_error`` says how much of the difference the cast alone explains."""
    RESHAPED = "reshaped"
    ADDED = "added"
    REMOVED = "removed"
    UNREADABLE = "unreadable"
    """The bytes differ, or may, and the elements could not be compared."""


class Match(StrEnum):
    """How the two tensors of a pair were found to belong together."""

    NAME = "name"
    RENAMED = "renamed"
    """By a rule that maps many names at once: a prefix dropped or added, parts renumbered."""
    CONTENT = "content"
    """By equal elements, or elements close enough to be kin, under unrelated names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """How the elements of two tensors of one shape differ; a is old, b is new, both taken as float64.

    Args:
        relative_l2: ``‖b-a‖₂ / ‖a‖₂``; infinite when a is zero and b is not.
        max_abs: ``max |b-a|``.
        cosine: ``a·b / (‖a‖₂ ‖b‖₂)``; None when either is zero.
        changed_fraction: elements that differ, of all, 0 to 1.
        difference_norm: ``‖b-a‖₂``, so that groups of tensors can be summed up.
        old_norm, new_norm: ``‖a‖₂``, ``‖b‖₂``.
        old_mean, new_mean, old_std, new_std: of the finite elements.
        old_nonfinite, new_nonfinite: elements that are NaN or infinite; they are left out of everything above but
            ``changed_fraction``.
        cast_error: for recast tensors, the relative L2 between the old elements and the same cast to the new dtype;
            None otherwise.
        rank: estimated rank of ``b-a`` when that is markedly below full (an adapter was merged); None when it is not,
            when the tensor is no matrix, or when it was not estimated.
    """

    relative_l2: float
    max_abs: float
    cosine: float | None
    changed_fraction: float
    difference_norm: float
    old_norm: float
    new_norm: float
    old_mean: float
    new_mean: float
    old_std: float
    new_std: float
    old_nonfinite: int = 0
    new_nonfinite: int = 0
    cast_error: float | None = None
    rank: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorChange:
    """One pair of tensors, or one that has no partner.

    Args:
        state: what became of it.
        old, new: the two; None for what was added or removed.
        match: how they were matched; None without a partner.
        transform: what was done to the old elements before they were compared: ``"transposed"``, ``"reshaped"``
            (same elements in the same order under another shape), ``"heads interleaved"`` (rows of attention heads in
            the other order that rotary embeddings are stored in); None for nothing.
        numbers: how the elements differ; None for equal ones, for those without a partner, and where shapes differ
            (then over the common block, when rows were added or taken away: ``shared``).
        shared: for reshaped tensors, the block at the origin that both have, over which ``numbers`` is taken.
        reason: why it could not be compared.
    """

    state: State
    old: TensorSpec | None = None
    new: TensorSpec | None = None
    match: Match | None = None
    transform: str | None = None
    numbers: Numbers | None = None
    shared: tuple[int, ...] | None = None
    reason: str | None = None

    @property
    def name(self) -> str:
        """The new name, else the old one."""
        spec = self.new or self.old
        assert spec is not None
        return spec.name

    @property
    def trained(self) -> bool:
        """Whether its elements may be trained numbers."""
        spec = self.new or self.old
        return spec is not None and spec.trained

    @property
    def beside_the_model(self) -> bool:
        """Whether it is no part of the model: an optimizer's state, kept so that training can go on."""
        return bool(_BESIDE_THE_MODEL.search(self.name))

    @property
    def effect(self) -> Effect:
        """Whether its change can change behaviour."""
        if self.state is State.EQUAL or self.beside_the_model or _DERIVED.search(self.name):
            return Effect.NOTE
        return Effect.BEHAVIOUR

    @property
    def nonfinite_appeared(self) -> int:
        """How many more of its elements are NaN or infinite than before."""
        return max(0, self.numbers.new_nonfinite - self.numbers.old_nonfinite) if self.numbers else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupChange:
    """Tensors of one block or layer, summed up.

    Args:
        name: common prefix (``encoder.layer.3``), or the tensor's own name.
        tensors: how many, per state.
        parameters: elements of the new tensors (of the old ones where all are gone).
        relative_l2: ``√Σ‖b-a‖² / √Σ‖a‖²`` over compared floats; None when none was compared.
        ranks: estimated ranks of its low-rank changes, ascending; empty when there are none.
    """

    name: str
    tensors: Mapping[State, int]
    parameters: int
    relative_l2: float | None
    ranks: tuple[int, ...] = ()

    @property
    def frozen(self) -> bool:
        """Whether every tensor in it is equal."""
        return set(self.tensors) == {State.EQUAL}


class Area(StrEnum):
    """What an item is about. The order is the order of importance in listings."""

    ARCHITECTURE = "architecture"
    SIGNATURE = "signature"
    CONFIG = "config"
    GENERATION = "generation"
    TOKENIZER = "tokenizer"
    PREPROCESSING = "preprocessing"
    PIPELINE = "pipeline"
    GRAPH = "graph"
    CODE = "code"
    DEPENDENCIES = "dependencies"
    ENVIRONMENT = "environment"
    PARAMS = "params"
    METRICS = "metrics"
    LICENCE = "licence"
    AUDIT = "audit"
    LINEAGE = "lineage"
    FORMAT = "format"
    FILES = "files"
    METADATA = "metadata"


class ItemKind(StrEnum):
    """What became of an item."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One difference that is not a tensor's.

    Args:
        area: what it is about.
        path: where: a file and a place in it (``config.json: hidden_size``), a step, a metric's name.
        kind: added, removed or changed.
        old, new: values as JSON, short: long ones are told by ``text``.
        effect: whether it can change behaviour.
        text: the difference in words or as a unified text diff, where old and new alone do not say it.
        why: why it has this effect, where that is not obvious (``a library's own stamp``).
    """

    area: Area
    path: str
    kind: ItemKind
    old: Json = None
    new: Json = None
    effect: Effect
    text: str | None = None
    why: str | None = None


class Answer(StrEnum):
    """Whether the new one can take the old one's place."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class DropIn:
    """Whether whoever calls the old one can call the new one in the same way, without changing anything.

    That is about the contract (inputs, outputs, tokenizer, preprocessing, what it needs to run), not about quality.

    Args:
        answer: the decision.
        reasons: why, most important first; never empty.
    """

    answer: Answer
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What one side of a comparison is, in a few fields.

    Args:
        label: as the person named it.
        digest: the artifact's manifest; None for files that were not pushed.
        reference: ``NAME:N``; None for files that were not pushed.
        format, framework, framework_version, architecture: of its leading description.
        parameters: trained numbers.
        tensors: how many.
        size: bytes of all files.
        files: how many.
        dtypes: elements per dtype.
    """

    label: str
    digest: str | None = None
    reference: str | None = None
    format: str = "unknown"
    framework: str | None = None
    framework_version: str | None = None
    architecture: str | None = None
    parameters: int | None = None
    tensors: int = 0
    size: int = 0
    files: int = 0
    dtypes: Mapping[str, int] = field(default_factory=dict)


class Kinship(StrEnum):
    """How the new one relates to the old one, as far as its content shows."""

    IDENTICAL = "identical"
    """Byte for byte."""
    SAME_MODEL = "same-model"
    """Every tensor equal and nothing that can change behaviour differs."""
    SAME_WEIGHTS = "same-weights"
    """Every tensor equal (of a conversion: nearly all of those that have a counterpart); something else can change
    behaviour."""
    RECAST = "recast"
    """The same numbers in other dtypes, or quantised."""
    FINE_TUNE = "fine-tune"
    """The same architecture, weights close to the old ones (heads may differ)."""
    ADAPTER = "adapter"
    """The changes are of low rank: an adapter was merged, or one side holds an adapter of the other."""
    SAME_ARCHITECTURE = "same-architecture"
    """The same tensors by name and shape; how their elements relate is not known."""
    RETRAINED = "retrained"
    """The same architecture, weights that are not close."""
    OTHER_ARCHITECTURE = "other-architecture"
    """Tensors of other names and shapes; some may be shared."""
    UNRELATED = "unrelated"
    """Nothing shared to tell by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Everything that changed from old to new.

    Args:
        old, new: the two sides.
        kinship: how they relate.
        summary: two to six sentences a person would write, most important first.
        drop_in: whether new can take old's place.
        tensors: in the order of the new side, then what was removed, in the order of the old one.
        groups: the tensors rolled up, in model order.
        items: everything else, most important area first.
        findings: what could not be compared; severity ``incomplete`` when something may have been missed.
        histograms: per group, counts of old and new elements over shared bins, when they were asked for.
        equal_bytes: whether every file is the same.
    """

    old: Side
    new: Side
    kinship: Kinship
    summary: tuple[str, ...]
    drop_in: DropIn
    tensors: tuple[TensorChange, ...] = ()
    groups: tuple[GroupChange, ...] = ()
    items: tuple[Item, ...] = ()
    findings: tuple[Finding, ...] = ()
    histograms: tuple[Histogram, ...] = ()
    equal_bytes: bool = False

    @property
    def states(self) -> dict[State, int]:
        """Tensors per state."""
        counts = Counter(change.state for change in self.tensors)
        return {state: counts[state] for state in State if counts[state]}

    @property
    def behaves_differently(self) -> bool:
        """Whether anything is known to differ that can change behaviour."""
        moved = any(
            change.effect is Effect.BEHAVIOUR and change.state is not State.UNREADABLE for change in self.tensors
        )
        return moved or any(item.effect is Effect.BEHAVIOUR for item in self.items)

    @property
    def complete(self) -> bool:
        """Whether everything was compared: every tensor could be read, and no finding says that something was not."""
        unread = any(change.state is State.UNREADABLE and change.effect is Effect.BEHAVIOUR for change in self.tensors)
        return not unread and all(finding.severity is not Severity.INCOMPLETE for finding in self.findings)

    @property
    def differs(self) -> bool:
        """Whether any byte differs."""
        return not self.equal_bytes


@dataclass(frozen=True, slots=True)
class Histogram:
    """How the elements of a group are spread before and after.

    Args:
        group: name of the group.
        low, high: ends of the bins, of equal width.
        old, new: finite elements per bin; those outside are counted in the first and the last.
    """

    group: str
    low: float
    high: float
    old: tuple[int, ...]
    new: tuple[int, ...]
