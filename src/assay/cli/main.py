"""Where the command line begins and ends: the group, the global options, and one place that turns errors into exits.

Exit status: 0 yes or done · 1 the answer is no · 2 it could not be done or decided · 64 the command was mistyped ·
70 our own fault · 130 interrupted.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from importlib.metadata import version as installed_version

import click

from assay.cli.browse import history, inspect, ls, show
from assay.cli.completion import completion
from assay.cli.copy import copy
from assay.cli.moving import pull, push
from assay.cli.upkeep import purge, reindex, verify
from assay.errors import AssayError

_USAGE, _SOFTWARE, _INTERRUPTED = 64, 70, 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--home", metavar="DIR", help="The registry's folder (else ASSAY_HOME, assay.toml, your user folder).")
@click.version_option(installed_version("assay"), message="assay %(version)s")
@click.pass_context
def main(context: click.Context, home: str | None) -> None:
    """Trained models as verified, numbered artifacts.

    A path starts with '/', '.' or '~'; everything else is a reference: NAME, NAME:VERSION or NAME:ALIAS.
    """
    context.obj = home


for command in (push, pull, ls, show, history, inspect, verify, copy, purge, reindex, completion):
    main.add_command(command)


def run() -> None:
    """The ``assay`` command."""
    sys.exit(invoke(sys.argv[1:]))


def invoke(arguments: list[str]) -> int:
    """Run one command line; its exit status."""
    try:
        outcome = main.main(args=arguments, prog_name="assay", standalone_mode=False)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.UsageError as error:
        error.show()
        return _USAGE
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return _INTERRUPTED
    except click.ClickException as error:
        error.show()
        return 2
    except AssayError as error:
        _explain(error, as_json="--json" in arguments)
        return error.exit_status
    except BrokenPipeError:
        # Whoever read our output has seen enough; keep the interpreter from complaining while it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except MemoryError:
        click.echo("error: out of memory", err=True)
        return 2
    except Exception:  # noqa: BLE001 - a crash must never look like an answer
        click.echo("error: assay failed by its own fault; the traceback below belongs in a bug report", err=True)
        traceback.print_exc()
        return _SOFTWARE
    return outcome if isinstance(outcome, int) else 0


def _explain(error: AssayError, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"error": error.to_json()}, indent=2, ensure_ascii=False))
    click.echo(f"{click.style('error:', fg='red', bold=True)} {error.message}", err=True)
    if error.hint:
        click.echo(f"{click.style('hint:', fg='cyan')} {error.hint}", err=True)
