"""Damaged packs, damaged and missing indexes, stale ones, places that cannot be written."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from assay.blobs.packs.packer import Packer
from assay.blobs.packs.store import PackedStore
from assay.errors import AssayError, NotFound, StorageError
from assay.ports.packs import ToPack
from assay.spec.digest import Digest
from assay.testing.packs import HEAD, read, stretches, weights


@pytest.fixture
def store(tmp_path: Path) -> PackedStore:
    return PackedStore(tmp_path)


def packed(store: PackedStore, *datas: bytes) -> list[Digest]:
    digests = [store.add(data) for data in datas]
    store.pack(
        [
            ToPack(digest, stretches(data) if data.startswith(b"head") else ())
            for digest, data in zip(digests, datas, strict=True)
        ]
    )
    return digests


def the_pack(store: PackedStore) -> Path:
    (found,) = (store.root / "packs").glob("*.pack")
    return found


def flip(file: Path, at: int) -> None:
    file.chmod(0o644)
    with file.open("r+b") as handle:
        handle.seek(at)
        byte = handle.read(1)
        handle.seek(at)
        handle.write(bytes([byte[0] ^ 1]))
    file.chmod(0o444)


class TestDamagedPacks:
    def test_a_flipped_bit_is_found_and_names_every_blob_that_it_hits(self, store: PackedStore) -> None:
        base, tune, other = packed(store, weights(1), weights(1, tune=1), weights(2))
        assert list(store.check_packs()) == []
        flip(the_pack(store), 30_000)  # in the first tensor of the base, which the tune is a difference to
        (fault,) = store.check_packs()
        assert fault.pack == the_pack(store).stem
        assert set(fault.blobs) == {base, tune}
        for digest in (base, tune):
            with pytest.raises(AssayError):
                read(store, digest)
            assert not store.check(digest)
        assert store.check(other)

    def test_what_is_set_aside_is_missing_until_it_is_pushed_again(self, store: PackedStore) -> None:
        datas = [weights(1), weights(1, tune=1), weights(2)]
        digests = packed(store, *datas)
        flip(the_pack(store), 30_000)
        for digest in digests[:2]:
            assert store.set_aside(digest) is None
        for opened in (store, PackedStore(store.root)):
            assert list(opened.digests()) == [digests[2]]
            opened.reindex_packs()
            assert list(opened.digests()) == [digests[2]]
        assert list(store.check_packs()) == []
        again = packed(store, *datas)
        assert again == digests
        assert not any(store.is_raw(digest) for digest in digests)
        assert [read(store, digest) for digest in digests] == datas
        store.reindex_packs()
        assert [read(store, digest) for digest in digests] == datas

    def test_what_leans_on_a_damaged_base_is_good_again_where_another_pack_has_the_base(
        self, store: PackedStore, tmp_path: Path
    ) -> None:
        datas = [weights(1), weights(1, tune=1)]
        base, tune = packed(store, *datas)
        other = PackedStore(tmp_path / "other")
        packed(other, datas[0])
        copy = the_pack(other)
        damaged = the_pack(store)
        (store.root / "packs" / copy.name).write_bytes(copy.read_bytes())
        flip(damaged, 30_000)
        store.reindex_packs()
        if store.check(tune):  # it was read from the copy: then let it be read from the damaged one
            os.utime(damaged, ns=(1, 1))
            store.reindex_packs()
        assert not store.check(tune)
        store.set_aside(base)
        assert read(store, tune) == datas[1]
        assert list(store.digests()) == [tune]
        store.compact(least=0.0)
        store.reindex_packs()
        assert read(store, tune) == datas[1]

    def test_a_raw_copy_stays_when_what_it_was_packed_on_is_struck_out_meanwhile(
        self, store: PackedStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        datas = [weights(1), weights(1, tune=1)]
        base, tune = packed(store, datas[0])[0], store.add(datas[1])
        before = Packer._check_reused

        def checked(self: Packer, *args: Any) -> None:
            before(self, *args)
            flip(the_pack(store), 30_000)
            assert PackedStore(store.root).set_aside(base) is None

        monkeypatch.setattr(Packer, "_check_reused", checked)
        packing = store.pack([ToPack(tune, stretches(datas[1]))])
        assert packing.spared == (tune,)
        assert store.is_raw(tune)
        monkeypatch.undo()
        assert store.pack([ToPack(tune, stretches(datas[1]))]).packed == (tune,)
        assert not store.is_raw(tune)
        assert read(store, tune) == datas[1]

    def test_adding_what_is_packed_and_damaged_repairs_it(self, store: PackedStore, tmp_path: Path) -> None:
        large = weights(1, size=4 << 20)
        digests = packed(store, large, b"weights")
        flip(the_pack(store), 4 << 20)
        (tmp_path / "file").write_bytes(large)
        assert store.add_file(tmp_path / "file")[0] == digests[0]
        assert store.is_raw(digests[0])
        assert read(store, digests[0]) == large
        assert store.pack([ToPack(digests[0], stretches(large))]).packed == (digests[0],)
        assert not store.is_raw(digests[0])
        assert read(store, digests[0]) == large

    def test_a_pack_that_comes_out_the_same_replaces_the_damaged_one(self, store: PackedStore) -> None:
        data = b"weights" * 10
        (digest,) = packed(store, data)
        name = the_pack(store).name
        flip(the_pack(store), 25)
        store.set_aside(digest)
        assert packed(store, data) == [digest]
        assert the_pack(store).name == name
        assert read(store, digest) == data
        assert list(store.check_packs()) == []
        store.reindex_packs()
        assert read(store, digest) == data
        assert read(PackedStore(store.root), digest) == data

    def test_packing_never_relies_on_damaged_bytes_of_an_older_pack(self, store: PackedStore) -> None:
        """A raw copy is all there is of what an older pack holds damaged: it must not go for that."""
        data = weights(1)
        other = b"other".ljust(HEAD, b"!") + data[HEAD:]
        packed(store, data)
        flip(the_pack(store), 30_000)
        digest = store.add(other)
        assert store.pack([ToPack(digest, stretches(other))]).packed == (digest,)
        assert read(store, digest) == other
        assert read(store, Digest.of(data)) == data  # what was stored anew heals whoever shares it
        store.reindex_packs()
        assert read(store, digest) == other

    def test_packing_again_what_is_raw_and_packed_looks_at_the_packed_copy_first(self, store: PackedStore) -> None:
        data = weights(1)
        (digest,) = packed(store, data)
        assert store.unpack(digest)
        flip(the_pack(store), 30_000)
        assert store.pack([ToPack(digest, stretches(data))]).packed == (digest,)
        assert not store.is_raw(digest)
        assert read(store, digest) == data

    def test_a_damaged_raw_copy_gives_way_to_a_good_packed_one(self, store: PackedStore) -> None:
        data = weights(1)
        (digest,) = packed(store, data)
        store.unpack(digest)
        local = store.local_file(digest)
        assert local is not None
        flip(local, 5)
        assert not store.check(digest)
        place = store.set_aside(digest)
        assert place is not None
        assert place.parent.name == "damaged"
        assert read(store, digest) == data

    def test_a_raw_blob_that_does_not_match_its_digest_is_not_packed(self, store: PackedStore) -> None:
        bad, good = store.add(weights(1)), store.add(weights(2))
        local = store.local_file(bad)
        assert local is not None
        flip(local, 5)
        done = store.pack([ToPack(bad), ToPack(good)])
        assert (done.packed, done.damaged) == ((good,), (bad,))
        assert store.is_raw(bad)
        assert not store.is_packed(bad)

    def test_compaction_leaves_a_damaged_pack_alone_unless_all_that_is_dead_must_go(self, store: PackedStore) -> None:
        datas = [weights(seed) for seed in range(3)]
        digests = packed(store, *datas)
        before = the_pack(store)
        store.delete(digests[2])
        flip(before, 30_000)
        assert store.compact() == 0
        assert before.exists()
        assert store.compact(least=0.0) > 0
        assert not before.exists()
        assert read(store, digests[1]) == datas[1]
        with pytest.raises(AssayError):
            read(store, digests[0])
        assert digests[0] in list(store.digests())  # verify must find that it is damaged, not that it never was

    def test_a_pack_whose_directory_is_damaged_hits_what_it_lists(self, store: PackedStore) -> None:
        data = weights(1)
        (digest,) = packed(store, data)
        flip(the_pack(store), the_pack(store).stat().st_size - 70)
        (fault,) = store.check_packs()
        assert fault.blobs == (digest,)
        assert read(store, digest) == data  # as long as the index knows where it lies
        store.reindex_packs()
        (fault,) = store.check_packs()
        assert "does not match" in fault.what
        assert store.size(digest) is None
        assert packed(store, data) == [digest]
        assert read(store, digest) == data

    def test_an_open_blob_that_is_compacted_away_is_missing_and_not_damaged(self, store: PackedStore) -> None:
        datas = [weights(1), weights(2)]
        digests = packed(store, *datas)
        sources = [store.open(digest) for digest in digests]
        begun = store.open(digests[0])
        assert begun.read(0, 100) == datas[0][:100]
        other = PackedStore(store.root)
        other.delete(digests[0])
        other.compact(least=0.0)
        with pytest.raises(NotFound) as caught:
            sources[0].read(0, 100)
        assert caught.value.code == "blob-missing"
        assert sources[1].read(0, len(datas[1])) == datas[1]
        assert begun.read(0, 200) == datas[0][:200]  # of a pack that is open the rest can be read
        other.add(datas[0])
        assert sources[0].read(0, len(datas[0])) == datas[0]
        other.pack([ToPack(digests[0])])
        assert sources[0].read(0, len(datas[0])) == datas[0]

    def test_a_pack_that_was_taken_away_leaves_no_blob_behind(self, store: PackedStore) -> None:
        data = weights(1)
        (digest,) = packed(store, data)
        the_pack(store).unlink()
        opened = PackedStore(store.root)
        assert opened.size(digest) is None
        assert packed(opened, data) == [digest]
        assert read(opened, digest) == data


class TestTheIndex:
    @pytest.fixture(params=["removed", "empty", "no database", "cut off", "another schema", "scribbled over"])
    def broken(self, request: pytest.FixtureRequest, store: PackedStore) -> tuple[PackedStore, dict[Digest, bytes]]:
        datas = [weights(1), weights(1, tune=1), weights(2), b"weights"]
        gone, *digests = packed(store, *datas)
        store.delete(gone)
        _break(store.root / "packs" / "index.sqlite3", request.param)
        return store, dict(zip(digests, datas[1:], strict=True))

    def test_is_made_again_when_it_is_broken(self, broken: tuple[PackedStore, dict[Digest, bytes]]) -> None:
        store, expected = broken
        opened = PackedStore(store.root)
        assert set(opened.digests()) == set(expected)
        assert {digest: read(opened, digest) for digest in expected} == expected

    def test_is_made_again_under_one_who_has_it_open(self, broken: tuple[PackedStore, dict[Digest, bytes]]) -> None:
        store, expected = broken
        assert {digest: read(store, digest) for digest in expected} == expected
        (digest, *_) = expected
        assert store.renew(digest) == len(expected[digest])
        assert store.delete(digest)
        store.reindex_packs()
        assert set(store.digests()) == expected.keys() - {digest}

    def test_takes_in_packs_that_it_does_not_know(self, store: PackedStore) -> None:
        """Somebody died between a pack and its row, or an older index came back from a backup."""
        (first,) = packed(store, weights(1))
        index = store.root / "packs" / "index.sqlite3"
        before = index.read_bytes()
        second, third = packed(store, weights(2), weights(3))
        store.delete(second)
        for opened in (PackedStore(store.root), store):
            index.unlink()
            index.write_bytes(before)
            assert set(opened.digests()) == {first, third}
            assert read(opened, third) == weights(3)

    def test_takes_in_packs_that_appear_while_it_is_open(self, store: PackedStore, tmp_path: Path) -> None:
        packed(store, weights(1))
        other = PackedStore(tmp_path / "other")
        (digest,) = packed(other, weights(2))
        assert store.size(digest) is None
        os.link(the_pack(other), store.root / "packs" / the_pack(other).name)
        assert store.size(digest) == len(weights(2))
        assert read(store, digest) == weights(2)

    def test_in_a_place_that_cannot_be_written_is_read(
        self, store: PackedStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = weights(1)
        (digest,) = packed(store, data)
        _read_only(store.root / "packs", monkeypatch)
        opened = PackedStore(store.root)
        assert read(opened, digest) == data
        assert list(opened.digests()) == [digest]

    @pytest.mark.parametrize("how", ["removed", "empty", "no database", "cut off", "another schema", "stale"])
    def test_in_a_place_that_cannot_be_written_is_made_in_memory(
        self, store: PackedStore, monkeypatch: pytest.MonkeyPatch, how: str
    ) -> None:
        data = weights(1)
        (gone,) = packed(store, b"weights")
        index = store.root / "packs" / "index.sqlite3"
        before = index.read_bytes()
        (digest,) = packed(store, data)
        store.delete(gone)
        if how == "stale":
            index.write_bytes(before)
        else:
            _break(index, how)
        there = sorted(path.name for path in (store.root / "packs").iterdir())
        _read_only(store.root / "packs", monkeypatch)
        opened = PackedStore(store.root)
        assert read(opened, digest) == data
        assert list(opened.digests()) == [digest]
        assert sorted(path.name for path in (store.root / "packs").iterdir()) == there

    def test_in_memory_follows_packs_that_others_write_anew(
        self, store: PackedStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A long-lived reader of a read-only place, beside somebody who may write there."""
        datas = [weights(1), weights(2), weights(3)]
        digests = packed(store, *datas)
        index = store.root / "packs" / "index.sqlite3"
        index.rename(index.with_suffix(".away"))
        with monkeypatch.context() as limited:
            _read_only(store.root / "packs", limited)
            reader = PackedStore(store.root)
            source = reader.open(digests[1])
            assert read(reader, digests[1]) == datas[1]
        (store.root / "packs").chmod(0o755)
        index.with_suffix(".away").rename(index)
        writer = PackedStore(store.root)
        writer.delete(digests[0])
        assert writer.compact(least=0.0) > 0
        index.unlink()
        with monkeypatch.context() as limited:
            _read_only(store.root / "packs", limited)
            assert source.read(0, len(datas[1])) == datas[1]
            assert read(reader, digests[2]) == datas[2]

    def test_is_made_again_within_the_same_file(self, store: PackedStore) -> None:
        """Who asks it meanwhile must not find a journal of another file beside it."""
        datas = [weights(1), weights(2)]
        digests = packed(store, *datas)
        index = store.root / "packs" / "index.sqlite3"
        other, before = PackedStore(store.root), index.stat().st_ino
        assert read(other, digests[0]) == datas[0]
        with sqlite3.connect(index) as rows:
            rows.execute("DELETE FROM blobs")
        rows.close()
        assert other.size(digests[0]) is None
        assert store.reindex_packs() == 1
        assert index.stat().st_ino == before
        assert [read(other, digest) for digest in digests] == datas
        assert other.delete(digests[0])
        assert list(store.digests()) == [digests[1]]

    def test_that_is_locked_for_too_long_is_said_so(self, store: PackedStore, monkeypatch: pytest.MonkeyPatch) -> None:
        (digest,) = packed(store, b"weights")
        monkeypatch.setattr("assay.blobs.packs.rows.WAIT", 0.05)
        opened = PackedStore(store.root)
        opened.size(digest)
        locked = sqlite3.connect(store.root / "packs" / "index.sqlite3", isolation_level=None)
        locked.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StorageError, match="locked"):
            opened.delete(digest)
        locked.execute("ROLLBACK")
        assert opened.delete(digest)


def test_where_no_folder_for_packs_can_be_made_that_is_told_and_the_raw_copy_stays(store: PackedStore) -> None:
    digest = store.add(weights(1))
    (store.root / "packs").symlink_to(store.root / "nowhere")
    with pytest.raises(StorageError, match="cannot begin to pack"):
        store.pack([ToPack(digest, ())])
    assert store.is_raw(digest)


def _break(index: Path, how: str) -> None:
    if how == "removed":
        index.unlink()
    elif how == "empty":
        index.write_bytes(b"")
    elif how == "no database":
        index.write_bytes(b"not a database " * 1000)
    elif how == "cut off":
        index.write_bytes(index.read_bytes()[: index.stat().st_size // 2])
    elif how == "another schema":
        with sqlite3.connect(index) as rows:
            rows.execute("PRAGMA user_version = 999")
        rows.close()
    else:
        data = bytearray(index.read_bytes())
        for at in range(4096, len(data), 64):
            data[at : at + 16] = b"\xa5" * 16
        index.write_bytes(bytes(data))


def _read_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for somebody who may not write there; root, who runs tests in containers, may everywhere."""
    folder.chmod(0o555)
    may = os.access

    def access(path: Path, mode: int) -> bool:
        return not (mode & os.W_OK and Path(path) == folder) and may(path, mode)

    monkeypatch.setattr(os, "access", access)
