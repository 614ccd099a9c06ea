"""``assay yank``."""

from __future__ import annotations

import click

from assay.cli.console import json_option, print_json, say, talk
from assay.cli.context import REFERENCE, registry_of
from assay.cli.text import visible
from assay.service import yanking
from assay.spec.reference import Reference


@click.command()
@click.argument("reference", type=REFERENCE)
@click.option("--reason", metavar="TEXT", default="", help="Why; everybody who names the version is shown it.")
@click.option("--undo", is_flag=True, help="It may be used after all.")
@json_option
@click.pass_context
def yank(context: click.Context, reference: str, *, reason: str, undo: bool, as_json: bool) -> None:
    """Mark a version as unfit for use, or take that back.

    Nothing is removed: whoever names it is warned, loading it takes yanked=True, no alias moves to it, and NAME alone
    passes it over. Its number is never used again.
    """
    registry = registry_of(context, told=lambda _: None)
    outcome = yanking.yank(registry, Reference.parse(reference), reason=reason, undo=undo)
    if as_json:
        print_json(outcome.to_json())
        return
    version = outcome.version
    say(f"{version.reference} {version.manifest}")
    if undo:
        talk().print("it may be used again" if outcome.changed else "it was not yanked: it may be used")
        return
    talk().print(visible(f"yanked: {version.yanked}") + ("" if outcome.changed else ", as it was already"))
    for alias in outcome.aliases:
        talk().print(
            f"{version.name}:{alias} points at it: assay rollback {version.name} {alias} goes back, "
            f"assay promote REF {alias} goes on"
        )
