"""Copies from one home to another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from assay.errors import Conflict, InvalidInput, NotFound, Refused
from assay.ports.progress import SILENT, Progress
from assay.service import promote
from assay.service.browse import versions_of
from assay.service.gate import Guard
from assay.service.promote import Request
from assay.service.registry import Registry
from assay.service.transfer import Brought, Coming, Plan, bring, keep_number, plan_bring
from assay.settings import Settings
from assay.spec.records import Version
from assay.spec.reference import check_name
from assay.wiring.places import open_registry

HOME_SCHEME = "home:"
"""How a text begins that names the home of another registry."""
BUCKET_SCHEME = "s3://"
"""How the URL of a bucket begins, which is a home without further words."""


@dataclass(frozen=True, slots=True)
class MovedAlias:
    """An alias of the source, at the destination.

    Args:
        alias: which.
        version: where it was to point.
        moved: whether it points there just now by this copy.
        refused: why it does not point there; None when it does.
    """

    alias: str
    version: Version
    moved: bool
    refused: str | None = None


def open_other(
    text: str, settings: Settings, here: Registry, *, create: bool = True
) -> tuple[Registry | None, Settings]:
    """The registry that ``home:DIR`` or ``home:s3://BUCKET/PREFIX`` names, and what applies in it.

    Args:
        text: as typed; a bucket may be written without ``home:``.
        settings: what applies here.
        here: this registry.
        create: make it when it is not there; otherwise None stands for it.

    Raises:
        InvalidInput: there is none, or it is this registry's own (codes ``invalid-reference``, ``same-home``,
            ``nested-home``).
        StorageError: it cannot be opened.
    """
    named = text.removeprefix(HOME_SCHEME)
    if not named:
        raise InvalidInput(
            "home: needs a folder or a bucket: home:DIR, home:s3://BUCKET/PREFIX", code="invalid-reference"
        )
    there = settings.at(named)
    _check_apart(text, there, here)
    try:
        return open_registry(there, create=create), there
    except NotFound as error:
        if create or error.code != "home-missing":
            raise
        return None, there


def _check_apart(text: str, there: Settings, here: Registry) -> None:
    inner, outer = sorted((_where(there.place), _where(here.place)), key=lambda path: len(path.parts), reverse=True)
    if inner == outer:
        raise InvalidInput(
            f"{text} is the registry that is copied from",
            code="same-home",
            hint="name another folder; assay promote gives a version one more name",
        )
    if inner.is_relative_to(outer):
        raise InvalidInput(
            f"{text} and the registry that is copied from lie one in the other",
            code="nested-home",
            hint="name a folder beside it: what lies in a registry's folder may be taken for its own",
        )


def _where(place: str) -> PurePath:
    """A registry's place, so that one within another is seen: a folder without links, or the parts of a URL."""
    return PurePath(place) if "://" in place else Path(place).resolve()


def is_home(text: str) -> bool:
    """Whether a text names the home of a registry."""
    return text.startswith((HOME_SCHEME, BUCKET_SCHEME))


def chosen(here: Registry, version: Version, *, every: bool) -> list[Version]:
    """The versions that are to be copied, oldest first: one, or *every* version of its model, the gone ones too."""
    return list(versions_of(here, version.name))[::-1] if every else [version]


def plan_home(
    here: Registry, versions: Sequence[Version], there: Registry | None, *, packed: bool = False
) -> list[Plan]:
    """What ``copy_home`` would move, version by version; what several need counts with the first.

    Raises:
        As ``copy_home``; nothing is changed.
    """
    plans: list[Plan] = []
    coming = Coming()
    for version in versions:
        if not version.gone:
            plans.append(plan_bring(here, version, there, packed=packed, coming=coming))
            coming.add(plans[-1])
    return plans


def copy_home(
    here: Registry,
    versions: Sequence[Version],
    there: Registry,
    name: str,
    *,
    packed: bool = False,
    progress: Progress = SILENT,
) -> list[Brought]:
    """Copy versions in order into another home; those that are gone only keep their numbers.

    Raises:
        As ``assay.service.transfer.bring``; versions before the one that failed are complete.
    """
    check_name(name)
    found = []
    for version in versions:
        if version.gone:
            keep_number(here, version, there, name)
        else:
            found.append(bring(here, version, there, name, packed=packed, progress=progress))
    return found


def copy_aliases(here: Registry, brought: Sequence[Brought], there: Registry, guard: Guard) -> list[MovedAlias]:
    """Move the source's aliases at the destination, each through the destination's gates.

    Args:
        here: the source.
        brought: what was copied.
        there: the destination.
        guard: with the destination's policies and promotion rules.
    """
    by_number = {one.source.number: one for one in brought}
    found = []
    for alias in here.catalog.aliases(brought[0].source.name) if brought else ():
        one = by_number.get(alias.number)
        if one is None:
            continue
        request = Request(reason=f"copied from home:{here.place} {one.source.reference}", kind="copy")
        hint = f"assay promote {one.version.reference} {alias.alias}"
        doing = f"moving {one.version.name}:{alias.alias}"
        try:
            promote.check_unprotected(guard, one.version.name, alias.alias, there.actor, doing=doing, hint=hint)
            planned = promote.plan(there, one.version, alias.alias, guard=guard, request=request)
            moved = promote.carry_out(there, planned, instead="the version is copied, the alias is not moved")
        except (Refused, Conflict) as error:
            found.append(MovedAlias(alias.alias, one.version, moved=False, refused=error.message))
        else:
            found.append(MovedAlias(alias.alias, one.version, moved=moved.moved))
    return found
