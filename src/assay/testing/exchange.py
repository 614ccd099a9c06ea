"""The contract of blob stores that exchange packed blobs (``assay.ports.exchange.SegmentExchange``), as a suite.

To run it over a store of your own::

    class TestMyStore(ExchangeContract):
        def fresh_store(self, folder: Path) -> ExchangingStore:
            return MyStore(folder / "blobs")

``fresh_store`` is called again with the same folder for another process. Packs come from a store of
the same kind unless ``fresh_source`` says otherwise.
"""

from __future__ import annotations

import random
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import pytest

from assay.errors import AssayError, BadFormat, IntegrityError, NotFound, StorageError
from assay.packing import directory
from assay.ports.blobs import BlobStore
from assay.ports.exchange import SegmentExchange
from assay.ports.packs import Packing, ToPack
from assay.ports.progress import Silent
from assay.spec.digest import Digest
from assay.testing.packs import read, stretches, weights
from assay.trees import Source
from assay.trees.window import MemorySource

BASE, TUNE = weights(1), weights(1, tune=1)
ABSENT = Digest.of(b"never stored")
LONG = 3 << 20
"""Bytes of a tensor of which several blocks travel."""


class ExchangingStore(BlobStore, Packing, SegmentExchange, Protocol):
    """A blob store that packs, and exchanges what it packed."""


def pack(store: ExchangingStore, *datas: bytes) -> list[Digest]:
    """Add and pack files of ``weights``, each near to those before."""
    digests: list[Digest] = []
    for data in datas:
        digests.append(store.add(data))
        store.pack([ToPack(digests[-1], stretches(data), digests[:-1])])
    return digests


def shipment(source: ExchangingStore, target: ExchangingStore, *blobs: Digest) -> Source:
    """A pack of some blobs with what the target lacks of them."""
    parts = {part.id for blob in blobs for part in source.parts(blob) or ()}
    return source.hand_over(blobs, target.lacking(parts))


def whole(pack: Source) -> bytes:
    """All bytes of a pack."""
    return pack.read(0, pack.size)


class Watched:
    """A source that says what is read of it, and fails from some byte on.

    Args:
        source: the bytes.
        fails: where; None: nowhere.
    """

    def __init__(self, source: Source, fails: int | None = None) -> None:
        self._source, self._fails, self.count = source, fails, 0
        self.size = source.size

    def read(self, offset: int, length: int) -> bytes:
        """The bytes in [offset, offset + length), cut off at the end."""
        if self._fails is not None and offset + length > self._fails and offset < self.size - directory.FOOTER.size:
            raise StorageError("the line broke")
        data = self._source.read(offset, length)
        self.count += len(data)
        return data


class ExchangeContract:
    """Tests that hold for every store that exchanges packed blobs."""

    slack = timedelta(milliseconds=50)
    """How far apart two times are that are told apart, whoever tells them."""

    def fresh_store(self, folder: Path) -> ExchangingStore:
        """The store under test, in a folder that is empty, or holds what an earlier one left."""
        raise NotImplementedError

    def fresh_source(self, folder: Path) -> ExchangingStore:
        """The store that packs come from."""
        return self.fresh_store(folder)

    def elsewhere(self, folder: Path) -> ExchangingStore:
        """The same store as another machine opens it."""
        return self.fresh_store(folder)

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """Where the store is."""
        folder = tmp_path / "place"
        folder.mkdir()
        return folder

    @pytest.fixture
    def store(self, folder: Path) -> ExchangingStore:
        """The store under test; it has the base, packed."""
        store = self.fresh_store(folder)
        pack(store, BASE)
        return store

    @pytest.fixture
    def source(self, tmp_path: Path) -> ExchangingStore:
        """Another store, which has the base and the fine-tune, packed."""
        (tmp_path / "source").mkdir()
        source = self.fresh_source(tmp_path / "source")
        pack(source, BASE, TUNE)
        return source

    def test_where_nothing_was_packed_no_packs_are_taken(self, tmp_path: Path, source: ExchangingStore) -> None:
        (tmp_path / "fresh").mkdir()
        store = self.fresh_store(tmp_path / "fresh")
        assert isinstance(store, SegmentExchange)
        assert not store.takes_packs()
        digest = store.add(BASE)
        assert not store.takes_packs()
        assert store.parts(digest) is None
        parts = {part.id for part in source.parts(Digest.of(BASE)) or ()}
        assert store.lacking(parts) == parts
        store.pack([ToPack(digest, stretches(BASE))])
        assert store.takes_packs()
        assert store.lacking(parts) == set()

    def test_what_is_taken_in_where_nothing_was_packed_is_packed_there(
        self, tmp_path: Path, source: ExchangingStore
    ) -> None:
        (tmp_path / "fresh").mkdir()
        store = self.fresh_store(tmp_path / "fresh")
        assert isinstance(store, SegmentExchange)
        store.take_in(shipment(source, store, Digest.of(BASE), Digest.of(TUNE)))
        assert store.takes_packs()
        assert store.is_packed(Digest.of(TUNE))
        assert not store.is_raw(Digest.of(TUNE))
        assert read(store, Digest.of(TUNE)) == TUNE
        assert list(store.check_packs()) == []

    def test_a_fine_tune_needs_its_own_segments_and_their_bases_once_each(self, source: ExchangingStore) -> None:
        base, tune = source.parts(Digest.of(BASE)), source.parts(Digest.of(TUNE))
        assert base is not None
        assert tune is not None
        assert source.parts(ABSENT) is None
        assert len({part.id for part in tune}) == len(tune)
        bases = {part.id for part in base} & {part.id for part in tune}
        assert len(bases) == 3
        own = sum(part.stored for part in tune if part.id not in bases)
        assert 0 < own < 0.6 * len(TUNE)

    def test_only_what_is_not_there_is_lacking(self, store: ExchangingStore, source: ExchangingStore) -> None:
        base = {part.id for part in source.parts(Digest.of(BASE)) or ()}
        tune = {part.id for part in source.parts(Digest.of(TUNE)) or ()}
        assert store.lacking(base) == set()
        assert store.lacking(tune) == tune - base
        assert store.lacking([]) == set()

    def test_what_another_machine_gave_up_is_lacking(
        self, store: ExchangingStore, source: ExchangingStore, folder: Path
    ) -> None:
        base = {part.id for part in source.parts(Digest.of(BASE)) or ()}
        assert store.lacking(base) == set()
        other = self.elsewhere(folder)
        other.delete(Digest.of(BASE))
        other.compact(least=0.0)
        assert store.lacking(base) == base

    def test_what_is_taken_in_is_packed_there_and_read_by_whoever_opens_the_store(
        self, store: ExchangingStore, source: ExchangingStore, folder: Path
    ) -> None:
        other = self.elsewhere(folder)
        assert other.size(Digest.of(BASE)) == len(BASE)
        sent = shipment(source, store, Digest.of(TUNE))
        assert sent.size < 0.6 * len(TUNE)
        store.take_in(sent)
        for opened in (store, other, self.fresh_store(folder)):
            assert read(opened, Digest.of(TUNE)) == TUNE
            assert opened.size(Digest.of(TUNE)) == len(TUNE)
            assert opened.is_packed(Digest.of(TUNE))
            assert not opened.is_raw(Digest.of(TUNE))
            assert set(opened.digests()) == {Digest.of(BASE), Digest.of(TUNE)}
            assert list(opened.check_packs()) == []
        store.reindex_packs()
        assert read(store, Digest.of(TUNE)) == TUNE
        assert store.lacking({part.id for part in source.parts(Digest.of(TUNE)) or ()}) == set()

    def test_what_was_taken_in_is_handed_on(
        self, store: ExchangingStore, source: ExchangingStore, tmp_path: Path
    ) -> None:
        store.take_in(shipment(source, store, Digest.of(TUNE)))
        (tmp_path / "third").mkdir()
        third = self.fresh_source(tmp_path / "third")
        pack(third, weights(2))
        third.take_in(shipment(store, third, Digest.of(TUNE), Digest.of(BASE)))
        assert read(third, Digest.of(TUNE)) == TUNE
        assert read(third, Digest.of(BASE)) == BASE

    def test_any_range_of_a_pack_that_is_handed_over_is_the_slice_and_it_is_the_same_each_time(
        self, store: ExchangingStore, source: ExchangingStore
    ) -> None:
        sent = shipment(source, store, Digest.of(TUNE))
        data = whole(sent)
        assert len(data) == sent.size
        for offset, length in ((0, 4), (5, 100_000), (sent.size - 100, 1000), (sent.size, 5), (7, 0)):
            assert sent.read(offset, length) == data[offset : offset + length]
        assert whole(shipment(source, store, Digest.of(TUNE))) == data

    def test_what_is_not_there_is_not_handed_over(self, source: ExchangingStore) -> None:
        with pytest.raises(NotFound):
            source.hand_over([ABSENT], [])
        with pytest.raises(NotFound):
            source.hand_over([], [bytes(32)])

    def test_bases_come_along_where_they_are_lacking(self, source: ExchangingStore, tmp_path: Path) -> None:
        (tmp_path / "fresh").mkdir()
        store = self.fresh_store(tmp_path / "fresh")
        pack(store, weights(2))
        store.take_in(shipment(source, store, Digest.of(TUNE)))
        assert read(store, Digest.of(TUNE)) == TUNE
        assert store.size(Digest.of(BASE)) is None

    def refused(self, store: ExchangingStore, sent: Source) -> AssayError:
        """Take in what must be refused; nothing of it may stay."""
        before, blobs = store.pack_use(), set(store.digests())
        with pytest.raises((IntegrityError, BadFormat)) as caught:
            store.take_in(sent)
        assert store.pack_use() == before
        assert set(store.digests()) == blobs
        return caught.value

    def test_a_pack_with_a_changed_byte_is_refused_wherever_it_is(
        self, store: ExchangingStore, source: ExchangingStore
    ) -> None:
        data = whole(shipment(source, store, Digest.of(TUNE)))
        end = directory.read_footer(data[-64:], len(data))[0]
        chance = random.Random(5)  # noqa: S311 - places for tests
        for at in (
            0,
            8,
            end - 1,
            end,
            len(data) - 65,
            len(data) - 30,
            *(chance.randrange(len(data)) for _ in range(6)),
        ):
            changed = bytearray(data)
            changed[at] ^= 1 << chance.randrange(8)
            if at < 8:  # the magic: everything can be read all the same
                continue
            self.refused(store, MemorySource(bytes(changed)))
        store.take_in(MemorySource(data))
        assert read(store, Digest.of(TUNE)) == TUNE

    def test_a_segment_that_no_blob_of_the_pack_needs_is_compared_as_well(
        self, store: ExchangingStore, source: ExchangingStore
    ) -> None:
        pack(source, weights(2))
        more = [part.id for part in source.parts(Digest.of(weights(2))) or ()]
        data = whole(source.hand_over([], more))
        for at in range(8, directory.read_footer(data[-64:], len(data))[0], 50_000):
            changed = bytearray(data)
            changed[at] ^= 1
            self.refused(store, MemorySource(bytes(changed)))
            assert store.lacking(more) == set(more)

    def test_what_was_damaged_on_the_way_is_brought_anew(self, store: ExchangingStore, source: ExchangingStore) -> None:
        data, sent = self.long_shipment(store, source)
        changed = bytearray(whole(sent))
        changed[1000] ^= 1
        self.refused(store, MemorySource(bytes(changed)))
        store.take_in(sent)
        assert read(store, Digest.of(data)) == data

    def test_what_is_no_pack_is_refused(self, store: ExchangingStore, source: ExchangingStore) -> None:
        data = whole(shipment(source, store, Digest.of(TUNE)))
        for wrong in (b"", b"no pack", data[:-1], data[:-64] + bytes(64), data[1:]):
            self.refused(store, MemorySource(wrong))

    def test_a_pack_that_lists_a_blob_under_another_digest_is_refused(
        self, store: ExchangingStore, source: ExchangingStore
    ) -> None:
        data = whole(shipment(source, store, Digest.of(TUNE)))
        offset, length, name = directory.read_footer(data[-64:], len(data))
        held = directory.decode(data[offset : offset + length], name)
        (blob,) = held.blobs
        lying = directory.encode(replace(held, blobs=(blob, replace(blob, digest=ABSENT))))
        self.refused(store, MemorySource(data[:offset] + lying + directory.footer(offset, lying)))

    def test_a_pack_whose_bases_are_not_there_is_refused(self, source: ExchangingStore, tmp_path: Path) -> None:
        parts = {part.id for part in source.parts(Digest.of(TUNE)) or ()}
        base = {part.id for part in source.parts(Digest.of(BASE)) or ()}
        (tmp_path / "fresh").mkdir()
        store = self.fresh_store(tmp_path / "fresh")
        pack(store, weights(2))
        error = self.refused(store, source.hand_over([Digest.of(TUNE)], parts - base))
        assert error.code == "segment-missing"

    def test_a_base_that_was_deleted_after_it_was_asked_for_makes_the_pack_refused(
        self, store: ExchangingStore, source: ExchangingStore, folder: Path
    ) -> None:
        sent = shipment(source, store, Digest.of(TUNE))
        other = self.elsewhere(folder)
        other.delete(Digest.of(BASE))
        other.compact(least=0.0)
        assert self.refused(store, sent).code == "segment-missing"

    def test_what_was_taken_in_outlives_its_base(
        self, store: ExchangingStore, source: ExchangingStore, folder: Path
    ) -> None:
        store.take_in(shipment(source, store, Digest.of(TUNE)))
        other = self.elsewhere(folder)
        other.delete(Digest.of(BASE))
        other.compact(least=0.0)
        for opened in (other, store, self.fresh_store(folder)):
            assert read(opened, Digest.of(TUNE)) == TUNE
            assert set(opened.digests()) == {Digest.of(TUNE)}

    def test_a_sweep_spares_what_was_taken_in_as_long_as_somebody_holds_the_store(
        self, store: ExchangingStore, source: ExchangingStore, folder: Path
    ) -> None:
        other = self.elsewhere(folder)
        assert other.size(Digest.of(BASE)) == len(BASE)
        time.sleep(self.slack.total_seconds())
        with store.hold():
            store.take_in(shipment(source, store, Digest.of(TUNE)))
            for opened in (store, other, self.fresh_store(folder)):
                with opened.sweep() as sweep:
                    assert not sweep.idle(Digest.of(TUNE))
                    assert sweep.idle(Digest.of(BASE))
        for opened in (store, other):
            with opened.sweep() as sweep:
                assert not sweep.idle(Digest.of(TUNE), datetime.now(UTC) - timedelta(minutes=5))
                assert sweep.idle(Digest.of(TUNE))
        with other.sweep() as sweep:
            assert sweep.delete(Digest.of(TUNE)) == len(TUNE)
        assert store.renew(Digest.of(TUNE)) is None
        assert set(store.digests()) == {Digest.of(BASE)}

    def test_what_was_given_up_is_taken_in_again_and_everybody_sees_it(
        self, store: ExchangingStore, source: ExchangingStore, folder: Path
    ) -> None:
        more = weights(1, tune=2)
        pack(source, more)
        both = [Digest.of(TUNE), Digest.of(more)]
        data = whole(shipment(source, store, *both))
        store.take_in(MemorySource(data))
        other = self.elsewhere(folder)
        other.delete(both[0])
        assert set(other.digests()) == {Digest.of(BASE), both[1]}
        store.take_in(MemorySource(data))
        store.delete(both[1])
        for opened in (other, store, self.fresh_store(folder)):
            assert set(opened.digests()) == {Digest.of(BASE), both[0]}
            assert read(opened, both[0]) == TUNE
        store.take_in(MemorySource(data))
        for opened in (other, store, self.fresh_store(folder)):
            assert {read(opened, one) for one in both} == {TUNE, more}
            assert list(opened.check_packs()) == []

    def test_taking_in_twice_is_harmless(self, store: ExchangingStore, source: ExchangingStore) -> None:
        data = whole(shipment(source, store, Digest.of(TUNE)))
        store.take_in(MemorySource(data))
        use = store.pack_use()
        store.take_in(MemorySource(data))
        assert store.pack_use() == use
        assert read(store, Digest.of(TUNE)) == TUNE

    def long_shipment(self, store: ExchangingStore, source: ExchangingStore) -> tuple[bytes, Source]:
        """A fine-tune of which several blocks travel, and its pack."""
        data = weights(3, size=LONG)
        pack(source, data)
        return data, shipment(source, store, Digest.of(data))

    def test_what_broke_off_is_not_there_and_is_gone_on_with(
        self, store: ExchangingStore, source: ExchangingStore, folder: Path
    ) -> None:
        data, sent = self.long_shipment(store, source)
        before = store.pack_use()
        with pytest.raises(StorageError):
            store.take_in(Watched(sent, fails=5 << 20))
        assert store.pack_use() == before
        assert store.size(Digest.of(data)) is None
        watched = Watched(sent)
        self.fresh_store(folder).take_in(watched)
        assert watched.count < sent.size - (3 << 20)
        assert read(store, Digest.of(data)) == data

    def test_progress_hears_of_every_byte_of_the_pack_once(
        self, store: ExchangingStore, source: ExchangingStore
    ) -> None:
        _, sent = self.long_shipment(store, source)
        heard = Heard()
        with pytest.raises(StorageError):
            store.take_in(Watched(sent, fails=5 << 20), progress=heard)
        heard.count = 0
        store.take_in(sent, progress=heard)
        assert heard.count == sent.size


class Heard(Silent):
    """Progress that counts."""

    count = 0

    def advance(self, count: int) -> None:
        """So many bytes more."""
        self.count += count
