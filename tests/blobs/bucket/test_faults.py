"""A bucket behind a network that breaks: what arrives is right, or the error says what is wrong."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from bucket_builders import BUCKET, fresh_prefix
from fault_proxy import Away, Busy, Cut, CutSending, Fault, FaultProxy, Lost, Overstate, Request, Slow, Stall, Truncate

from assay.blobs.bucket.objects import BucketObjects
from assay.blobs.bucket.opening import open_bucket
from assay.blobs.bucket.options import Options
from assay.blobs.bucket.packed import PackedBucket
from assay.blobs.bucket.store import BucketStore
from assay.blobs.cache.folder import CacheFolder
from assay.blobs.cache.store import CachedStore
from assay.blobs.packs.store import PackedStore
from assay.errors import StorageError
from assay.spec.digest import Digest
from assay.testing.exchange import BASE, TUNE, pack, shipment
from assay.testing.packs import read, weights
from assay.trees import read_into

pytestmark = pytest.mark.root
_MIB = 1 << 20
OPTIONS = Options(piece=5 * _MIB, tries=4, rest=0.02, stall=timedelta(seconds=2))


@pytest.fixture
def proxy(bucket_server: dict[str, str]) -> Iterator[FaultProxy]:
    address = urlsplit(bucket_server["AWS_ENDPOINT_URL"])
    with FaultProxy(address.hostname or "", address.port or 80) as found:
        yield found


@pytest.fixture
def objects(bucket_server: dict[str, str], proxy: FaultProxy) -> BucketObjects:
    """An empty prefix, through the proxy."""
    return fresh_prefix({**bucket_server, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}"}, OPTIONS)


def file_of(tmp_path: Path, size: int, seed: int = 1) -> tuple[Path, bytes]:
    data = random.Random(seed).randbytes(size)
    (tmp_path / "model.bin").write_bytes(data)
    return tmp_path / "model.bin", data


def now_and_then(fault: Fault, *methods: str, share: float, seed: int) -> Callable[[Request], Fault | None]:
    """That fault, at random, and never so often in succession that a request would be given up."""
    rng, left = random.Random(seed), OPTIONS.tries - 2

    def decide(request: Request) -> Fault | None:
        nonlocal left
        if request.method not in methods:
            return None
        happens = left > 0 and rng.random() < share
        left = left - 1 if happens else OPTIONS.tries - 2
        return fault if happens else None

    return decide


READING: dict[str, Fault] = {
    "busy": Busy(),
    "away": Away(),
    "cut": Cut(700_000),
    "cut at once": Cut(0),
    "stall": Stall(300_000),
    "truncated": Truncate(1000),
    "overstated": Overstate(1000),
    "slow": Slow(60 * _MIB),
}


@pytest.mark.parametrize("name", READING)
def test_what_is_read_through_a_broken_network_is_right(
    objects: BucketObjects, proxy: FaultProxy, tmp_path: Path, name: str
) -> None:
    file, data = file_of(tmp_path, 12 * _MIB)
    store = BucketStore(objects)
    digest, _ = store.add_file(file)
    proxy.faults = now_and_then(READING[name], "GET", share=0.4, seed=3)

    into = bytearray(len(data))
    assert read_into(store.open(digest), 0, memoryview(into)) == len(data)
    assert into == data
    assert store.open(digest).read(1000, 5000) == data[1000:6000]
    cached = CachedStore(store, CacheFolder(tmp_path / "cache", 1 << 30), "here")
    for _ in range(2):
        assert cached.open(digest).read(1000, 10 * _MIB) == data[1000:][: 10 * _MIB]
    assert cached.fetch_file(digest).read_bytes() == data


SENDING: dict[str, Fault] = {
    "busy": Busy(),
    "away": Away(),
    "cut while sending": CutSending(400_000),
    "lost answer": Lost(),
    "slow": Slow(60 * _MIB),
}


@pytest.mark.parametrize("name", SENDING)
def test_what_is_sent_through_a_broken_network_is_whole_or_not_there(
    objects: BucketObjects, proxy: FaultProxy, tmp_path: Path, name: str
) -> None:
    file, data = file_of(tmp_path, 17 * _MIB)
    store = BucketStore(objects)
    proxy.faults = now_and_then(SENDING[name], "PUT", "POST", share=0.3, seed=4)
    digest, size = store.add_file(file)
    proxy.faults = lambda request: None
    assert (digest, size) == (Digest.of(data), len(data))
    assert store.open(digest).read(0, size) == data


@pytest.mark.parametrize("name", READING | SENDING)
def test_a_fine_tune_that_is_taken_in_through_a_broken_network_is_right(
    objects: BucketObjects, proxy: FaultProxy, tmp_path: Path, name: str
) -> None:
    base, tune = (weights(1, tune=number, size=2 * _MIB) for number in range(2))
    (tmp_path / "source").mkdir()
    source, store = PackedStore(tmp_path / "source"), PackedBucket(BucketStore(objects), tmp_path / "one")
    pack(source, base, tune)
    pack(store, base)
    sent = shipment(source, store, Digest.of(tune))
    methods = [*(["GET"] if name in READING else []), *(["PUT", "POST"] if name in SENDING else [])]
    proxy.faults = now_and_then((READING | SENDING)[name], *methods, share=0.3, seed=6)
    store.take_in(sent)
    proxy.faults = lambda request: None
    other = PackedBucket(BucketStore(objects), tmp_path / "two")
    assert read(other, Digest.of(tune)) == tune
    assert list(other.check_packs()) == []


def test_a_fine_tune_for_which_the_network_broke_for_good_is_not_there_and_is_taken_in_the_next_time(
    objects: BucketObjects, proxy: FaultProxy, tmp_path: Path
) -> None:
    (tmp_path / "source").mkdir()
    source, store = PackedStore(tmp_path / "source"), PackedBucket(BucketStore(objects), tmp_path / "one")
    pack(source, BASE, TUNE)
    pack(store, BASE)
    sent = shipment(source, store, Digest.of(TUNE))
    other = PackedBucket(BucketStore(objects), tmp_path / "two")
    for failed in ("GET", "PUT"):
        proxy.faults = lambda request, failed=failed: (
            Away() if request.method == failed and ".pack" in request.target else None
        )
        with pytest.raises(StorageError):
            PackedBucket(BucketStore(objects), tmp_path / "one").take_in(sent)
        proxy.faults = lambda request: None
        assert set(other.digests()) == {Digest.of(BASE)}
    store.take_in(sent)
    assert read(other, Digest.of(TUNE)) == TUNE


def test_a_server_that_is_always_busy_or_away_is_said_to_be_and_nothing_is_visible(
    objects: BucketObjects, proxy: FaultProxy, tmp_path: Path
) -> None:
    file, _ = file_of(tmp_path, 6 * _MIB)
    store = BucketStore(objects)
    for fault, code in ((Busy(), "bucket-busy"), (Away(), "bucket-unreachable")):
        proxy.faults = lambda request, fault=fault: fault
        for doing in (lambda: store.add_file(file), lambda: store.add(b"small"), lambda: list(store.digests())):
            with pytest.raises(StorageError) as caught:
                doing()
            assert caught.value.code == code
            assert caught.value.hint
    proxy.faults = lambda request: None
    assert list(store.digests()) == []


def test_of_many_that_create_one_object_one_wins_though_answers_get_lost(
    objects: BucketObjects, proxy: FaultProxy
) -> None:
    for round_ in range(5):
        rng = random.Random(round_)
        lost = [Lost()] * (OPTIONS.tries - 1)  # a writer that hears no answer at all gives up
        proxy.faults = lambda request, rng=rng, lost=lost: (
            lost.pop() if lost and request.method == "PUT" and rng.random() < 0.5 else None
        )
        with ThreadPoolExecutor(6) as pool:
            made = list(
                pool.map(lambda one, key=f"one/{round_}": objects.put_if_absent(key, b"writer-%d" % one), range(6))
            )
        proxy.faults = lambda request: None
        assert sum(made) == 1
        assert objects.get(f"one/{round_}") == b"writer-%d" % made.index(True)


def test_after_trouble_requests_go_one_after_the_other(
    objects: BucketObjects, proxy: FaultProxy, tmp_path: Path
) -> None:
    file, data = file_of(tmp_path, 16 * _MIB)
    store = BucketStore(objects)
    digest, _ = store.add_file(file)
    failed: list[Request] = []

    def once(request: Request) -> Fault | None:
        if request.method == "GET" and not failed:
            failed.append(request)
            return Stall(1000)
        return Slow(40 * _MIB) if request.method == "GET" else None

    proxy.faults = once
    assert store.open(digest).read(0, len(data)) == data
    assert objects._is_troubled()


BAD: dict[str, tuple[dict[str, str], str]] = {
    "no keys": ({"AWS_ACCESS_KEY_ID": "", "AWS_EC2_METADATA_DISABLED": "true"}, "bucket-credentials"),
    "unknown key": ({"AWS_ACCESS_KEY_ID": "nobody"}, "bucket-credentials"),
    "wrong secret": ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "bucket-credentials"),
    "not signed": ({"AWS_SKIP_SIGNATURE": "true"}, "bucket-denied"),
    "nobody listens": ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "bucket-unreachable"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bucket_that_cannot_be_opened_says_why_and_no_secret(bucket_server: dict[str, str], name: str) -> None:
    changed, code = BAD[name]
    env = {**bucket_server, "HOME": "/nonexistent", **changed}
    with pytest.raises(StorageError) as caught:
        open_bucket(f"s3://{BUCKET}/x", options=OPTIONS, environ=env)
    assert caught.value.code == code
    assert caught.value.hint
    said = repr(caught.value.to_json()) + repr(caught.value.__cause__)
    assert not any(secret in said for secret in (bucket_server["AWS_SECRET_ACCESS_KEY"], "wrong", "Signature="))


def test_a_bucket_that_is_not_there_is_said_to_be_missing(bucket_server: dict[str, str]) -> None:
    with pytest.raises(StorageError) as caught:
        open_bucket("s3://assay-never-made/x", options=OPTIONS, environ=bucket_server)
    assert caught.value.code == "bucket-missing"
