"""Killed at any step, the next run sees a valid store and catalog, and goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from assay.blobs.directory import DirectoryStore
from assay.blobs.home import open_home
from assay.catalog.journal import START, FileJournal
from assay.catalog.opening import open_catalog
from assay.spec.digest import Digest
from assay.testing.catalog import everything

LARGE = bytes(range(256)) * (9 << 12)


def crash(operation: str, folder: Path) -> tuple[list[Path], list[str]]:
    """The folders of all killed runs, and the steps of the one that lived."""
    folder.mkdir()
    script = Path(__file__).with_name("crashing.py")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script), operation, str(folder)],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    steps = (folder / "steps").read_text().split("\n")
    killed = [folder / str(number) for number in range(1, len(steps) + 1)]
    assert all(place.is_dir() for place in killed)
    return killed, steps


def check_whole(store: DirectoryStore, expected: Digest) -> None:
    """Nothing is visible but, perhaps, the whole blob."""
    for digest in store.digests():
        assert digest == expected
        assert store.check(digest)


def staged(home: Path) -> list[Path]:
    return list((home / "staging").iterdir())


def test_killed_while_adding_a_file_nothing_half_is_visible_and_the_next_run_repairs(tmp_path: Path) -> None:
    killed, steps = crash("add_file", tmp_path / "runs")
    assert len(steps) >= 12
    assert any(list(DirectoryStore(place / "home").digests()) == [] for place in killed)

    for place in killed:
        store = DirectoryStore(place / "home")
        check_whole(store, Digest.of(LARGE))
        assert (place / "source").read_bytes() == LARGE
        assert store.add_file(place / "source") == (Digest.of(LARGE), len(LARGE))
        check_whole(store, Digest.of(LARGE))
        assert list(store.digests()) == [Digest.of(LARGE)]
        assert staged(place / "home") == []


def test_killed_while_moving_a_file_its_bytes_are_never_lost(tmp_path: Path) -> None:
    killed, _ = crash("move_file", tmp_path / "runs")

    for place in killed:
        store = DirectoryStore(place / "home")
        check_whole(store, Digest.of(LARGE))
        if (place / "source").exists():
            assert (place / "source").read_bytes() == LARGE
            store.add_file(place / "source", move=True)
        assert list(store.digests()) == [Digest.of(LARGE)]
        assert store.check(Digest.of(LARGE))
        store.add(b"another blob")
        assert staged(place / "home") == []


def test_killed_while_adding_bytes_nothing_half_is_visible(tmp_path: Path) -> None:
    for place in crash("add_bytes", tmp_path / "runs")[0]:
        store = DirectoryStore(place / "home")
        check_whole(store, Digest.of(LARGE[:100]))
        store.add(LARGE[:100])
        check_whole(store, Digest.of(LARGE[:100]))
        assert staged(place / "home") == []


@pytest.mark.parametrize("operation", ["add_file", "move_file", "add_bytes"])
def test_bytes_are_flushed_before_they_are_visible_and_the_folder_after(tmp_path: Path, operation: str) -> None:
    _, steps = crash(operation, tmp_path / "runs")
    shown = len(steps) - 1 - steps[::-1].index("replace")
    durable = steps.index("fsync in staging")
    assert not {"write", "pwrite", "copy_file_range"} & set(steps[durable:])
    assert durable < shown < steps.index("fsync sha256")
    if operation == "move_file":
        assert steps.index("fsync sha256") < steps.index("unlink")


def test_killed_while_a_home_is_made_the_next_run_completes_it(tmp_path: Path) -> None:
    for place in crash("make_home", tmp_path / "runs")[0]:
        home = open_home(place / "home")
        assert (home.format, home.writable) == (1, True)
        names = {path.name for path in home.root.iterdir()}
        assert names == {"assay.json", "oci-layout", "index.json", "blobs", "staging"}
        assert staged(home.root) == []


def test_killed_while_numbering_the_version_is_there_or_not_and_numbers_go_on(tmp_path: Path) -> None:
    killed, steps = crash("add_version", tmp_path / "runs")
    durable = steps.index("fsync in home") + 1
    assert durable < steps.index("sql INSERT") < len(steps) - steps[::-1].index("sql COMMIT")

    for step, place in enumerate(killed, 1):
        home = open_home(place / "home")
        journalled = [event for event, _ in FileJournal(home.journal).read(START)]
        catalog = open_catalog(home.catalog, home.journal)
        # A kill leaves the page cache alone, so a line that was written counts even before it is flushed.
        assert len(catalog.versions("m")) == len(journalled)
        if step > durable:
            assert catalog.version("m", 2) is not None
        before = everything(catalog)
        catalog.reindex()
        assert everything(catalog) == before
        again, _ = catalog.add_version("m", Digest.of(b"second"), size=2, entries=1, actor="ada")
        assert again.number == 2
        assert catalog.add_version("m", Digest.of(b"third"), size=2, entries=1, actor="ada")[0].number == 3
