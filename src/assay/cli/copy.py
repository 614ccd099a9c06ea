"""``assay copy``: artifacts and everything said about them, between the registry, other homes and OCI image layouts."""

from __future__ import annotations

from collections.abc import Sequence

import click

from assay.cli.console import Bar, json_option, print_json, say, talk, warn
from assay.cli.context import NAME, REFERENCE, registry_of, settings_of
from assay.cli.text import plural, size
from assay.errors import InvalidInput
from assay.service import transfer
from assay.service.transfer import Brought, Copied
from assay.spec.reference import Reference
from assay.wiring.auditing import guard_of
from assay.wiring.homes import HOME_SCHEME, MovedAlias, chosen, copy_aliases, copy_home, open_other
from assay.wiring.places import LAYOUT_SCHEME, open_layout, parse_layout


@click.command()
@click.argument("source", type=REFERENCE)
@click.argument("destination", type=NAME)
@click.option("--all", "every", is_flag=True, help="Every version of the model, in order (to home:DIR).")
@click.option("--as", "name", metavar="NAME", help="The model's name at the destination (to home:DIR).")
@click.option("--aliases", is_flag=True, help="Also move the aliases, through the destination's gates (to home:DIR).")
@json_option
@click.pass_context
def copy(
    context: click.Context,
    source: str,
    destination: str,
    *,
    every: bool,
    name: str | None,
    aliases: bool,
    as_json: bool,
) -> None:
    """Copy a version to another home or OCI layout, or back.

    DESTINATION is home:DIR, the folder of another registry; or one of the two is oci:DIR[:TAG]. Everything said about
    a version goes along, and only what is missing is moved. A home numbers what it gets: with --all into a new name the
    numbers stay the same. Without a tag, a copy to a layout is tagged with the version's number.
    """
    if destination.startswith(HOME_SCHEME):
        _copy_home(context, source, destination, name, every=every, aliases=aliases, as_json=as_json)
        return
    if every or aliases or name is not None:
        raise click.UsageError("--all, --as and --aliases go with a copy to home:DIR")
    outward, inward = destination.startswith(LAYOUT_SCHEME), source.startswith(LAYOUT_SCHEME)
    if outward == inward:
        raise InvalidInput(
            f"cannot copy {source} to {destination}: one of the two must be oci:DIR[:TAG], or the second home:DIR",
            code="copy-not-supported",
            hint="assay copy NAME:1 oci:./layout, or assay copy NAME:1 home:/other/home",
        )
    folder, tag = parse_layout(destination if outward else source)
    blobs, index = open_layout(folder)
    registry = registry_of(context, create=inward)
    if outward:
        version = registry.resolve(Reference.parse(source))
        index.check_destination()
        copied = transfer.copy_out(registry, version, blobs, index, tag=tag or str(version.number), progress=Bar())
    else:
        copied = transfer.copy_in(registry, _name_of(destination), blobs, index, tag=tag, progress=Bar())
    _report(copied, index.place, as_json=as_json)


def _copy_home(
    context: click.Context,
    source: str,
    destination: str,
    name: str | None,
    *,
    every: bool,
    aliases: bool,
    as_json: bool,
) -> None:
    here = registry_of(context)
    named = Reference.parse(source)
    if every and (named.label is not None or named.digest is not None):
        raise click.UsageError(f"{source} names one version, --all means every one; name the model alone")
    version = here.resolve(named)
    settings = settings_of(context)
    there, applies = open_other(destination, settings, here)
    versions = chosen(here, version, every=every)
    target = version.name if name is None else _name_of(name)
    brought = copy_home(here, versions, there, target, progress=Bar())
    moved = copy_aliases(here, brought, there, guard_of(applies, warn=warn)) if aliases else []
    place = f"{HOME_SCHEME}{there.place}"
    if as_json:
        print_json(
            {
                "destination": place,
                "moved": sum(one.moved for one in brought),
                "skipped": sum(one.skipped for one in brought),
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
        )
    else:
        _report_home(brought, moved, place)
    if any(one.refused is not None for one in moved):
        context.exit(1)


def _report_home(brought: Sequence[Brought], moved: Sequence[MovedAlias], place: str) -> None:
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
        f"{size(sum(one.moved for one in brought))} moved, {size(sum(one.skipped for one in brought))} were there "
        f"already, {plural(sum(one.statements for one in brought), 'statement')} along"
    )


def _name_of(text: str) -> str:
    found = Reference.parse(text)
    if found.label is not None or found.digest is not None:
        raise InvalidInput(
            f"{text} names a version; a copy in is numbered by the registry", code="invalid-name", hint=found.name
        )
    return found.name


def _report(copied: Copied, place: str, *, as_json: bool) -> None:
    target = copied.version.reference if copied.version else f"{place}:{copied.tag}"
    if as_json:
        print_json(
            {
                "destination": target,
                "digest": str(copied.manifest),
                "moved": copied.moved,
                "skipped": copied.skipped,
                "statements": copied.statements,
            }
        )
        return
    say(f"{target} {copied.manifest}")
    talk().print(
        f"{size(copied.moved)} moved, {size(copied.skipped)} were there already, "
        f"{plural(copied.statements, 'statement')} along"
    )
