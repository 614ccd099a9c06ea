"""``assay purge`` and ``assay reindex``."""

from __future__ import annotations

import sys

import click

from assay.cli.console import json_option, print_json, say, talk
from assay.cli.context import REFERENCE, registry_of, settings_of
from assay.cli.text import plural, size
from assay.service import purge as purging
from assay.settings import Settings
from assay.spec.reference import Reference
from assay.wiring import buckets, places
from assay.wiring.lineage import forget
from assay.wiring.places import SNAPSHOTS


@click.command()
@click.argument("reference", type=REFERENCE)
@click.option("--reason", metavar="TEXT", required=True, help="Why; kept in the history for good.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@click.pass_context
def purge(context: click.Context, reference: str, reason: str, *, yes: bool, as_json: bool) -> None:
    """Remove a version's bytes for good, on record.

    The version keeps its number and its digest. Bytes that other versions also hold stay.
    """
    registry = registry_of(context)
    version = registry.resolve(Reference.parse(reference))
    planned = purging.plan(registry, version)
    names = ", ".join(found.reference for found in planned.versions)
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("purging cannot be undone, and nobody can be asked here: add --yes")
        click.confirm(f"Remove {size(planned.freed)} of {names} for good? This cannot be undone.", abort=True, err=True)
    done = purging.purge(registry, version, reason=reason, snapshots=registry.state / SNAPSHOTS)
    forget(registry, version)
    if as_json:
        print_json(
            {
                "versions": [found.reference for found in done.versions],
                "digest": str(version.manifest),
                "removed": [str(digest) for digest in done.removed],
                "freed": done.freed,
                "shared": {path: list(holders) for path, holders in done.shared.items()},
                "copies": list(done.copies),
                "spared": [str(digest) for digest in done.spared],
            }
        )
        return
    say(f"{names} {version.manifest}")
    talk().print(f"{plural(len(done.removed), 'blob')} removed for good, {size(done.freed)} freed")
    if done.spared:
        talk().print(
            f"kept: {plural(len(done.spared), 'blob')} that another push was adding just then; purge that version, too"
        )
    for path, holders in done.shared.items():
        talk().print(f"kept: {path} is also part of {', '.join(holders[:5])}")
    for place in done.copies:
        talk().print(f"still there: a copy was made to {place}")


@click.command()
@click.option("--take-over", is_flag=True, help="Become the writer of a bucket whose writer is gone, first.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@click.pass_context
def reindex(context: click.Context, *, take_over: bool, yes: bool, as_json: bool) -> None:
    """Rebuild the catalog from the journal."""
    settings = settings_of(context)
    if take_over:
        _take_over(settings, yes=yes)
    events = places.reindex(settings)
    if as_json:
        print_json({"events": events, "took_over": take_over})
    else:
        talk().print(f"catalog rebuilt from {plural(events, 'event')}")


def _take_over(settings: Settings, *, yes: bool) -> None:
    if settings.bucket is None:
        raise click.UsageError(
            f"{settings.place} is a folder: whoever may write there writes; --take-over is for buckets"
        )
    writer = buckets.writer_of(settings)
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("whoever writes now cannot write any more, and nobody can be asked here: add --yes")
        now = f"{writer} writes now" if writer else "nobody writes yet"
        new = "this machine" if settings.catalog is None else "the database in ASSAY_CATALOG"
        click.confirm(f"{settings.place}: {now}. Make {new} the writer instead?", abort=True, err=True)
    buckets.take_over(settings)
