"""MLflow servers that are not kind: what they answer is bounded and cannot lead the reader elsewhere.

The real server is tried in ``tests/interop/test_other_registries.py``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assay.errors import AssayError, BadFormat, NotFound
from assay.importers import mlflow_server
from assay.importers.mlflow_server import MlflowServer
from assay.ports.importers import Offered, Unreadable

Answer = tuple[int, bytes]


class Fake:
    """Answers routes from a table; remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Answer] | Answer | Callable[[dict[str, list[str]]], Answer]] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                fake.asked.append((self.path, dict(self.headers)))
                status, body = fake.answer(parts.path, parse_qs(parts.query))
                self.send_response(status)
                if status in {301, 302, 307}:
                    self.send_header("Location", body.decode())
                    body = b""
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_port}"

    def answer(self, path: str, query: dict[str, list[str]]) -> Answer:
        found = self.answers.get(path.removeprefix("/api/2.0/"), (404, b'{"message": "no such thing"}'))
        if callable(found):
            return found(query)
        if isinstance(found, list):
            return found.pop(0) if len(found) > 1 else found[0]
        return found

    def says(self, route: str, body: object) -> None:
        self.answers[route] = (200, json.dumps(body).encode())

    def one_version(self, artifact_uri: str) -> None:
        """A registry with one model of one version that lies at a place."""
        self.says("mlflow/registered-models/search", {"registered_models": [{"name": "m"}]})
        self.says("mlflow/registered-models/get", {"registered_model": {"name": "m", "aliases": []}})
        self.says("mlflow/model-versions/search", {"model_versions": [{"name": "m", "version": "1"}]})
        self.says("mlflow/model-versions/get-download-uri", {"artifact_uri": artifact_uri})


@pytest.fixture
def fake() -> Iterator[Fake]:
    made = Fake()
    thread = Thread(target=made.http.serve_forever, daemon=True)
    thread.start()
    yield made
    made.http.shutdown()
    made.http.server_close()
    thread.join()


def offered(address: str, **environ: str) -> list[Offered | Unreadable]:
    return list(MlflowServer(address, environ=environ).offered())


def opened(found: Offered | Unreadable) -> dict[str, bytes]:
    assert isinstance(found, Offered), found
    with found.open() as files:
        return {path: file.read_bytes() for path, file in files.paths.items()}


def test_files_come_through_the_server_folder_by_folder(fake: Fake) -> None:
    fake.one_version("mlflow-artifacts:/1/a b/artifacts")
    listing = {
        "1/a b/artifacts": [{"path": "w.bin", "is_dir": False}, {"path": "sub", "is_dir": True}],
        "1/a b/artifacts/sub": [{"path": "x", "is_dir": False}],
    }
    fake.answers["mlflow-artifacts/artifacts"] = lambda query: (
        200,
        json.dumps({"files": listing[query["path"][0]]}).encode(),
    )
    fake.answers["mlflow-artifacts/artifacts/1/a%20b/artifacts/w.bin"] = (200, b"weights")
    fake.answers["mlflow-artifacts/artifacts/1/a%20b/artifacts/sub/x"] = (200, b"")
    (found,) = offered(fake.address)
    assert opened(found) == {"w.bin": b"weights", "sub/x": b""}


@pytest.mark.parametrize("name", ["../../evil", "/etc/passwd", "a/../../b", "a\0b"])
def test_a_server_cannot_name_a_file_outside(fake: Fake, name: str) -> None:
    fake.one_version("mlflow-artifacts:/1")
    fake.says("mlflow-artifacts/artifacts", {"files": [{"path": name, "is_dir": False}]})
    (found,) = offered(fake.address)
    with pytest.raises(Exception, match=r"path|name"):
        opened(found)
    assert not any("evil" in path or "passwd" in path for path, _ in fake.asked)


def test_folders_without_end_are_not_followed_without_end(fake: Fake) -> None:
    fake.one_version("mlflow-artifacts:/1")
    fake.says("mlflow-artifacts/artifacts", {"files": [{"path": "again", "is_dir": True}]})
    (found,) = offered(fake.address)
    with pytest.raises(BadFormat, match="deep"):
        opened(found)


@pytest.mark.parametrize(
    "place", ["mlflow-artifacts://other.example/1", "http://other.example/x", "s3://bucket/key", "ftp://x/y"]
)
def test_bytes_elsewhere_are_not_fetched(fake: Fake, place: str) -> None:
    fake.one_version(place)
    (found,) = offered(fake.address)
    assert isinstance(found, Unreadable)
    assert found.error.code == "location-elsewhere"


def test_a_server_on_another_machine_cannot_name_files_of_this_one(monkeypatch: pytest.MonkeyPatch, fake: Fake) -> None:
    fake.one_version("/etc")
    monkeypatch.setattr("assay.importers.mlflow_server._LOOPBACK", frozenset())
    (found,) = offered(fake.address)
    assert isinstance(found, Unreadable)
    assert found.error.code == "location-elsewhere"


def test_a_redirect_is_not_followed_and_credentials_go_to_nobody_else(fake: Fake) -> None:
    fake.answers["mlflow/registered-models/search"] = (302, f"{fake.address}/elsewhere".encode())
    with pytest.raises(BadFormat):
        offered(fake.address.replace("http://", "http://ada:secret@"))
    assert len(fake.asked) == 1
    assert fake.asked[0][1]["Authorization"].startswith("Basic ")


def test_credentials_come_from_the_environment_too_and_are_in_no_message(fake: Fake) -> None:
    fake.says("mlflow/registered-models/search", {})
    offered(fake.address, MLFLOW_TRACKING_TOKEN="token")
    assert fake.asked[-1][1]["Authorization"] == "Bearer token"
    fake.answers["mlflow/registered-models/search"] = (401, b'{"message": "who are you"}')
    with pytest.raises(NotFound) as caught:
        offered(fake.address.replace("http://", "http://ada:secret@"))
    assert "secret" not in str(caught.value.to_json())
    assert "MLFLOW_TRACKING_TOKEN" in str(caught.value.hint)


def test_a_busy_server_is_asked_again_and_a_broken_one_is_said_so(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.importers.mlflow_server.time.sleep", lambda _: None)
    fake.answers["mlflow/registered-models/search"] = [(503, b""), (429, b""), (200, b"{}")]
    assert offered(fake.address) == []
    fake.answers["mlflow/registered-models/search"] = (503, b"")
    with pytest.raises(BadFormat, match="503"):
        offered(fake.address)


@pytest.mark.parametrize("body", [b"<html>", b"[1]", b"\xff", b"[" * 100_000])
def test_what_is_no_mlflow_server_is_said_so(fake: Fake, body: bytes) -> None:
    fake.answers["mlflow/registered-models/search"] = (200, body)
    with pytest.raises(BadFormat) as caught:
        offered(fake.address)
    assert caught.value.code == "not-mlflow"


def test_a_server_that_is_not_there_is_said_so() -> None:
    with pytest.raises(NotFound) as caught:
        offered("http://127.0.0.1:9")
    assert caught.value.code == "import-source-missing"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["1", "runs:/r/m"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from("name version run_id run source aliases alias tags key value metrics data info".split()),
            inner,
            max_size=4,
        )
    ),
    max_leaves=6,
)
ROUTES = {
    "mlflow/registered-models/search": "registered_models",
    "mlflow/registered-models/get": "registered_model",
    "mlflow/model-versions/search": "model_versions",
    "mlflow/model-versions/get-download-uri": "artifact_uri",
    "mlflow/runs/get": "run",
    "mlflow-artifacts/artifacts": "files",
}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(st.sampled_from(sorted(ROUTES)), VALUES, st.booleans())
def test_a_server_may_answer_anything(fake: Fake, route: str, value: object, bare: bool) -> None:
    fake.one_version("mlflow-artifacts:/1")
    version = {"name": "m", "version": "1", "run_id": "r"}
    fake.says("mlflow/model-versions/search", {"model_versions": [version]})
    fake.says("mlflow/runs/get", {"run": {"info": {}, "data": {}}})
    fake.says(route, value if bare else {ROUTES[route]: value})
    try:
        for found in offered(fake.address):
            if isinstance(found, Offered):
                with found.open():
                    pass
    except AssayError:
        pass


def test_a_search_that_never_ends_is_ended(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow_server, "_MAX_ROWS", 20)
    count = iter(range(1000))
    fake.answers["mlflow/registered-models/search"] = lambda _: (
        200,
        json.dumps({"registered_models": [], "next_page_token": str(next(count))}).encode(),
    )
    with pytest.raises(BadFormat, match="more than 20"):
        offered(fake.address)


def test_an_error_that_is_nested_without_end_is_an_error(fake: Fake) -> None:
    fake.answers["mlflow/registered-models/search"] = (400, b"[" * 4096)
    with pytest.raises(BadFormat):
        offered(fake.address)


def test_a_folder_of_the_server_that_is_mounted_here_is_read(fake: Fake, tmp_path: Path) -> None:
    fake.one_version("/srv/models/1")
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "w").write_bytes(b"1")
    (found,) = MlflowServer(fake.address, {"/srv/models": tmp_path}, environ={}).offered()
    assert opened(found) == {"w": b"1"}
    (found,) = MlflowServer(fake.address, {"/srv/other": tmp_path}, environ={}).offered()
    assert isinstance(found, Unreadable)


def test_folders_beside_each_other_without_end_are_not_all_asked_for(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_server, "_MAX_FILES", 50)
    fake.one_version("mlflow-artifacts:/1")
    names = [{"path": f"f{number}", "is_dir": True} for number in range(100)]
    fake.answers["mlflow-artifacts/artifacts"] = lambda query: (
        200,
        json.dumps({"files": names if "/" not in query["path"][0] else []}).encode(),
    )
    (found,) = offered(fake.address)
    with pytest.raises(BadFormat, match="more than 50 folders"):
        opened(found)
