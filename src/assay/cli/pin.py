"""``assay pin`` and ``assay unpin``: versions that are kept whatever the retention rules say."""

from __future__ import annotations

import click

from assay.cli.console import json_option, print_json, say, talk
from assay.cli.context import REFERENCE, registry_of
from assay.service import removing
from assay.service.browse import version_json
from assay.spec.records import Version
from assay.spec.reference import Reference


@click.command()
@click.argument("reference", type=REFERENCE)
@click.option("--reason", metavar="TEXT", required=True, help="Why; kept in the history.")
@json_option
@click.pass_context
def pin(context: click.Context, reference: str, reason: str, *, as_json: bool) -> None:
    """Keep a version: no retention rule and no remove takes it."""
    registry = registry_of(context)
    version = removing.resolve_one(registry, Reference.parse(reference))
    _report(removing.pin(registry, version, reason=reason), as_json=as_json)


@click.command()
@click.argument("reference", type=REFERENCE)
@click.option("--reason", metavar="TEXT", default="", help="Why; kept in the history.")
@json_option
@click.pass_context
def unpin(context: click.Context, reference: str, reason: str, *, as_json: bool) -> None:
    """Take a pin back: the version may be given up again."""
    registry = registry_of(context)
    version = removing.resolve_one(registry, Reference.parse(reference))
    _report(removing.unpin(registry, version, reason=reason), as_json=as_json)


def _report(version: Version, *, as_json: bool) -> None:
    if as_json:
        body = version_json(version, ())
        print_json({key: body[key] for key in ("reference", "digest")} | {"pinned": version.pinned})
        return
    say(f"{version.reference} {version.manifest}")
    talk().print(f"pinned: {version.pinned}" if version.pinned is not None else "not pinned")
