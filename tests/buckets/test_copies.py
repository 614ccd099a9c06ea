"""Copies into buckets and out of them, to homes, layouts and registries, with the same digest everywhere."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from small_registry import Server


@pytest.fixture
def local(run, tmp_path: Path) -> tuple[str, str]:
    """A home with a version of a large and a small file; its place and the version's digest."""
    (tmp_path / "m").mkdir()
    (tmp_path / "m/large.bin").write_bytes(os.urandom(9 << 20))
    (tmp_path / "m/config.json").write_text("{}")
    home = str(tmp_path / "local")
    out = run("--home", home, "push", str(tmp_path / "m"), "m", "--note", "hello")[1]
    return home, out.split()[1]


def test_a_version_goes_into_a_bucket_and_back(owned: str, run, local, tmp_path: Path) -> None:
    home, digest = local

    status, out, err = run("--home", home, "copy", "m", f"home:{owned}", "--json")
    assert status == 0, err
    moved = json.loads(out)
    assert moved["verified"] == moved["moved"] > 9 << 20
    assert json.loads(run("--home", home, "copy", "m", f"home:{owned}", "--json")[1])["moved"] == 0
    status, _, err = run("copy", "m", f"home:{tmp_path}/back")
    assert status == 0, err
    assert run("--home", f"{tmp_path}/back", "verify", "--all")[0] == 0
    assert digest in run("--home", f"{tmp_path}/back", "show", "m", "--json")[1]


def test_a_bucket_and_tagged_places(owned: str, run, local, tmp_path: Path) -> None:
    home, digest = local
    run("--home", home, "copy", "m", f"home:{owned}")
    server = Server()
    try:
        place = f"oci://{server.address}/team/m:v1"
        assert run("copy", "m", place)[0] == 0
        assert run("copy", "m", f"oci:{tmp_path}/layout:v1")[0] == 0
        assert run("copy", place, "again")[1].split() == ["again:1", digest]
    finally:
        server.shutdown()
        server.server_close()
    assert run("--home", home, "copy", f"oci:{tmp_path}/layout:v1", "layout")[1].split() == ["layout:1", digest]
    assert run("verify", "--all")[0] == 0


def test_a_large_blob_from_a_registry_reaches_the_bucket_through_a_file_that_does_not_stay(
    owned: str, run, local, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, digest = local
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    server = Server()
    try:
        place = f"oci://{server.address}/team/m:v1"
        run("--home", home, "copy", "m", place)
        status, out, err = run("copy", place, "m")
    finally:
        server.shutdown()
        server.server_close()

    assert status == 0, err
    assert out.split() == ["m:1", digest]
    assert not [path for path in tmp_path.rglob("part-*") if path.is_file()]
    assert run("verify", "--all")[0] == 0
