"""How the command line speaks: answers on stdout, talk and progress on stderr, JSON when asked."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from io import StringIO
from typing import TypeVar

import click
from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.segment import Segment, Segments

from assay.cli.text import coloured, styled, visible
from assay.errors import StorageError
from assay.spec.json import Json

Command = TypeVar("Command", bound=Callable[..., object])


def answers() -> Console:
    """Where answers go. Piped output has 80 columns, no colour, and is never cut."""
    terminal = sys.stdout.isatty()
    width = None if terminal else 80
    return Console(file=sys.stdout if terminal else StringIO(), highlight=False, markup=False, emoji=False, width=width)


def show(*parts: RenderableType) -> None:
    """Print an answer, without the spaces that fill up table cells."""
    console = answers()
    with console.capture() as captured:
        for part in parts:
            # Foreign text is written out before it is coloured: afterwards its escapes would look like ours.
            drawn = [one if one.control else Segment(visible(one.text), one.style) for one in console.render(part)]
            console.print(Segments(drawn), crop=False)
    say("\n".join(styled(line.rstrip()) for line in captured.get().split("\n")).rstrip("\n"))


def say(text: str) -> None:
    """Write an answer to standard output, at once.

    Raises:
        StorageError: it cannot be written, for instance because it goes to a file on a full disk (code
            ``output-failed``).
    """
    try:
        click.echo(text)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise StorageError(
            f"the answer could not be written to standard output: {(error.strerror or str(error)).lower()}",
            code="output-failed",
        ) from error


def talk() -> Console:
    """Where everything else goes."""
    return Console(file=sys.stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)


def warn(message: str) -> None:
    """Say what a gate lets through although it is not safe."""
    click.echo(f"{coloured('warning:', 'yellow')} {visible(message)}", err=True)


def print_json(body: Json) -> None:
    """An answer as JSON, indented, non-ASCII kept."""
    say(json.dumps(body, indent=2, ensure_ascii=False))


def json_option(command: Command) -> Command:
    """Add ``--json``."""
    return click.option("as_json", "--json", is_flag=True, help="Print JSON, as documented and stable.")(command)


class Bar:
    """A progress bar on a terminal, nothing elsewhere."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def start(self, what: str, total: int) -> None:
        """Show the bar."""
        console = talk()
        if not console.is_terminal:
            return
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task(what, total=total)
        self._progress.start()

    def advance(self, count: int) -> None:
        """Move on."""
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task, count)

    def finish(self) -> None:
        """Take the bar away."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
