"""``assay inspect``."""

from __future__ import annotations

from pathlib import Path

import click

from assay.cli.console import answers, json_option, print_json
from assay.cli.console import show as draw
from assay.cli.context import REFERENCE, local_path, registry_of
from assay.cli.render import card, tensors
from assay.errors import InvalidInput, NotFound
from assay.spec.inspection import Inspection
from assay.spec.reference import is_path
from assay.wiring.looking import look


@click.command()
@click.argument("target", metavar="PATH|REFERENCE", type=REFERENCE)
@click.option("show_tensors", "--tensors", is_flag=True, help="List every tensor.")
@json_option
@click.pass_context
def inspect(context: click.Context, target: str, *, show_tensors: bool, as_json: bool) -> None:
    """Say what a model is, without running it."""
    found = _look(context, target)
    body = found.to_json()
    if as_json:
        print_json(body)
        return
    draw(card(body))
    if show_tensors:
        draw("", tensors(body, answers().width))


def _look(context: click.Context, target: str) -> Inspection:
    if is_path(target):
        return look(None, str(local_path(target, "PATH")))[1]
    try:
        return look(registry_of(context), target)[1]
    except (NotFound, InvalidInput) as error:
        if Path(target).exists():
            error.hint = f"assay inspect ./{target} looks at the file or folder of that name here"
        raise
