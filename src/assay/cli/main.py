"""Where the command line begins and ends: the group, the global options, and one place that turns errors into exits.

Exit status: 0 yes or done · 1 the answer is no · 2 it could not be done or decided · 64 the command was mistyped ·
70 our own fault · 130 interrupted.
"""

from __future__ import annotations

import difflib
import errno
import json
import os
import re
import resource
import sys
import traceback
from contextlib import suppress
from importlib import import_module

import click
from click.shell_completion import CompletionItem

from assay.cli.text import coloured, visible
from assay.errors import AssayError, StorageError

_USAGE, _SOFTWARE, _INTERRUPTED = 64, 70, 130
_FILES = 1 << 16

_COMMANDS = {
    "approve": ("promote", "Approve a version for an alias; promotions count it."),
    "bisect": ("bisect", "Find the version of NAME that broke it, by halving."),
    "bom": ("bom", "Write what a model is made of, in a standard's words."),
    "cache": ("cache", "Show or free what was fetched from registries in buckets."),
    "completion": ("completion", "Print the completion script for SHELL."),
    "convert": ("convert", "Convert a model to a safe form, and prove that it is the same."),
    "copy": ("copy", "Copy a version to another home, layout or registry, or back."),
    "diff": ("diff", "Say what changed, and whether NEW can take OLD's place."),
    "du": ("du", "Show where the bytes are, of all models or of one."),
    "evaluate": ("evaluate", "Record what was measured of a version."),
    "gc": ("gc", "Show what nothing needs, and with --yes free it."),
    "history": ("browse", "Show who did what to NAME and when, newest first."),
    "import": ("importing:import_command", "Import versions from SOURCE, with what is known of them there."),
    "inspect": ("inspect", "Say what a model is, without running it."),
    "key": ("sign", "Make a key pair for signing: PATH and PATH.pub."),
    "lineage": ("lineage", "Show what a version was made from and what was made from it."),
    "ls": ("browse", "List the models, or NAME's versions, newest first."),
    "pack-store": ("pack_store:pack_store", "Make files of versions small; everything reads them as before."),
    "pin": ("pin", "Keep a version: no retention rule and no remove takes it."),
    "promote": ("promote", "Point ALIAS at a version, once every gate is open."),
    "pull": ("pull", "Write a version's files into a folder, verified."),
    "purge": ("upkeep", "Remove a version's bytes for good, on record."),
    "push": ("push", "Make the model at PATH a numbered version of NAME."),
    "rehearse": ("rehearse", "Load a version in a clean environment and try it out."),
    "reindex": ("upkeep", "Rebuild the catalog from the journal."),
    "remove": ("remove", "Give a version up, on record; gc then frees its bytes."),
    "rollback": ("promote", "Put ALIAS of NAME back where it was."),
    "scan": ("scan", "Say what loading a model would do, without running any of it."),
    "show": ("browse", "Show one version's card, or the metrics of all versions."),
    "sign": ("sign", "Sign a version, or with --out the files of a folder."),
    "unalias": ("promote", "Take ALIAS of NAME away; rollback brings it back."),
    "unpack": ("pack_store", "Make raw copies of a version's packed files again."),
    "unpin": ("pin", "Take a pin back: the version may be given up again."),
    "verify": ("verify", "Read and hash every byte again, and check who signed it."),
    "vulns": ("bom", "Look for known vulnerabilities of what a version needs."),
    "yank": ("yank", "Mark a version as unfit for use, or take that back."),
}
"""Command to the module of ``assay.cli`` it lives in (and its name there where that is another one), and what it does.

That is the first line of the command's own help. It stands here, too, so that neither ``--help`` nor completing a name
imports them all.
"""


class Mistyped(AssayError):
    """The command line is not one."""

    default_code = "usage"
    exit_status = _USAGE


class _Lazy(click.Group):
    """A group whose commands are imported when they are run, and not when they are listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name][0].partition(":")
        command = getattr(import_module(f"assay.cli.{module}"), attribute or cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _listed.format_commands(ctx, formatter)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        names = [name for name in _COMMANDS if name.startswith(incomplete)]
        found = [CompletionItem(name, help=_COMMANDS[name][1]) for name in names]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]


_listed = click.Group(commands=[click.Command(name, help=does) for name, (_, does) in _COMMANDS.items()])
"""The commands as far as they are listed."""


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--home", metavar="DIR|URL", help="The registry: a folder or s3://BUCKET/PREFIX (else ASSAY_HOME, your settings)."
)
@click.version_option(package_name="assay", message="assay %(version)s")
@click.pass_context
def main(context: click.Context, home: str | None) -> None:
    """Trained models as verified, numbered artifacts.

    A path starts with '/', '.' or '~'; everything else is a reference: NAME, NAME:VERSION or NAME:ALIAS.
    """
    context.obj = home


def run() -> None:
    """The ``assay`` command."""
    _open_streams()
    _allow_many_files()
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
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            return _failed()
        _explain(StorageError.of(error, "cannot open one more file"), as_json="--json" in arguments)
        return StorageError.exit_status
    except MemoryError:
        click.echo("error: out of memory", err=True)
        return 2
    except Exception:  # noqa: BLE001 - a crash must never look like an answer
        return _failed()
    return outcome if isinstance(outcome, int) else 0


def _failed() -> int:
    click.echo("error: assay failed by its own fault; the traceback below belongs in a bug report", err=True)
    traceback.print_exc()
    return _SOFTWARE


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


def _allow_many_files() -> None:
    """Take the open files that this process may have: a model may lie in ten thousand, and 1,024 is the custom."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # some systems allow less than they say
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


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
