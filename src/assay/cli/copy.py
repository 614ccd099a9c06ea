"""``assay copy``: an artifact and everything said about it, between the registry and an OCI image layout."""

from __future__ import annotations

import click

from assay.cli.console import Bar, json_option, print_json, say, talk
from assay.cli.context import NAME, REFERENCE, registry_of
from assay.cli.text import plural, size
from assay.errors import InvalidInput
from assay.service import transfer
from assay.service.transfer import Copied
from assay.spec.reference import Reference
from assay.wiring.places import LAYOUT_SCHEME, open_layout, parse_layout


@click.command()
@click.argument("source", type=REFERENCE)
@click.argument("destination", type=NAME)
@json_option
@click.pass_context
def copy(context: click.Context, source: str, destination: str, *, as_json: bool) -> None:
    """Copy a version to an OCI image layout, or back.

    One of SOURCE and DESTINATION is oci:DIR[:TAG], the other a reference. Everything said about the version goes along.
    Without a tag, a copy out is tagged with the version's number. Only what is missing is moved.
    """
    outward, inward = destination.startswith(LAYOUT_SCHEME), source.startswith(LAYOUT_SCHEME)
    if outward == inward:
        raise InvalidInput(
            f"cannot copy {source} to {destination}: one of the two must be oci:DIR[:TAG], the other a reference",
            code="copy-not-supported",
            hint="assay copy NAME:1 oci:./layout",
        )
    folder, tag = parse_layout(destination if outward else source)
    blobs, index = open_layout(folder)
    registry = registry_of(context, create=inward)
    if outward:
        version = registry.resolve(Reference.parse(source))
        index.check_destination()
        copied = transfer.copy_out(registry, version, blobs, index, tag=tag or str(version.number), progress=Bar())
    else:
        name = Reference.parse(destination)
        if name.label is not None or name.digest is not None:
            raise InvalidInput(
                f"{destination} names a version; a copy in is numbered by the registry",
                code="invalid-name",
                hint=name.name,
            )
        copied = transfer.copy_in(registry, name.name, blobs, index, tag=tag, progress=Bar())
    _report(copied, index.place, as_json=as_json)


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
