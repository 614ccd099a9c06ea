"""``assay rehearse``: would this version load on a clean machine, and answer as it did?"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from assay.cli.console import json_option, print_json, say, talk, warn
from assay.cli.context import REFERENCE, local_path, policy_option, settings_of
from assay.cli.text import coloured, plural, short, size, visible
from assay.environment.building import Options
from assay.sandbox.values import Limits
from assay.spec.example import Tolerance, tolerance
from assay.spec.json import Json
from assay.spec.records import Version
from assay.spec.rehearsal import Rehearsal
from assay.wiring.rehearsing import BUILDERS, LIMITS, Wish
from assay.wiring.rehearsing import rehearse as rehearse_version

_GIB = 1 << 30


@click.command()
@click.argument("reference", type=REFERENCE)
@click.option("--budget", metavar="TEXT", default="", help='Bounds, such as "load<20s,import<5s,rss<4GB,size<500MB".')
@click.option("--python", metavar="VERSION|PATH", help="The Python to build with (else the recorded version).")
@click.option("--environment", metavar="DIR|PYTHON", help="An environment to use as it is; nothing is built.")
@click.option("--builder", type=click.Choice(BUILDERS), default="auto", show_default=True, help="What builds it.")
@click.option("--index-url", "indexes", metavar="URL", multiple=True, help="A package index; the first replaces yours.")
@click.option("--from-source", is_flag=True, help="Build packages without a wheel, which runs their code here.")
@click.option("--no-cache", is_flag=True, help="Build anew and keep nothing.")
@click.option("--tolerance", "allowed", metavar="REL[,ABS]", help="How far numbers may be off, instead of as recorded.")
@click.option(
    "--isolation",
    type=click.Choice(("required", "none")),
    default="required",
    show_default=True,
    help="none: run it with the rights you have, where a sandbox cannot be had.",
)
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), default=LIMITS.seconds, show_default=True,
              help="Clock time it may take.")  # fmt: skip
@click.option("--memory", type=click.FloatRange(min=0, min_open=True), default=LIMITS.memory / _GIB, show_default=True,
              metavar="GIB", help="Memory it may take.")  # fmt: skip
@click.option("--no-record", is_flag=True, help="Do not keep the outcome beside the version.")
@policy_option
@json_option
@click.pass_context
def rehearse(
    context: click.Context,
    reference: str,
    *,
    budget: str,
    python: str | None,
    environment: str | None,
    builder: str,
    indexes: tuple[str, ...],
    from_source: bool,
    no_cache: bool,
    allowed: str | None,
    isolation: str,
    seconds: float,
    memory: float,
    no_record: bool,
    policy: str | None,
    as_json: bool,
) -> int:
    """Load a version in a clean environment and try it out.

    The environment is built from what was recorded at push. The model runs in a process of its own, without network and
    without your home folder. Exit status: 0 it passed, 1 it did not, 2 the environment could not be built.
    """
    wish = Wish(
        python=python,
        environment=None if environment is None else local_path(environment, "--environment"),
        options=Options(builder, indexes, from_source),
        cached=not no_cache,
        budget=budget,
        tolerance=None if allowed is None else _tolerance(allowed),
        limits=_limits(seconds, memory),
        isolated=isolation == "required",
        record=not no_record,
    )
    with _ended_by_term(), _telling() as told:
        version, outcome = rehearse_version(settings_of(context, policy=policy), reference, wish, told=told, warn=warn)
    if as_json:
        print_json(_json(version, outcome, recorded=not no_record))
    else:
        _tell(version, outcome)
    return 0 if outcome.passed else 1


def _limits(seconds: float, memory: float) -> Limits:
    return Limits(seconds=seconds, cpu_seconds=max(int(seconds * 3), 1), memory=int(memory * _GIB))


def _tolerance(text: str) -> Tolerance:
    relative, comma, absolute = text.partition(",")
    try:
        return tolerance(float(relative), float(absolute) if comma else None)
    except ValueError:
        raise click.UsageError(f"--tolerance {text!r}: expected one or two numbers") from None


@contextmanager
def _ended_by_term() -> Iterator[None]:
    """What is told to end, as a job that is cancelled, ends as by Ctrl-C: nothing that was half-built stays."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _telling() -> Iterator[Callable[[str], None]]:
    """Shows what is going on, on a terminal, in one line that goes away."""
    console = talk()
    if not console.is_terminal:
        yield lambda _: None
        return
    with console.status("rehearsing") as status:
        yield lambda text: status.update(short(visible(text), console.width - 4)) if text else None


def _tell(version: Version, outcome: Rehearsal) -> None:
    say(f"{version.reference} {'passed' if outcome.passed else 'failed'}")
    for check in outcome.checks:
        mark = coloured("ok", "green") if check.passed else coloured("no", "red")
        click.echo(f"{mark} {visible(check.message)}", err=True)
    if outcome.example is None:
        talk().print("no example is recorded, so it was only loaded; assay push --example FILE adds one")
    talk().print(_place(outcome))
    trial = outcome.trial
    talk().print(f"peak memory {size(trial.peak_memory)}, files {size(outcome.size)}, isolation {_isolation(outcome)}")
    for note in trial.place.notes if trial.place.built else ():
        talk().print(f"note: {visible(note)}")


def _place(outcome: Rehearsal) -> str:
    place = outcome.trial.place
    if not place.built:
        return f"environment: Python {place.python}, given interpreter, not built"
    how = "built earlier" if place.reused else f"built in {place.seconds:.0f} s"
    needs = plural(len(place.requirements), "requirement")
    return f"environment: Python {place.python}, {needs} from the {place.source}, {how} by {place.builder}"


def _isolation(outcome: Rehearsal) -> str:
    held = outcome.trial.isolation
    missing = [name for name, value in held.items() if value is False]
    return f"{held.get('mechanism')}" + (f" (not held back: {', '.join(missing)})" if missing else "")


def _json(version: Version, outcome: Rehearsal, *, recorded: bool) -> Json:
    return {
        "reference": version.reference,
        "digest": str(version.manifest),
        "recorded": recorded,
        **outcome.to_json(),
    }
