"""``assay verify``, ``assay purge`` and ``assay reindex``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from assay.cli.console import Bar, json_option, print_json, say, talk
from assay.cli.context import REFERENCE, registry_of, settings_of
from assay.cli.text import coloured, plural, size
from assay.errors import VerificationFailed
from assay.service import purge as purging
from assay.service import verify as verifying
from assay.service.registry import Registry
from assay.service.verify import Verification
from assay.spec.digest import Digest
from assay.spec.json import Json
from assay.spec.records import Version
from assay.spec.reference import Reference
from assay.wiring import places
from assay.wiring.places import SNAPSHOTS


@click.command()
@click.argument("reference", required=False, type=REFERENCE)
@click.option("everything", "--all", is_flag=True, help="Every version here.")
@json_option
@click.pass_context
def verify(context: click.Context, reference: str | None, *, everything: bool, as_json: bool) -> None:
    """Read and hash every byte of a version again.

    Exit 0 when all matches, 1 when something does not. A damaged blob is set aside, so that the next push of the same
    files repairs it.
    """
    if (reference is None) != everything:
        raise click.UsageError("name a REFERENCE, or use --all")
    registry = registry_of(context)
    chosen = _everything(registry) if everything else [registry.resolve(Reference.parse(reference or ""))]
    found = [verifying.verify(registry, version, progress=Bar()) for version in chosen]
    if as_json:
        print_json([_json(one) for one in found] if everything else _json(found[0]))
    else:
        for one in found:
            _print(one)
    if not all(one.ok for one in found):
        context.exit(VerificationFailed.exit_status)


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
    done = purging.purge(registry, version, reason=reason, snapshots=Path(registry.place) / SNAPSHOTS)
    if as_json:
        print_json(
            {
                "versions": [found.reference for found in done.versions],
                "digest": str(version.manifest),
                "removed": [str(digest) for digest in done.removed],
                "freed": done.freed,
                "shared": {path: list(holders) for path, holders in done.shared.items()},
                "copies": list(done.copies),
            }
        )
        return
    say(f"{names} {version.manifest}")
    talk().print(f"{plural(len(done.removed), 'blob')} removed for good, {size(done.freed)} freed")
    for path, holders in done.shared.items():
        talk().print(f"kept: {path} is also part of {', '.join(holders[:5])}")
    for place in done.copies:
        talk().print(f"still there: a copy was made to {place}")


@click.command()
@json_option
@click.pass_context
def reindex(context: click.Context, *, as_json: bool) -> None:
    """Rebuild the catalog from the journal."""
    events = places.reindex(settings_of(context))
    if as_json:
        print_json({"events": events})
    else:
        talk().print(f"catalog rebuilt from {plural(events, 'event')}")


def _everything(registry: Registry) -> list[Version]:
    """One version per artifact that still has its bytes."""
    seen: dict[str, Version] = {}
    for model in registry.catalog.models():
        for version in registry.catalog.versions(model.name):
            if version.purged is None:
                seen.setdefault(str(version.manifest), version)
    return list(seen.values())


def _json(found: Verification) -> Json:
    return {
        "reference": found.version.reference,
        "digest": str(found.version.manifest),
        "ok": found.ok,
        "blobs": len(found.checked),
        "bytes": sum(one.size for one in found.checked),
        "bad": [one.to_json() for one in found.bad],
        "set_aside": list(found.set_aside),
        "copies": list(found.copies),
    }


def _brief(digest: Digest | str) -> str:
    return str(digest).rpartition(":")[2][:12]


def _print(found: Verification) -> None:
    total = sum(one.size for one in found.checked)
    what = f"{plural(len(found.checked), 'blob')}, {size(total)}"
    if found.ok:
        say(f"{coloured('ok', 'green')} {found.version.reference}  {what}")
        return
    say(f"{coloured('damaged', 'red')} {found.version.reference}  {len(found.bad)} of {what}")
    for one in found.bad:
        detail = f", found {_brief(one.found)}" if one.found else ""
        say(f"  {one.state.value}: {one.path}  expected {_brief(one.digest)}{detail}")
    for place in found.set_aside:
        talk().print(f"set aside: {place}")
    places = f", or copy it back from {found.copies[0]}" if found.copies else ""
    talk().print(f"hint: push the original files again to repair it{places}")
