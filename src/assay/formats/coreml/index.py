"""What the parts of a Core ML model add to while they are read: tensors, layers, findings; and their limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from assay.containers.protobuf.message import Field
from assay.errors import BadFormat, LimitExceeded
from assay.spec.description import Component
from assay.spec.finding import Finding, Severity
from assay.spec.json import Json
from assay.spec.tensor import Extent, TensorSpec
from assay.trees import Tree

MAX_DEPTH = 16
"""Models in pipelines, networks in branches, blocks in operations."""

MAX_LAYERS = 500_000
MAX_TENSORS = 200_000
MAX_COMPONENTS = 500
MAX_FINDINGS_PER_RULE = 20

_EFFECTS = {Severity.READ: "read a file outside the artifact", Severity.EXHAUST: "use up memory"}


class Index:
    """Everything found in one Core ML model.

    Args:
        tree: where weight files are looked for.
        path: the model's entry.

    Attributes:
        tensors, components, findings: as in ``Description``.
        operators: how often each kind of layer or operation is used.
        facts: counts and labels worth showing.
        side_files: entries that hold weights.
        layers: layers and operations met so far.
    """

    def __init__(self, tree: Tree, path: str) -> None:
        self.tree = tree
        self.path = path
        self.tensors: list[TensorSpec] = []
        self.components: list[Component] = []
        self.findings: list[Finding] = []
        self.operators: Counter[str] = Counter()
        self.facts: dict[str, Json] = {}
        self.side_files: set[str] = set()
        self.layers = 0
        self._names: set[str] = set()
        self._suffixes: Counter[str] = Counter()
        self._reported: Counter[str] = Counter()

    def report(self, rule: str, severity: Severity, message: str, offset: int | None = None) -> None:
        """Keep a finding; of one rule only the first ``MAX_FINDINGS_PER_RULE``."""
        self._reported[rule] += 1
        if self._reported[rule] <= MAX_FINDINGS_PER_RULE:
            does = _EFFECTS.get(severity, "")
            self.findings.append(Finding(rule, severity, message, self.path, offset, effect=does))

    def damaged(self, error: BadFormat) -> None:
        """Keep an error as the finding that something could not be read."""
        offset = error.details.get("offset")
        rule = "coreml-limit" if isinstance(error, LimitExceeded) else "coreml-malformed"
        self.report(rule, Severity.INCOMPLETE, error.message, offset if isinstance(offset, int) else None)

    def layer(self, message: Field, read: Callable[[Field], None]) -> None:
        """Count one more layer or operation and read it; one that is damaged is a finding.

        Raises:
            LimitExceeded: there are more than ``MAX_LAYERS``, or reading it met a limit.
        """
        self.layers += 1
        if self.layers > MAX_LAYERS:
            raise LimitExceeded(f"{self.path}: more than {MAX_LAYERS:,} layers", path=self.path)
        try:
            read(message)
        except LimitExceeded:
            raise
        except BadFormat as error:
            self.damaged(error)

    def add(self, name: str, dtype: str, shape: tuple[int, ...], extent: Extent | None) -> None:
        """Keep a tensor under a unique form of its name.

        Raises:
            LimitExceeded: there are more than ``MAX_TENSORS``.
        """
        if len(self.tensors) >= MAX_TENSORS:
            raise LimitExceeded(f"{self.path}: more than {MAX_TENSORS:,} tensors", path=self.path)
        unique = name
        while unique in self._names:
            self._suffixes[name] += 1
            unique = f"{name}#{self._suffixes[name] + 1}"
        self._names.add(unique)
        self.tensors.append(TensorSpec(unique, dtype, shape, extent))

    def component(self, name: str, kind: str) -> None:
        """Count a layer or operation, and keep the first ``MAX_COMPONENTS`` as components."""
        self.operators[kind] += 1
        if len(self.components) < MAX_COMPONENTS:
            self.components.append(Component(name, kind))
