"""A small registry to talk to, and repositories in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from small_registry import Server, State

from assay.remote.http import Http
from assay.remote.oci_address import Address
from assay.remote.oci_api import Api
from assay.remote.oci_registry import RegistryBlobs, RegistryIndex


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    running = Server()
    yield running
    running.shutdown()
    running.server_close()


@pytest.fixture
def state(server: Server) -> State:
    return server.state


@pytest.fixture
def waits() -> list[float]:
    """How long was waited between attempts; nobody waits really."""
    return []


@pytest.fixture
def api(server: Server, waits: list[float], tmp_path: Path):
    """``api(repository)``: requests to a repository."""

    def make(repository: str = "team/model", **options) -> Api:
        http = Http(stall=options.pop("stall", 1.0), sleep=waits.append)
        return Api(Address.parse(f"oci://{server.address}/{repository}"), http, remembering=tmp_path / "uploads")

    return make


@pytest.fixture
def blobs(api) -> RegistryBlobs:
    return RegistryBlobs(api())


@pytest.fixture
def index(api) -> RegistryIndex:
    return RegistryIndex(api())
