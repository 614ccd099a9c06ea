"""What a cache keeps, drops and never gives."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.blobs.cache.folder import CacheFolder
from assay.blobs.cache.kept import BLOCK
from assay.blobs.cache.store import CachedStore
from assay.blobs.memory import MemoryStore
from assay.errors import IntegrityError, InvalidInput, StorageError
from assay.spec.digest import Digest
from assay.trees import read_into
from assay.wiring.caching import open_cache, parse_size

_MIB = 1 << 20


class Counting(MemoryStore):
    """A far store that counts what is read from it, and may give wrong bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[tuple[int, int]] = []
        self.wrong = False
        self.mark = ""
        self.broken_from: int | None = None

    def open(self, digest: Digest) -> CountingSource:
        return CountingSource(self, super().open(digest).read(0, 1 << 40))


class CountingSource:
    def __init__(self, store: Counting, data: bytes) -> None:
        self.store, self.data, self.size, self.mark = store, data, len(data), store.mark

    def read(self, offset: int, length: int) -> bytes:
        if self.store.broken_from is not None and offset >= self.store.broken_from:
            raise StorageError("the place failed")
        data = self.data[offset : offset + length]
        self.store.reads.append((offset, len(data)))
        return bytes(len(data)) if self.store.wrong else data


def random_bytes(count: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(count)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read is kept before the reader goes on, so that a test can look."""
    monkeypatch.setattr("assay.blobs.cache.keeper.LATER", 0)


@pytest.fixture
def far() -> Counting:
    return Counting()


def cache_of(far: object, folder: Path, bound: int = 1 << 30, place: str = "here") -> CachedStore:
    return CachedStore(far, CacheFolder(folder / "cache", bound), place)


def files(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "cache" / "blobs").rglob("*") if path.is_file())


def blocks(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "cache" / "blocks").rglob("*") if path.is_file())


def test_what_was_read_in_part_is_not_fetched_again_and_little_is_fetched_around_it(
    far: Counting, tmp_path: Path
) -> None:
    data = random_bytes(20 * _MIB + 17)
    digest = far.add(data)
    source = cache_of(far, tmp_path).open(digest)
    into = bytearray(5 * _MIB)
    assert read_into(source, 3 * _MIB + 5, memoryview(into)) == len(into)
    assert into == data[3 * _MIB + 5 : 8 * _MIB + 5]
    assert sum(length for _, length in far.reads) == 6 * _MIB

    far.reads.clear()
    again = cache_of(far, tmp_path).open(digest)
    assert again.read(4 * _MIB, 4 * _MIB) == data[4 * _MIB : 8 * _MIB]
    assert far.reads == []
    assert again.read(0, 30 * _MIB) == data
    assert sum(length for _, length in far.reads) == len(data) - 6 * _MIB


def settle(store: CachedStore) -> None:
    """Wait until what was read is kept."""
    store._hands.keeper._pool.submit(bool).result()


def test_a_long_read_fetches_what_was_asked_for_and_not_a_byte_more_and_its_neighbours_complete_its_blocks(
    far: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assay.blobs.cache.keeper.LATER", 64 * _MIB)
    data = random_bytes(9 * _MIB + 17)
    digest = far.add(data)
    store = cache_of(far, tmp_path)
    low, high = 3 * _MIB + 5, 6 * _MIB + 7
    assert store.open(digest).read(low, high - low) == data[low:high]
    assert far.reads == [(low, high - low)]
    settle(store)
    assert [path.name for path in blocks(tmp_path)] == ["3.tail", "4", "5", "6.head"]

    far.reads.clear()
    again = cache_of(far, tmp_path)
    assert again.open(digest).read(low, high - low) == data[low:high]
    assert again.open(digest).read(low + 10, 3 * _MIB - 20) == data[low + 10 : low + 3 * _MIB - 10]
    assert far.reads == []
    assert again.open(digest).read(0, low) == data[:low]
    assert again.open(digest).read(high, len(data)) == data[high:]
    assert far.reads == [(0, low), (high, len(data) - high)]
    settle(again)
    assert [path.name for path in blocks(tmp_path)] == [str(number) for number in range(10)]
    assert cache_of(far, tmp_path).open(digest).read(0, len(data)) == data
    assert len(far.reads) == 2


def test_who_is_faster_than_the_disk_fetches_whole_blocks_and_those_at_the_edges_apart(
    far: Counting, tmp_path: Path
) -> None:
    data = random_bytes(40 * _MIB)
    digest = far.add(data)
    low, high = _MIB // 2, 36 * _MIB + 5
    assert cache_of(far, tmp_path).open(digest).read(low, high - low) == data[low:high]
    assert sorted(far.reads) == [
        (0, _MIB),
        (_MIB, 16 * _MIB),
        (17 * _MIB, 16 * _MIB),
        (33 * _MIB, 3 * _MIB),
        (36 * _MIB, _MIB),
    ]
    assert [path.suffix for path in blocks(tmp_path)] == [""] * 37


@pytest.mark.parametrize("later", [0, 64 * _MIB])
def test_any_reads_in_any_order_give_the_bytes_and_need_nothing_from_far_away_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later: int
) -> None:
    monkeypatch.setattr("assay.blobs.cache.keeper.LATER", later)
    data = random_bytes(5 * BLOCK + 1000)
    far = Counting()
    digest = far.add(data)
    number = iter(range(10**6))

    @settings(deadline=None, max_examples=40)
    @given(st.lists(st.tuples(st.integers(0, len(data) + 10), st.integers(0, 4 * BLOCK)), max_size=5))
    def check(reads: list[tuple[int, int]]) -> None:
        store = cache_of(far, tmp_path / str(next(number) % 4))
        source = store.open(digest)
        for offset, length in reads:
            assert source.read(offset, length) == data[offset : offset + length]
            settle(store)
            far.reads.clear()
            assert store.open(digest).read(offset, length) == data[offset : offset + length]
            assert far.reads == []

    check()


def test_many_small_reads_make_few_requests(far: Counting, tmp_path: Path) -> None:
    data = random_bytes(2 * _MIB)
    digest = far.add(data)
    source = cache_of(far, tmp_path).open(digest)
    for offset in range(0, 100_000, 100):
        assert source.read(offset, 8) == data[offset : offset + 8]
    assert len(far.reads) == 1


@pytest.mark.parametrize("hurt", ["flip", "cut", "empty", "grow"])
def test_a_block_that_was_damaged_here_is_fetched_again(far: Counting, tmp_path: Path, hurt: str) -> None:
    data = random_bytes(2 * _MIB)
    digest = far.add(data)
    cache_of(far, tmp_path).open(digest).read(0, len(data))
    damage(tmp_path, hurt)
    far.reads.clear()
    assert cache_of(far, tmp_path).open(digest).read(0, len(data)) == data
    assert (len(far.reads) > 0) is (hurt != "grow")  # what is behind the checksum does not matter


@pytest.mark.parametrize("hurt", ["flip", "cut", "empty", "grow", "move"])
def test_a_part_of_a_block_that_was_damaged_here_is_fetched_again(
    far: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hurt: str
) -> None:
    monkeypatch.setattr("assay.blobs.cache.keeper.LATER", 64 * _MIB)
    data = random_bytes(4 * _MIB)
    digest = far.add(data)
    store = cache_of(far, tmp_path)
    store.open(digest).read(_MIB // 2, 3 * _MIB)
    settle(store)
    if hurt == "move":
        (tail,) = [path for path in blocks(tmp_path) if path.name == "0.tail"]
        tail.rename(tail.with_name("0.head"))
    else:
        damage(tmp_path, hurt)
    far.reads.clear()
    again = cache_of(far, tmp_path)
    assert again.open(digest).read(0, _MIB // 2) == data[: _MIB // 2]
    assert again.open(digest).read(_MIB // 2, 3 * _MIB) == data[_MIB // 2 : 7 * _MIB // 2]
    assert len(far.reads) > 0
    settle(again)
    assert again.open(digest).read(0, len(data)) == data


def damage(folder: Path, hurt: str) -> None:
    for path in blocks(folder):
        path.chmod(0o644)
        body = bytearray(path.read_bytes())
        if hurt == "flip":
            body[len(body) // 2] ^= 1
        path.write_bytes({"flip": body, "cut": body[:-1], "empty": b"", "grow": body + b"x"}[hurt])


def test_what_is_kept_later_is_what_was_read_whatever_the_reader_does_with_its_memory(
    far: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assay.blobs.cache.keeper.LATER", 6 * _MIB)
    data = random_bytes(20 * _MIB + 5)
    digest = far.add(data)
    store = cache_of(far, tmp_path)
    into = bytearray(len(data))
    read_into(store.open(digest), 0, memoryview(into))
    into[:] = bytes(len(into))
    store._hands.keeper._pool.shutdown()
    assert len(blocks(tmp_path)) == 21
    far.reads.clear()
    assert cache_of(far, tmp_path).open(digest).read(0, len(data)) == data
    assert far.reads == []


@pytest.mark.parametrize("later", [0, 64 * _MIB])
def test_a_read_that_fails_half_way_keeps_what_had_come(
    far: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later: int
) -> None:
    monkeypatch.setattr("assay.blobs.cache.keeper.LATER", later)
    data = random_bytes(40 * _MIB)
    store = cache_of(far, tmp_path)
    source = store.open(far.add(data))
    source.read(2 * _MIB, _MIB)
    far.broken_from = 3 * _MIB
    with pytest.raises(StorageError):
        source.read(0, 40 * _MIB)
    store._hands.keeper._pool.shutdown()

    far.reads.clear()
    assert cache_of(far, tmp_path).open(Digest.of(data)).read(0, 3 * _MIB) == data[: 3 * _MIB]
    assert far.reads == []


def test_blocks_of_one_place_are_not_given_to_another(far: Counting, tmp_path: Path) -> None:
    data = random_bytes(2 * _MIB)
    digest = far.add(data)
    far.wrong = True
    assert cache_of(far, tmp_path, place="s3://evil").open(digest).read(0, len(data)) == bytes(len(data))
    far.wrong = False
    assert cache_of(far, tmp_path, place="s3://good").open(digest).read(0, len(data)) == data


def test_a_file_is_fetched_once_is_read_only_and_serves_every_later_read(far: Counting, tmp_path: Path) -> None:
    data = random_bytes(9 * _MIB)
    digest = far.add(data)
    store = cache_of(far, tmp_path)
    assert store.local_file(digest) is None
    path = store.fetch_file(digest)
    assert path.read_bytes() == data
    assert path.stat().st_mode & 0o222 == 0
    far.reads.clear()
    for other in (store, cache_of(far, tmp_path, place="elsewhere")):
        assert other.fetch_file(digest) == other.local_file(digest) == path
        assert other.open(digest).read(5, 100) == data[5:105]
    assert far.reads == []


def test_what_does_not_match_its_digest_is_not_kept_as_a_file(far: Counting, tmp_path: Path) -> None:
    large, small = far.add(random_bytes(9 * _MIB)), far.add(b"small")
    far.wrong = True
    store = cache_of(far, tmp_path)
    with pytest.raises(IntegrityError):
        store.fetch_file(large)
    with pytest.raises(IntegrityError):
        store.open(small)
    assert files(tmp_path) == []
    far.wrong = False
    assert store.fetch_file(large).stat().st_size == 9 * _MIB


def test_a_file_that_somebody_wrote_to_is_dropped(far: Counting, tmp_path: Path) -> None:
    data = random_bytes(2 * _MIB)
    digest = far.add(data)
    path = cache_of(far, tmp_path).fetch_file(digest)
    os.link(path, tmp_path / "linked")
    path.chmod(0o644)
    with path.open("r+b") as handle:
        handle.write(b"changed")
    store = cache_of(far, tmp_path)
    assert store.local_file(digest) is None
    assert store.open(digest).read(0, len(data)) == data
    assert store.fetch_file(digest).read_bytes() == data


def test_an_interrupted_fetch_goes_on_and_a_wrong_beginning_is_thrown_away(far: Counting, tmp_path: Path) -> None:
    data = random_bytes(30 * _MIB)
    digest = far.add(data)
    for beginning, most in ((data[: 24 * _MIB], 6 * _MIB), (bytes(24 * _MIB), 36 * _MIB)):
        folder = tmp_path / str(most)
        store = cache_of(far, folder)
        store.folder.prepare()
        (folder / "cache" / "staging" / f"part-{digest.hex}").write_bytes(beginning)
        assert store.folder.use().unfinished == 24 * _MIB
        far.reads.clear()
        assert store.fetch_file(digest).read_bytes() == data
        assert sum(length for _, length in far.reads) <= most
        assert store.folder.use().unfinished == 0


def test_the_bound_holds_and_what_was_used_longest_ago_goes_first(far: Counting, tmp_path: Path) -> None:
    digests = [far.add(random_bytes(2 * _MIB, seed)) for seed in range(12)]
    for number, digest in enumerate(digests):
        store = cache_of(far, tmp_path, bound=10 * _MIB)
        if number % 2:
            store.fetch_file(digest)
        else:
            store.open(digest).read(0, 1 << 30)
        for path in (*files(tmp_path), *blocks(tmp_path)):
            seen = path.stat()
            os.utime(path, ns=(seen.st_atime_ns - 100 * 10**9, seen.st_mtime_ns))
        if number == 3:
            assert cache_of(far, tmp_path).open(digests[1]).read(0, 10)  # used again
        release(store)
        assert store.folder.use().bytes <= 10 * _MIB + 2 * _MIB
    kept = {path.name for path in files(tmp_path)} | {path.parent.name for path in blocks(tmp_path)}
    assert digests[-1].hex in kept
    assert digests[0].hex not in kept


def release(store: CachedStore) -> None:
    """What the end of a process does."""
    while store.folder._pins:
        os.close(store.folder._pins.popitem()[1])


def test_what_a_living_process_uses_stays(far: Counting, tmp_path: Path) -> None:
    used, unused = far.add(random_bytes(2 * _MIB, 1)), far.add(random_bytes(2 * _MIB, 2))
    store, other = cache_of(far, tmp_path), cache_of(far, tmp_path)
    path = store.fetch_file(used)
    other.fetch_file(unused)
    release(other)
    assert other.folder.use().in_use == 2 * _MIB
    assert other.folder.make_room(0) == 2 * _MIB
    assert path.exists()
    release(store)
    assert other.folder.make_room(0) == 2 * _MIB
    assert not path.exists()
    assert store.fetch_file(used).exists()


def test_many_threads_read_and_fetch_the_same_blobs_while_room_is_made(far: Counting, tmp_path: Path) -> None:
    data = [random_bytes(3 * _MIB + seed, seed) for seed in range(6)]
    digests = [far.add(one) for one in data]
    store = cache_of(far, tmp_path, bound=5 * _MIB)

    def work(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(15):
            number = rng.randrange(6)
            if rng.random() < 0.4:
                assert store.fetch_file(digests[number]).read_bytes() == data[number]
            offset, length = rng.randrange(4 * _MIB), rng.randrange(2 * _MIB)
            assert store.open(digests[number]).read(offset, length) == data[number][offset : offset + length]
            if rng.random() < 0.1:
                store.folder.make_room(0)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))


def test_a_cache_that_cannot_be_written_is_read_past(far: Counting, tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    data = random_bytes(3 * _MIB)
    digest, small = far.add(data), far.add(b"small")
    store = cache_of(far, tmp_path)
    assert store.open(digest).read(0, len(data)) == data
    assert store.open(small).read(0, 10) == b"small"


def test_who_checks_what_lies_far_away_is_not_given_what_was_fetched_and_what_is_set_aside_is_dropped(
    far: Counting, tmp_path: Path
) -> None:
    data = random_bytes(3 * _MIB)
    digest = far.add(data)
    store = cache_of(far, tmp_path)
    store.open(digest).read(0, len(data))
    store.fetch_file(digest)
    past = store.past()
    far.wrong = True
    assert past.open(digest).read(0, len(data)) == bytes(len(data))
    assert past.local_file(digest) is None
    assert store.open(digest).read(0, len(data)) == data
    past.set_aside(digest)
    assert blocks(tmp_path) == []
    assert store.local_file(digest) is None


def test_settings_say_where_and_how_much(tmp_path: Path) -> None:
    cache = open_cache({"ASSAY_CACHE": str(tmp_path / "c"), "ASSAY_CACHE_SIZE": "1.5 GiB"})
    assert (cache.root, cache.bound) == (tmp_path / "c", 3 << 29)
    assert open_cache({"ASSAY_CACHE": str(tmp_path)}).bound > 0
    assert [parse_size(text, "x") for text in ("7", "2kb", "3MB", "1GiB", "2 t")] == [
        7,
        2000,
        3 * 10**6,
        1 << 30,
        2 * 10**12,
    ]
    for text in ("", "-1", "5 EB", "GB", "1e9"):
        with pytest.raises(InvalidInput, match="no size"):
            parse_size(text, "x")


def test_blocks_of_a_damaged_copy_are_not_given_once_it_was_put_right(far: Counting, tmp_path: Path) -> None:
    data = random_bytes(3 * _MIB)
    digest = far.add(data)
    far.wrong, far.mark = True, "of yesterday"
    assert cache_of(far, tmp_path).open(digest).read(0, len(data)) == bytes(len(data))
    far.wrong, far.mark = False, "of today"
    assert cache_of(far, tmp_path).open(digest).read(0, len(data)) == data


def test_a_forked_child_reads_through_the_cache(far: Counting, tmp_path: Path) -> None:
    data = random_bytes(12 * _MIB)
    digest = far.add(data)
    store = cache_of(far, tmp_path)
    for _ in range(2):
        assert store.open(digest).read(0, 10 * _MIB) == data[: 10 * _MIB]
    child = os.fork()
    if child == 0:
        signal.alarm(30)  # threads that there are not are waited for without end
        os._exit(0 if store.open(digest).read(0, len(data)) == data else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_while_room_is_made_nobody_begins_to_use_what_goes(
    far: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = cache_of(far, tmp_path)
    path = store.fetch_file(far.add(random_bytes(2 * _MIB)))
    release(store)
    unlink, refused = Path.unlink, []

    def look_and_unlink(file: Path, missing_ok: bool = False) -> None:
        with file.open("rb") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                refused.append(file)
        unlink(file, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", look_and_unlink)
    assert store.folder.make_room(0) == 2 * _MIB
    assert refused == [path]


def test_of_more_blobs_than_are_pinned_each_can_be_read_though_room_was_made(
    far: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assay.blobs.cache.folder._PINS", 2)
    data = [random_bytes(1000, seed) for seed in range(5)]
    store = cache_of(far, tmp_path)
    sources = [store.open(far.add(one)) for one in data]
    assert store.folder.make_room(0) > 0
    assert [source.read(0, 1000) for source in sources] == data


def test_a_fetch_that_could_not_be_kept_leaves_a_beginning_that_can_be_gone_on_with(
    far: Counting, tmp_path: Path
) -> None:
    data = random_bytes(2 * _MIB)
    digest = far.add(data)
    store = cache_of(far, tmp_path)
    store.folder.prepare()
    (tmp_path / "cache" / "blobs").touch()
    with pytest.raises(StorageError):
        store.fetch_file(digest)
    (beginning,) = (tmp_path / "cache" / "staging").glob("part-*")
    assert beginning.stat().st_mode & 0o200
    (tmp_path / "cache" / "blobs").unlink()
    assert store.fetch_file(digest).read_bytes() == data


def test_what_is_read_while_the_process_ends_is_given_and_kept(
    far: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assay.blobs.cache.keeper.LATER", 64 * _MIB)
    data = random_bytes(2 * _MIB)
    digest = far.add(data)
    store = cache_of(far, tmp_path)
    store._hands.keeper._pool.shutdown()
    assert store.open(digest).read(0, len(data)) == data
    assert len(blocks(tmp_path)) == 2
    assert store._hands.keeper.has_room(64 * _MIB)


def test_parts_stay_where_the_disk_has_no_room_for_the_whole_block(
    far: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assay.blobs.cache.keeper.LATER", 64 * _MIB)
    data = random_bytes(6 * _MIB)
    digest = far.add(data)
    store = cache_of(far, tmp_path)
    store.open(digest).read(0, 2 * _MIB + 5)
    settle(store)
    names = [path.name for path in blocks(tmp_path)]
    assert names == ["0", "1", "2.head"]

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("assay.blobs.cache.kept.write_all", full)
    assert store.open(digest).read(2 * _MIB + 5, 3 * _MIB) == data[2 * _MIB + 5 : 5 * _MIB + 5]
    settle(store)
    assert [path.name for path in blocks(tmp_path)] == names
