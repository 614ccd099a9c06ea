"""``assay bisect``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click

from assay.cli.console import Bar, json_option, print_json, say, talk, warn
from assay.cli.context import NAME, local_path, policy_option, registry_of, settings_of
from assay.cli.text import moment, plural, visible
from assay.errors import CouldNot
from assay.service.bisect import Found, Limit, Outcome, Span, Step, search, search_recorded, span
from assay.service.browse import stamp
from assay.spec.changes import Comparison
from assay.spec.records import Version
from assay.spec.reference import check_name
from assay.wiring.auditing import guard_of
from assay.wiring.bisecting import CommandTest, Explained, Laying, explain, read_log, replayed, write_log
from assay.wiring.comparing import diff


@dataclass(frozen=True, slots=True)
class _Logs:
    """Where steps are written to and read from."""

    write: str | None
    read: str | None


@click.command()
@click.argument("name", type=NAME)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("--good", required=True, metavar="N", help="A version that is good: its number or an alias.")
@click.option("--bad", required=True, metavar="N", help="A version that is bad.")
@click.option("--metric", metavar="KEY", help="Run nothing: look at this recorded metric.")
@click.option("--dataset", metavar="NAME", help="With --metric: the dataset it was measured on.")
@click.option("--threshold", type=float, metavar="X", help="With --metric: what is worse than X is bad.")
@click.option("--drop", type=click.FloatRange(min=0), metavar="X", help="What is worse than the good end by over X.")
@click.option("--lower-is-better", is_flag=True, help="With --metric: less of it is better, whatever its name.")
@click.option("--link", is_flag=True, help="Give COMMAND read-only hard links to the store instead of copies.")
@click.option("--log", metavar="FILE", help="Append each step to FILE (JSON lines).")
@click.option("--replay", metavar="FILE", help="Take from FILE what was tested before.")
@click.option("--no-diff", is_flag=True, help="Do not compare the version that is found with the one before.")
@policy_option
@json_option
@click.pass_context
def bisect(
    context: click.Context,
    name: str,
    command: tuple[str, ...],
    *,
    good: str,
    bad: str,
    metric: str | None,
    dataset: str | None,
    threshold: float | None,
    drop: float | None,
    lower_is_better: bool,
    link: bool,
    log: str | None,
    replay: str | None,
    no_diff: bool,
    policy: str | None,
    as_json: bool,
) -> int:
    """Find the version of NAME that broke it, by halving.

    COMMAND stands after --; it runs in this folder with {path} for the folder of a version's files (a private copy),
    {file} for its only file, {ref}, {version} and {digest}. It exits with 0 where a version is good, with 125 where
    it cannot be tested, with 1 to 127 where it is bad, and with 128 or more to give up. When the good version is the
    newer one, the version that mended it is looked for.
    """
    if bool(command) == bool(metric):
        raise click.UsageError("either a command after --, or --metric KEY")
    if metric is None and (dataset or threshold is not None or drop is not None or lower_is_better):
        raise click.UsageError("--dataset, --threshold, --drop and --lower-is-better go with --metric")
    if metric is not None and (link or log or replay):
        raise click.UsageError("--link, --log and --replay go with a command")
    if threshold is not None and drop is not None:
        raise click.UsageError("--threshold and --drop exclude each other")
    settings = settings_of(context, policy=policy)
    registry = registry_of(context)
    within = span(registry, check_name(name), good, bad)
    if metric is not None:
        lower = frozenset({metric} if lower_is_better else ())
        found = search_recorded(registry, within, metric, dataset=dataset, limit=Limit(threshold, drop, lower))
    else:
        laying = Laying(registry, guard_of(settings, warn=warn), link, Bar())
        found = _run(within, command, laying, _Logs(log, replay))

    def compare(old: Version, new: Version) -> Comparison:
        return diff(old.reference, new.reference, settings)

    answer = Explained(found) if no_diff else explain(found, compare)
    if as_json:
        print_json(answer.to_json())
    else:
        _tell(answer)
    return 0 if found.first is not None else CouldNot.exit_status


def _run(within: Span, command: tuple[str, ...], laying: Laying, logs: _Logs) -> Found:
    inner = sum(not version.gone for version in within.line[1:-1])
    talk().print(
        f"{plural(inner, 'version')} between {within.older.reference} ({within.of(within.older).value}) and "
        f"{within.newer.reference} ({within.seeking.value}): at most {plural(inner.bit_length(), 'test')}, "
        f"each on {'read-only hard links to the store' if laying.link else 'a private copy'}"
    )
    test = CommandTest(command, laying, within)
    known = read_log(local_path(logs.read, "--replay")) if logs.read is not None else {}
    written = local_path(logs.write, "--log") if logs.write is not None else None
    return search(within, replayed(test, known), told=partial(_step, log=written))


def _step(step: Step, left: int, *, log: Path | None) -> None:
    if log is not None:
        write_log(log, step)
    tested = step.tested
    how = f" ({tested.why})" if tested.why else f" (exit {tested.status})" if tested.status else ""
    again = "" if tested.ran else ", as replayed" if tested.status is not None else ""
    outcome = "skipped" if tested.outcome is Outcome.SKIP else tested.outcome.value
    talk().print(f"{step.version.reference}: {outcome}{visible(how)}{again}; {plural(left, 'version')} left to test")


def _tell(answer: Explained) -> None:
    """The answer for a person; what explains it goes with it."""
    found = answer.found
    sought = found.span.seeking.value
    if found.first is not None:
        first = found.first
        say(f"{first.reference} {first.manifest}")
        talk().print(f"the first {sought} version, pushed {moment(stamp(first.created))} by {first.actor}")
    else:
        talk().print(f"versions were skipped: the first {sought} one is one of these {len(found.candidates)}")
        for version in found.candidates:
            say(version.reference)
    tested = plural(found.tests, "test")
    if found.skipped:
        skipped = [f"{step.version.number} ({step.tested.why})" for step in found.skipped]
        more = f" and {len(skipped) - 8} more" if len(skipped) > 8 else ""
        talk().print(visible(f"skipped: {', '.join(skipped[:8])}{more}"))
    if found.again:
        back = ", ".join(str(version.number) for version in found.again)
        talk().print(f"it changed more than once: {back} {_are(found)} again")
    for note in found.notes:
        talk().print(f"note: {visible(note)}")
    _tell_changes(answer, tested)


def _are(found: Found) -> str:
    older = found.span.of(found.span.older).value
    return f"is {older}" if len(found.again) == 1 else f"are {older}"


def _tell_changes(answer: Explained, tested: str) -> None:
    found = answer.found
    after = found.candidates[-1].reference
    talk().print(f"{tested}; assay diff {found.before.reference} {after} shows all that changed")
    if answer.comparison is None:
        if answer.unexplained:
            talk().print(f"what changed is not told here: {visible(answer.unexplained)}")
        return
    say("")
    say(f"From {found.before.reference} to {after}:")
    for sentence in answer.comparison.summary:
        say(f"  {visible(sentence)}")
