"""Putting a rehearsal together: where environments are kept, who builds them, and what is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.metadata import version as installed_version
from pathlib import Path

from platformdirs import user_cache_path

from assay.environment.building import BUILDERS, Options
from assay.errors import InvalidInput
from assay.rehearsal.running import LIMITS, CleanEnvironments
from assay.sandbox.values import Limits
from assay.service import rehearse as rehearsing
from assay.service.rehearse import Asked
from assay.settings import Settings
from assay.spec.example import Tolerance
from assay.spec.records import Version
from assay.spec.reference import Reference, is_path
from assay.spec.rehearsal import Rehearsal, parse_budget
from assay.wiring.auditing import guard_of
from assay.wiring.places import SNAPSHOTS, open_registry

__all__ = ["BUILDERS", "LIMITS", "Wish", "cache_folder", "rehearse"]


@dataclass(frozen=True, slots=True)
class Wish:
    """How a person wants it rehearsed.

    Args:
        python: interpreter to build with, by version or path.
        environment: an interpreter or environment to use as it is.
        options: how to build; its ``cache`` counts only when ``cached``.
        cached: whether environments are kept and used again.
        budget: such as ``load<20s,rss<4GB``; empty for none.
        tolerance: instead of the recorded one.
        limits: what the process may use.
        isolated: whether nothing runs unless it can be isolated whole.
        record: whether the outcome is attached.
    """

    python: str | None = None
    environment: Path | None = None
    options: Options = field(default_factory=Options)
    cached: bool = True
    budget: str = ""
    tolerance: Tolerance | None = None
    limits: Limits = LIMITS
    isolated: bool = True
    record: bool = True


def rehearse(
    settings: Settings,
    text: str,
    wish: Wish,
    *,
    told: Callable[[str], None] = lambda _: None,
    warn: Callable[[str], None] = lambda _: None,
) -> tuple[Version, Rehearsal]:
    """Rehearse the version that a reference names.

    Args:
        settings: where the registry is, and the policy.
        text: the reference.
        wish: how.
        told: hears what is going on.
        warn: hears of what a gate lets through although it is not safe.

    Raises:
        InvalidInput: it is a path (code ``not-a-version``), or the budget is none (code ``bad-budget``).
        As ``service.rehearse.rehearse``.
    """
    if is_path(text):
        raise InvalidInput(
            f"{text} is no version: nothing is recorded of what it needs",
            code="not-a-version",
            hint="assay push it first",
        )
    budget = parse_budget(wish.budget) if wish.budget else ()
    registry = open_registry(settings)
    version = registry.resolve(Reference.parse(text))
    rehearser = CleanEnvironments(
        options=replace(wish.options, cache=cache_folder() if wish.cached else None),
        python=wish.python,
        given=wish.environment,
        limits=wish.limits,
        isolated=wish.isolated,
    )
    tool = {"name": "assay", "version": installed_version("assay")}
    outcome = rehearsing.rehearse(
        registry,
        version,
        guard=guard_of(settings, warn=warn),
        rehearser=rehearser,
        snapshots=settings.home / SNAPSHOTS,
        asked=Asked(budget, wish.tolerance, wish.record, tool, told),
    )
    return version, outcome


def cache_folder() -> Path:
    """Where environments are kept."""
    return user_cache_path("assay", appauthor=False) / "environments"
