"""Where the command line begins and ends: the group, the global options, and one place that turns errors into exits.

Exit status: 0 yes or done · 1 the answer is no · 2 it could not be done or decided · 64 the command was mistyped ·
70 our own fault · 130 interrupted.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import sys
import traceback
from importlib import import_module
from importlib.metadata import version as installed_version

import click

from assay.cli.text import coloured, visible
from assay.errors import AssayError

_USAGE, _SOFTWARE, _INTERRUPTED = 64, 70, 130

_COMMANDS = {
    "approve": "promote",
    "bisect": "bisect",
    "bom": "bom",
    "cache": "cache",
    "completion": "completion",
    "convert": "convert",
    "copy": "copy",
    "diff": "diff",
    "du": "du",
    "evaluate": "evaluate",
    "gc": "gc",
    "history": "browse",
    "import": "importing:import_command",
    "inspect": "inspect",
    "key": "sign",
    "lineage": "lineage",
    "ls": "browse",
    "pack-store": "pack_store:pack_store",
    "pin": "pin",
    "promote": "promote",
    "pull": "moving",
    "purge": "upkeep",
    "push": "moving",
    "rehearse": "rehearse",
    "reindex": "upkeep",
    "remove": "remove",
    "rollback": "promote",
    "scan": "scan",
    "show": "browse",
    "sign": "sign",
    "unalias": "promote",
    "unpack": "pack_store",
    "unpin": "pin",
    "verify": "verify",
    "vulns": "bom",
    "yank": "yank",
}
"""Command to the module of ``assay.cli`` it lives in, and its name there where that is another one."""


class Mistyped(AssayError):
    """The command line is not one."""

    default_code = "usage"
    exit_status = _USAGE


class _Lazy(click.Group):
    """A group whose commands are imported when they are named, so that ``--version`` costs nothing."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name].partition(":")
        command = getattr(import_module(f"assay.cli.{module}"), attribute or cmd_name)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--home", metavar="DIR|URL", help="The registry: a folder or s3://BUCKET/PREFIX (else ASSAY_HOME, your settings)."
)
@click.version_option(installed_version("assay"), message="assay %(version)s")
@click.pass_context
def main(context: click.Context, home: str | None) -> None:
    """Trained models as verified, numbered artifacts.

    A path starts with '/', '.' or '~'; everything else is a reference: NAME, NAME:VERSION or NAME:ALIAS.
    """
    context.obj = home


def run() -> None:
    """The ``assay`` command."""
    _open_streams()
    sys.exit(invoke(sys.argv[1:]))


def invoke(arguments: list[str]) -> int:
    """Run one command line; its exit status."""
    try:
        outcome = main.main(args=arguments, prog_name="assay", standalone_mode=False)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return _USAGE
    except click.UsageError as error:
        _explain(_mistyped(error), as_json="--json" in arguments)
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
        _drop_output()  # whoever read it has seen enough
        return 0
    except MemoryError:
        click.echo("error: out of memory", err=True)
        return 2
    except Exception:  # noqa: BLE001 - a crash must never look like an answer
        click.echo("error: assay failed by its own fault; the traceback below belongs in a bug report", err=True)
        traceback.print_exc()
        return _SOFTWARE
    return outcome if isinstance(outcome, int) else 0


def _mistyped(error: click.UsageError) -> Mistyped:
    """What click says of a command line, as we say things: one line, and what to type."""
    message = " ".join(error.format_message().split()).rstrip(".")
    usage = f"{error.ctx.command_path} --help" if error.ctx is not None else "assay --help"
    found = re.fullmatch(r"No such command '(.*)'", message)
    near = difflib.get_close_matches(found[1], _COMMANDS, n=2) if found else []
    hint = f"did you mean {' or '.join(near)}? {usage} shows all commands" if near else f"{usage} shows how"
    if message[1:2].islower():
        message = message[0].lower() + message[1:]
    return Mistyped(message, hint=hint)


def _open_streams() -> None:
    """Give a process without standard streams empty ones, so that no file that we open takes their place."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(number, "r" if name == "stdin" else "w", encoding="utf-8"))


def _drop_output() -> None:
    """Send what is left of standard output nowhere: the interpreter would complain while it closes it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _explain(error: AssayError, *, as_json: bool) -> None:
    if error.code == "output-failed":
        _drop_output()
    elif as_json:
        try:
            click.echo(json.dumps({"error": error.to_json()}, indent=2, ensure_ascii=False))
        except OSError:
            _drop_output()
    for label, style, text in (("error:", "red", error.message), ("hint:", "cyan", error.hint)):
        if text:
            click.echo(f"{coloured(label, style)} {visible(' '.join(text.split(chr(10))))}", err=True)
