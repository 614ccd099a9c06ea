"""``assay evaluate``."""

from __future__ import annotations

import click

from assay.cli.console import Bar, json_option, print_json, say, talk, warn
from assay.cli.context import REFERENCE, policy_option, registry_of, settings_of
from assay.cli.pairs import numbers_of
from assay.service.evaluations import give
from assay.spec.reference import Reference
from assay.wiring.auditing import guard_of
from assay.wiring.evaluating import measure


@click.command()
@click.argument("reference", type=REFERENCE)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("--metric", "metrics", multiple=True, metavar="KEY=NUMBER", help="What was measured; repeatable.")
@click.option("--dataset", metavar="NAME", help="What it was measured on; metrics compare within one dataset.")
@click.option("--dataset-digest", metavar="SHA256", help="Identity of that data: sha256:<hex>.")
@click.option("--run", metavar="URI", help="The run that measured it.")
@click.option("--note", metavar="TEXT", help="Free text.")
@click.option("--link", is_flag=True, help="Give COMMAND read-only hard links to the store instead of a copy.")
@policy_option
@json_option
@click.pass_context
def evaluate(
    context: click.Context,
    reference: str,
    command: tuple[str, ...],
    *,
    metrics: tuple[str, ...],
    dataset: str | None,
    dataset_digest: str | None,
    run: str | None,
    note: str | None,
    link: bool,
    policy: str | None,
    as_json: bool,
) -> None:
    """Record what was measured of a version.

    Earlier evaluations are kept; the latest on a dataset counts. With a command after --, its last line of output is
    the metrics: assay evaluate REF --dataset holdout -- ./evaluate.sh {path} prints {"auc": 0.93}. {path} is the
    folder of a private copy of the version's files, {file} its only file, {ref} its reference.
    """
    numbers = numbers_of(metrics)
    if not numbers and not command:
        raise click.UsageError("nothing to record: --metric KEY=NUMBER, or a command after --")
    registry = registry_of(context)
    version = registry.resolve(Reference.parse(reference))
    if command:
        guard = guard_of(settings_of(context, policy=policy), warn=warn)
        numbers = {**measure(registry, version, command, guard, link=link, progress=Bar()), **numbers}
    done = give(registry, version, numbers, dataset=dataset, dataset_digest=dataset_digest, note=note, run=run)
    if as_json:
        print_json(done.to_json())
        return
    said = done.evaluation
    say(f"{version.reference} {' '.join(f'{name}={value:g}' for name, value in said.metrics.items())}")
    on = f" on {said.dataset}" if said.dataset else ""
    talk().print(f"recorded{on}" if done.new else f"already recorded{on}: the newest evaluation says the same")
