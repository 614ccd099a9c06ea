"""``assay ls``, ``assay show`` and ``assay history``."""

from __future__ import annotations

from pathlib import Path

import click

from assay.cli.console import json_option, print_json, talk
from assay.cli.console import show as draw
from assay.cli.context import NAME, REFERENCE, registry_of
from assay.cli.render import history_table, models_table, version_card, versions_table
from assay.cli.text import moment
from assay.errors import NotFound
from assay.service import browse
from assay.spec.json import Json
from assay.spec.reference import Reference


@click.command()
@click.argument("name", required=False, type=NAME)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="The newest N versions of NAME.")
@json_option
@click.pass_context
def ls(context: click.Context, name: str | None, limit: int | None, *, as_json: bool) -> None:
    """List the models, or NAME's versions, newest first."""
    if name is None:
        models = _models(context)
        if as_json:
            print_json(models)
        elif models:
            draw(models_table(models, moment))
        else:
            talk().print("nothing here yet: assay push ./PATH NAME makes the first version")
        return
    body = browse.list_versions(registry_of(context), name, limit=limit)
    if as_json:
        print_json(body)
    else:
        draw(versions_table(body, moment))


def _models(context: click.Context) -> list[dict[str, Json]]:
    """Every model; none where there is nothing yet, which is no error: what is there and no registry is one."""
    try:
        return browse.list_models(registry_of(context))
    except NotFound as error:
        home = Path(str(error.details.get("path")))
        if error.code != "home-missing" or (home.exists() and not (home.is_dir() and not any(home.iterdir()))):
            raise
        return []


@click.command()
@click.argument("reference", type=REFERENCE)
@click.option("--files", is_flag=True, help="List every file.")
@json_option
@click.pass_context
def show(context: click.Context, reference: str, *, files: bool, as_json: bool) -> None:
    """Show one version's card.

    What it is, what is said about it, what it consists of.
    """
    registry = registry_of(context)
    body = browse.show(registry, registry.resolve(Reference.parse(reference)))
    if as_json:
        print_json(body)
    else:
        draw(version_card(body, moment, files=files))


@click.command()
@click.argument("name", type=NAME)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="The newest N events.")
@json_option
@click.pass_context
def history(context: click.Context, name: str, limit: int | None, *, as_json: bool) -> None:
    """Show who did what to NAME and when, newest first."""
    events = browse.history(registry_of(context), name, limit=limit)
    if as_json:
        print_json(events)
    else:
        draw(history_table(events, moment))
