"""One side of a comparison: the files, what is understood of them, and what is said about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from assay.ports.progress import SILENT, Progress
from assay.spec.changes import Side
from assay.spec.digest import Digest
from assay.spec.inspection import Inspection
from assay.spec.records import Version
from assay.spec.report import Report
from assay.spec.statement import Statement
from assay.trees import Tree

if TYPE_CHECKING:
    from assay.artifact.reader import Artifact


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One side.

    Args:
        label: as the person named it.
        artifact: the opened files; tensors are read when they are indexed.
        digests: entry path to the digest of its blob; empty for files that were not pushed, whose bytes must be read
            to be compared.
        statements: what is said about it, oldest first; empty for files that were not pushed.
        version: which version it is, or None.
        audit: makes an audit report of it; costs as much as ``assay scan``.
    """

    label: str
    artifact: Artifact
    digests: Mapping[str, Digest] = field(default_factory=dict)
    statements: Sequence[Statement] = ()
    version: Version | None = None
    audit: Callable[[], Report] | None = None

    @property
    def tree(self) -> Tree:
        """The files."""
        return self.artifact.tree

    @property
    def inspection(self) -> Inspection:
        """What is understood of them."""
        return self.artifact.inspection

    def said(self, kind: str) -> Statement | None:
        """The newest statement of a kind."""
        return next((statement for statement in reversed(self.statements) if statement.kind == kind), None)

    def side(self) -> Side:
        """The side in a few fields."""
        inspection = self.inspection
        leading = inspection.leading
        made_with = next((found for found in inspection.descriptions if found.framework), None)
        manifest = self.artifact.manifest
        return Side(
            label=self.label,
            digest=str(manifest.digest) if manifest else None,
            reference=self.version.reference if self.version else None,
            format=leading.format if leading else "unknown",
            framework=made_with.framework if made_with else None,
            framework_version=made_with.framework_version if made_with else None,
            architecture=inspection.first("architecture"),
            parameters=inspection.parameters,
            tensors=sum(len(found.tensors) for found in inspection.weights),
            size=sum(inspection.sizes.values()),
            files=len(inspection.sizes),
            dtypes=inspection.dtypes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a comparison is made.

    Args:
        tensors: whether elements are compared; False compares names, dtypes and shapes alone.
        ranks: whether the rank of changes is estimated (a singular value decomposition of samples per matrix).
        histograms: whether elements are counted into bins, for plots.
        audit: whether both sides are audited, so that findings gained and lost can be told.
        memory: folder in which digests of tensors are kept from one comparison to the next; None keeps none.
        workers: threads; as many as there are processors when None.
        progress: hears about bytes of tensors compared.
    """

    tensors: bool = True
    ranks: bool = True
    histograms: bool = False
    audit: bool = True
    memory: Path | None = None
    workers: int | None = None
    progress: Progress = SILENT


DEFAULT = Options()
"""Compare everything."""
