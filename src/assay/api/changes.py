"""What changed from one model to another, for programs and notebooks."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from assay.api.given import PathLike, text_of
from assay.compare.sides import Options
from assay.later import later
from assay.pages.markdown import markdown
from assay.settings import read_settings
from assay.spec.changes import Comparison
from assay.spec.changes_json import comparison_json
from assay.spec.json import Json
from assay.spec.reference import is_path
from assay.wiring.comparing import diff as compare

if TYPE_CHECKING:
    from assay.pages import html as pages
else:
    pages = later("assay.pages.html")


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff(Comparison):
    """A comparison that draws itself.

    ``str()`` gives the summary, a notebook shows it as Markdown would, ``html()`` gives the page with plots.
    """

    def __str__(self) -> str:
        return " ".join(self.summary)

    def to_json(self) -> dict[str, Json]:
        """As ``assay diff --json`` prints it."""
        return comparison_json(self)

    def markdown(self) -> str:
        """As ``assay diff --markdown`` prints it."""
        return markdown(self)

    def html(self) -> str:
        """As ``assay diff --html`` writes it."""
        return pages.page(self)

    def _repr_markdown_(self) -> str:
        return markdown(self)


def diff(
    old: PathLike,
    new: PathLike,
    *,
    tensors: bool = True,
    ranks: bool = True,
    histograms: bool = False,
    audit: bool = True,
    home: PathLike | None = None,
) -> Diff:
    """Say what changed from one model to another.

    Args:
        old, new: paths (a ``Path``, or text that starts with ``/``, ``.`` or ``~``), references, or ``oci:DIR[:TAG]``.
        tensors: compare elements; False compares names, dtypes and shapes alone.
        ranks: estimate the rank of changes, which tells a merged adapter.
        histograms: count elements into bins, for the plots of ``html()``.
        audit: look for findings gained and lost, which costs as much as two scans.
        home: the registry's folder.

    Returns:
        ``summary`` (sentences), ``drop_in`` (``answer`` and ``reasons``), ``kinship``, ``groups``, ``tensors`` and
        ``items``; ``behaves_differently`` is what the exit status of ``assay diff`` tells.

    Raises:
        NotFound, InvalidInput: one of them is not there, or cannot be an artifact.
    """
    options = Options(tensors=tensors, ranks=ranks, histograms=histograms, audit=audit)
    found = compare(_name(old), _name(new), read_settings(home=home), options)
    return Diff(**{field.name: getattr(found, field.name) for field in fields(Comparison)})


def _name(side: PathLike) -> str:
    """What is meant, in a form that cannot be taken for something else."""
    if not isinstance(side, Path):
        return text_of("reference", side)
    return str(side) if is_path(str(side)) else f"./{side}"
