"""``assay ls``, ``assay show`` and ``assay history``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from assay.cli.console import answers, json_option, print_json, say, talk, warn
from assay.cli.console import show as draw
from assay.cli.context import NAME, REFERENCE, registry_of
from assay.cli.events import history_table
from assay.cli.metrics import metrics_csv, metrics_table
from assay.cli.render import models_table, version_card, versions_table
from assay.cli.text import moment
from assay.errors import NotFound
from assay.service import browse, evaluations
from assay.service.registry import Registry
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
@click.option("--metrics", is_flag=True, help="Compare the metrics of all versions of NAME, best marked.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="With --metrics: the newest N versions.")
@click.option("--lower-is-better", "lower", multiple=True, metavar="METRIC", help="With --metrics; repeatable.")
@click.option("--csv", "as_csv", is_flag=True, help="With --metrics: print CSV.")
@json_option
@click.pass_context
def show(
    context: click.Context,
    reference: str,
    *,
    files: bool,
    metrics: bool,
    limit: int | None,
    lower: tuple[str, ...],
    as_csv: bool,
    as_json: bool,
) -> None:
    """Show one version's card, or the metrics of all versions.

    What it is, what is said about it, what it consists of. With --metrics: one line per version, one column per
    metric and dataset.
    """
    registry = registry_of(context)
    if metrics:
        if files or (as_csv and as_json):
            raise click.UsageError("--metrics goes with one of --csv and --json, and without --files")
        _show_metrics(
            registry, reference, limit=limit, lower=lower, form="json" if as_json else "csv" if as_csv else ""
        )
        return
    if limit is not None or lower or as_csv:
        raise click.UsageError("--limit, --lower-is-better and --csv go with --metrics")
    body = browse.show(registry, registry.resolve(Reference.parse(reference)))
    if as_json:
        print_json(body)
    else:
        draw(version_card(body, moment, files=files))


def _show_metrics(registry: Registry, reference: str, *, limit: int | None, lower: tuple[str, ...], form: str) -> None:
    name = Reference.parse(reference)
    if name.label is not None or name.digest is not None:
        raise click.UsageError(f"--metrics compares the versions of a model: {name.name}")
    body: Mapping[str, Any] = evaluations.table(registry, name.name, lower=lower, limit=limit)
    if form == "json":
        print_json(body)
    elif form == "csv":
        say(metrics_csv(body))
    elif body["columns"]:
        draw(metrics_table(body, answers().width))
    else:
        talk().print(f"nothing was measured yet: assay evaluate {name.name} --metric NAME=NUMBER records it")
    for row in body["versions"]:
        for problem in row.get("damaged", ()):
            warn(f"a statement about {row['reference']} was left out: {problem}")


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
