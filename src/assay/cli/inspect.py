"""``assay inspect``."""

from __future__ import annotations

import click

from assay.cli.console import answers, json_option, print_json
from assay.cli.console import show as draw
from assay.cli.context import REFERENCE, registry_of
from assay.cli.render import card, tensors
from assay.spec.reference import is_path
from assay.wiring.looking import look


@click.command()
@click.argument("target", metavar="PATH|REFERENCE", type=REFERENCE)
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
