"""The contract of blob stores (``assay.ports.blobs.BlobStore``), as a suite.

To run it over a store of your own::

    class TestMyStore(BlobStoreContract):
        def fresh_store(self, folder: Path) -> BlobStore:
            return MyStore(folder / "blobs")


    class MyStoreMachine(BlobStoreMachine):
        def fresh_store(self, folder: Path) -> BlobStore:
            return MyStore(folder / "blobs")


    TestMyStoreMachine = MyStoreMachine.TestCase

``fresh_store`` gives an empty store; *folder* is an empty folder that the store may use.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from assay.errors import InvalidInput, NotFound
from assay.ports.blobs import BlobStore
from assay.spec.digest import EMPTY, Digest

_QUICK = settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
_ABSENT = Digest.of(b"never stored")


class BlobStoreContract:
    """Tests that hold for every blob store."""

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


class BlobStoreMachine(RuleBasedStateMachine):
    """Random adds, deletes and reads, compared with a dictionary after every step."""

    known: Bundle[Digest] = Bundle("known")
    TestCase: Any

    def fresh_store(self, folder: Path) -> BlobStore:
        """An empty store; *folder* is an empty folder that it may use."""
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        (self.folder / "place").mkdir()
        self.store = self.fresh_store(self.folder / "place")
        self.model: dict[Digest, bytes] = {}

    def teardown(self) -> None:
        """Leave nothing behind."""
        shutil.rmtree(self.folder)

    @rule(target=known, data=st.binary(max_size=40))
    def add(self, data: bytes) -> Digest:
        digest = self.store.add(data)
        self.model[digest] = data
        return digest

    @rule(target=known, data=st.binary(max_size=40), move=st.booleans())
    def add_file(self, data: bytes, move: bool) -> Digest:  # noqa: FBT001 - hypothesis passes by name
        file = self.folder / "source"
        file.write_bytes(data)
        digest, size = self.store.add_file(file, move=move)
        assert size == len(data)
        assert file.exists() is not move
        self.model[digest] = data
        return digest

    @rule(digest=known)
    def delete(self, digest: Digest) -> None:
        assert self.store.delete(digest) is (self.model.pop(digest, None) is not None)

    @rule(digest=known)
    def set_aside(self, digest: Digest) -> None:
        self.store.set_aside(digest)
        self.model.pop(digest, None)

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        assert set(self.store.digests()) == set(self.model)
        for digest, data in self.model.items():
            assert self.store.size(digest) == len(data)
            assert self.store.open(digest).read(0, 100) == data
