"""``assay remove``: give one version up."""

from __future__ import annotations

import sys

import click

from assay.cli.console import json_option, print_json, say, talk
from assay.cli.context import REFERENCE, registry_of
from assay.cli.text import size
from assay.service import removing
from assay.service.usage import given_back
from assay.spec.reference import Reference


@click.command()
@click.argument("reference", type=REFERENCE)
@click.option("--reason", metavar="TEXT", required=True, help="Why; kept in the history for good.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@click.pass_context
def remove(context: click.Context, reference: str, reason: str, *, yes: bool, as_json: bool) -> None:
    """Give a version up, on record; gc then frees its bytes.

    The version keeps its number, which is never used again. A version that an alias points at or that is pinned is not
    removed. Leaked or unlicensed bytes are better purged: that takes them at once, whatever points at them.
    """
    registry = registry_of(context)
    version = removing.resolve_one(registry, Reference.parse(reference))
    freed = given_back(registry, version)
    back = "" if freed is None else f" {size(freed)} of it are needed by nothing else."
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("removing cannot be undone, and nobody can be asked here: add --yes")
        click.confirm(f"Give {version.reference} up?{back} This cannot be undone.", abort=True, err=True)
    done = removing.remove(registry, version, reason=reason)
    if as_json:
        print_json({"reference": done.reference, "digest": str(done.manifest), "removed": done.removed, "bytes": freed})
        return
    say(f"{done.reference} {done.manifest}")
    talk().print("removed" if freed is None else f"removed; {size(freed)} come back with the next assay gc --yes")
