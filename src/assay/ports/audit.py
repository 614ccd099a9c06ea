"""The port of auditors: what files that no format describes can do, and what only shows across files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from assay.spec.finding import Finding
from assay.spec.inspection import Inspection
from assay.trees import Tree


@runtime_checkable
class Auditor(Protocol):
    """Looks for one kind of danger that formats do not see.

    Contract: nothing is executed, imported or unpickled; reading is bounded; what cannot be finished is a finding of
    severity ``incomplete``; only ``AssayError`` leaves.
    """

    @property
    def name(self) -> str:
        """Lower-case name, unique among auditors."""
        ...

    def audit(self, tree: Tree, inspection: Inspection) -> Sequence[Finding]:
        """What was found in *tree*, given what formats understood of it."""
        ...


@runtime_checkable
class Classifier(Protocol):
    """An auditor that also says which entries it understood and found inert (text, images, data tables)."""

    def inert(self, tree: Tree, paths: Sequence[str]) -> Sequence[str]:
        """Those of *paths* that are known to do nothing when loaded."""
        ...
