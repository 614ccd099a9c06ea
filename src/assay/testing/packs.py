"""The contract of blob stores that pack (``assay.ports.packs.Packing``), as a suite.

To run it over a store of your own::

    class TestMyStore(PackingContract):
        def fresh_store(self, folder: Path) -> PackingStore:
            return MyStore(folder / "blobs")


Random changes are in ``assay.testing.packs_machine``. Stores open the same place again when ``fresh_store`` is called
with the same folder.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import pytest

from assay.errors import NotFound
from assay.ports.blobs import BlobStore
from assay.ports.packs import Packing, Stretch, ToPack
from assay.ports.progress import Silent
from assay.spec.digest import EMPTY, Digest

HEAD = 700
"""Bytes before the tensors of a file of ``weights``."""
_ABSENT = Digest.of(b"never stored")


class PackingStore(BlobStore, Packing, Protocol):
    """A blob store that packs."""


def weights(seed: int, *, tune: int = 0, count: int = 3, size: int = 70_000) -> bytes:
    """A file like one of float32 tensors: a head, then *count* tensors of *size* bytes; tunes of a seed are close.

    Args:
        seed: of the base.
        tune: 0: the base itself; another number: close to it, with another head.
        count: tensors.
        size: bytes of each, a multiple of four.
    """
    rough, fine = random.Random(seed), random.Random(f"{seed} {tune}")  # noqa: S311 - bytes for tests
    parts = [f"head {seed} {tune}".encode().ljust(HEAD, b".")]
    for _ in range(count):
        tensor = bytearray(rough.randbytes(size))
        for at in range(3, size, 4):
            tensor[at] = 0x3C | tensor[at] & 3
        if tune:
            tensor[0::4] = fine.randbytes(size // 4)
        parts.append(bytes(tensor))
    return b"".join(parts)


def stretches(data: bytes, *, count: int = 3) -> list[Stretch]:
    """Where the tensors of ``weights`` lie."""
    size = (len(data) - HEAD) // count
    return [Stretch(HEAD + number * size, size, f"layer.{number}", "float32") for number in range(count)]


def read(store: BlobStore, digest: Digest) -> bytes:
    """All of a blob."""
    source = store.open(digest)
    return source.read(0, source.size)


class PackingContract:
    """Tests that hold for every store that packs."""

    def fresh_store(self, folder: Path) -> PackingStore:
        """A store in a folder that is empty, or holds what an earlier one left."""
        raise NotImplementedError

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """Where the store is."""
        folder = tmp_path / "place"
        folder.mkdir()
        return folder

    @pytest.fixture
    def store(self, folder: Path) -> PackingStore:
        """The store under test."""
        return self.fresh_store(folder)

    def packed(self, store: PackingStore, *datas: bytes, near: Sequence[Digest] = ()) -> list[Digest]:
        """Add files of ``weights``, or others, and pack them together."""
        digests = [store.add(data) for data in datas]
        tensors = [stretches(data) if data.startswith(b"head") else [] for data in datas]
        store.pack([ToPack(digest, found, near) for digest, found in zip(digests, tensors, strict=True)])
        return digests

    def test_where_nothing_was_packed_nothing_is(self, store: PackingStore) -> None:
        digest = store.add(b"weights")
        assert store.is_raw(digest)
        assert not store.is_packed(digest)
        assert not store.is_raw(_ABSENT)
        assert not store.is_packed(_ABSENT)
        assert not store.unpack(digest)
        assert store.compact(least=0.0) == 0
        assert list(store.check_packs()) == []
        assert store.reindex_packs() == 0
        assert store.pack_use().packs == 0

    def test_what_is_packed_has_no_raw_copy_and_every_range_is_the_slice(self, store: PackingStore) -> None:
        data = weights(1)
        (digest,) = self.packed(store, data)
        assert store.is_packed(digest)
        assert not store.is_raw(digest)
        assert store.local_file(digest) is None
        assert store.size(digest) == len(data)
        source = store.open(digest)
        assert source.size == len(data)
        for offset, length in ((0, 10), (HEAD - 5, 50_000), (HEAD, 70_000), (140_000, 1 << 20), (len(data), 5)):
            assert source.read(offset, length) == data[offset : offset + length]

    def test_packing_says_what_it_did(self, store: PackingStore) -> None:
        data, near = weights(1), weights(1, tune=1)
        digests = [store.add(data), store.add(near)]
        wanted = [ToPack(digest, stretches(data)) for digest in digests]
        done = store.pack([*wanted, ToPack(_ABSENT)])
        assert done.packed == tuple(sorted(digests))
        assert (done.spared, done.damaged, done.raw) == ((), (), len(data) + len(near))
        assert 0 < done.stored < done.raw
        again = store.pack(wanted)
        assert (again.packed, again.raw, again.stored) == (done.packed, 0, 0)
        use = store.pack_use()
        assert (use.packs, use.blobs, use.raw, use.stored, use.dead) == (1, 2, done.raw, done.stored, 0)

    def test_equal_tensors_are_stored_once_in_whatever_pack(self, store: PackingStore) -> None:
        data = weights(1)
        self.packed(store, data)
        before = store.pack_use().stored
        other = b"other".ljust(HEAD, b"!") + data[HEAD:]
        digest = store.add(other)
        done = store.pack([ToPack(digest, stretches(other))])
        assert done.same >= len(data) - HEAD
        assert store.pack_use().stored - before < 10_000
        assert read(store, digest) == other

    def test_the_empty_blob_can_be_packed(self, store: PackingStore) -> None:
        assert self.packed(store, b"") == [EMPTY]
        assert store.is_packed(EMPTY)
        assert (store.size(EMPTY), read(store, EMPTY)) == (0, b"")

    def test_adding_what_is_packed_makes_no_raw_copy_and_counts_as_adding_it_now(
        self, store: PackingStore, tmp_path: Path
    ) -> None:
        large = weights(2, size=3 << 20)
        digests = self.packed(store, b"weights", large)
        before = datetime.now(UTC)
        (tmp_path / "large").write_bytes(large)
        assert store.add(b"weights") == digests[0]
        assert store.add_file(tmp_path / "large", move=True) == (digests[1], len(large))
        assert not (tmp_path / "large").exists()
        assert not any(store.is_raw(digest) for digest in digests)
        with store.sweep() as sweep:
            assert all(sweep.idle(digest) and not sweep.idle(digest, before) for digest in digests)

    def test_a_packed_blob_keeps_the_time_of_its_raw_copy(self, store: PackingStore) -> None:
        digest = store.add(b"weights")
        (before,) = store.inventory()
        store.pack([ToPack(digest)])
        assert list(store.inventory()) == [before]

    def test_a_blob_that_somebody_holds_keeps_its_raw_copy_too(self, store: PackingStore) -> None:
        with store.hold():
            digest = store.add(b"weights")
            done = store.pack([ToPack(digest)])
            assert (done.packed, done.spared) == ((), (digest,))
            assert store.is_raw(digest)
            assert store.is_packed(digest)
            with store.sweep() as sweep:
                assert not sweep.idle(digest)
        assert [one.digest for one in store.inventory()] == [digest]
        assert store.pack([ToPack(digest)]).packed == (digest,)
        assert not store.is_raw(digest)

    def test_what_is_deleted_or_renewed_while_it_is_packed_is_gone_or_keeps_its_raw_copy(
        self, store: PackingStore, folder: Path
    ) -> None:
        datas = [weights(seed) for seed in range(3)]
        deleted, renewed, packed = (store.add(data) for data in datas)
        other = self.fresh_store(folder)

        class Meddling(Silent):
            left = sum(len(data) for data in datas)

            def advance(self, count: int) -> None:
                self.left -= count
                if self.left == 0:  # all was read, nothing is visible yet
                    other.delete(deleted)
                    other.renew(renewed)

        tensors = {Digest.of(data): stretches(data) for data in datas}
        wanted = [ToPack(digest, tensors[digest]) for digest in (deleted, renewed, packed)]
        done = store.pack(wanted, progress=Meddling())
        assert (done.packed, done.spared) == ((packed,), (renewed,))
        for opened in (store, self.fresh_store(folder)):
            assert set(opened.digests()) == {renewed, packed}
            assert opened.is_raw(renewed)
            assert not opened.is_packed(deleted)
            opened.reindex_packs()
            assert set(opened.digests()) == {renewed, packed}

    def test_a_listing_under_which_blobs_are_packed_or_unpacked_names_each_once(self, store: PackingStore) -> None:
        digests = [store.add(b"%d" % number) for number in range(5)]
        listing = store.inventory()
        found = [next(listing).digest]
        store.pack([ToPack(digest) for digest in digests])
        found += [one.digest for one in listing]
        assert sorted(found) == sorted(digests)
        listing = store.inventory()
        found = [next(listing).digest]
        for digest in digests:
            store.unpack(digest)
        found += [one.digest for one in listing]
        assert sorted(found) == sorted(digests)

    def test_a_source_that_was_opened_goes_on_when_its_raw_copy_is_packed(self, store: PackingStore) -> None:
        data = weights(3)
        digest = store.add(data)
        untouched, begun = store.open(digest), store.open(digest)
        assert begun.read(0, 100) == data[:100]
        store.pack([ToPack(digest, stretches(data))])
        assert not store.is_raw(digest)
        assert untouched.read(0, len(data)) == data
        assert begun.read(0, len(data)) == data

    def test_a_source_goes_on_when_packs_are_compacted_or_indexed_anew(self, store: PackingStore) -> None:
        data = weights(1, tune=1)
        dead, digest = self.packed(store, weights(1), data)
        untouched, begun = store.open(digest), store.open(digest)
        assert begun.read(HEAD, 100) == data[HEAD : HEAD + 100]
        store.delete(dead)
        assert store.compact(least=0.0) > 0
        store.reindex_packs()
        assert untouched.read(0, len(data)) == data
        assert begun.read(0, len(data)) == data

    def test_unpacking_makes_a_raw_copy_and_packing_again_takes_it_away(self, store: PackingStore) -> None:
        data = weights(1)
        (digest,) = self.packed(store, data)
        assert store.unpack(digest)
        assert store.is_raw(digest)
        assert store.is_packed(digest)
        assert read(store, digest) == data
        assert [one.digest for one in store.inventory()] == [digest]
        local = store.local_file(digest)
        assert local is None or local.read_bytes() == data
        stored = store.pack_use().stored
        assert store.pack([ToPack(digest)]).packed == (digest,)
        assert not store.is_raw(digest)
        assert store.pack_use().stored == stored

    def test_what_was_deleted_stays_deleted_when_the_index_is_made_again(
        self, store: PackingStore, folder: Path
    ) -> None:
        data = weights(1, tune=1)
        gone, kept = self.packed(store, weights(1), data)
        assert store.delete(gone)
        assert not store.delete(gone)
        assert store.reindex_packs() == 1
        for opened in (store, self.fresh_store(folder)):
            assert list(opened.digests()) == [kept]
            assert opened.size(gone) is None
            with pytest.raises(NotFound):
                opened.open(gone)
            assert read(opened, kept) == data

    def test_what_was_deleted_can_be_added_and_packed_again(self, store: PackingStore) -> None:
        data = weights(1)
        for _ in range(3):
            (digest,) = self.packed(store, data)
            assert read(store, digest) == data
            store.reindex_packs()
            assert read(store, digest) == data
            store.delete(digest)
            assert list(store.digests()) == []
            store.reindex_packs()
            assert list(store.digests()) == []

    def test_compaction_gives_back_what_nobody_needs_and_leaves_what_somebody_does(self, store: PackingStore) -> None:
        datas = [weights(seed) for seed in range(4)]
        digests = self.packed(store, *datas)
        before = store.pack_use()
        for digest in digests[:2]:
            store.delete(digest)
        use = store.pack_use()
        assert use.dead > 0.4 * before.stored
        freed = store.compact()
        after = store.pack_use()
        assert freed == before.stored - after.stored > 0.4 * before.stored
        assert after.dead == 0
        assert (after.packs, after.blobs) == (1, 2)
        assert [read(store, digest) for digest in digests[2:]] == datas[2:]
        store.reindex_packs()
        assert sorted(store.digests()) == sorted(digests[2:])
        assert [read(store, digest) for digest in digests[2:]] == datas[2:]
        for digest in digests[2:]:
            store.delete(digest)
        store.compact()
        assert store.pack_use().stored == 0

    def test_little_that_is_dead_is_left_unless_all_of_it_must_go(self, store: PackingStore) -> None:
        datas = [weights(seed) for seed in range(10)]
        digests = self.packed(store, *datas)
        store.delete(digests[0])
        assert store.compact() == 0
        assert store.compact(least=0.0) > 0
        assert store.pack_use().dead == 0
        assert [read(store, digest) for digest in digests[1:]] == datas[1:]

    def test_differences_outlive_their_base(self, store: PackingStore) -> None:
        """Also where they lie in other packs, are bases themselves, and everything is indexed anew."""
        datas = [weights(1), weights(1, tune=1), weights(1, tune=2), weights(1, tune=3)]
        digests: list[Digest] = []
        for data in datas:
            digests += self.packed(store, data, near=digests[-1:])
        for number in range(3):
            store.delete(digests[number])
            store.compact(least=0.0)
            left = list(zip(digests, datas, strict=True))[number + 1 :]
            assert all(read(store, digest) == data for digest, data in left)
            store.reindex_packs()
            assert all(read(store, digest) == data for digest, data in left)
            assert list(store.check_packs()) == []

    def test_blobs_are_found_whoever_packed_them(self, store: PackingStore, folder: Path) -> None:
        other = self.fresh_store(folder)
        data = weights(1)
        digest = other.add(data)
        assert store.size(digest) == len(data)
        self.packed(other, data)
        assert read(store, digest) == data
        store.delete(digest)
        assert other.size(digest) is None

    def test_a_sweep_deletes_packed_blobs_and_says_how_much(self, store: PackingStore) -> None:
        digest, kept = self.packed(store, b"weights", b"other")
        store.unpack(kept)
        with store.sweep() as sweep:
            assert sweep.idle(digest)
            assert not sweep.idle(digest, datetime.now(UTC) - timedelta(days=1))
            assert sweep.delete(digest) == 7
            assert not sweep.idle(digest)
            assert sweep.delete(digest) == 0
        assert list(store.digests()) == [kept]
        with store.sweep() as sweep:
            assert sweep.delete(kept) == 5
        assert list(store.digests()) == []
        store.reindex_packs()
        assert list(store.digests()) == []
