"""Packed blobs travel as segments to buckets and from them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from secrets import token_hex
from threading import Thread
from typing import Any

import pytest
from bucket_builders import BUCKET, QUICK, bucket_in_folder

from assay.blobs.bucket.objects import BucketObjects
from assay.blobs.bucket.opening import open_bucket
from assay.blobs.bucket.packed import PackedBucket
from assay.blobs.bucket.reading import BucketSource
from assay.blobs.bucket.store import BucketStore
from assay.blobs.bucket.turns import Turn
from assay.blobs.cache.folder import CacheFolder
from assay.blobs.cache.store import CachedExchangingStore
from assay.blobs.packs import exchange
from assay.blobs.packs.store import PackedStore
from assay.errors import Conflict, StorageError
from assay.ports.exchange import SegmentExchange
from assay.ports.packs import ToPack
from assay.spec.digest import Digest
from assay.testing.exchange import BASE, TUNE, ExchangeContract, ExchangingStore, Watched, pack, shipment
from assay.testing.packs import read, stretches, weights
from assay.trees import Source
from assay.wiring.caching import cached


def packed_bucket(folder: Path, machine: str = "one") -> PackedBucket:
    return PackedBucket(BucketStore(bucket_in_folder(folder / "bucket")), folder / machine)


class TestBetweenBuckets(ExchangeContract):
    def fresh_store(self, folder: Path) -> ExchangingStore:
        return packed_bucket(folder)

    def elsewhere(self, folder: Path) -> ExchangingStore:
        return packed_bucket(folder, "two")


class TestFromAFolder(TestBetweenBuckets):
    def fresh_source(self, folder: Path) -> ExchangingStore:
        return PackedStore(folder)


class TestToAFolder(ExchangeContract):
    def fresh_store(self, folder: Path) -> ExchangingStore:
        return PackedStore(folder)

    def fresh_source(self, folder: Path) -> ExchangingStore:
        return packed_bucket(folder)


class TestBehindACache(ExchangeContract):
    def fresh_store(self, folder: Path) -> ExchangingStore:
        return CachedExchangingStore(packed_bucket(folder), CacheFolder(folder / "cache", 1 << 20), "here")

    def elsewhere(self, folder: Path) -> ExchangingStore:
        return packed_bucket(folder, "two")


@pytest.mark.root
class TestOnAServer(ExchangeContract):
    slack = timedelta(seconds=2.2)

    @pytest.fixture(autouse=True)
    def _server(self, bucket_server: dict[str, str]) -> None:
        self.server, self.prefix = bucket_server, token_hex(8)

    def fresh_store(self, folder: Path) -> ExchangingStore:
        return self.opened(folder, "one")

    def elsewhere(self, folder: Path) -> ExchangingStore:
        return self.opened(folder, "two")

    def opened(self, folder: Path, machine: str) -> PackedBucket:
        url = f"s3://{BUCKET}/{self.prefix}/{folder.name}"
        return PackedBucket(BucketStore(open_bucket(url, options=QUICK, environ=self.server)), folder / machine)


@pytest.fixture
def source(tmp_path: Path) -> PackedStore:
    """A folder that has the base and the fine-tune, packed."""
    (tmp_path / "source").mkdir()
    source = PackedStore(tmp_path / "source")
    pack(source, BASE, TUNE)
    return source


@pytest.fixture
def sent(tmp_path: Path, source: PackedStore) -> Source:
    """What a bucket that has the base lacks of the fine-tune; the bucket is there."""
    store = packed_bucket(tmp_path)
    pack(store, BASE)
    return shipment(source, store, Digest.of(TUNE))


def lapsed_once_it_was_sent(store: PackedBucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """The turn counts when sending begins, and does not when it ends; the next one does."""
    send, check, sent = BucketObjects.put_parts, Turn.check, [False]

    def sending(objects: BucketObjects, *arguments: Any) -> None:
        send(objects, *arguments)
        sent[0] = True

    def checking(turn: Turn) -> None:
        if sent[0]:
            monkeypatch.setattr(Turn, "check", check)
            raise StorageError("this machine stood still", code="turn-lapsed")
        check(turn)

    monkeypatch.setattr(BucketObjects, "put_parts", sending)
    monkeypatch.setattr(Turn, "check", checking)


def test_a_pack_that_was_sent_when_the_turn_was_lost_counts_for_nobody_and_is_compacted_away(
    tmp_path: Path, sent: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = packed_bucket(tmp_path), packed_bucket(tmp_path, "two")
    before = other.pack_use()
    lapsed_once_it_was_sent(store, monkeypatch)
    with pytest.raises(StorageError, match="stood still"):
        store.take_in(sent)

    packs = tmp_path / "bucket/packs"
    assert len(list(packs.glob("*.pack"))) == 2
    for opened in (store, other, packed_bucket(tmp_path, "three")):
        assert opened.pack_use() == before
        assert opened.size(Digest.of(TUNE)) is None
        assert opened.renew(Digest.of(TUNE)) is None
        assert set(opened.digests()) == {Digest.of(BASE)}
    assert other.compact() > 0
    assert len(list(packs.iterdir())) == 1
    assert read(other, Digest.of(BASE)) == BASE


def test_a_pack_that_was_sent_when_the_turn_was_lost_is_taken_in_the_next_time(
    tmp_path: Path, sent: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = packed_bucket(tmp_path), packed_bucket(tmp_path, "two")
    lapsed_once_it_was_sent(store, monkeypatch)
    with pytest.raises(StorageError, match="stood still"):
        store.take_in(sent)
    assert set(other.digests()) == {Digest.of(BASE)}

    store.take_in(sent)

    for opened in (other, store, packed_bucket(tmp_path, "three")):
        assert read(opened, Digest.of(TUNE)) == TUNE
        assert list(opened.check_packs()) == []


class Dying:
    """Writes to a bucket, of which only so many are done: then the process is dead, as far as the bucket can tell."""

    def __init__(self, objects: BucketObjects, left: int) -> None:
        self.left = left
        for name in ("put", "put_if_absent", "put_parts", "copy", "delete"):
            setattr(objects, name, self._limited(getattr(objects, name)))

    def _limited(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def do(*arguments: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise StorageError("dead")
            return call(*arguments)

        return do


@pytest.mark.parametrize("again", [False, True])
def test_whoever_dies_while_taking_in_leaves_all_of_it_or_nothing_and_the_next_one_finishes(
    tmp_path: Path, source: PackedStore, again: bool
) -> None:
    """After every single write; *again*: the blob was taken in before, and deleted."""
    done = 0
    while True:
        folder = tmp_path / f"place-{done}"
        whole = packed_bucket(folder)
        pack(whole, BASE)
        sent = shipment(source, whole, Digest.of(TUNE))
        other = packed_bucket(folder, "two")
        if again:
            whole.take_in(sent)
            other.delete(Digest.of(TUNE))
        assert other.size(Digest.of(TUNE)) is None

        objects = bucket_in_folder(folder / "bucket")
        dying = Dying(objects, done)
        with suppress(StorageError):
            PackedBucket(BucketStore(objects), folder / "one").take_in(sent)

        for opened in (other, packed_bucket(folder, "three")):
            for digest in opened.digests():
                assert read(opened, digest) == {Digest.of(BASE): BASE, Digest.of(TUNE): TUNE}[digest]
            assert list(opened.check_packs()) == []
        packed_bucket(folder).take_in(sent)
        for opened in (other, packed_bucket(folder, "three"), packed_bucket(folder)):
            assert set(opened.digests()) == {Digest.of(BASE), Digest.of(TUNE)}
            assert read(opened, Digest.of(TUNE)) == TUNE
        if dying.left >= 0:
            break
        done += 1
    assert done >= 5


def test_a_bucket_that_fails_while_the_bases_are_read_keeps_what_came(
    tmp_path: Path, source: PackedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, store = weights(3, size=6 << 20), packed_bucket(tmp_path)
    pack(store, data)
    tune = weights(3, tune=1, size=6 << 20)
    pack(source, data, tune)
    sent = shipment(source, store, Digest.of(tune))
    with monkeypatch.context() as broken:
        broken.setattr(BucketSource, "read_into", away)
        with pytest.raises(StorageError, match="does not answer"):
            store.take_in(sent)
    assert store.size(Digest.of(tune)) is None

    watched = Watched(sent)
    store.take_in(watched)

    assert watched.count < 2 << 20 < 5 << 20 < sent.size
    assert read(store, Digest.of(tune)) == tune


def away(*_: object) -> int:
    raise StorageError("the bucket does not answer", code="bucket-unreachable")


@pytest.mark.parametrize("kind", ["bucket", "folder"])
def test_nobody_compacts_between_the_comparison_of_a_pack_and_its_appearing(
    tmp_path: Path, source: PackedStore, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    (tmp_path / "place").mkdir()
    store, other = (
        (packed_bucket(tmp_path / "place"), packed_bucket(tmp_path / "place", "two"))
        if kind == "bucket"
        else (PackedStore(tmp_path / "place"), PackedStore(tmp_path / "place"))
    )
    pack(store, BASE)
    sent = shipment(source, store, Digest.of(TUNE))

    def compacting() -> None:
        other.delete(Digest.of(BASE))
        other.compact(least=0.0)

    beside = Thread(target=compacting)
    original = exchange.Exchange._checked

    def checked(*arguments: Any) -> Any:
        found = original(*arguments)
        beside.start()
        beside.join(1.0)
        return found

    monkeypatch.setattr(exchange.Exchange, "_checked", checked)
    store.take_in(sent)
    beside.join()

    for opened in (store, other):
        assert read(opened, Digest.of(TUNE)) == TUNE
        assert set(opened.digests()) == {Digest.of(TUNE)}


def test_who_may_not_write_takes_nothing_in_and_reads_nothing(tmp_path: Path, sent: Source) -> None:
    def permit() -> None:
        raise Conflict("somebody else writes it", code="bucket-has-writer")

    store = PackedBucket(BucketStore(bucket_in_folder(tmp_path / "bucket")), tmp_path / "two", permit)
    watched = Watched(sent)
    with pytest.raises(Conflict):
        store.take_in(watched)
    assert watched.count == 0
    assert set(store.digests()) == {Digest.of(BASE)}


def test_what_is_said_of_a_pack_anew_is_never_as_long_as_what_was_said_before(
    tmp_path: Path, source: PackedStore
) -> None:
    """Its length is what tells other machines that it changed."""
    digests = [source.add(bytes([number]) * 100) for number in range(4)]
    source.pack([ToPack(digest) for digest in digests])
    store, other = packed_bucket(tmp_path), packed_bucket(tmp_path, "two")
    sent = shipment(source, store, *digests)
    store.take_in(sent)
    for digest in digests[:3]:
        other.delete(digest)
    store.take_in(sent)
    with store.sweep() as sweep:
        for digest in digests[1:]:
            sweep.delete(digest)

    assert list(other.digests()) == digests[:1]
    assert read(other, digests[0]) == bytes(100)


def test_what_an_empty_bucket_takes_in_is_there_at_once(tmp_path: Path, source: PackedStore) -> None:
    store = packed_bucket(tmp_path)
    assert not store.takes_packs()
    store.take_in(source.hand_over([Digest.of(TUNE)], [part.id for part in source.parts(Digest.of(TUNE)) or ()]))
    assert read(store, Digest.of(TUNE)) == TUNE
    assert store.takes_packs()


def test_asking_whether_packs_are_taken_costs_one_request(tmp_path: Path) -> None:
    objects = bucket_in_folder(tmp_path / "bucket")
    asked: list[str] = []
    listing = objects.list
    objects.list = lambda prefix, **how: asked.append(prefix) or listing(prefix, **how)  # type: ignore[method-assign,func-returns-value]
    store = PackedBucket(BucketStore(objects), tmp_path / "one")
    assert not any(store.takes_packs() for _ in range(100))
    assert asked == ["packs/"]


def test_what_lies_together_in_a_bucket_is_fetched_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, data = packed_bucket(tmp_path), weights(4, count=40, size=4000)
    source.pack([ToPack(source.add(data), stretches(data, count=40))])
    parts = source.parts(Digest.of(data))
    assert parts is not None
    assert len(parts) > 40
    sent = source.hand_over([Digest.of(data)], [part.id for part in parts])
    fetched: list[int] = []
    original = BucketObjects.read_into

    def counted(self: BucketObjects, key: str, offset: int, into: memoryview) -> None:
        fetched.append(len(into))
        original(self, key, offset, into)

    monkeypatch.setattr(BucketObjects, "read_into", counted)
    assert len(sent.read(0, sent.size)) == sent.size
    assert len(fetched) == 1


def test_a_cache_passes_on_what_the_store_behind_it_offers_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    store = cached(packed_bucket(tmp_path), "here")
    plain = cached(BucketStore(bucket_in_folder(tmp_path / "bucket")), "here")
    assert isinstance(store, SegmentExchange)
    assert isinstance(store.past(), SegmentExchange)
    assert not isinstance(plain, SegmentExchange)
    assert not isinstance(plain.past(), SegmentExchange)
