"""What only a store in a folder does: links, clones, guesses, and files that are none of its own."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
import time
from pathlib import Path

import pytest

from assay.blobs.directory import DirectoryStore
from assay.errors import InvalidInput, NotFound, StorageError
from assay.spec.digest import Digest
from assay.streams import copying
from assay.streams.copying import digest_file, store_copy
from assay.testing.blobs import Counter

LARGE = bytes(range(251)) * 40_000
"""Ten MB: large enough for the pipeline and for guessing."""


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "home")


@pytest.fixture
def large(tmp_path: Path) -> Path:
    file = tmp_path / "model.bin"
    file.write_bytes(LARGE)
    return file


def stored(store: DirectoryStore, digest: Digest) -> Path:
    file = store.local_file(digest)
    assert file is not None
    return file


def test_a_blob_is_a_read_only_file_at_its_place_in_the_image_layout(store: DirectoryStore) -> None:
    digest = store.add(b"weights")
    assert stored(store, digest) == store.root / "blobs" / "sha256" / digest.hex
    assert stored(store, digest).stat().st_mode & 0o777 == 0o444


def test_a_moved_file_is_linked_not_copied(store: DirectoryStore, large: Path) -> None:
    inode = large.stat().st_ino
    digest, _ = store.add_file(large, move=True)
    assert stored(store, digest).stat().st_ino == inode
    assert stored(store, digest).stat().st_nlink == 1
    assert stored(store, digest).stat().st_mode & 0o777 == 0o444


def test_a_file_moved_from_another_file_system_is_copied_and_removed(store: DirectoryStore, tmp_path: Path) -> None:
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system at hand")
    with tempfile.TemporaryDirectory(dir=shared) as other:
        (Path(other) / "model.bin").write_bytes(LARGE)
        digest, size = store.add_file(Path(other) / "model.bin", move=True)
        assert list(Path(other).iterdir()) == []
    assert (digest, size) == (Digest.of(LARGE), len(LARGE))
    assert store.check(digest)


def test_pushing_a_large_file_again_compares_and_writes_nothing(store: DirectoryStore, large: Path) -> None:
    digest, _ = store.add_file(large)
    inode = stored(store, digest).stat().st_ino
    for again in (store, DirectoryStore(store.root)):
        heard = Counter()
        assert again.add_file(large, progress=heard) == (digest, len(LARGE))
        assert heard.count == len(LARGE)
        assert stored(store, digest).stat().st_ino == inode


def test_a_large_blob_damaged_anywhere_is_repaired_by_pushing_again(store: DirectoryStore, large: Path) -> None:
    digest, _ = store.add_file(large)
    for place in (0, 12_345, len(LARGE) // 2 + 7777, len(LARGE) - 1):
        stored(store, digest).chmod(0o644)
        with stored(store, digest).open("r+b") as handle:
            handle.seek(place)
            handle.write(b"\xff")
        assert not store.check(digest)
        assert DirectoryStore(store.root).add_file(large)[0] == digest
        assert store.check(digest)


def test_files_that_differ_only_where_the_guess_does_not_look_are_two_blobs(
    store: DirectoryStore, large: Path, tmp_path: Path
) -> None:
    first, _ = store.add_file(large)
    other = tmp_path / "other.bin"
    other.write_bytes(LARGE[:12_345] + b"\xff" + LARGE[12_346:])
    second, _ = DirectoryStore(store.root).add_file(other)
    assert first != second
    assert store.check(first)
    assert store.check(second)


def test_a_guess_about_a_blob_that_is_gone_is_no_harm(store: DirectoryStore, large: Path) -> None:
    digest, _ = store.add_file(large)
    later = DirectoryStore(store.root)
    later.add_file(large)
    later.delete(digest)
    assert later.add_file(large)[0] == digest
    assert store.check(digest)


def test_files_that_are_no_blobs_are_not_listed(store: DirectoryStore) -> None:
    digest = store.add(b"weights")
    folder = store.root / "blobs" / "sha256"
    (folder / ".DS_Store").touch()
    (folder / ("A" * 64)).touch()
    (folder / digest.hex[:-1]).touch()
    (folder / ("0" * 128)).touch()
    (store.root / "blobs" / "md5").mkdir()
    (store.root / "blobs" / "md5" / ("0" * 32)).touch()
    (store.root / "blobs" / "sha512").mkdir()
    (store.root / "blobs" / "sha512" / ("0" * 128)).touch()
    assert set(store.digests()) == {digest, Digest("sha512", "0" * 128)}


def test_a_blob_of_another_algorithm_is_checked_by_it(store: DirectoryStore) -> None:
    folder = store.root / "blobs" / "sha512"
    folder.mkdir(parents=True)
    digest = Digest(
        "sha512",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
        "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
    )
    (folder / digest.hex).write_bytes(b"abc")
    assert store.check(digest)
    (folder / digest.hex).write_bytes(b"abd")
    assert not store.check(digest)


def test_checking_a_blob_that_is_not_here_says_so(store: DirectoryStore) -> None:
    with pytest.raises(NotFound) as caught:
        store.check(Digest.of(b"nothing"))
    assert caught.value.code == "blob-missing"


def test_blobs_set_aside_twice_are_both_kept(store: DirectoryStore) -> None:
    digest = store.add(b"weights")
    first = store.set_aside(digest)
    store.add(b"weights")
    second = store.set_aside(digest)
    assert first is not None
    assert second is not None
    assert first != second
    assert {first.parent, second.parent} == {store.root / "damaged"}


def test_many_files_are_stored_in_order_and_linked_files_stay_where_they_are(
    store: DirectoryStore, tmp_path: Path
) -> None:
    assert store.add_files([]) == []
    files = [tmp_path / f"{number}" for number in range(20)]
    for number, file in enumerate(files):
        file.write_bytes(b"%d" % (number % 7) * (number % 3) * 500_000)
    expected = [(Digest.of(file.read_bytes()), file.stat().st_size) for file in files]
    heard = Counter()
    assert store.add_files([*files, files[0]], link=True, threads=4, progress=heard) == [*expected, expected[0]]
    assert all(file.exists() for file in files)
    assert set(store.digests()) == {digest for digest, _ in expected}
    assert all(store.check(digest) for digest in store.digests())
    assert list((store.root / "staging").iterdir()) == []


def test_a_file_that_may_not_be_read_is_the_sources_fault(tmp_path: Path, store: DirectoryStore) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(InvalidInput) as caught:
        store.add_files([tmp_path / "folder"])
    assert caught.value.code == "not-a-file"


def test_a_place_that_cannot_hold_a_store_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = DirectoryStore(tmp_path / "file")
    with pytest.raises(StorageError):
        store.add(b"weights")


@pytest.mark.parametrize("direct", [0, 1 << 40])
@pytest.mark.parametrize(
    "size",
    [
        0,
        1,
        copying.SMALL,
        copying.SMALL + 1,
        copying.STEP,
        4 * copying.STEP,
        5 * copying.STEP + 512,
        6 * copying.STEP - 1,
    ],
)
def test_every_way_of_copying_gives_the_same_bytes_and_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, direct: int
) -> None:
    monkeypatch.setattr(copying, "DIRECT", direct)
    source, target = tmp_path / "source", tmp_path / "target"
    data = (LARGE * 4)[:size]
    source.write_bytes(data)
    with source.open("rb") as reading, target.open("w+b") as writing:
        assert store_copy(reading.fileno(), writing.fileno(), size) == (Digest.of(data), size)
    assert target.read_bytes() == data
    assert digest_file(target) == Digest.of(data)


@pytest.mark.parametrize("size", [1000, 5 << 20])
def test_a_copy_is_hashed_by_the_algorithm_that_is_asked_for(tmp_path: Path, size: int) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(LARGE[:size])
    with source.open("rb") as reading, target.open("w+b") as writing:
        digest, _ = store_copy(reading.fileno(), writing.fileno(), size, algorithm="sha512")
    assert digest == Digest("sha512", hashlib.sha512(LARGE[:size]).hexdigest())


def test_files_of_virtual_file_systems_that_claim_to_be_empty_are_read(store: DirectoryStore) -> None:
    digest, size = store.add_file(Path("/proc/version"))
    assert size > 0
    assert store.open(digest).read(0, size) == Path("/proc/version").read_bytes()


def test_another_users_blob_is_stored_again_as_ones_own_when_its_time_cannot_be_renewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, file = DirectoryStore(tmp_path / "store"), tmp_path / "large.bin"
    file.write_bytes(bytes(range(256)) * (9 << 12))
    large, small = store.add_file(file)[0], store.add(b"weights")
    before = {digest: store.local_file(digest).stat().st_ino for digest in (large, small)}
    utime = os.utime

    def refuse(path: object, *args: object, **kwargs: object) -> None:
        if not isinstance(path, int):  # what is not one's own is known by its name only
            raise PermissionError(errno.EPERM, "Operation not permitted")
        utime(path, *args, **kwargs)

    monkeypatch.setattr(os, "utime", refuse)

    def renewed(digest: Digest) -> bool:
        now = store.local_file(digest).stat().st_ino
        changed, before[digest] = now != before[digest], now
        return changed and store.check(digest)

    assert store.renew(large) == file.stat().st_size
    assert renewed(large)
    assert store.add(b"weights") == small
    assert renewed(small)
    heard = Counter()
    assert store.add_file(file, progress=heard) == (large, file.stat().st_size)
    assert renewed(large)
    assert heard.count == file.stat().st_size
    assert list((tmp_path / "store/staging").iterdir()) == []


def test_another_users_damaged_blob_is_not_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = DirectoryStore(tmp_path)
    digest = store.add(b"weights")
    stored = store.local_file(digest)
    stored.chmod(0o644)
    stored.write_bytes(b"weighty")
    monkeypatch.setattr(os, "utime", lambda *_: (_ for _ in ()).throw(PermissionError(errno.EPERM, "no")))

    assert store.renew(digest) is None


def test_a_dead_writers_hold_protects_nothing_and_is_left_over(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    child = os.fork()
    if child == 0:
        held = store.hold()
        held.__enter__()
        store.add(b"weights")
        os._exit(0)
    os.waitpid(child, 0)

    (left,) = DirectoryStore(tmp_path).leftovers()
    assert left.name.startswith("staging/hold-")
    with store.sweep() as sweep:
        assert sweep.idle(Digest.of(b"weights"))
    assert len(store.leftovers(clear=True)) == 1
    assert store.leftovers() == []


def test_a_hold_covers_what_is_added_after_the_clock_was_set_back(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    (tmp_path / "large.bin").write_bytes(bytes(9 << 20))
    known = store.add(b"known")
    with store.hold():
        (hold,) = (tmp_path / "staging").glob("hold-*")
        later = time.time() + 3600
        os.utime(hold, (later, later))  # as it looks when the clock goes back by an hour now
        added = [store.add(b"new"), store.add_file(tmp_path / "large.bin")[0], known]
        store.renew(known)

        with store.sweep() as sweep:
            assert [sweep.idle(digest) for digest in added] == [False, False, False]

    with store.sweep() as sweep:
        assert [sweep.idle(digest) for digest in added] == [True, True, True]
