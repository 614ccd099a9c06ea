"""Comparing two folders or files as a user would, and looking at what was told beside tensors."""

from __future__ import annotations

from pathlib import Path

from assay.compare.items import compare_items
from assay.compare.sides import Options
from assay.settings import Settings
from assay.spec.changes import Area, Effect, Item
from assay.wiring.comparing import open_side

NEVER = Settings(Path("/nonexistent/home"), "tester")


def items_between(old: Path, new: Path, *, audit: bool = False) -> list[Item]:
    """What is told of two paths."""
    before, after = open_side(f"{old.resolve()}", NEVER), open_side(f"{new.resolve()}", NEVER)
    with before.artifact, after.artifact:
        items, _ = compare_items(before, after, Options(audit=audit))
    return list(items)


def behaviours(items: list[Item]) -> list[tuple[Area, str]]:
    """Area and place of what can change behaviour."""
    return [(item.area, item.path) for item in items if item.effect is Effect.BEHAVIOUR]


def notes(items: list[Item]) -> list[tuple[Area, str]]:
    """Area and place of what cannot."""
    return [(item.area, item.path) for item in items if item.effect is Effect.NOTE]
