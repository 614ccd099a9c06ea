"""Draw the house: which rooms there are, what lives in each, and which rooms below it uses.

`python tools/house.py` writes `docs/explanation/house.md`; with `--check` it fails when that page is out of date.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "assay"
PAGE = ROOT / "docs" / "explanation" / "house.md"
HEAD = """# The house

Rooms from top to bottom; a room imports only rooms below it, which `lint-imports` holds. Written by `make docs` from
the import graph: do not edit.

| room | what lives there | imports |
|---|---|---|
"""


def layers() -> list[list[str]]:
    """The rooms per layer, top first, as the linter's contract has them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    stated = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [[f"assay.{room.strip()}" for room in layer.split("|")] for layer in stated]


def purpose(room: str) -> str:
    """What lives in a room: the first line of its docstring."""
    path = SOURCE / room.removeprefix("assay.")
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return (ast.get_docstring(ast.parse(file.read_text("utf-8"))) or "").splitlines()[0]


def page() -> str:
    """The page's text."""
    graph = grimp.build_graph("assay")
    rooms = [room for layer in layers() for room in layer]
    text = HEAD
    for layer in layers():
        for room in layer:
            members = {room, *graph.find_descendants(room)} & graph.modules
            used = {
                other
                for other in rooms
                if other != room
                for member in members
                for found in graph.find_modules_directly_imported_by(member)
                if found == other or found.startswith(f"{other}.")
            }
            below = ", ".join(other.removeprefix("assay.") for other in rooms if other in used)
            text += f"| {room.removeprefix('assay.')} | {purpose(room)} | {below} |\n"
    return text


def main() -> int:
    """Write the page, or compare it."""
    text = page()
    if "--check" in sys.argv:
        if not PAGE.is_file() or PAGE.read_text("utf-8") != text:
            print(f"{PAGE.relative_to(ROOT)} is out of date: run make docs")
            return 1
        return 0
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
