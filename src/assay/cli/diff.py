"""``assay diff``: what changed from one model to another."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from assay.cli.console import Bar, json_option, print_json, say, show, talk
from assay.cli.context import REFERENCE, local_path, settings_of
from assay.cli.diff_text import headline, report
from assay.compare.sides import Options
from assay.errors import Conflict, InvalidInput, StorageError
from assay.later import later
from assay.pages.markdown import markdown
from assay.spec.changes import Comparison
from assay.spec.changes_json import comparison_json
from assay.spec.reference import is_path
from assay.wiring.comparing import diff as compare

if TYPE_CHECKING:
    from assay.pages import html as pages
else:
    pages = later("assay.pages.html")


@click.command()
@click.argument("old", metavar="OLD", type=REFERENCE)
@click.argument("new", metavar="NEW", type=REFERENCE)
@click.option("every", "--tensors", is_flag=True, help="List every tensor that differs.")
@click.option("--exact", is_flag=True, help="Exit with 1 when any byte differs.")
@click.option("as_markdown", "--markdown", is_flag=True, help="Print Markdown, for a pull request.")
@click.option("html", "--html", metavar="FILE", help="Also write a page with plots, in one file.")
@click.option("elements", "--no-tensors", is_flag=True, help="Compare tensors by name, type and shape alone.")
@click.option("ranks", "--no-ranks", is_flag=True, help="Do not estimate the rank of changes.")
@click.option("audit", "--no-audit", is_flag=True, help="Do not look for findings gained and lost.")
@json_option
@click.pass_context
def diff(
    context: click.Context,
    old: str,
    new: str,
    *,
    every: bool,
    exact: bool,
    as_markdown: bool,
    html: str | None,
    elements: bool,
    ranks: bool,
    audit: bool,
    as_json: bool,
) -> int:
    """Say what changed, and whether NEW can take OLD's place.

    OLD and NEW are paths, references or oci:DIR[:TAG]. Exit status: 0 nothing that can change behaviour differs,
    1 something does, 2 it could not be compared to the end.
    """
    if as_json and as_markdown:
        raise click.UsageError("--json and --markdown exclude each other")
    sides = [_side(text, what) for text, what in ((old, "OLD"), (new, "NEW"))]
    file = _page_file(html) if html is not None else None
    options = Options(
        tensors=not elements, ranks=not ranks, audit=not audit, histograms=file is not None, progress=Bar()
    )
    comparison = compare(sides[0], sides[1], settings_of(context), options)
    if file is not None:
        _write(file, pages.page(comparison))
        talk().print(f"written to {file}")
    if as_json:
        print_json(comparison_json(comparison))
    elif as_markdown:
        say(markdown(comparison).rstrip("\n"))
    else:
        for line in headline(comparison):
            say(line)
        show(*report(comparison, every=every))
    return status(comparison, exact=exact)


def status(comparison: Comparison, *, exact: bool) -> int:
    """The exit status that answers whether the two differ.

    Args:
        comparison: what was found.
        exact: whether every byte counts.
    """
    if exact:
        return 1 if comparison.differs else 0
    if comparison.behaves_differently:
        return 1
    return 0 if comparison.equal_bytes or comparison.complete else 2


def _side(text: str, what: str) -> str:
    """One side as typed, when it can be one."""
    if not text:
        raise click.UsageError(f"{what} is empty; the current folder is '.'")
    if text == "-":
        raise InvalidInput(
            f"{what} cannot be standard input: a comparison reads both sides more than once",
            code="stdin-not-supported",
            hint="write it to a file first",
        )
    if is_path(text):
        local_path(text, what)
    return text


def _page_file(text: str) -> Path:
    """Where the page goes.

    Raises:
        Conflict: there is something else that is no page of ours (code ``file-exists``).
    """
    file = local_path(text, "--html")
    if file.is_dir():
        raise Conflict(f"{file} is a folder", code="file-exists", hint=f"--html {file / 'diff.html'}")
    if not file.parent.is_dir():
        raise StorageError(
            f"there is no folder {file.parent} to write {file.name} into", hint=f"mkdir -p {file.parent}"
        )
    if file.exists():
        try:
            with file.open("rb") as stream:
                ours = stream.read(len(pages.BEGINNING)) == pages.BEGINNING.encode()
        except OSError as error:
            raise StorageError.of(error, f"{file} cannot be read") from error
        if not ours:
            raise Conflict(
                f"{file} exists and is no page of assay diff; nothing was written",
                code="file-exists",
                hint="choose another name, or remove it",
            )
    return file


def _write(file: Path, text: str) -> None:
    """Put *text* there, whole or not at all.

    Raises:
        StorageError: it cannot be written.
    """
    scratch: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=file.parent, prefix=".assay-", delete=False
        ) as stream:
            scratch = Path(stream.name)
            stream.write(text)
        mask = os.umask(0)
        os.umask(mask)
        scratch.chmod(0o666 & ~mask)
        scratch.replace(file)
    except OSError as error:
        if scratch is not None:
            scratch.unlink(missing_ok=True)
        raise StorageError.of(error, f"the page cannot be written to {file}") from error
