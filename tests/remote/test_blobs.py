"""Blobs of a repository: read by ranges and plainly, uploaded whole and in pieces, through every fault that passes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from small_registry import State

from assay.errors import IntegrityError, NotFound, StorageError
from assay.ports.progress import SILENT
from assay.remote import oci_upload
from assay.remote.oci_registry import RegistryBlobs
from assay.spec.digest import Digest
from assay.streams.bringing import bring
from assay.trees.window import MemorySource

DATA = os.urandom(10 << 20)
DIGEST = Digest.of(DATA)
HELD = ("team/model", str(DIGEST))


class Counting(type(SILENT)):
    def __init__(self) -> None:
        self.total = 0

    def advance(self, count: int) -> None:
        self.total += count


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oci_upload, "ONE_REQUEST", 1 << 20)
    monkeypatch.setattr(oci_upload, "PIECE", 4 << 20)
    monkeypatch.setattr(oci_upload, "LEAST_PIECE", 256 << 10)


def fetched(blobs: RegistryBlobs, file: Path, *, have: int = 0):
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT)
    try:
        return bring(blobs.open(DIGEST), descriptor, have=have)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1, 4 << 20, (9 << 20) + 7])
def test_what_was_uploaded_is_read_back_at_any_offset(blobs: RegistryBlobs, size: int) -> None:
    data = DATA[:size]
    told = Counting()

    received = blobs.receive(Digest.of(data), MemorySource(data), progress=told)

    assert (received.size, received.plain, told.total) == (size, False, size)
    source = blobs.open(Digest.of(data))
    assert source.size == size
    assert source.read(0, size) == data
    assert source.read(size // 3, 100) == data[size // 3 : size // 3 + 100]
    assert source.read(size, 10) == b""


def test_a_blob_that_is_not_there_is_said_to_be_missing(blobs: RegistryBlobs) -> None:
    assert blobs.size(DIGEST) is None
    with pytest.raises(NotFound) as caught:
        blobs.open(DIGEST)
    assert caught.value.code == "blob-missing"


def test_an_upload_goes_on_within_a_piece_that_was_cut(blobs: RegistryBlobs, state: State) -> None:
    state.fault = lambda method, path, before: (
        "cut" if method == "PATCH" and state.received["PATCH"] == 4 << 20 else None
    )

    received = blobs.receive(DIGEST, MemorySource(DATA))

    assert state.blobs[HELD] == DATA
    assert state.received["PATCH"] <= len(DATA) + oci_upload.BLOCK
    assert state.asked("POST") == 1
    assert not received.plain


def test_a_later_process_goes_on_with_an_upload(api, state: State) -> None:
    state.fault = lambda method, path, before: 403 if method == "PATCH" and state.received["PATCH"] else None
    with pytest.raises(StorageError) as caught:
        RegistryBlobs(api()).receive(DIGEST, MemorySource(DATA))
    assert caught.value.code == "registry-denied"
    state.fault = lambda *_: None
    told = Counting()

    received = RegistryBlobs(api()).receive(DIGEST, MemorySource(DATA), progress=told)

    assert received.resumed == 4 << 20
    assert state.received["PATCH"] == len(DATA)
    assert state.asked("POST") == 1
    assert told.total == len(DATA)
    assert state.blobs[HELD] == DATA


def test_a_session_that_the_registry_forgot_is_begun_anew(api, state: State, tmp_path: Path) -> None:
    state.fault = lambda method, path, before: 403 if method == "PATCH" and state.received["PATCH"] else None
    with pytest.raises(StorageError):
        RegistryBlobs(api()).receive(DIGEST, MemorySource(DATA))
    state.fault = lambda *_: None
    state.sessions.clear()

    assert RegistryBlobs(api()).receive(DIGEST, MemorySource(DATA)).resumed == 0
    assert state.blobs[HELD] == DATA
    assert list((tmp_path / "uploads").iterdir()) == []


def test_a_session_with_other_bytes_than_ours_is_not_believed(api, state: State) -> None:
    state.fault = lambda method, path, before: 403 if method == "PATCH" and state.received["PATCH"] else None
    with pytest.raises(StorageError):
        RegistryBlobs(api()).receive(DIGEST, MemorySource(DATA))
    state.fault = lambda *_: None
    (held,) = state.sessions.values()
    held[:3] = b"bad"

    RegistryBlobs(api()).receive(DIGEST, MemorySource(DATA))

    assert state.blobs[HELD] == DATA


def test_a_registry_that_takes_no_pieces_gets_one_request(blobs: RegistryBlobs, state: State) -> None:
    state.pieces = False

    assert blobs.receive(DIGEST, MemorySource(DATA)).plain
    assert state.blobs[HELD] == DATA


def test_pieces_become_smaller_where_they_are_too_large(blobs: RegistryBlobs, state: State) -> None:
    state.largest = 1 << 20

    assert not blobs.receive(DIGEST, MemorySource(DATA)).plain
    assert state.blobs[HELD] == DATA


def test_what_no_piece_is_small_enough_for_is_said(blobs: RegistryBlobs, state: State) -> None:
    state.largest = 1000

    with pytest.raises(StorageError) as caught:
        blobs.receive(DIGEST, MemorySource(DATA))
    assert caught.value.code == "registry-too-large"
    assert HELD not in state.blobs


@pytest.mark.parametrize("size", [100, 10 << 20])
def test_bytes_that_do_not_match_never_appear(blobs: RegistryBlobs, state: State, size: int, tmp_path: Path) -> None:
    with pytest.raises(IntegrityError):
        blobs.receive(DIGEST, MemorySource(DATA[: size - 1] + b"x"))

    assert state.blobs == {}
    assert state.sessions == {} or size == 100
    assert not list((tmp_path / "uploads").glob("*"))


@pytest.mark.parametrize("size", [1000, 10 << 20])
def test_an_answer_that_was_lost_after_the_blob_was_kept_does_not_send_it_again(
    blobs: RegistryBlobs, state: State, size: int
) -> None:
    data = DATA[:size]
    put = []

    def lose(method: str, path: str, before: int) -> int | None:
        if method == "PUT" and not put:
            put.append(path)
            state.blobs["team/model", str(Digest.of(data))] = data
            return 502
        return None

    state.fault = lose
    blobs.receive(Digest.of(data), MemorySource(data))

    assert state.asked("PUT") == 1
    assert state.asked("POST") == 1


@pytest.mark.parametrize("fault", [503, 429, "cut", "stall"])
def test_what_passes_is_tried_again(blobs: RegistryBlobs, state: State, waits: list[float], fault: int | str) -> None:
    state.blobs[HELD] = DATA
    state.fault = lambda method, path, before: fault if before == 0 else None

    assert blobs.open(DIGEST).read(5, 1 << 20) == DATA[5 : 5 + (1 << 20)]
    assert len(waits) >= 1
    assert all(0 < wait < 30 for wait in waits)


def test_the_registry_says_how_long_to_wait(blobs: RegistryBlobs, state: State, waits: list[float]) -> None:
    state.blobs[HELD] = DATA
    state.fault = lambda method, path, before: (429, {"retry_after": "7"}) if before == 0 else None

    assert blobs.size(DIGEST) == len(DATA)
    assert 7 <= waits[0] <= 9


def test_who_never_answers_is_given_up_after_a_bounded_number_of_attempts(blobs: RegistryBlobs, state: State) -> None:
    state.fault = lambda *_: 503

    with pytest.raises(StorageError) as caught:
        blobs.size(DIGEST)
    assert caught.value.code == "place-unreachable"
    assert len(state.requests) == 5


def test_a_range_that_breaks_off_is_read_on_from_there(blobs: RegistryBlobs, state: State) -> None:
    state.blobs[HELD] = DATA
    state.fault = lambda method, path, before: "cut" if method == "GET" and before < 3 else None

    assert blobs.open(DIGEST).read(0, len(DATA)) == DATA


def test_a_registry_without_ranges_is_read_by_one_plain_request(
    blobs: RegistryBlobs, state: State, tmp_path: Path
) -> None:
    state.blobs[HELD], state.ranges = DATA, False

    arrived = fetched(blobs, tmp_path / "file")

    assert (arrived.digest, arrived.plain) == (DIGEST, True)
    assert (tmp_path / "file").read_bytes() == DATA


def test_a_plain_request_that_breaks_off_goes_on_where_it_was(
    blobs: RegistryBlobs, state: State, tmp_path: Path
) -> None:
    state.blobs[HELD] = DATA
    cuts = []

    def fault(method: str, path: str, before: int) -> str | int | None:
        if method != "GET":
            return None
        if "#" in path and not path.endswith("-"):
            return 503
        if len(cuts) < 2:
            cuts.append(path)
            return "cut"
        return None

    state.fault = fault
    arrived = fetched(blobs, tmp_path / "file")

    assert (arrived.digest, arrived.plain) == (DIGEST, True)
    assert (tmp_path / "file").read_bytes() == DATA
    assert "#bytes=4194304-" in cuts[1]


def test_what_is_in_the_file_is_not_fetched_again(blobs: RegistryBlobs, state: State, tmp_path: Path) -> None:
    state.blobs[HELD] = DATA
    (tmp_path / "file").write_bytes(DATA[: 9 << 20])

    arrived = fetched(blobs, tmp_path / "file", have=9 << 20)

    assert (arrived.digest, arrived.resumed) == (DIGEST, 8 << 20)
    assert state.asked("GET") == 1


def test_a_blob_of_another_repository_is_taken_over_without_sending_it(api, state: State) -> None:
    state.blobs["team/other", str(DIGEST)] = DATA

    received = RegistryBlobs(api(), mounts=("team/nothing", "team/other")).receive(DIGEST, MemorySource(DATA))

    assert received.shared
    assert state.blobs[HELD] == DATA
    assert state.received == {}


def test_the_file_with_a_session_is_for_its_user_alone(api, state: State, tmp_path: Path) -> None:
    state.fault = lambda method, path, before: 403 if method == "PATCH" and state.received["PATCH"] else None
    with pytest.raises(StorageError):
        RegistryBlobs(api()).receive(DIGEST, MemorySource(DATA))

    (file,) = (tmp_path / "uploads").iterdir()
    assert file.stat().st_mode & 0o077 == 0
    assert json.loads(file.read_text())["session"].startswith("http://127.0.0.1:")
