"""``assay bom`` and ``assay vulns``."""

from __future__ import annotations

import json

import click
from rich.table import Table
from rich.text import Text

from assay.cli.console import json_option, print_json, say, show, talk, warn
from assay.cli.context import REFERENCE, local_path, settings_of
from assay.cli.text import plural, visible
from assay.errors import StorageError
from assay.spec.json import Json
from assay.spec.reference import is_path
from assay.spec.vulnerabilities import Check
from assay.wiring.materials import FORMS, Bill, Form, bill, vulnerabilities

_SHOWN = 20


@click.command()
@click.argument("reference", metavar="PATH|REFERENCE", type=REFERENCE)
@click.option(
    "form", "--format", type=click.Choice(FORMS), default="cyclonedx", show_default=True, help="The standard."
)
@click.option("output", "--output", "-o", metavar="FILE", help="Write it there instead of printing it.")
@click.option("attach", "--attach", is_flag=True, help="Keep it beside the version as well.")
@json_option
@click.pass_context
def bom(context: click.Context, reference: str, form: Form, output: str | None, *, attach: bool, as_json: bool) -> None:
    """Write what a model is made of, in a standard's words.

    Everything in it was observed: files, digests, licences in the files, base models and data sets that are named, the
    recorded environment, parameters and metrics. What is not known is left out.
    """
    if attach and is_path(reference):
        raise click.UsageError("--attach needs a version: plain files have nothing to attach to")
    place = local_path(output, "--output") if output is not None else None
    made = bill(reference, settings_of(context), form=form, attach=attach)
    text = json.dumps(made.document, indent=2, ensure_ascii=False)
    if place is not None:
        try:
            place.write_text(f"{text}\n", "utf-8")
        except OSError as error:
            raise StorageError.of(error, f"cannot write {place}") from error
    for conflict in made.facts.licences.conflicts:
        warn(conflict.message)
    if as_json:
        print_json(_json(reference, made, str(place) if place is not None else None))
        return
    if place is not None:
        say(str(place))
    else:
        say(text)
    if attach:
        talk().print("attached" if made.attached else "the same document was attached before")


def _json(reference: str, made: Bill, output: str | None) -> dict[str, Json]:
    licences = made.facts.licences
    return {
        "reference": reference,
        "digest": str(made.facts.digest),
        "format": made.form,
        "licences": [claim.to_json() for claim in licences.claims],
        "conflicts": [conflict.to_json() for conflict in licences.conflicts],
        "output": output,
        "attached": made.attached,
        "document": made.document,
    }


@click.command()
@click.argument("reference", type=REFERENCE)
@click.option("export", "--osv", metavar="DIR|ZIP", required=True, help="Export of the OSV database.")
@json_option
@click.pass_context
def vulns(context: click.Context, reference: str, export: str, *, as_json: bool) -> int:
    """Look for known vulnerabilities of what a version needs.

    Exit status: 0 none is known, 1 some are, 2 it could not be decided, or no environment was recorded.
    """
    version, found = vulnerabilities(reference, settings_of(context), local_path(export, "--osv"))
    if as_json:
        print_json(
            {
                "reference": version.reference,
                "digest": str(version.manifest),
                "distributions": found.distributions,
                "records": found.records,
                "vulnerabilities": [one.to_json() for one in found.vulnerabilities],
                "undecided": list(found.undecided),
            }
        )
    else:
        _tell(found)
    if found.vulnerabilities:
        return 1
    return 2 if found.undecided else 0


def _tell(found: Check) -> None:
    where = f"{plural(found.distributions, 'distribution')} looked up in {plural(found.records, 'record')}"
    if found.vulnerabilities:
        show(_table(found))
    elif not found.undecided:
        say("no known vulnerabilities")
    for reason in found.undecided[:_SHOWN]:
        warn(f"not decided: {reason}")
    if len(found.undecided) > _SHOWN:
        warn(f"not decided: {len(found.undecided) - _SHOWN} more")
    talk().print(where)


def _table(found: Check) -> Table:
    table = Table.grid(padding=(0, 2))
    for fold in (False, False, False, True):
        table.add_column(no_wrap=not fold, overflow="fold")
    for one in found.vulnerabilities:
        fixed = f"fixed in {', '.join(one.fixed)}" if one.fixed else "no fixed release"
        text = Text(f"{visible(one.summary) or fixed}")
        if one.summary:
            text.append(f"  {fixed}", style="dim")
        severity = one.severity if not one.severity.startswith("CVSS") else "scored"
        table.add_row(f"{one.package} {one.version}", one.id, Text(severity, style="red"), text)
    return table
