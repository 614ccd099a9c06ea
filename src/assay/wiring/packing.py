"""Packing a registry: what is asked for, with the formats and the lineage that this installation knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from assay.later import later
from assay.ports.progress import SILENT, Progress
from assay.service import packing, packing_plan
from assay.service.ancestry import Ancestry
from assay.service.browse import versions_of
from assay.service.declared import Declared
from assay.service.packing import Packed
from assay.service.packing_plan import Plan, Wish
from assay.service.registry import Registry
from assay.spec.records import Version
from assay.spec.reference import Reference
from assay.wiring.places import DECLARED, SNAPSHOTS

if TYPE_CHECKING:
    from assay.formats import registry as formats
    from assay.service import packing_estimate
else:
    formats = later("assay.formats.registry")
    packing_estimate = later("assay.service.packing_estimate")

EVERYTHING = Wish()
"""Every version, nothing kept raw."""


def named(registry: Registry, references: Sequence[str]) -> list[Version]:
    """The versions that references name; a model alone means all of its versions that are not gone, oldest first.

    Raises:
        NotFound: there is no such model or version.
        InvalidInput: a reference is malformed.
    """
    found: list[Version] = []
    for text in references:
        reference = Reference.parse(text)
        if reference.label is None and reference.digest is None and reference.host is None:
            found += [version for version in versions_of(registry, reference.name)[::-1] if not version.gone]
        else:
            found.append(registry.resolve(reference))
    return found


def named_wish(registry: Registry, references: Sequence[str], wish: Wish) -> Wish:
    """A wish narrowed to what references name; to nothing less than everything where there are none."""
    return replace(wish, versions=named(registry, references) if references else None)


def plan(registry: Registry, wish: Wish, *, progress: Progress = SILENT) -> Plan:
    """What would be packed: see ``assay.service.packing_plan.plan``."""
    packing_plan.packing_of(registry)
    edges = Ancestry(registry, Declared(registry.state / DECLARED), progress).edges
    return packing_plan.plan(registry, wish, formats.all_formats(), edges, now=datetime.now(UTC))


def pack_store(
    registry: Registry,
    references: Sequence[str] = (),
    wish: Wish = EVERYTHING,
    *,
    dry_run: bool = False,
    progress: Progress = SILENT,
) -> tuple[Plan, Packed | None, int | None]:
    """Pack what is asked for; with *dry_run* only say what that would be.

    Args:
        registry: where.
        references: of versions, or names of models; everything when there are none.
        wish: what else narrows it; its versions do not count.
        dry_run: change nothing.
        progress: hears about bytes.

    Returns:
        What was planned, what was done, and for a dry run at most how many bytes would be stored.

    Raises:
        As ``plan`` and ``assay.service.packing.pack``.
    """
    planned = plan(registry, named_wish(registry, references, wish), progress=progress)
    if dry_run:
        return planned, None, packing_estimate.estimate(registry, planned)
    return planned, pack(registry, planned, progress=progress), None


def pack(registry: Registry, planned: Plan, *, progress: Progress = SILENT) -> Packed:
    """Pack what was planned: see ``assay.service.packing.pack``."""
    return packing.pack(registry, planned, snapshots=registry.state / SNAPSHOTS, progress=progress)
