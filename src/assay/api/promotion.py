"""Which version stands behind an alias: promote, roll back, approve, yank."""

from __future__ import annotations

from typing import Literal

from assay.api.given import PathLike, registry_of, text_of, version_of, warn
from assay.service import approvals, yanking
from assay.service import promote as promoting
from assay.service import rollback as rolling
from assay.service.promote import Moved, Request
from assay.service.removing import resolve_one
from assay.settings import read_settings
from assay.spec.records import Version
from assay.spec.reference import Reference
from assay.wiring.auditing import guard_of
from assay.wiring.places import open_registry

Expect = int | Literal["none"] | None


def promote(
    reference: str,
    alias: str,
    *,
    reason: str = "",
    dry_run: bool = False,
    override: str | None = None,
    expect: Expect = None,
    policy: PathLike | None = None,
    home: PathLike | None = None,
) -> Moved:
    """Point an alias at a version, once every gate is open.

    Args:
        reference: ``NAME``, ``NAME:N`` or ``NAME:ALIAS``.
        alias: what is to point at it.
        reason: why; kept in the history.
        dry_run: decide every gate and change nothing.
        override: why gates that are shut shall be passed, where the rules allow that; kept in the history.
        expect: the version that must hold the alias now, ``"none"`` for nothing; whoever holds it when None.
        policy: name of a built-in policy or the file of one; as the settings say when None.
        home: the registry's folder.

    Returns:
        ``moved`` is False when the alias pointed there already, or nothing should be changed; ``plan.outcomes`` holds
        every gate.

    Raises:
        Refused: a gate is shut (code ``promotion-refused``); ``details["gates"]`` lists all.
        Conflict: somebody else moved the alias (code ``alias-moved``); nothing is changed.
        InvalidInput, NotFound: as the message says.
    """
    settings = read_settings(home=home, policy=policy)
    registry = open_registry(settings, warn=warn)
    version = version_of(registry, reference)
    request = Request(reason=reason, override=override, expect=expect)
    guard = guard_of(settings, warn=warn)
    planned = promoting.plan(registry, version, text_of("alias", alias), guard=guard, request=request)
    if dry_run:
        promoting.check_open(planned)
        return Moved(planned, moved=False)
    return promoting.carry_out(registry, planned)


def rollback(
    name: str,
    alias: str,
    *,
    to: int | None = None,
    steps: int | None = None,
    reason: str = "",
    expect: Expect = None,
    policy: PathLike | None = None,
    home: PathLike | None = None,
) -> Moved:
    """Put an alias back where it was; done again, it goes one further back.

    Args:
        name: the model.
        alias: which alias; one that was removed comes back.
        to: the version to go back to; it was there before.
        steps: how many states back; one when None.
        reason: why; kept in the history.
        expect: as for ``promote``.
        policy: as for ``promote``; its gates of safety hold.
        home: the registry's folder.

    Raises:
        NotFound: there is no earlier state (code ``no-earlier-state``).
        Refused: that version must not be used any more (code ``rollback-refused``); the hint names one that may.
        Conflict: somebody else moved the alias (code ``alias-moved``); nothing is changed.
    """
    settings = read_settings(home=home, policy=policy)
    registry = open_registry(settings, warn=warn)
    request = Request(reason=reason, expect=expect, kind=rolling.KIND)
    planned = rolling.plan_rollback(
        registry,
        text_of("name", name),
        text_of("alias", alias),
        guard=guard_of(settings, warn=warn),
        to=to,
        steps=steps,
        request=request,
    )
    return promoting.carry_out(registry, planned)


def unalias(name: str, alias: str, *, reason: str, home: PathLike | None = None) -> None:
    """Take an alias away; ``rollback`` brings it back.

    Raises:
        NotFound: there is no such alias.
        Refused: it is protected (code ``alias-protected``).
    """
    settings = read_settings(home=home)
    registry = open_registry(settings, warn=warn)
    guard = guard_of(settings, warn=warn)
    rolling.unalias(registry, text_of("name", name), text_of("alias", alias), guard=guard, reason=reason)


def approve(
    reference: str,
    *,
    alias: str | None = None,
    note: str = "",
    withdraw: bool = False,
    home: PathLike | None = None,
) -> approvals.Approved:
    """Say that a version may stand behind an alias; a promotion counts it.

    Args:
        reference: with a number, an alias or a digest: what a bare name means changes with every push.
        alias: for this one alone; for every alias of the model when None.
        note: free text.
        withdraw: take the approval back.
        home: the registry's folder.

    Raises:
        NotFound: there is no such version.
        InvalidInput: only a model is named (code ``version-not-named``).
    """
    registry = registry_of(home)
    version = resolve_one(registry, Reference.parse(text_of("reference", reference)))
    return approvals.approve(registry, version, alias=alias, note=note, withdraw=withdraw)


def yank(reference: str, *, reason: str = "", undo: bool = False, home: PathLike | None = None) -> Version:
    """Say that a version must not be used any more, or with *undo* that it may after all.

    Args:
        reference: ``NAME:N`` or ``NAME:ALIAS``.
        reason: why; everybody who names the version is shown it.
        undo: take it back.
        home: the registry's folder.

    Returns:
        The version as it is now.

    Raises:
        InvalidInput: there is no reason, or only a name.
        NotFound: there is no such version.
    """
    registry = open_registry(read_settings(home=home))
    return yanking.yank(registry, Reference.parse(text_of("reference", reference)), reason=reason, undo=undo).version
