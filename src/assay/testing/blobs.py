"""The contract of blob stores (``assay.ports.blobs.BlobStore``), as a suite.

To run it over a store of your own::

    class TestMyStore(BlobStoreContract):
        def fresh_store(self, folder: Path) -> BlobStore:
            return MyStore(folder / "blobs")

``fresh_store`` gives an empty store; *folder* is an empty folder that the store may use.

Random changes in random order: ``assay.testing.blobs_machine``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assay.errors import InvalidInput, NotFound
from assay.ports.blobs import BlobStore
from assay.spec.digest import EMPTY, Digest

_QUICK = settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
_ABSENT = Digest.of(b"never stored")


class BlobStoreContract:
    """Tests that hold for every blob store."""

    slack = timedelta(milliseconds=40)
    """How far the store's clock may lie behind: a file system's ticks in steps, a bucket's may tell whole seconds."""

    def fresh_store(self, folder: Path) -> BlobStore:
        """An empty store; *folder* is an empty folder that it may use."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, tmp_path: Path) -> BlobStore:
        """The store under test."""
        folder = tmp_path / "place"
        folder.mkdir()
        return self.fresh_store(folder)

    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        """A source file of three MiB and a bit: larger than any block."""
        file = tmp_path / "model.bin"
        file.write_bytes(bytes(range(251)) * 13_000)
        return file

    def test_an_empty_store_lists_nothing_and_knows_nothing(self, store: BlobStore) -> None:
        assert list(store.digests()) == []
        assert store.size(_ABSENT) is None
        assert store.local_file(_ABSENT) is None
        assert store.delete(_ABSENT) is False
        assert store.set_aside(_ABSENT) is None

    def test_opening_a_blob_that_is_not_here_says_so(self, store: BlobStore) -> None:
        with pytest.raises(NotFound) as caught:
            store.open(_ABSENT)
        assert caught.value.code == "blob-missing"

    def test_what_was_added_is_read_back_and_every_range_is_the_slice(self, store: BlobStore) -> None:
        @_QUICK
        @given(data=st.binary(max_size=5_000), offset=st.integers(0, 6_000), length=st.integers(0, 6_000))
        def check(data: bytes, offset: int, length: int) -> None:
            digest = store.add(data)
            assert digest == Digest.of(data)
            assert store.size(digest) == len(data)
            source = store.open(digest)
            assert source.size == len(data)
            assert source.read(0, len(data)) == data
            assert source.read(offset, length) == data[offset : offset + length]

        check()

    def test_a_file_of_any_size_is_stored_under_the_digest_of_its_bytes(self, store: BlobStore, tmp_path: Path) -> None:
        file = tmp_path / "source"

        @_QUICK
        @given(size=st.integers(0, 3 << 20), seed=st.binary(min_size=1, max_size=3))
        def check(size: int, seed: bytes) -> None:
            data = (seed * (size // len(seed) + 1))[:size]
            file.write_bytes(data)
            assert store.add_file(file) == (Digest.of(data), size)
            assert store.open(Digest.of(data)).read(0, size) == data
            assert file.read_bytes() == data

        check()

    def test_adding_again_is_no_change(self, store: BlobStore, file: Path) -> None:
        first = store.add_file(file)
        assert store.add_file(file) == first
        assert store.add(file.read_bytes()) == first[0]
        assert list(store.digests()) == [first[0]]

    def test_the_empty_blob_is_a_blob(self, store: BlobStore, tmp_path: Path) -> None:
        (tmp_path / "empty").touch()
        assert store.add_file(tmp_path / "empty") == (EMPTY, 0)
        assert store.size(EMPTY) == 0
        assert store.open(EMPTY).read(0, 10) == b""

    def test_a_moved_file_is_stored_and_gone(self, store: BlobStore, file: Path) -> None:
        data = file.read_bytes()
        digest, size = store.add_file(file, move=True)
        assert (digest, size) == (Digest.of(data), len(data))
        assert store.open(digest).read(0, size) == data
        assert not file.exists()

    def test_moving_a_file_whose_bytes_are_here_already_removes_it(self, store: BlobStore, file: Path) -> None:
        digest = store.add(file.read_bytes())
        assert store.add_file(file, move=True)[0] == digest
        assert not file.exists()
        assert list(store.digests()) == [digest]

    def test_moving_a_link_leaves_what_it_points_to(self, store: BlobStore, file: Path, tmp_path: Path) -> None:
        link = tmp_path / "link"
        link.symlink_to(file)
        digest, size = store.add_file(link, move=True)
        assert not link.is_symlink()
        assert store.open(digest).read(0, size) == file.read_bytes()

    def test_a_moved_file_with_another_name_cannot_change_the_blob(
        self, store: BlobStore, file: Path, tmp_path: Path
    ) -> None:
        other, data = tmp_path / "other", file.read_bytes()
        os.link(file, other)
        digest, size = store.add_file(file, move=True)
        with other.open("r+b") as handle:
            handle.write(b"changed")
        assert store.open(digest).read(0, size) == data

    def test_many_files_are_kept_in_order_and_stay_where_they_are(self, store: BlobStore, tmp_path: Path) -> None:
        files = [tmp_path / f"file-{number}" for number in range(7)]
        for number, file in enumerate(files):
            file.write_bytes(b"%d" % (number % 3) * 1000)
        for link in (False, True):
            stored = store.add_files(files, link=link)
            assert stored == [(Digest.of(file.read_bytes()), 1000) for file in files]
            assert all(
                store.open(digest).read(0, size) == file.read_bytes()
                for file, (digest, size) in zip(files, stored, strict=True)
            )
        assert len(list(store.digests())) == 3

    def test_a_file_that_is_not_there_is_said_so(self, store: BlobStore, tmp_path: Path) -> None:
        for move in (False, True):
            with pytest.raises(NotFound, match="no such file"):
                store.add_file(tmp_path / "nothing", move=move)
        assert list(store.digests()) == []

    def test_folders_and_pipes_are_refused(self, store: BlobStore, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        for name in (".", "pipe"):
            with pytest.raises(InvalidInput) as caught:
                store.add_file(tmp_path / name)
            assert caught.value.code == "not-a-file"
        assert list(store.digests()) == []

    def test_progress_hears_of_every_byte_once(self, store: BlobStore, file: Path) -> None:
        heard = Counter()
        store.add_file(file, progress=heard)
        assert heard.count == file.stat().st_size

    def test_a_local_file_holds_exactly_the_bytes(self, store: BlobStore) -> None:
        digest = store.add(b"weights")
        local = store.local_file(digest)
        assert local is None or local.read_bytes() == b"weights"

    def test_a_deleted_blob_is_gone_and_can_come_back(self, store: BlobStore) -> None:
        digest, kept = store.add(b"weights"), store.add(b"other")
        assert store.delete(digest) is True
        assert store.size(digest) is None
        assert list(store.digests()) == [kept]
        assert store.delete(digest) is False
        store.add(b"weights")
        assert store.open(digest).read(0, 7) == b"weights"

    def test_a_blob_set_aside_no_longer_counts_and_adding_it_again_repairs(self, store: BlobStore) -> None:
        digest = store.add(b"weights")
        place = store.set_aside(digest)
        assert place is None or place.read_bytes() == b"weights"
        assert store.size(digest) is None
        assert list(store.digests()) == []
        store.add(b"weights")
        assert store.size(digest) == 7

    def test_many_threads_may_add_the_same_and_other_blobs(self, store: BlobStore, file: Path) -> None:
        with ThreadPoolExecutor(8) as pool:
            files = [pool.submit(store.add_file, file) for _ in range(8)]
            small = [pool.submit(store.add, b"%d" % (number % 5)) for number in range(40)]
            assert len({job.result()[0] for job in files}) == 1
            expected = {job.result() for job in small} | {files[0].result()[0]}
        assert set(store.digests()) == expected
        assert store.open(files[0].result()[0]).read(0, 1 << 30) == file.read_bytes()

    def test_the_inventory_tells_every_blob_its_size_and_that_it_was_added_just_now(
        self, store: BlobStore, file: Path
    ) -> None:
        old = 1_000_000_000
        os.utime(file, (old, old))
        before = datetime.now(UTC) - self.slack
        expected = {store.add(b"weights"): 7, store.add_file(file)[0]: file.stat().st_size}
        expected[store.add_files([_written(file.with_name("other"), old)], link=True)[0][0]] = 5

        found = list(store.inventory())

        assert {one.digest: one.size for one in found} == expected
        assert all(before <= one.added <= datetime.now(UTC) + self.slack for one in found)

    def test_whatever_adds_or_renews_a_blob_that_is_here_counts_as_adding_it_now(
        self, store: BlobStore, tmp_path: Path
    ) -> None:
        small, large = b"weights", bytes(range(256)) * (10 << 12)
        for name, data in (("small", small), ("large", large)):
            (tmp_path / name).write_bytes(data)

        def in_the_store(data: bytes, renew: Callable[[], object]) -> None:
            digest = store.add(data)
            before = _later_than_all(store, self.slack)
            renew()
            with store.sweep() as sweep:
                assert sweep.idle(digest)
                assert not sweep.idle(digest, before)

        in_the_store(small, lambda: store.add(small))
        in_the_store(small, lambda: store.renew(Digest.of(small)))
        in_the_store(small, lambda: store.add_file(tmp_path / "small"))
        in_the_store(large, lambda: store.add_file(tmp_path / "large"))
        in_the_store(large, lambda: store.add_files([tmp_path / "large"]))
        in_the_store(large, lambda: store.add_file(tmp_path / "large", move=True))

    def test_renewing_tells_the_size_or_that_it_is_not_here(self, store: BlobStore) -> None:
        assert store.renew(store.add(b"weights")) == 7
        assert store.renew(_ABSENT) is None
        assert list(store.digests()) == [Digest.of(b"weights")]

    def test_a_sweep_deletes_what_is_idle_and_says_how_much(self, store: BlobStore) -> None:
        digest, kept = store.add(b"weights"), store.add(b"other")
        with store.sweep() as sweep:
            assert sweep.idle(digest)
            assert sweep.idle(digest, datetime.now(UTC) + timedelta(days=1))
            assert not sweep.idle(digest, datetime.now(UTC) - timedelta(days=1))
            assert sweep.delete(digest) == 7
            assert not sweep.idle(digest)
            assert sweep.delete(digest) == 0
            assert not sweep.idle(_ABSENT)
        assert list(store.digests()) == [kept]
        assert store.add(b"weights") == digest
        assert store.size(digest) == 7

    def test_what_is_added_under_a_hold_is_not_idle_until_the_last_hold_ends(self, store: BlobStore) -> None:
        before, again = store.add(b"before"), store.add(b"again")
        _later_than_all(store, self.slack)
        with store.hold():
            added = store.add(b"weights")
            store.renew(again)
            with store.hold(), store.sweep() as sweep:
                assert sweep.idle(before)
                assert not sweep.idle(added)
                assert not sweep.idle(again)
            with store.sweep() as sweep:
                assert not sweep.idle(added, datetime.now(UTC) + timedelta(days=1))
        with store.sweep() as sweep:
            assert sweep.idle(added)
            assert sweep.idle(again)

    def test_a_hold_ends_with_an_error_too(self, store: BlobStore) -> None:
        def fail() -> None:
            with store.hold():
                store.add(b"weights")
                store.open(_ABSENT)

        with pytest.raises(NotFound):
            fail()
        with store.sweep() as sweep:
            assert sweep.idle(Digest.of(b"weights"))
        assert list(store.leftovers()) == []

    def test_adding_waits_for_a_sweep_and_finds_that_the_blob_is_gone(self, store: BlobStore, file: Path) -> None:
        digest, _ = store.add_file(file)
        small = store.add(b"weights")
        with ThreadPoolExecutor(3) as pool:
            with store.sweep() as sweep:
                large = pool.submit(store.add_file, file)
                again = pool.submit(store.add, b"weights")
                renewed = pool.submit(store.renew, small)
                wait((large,), timeout=0.2)
                assert not any(job.done() for job in (large, again, renewed))
                sweep.delete(digest)
                sweep.delete(small)
            assert large.result() == (digest, file.stat().st_size)
            assert again.result() == small
            assert renewed.result() in {None, 7}
        assert store.open(digest).read(0, 1 << 30) == file.read_bytes()
        assert store.open(small).read(0, 10) == b"weights"

    def test_nothing_is_left_over_by_a_writer_that_lives(self, store: BlobStore) -> None:
        with store.hold():
            store.add(b"weights")
            assert list(store.leftovers(clear=True)) == []
            with store.sweep() as sweep:
                assert not sweep.idle(Digest.of(b"weights"))


def _written(file: Path, modified: int) -> Path:
    file.write_bytes(b"other")
    os.utime(file, (modified, modified))
    return file


def _later_than_all(store: BlobStore, slack: timedelta) -> datetime:
    """A time that every blob is older than, once the store's clock has moved on."""
    latest = max(one.added for one in store.inventory())
    while (now := datetime.now(UTC)) <= latest + slack:
        time.sleep(0.001)
    return now - slack / 2


class Counter:
    """Progress that counts."""

    def __init__(self) -> None:
        self.count = 0

    def start(self, what: str, total: int) -> None:
        """Ignore it."""

    def advance(self, count: int) -> None:
        """Count."""
        self.count += count

    def finish(self) -> None:
        """Ignore it."""
