"""``assay scan``: can it do harm when it is loaded?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import click
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from assay.audit.advice import advice
from assay.cli.annotations import github, sarif
from assay.cli.console import json_option, print_json, say, show, talk
from assay.cli.context import REFERENCE, policy_option, settings_of
from assay.cli.text import coloured, plural, size, visible
from assay.policy.deciding import Judged
from assay.policy.policy import Action
from assay.service.scan import Scanned
from assay.spec.json import Json
from assay.spec.report import Verdict
from assay.wiring.scanning import Failed, all_targets
from assay.wiring.scanning import scan as scan_targets

_EXIT = {Verdict.SAFE: 0, Verdict.UNSAFE: 1, Verdict.UNVERIFIED: 2}
_COLOUR = {Verdict.SAFE: "green", Verdict.UNSAFE: "red", Verdict.UNVERIFIED: "yellow"}
_SHOWN = 20
_ADVISED = 2
Form = Literal["text", "json", "sarif", "github"]


@click.command()
@click.argument("targets", nargs=-1, metavar="PATH|REFERENCE...", type=REFERENCE)
@click.option("every", "--all", is_flag=True, help="Every version of the registry.")
@click.option("paths", "--files", is_flag=True, help="Every argument is a path, whatever it looks like.")
@policy_option
@click.option("--fresh", is_flag=True, help="Read everything again, also what was read with these rules before.")
@click.option("--jobs", type=click.IntRange(1), metavar="N", help="Processes to use.")
@click.option("--verbose", "-v", is_flag=True, help="Show notes and every finding.")
@click.option("form", "--sarif", flag_value="sarif", help="Print SARIF 2.1.0.")
@click.option("form", "--github", flag_value="github", help="Print annotations for GitHub workflows.")
@json_option
@click.pass_context
def scan(
    context: click.Context,
    targets: tuple[str, ...],
    *,
    every: bool,
    paths: bool,
    policy: str | None,
    fresh: bool,
    jobs: int | None,
    verbose: bool,
    form: Form | None,
    as_json: bool,
) -> int:
    """Say what loading a model would do, without running any of it.

    TARGET is a path, a reference, or oci:DIR[:TAG]. Exit status: 0 all are safe, 1 something is unsafe, 2 something
    could not be verified.
    """
    settings = settings_of(context, policy=policy)
    if every == bool(targets):
        raise click.UsageError("name paths or references, or say --all")
    if as_json and form:
        raise click.UsageError(f"--json and --{form} exclude each other")
    names = all_targets(settings) if every else list(targets)
    outcomes: list[Scanned | Failed] = []
    shown: Form = "json" if as_json else form or "text"
    for outcome in scan_targets(names, settings, paths=paths, fresh=fresh, jobs=jobs):
        outcomes.append(outcome)
        if shown == "text":
            _tell(outcome, verbose=verbose)
    if shown == "json":
        print_json(_json(outcomes, single=len(names) == 1 and not every))
    elif shown == "sarif":
        print_json(sarif(outcomes))
    elif shown == "github":
        for line in github(outcomes):
            say(line)
    elif len(outcomes) > 1:
        talk().print(_sum(outcomes))
    return _exit(outcomes)


def _exit(outcomes: Iterable[Scanned | Failed]) -> int:
    codes = {2 if isinstance(outcome, Failed) else _EXIT[outcome.decision.verdict] for outcome in outcomes}
    return 1 if 1 in codes else max(codes, default=0)


def _json(outcomes: Sequence[Scanned | Failed], *, single: bool) -> Json:
    bodies: list[Json] = [
        {"target": outcome.target, "error": outcome.error.to_json()}  # type: ignore[dict-item]
        if isinstance(outcome, Failed)
        else outcome.to_json()
        for outcome in outcomes
    ]
    return bodies[0] if single else {"results": bodies}


def _tell(outcome: Scanned | Failed, *, verbose: bool) -> None:
    if isinstance(outcome, Failed):
        say(f"{coloured('not scanned', 'yellow')}  {visible(outcome.target)}: {visible(outcome.error.message)}")
        if outcome.error.hint:
            talk().print(f"hint: {visible(outcome.error.hint)}")
        return
    decision, report = outcome.decision, outcome.report
    word = coloured(decision.verdict.value, _COLOUR[decision.verdict])
    known = ", ".join(report.formats) or "no known format"
    say(f"{word}  {visible(outcome.target)}  {visible(decision.summary)}")
    items = [item for item in decision.judged if verbose or item.action is not Action.ALLOW]
    if items:
        show(_findings(items if verbose else items[:_SHOWN]))
    for text in _advice(items):
        show(Padding(text, (0, 0, 0, 2)))
    if not verbose and len(items) > _SHOWN:
        talk().print(f"{len(items) - _SHOWN} more findings; --verbose shows all")
    if verbose:
        policies = ", ".join(f"{name} ({digest[7:19]})" for name, digest in decision.policies)
        talk().print(f"{known} · {plural(report.files, 'file')}, {size(report.size)} · policy {policies}")
        talk().print(f"rules {report.ruleset}" + (f" · {outcome.known} groups known already" if outcome.known else ""))


def _advice(items: Sequence[Judged]) -> list[str]:
    """What to do about the gravest findings that stop something, each thing once."""
    rules = [item.finding.rule for item in items if item.action is Action.REFUSE]
    return list(dict.fromkeys(advice(rule).do for rule in rules))[:_ADVISED]


def _findings(items: Sequence[Judged]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for item in items:
        finding = item.finding
        where = finding.path + (f" @{finding.offset}" if finding.offset is not None else "")
        style = "red" if item.action is Action.REFUSE else "yellow" if item.action is Action.WARN else "dim"
        text = Text(visible(finding.message))
        if where:
            text.append(f"  {visible(where)}", style="dim")
        text.append(f"  {finding.rule}", style="cyan")
        if item.because.startswith("exception"):
            text.append(f"  {visible(item.because)}", style="dim")
        table.add_row(Text(f"  {finding.severity.value}", style=style), text)
    return table


def _sum(outcomes: Sequence[Scanned | Failed]) -> str:
    failed = sum(isinstance(outcome, Failed) for outcome in outcomes)
    counts = {
        verdict.value: sum(isinstance(item, Scanned) and item.decision.verdict is verdict for item in outcomes)
        for verdict in Verdict
    }
    words = [f"{count} {word}" for word, count in {**counts, "not scanned": failed}.items() if count]
    return f"{plural(len(outcomes), 'target')}: {', '.join(words)}"
