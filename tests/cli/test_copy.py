"""`assay copy`: the spelling of places, dry runs, figures, and what it says when a registry is no help."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_registry import Server

from assay.cli.main import invoke


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    for name in ("DOCKER_CONFIG", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    running = Server()
    yield running
    running.shutdown()
    running.server_close()


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """``run(*arguments)``: exit status, standard output, standard error."""
    monkeypatch.setenv("ASSAY_ACTOR", "tester")

    def do(*arguments: str, home: str = "home") -> tuple[int, str, str]:
        status = invoke(["--home", str(tmp_path / home), *arguments])
        found = capsys.readouterr()
        return status, found.out, found.err

    return do


@pytest.fixture
def pushed(run, tmp_path: Path) -> str:
    """A version; its digest."""
    (tmp_path / "model.bin").write_bytes(b"weights" * 1000)
    status, out, _ = run("push", str(tmp_path / "model.bin"), "team/m")
    assert status == 0
    return out.split()[1]


def test_a_registry_is_copied_to_and_from(run, server: Server, pushed: str, tmp_path: Path) -> None:
    place = f"oci://{server.address}/team/m"

    status, out, err = run("copy", "team/m", place)
    assert (status, out) == (0, f"{place}:1 {pushed}\n")
    assert "verified" in err
    status, out, _ = run("copy", "team/m", f"{place}:champion", "--json")
    again = json.loads(out)
    assert (again["destination"], again["moved"]) == (f"{place}:champion", 0)
    assert again["skipped"] > 7000
    status, out, _ = run("copy", f"{place}@{pushed}", "back", home="other")
    assert (status, out) == (0, f"back:1 {pushed}\n")
    status, out, err = run("copy", place, "back", home="other")
    assert status == 2
    assert "has 2 tags; say which one" in err


def test_a_dry_run_changes_nothing(run, server: Server, pushed: str, tmp_path: Path) -> None:
    place = f"oci://{server.address}/team/m:v1"

    status, out, _ = run("copy", "team/m", place, "--dry-run", "--json")
    body = json.loads(out)
    assert status == 0
    assert set(body) == {"destination", "dry_run", "blobs", "moved", "travels", "blobs_there", "skipped"}
    assert body["moved"] == body["travels"] > 7000
    assert not server.state.manifests
    assert not server.state.blobs
    assert run("copy", "team/m", f"home:{tmp_path}/new", "--dry-run")[0] == 0
    assert not (tmp_path / "new").exists()
    assert run("copy", "team/m", f"oci:{tmp_path}/layout", "--dry-run")[0] == 0
    assert not (tmp_path / "layout").exists()


def test_statements_are_referrers_and_come_back(run, server: Server, pushed: str) -> None:
    place = f"oci://{server.address}/team/m:v1"
    run("copy", "team/m", place)
    said = sum(json.loads(data).get("subject") is not None for data, _ in server.state.manifests.values())

    _, out, _ = run("copy", place, "back", "--json", home="other")

    assert json.loads(out)["statements"] == said >= 2


def test_no_tag_appears_when_a_blob_does_not_arrive(run, server: Server, pushed: str) -> None:
    server.state.fault = lambda method, path, before: 403 if method == "PUT" and "/uploads/" in path else None

    status, _, err = run("copy", "team/m", f"oci://{server.address}/team/m:v1")

    assert status == 2
    assert "you may not do that" in err
    assert not server.state.tags
    assert not server.state.manifests


def test_a_copy_in_that_fails_numbers_nothing(run, server: Server, pushed: str) -> None:
    place = f"oci://{server.address}/team/m:v1"
    run("copy", "team/m", place)
    large = max(server.state.blobs, key=lambda key: len(server.state.blobs[key]))
    server.state.blobs[large] = server.state.blobs[large][:-1] + b"x"

    status, _, err = run("copy", place, "back", home="other")

    assert status == 2
    assert "does not match its digest" in err
    assert json.loads(run("ls", "--json", home="other")[1]) == []


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("team/m", "other"), 2),
        (("oci://h/r", "oci://h/s"), 2),
        (("team/m", "oci://h"), 2),
        (("team/m", "oci://h/r@sha256:" + "0" * 64), 2),
        (("team/m", "oci://registry.example/r", "--all"), 64),
        (("team/m", "oci://127.0.0.1:1/r", "--stall", "0"), 64),
    ],
)
def test_what_cannot_be_copied_is_said(run, pushed: str, arguments: tuple[str, ...], status: int) -> None:
    found, out, err = run("copy", *arguments)

    assert (found, out) == (status, "")
    assert "error: " in err


def test_a_registry_that_is_not_there_is_said(run, pushed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr("assay.remote.http.Http.wait", lambda *_: None)

    status, _, err = run("copy", "team/m", "oci://127.0.0.1:1/r:v1")

    assert status == 2
    assert "cannot reach 127.0.0.1:1: connection refused" in err


def test_without_the_library_it_is_said_what_to_install(run, pushed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "urllib3", None)
    for name in ("http", "oci_api", "oci_auth", "oci_registry", "oci_upload"):
        monkeypatch.delitem(sys.modules, f"assay.remote.{name}", raising=False)

    status, _, err = run("copy", "team/m", "oci://127.0.0.1:1/r:v1")

    assert status == 2
    assert "pip install 'assay[oci]'" in err
