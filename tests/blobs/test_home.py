"""Homes: made once, migrated after a backup, refused when they cannot be right."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from assay.blobs.directory import DirectoryStore
from assay.blobs.home import CURRENT, FORMAT, PACKED, Layout, open_home, raise_format
from assay.blobs.packs.store import PackedStore
from assay.catalog.opening import open_catalog
from assay.errors import InvalidInput, NotFound, StorageError
from assay.ports.packs import ToPack
from assay.testing.catalog import everything, push


def test_a_new_home_is_a_valid_oci_image_layout_with_a_format_version(tmp_path: Path) -> None:
    home = open_home(tmp_path / "deep" / "home")
    assert json.loads((home.root / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((home.root / "index.json").read_bytes())
    assert index == {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []}
    assert (home.root / "blobs" / "sha256").is_dir()
    marker = json.loads((home.root / "assay.json").read_bytes())
    assert marker["format"] == home.format == FORMAT
    assert datetime.now(UTC) - home.created < timedelta(minutes=1)
    assert datetime.fromisoformat(marker["created"]) == home.created


def test_opening_again_changes_nothing(tmp_path: Path) -> None:
    first = open_home(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert open_home(tmp_path, create=False) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_many_openers_at_once_make_one_home(tmp_path: Path) -> None:
    script = "import sys, pathlib, assay.blobs.home as h; print(h.open_home(pathlib.Path(sys.argv[1])).created)"
    pool = ThreadPoolExecutor(8)
    threads = [pool.submit(open_home, tmp_path / "home") for _ in range(8)]
    others = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "home")], stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    assert {other.communicate(timeout=60)[0] for other in others} == {f"{threads[0].result().created}\n".encode()}
    assert len({job.result() for job in threads}) == 1
    assert list((tmp_path / "home" / "staging").iterdir()) == []
    pool.shutdown()


def test_a_missing_home_is_not_made_unless_asked(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        open_home(tmp_path / "home", create=False)
    assert caught.value.code == "home-missing"
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_place_with_other_things_is_not_made_a_home(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "place"
    if kind == "file":
        place.write_text("notes")
    else:
        place.mkdir()
        (place / "thesis.tex").write_text("notes")
    with pytest.raises(InvalidInput) as caught:
        open_home(place)
    assert caught.value.code == "not-a-home"
    assert kind == "file" or [path.name for path in place.iterdir()] == ["thesis.tex"]


def test_a_newer_home_is_refused_untouched(tmp_path: Path) -> None:
    open_home(tmp_path)
    (tmp_path / "assay.json").write_text('{"created":"2030-01-01T00:00:00Z","format":99,"new":true}')
    with pytest.raises(StorageError, match="format 99") as caught:
        open_home(tmp_path)
    assert caught.value.code == "home-too-new"
    assert "upgrade" in (caught.value.hint or "")
    assert "new" in (tmp_path / "assay.json").read_text()


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format":"x","created":"2030-01-01T00:00:00Z"}', '{"format":1}', "\0"]
)
def test_a_damaged_marker_is_said_so(tmp_path: Path, text: str) -> None:
    open_home(tmp_path)
    (tmp_path / "assay.json").write_text(text)
    with pytest.raises(StorageError) as caught:
        open_home(tmp_path)
    assert caught.value.code == "home-damaged"


def test_an_older_home_is_migrated_step_by_step_after_a_backup(tmp_path: Path) -> None:
    home = open_home(tmp_path)
    catalog = open_catalog(home.catalog, home.journal)
    push(catalog, "m", 1)
    before, journal = everything(catalog), home.journal.read_bytes()
    ran: list[int] = []
    later = Layout(3, {1: lambda root: ran.append(1), 2: lambda root: ran.append(2)})

    migrated = open_home(tmp_path, layout=later)

    assert (migrated.format, ran) == (3, [1, 2])
    assert migrated.created == home.created
    (backup,) = (tmp_path / "backups").iterdir()
    assert (backup / "journal.jsonl").read_bytes() == journal
    assert json.loads((backup / "assay.json").read_bytes())["format"] == 1
    assert everything(open_catalog(backup / "catalog.sqlite3", backup / "journal.jsonl")) == before
    assert open_home(tmp_path, layout=later) == migrated
    assert ran == [1, 2]
    with pytest.raises(StorageError):
        open_home(tmp_path, layout=CURRENT)


def test_a_migration_that_fails_is_taken_up_where_it_stopped(tmp_path: Path) -> None:
    open_home(tmp_path)
    ran: list[int] = []

    def fail(root: Path) -> None:
        raise OSError(5, "Input/output error")

    with pytest.raises(StorageError):
        open_home(tmp_path, layout=Layout(3, {1: lambda root: ran.append(1), 2: fail}))
    assert open_home(tmp_path, layout=Layout(2, {})).format == 2
    open_home(tmp_path, layout=Layout(3, {1: lambda root: ran.append(1), 2: lambda root: ran.append(2)}))
    assert ran == [1, 2]


def test_a_home_on_a_network_file_system_is_refused_with_the_way_out(tmp_path: Path) -> None:
    table = f"22 1 8:1 / / rw - ext4 /dev/vda rw\n30 22 0:40 / {tmp_path} rw - nfs4 server:/x rw\n"
    with pytest.raises(StorageError, match="nfs4") as caught:
        open_home(tmp_path / "home", mountinfo=table)
    assert caught.value.code == "network-filesystem"
    assert "ASSAY_HOME" in (caught.value.hint or "")
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("umask", "blob", "file", "folder"), [(0o002, 0o444, 0o664, 0o775), (0o077, 0o400, 0o600, 0o700)]
)
def test_a_shared_home_follows_the_umask(tmp_path: Path, umask: int, blob: int, file: int, folder: int) -> None:
    before = os.umask(umask)
    try:
        home = open_home(tmp_path / "home")
        catalog = open_catalog(home.catalog, home.journal)
        push(catalog, "m", 1)
        store = DirectoryStore(home.root)
        (tmp_path / "moved").write_bytes(b"moved")
        (tmp_path / "moved").chmod(0o777)
        stored = [store.add(b"weights"), store.add_file(tmp_path / "moved")[0]]
    finally:
        os.umask(before)
    for digest in stored:
        local = store.local_file(digest)
        assert local is not None
        assert local.stat().st_mode & 0o777 == blob
    for path in (home.journal, home.catalog, home.root / "assay.json", home.root / "catalog.sqlite3-wal"):
        assert path.stat().st_mode & 0o777 == file, path
    for path in (home.root, home.root / "blobs" / "sha256", home.root / "staging"):
        assert path.stat().st_mode & 0o777 == folder, path


def test_a_file_is_no_home_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for create in (True, False):
        with pytest.raises(InvalidInput, match="is a file; a registry is a folder"):
            open_home(tmp_path / "file", create=create)


def test_a_home_without_its_marker_is_damaged_not_missing(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    home.journal.write_text("")
    (home.root / "assay.json").unlink()
    for create in (True, False):
        with pytest.raises(StorageError) as caught:
            open_home(home.root, create=create)
        assert caught.value.code == "home-damaged"


def test_a_home_takes_the_next_format_when_something_is_packed_there_first(tmp_path: Path) -> None:
    home = open_home(tmp_path)
    store = PackedStore(home.root, before_packing=lambda: raise_format(home.root))
    digest = store.add(b"weights")
    assert not (tmp_path / "packs").exists()
    assert open_home(tmp_path).format == FORMAT
    store.pack([ToPack(digest)])
    packed = open_home(tmp_path)
    assert (packed.format, packed.created) == (PACKED, home.created)
    assert not (tmp_path / "backups").exists()
    store.unpack(digest)
    assert open_home(tmp_path).format == PACKED


def test_a_release_that_knows_no_packs_refuses_a_home_that_has_them(tmp_path: Path) -> None:
    open_home(tmp_path)
    raise_format(tmp_path)
    with pytest.raises(StorageError) as caught:
        open_home(tmp_path, layout=Layout(FORMAT, {}))
    assert caught.value.code == "home-too-new"


def test_a_newer_format_is_never_lowered_and_no_home_is_made_by_raising(tmp_path: Path) -> None:
    open_home(tmp_path / "home")
    raise_format(tmp_path / "home", 7)
    raise_format(tmp_path / "home")
    assert json.loads((tmp_path / "home" / "assay.json").read_bytes())["format"] == 7
    (tmp_path / "layout").mkdir()
    raise_format(tmp_path / "layout")
    assert list((tmp_path / "layout").iterdir()) == []
