"""Every example in the documentation runs, and prints what the page says it prints.

``console`` blocks: lines after ``$`` are run by a shell, the lines below each are its whole output, where ``…`` stands for
anything. ``python`` blocks are executed. The blocks of one page share a folder and a home.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from doc_blocks import ROOT, Block, blocks, pages

_RUNNABLE = {"console", "python"}
_PAGES = [page for page in pages() if any(block.language in _RUNNABLE for block in blocks(page))]
_OWN_TEST = {"add-a-format.md"}  # runs as a package of its own, in test_add_a_format


def _commands(block: Block) -> list[tuple[str, str]]:
    """Command and expected output."""
    found: list[tuple[str, str]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], ""))
        elif line.startswith("> ") and found and not found[-1][1]:
            found[-1] = (f"{found[-1][0]}\n{line[2:]}", "")
        else:
            found[-1] = (found[-1][0], f"{found[-1][1]}{line}\n")
    return found


def _run(command: str, folder: Path, environ: dict[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done.stdout


def _matches(expected: str, found: str) -> bool:
    pattern = ".*".join(re.escape(part) for part in _timeless(expected).split("…"))
    return re.fullmatch(pattern, _timeless(found), re.DOTALL) is not None


def _timeless(text: str) -> str:
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "YYYY-MM-DD hh:mm", text.strip())


@pytest.mark.real
@pytest.mark.framework
@pytest.mark.parametrize("page", [page for page in _PAGES if page.name not in _OWN_TEST], ids=lambda page: page.name)
def test_the_examples_of_a_page_run_and_print_what_it_says(page: Path, tmp_path: Path) -> None:
    environ = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "ASSAY_HOME": str(tmp_path / "home"),
        "ASSAY_STATE": str(tmp_path / "state"),
        "ASSAY_CACHE": str(tmp_path / "cache"),
        "ASSAY_ACTOR": "you",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    for number, block in enumerate(blocks(page)):
        where = f"{page.relative_to(ROOT)}:{block.line}"
        if block.language == "python":
            script = tmp_path / f"example_{number}.py"
            script.write_text(block.text)
            done = subprocess.run([sys.executable, script], cwd=tmp_path, env=environ, capture_output=True, text=True)
            assert done.returncode == 0, f"{where}\n{done.stderr}"
        elif block.language == "console":
            for command, expected in _commands(block):
                found = _run(command, tmp_path, environ)
                assert _matches(expected, found), f"{where}\n$ {command}\nexpected:\n{expected}\nfound:\n{found}"


def test_every_link_of_the_documentation_leads_somewhere() -> None:
    broken = [
        f"{page.relative_to(ROOT)} -> {target}"
        for page in pages()
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text("utf-8"))
        if "://" not in target and not (page.parent / target).exists()
    ]

    assert broken == []
