"""Several processes and changing sources at once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from assay.blobs.directory import DirectoryStore
from assay.blobs.home import open_home
from assay.catalog.opening import open_catalog
from assay.errors import Conflict
from assay.spec.digest import Digest
from assay.testing.blobs import Counter

COUNT = 40
SIZE = 6 << 20


def test_two_processes_pushing_one_name_get_distinct_consecutive_numbers(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    script = Path(__file__).with_name("pushing.py")
    pushers = [
        subprocess.Popen(
            [sys.executable, "-W", "error", str(script), str(home.root), who, str(COUNT)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for who in ("ada", "bob")
    ]
    (home.root / "start").touch()
    numbers: dict[int, str] = {}
    for pusher in pushers:
        out, error = pusher.communicate(timeout=120)
        assert pusher.returncode == 0, error
        for line in out.splitlines():
            number, manifest = line.split()
            assert numbers.setdefault(int(number), manifest) == manifest

    assert sorted(numbers) == list(range(1, 2 * COUNT + 1))
    catalog = open_catalog(home.catalog, home.journal)
    assert {version.number: str(version.manifest) for version in catalog.versions("m")} == numbers
    assert {version.actor for version in catalog.versions("m")} == {"ada", "bob"}
    store = DirectoryStore(home.root)
    assert {str(digest) for digest in store.digests()} == set(numbers.values())
    assert all(store.check(digest) for digest in store.digests())


def test_a_living_writers_staging_is_left_alone_and_a_dead_ones_is_removed(tmp_path: Path) -> None:
    living, other = DirectoryStore(tmp_path), DirectoryStore(tmp_path)
    with living.staging.new() as staged:
        (tmp_path / "staging" / "dead").write_bytes(b"left by a killed process")
        other.add(b"weights")
        assert staged.path.exists()
        assert not (tmp_path / "staging" / "dead").exists()
    assert list((tmp_path / "staging").iterdir()) == []


class Meddler(Counter):
    """Progress that changes the source once, when the first bytes are stored."""

    def __init__(self, meddle: Callable[[], None]) -> None:
        super().__init__()
        self.meddle = meddle

    def advance(self, count: int) -> None:
        if self.count == 0:
            self.meddle()
        super().advance(count)


def grow(file: Path) -> None:
    with file.open("ab") as handle:
        handle.write(b"more")


def shrink(file: Path) -> None:
    os.truncate(file, SIZE // 3)


def overwrite(file: Path) -> None:
    with file.open("r+b") as handle:
        handle.seek(SIZE - 4)
        handle.write(b"edit")


def replace(file: Path) -> None:
    other = file.with_name("other")
    other.write_bytes(bytes(SIZE))
    other.replace(file)


def remove(file: Path) -> None:
    file.unlink()


@pytest.mark.parametrize("size", [SIZE, 1000])
@pytest.mark.parametrize("move", [False, True])
@pytest.mark.parametrize("meddle", [grow, shrink, overwrite, replace, remove])
def test_a_source_that_changes_while_it_is_stored_is_refused_and_nothing_is_kept(
    tmp_path: Path, meddle: Callable[[Path], None], move: bool, size: int
) -> None:
    file = tmp_path / "model.bin"
    file.write_bytes(b"x" * size)
    store = DirectoryStore(tmp_path / "home")

    with pytest.raises(Conflict) as caught:
        store.add_file(file, move=move, progress=Meddler(lambda: meddle(file)))

    assert caught.value.code == "source-changed"
    assert list(store.digests()) == []
    assert list((tmp_path / "home" / "staging").iterdir()) == []
    assert file.exists() is (meddle is not remove)


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: b"", lambda data: data[:9] + b"\1" + data[10:]]
)
@pytest.mark.parametrize("size", [1000, SIZE])
def test_a_damaged_blob_is_noticed_and_adding_it_again_repairs(
    tmp_path: Path, damage: Callable[[bytes], bytes], size: int
) -> None:
    data = bytes(size)
    file = tmp_path / "model.bin"
    file.write_bytes(data)
    store = DirectoryStore(tmp_path / "home")
    digest, _ = store.add_file(file)
    stored = store.local_file(digest)
    assert stored is not None
    assert store.check(digest)

    stored.chmod(0o644)
    stored.write_bytes(damage(data))
    assert not store.check(digest)

    assert store.add_file(file)[0] == digest == Digest.of(data)
    assert store.check(digest)


def test_one_failing_file_of_many_is_reported_and_the_others_are_whole(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.bin" for number in range(6)]
    for number, file in enumerate(files):
        file.write_bytes(b"%d" % number * 2_000_000)
    store = DirectoryStore(tmp_path / "home")
    stored = store.add_files(files, threads=3)
    assert stored == [(Digest.of(file.read_bytes()), 2_000_000) for file in files]

    with pytest.raises(Conflict):
        store.add_files(files, link=True, progress=Meddler(lambda: grow(files[0])), threads=1)

    assert all(file.exists() for file in files)
    assert all(store.check(digest) for digest in store.digests())
