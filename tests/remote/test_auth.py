"""Credentials go where they belong, tokens are fetched, kept and renewed; what is refused is said with what to type."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest
from small_registry import State

from assay.errors import BadFormat, InvalidInput, MissingDependency, StorageError
from assay.remote.http import Http
from assay.remote.oci_address import Address, is_loopback
from assay.remote.oci_credentials import Credentials, find_credentials
from assay.remote.oci_registry import RegistryBlobs
from assay.spec.digest import Digest
from assay.trees.window import MemorySource

AUTH = base64.b64encode(b"ada:secret").decode()


@pytest.fixture
def login(tmp_path: Path, server):
    """``login(**body)``: what docker keeps for the registry."""

    def write(**body: object) -> None:
        folder = tmp_path / "docker"
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(body))

    return write


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """``helper(script)``: a program that keeps credentials, called ``test``."""

    def write(script: str) -> None:
        program = tmp_path / "bin/docker-credential-test"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    return write


@pytest.mark.parametrize("kind", ["basic", "bearer"])
def test_credentials_that_docker_keeps_are_used(api, state: State, login, server, kind: str) -> None:
    state.auth = kind
    login(auths={server.address: {"auth": AUTH}})
    blobs = RegistryBlobs(api())

    blobs.receive(Digest.of(b"data"), MemorySource(b"data"))

    assert blobs.open(Digest.of(b"data")).read(0, 4) == b"data"
    assert state.asked("GET", "/token") == (2 if kind == "bearer" else 0)  # one to write, one to read


def test_who_is_nobody_gets_a_token_where_that_is_enough(blobs: RegistryBlobs, state: State) -> None:
    state.auth = "bearer"

    assert blobs.size(Digest.of(b"data")) is None
    assert blobs.size(Digest.of(b"data")) is None
    (asked,) = [path for method, path in state.requests if path.startswith("/token")]
    assert "scope=repository%3Ateam%2Fmodel%3Apull&" in asked
    assert "service=small" in asked


def test_a_token_that_ran_out_is_fetched_anew(blobs: RegistryBlobs, state: State) -> None:
    state.auth = "bearer"
    blobs.size(Digest.of(b"data"))
    state.tokens = dict.fromkeys(state.tokens, 0.0)

    assert blobs.size(Digest.of(b"data")) is None
    assert state.asked("GET", "/token") == 2


def test_an_identity_token_is_exchanged(blobs: RegistryBlobs, state: State, login, server) -> None:
    state.auth = "bearer"
    login(auths={server.address: {"identitytoken": "identity"}})

    assert blobs.size(Digest.of(b"data")) is None
    assert state.asked("POST", "/token") == 1


def test_a_program_that_keeps_credentials_is_asked(
    blobs: RegistryBlobs, state: State, login, helper, server, tmp_path: Path
) -> None:
    state.auth = "basic"
    helper(
        f"read host; test \"$1 $host\" = 'get {server.address}' && "
        'echo \'{"ServerURL":"x","Username":"ada","Secret":"secret"}\''
    )
    login(credHelpers={server.address: "test"})

    assert blobs.size(Digest.of(b"data")) is None
    assert find_credentials("other.example", hub=False, environ={"HOME": str(tmp_path)}) is None


@pytest.mark.parametrize("answer", ["[]", "3", "null", "no"])
def test_a_program_that_gives_no_credentials_is_told(
    blobs: RegistryBlobs, state: State, login, helper, server, answer: str
) -> None:
    state.auth = "basic"
    helper(f"echo '{answer}'")
    login(credHelpers={server.address: "test"})

    with pytest.raises(InvalidInput) as caught:
        blobs.size(Digest.of(b"model"))
    assert caught.value.code == "bad-credentials"


def test_a_program_that_is_not_installed_is_named(blobs: RegistryBlobs, state: State, login) -> None:
    state.auth = "basic"
    login(credsStore="nothing-such")

    with pytest.raises(MissingDependency, match="docker-credential-nothing-such"):
        blobs.size(Digest.of(b"data"))


@pytest.mark.parametrize("kind", ["basic", "bearer"])
def test_wrong_credentials_are_told_from_none(api, state: State, login, server, kind: str) -> None:
    state.auth = kind
    login(auths={server.address: {"auth": base64.b64encode(b"ada:wrong").decode()}})
    with pytest.raises(StorageError, match="does not accept the credentials") as caught:
        RegistryBlobs(api()).size(Digest.of(b"data"))
    assert caught.value.code == "registry-unauthorized"
    assert f"docker login {server.address}" in (caught.value.hint or "")
    login()

    if kind == "basic":
        with pytest.raises(StorageError, match="no credentials are kept"):
            RegistryBlobs(api()).size(Digest.of(b"data"))


def test_what_the_owner_does_not_allow_is_told(blobs: RegistryBlobs, state: State) -> None:
    state.fault = lambda *_: 403

    with pytest.raises(StorageError, match="you may not do that") as caught:
        blobs.size(Digest.of(b"data"))
    assert caught.value.code == "registry-denied"
    assert len(state.requests) == 1


def test_credentials_do_not_follow_to_another_host(api, state: State, login, server) -> None:
    from small_registry import USER, Server

    state.auth = "basic"
    login(auths={server.address: {"auth": AUTH}})
    elsewhere = Server()
    try:
        elsewhere.state.blobs["far", "sha256:x"] = b"data"
        seen = []
        elsewhere.state.fault = lambda method, path, before: seen.append(path)
        target = f"http://{elsewhere.address}/v2/far/blobs/sha256:x"
        headers: list[str | None] = []
        original = elsewhere.RequestHandlerClass._handle
        elsewhere.RequestHandlerClass._handle = lambda self: (
            headers.append(self.headers.get("Authorization")),
            original(self),
        )[1]
        state.fault = lambda method, path, before: (
            (307, {"location": target}) if method == "GET" and "blobs" in path else None
        )
        state.blobs["team/model", str(Digest.of(b"data"))] = b"data"

        assert RegistryBlobs(api()).open(Digest.of(b"data")).read(0, 4) == b"data"
    finally:
        elsewhere.shutdown()
        elsewhere.server_close()

    assert headers == [None]
    assert USER not in headers


def test_a_token_service_without_encryption_gets_no_credentials(
    blobs: RegistryBlobs, state: State, login, server
) -> None:
    state.auth, state.realm = "bearer", "http://tokens.example/token"
    login(auths={server.address: {"auth": AUTH}})

    with pytest.raises(StorageError) as caught:
        blobs.size(Digest.of(b"data"))
    assert caught.value.code == "place-insecure"


@pytest.mark.parametrize("realm", ["", "file:///etc/passwd", "nonsense"])
def test_a_challenge_that_names_no_service_is_told(blobs: RegistryBlobs, state: State, realm: str) -> None:
    state.auth, state.realm = "bearer", realm

    with pytest.raises(BadFormat):
        blobs.size(Digest.of(b"data"))


def test_another_machine_is_not_spoken_to_without_encryption() -> None:
    with pytest.raises(StorageError) as caught:
        Http().request("GET", "http://registry.example/v2/", {})
    assert caught.value.code == "place-insecure"
    assert "--plain-http" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.0.0.1:5000", True),
        ("localhost:5000", True),
        ("[::1]:5000", True),
        ("registry.example", False),
        ("127.0.0.1.example:80", False),
        ("10.0.0.1:5000", False),
    ],
)
def test_what_counts_as_this_machine(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_files_are_looked_through_in_order(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "REGISTRY_AUTH_FILE": str(tmp_path / "podman.json")}
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker/config.json").write_text(
        json.dumps({"auths": {"https://index.docker.io/v1/": {"auth": AUTH}, "https://r.example": {"auth": AUTH}}})
    )
    (tmp_path / "podman.json").write_text(
        json.dumps({"auths": {"r.example": {"username": "podman", "password": "other"}}})
    )

    assert find_credentials("r.example", hub=False, environ=environ) == Credentials("podman", "other")
    assert find_credentials("docker.io", hub=True, environ=environ) == Credentials("ada", "secret")
    assert find_credentials("s.example", hub=False, environ=environ) is None
    assert "secret" not in repr(Credentials("ada", "secret"))


@pytest.mark.parametrize(
    "body", ["{", "[]", '{"auths": 3}', '{"auths": {"r.example": {"auth": "%%%"}}}', '{"credsStore": "../evil"}']
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, body: str) -> None:
    (tmp_path / "config.json").write_text(body)

    with pytest.raises(InvalidInput, match=r"config\.json cannot be read") as caught:
        find_credentials("r.example", hub=False, environ={"DOCKER_CONFIG": str(tmp_path), "HOME": str(tmp_path)})
    assert caught.value.code == "bad-credentials"


@pytest.mark.parametrize(
    "text", ["oci://", "oci://host", "oci:///dir", "oci://host/Upper", "oci://a b/c", "oci://h/r:", "oci://h/r@x"]
)
def test_what_is_no_repository_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        Address.parse(text)


def test_a_repository_is_read_with_port_tag_and_digest() -> None:
    digest = f"sha256:{'0' * 64}"
    assert str(Address.parse("oci://h.example:5000/a/b:v1")) == "oci://h.example:5000/a/b:v1"
    assert str(Address.parse(f"oci://localhost/a@{digest}")) == f"oci://localhost/a@{digest}"
    assert Address.parse("oci://docker.io/model").served_as == "library/model"
    assert Address.parse("oci://docker.io/a/b").served_at == "registry-1.docker.io"
