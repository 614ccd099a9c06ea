"""Marker, rules and local folder of a home in a bucket."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from objects_in_memory import MemoryObjects

from assay.blobs import bucket_home
from assay.blobs.bucket_home import RULES, open_bucket_home, refresh_rules
from assay.errors import AssayError, StorageError


def test_makers_at_the_same_moment_agree_on_one_home(tmp_path: Path) -> None:
    objects = MemoryObjects()
    with ThreadPoolExecutor(8) as pool:
        homes = list(pool.map(lambda own: open_bucket_home(objects, tmp_path / str(own), create=True), range(8)))
    assert len({home.id for home in homes}) == 1
    assert {(tmp_path / str(own) / "registry-id").read_text() for own in range(8)} == {homes[0].id}


def test_looking_makes_neither_a_home_nor_a_folder(tmp_path: Path) -> None:
    objects = MemoryObjects()
    with pytest.raises(AssayError) as caught:
        open_bucket_home(objects, tmp_path / "state")
    assert caught.value.code == "home-missing"
    assert objects.kept == {}
    assert not (tmp_path / "state").exists()


def test_rules_are_the_bucket_s_at_each_opening(tmp_path: Path) -> None:
    objects, state = MemoryObjects(), tmp_path / "state"
    open_bucket_home(objects, state, create=True)
    assert not any((state / name).exists() for name in RULES)
    objects.put("policy.toml", b"a")
    objects.put("retention.toml", b"b")
    (state / "promotion.toml").write_text("of somebody's own")
    open_bucket_home(objects, state)
    assert {name: (state / name).read_bytes() for name in RULES if (state / name).exists()} == {
        "policy.toml": b"a",
        "retention.toml": b"b",
    }
    objects.put("policy.toml", b"c")
    objects.delete("retention.toml")
    refresh_rules(objects, state)
    assert {name: (state / name).read_bytes() for name in RULES if (state / name).exists()} == {"policy.toml": b"c"}
    assert not [found for found in state.iterdir() if found.name.startswith(".")]


def test_rules_that_cannot_be_read_are_no_rules_absent(tmp_path: Path) -> None:
    objects, state = MemoryObjects(), tmp_path / "state"
    open_bucket_home(objects, state, create=True)
    objects.put("policy.toml", b"a")
    open_bucket_home(objects, state)

    def failing(key: str) -> bytes:
        raise StorageError("the bucket is away")

    objects.get = failing
    with pytest.raises(StorageError):
        refresh_rules(objects, state)
    assert (state / "policy.toml").read_bytes() == b"a"


def test_the_folder_of_another_home_in_the_same_place_is_moved_aside(tmp_path: Path) -> None:
    first, second, state = MemoryObjects(), MemoryObjects(), tmp_path / "state"
    open_bucket_home(first, state, create=True)
    (state / "catalog.sqlite3").write_text("rows")
    (state / "writer-id").write_text("id")
    open_bucket_home(second, state, create=True)
    assert [found.name for found in state.iterdir()] == ["registry-id"]
    (aside,) = tmp_path.glob("state.was-*")
    assert (aside / "catalog.sqlite3").read_text() == "rows"


def test_a_local_folder_on_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket_home, "network_mount", lambda path, table: ("/home", "nfs4"))
    with pytest.raises(StorageError) as caught:
        open_bucket_home(MemoryObjects(), tmp_path / "state", create=True)
    assert caught.value.code == "network-filesystem"
    assert "ASSAY_STATE" in (caught.value.hint or "")


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        open_bucket_home(MemoryObjects(), tmp_path / "file" / "state", create=True)


@pytest.mark.parametrize(
    "marker",
    [
        b"[" * 200_000,
        b'{"created":"2026-01-01T00:00:00Z","format":1e999,"id":"%s"}' % (b"0" * 32),
        b'{"created":"0001-01-01T00:00:00+14:00","format":1,"id":"%s"}' % (b"0" * 32),
        b'{"created":5,"format":1,"id":"%s"}' % (b"0" * 32),
        b'{"created":"2026-01-01T00:00:00Z","format":1,"id":"\\ud800"}',
        '{"created":"2026-01-01T00:00:00Z","format":1,"id":"é"}'.encode(),
        b'{"created":"2026-01-01T00:00:00Z","format":1,"id":" a"}',
        b'{"created":"2026-01-01T00:00:00Z","format":1,"id":"../../elsewhere"}',
    ],
)
def test_a_marker_that_is_none_is_told_and_changes_nothing_here(tmp_path: Path, marker: bytes) -> None:
    objects = MemoryObjects()
    objects.put("assay.json", marker)
    with pytest.raises(StorageError) as caught:
        open_bucket_home(objects, tmp_path / "state")
    assert caught.value.code == "home-damaged"
    assert list(tmp_path.iterdir()) == []
