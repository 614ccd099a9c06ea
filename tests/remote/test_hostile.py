"""Registries that lie, and those that send on to others: no credentials leave, nothing goes on without end."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator

import pytest
from small_registry import INDEX, Server, State

from assay.errors import BadFormat, StorageError
from assay.remote import oci_registry
from assay.remote.http import number, same_host
from assay.remote.oci_registry import RegistryBlobs, RegistryIndex
from assay.spec.digest import Digest
from assay.spec.json import canonical
from assay.spec.manifest import MANIFEST_TYPE, Manifest
from assay.trees.window import MemorySource

DATA = bytes(range(256)) * 64
OTHER = Digest.of(b"other")


@pytest.fixture
def elsewhere() -> Iterator[Server]:
    """Another host, which wants to know who is asking."""
    running = Server()
    running.state.auth = "basic"
    yield running
    running.shutdown()
    running.server_close()


@pytest.fixture
def told(elsewhere: Server) -> list[str | None]:
    """What the other host was told about who is asking, request by request."""
    headers: list[str | None] = []
    original = elsewhere.RequestHandlerClass._handle

    def handle(handler):
        headers.append(handler.headers.get("Authorization"))
        return original(handler)

    elsewhere.RequestHandlerClass._handle = handle
    return headers


@pytest.fixture
def known(state: State, server: Server, tmp_path) -> None:
    """The registry wants credentials, and docker keeps some for it."""
    state.auth = "basic"
    (tmp_path / "docker").mkdir()
    body = {"auths": {server.address: {"auth": "YWRhOnNlY3JldA=="}}}  # ada:secret
    (tmp_path / "docker/config.json").write_text(json.dumps(body))


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("kind", ["basic", "bearer"])
def test_who_only_takes_the_upload_gets_no_credentials(
    blobs: RegistryBlobs, state: State, elsewhere: Server, told: list[str | None], kind: str
) -> None:
    elsewhere.state.auth = kind
    place = f"http://{elsewhere.address}/v2/x/blobs/uploads/s0"
    state.fault = lambda method, path, before: (202, {"location": place}) if method == "POST" and before else None

    with pytest.raises(StorageError):
        blobs.receive(Digest.of(DATA), MemorySource(DATA))

    assert told
    assert set(told) == {None}
    assert not elsewhere.state.asked("GET", "/token")


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("kind", ["basic", "bearer"])
def test_who_a_registry_sends_on_to_is_not_told_who_is_asking(
    blobs: RegistryBlobs, state: State, elsewhere: Server, told: list[str | None], kind: str
) -> None:
    digest = Digest.of(DATA)
    state.blobs["team/model", str(digest)] = DATA
    elsewhere.state.auth = kind
    place = f"http://{elsewhere.address}/v2/x/blobs/{digest}"
    source = blobs.open(digest)
    state.fault = lambda method, path, before: (307, {"location": place}) if "/blobs/" in path else None

    with pytest.raises(StorageError):
        source.read(0, 10)
    with pytest.raises(StorageError):
        blobs.size(digest)

    assert told
    assert set(told) == {None}
    assert not elsewhere.state.asked("GET", "/token")


@pytest.mark.usefixtures("known")
def test_the_next_page_at_another_host_is_asked_for_without_credentials(
    index: RegistryIndex, state: State, elsewhere: Server, told: list[str | None]
) -> None:
    place = f'<http://{elsewhere.address}/v2/x/tags/list>; rel="next"'
    state.fault = lambda method, path, before: (200, {"data": b'{"tags":["a"]}', "link": place}) if before else None

    with pytest.raises(StorageError):
        len(index.tags())

    assert told == [None]


def test_a_digest_that_is_asked_for_is_the_one_that_counts(index: RegistryIndex, state: State) -> None:
    asked = Digest.of(b"asked for")
    state.fault = lambda method, path, before: (200, {"docker_content_digest": str(OTHER)})

    assert index.tags()[str(asked)].digest == asked
    assert index.tags()["tag"].digest == OTHER


def test_a_manifest_that_is_named_by_no_digest_is_told(index: RegistryIndex, state: State) -> None:
    state.fault = lambda method, path, before: (200, {"docker_content_digest": "../../etc/passwd"})

    with pytest.raises(BadFormat, match="names a manifest by no digest"):
        index.tags()["tag"]


def test_lists_without_end_are_given_up(index: RegistryIndex, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oci_registry, "_MOST_PAGES", 5)
    body = b'{"tags":[],"manifests":[]}'
    state.fault = lambda method, path, before: (
        200,
        {"data": body, "link": f'<{path}>; rel="next"', "content_type": INDEX},
    )

    for ask in (lambda: len(index.tags()), lambda: index.referrers(OTHER)):
        with pytest.raises(StorageError, match="pages without end") as caught:
            ask()
        assert caught.value.code == "place-odd"
    assert state.asked("GET") == 10


@pytest.mark.parametrize(("name", "most"), [("_LARGEST_LIST", 100), ("_MOST_TAGS", 3), ("_MOST_REFERRERS", 3)])
def test_lists_that_are_too_long_are_given_up(
    index: RegistryIndex, state: State, monkeypatch: pytest.MonkeyPatch, name: str, most: int
) -> None:
    monkeypatch.setattr(oci_registry, name, most)
    listed = [{"mediaType": "x", "digest": str(Digest.of(bytes([one]))), "size": 1} for one in range(4)]
    body = json.dumps({"tags": [f"tag-{one}" for one in range(4)], "manifests": listed}).encode()
    state.fault = lambda method, path, before: (200, {"data": body, "content_type": INDEX})

    with pytest.raises(StorageError, match="answers with"):
        index.referrers(OTHER) if "REF" in name else len(index.tags())


def test_ranges_without_a_byte_are_asked_for_a_bounded_number_of_times(
    blobs: RegistryBlobs, state: State, waits: list[float]
) -> None:
    digest = Digest.of(DATA)
    state.blobs["team/model", str(digest)] = DATA
    source = blobs.open(digest)
    state.fault = lambda method, path, before: (206, {})

    with pytest.raises(StorageError, match="fewer bytes than were asked for"):
        source.read(0, 100)
    assert state.asked("GET") == 5
    assert len(waits) == 4


def test_more_than_was_asked_for_is_not_read(blobs: RegistryBlobs, state: State) -> None:
    digest = Digest.of(DATA)
    state.blobs["team/model", str(digest)] = DATA
    source = blobs.open(digest)
    state.fault = lambda method, path, before: (206, {"data": DATA[50:]})

    assert [source.read(50, 20), source.read(50, 7)] == [DATA[50:70], DATA[50:57]]


def test_a_range_that_was_not_asked_for_is_not_taken(blobs: RegistryBlobs, state: State) -> None:
    digest = Digest.of(DATA)
    state.blobs["team/model", str(digest)] = DATA
    source = blobs.open(digest)
    state.fault = lambda method, path, before: (206, {"data": DATA[:20], "content_range": f"bytes 0-19/{len(DATA)}"})

    with pytest.raises(StorageError) as caught:
        source.read(50, 20)
    assert caught.value.code == "ranges-refused"


@pytest.mark.parametrize(
    ("text", "expected"), [("7", 7), (" 12 ", 12), ("", None), ("-1", None), ("²", None), ("9" * 5000, None)]
)
def test_a_number_in_a_header_is_read_or_ignored(text: str, expected: int | None) -> None:
    assert number(text) == expected


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("https://a/v2/", "https://a:443/x", True),
        ("https://A/", "https://a/", True),
        ("https://a/", "http://a/", False),
        ("https://a/", "https://a.b/", False),
        ("https://a/", "https://a:8443/", False),
        ("https://a/", "https://a@b/", False),
        ("https://a/", "https://a:x/", False),
    ],
)
def test_what_counts_as_the_same_host(one: str, other: str, expected: bool) -> None:
    assert same_host(one, other) is expected


@pytest.mark.parametrize("target", ["http://[bad/", "http://127.0.0.1:port/x", "//[::1"])
def test_a_registry_that_sends_on_to_what_is_no_address_is_told(
    blobs: RegistryBlobs, index: RegistryIndex, state: State, target: str
) -> None:
    state.fault = lambda method, path, before: (307, {"location": target})
    with pytest.raises(StorageError, match="no address") as caught:
        blobs.size(OTHER)
    assert caught.value.code == "place-odd"

    state.fault = lambda method, path, before: (200, {"data": b'{"tags":["a"]}', "link": f'<{target}>; rel="next"'})
    with pytest.raises(StorageError, match="no address"):
        len(index.tags())


def test_a_token_service_that_has_no_address_is_told(blobs: RegistryBlobs, state: State) -> None:
    state.auth, state.realm = "bearer", "http://[bad/token"
    with pytest.raises(BadFormat, match="no token service"):
        blobs.size(OTHER)


def test_what_fails_where_bytes_go_is_not_laid_on_the_registry(blobs: RegistryBlobs, state: State) -> None:
    digest = Digest.of(DATA)
    state.blobs["team/model", str(digest)] = DATA
    source = blobs.open(digest)

    def keep() -> None:
        with source.stream(0) as arriving:
            next(arriving)
            raise OSError(errno.ENOSPC, "no room here")

    with pytest.raises(OSError, match="no room"):
        keep()

    state.fault = lambda method, path, before: (200, {"data": DATA, "content_length": str(len(DATA) + 1)})
    with pytest.raises(StorageError, match="cannot reach"), source.stream(0) as arriving:
        list(arriving)


def test_what_other_tools_wrote_into_a_list_of_referrers_stays_as_they_wrote_it(
    index: RegistryIndex, state: State
) -> None:
    state.referrers = False
    subject = {"mediaType": MANIFEST_TYPE, "digest": str(OTHER), "size": 5}
    empty = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": str(Digest.of(b"{}")), "size": 2}
    theirs = {**subject, "platform": {"os": "linux", "architecture": "arm64"}, "data": "b3RoZXI="}
    stand_in = f"sha256-{OTHER.hex}"
    whole = {"schemaVersion": 2, "mediaType": INDEX, "annotations": {"team": "x"}, "manifests": [theirs]}
    index._put(stand_in, json.dumps(whole).encode(), INDEX)
    said = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": empty, "layers": [empty], "subject": subject}
    manifest = Manifest.parse(canonical(said))

    index.put(manifest)

    kept = json.loads(index._get(stand_in))
    assert kept["annotations"] == {"team": "x"}
    assert kept["manifests"][0] == theirs
    assert [one["digest"] for one in kept["manifests"]] == [str(OTHER), str(manifest.digest)]


def test_a_token_that_lasts_for_longer_than_there_are_numbers_is_told(blobs: RegistryBlobs, state: State) -> None:
    state.auth = "bearer"
    token = b'{"token":"a","expires_in":1' + bytes(400).replace(b"\0", b"0") + b"}"
    state.fault = lambda method, path, before: (200, {"data": token}) if "/token" in path else None
    with pytest.raises(BadFormat, match="gives no token"):
        blobs.size(OTHER)


@pytest.mark.parametrize("size", [1 << 20, 9 << 20])
def test_a_source_that_fails_while_it_is_sent_is_not_laid_on_the_registry(blobs: RegistryBlobs, size: int) -> None:
    class Rotten(MemorySource):
        def read(self, offset: int, length: int) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(StorageError, match="input/output error") as caught:
        blobs.receive(Digest.of(bytes(size)), Rotten(bytes(size)))
    assert caught.value.code == "storage"
