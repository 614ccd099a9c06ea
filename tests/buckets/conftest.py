"""Homes in buckets: in a folder that is used like one, and on the real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from secrets import token_hex

import pytest
from buckets import BUCKET, start_server, stop_server

from assay.cli.main import invoke

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The settings of a running server."""
    folder = tmp_path_factory.mktemp("ceph")
    try:
        yield start_server(folder)
    finally:
        stop_server(folder)


@pytest.fixture(params=["folder", pytest.param("ceph", marks=pytest.mark.root)])
def home(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty place, which ASSAY_REGISTRY names; ASSAY_STATE is this machine's folder."""
    for name in ("ASSAY_HOME", "ASSAY_CATALOG", "ASSAY_POLICY"):
        monkeypatch.delenv(name, raising=False)
    if request.param == "folder":
        url = f"file://{tmp_path}/bucket"
    else:
        for name, value in request.getfixturevalue("ceph").items():
            monkeypatch.setenv(name, value)
        url = f"s3://{BUCKET}/{token_hex(8)}/home"
    monkeypatch.setenv("ASSAY_REGISTRY", url)
    monkeypatch.setenv("ASSAY_STATE", str(tmp_path / "machine-1"))
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ASSAY_ACTOR", "ada")
    return url


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """``run(*arguments)``: exit status, standard output, standard error."""

    def do(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        status = invoke([str(argument) for argument in arguments])
        return status, *capfd.readouterr()

    return do
