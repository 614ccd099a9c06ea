"""``assay copy``: artifacts and everything said about them, between the registry, other homes and OCI places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import click

from assay.cli.console import Bar, json_option, print_json, say, talk, warn
from assay.cli.context import NAME, REFERENCE, registry_of, settings_of
from assay.cli.text import plural, size
from assay.errors import InvalidInput
from assay.service import transfer
from assay.service.registry import Registry
from assay.service.transfer import Brought, Copied, Figures, Plan
from assay.spec.json import Json
from assay.spec.records import Version
from assay.spec.reference import Reference
from assay.wiring.auditing import guard_of
from assay.wiring.copying import Place, is_place, open_place
from assay.wiring.homes import (
    HOME_SCHEME,
    MovedAlias,
    chosen,
    copy_aliases,
    copy_home,
    is_home,
    open_other,
    plan_home,
)


@dataclass(frozen=True, slots=True)
class _Options:
    """How a copy is made: what the options say."""

    every: bool
    name: str | None
    aliases: bool
    packed: bool
    dry_run: bool
    plain_http: bool
    stall: float | None
    as_json: bool


@click.command()
@click.argument("source", type=REFERENCE)
@click.argument("destination", type=NAME)
@click.option("--all", "every", is_flag=True, help="Every version of the model, in order (to a home).")
@click.option("--as", "name", metavar="NAME", help="The model's name at the destination (to a home).")
@click.option("--aliases", is_flag=True, help="Also move the aliases, through the destination's gates (to a home).")
@click.option("--packed", is_flag=True, help="Keep packed what is packed here, where nothing is yet (to a home).")
@click.option("--dry-run", is_flag=True, help="Say what would be moved, and change nothing.")
@click.option("--plain-http", is_flag=True, help="Speak to an OCI registry without encryption.")
@click.option(
    "--stall",
    type=click.FloatRange(min=1),
    metavar="SECONDS",
    help="Cut an attempt and try again when an OCI registry moves no byte for that long (30).",
)
@json_option
@click.pass_context
def copy(
    context: click.Context,
    /,
    source: str,
    destination: str,
    **options: object,
) -> None:
    """Copy a version to another home, layout or registry, or back.

    DESTINATION is home:DIR or s3://BUCKET/PREFIX, another registry; or one of the two is oci:DIR[:TAG], a layout in a
    folder, or oci://HOST/REPOSITORY[:TAG]. Everything said about a version goes along, and only what is missing is
    moved, so that a copy that was interrupted is finished by running it again. A home numbers what it gets: with --all
    into a new name the numbers stay the same. Without a tag, a copy out is tagged with the version's number.
    """
    how = _Options(**options)  # type: ignore[arg-type]  # click gives what the options above say
    if is_home(destination):
        _copy_home(context, source, destination, how)
        return
    if how.every or how.aliases or how.packed or how.name is not None:
        raise click.UsageError("--all, --as, --aliases and --packed go with a copy to home:DIR or s3://BUCKET/PREFIX")
    outward, inward = is_place(destination), is_place(source)
    if outward == inward:
        raise InvalidInput(
            f"cannot copy {source} to {destination}: one of the two must be oci:DIR[:TAG] or "
            "oci://HOST/REPOSITORY[:TAG], or the second home:DIR",
            code="copy-not-supported",
            hint="assay copy NAME:1 oci:./layout, or assay copy NAME:1 home:/other/home",
        )
    registry = registry_of(context, create=inward and not how.dry_run)
    place = open_place(
        destination if outward else source, registry, plain_http=how.plain_http, stall=how.stall, writing=outward
    )
    if outward:
        _copy_out(registry, registry.resolve(Reference.parse(source)), place, how)
    else:
        _copy_in(registry, _name_of(destination), place, how)


def _copy_out(registry: Registry, version: Version, place: Place, how: _Options) -> None:
    tag = place.label or str(version.number)
    if how.dry_run:
        _report_plans([transfer.plan_out(registry, version, place.blobs)], place.at(tag), as_json=how.as_json)
        return
    copied = transfer.copy_out(registry, version, place.blobs, place.index, tag=tag, progress=Bar())
    _report(copied, place.at(copied.tag), as_json=how.as_json)


def _copy_in(registry: Registry, name: str, place: Place, how: _Options) -> None:
    if how.dry_run:
        plan = transfer.plan_in(registry, place.blobs, place.index, tag=place.label)
        _report_plans([plan], name, as_json=how.as_json)
        return
    copied = transfer.copy_in(registry, name, place.blobs, place.index, tag=place.label, progress=Bar())
    assert copied.version is not None
    _report(copied, copied.version.reference, as_json=how.as_json)


def _copy_home(context: click.Context, source: str, destination: str, how: _Options) -> None:
    here = registry_of(context)
    named = Reference.parse(source)
    if how.every and (named.label is not None or named.digest is not None):
        raise click.UsageError(f"{source} names one version, --all means every one; name the model alone")
    version = here.resolve(named)
    there, applies = open_other(destination, settings_of(context), here, create=not how.dry_run)
    versions = chosen(here, version, every=how.every)
    target = version.name if how.name is None else _name_of(how.name)
    place = f"{HOME_SCHEME}{applies.place}"
    if how.dry_run or there is None:
        _report_plans(plan_home(here, versions, there, packed=how.packed), place, as_json=how.as_json)
        return
    brought = copy_home(here, versions, there, target, packed=how.packed, progress=Bar())
    moved = copy_aliases(here, brought, there, guard_of(applies, warn=warn)) if how.aliases else []
    figures = Figures()
    for one in brought:
        figures.add(one.figures)
    if how.as_json:
        print_json(_home_json(brought, moved, place, figures))
    else:
        _report_home(brought, moved, place, figures)
    if any(one.refused is not None for one in moved):
        context.exit(1)


def _home_json(brought: Sequence[Brought], moved: Sequence[MovedAlias], place: str, figures: Figures) -> Json:
    return {
        "destination": place,
        **_figures_json(figures),
        "versions": [
            {
                "source": one.source.reference,
                "reference": one.version.reference,
                "digest": str(one.version.manifest),
                "new": one.new,
                "statements": one.statements,
            }
            for one in brought
        ],
        "aliases": [
            {"alias": one.alias, "version": one.version.number, "moved": one.moved, "refused": one.refused}
            for one in moved
        ],
    }


def _report_home(brought: Sequence[Brought], moved: Sequence[MovedAlias], place: str, figures: Figures) -> None:
    console = talk()
    for one in brought:
        say(f"{one.version.reference} {one.version.manifest}")
    renumbered = [one for one in brought if one.version.number != one.source.number]
    for one in renumbered:
        console.print(f"{one.source.reference} is {one.version.reference} there")
    for alias in moved:
        if alias.refused is not None:
            warn(f"alias {alias.alias} was not moved: {alias.refused}")
        else:
            console.print(f"alias {alias.alias} points at {alias.version.reference} there")
    console.print(
        f"{plural(len(brought), 'version')} to {place}, {sum(one.new for one in brought)} of them new: "
        f"{size(figures.moved)} moved, {size(figures.skipped)} were there already, "
        f"{plural(sum(one.statements for one in brought), 'statement')} along"
    )
    _report_figures(figures)


def _name_of(text: str) -> str:
    found = Reference.parse(text)
    if found.label is not None or found.digest is not None:
        raise InvalidInput(
            f"{text} names a version; a copy in is numbered by the registry", code="invalid-name", hint=found.name
        )
    return found.name


def _report(copied: Copied, target: str, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "destination": target,
                "digest": str(copied.manifest),
                **_figures_json(copied.figures),
                "statements": copied.statements,
            }
        )
        return
    say(f"{target} {copied.manifest}")
    talk().print(
        f"{size(copied.moved)} moved, {size(copied.skipped)} were there already, "
        f"{plural(copied.statements, 'statement')} along"
    )
    _report_figures(copied.figures)


def _report_plans(plans: Sequence[Plan], target: str, *, as_json: bool) -> None:
    blobs, there = sum(len(plan.lacking) for plan in plans), sum(len(plan.there) for plan in plans)
    moved, skipped = sum(plan.moved for plan in plans), sum(plan.skipped for plan in plans)
    travels = sum(plan.travels for plan in plans)
    if as_json:
        print_json(
            {
                "destination": target,
                "dry_run": True,
                "blobs": blobs,
                "moved": moved,
                "travels": travels,
                "blobs_there": there,
                "skipped": skipped,
            }
        )
        return
    say(
        f"{target}: {plural(blobs, 'blob')}, {size(moved)} would be moved; "
        f"{plural(there, 'blob')}, {size(skipped)} there already"
    )
    if travels < moved:
        talk().print(f"as packed segments they are {size(travels)}")


def _figures_json(figures: Figures) -> dict[str, Json]:
    return {
        "moved": figures.moved,
        "skipped": figures.skipped,
        "resumed": figures.resumed,
        "shared": figures.shared,
        "saved": figures.saved,
        "verified": figures.verified,
        "plain": figures.plain,
        "seconds": round(figures.seconds, 3),
        "rate": round(figures.rate),
    }


def _report_figures(figures: Figures) -> None:
    """What else is to be said of a copy that moved something."""
    if not figures.moved:
        return
    parts = [f"{size(figures.verified)} verified", f"{figures.seconds:.1f} s"]
    if figures.rate:
        parts.append(f"{size(round(figures.rate))}/s")
    if figures.resumed:
        parts.append(f"{size(figures.resumed)} were there from an interrupted copy")
    if figures.shared:
        parts.append(f"{size(figures.shared)} taken from other repositories there")
    if figures.saved:
        parts.append(f"{size(figures.saved)} saved by packed segments")
    if figures.plain:
        parts.append(f"{plural(figures.plain, 'blob')} by plain requests")
    talk().print(", ".join(parts))
