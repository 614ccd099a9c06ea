"""``assay ls``, ``assay show``, ``assay history`` and ``assay inspect``."""

from __future__ import annotations

import click

from assay.cli.console import answers, json_option, print_json, talk
from assay.cli.console import show as draw
from assay.cli.context import registry_of
from assay.cli.render import card, history_table, models_table, tensors, version_card, versions_table
from assay.cli.text import moment
from assay.service import browse
from assay.spec.reference import Reference
from assay.wiring import is_path, look


@click.command()
@click.argument("name", required=False)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="The newest N versions of NAME.")
@json_option
@click.pass_context
def ls(context: click.Context, name: str | None, limit: int | None, *, as_json: bool) -> None:
    """List the models, or NAME's versions, newest first."""
    registry = registry_of(context)
    if name is None:
        models = browse.list_models(registry)
        if as_json:
            print_json(models)
        elif models:
            draw(models_table(models, moment))
        else:
            talk().print(f"nothing in {registry.place} yet: assay push ./PATH NAME makes the first version")
        return
    body = browse.list_versions(registry, name, limit=limit)
    if as_json:
        print_json(body)
    else:
        draw(versions_table(body, moment))


@click.command()
@click.argument("reference")
@click.option("--files", is_flag=True, help="List every file.")
@json_option
@click.pass_context
def show(context: click.Context, reference: str, *, files: bool, as_json: bool) -> None:
    """Show one version's card: what it is, what is said about it, what it consists of."""
    registry = registry_of(context)
    body = browse.show(registry, registry.resolve(Reference.parse(reference)))
    if as_json:
        print_json(body)
    else:
        draw(version_card(body, moment, files=files))


@click.command()
@click.argument("name")
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


@click.command()
@click.argument("target", metavar="PATH|REFERENCE")
@click.option("show_tensors", "--tensors", is_flag=True, help="List every tensor.")
@json_option
@click.pass_context
def inspect(context: click.Context, target: str, *, show_tensors: bool, as_json: bool) -> None:
    """Say what a model is, without running it."""
    _, found = look(None if is_path(target) else registry_of(context), target)
    body = found.to_json()
    if as_json:
        print_json(body)
        return
    draw(card(body))
    if show_tensors:
        draw("", tensors(body, answers().width))
