"""Other people's registries, made by their own tools, and a way to read what an importer offers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from assay.errors import AssayError
from assay.ports.importers import Importer, Offered, Unreadable

Read = Callable[[Importer], dict[tuple[str, str], tuple[Offered, dict[str, bytes]]]]


@pytest.fixture
def read() -> Read:
    """``read(importer)``: (model, label) to what is offered and the bytes of its files; nothing may be unreadable."""

    def do(importer: Importer) -> dict[tuple[str, str], tuple[Offered, dict[str, bytes]]]:
        found = {}
        for offered in importer.offered():
            assert isinstance(offered, Offered), offered
            with offered.open() as files:
                found[offered.model, offered.label] = (
                    offered,
                    {path: file.read_bytes() for path, file in files.paths.items()},
                )
        return found

    return do


@pytest.fixture
def unreadable() -> Callable[[Importer], dict[str, str]]:
    """``unreadable(importer)``: label to the message of what cannot be offered or opened."""

    def do(importer: Importer) -> dict[str, str]:
        found = {}
        for offered in importer.offered():
            if isinstance(offered, Unreadable):
                found[offered.label] = offered.error.message
                continue
            try:
                with offered.open():
                    pass
            except AssayError as error:
                found[offered.label] = str(error)
        return found

    return do


@pytest.fixture
def git(tmp_path: Path) -> Callable[..., str]:
    """``git(*arguments)`` in ``tmp_path / "repository"``, a new repository, by an author of our own."""
    folder = tmp_path / "repository"
    folder.mkdir()
    clock = iter(range(1_700_000_000, 1_700_100_000, 60))

    def do(*arguments: str) -> str:
        stamp = f"{next(clock)} +0000"
        who = {f"GIT_{role}_{field}": value for role in ("AUTHOR", "COMMITTER") for field, value in PERSON.items()}
        dates = {"GIT_AUTHOR_DATE": stamp, "GIT_COMMITTER_DATE": stamp}
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **who, **dates}
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()

    do("init", "--quiet", "--initial-branch=main")
    return do


PERSON = {"NAME": "Ada", "EMAIL": "ada@example.org"}
