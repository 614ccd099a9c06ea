"""A real registry to talk to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from real_registry import serve


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real OCI registry on loopback; its ``host:port``."""
    yield from serve(tmp_path_factory.mktemp("registry"))
