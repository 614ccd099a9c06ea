"""Inspect a tree: ask every format, describe every group found, and put the descriptions in order of importance."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from assay.errors import AssayError
from assay.ports.formats import Format
from assay.spec.description import Description
from assay.spec.finding import Finding, Severity
from assay.spec.inspection import Inspection
from assay.trees import Tree

Describe = Callable[[Tree, Format, tuple[str, ...]], Description]
"""How one group is described: by its format, or from what is known of it already."""

MAX_GROUPS = 10_000
"""Models described per tree; more than an artifact's manifest holds files."""


def describe(tree: Tree, form: Format, group: tuple[str, ...]) -> Description:
    """Describe one group afresh.

    Raises:
        BadFormat: nothing useful could be understood.
    """
    return form.describe(tree, group)


def inspect(tree: Tree, formats: Sequence[Format], *, describing: Describe = describe) -> Inspection:
    """Understand everything in *tree*, without running any of it.

    Args:
        tree: what to look at.
        formats: in order of preference; an entry that several file formats recognise belongs to the first.
        describing: how one group is described.

    Returns:
        Directory descriptions first (outermost folder first), then file descriptions in the order of *formats*, larger
        ones first. A format that fails on a group leaves a finding and does not hide the others.
    """
    directories: list[tuple[tuple[int, int, str], Description]] = []
    files: list[tuple[tuple[int, int, str], Description]] = []
    findings: list[Finding] = []
    taken: set[str] = set()
    for rank, form in enumerate(formats):
        for group in _groups(tree, form, findings):
            if form.covers == "file" and any(path in taken for path in group):
                continue
            described = _describe(describing, tree, form, group, findings)
            if described is None:
                continue
            if form.covers == "file":
                taken.update(group)
                size = sum(tree.size(path) for path in group if path in tree)
                files.append(((rank, -size, group[0]), described))
            else:
                directories.append(((group[0].count("/"), rank, group[0]), described))
    directories.sort(key=lambda item: item[0])
    files.sort(key=lambda item: item[0])
    descriptions = tuple(described for _, described in (*directories, *files))
    covered = {path for described in descriptions for path in described.paths}
    return Inspection(
        descriptions=descriptions,
        unknown=tuple(path for path in tree.paths if path not in covered),
        findings=tuple(findings),
        sizes={path: tree.size(path) for path in tree.paths},
    )


def _groups(tree: Tree, form: Format, findings: list[Finding]) -> Iterable[tuple[str, ...]]:
    try:
        groups = form.detect(tree)
    except AssayError as error:
        findings.append(_failure(form, "", error))
        return ()
    if len(groups) > MAX_GROUPS:
        findings.append(
            Finding(
                "inspect-too-many",
                Severity.INCOMPLETE,
                f"{len(groups):,} models of format {form.name}, the first {MAX_GROUPS:,} are described",
            )
        )
    return groups[:MAX_GROUPS]


def _describe(
    describing: Describe, tree: Tree, form: Format, group: tuple[str, ...], findings: list[Finding]
) -> Description | None:
    try:
        return describing(tree, form, group)
    except AssayError as error:
        findings.append(_failure(form, group[0], error))
        return None


def _failure(form: Format, path: str, error: AssayError) -> Finding:
    return Finding(
        f"{form.name}-unreadable",
        Severity.INCOMPLETE,
        f"looks like {form.name} but could not be described: {error.message}",
        path,
    )
