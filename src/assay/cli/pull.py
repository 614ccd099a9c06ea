"""``assay pull``."""

from __future__ import annotations

from pathlib import Path

import click

from assay.cli.console import Bar, json_option, print_json, say, talk, warn
from assay.cli.context import REFERENCE, local_path, policy_option, registry_of, settings_of
from assay.cli.text import plural, size
from assay.policy.policy import Gate
from assay.service import fetch
from assay.service.scan import admit
from assay.spec.reference import Reference
from assay.wiring.auditing import guard_of
from assay.wiring.places import AUDITS


@click.command()
@click.argument("reference", type=REFERENCE)
@click.argument("folder", metavar="[DEST]", required=False, type=click.Path(readable=False))
@click.option("--only", multiple=True, metavar="GLOB", help="Write matching files only (gitignore rules); repeatable.")
@click.option("--require-audit", is_flag=True, help="Write nothing unless it is safe under the policy.")
@click.option("--yanked", is_flag=True, help="You know that it was yanked: no warning.")
@policy_option
@click.option(
    "--link", is_flag=True, help="Read-only hard links to the store: instant, but writing to them damages the store."
)
@json_option
@click.pass_context
def pull(
    context: click.Context,
    reference: str,
    folder: str | None,
    *,
    only: tuple[str, ...],
    require_audit: bool,
    yanked: bool,
    policy: str | None,
    link: bool,
    as_json: bool,
) -> None:
    """Write a version's files into a folder, verified.

    DEST is new or empty; the default is the last part of the model's name. An interrupted pull goes on where it
    stopped.
    """
    registry = registry_of(context, told=(lambda _: None) if yanked else None)
    parsed = Reference.parse(reference)
    version = registry.resolve(parsed)
    target = Path(parsed.name.rpartition("/")[2]) if folder is None else local_path(folder, "DEST")
    guard = guard_of(settings_of(context, policy=policy), warn=warn)
    admit(registry, version, guard, Gate.PULL, memory=registry.state / AUDITS, required=require_audit)
    pulled = fetch.pull(registry, version, target, only=only, link=link, progress=Bar())
    if as_json:
        print_json(
            {
                "reference": version.reference,
                "digest": str(version.manifest),
                "folder": str(pulled.folder),
                "files": pulled.files,
                "size": pulled.size,
                "resumed": pulled.resumed,
                "linked": pulled.linked,
            }
        )
        return
    say(f"{version.reference} {version.manifest}")
    how = "linked" if pulled.linked else "verified"
    talk().print(f"{plural(pulled.files, 'file')}, {size(pulled.size)}, {how}, in {pulled.folder}")
    if pulled.resumed:
        talk().print(f"{size(pulled.resumed)} of them were there from an interrupted pull")
