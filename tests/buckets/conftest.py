"""Homes in buckets: in a folder that is used like one, and on the real server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from secrets import token_hex
from typing import Any

import numpy as np
import pytest
from bucket_builders import BUCKET
from postgres_server import running
from safetensors.numpy import save_file

from assay.cli.main import invoke

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a database on a running server."""
    with running() as url:
        yield url


_ROOT = pytest.mark.root
_OWNED = ["folder", pytest.param("ceph", marks=_ROOT)]


@pytest.fixture(params=_OWNED)
def owned(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty place, which ASSAY_REGISTRY names; ASSAY_STATE is this machine's folder."""
    return _settle(request, tmp_path, monkeypatch)


@pytest.fixture(params=[*_OWNED, pytest.param("folder postgres", marks=_ROOT)])
def home(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same, or with the names in a database."""
    return _settle(request, tmp_path, monkeypatch)


@pytest.fixture(params=[pytest.param("folder postgres", marks=_ROOT), pytest.param("ceph postgres", marks=_ROOT)])
def shared(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same, always with the names in a database."""
    return _settle(request, tmp_path, monkeypatch)


def _settle(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    for name in ("ASSAY_HOME", "ASSAY_CATALOG", "ASSAY_POLICY"):
        monkeypatch.delenv(name, raising=False)
    if "ceph" in request.param:
        for name, value in request.getfixturevalue("bucket_server").items():
            monkeypatch.setenv(name, value)
        url = f"s3://{BUCKET}/{token_hex(8)}/home"
    else:
        url = f"file://{tmp_path}/bucket"
    if "postgres" in request.param:
        monkeypatch.setenv("ASSAY_CATALOG", request.getfixturevalue("postgres"))
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


@pytest.fixture
def model(tmp_path: Path) -> Callable[[float], Path]:
    """``model(value)``: a folder with weights of that value, and a card."""

    def make(value: float) -> Path:
        folder = tmp_path / f"model-{value}"
        folder.mkdir()
        save_file({"encoder.w": np.full((64, 64), value, np.float32)}, folder / "model.safetensors")
        (folder / "README.md").write_text("# A model\n")
        return folder

    return make


@pytest.fixture
def answer(run: Run) -> Callable[..., Any]:
    """``answer(*arguments, status=0)``: what a command prints as JSON."""

    def do(*arguments: object, status: int = 0) -> Any:
        code, out, err = run(*arguments, "--json")
        assert code == status, (arguments, out, err)
        return json.loads(out)

    return do
