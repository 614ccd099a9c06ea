"""Packs that are hostile, damaged or half there, and places that fail for a moment: one pack must not cost the others."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from packs import Hand, by_hand, repacked

from assay.blobs.packs import folder, keeping
from assay.blobs.packs.index import PackIndex
from assay.blobs.packs.store import PackedStore
from assay.errors import AssayError, BadFormat, StorageError
from assay.packing.codec import WORDS
from assay.ports.packs import ToPack
from assay.spec.digest import Digest
from assay.testing.packs import read, stretches, weights
from assay.trees.window import MemorySource

FLOATS = b"weights!" * 1000
HAND = by_hand([Hand(FLOATS, WORDS["float32"])])
EMFILE = 24
FORBIDDEN = 13


def spoiled(**more: str) -> bytes:
    """A pack whose one segment says more of itself."""
    body = HAND.directory
    body["segments"][0].update(more)
    return repacked(HAND, body)


def packs_of(place: Path) -> list[Path]:
    return sorted((place / "packs").glob("*.pack"))


def name_of(pack: bytes) -> str:
    return pack[-48:-16].hex()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A store with one packed blob."""
    store = PackedStore(tmp_path / "place")
    store.pack([ToPack(store.add(FLOATS[::-1]))])
    return tmp_path / "place"


@pytest.fixture
def other(tmp_path: Path) -> tuple[Digest, Path]:
    """A blob that is packed in another store, and its pack."""
    store = PackedStore(tmp_path / "other")
    digest = store.add(FLOATS)
    store.pack([ToPack(digest)])
    return digest, packs_of(tmp_path / "other")[0]


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let so many next openings of packs fail."""
    left, opened = [0], folder.PackFile

    def flaky(file: Path) -> Any:
        if left[0]:
            left[0] -= 1
            raise OSError(EMFILE, "Too many open files")
        return opened(file)

    monkeypatch.setattr(folder, "PackFile", flaky)
    return lambda count: left.__setitem__(0, count)


HERE = Digest.of(FLOATS[::-1])


@pytest.mark.parametrize("more", [{"name": "\ud800", "dtype": "float32"}, {"name": "a", "dtype": "\udc80"}])
def test_a_pack_with_a_name_that_no_text_can_be_is_not_taken_in(place: Path, more: dict[str, str]) -> None:
    store = PackedStore(place)
    with pytest.raises(BadFormat):
        store.take_in(MemorySource(spoiled(**more)))
    assert len(packs_of(place)) == 1
    assert list(PackedStore(place).digests()) == [HERE]


def test_a_pack_with_such_a_name_in_the_folder_is_told_and_costs_the_others_nothing(place: Path) -> None:
    pack = spoiled(name="\ud800", dtype="float32")
    (place / "packs" / f"{name_of(pack)}.pack").write_bytes(pack)
    store = PackedStore(place)
    for opened in (store, PackedStore(place)):
        assert read(opened, HERE) == FLOATS[::-1]
        assert opened.size(Digest.of(FLOATS)) is None
        assert opened.pack_use().packs == opened.reindex_packs() == 2
        (fault,) = opened.check_packs()
        assert fault.pack == name_of(pack)


def test_tensors_with_such_names_are_packed(place: Path) -> None:
    store, data = PackedStore(place), weights(1)
    digest, near = store.add(data), store.add(weights(1, tune=1))
    tensors = [replace(one, name=f"{one.name}\udcff") for one in stretches(data)]
    assert store.pack([ToPack(digest, tensors), ToPack(near, tensors, (digest,))]).differing
    assert read(store, digest) == data
    store.reindex_packs()
    assert read(store, near) == weights(1, tune=1)


@pytest.mark.parametrize("step", ["take_in_segments", "take_in_blobs"])
def test_what_nobody_foresaw_of_one_pack_is_told_and_costs_the_others_nothing(
    place: Path, other: tuple[Digest, Path], step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, pack = other
    taken: Callable[..., None] = getattr(PackIndex, step)

    def fails(self: PackIndex, name: str, *rest: Any) -> None:
        taken(self, name, *rest)
        if name == pack.stem:
            raise ValueError("a text \udcff")

    (place / "packs" / pack.name).write_bytes(pack.read_bytes())
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(PackIndex, step, fails)
        for store in (PackedStore(place), PackedStore(place)):
            assert list(store.digests()) == [HERE]
            assert [(fault.pack, fault.what) for fault in store.check_packs()] == [(pack.stem, "a text \\udcff")]
            store.reindex_packs()
    store = PackedStore(place)
    store.reindex_packs()
    assert set(store.digests()) == {HERE, digest}
    assert read(store, digest) == FLOATS


def test_a_failure_that_passes_is_told_and_the_pack_is_there_afterwards(
    place: Path, fail: Callable[[int], None]
) -> None:
    (place / "packs" / "index.sqlite3").unlink()
    store = PackedStore(place)
    fail(1)
    with pytest.raises(StorageError, match="too many open files"):
        store.size(HERE)
    for opened in (store, PackedStore(place)):
        assert opened.size(HERE) == len(FLOATS)
        assert list(opened.digests()) == [HERE]
        assert list(opened.check_packs()) == []


def test_a_failure_between_segments_and_blobs_passes_likewise(
    place: Path, fail: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "packs" / "index.sqlite3").unlink()
    taken, store = PackIndex.take_in_segments, PackedStore(place)

    def then_fails(self: PackIndex, *what: Any) -> None:
        taken(self, *what)
        store._folder._open.clear()
        fail(1)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(PackIndex, "take_in_segments", then_fails)
        with pytest.raises(StorageError):
            store.size(HERE)
    fail(0)
    assert store.size(HERE) == len(FLOATS)


def test_a_pack_that_is_seen_half_copied_is_there_once_it_is_whole(
    place: Path, other: tuple[Digest, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, pack = other
    monkeypatch.setattr(keeping, "_AGAIN", 0.0)
    copy, whole = place / "packs" / pack.name, pack.read_bytes()
    copy.write_bytes(whole[: len(whole) // 2])
    long_ago = copy.stat().st_mtime - 10
    os.utime(place / "packs", (long_ago, long_ago))  # so that the folder's time counts
    store = PackedStore(place)
    assert store.size(digest) is None
    assert [fault.pack for fault in PackedStore(place).check_packs()] == [pack.stem]
    assert store.size(HERE) == len(FLOATS)
    with copy.open("r+b") as file:
        file.write(whole)
    assert store.size(digest) == len(FLOATS)
    assert read(PackedStore(place), digest) == FLOATS
    assert list(store.check_packs()) == []


def test_a_pack_that_was_damaged_and_is_put_right_is_there_after_a_look_at_all_packs(
    place: Path, other: tuple[Digest, Path]
) -> None:
    digest, pack = other
    copy, whole = place / "packs" / pack.name, pack.read_bytes()
    copy.write_bytes(whole[:-1] + b"?")
    store = PackedStore(place)
    assert [fault.pack for fault in store.check_packs()] == [pack.stem]
    assert [fault.pack for fault in store.check_packs()] == [pack.stem]
    with copy.open("r+b") as file:
        file.write(whole)
    assert list(store.check_packs()) == []
    assert read(store, digest) == FLOATS


def test_compaction_leaves_files_alone_that_are_not_its_own(place: Path) -> None:
    (pack,) = packs_of(place)
    others = [place / "packs" / name for name in ("backup of mine.pack", f"{pack.stem}~.pack", f"{'A' * 64}.pack")]
    for file in others:
        file.write_bytes(pack.read_bytes())
    store = PackedStore(place)
    store.compact(least=0.0)
    store.delete(HERE)
    store.compact(least=0.0)
    assert packs_of(place) == sorted(others)


def test_what_was_taken_out_may_be_read_by_whoever_may_read_the_pack(place: Path) -> None:
    store, before = PackedStore(place), os.umask(0o022)
    try:
        first, second = store.add(b"first" * 1000), store.add(b"second" * 1000)
        store.pack([ToPack(first), ToPack(second)])
        os.umask(0o077)
        for digest in (first, second):
            store.delete(digest)
            (said,) = (place / "packs").glob("*.gone")
            assert said.stat().st_mode & 0o777 == 0o644
            said.chmod(0o600)  # as an earlier release left it
    finally:
        os.umask(before)


@pytest.mark.parametrize("what", ["read_bytes", "scandir", "stat", "flock"])
def test_packs_that_may_not_be_read_are_told(
    place: Path, other: tuple[Digest, Path], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_args: object, **_more: object) -> Any:
        raise PermissionError(FORBIDDEN, "Permission denied")

    digest, pack = other
    store = PackedStore(place)
    store.add(b"more" * 1000)
    store.pack([ToPack(Digest.of(b"more" * 1000))])
    store.delete(Digest.of(b"more" * 1000))
    (place / "packs" / pack.name).write_bytes(pack.read_bytes())
    with monkeypatch.context() as meanwhile:
        if what == "read_bytes":
            meanwhile.setattr(Path, "read_bytes", forbidden)
        elif what == "flock":
            meanwhile.setattr(keeping.fcntl, "flock", forbidden)
        else:
            stat = getattr(folder.os if what == "scandir" else Path, what)
            meanwhile.setattr(
                folder.os if what == "scandir" else Path,
                what,
                lambda file, **more: (
                    forbidden() if str(file).endswith(("packs", "index.sqlite3")) else stat(file, **more)
                ),
            )
        for opened in (store, PackedStore(place)):
            with pytest.raises(AssayError, match="permission denied"):
                opened.row(digest)
    assert store.size(digest) == len(FLOATS)
