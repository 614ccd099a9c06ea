"""``assay promote``, ``assay rollback``, ``assay unalias`` and ``assay approve``."""

from __future__ import annotations

from typing import Literal

import click

from assay.cli.console import Command, json_option, print_json, say, talk, warn
from assay.cli.console import show as draw
from assay.cli.context import ALIAS, NAME, REFERENCE, policy_option, registry_of, settings_of
from assay.cli.events import gates_table
from assay.cli.text import visible
from assay.service import approvals
from assay.service import promote as promoting
from assay.service import rollback as rolling
from assay.service.promote import Moved, Plan, Request
from assay.service.registry import Registry
from assay.service.removing import resolve_one
from assay.spec.reference import Reference, check_alias
from assay.wiring.auditing import guard_of


def _holder(context: click.Context, param: click.Parameter, value: str | None) -> int | Literal["none"] | None:
    """A version's number, or the word none."""
    if value is None or value == "none":
        return "none" if value else None
    if not value.isdecimal() or int(value) < 1:
        raise click.BadParameter(f"{value!r} is neither a version's number nor none", context, param)
    return int(value)


def _moving_options(command: Command) -> Command:
    """Add what every move takes."""
    for option in (
        click.option(
            "--expect",
            metavar="N|none",
            callback=_holder,
            help="Do nothing unless this version holds the alias (none: nothing does).",
        ),
        click.option("--dry-run", is_flag=True, help="Decide every gate and change nothing."),
        click.option("--reason", metavar="TEXT", default="", help="Why; kept in the history."),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("reference", type=REFERENCE)
@click.argument("alias", type=ALIAS)
@_moving_options
@click.option("--override", metavar="REASON", help="Pass gates that are shut, where the rules allow it; kept for good.")
@policy_option
@json_option
@click.pass_context
def promote(
    context: click.Context,
    reference: str,
    alias: str,
    *,
    reason: str,
    dry_run: bool,
    expect: int | Literal["none"] | None,
    override: str | None,
    policy: str | None,
    as_json: bool,
) -> None:
    """Point ALIAS at a version, once every gate is open.

    Gates are declared in promotion.toml in the registry and in assay.toml of the project. Exit 1 when one is shut:
    then nothing is changed.
    """
    check_alias(alias)  # first: who gives both the other way round is told so
    guard = guard_of(settings_of(context, policy=policy), warn=warn)
    registry = registry_of(context)
    version = registry.resolve(Reference.parse(reference))
    request = Request(reason=reason, override=override, expect=expect)
    planned = promoting.plan(registry, version, alias, guard=guard, request=request)
    if override is not None and not planned.overridden and not planned.shut and planned.outcomes:
        talk().print("every gate is open: nothing was overridden")
    _carry_out(registry, planned, dry_run=dry_run, as_json=as_json)


@click.command()
@click.argument("name", type=NAME)
@click.argument("alias", type=ALIAS)
@click.option("--to", type=click.IntRange(min=1), metavar="N", help="The version to go back to; it was there before.")
@click.option("--steps", type=click.IntRange(min=1), metavar="K", help="How many states back (else one).")
@_moving_options
@policy_option
@json_option
@click.pass_context
def rollback(
    context: click.Context,
    name: str,
    alias: str,
    *,
    to: int | None,
    steps: int | None,
    reason: str,
    dry_run: bool,
    expect: int | Literal["none"] | None,
    policy: str | None,
    as_json: bool,
) -> None:
    """Put ALIAS of NAME back where it was.

    Done again, it goes one further back. The gates of safety hold, those of quality do not. An alias that was removed
    comes back.
    """
    if to is not None and steps is not None:
        raise click.UsageError("--to and --steps exclude each other")
    guard = guard_of(settings_of(context, policy=policy), warn=warn)
    registry = registry_of(context)
    request = Request(reason=reason, expect=expect, kind=rolling.KIND)
    planned = rolling.plan_rollback(registry, name, alias, guard=guard, to=to, steps=steps, request=request)
    _carry_out(registry, planned, dry_run=dry_run, as_json=as_json)


@click.command()
@click.argument("name", type=NAME)
@click.argument("alias", type=ALIAS)
@click.option("--reason", metavar="TEXT", required=True, help="Why; kept in the history.")
@click.option("--expect", type=click.IntRange(min=1), metavar="N", help="Do nothing unless this version holds it.")
@json_option
@click.pass_context
def unalias(context: click.Context, name: str, alias: str, *, reason: str, expect: int | None, as_json: bool) -> None:
    """Take ALIAS of NAME away; rollback brings it back."""
    guard = guard_of(settings_of(context), warn=warn)
    removed = rolling.unalias(
        registry_of(context), name, alias, guard=guard, reason=reason, request=Request(expect=expect)
    )
    if as_json:
        print_json({"name": removed.name, "alias": removed.alias, "from": removed.number})
        return
    say(f"{name}:{alias} removed")
    talk().print(f"it pointed at {name}:{removed.number}; assay rollback {name} {alias} brings it back")


@click.command()
@click.argument("reference", type=REFERENCE)
@click.option("--for", "alias", metavar="ALIAS", help="For this alias alone (else for every one of the model).")
@click.option("--note", metavar="TEXT", default="", help="Free text.")
@click.option("--withdraw", is_flag=True, help="Take your approval back.")
@json_option
@click.pass_context
def approve(
    context: click.Context, reference: str, *, alias: str | None, note: str, withdraw: bool, as_json: bool
) -> None:
    """Approve a version for an alias; promotions count it.

    It is your word (ASSAY_ACTOR), about these bytes, as a version of this model.
    """
    registry = registry_of(context)
    version = resolve_one(registry, Reference.parse(reference))
    approved = approvals.approve(registry, version, alias=alias, note=note, withdraw=withdraw)
    if as_json:
        print_json(approved.to_json())
        return
    say(f"{version.reference} {version.manifest}")
    what = "approved" if approved.approves else "not approved any more"
    where = f"for {alias}" if alias else "for every alias"
    talk().print(visible(f"{what} {where} by {approved.actor}") + ("" if approved.new else ", as it was already"))


def _carry_out(registry: Registry, planned: Plan, *, dry_run: bool, as_json: bool) -> None:
    """Show how the gates stand, and move the alias unless that is not wanted."""
    if planned.outcomes and not as_json:
        draw(gates_table([one.to_json() for one in planned.outcomes], planned.overridden))
    if dry_run:
        promoting.check_open(planned)
        moved = Moved(planned, moved=False)
    else:
        moved = promoting.carry_out(registry, planned)
    if as_json:
        print_json({**moved.to_json(), "dry_run": dry_run})
        return
    what = f"{planned.version.name}:{planned.alias}"
    say(f"{what} -> {planned.version.reference}" + (" (dry run: nothing was changed)" if dry_run else ""))
    if planned.needless or not (moved.moved or dry_run):
        talk().print("it points there already")
    elif not dry_run and planned.holder is not None:
        talk().print(f"it pointed at {planned.holder}; assay rollback {planned.version.name} {planned.alias} goes back")
