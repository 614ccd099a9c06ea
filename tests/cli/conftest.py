"""The command line, called as the program calls it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from assay.cli.main import invoke

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """``run(*arguments)``: exit status, standard output, standard error."""

    def do(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        status = invoke([str(argument) for argument in arguments])
        return status, *capfd.readouterr()

    return do
