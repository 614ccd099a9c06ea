"""Full disks, limits and read-only homes: really mounted, really full."""

from __future__ import annotations

import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from assay.blobs.directory import DirectoryStore
from assay.blobs.home import open_home
from assay.catalog.journal import FileJournal
from assay.catalog.opening import open_catalog
from assay.catalog.sql import SqlCatalog
from assay.errors import NotFound, StorageError
from assay.ports.catalog import Catalog
from assay.spec.digest import Digest
from assay.testing.catalog import everything, push

MIB = 1 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB."""
    point = tmp_path / "disk"
    point.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(point)], check=True)
    yield point
    subprocess.run(["umount", "--lazy", str(point)], check=True)


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A home with a model of two versions and a blob, mounted read-only; rows were not folded back by a clean close."""
    home = open_home(tmp_path / "home")
    DirectoryStore(home.root).add(b"weights")
    catalog = open_catalog(home.catalog, home.journal)
    push(catalog, "m", 1)
    push(catalog, "m", 2)
    catalog.move_alias("m", "champion", 1, expect=None, actor="ada")
    shutil.copytree(home.root, tmp_path / "copy")
    assert (tmp_path / "copy" / "catalog.sqlite3-wal").stat().st_size > 0
    point = tmp_path / "mounted"
    point.mkdir()
    subprocess.run(["mount", "--bind", str(tmp_path / "copy"), str(point)], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", str(point)], check=True)
    yield point
    subprocess.run(["umount", "--lazy", str(point)], check=True)


def fill(file: Path) -> None:
    with file.open("wb", buffering=0) as handle:
        while True:
            handle.write(bytes(4096))


def push_many(catalog: Catalog) -> None:
    for seed in range(5_000):
        push(catalog, "m", seed)


@pytest.mark.root
@pytest.mark.parametrize("size", [20 * MIB, 18 * MIB + 5, 40 * MIB])
def test_a_file_that_does_not_fit_leaves_no_trace(small_disk: Path, tmp_path: Path, size: int) -> None:
    file = tmp_path / "model.bin"
    file.write_bytes(bytes(size))
    store = DirectoryStore(open_home(small_disk / "home").root)
    kept = store.add(b"weights")

    with pytest.raises(StorageError) as caught:
        store.add_file(file)

    assert caught.value.code == "store-full"
    assert caught.value.hint
    assert str(file) in caught.value.message
    assert list(store.digests()) == [kept]
    assert list((small_disk / "home" / "staging").iterdir()) == []
    file.write_bytes(bytes(4 * MIB))
    assert store.check(store.add_file(file)[0])


@pytest.mark.root
def test_a_full_disk_refuses_versions_loses_none_and_goes_on_when_there_is_room(small_disk: Path) -> None:
    home = open_home(small_disk / "home")
    catalog = open_catalog(home.catalog, home.journal)
    push(catalog, "m", "before")
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space"):
        fill(filler)
    with pytest.raises(StorageError) as caught:
        push_many(catalog)
    assert caught.value.code == "store-full"
    assert caught.value.hint

    filler.unlink()

    pushed = len(catalog.events())
    assert [version.number for version in catalog.versions("m")] == list(range(pushed, 0, -1))
    # The last one may have reached the journal although its rows did not fit: it counts, and is seen from now on.
    assert push(catalog, "m", "after").number in {pushed + 1, pushed + 2}
    before = everything(catalog)
    assert catalog.reindex() == len(catalog.versions("m"))
    assert everything(catalog) == before


def test_a_limit_on_file_size_is_a_full_store(tmp_path: Path) -> None:
    file = tmp_path / "model.bin"
    file.write_bytes(bytes(6 * MIB))
    store = DirectoryStore(tmp_path / "home")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3 * MIB, before[1]))
    try:
        with pytest.raises(StorageError) as caught:
            store.add_file(file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert caught.value.code == "store-full"
    assert "ulimit" in (caught.value.hint or "")
    assert list(store.digests()) == []
    assert list((tmp_path / "home" / "staging").iterdir()) == []


@pytest.mark.root
def test_a_read_only_home_is_read_completely_and_refuses_every_change(read_only: Path, tmp_path: Path) -> None:
    home = open_home(read_only)
    assert not home.writable
    catalog = open_catalog(home.catalog, home.journal, writable=home.writable)
    original = SqlCatalog(tmp_path / "home" / "catalog.sqlite3", FileJournal(tmp_path / "home" / "journal.jsonl"))
    assert everything(catalog) == everything(original)
    assert [version.number for version in catalog.versions("m")] == [2, 1]

    store = DirectoryStore(home.root)
    assert store.open(Digest.of(b"weights")).read(0, 100) == b"weights"
    for change in (
        lambda: store.add(b"other"),
        lambda: store.add_file(tmp_path / "home" / "oci-layout"),
        lambda: store.delete(Digest.of(b"weights")),
        lambda: store.set_aside(Digest.of(b"weights")),
        lambda: push(catalog, "m", 3),
        lambda: catalog.remove_alias("m", "champion", actor="ada"),
    ):
        with pytest.raises(StorageError) as caught:
            change()
        assert caught.value.code == "store-read-only"
        assert caught.value.hint
    assert store.add(b"weights") == Digest.of(b"weights")


@pytest.mark.root
def test_a_read_only_catalog_follows_what_others_write(read_only: Path, tmp_path: Path) -> None:
    catalog = open_catalog(read_only / "catalog.sqlite3", read_only / "journal.jsonl", writable=False)
    assert len(catalog.versions("m")) == 2
    writer = open_catalog(tmp_path / "copy" / "catalog.sqlite3", tmp_path / "copy" / "journal.jsonl")
    push(writer, "m", 3)
    assert catalog.version("m") == writer.version("m", 3)


@pytest.mark.root
def test_no_home_is_made_where_nothing_may_be_written(read_only: Path) -> None:
    with pytest.raises(StorageError) as caught:
        open_home(read_only / "deeper" / "home")
    assert caught.value.code == "store-read-only"
    with pytest.raises(NotFound) as missing:
        open_home(read_only / "deeper" / "home", create=False)
    assert missing.value.code == "home-missing"
