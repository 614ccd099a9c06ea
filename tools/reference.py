"""Write the reference pages that the code itself can say: commands, error codes, rules of findings and formats.

`python tools/reference.py` writes them; with `--check` it fails when a page is out of date.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import click
from finding_rules import rules

from assay import errors
from assay.audit.advice import advice
from assay.cli.main import main as command_line
from assay.formats.registry import all_formats
from assay.loaders.registry import all_loaders, all_savers

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference"
CLASSES = {
    name: value
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, errors.AssayError)
}


def commands() -> str:
    """`cli.md`: every command with its options, from the help the commands give."""
    context = click.Context(command_line, info_name="assay")
    text = "# Commands\n\nWritten by `make docs` from the commands themselves: do not edit.\n\n"
    text += f"```text\n{command_line.get_help(context)}\n```\n"
    for name in sorted(command_line.list_commands(context)):
        command = command_line.get_command(context, name)
        assert command is not None
        inner = click.Context(command, info_name=name, parent=context)
        text += f"\n## assay {name}\n\n```text\n{command.get_help(inner)}\n```\n"
    text += "\n## Exit status\n\n| status | meaning |\n|---:|---|\n"
    for status, meaning in (
        (0, "yes, or done"),
        (1, "the answer is no: damaged, refused"),
        (2, "it could not be done or decided; one error says why"),
        (64, "the command was mistyped"),
        (70, "our own fault: a crash never looks like an answer"),
        (130, "interrupted"),
    ):
        text += f"| {status} | {meaning} |\n"
    return text


def error_codes() -> str:
    """`errors.md`: every stable code with its class, exit status and where it is raised."""
    found: dict[tuple[str, str], set[str]] = {}
    for file in sorted((ROOT / "src" / "assay").rglob("*.py")):
        module = ".".join(file.relative_to(ROOT / "src").with_suffix("").parts)
        for kind, code in _raised(ast.parse(file.read_text("utf-8"))):
            found.setdefault((code, kind), set()).add(module)
    text = "# Error codes\n\nWritten by `make docs` from the code: do not edit. Codes are append-only.\n\n"
    text += '`--json` prints `{"error": {"code", "message", "hint", "details"}}` on standard output.\n\n'
    text += "| code | class | exit | raised in |\n|---|---|---:|---|\n"
    for (code, kind), modules in sorted(found.items()):
        where = ", ".join(f"`{module}`" for module in sorted(modules)[:4])
        more = f" and {len(modules) - 4} more" if len(modules) > 4 else ""
        text += f"| `{code}` | {kind} | {CLASSES[kind].exit_status} | {where}{more} |\n"
    return text


def findings() -> str:
    """`findings.md`: a section per rule: how it weighs, where it is reported, what it says, means, and what to do."""
    text = (
        "# Findings\n\nWritten by `make docs` from the code: do not edit. Rule ids are stable. What severities mean is "
        "in [the description](../spec/description.md#a-finding); `…` stands for what the file says.\n\n"
        "Every format has one rule more, its name and `-unreadable` (`incomplete`): the files look like that format, "
        "and nothing could be understood.\n"
    )
    for rule_id, rule in rules(ROOT / "src" / "assay").items():
        severities = ", ".join(rule.severities) or "as found"
        where = ", ".join(f"`{module}`" for module in rule.modules)
        said = advice(rule_id)
        text += f"\n## {rule_id}\n\n**{severities}** · reported in {where}\n\n"
        if rule.messages:
            text += f"> {rule.messages[0]}\n\n"
        text += f"{said.means} *What to do:* {said.do}\n"
    return text


def formats() -> str:
    """`formats.md`: every format that is understood, and what `assay.load` makes of it."""
    loads = {name: _first_line(loader) for loader in all_loaders() for name in loader.formats}
    text = (
        "# Formats\n\nWritten by `make docs` from the code: do not edit. A folder may hold several; all are described. "
    )
    text += "Everything else is stored as it is and honestly called unknown.\n\n"
    text += "| format | | what is understood | `assay.load` |\n|---|---|---|---|\n"
    for form in all_formats():
        kind = "folder" if form.covers == "directory" else "file"
        loaded = loads.get(form.name, "not loaded: use `assay.open`")
        text += f"| `{form.name}` | {kind} | {_first_line(form)} | {loaded} |\n"
    text += "\n## Live objects that `assay.push` takes\n\n| framework | |\n|---|---|\n"
    for saver in all_savers():
        text += f"| {saver.framework} | {_first_line(saver)} |\n"
    return text


def _first_line(thing: object) -> str:
    return (type(thing).__doc__ or "").strip().splitlines()[0].replace("``", "`")


def _raised(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Class and code of every error that is made in a module."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name not in CLASSES:
            continue
        given = next((keyword.value for keyword in node.keywords if keyword.arg == "code"), None)
        if given is None:
            yield name, CLASSES[name].default_code
        elif isinstance(given, ast.Constant):
            yield name, str(given.value)


def main() -> int:
    """Write the pages, or compare them."""
    stale = []
    pages = {"cli.md": commands, "errors.md": error_codes, "findings.md": findings, "formats.md": formats}
    for name, write in pages.items():
        text = write()
        page = REFERENCE / name
        if "--check" in sys.argv:
            if not page.is_file() or page.read_text("utf-8") != text:
                stale.append(name)
        else:
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(text, "utf-8")
    if stale:
        print(f"docs/reference: {', '.join(stale)} out of date: run make docs")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
