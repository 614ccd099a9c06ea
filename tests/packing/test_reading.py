"""Ranges of packed blobs: what is asked for comes, from as few blocks as hold it, by as many threads as help."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packs import Hand, Pack, by_hand

from assay.blobs.packs.store import PackedStore
from assay.errors import BadFormat, IntegrityError, StorageError
from assay.packing import codec, directory, reading
from assay.packing.codec import BLOCK, OPAQUE, Words
from assay.packing.reading import Decoder, PackedSource
from assay.packing.segments import Segment, read_table, segment_id, write_table
from assay.ports.packs import Stretch, ToPack
from assay.trees import Source
from assay.trees.window import FileSource, MemorySource

FLOATS = Words(4, rotate=True)


def weights(count: int, seed: int = 0, step: float = 0.0) -> bytes:
    """Bytes of weights; with *step*: of a fine-tune of those."""
    found = (np.random.default_rng(seed).standard_normal(-(-count // 4)) * 0.05).astype("<f4")
    if step:
        found += (np.random.default_rng(seed + 1).standard_normal(len(found)) * step).astype("<f4")
    return found.tobytes()[:count]


class Watched:
    """A source elsewhere, that remembers what was asked of it."""

    def __init__(self, data: bytes, *, delay: float = 0.0) -> None:
        self.data, self.delay, self.asked = data, delay, list[tuple[int, int]]()
        self.most = self.now = 0
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, offset: int, length: int) -> bytes:
        with self._lock:
            self.asked.append((offset, length))
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(self.delay)
        with self._lock:
            self.now -= 1
        return self.data[offset : offset + length]


class OneShelf:
    """The segments of one pack."""

    def __init__(self, pack: Pack, source: Source | None = None) -> None:
        offset, length, digest = directory.read_footer(pack.data[-64:], len(pack.data))
        self.held = directory.decode(pack.data[offset : offset + length], digest)
        self.source = source or MemorySource(pack.data)
        self.segments = {segment.id: segment for segment in self.held.segments}
        self.finds = 0

    def find(self, segment: bytes) -> tuple[Segment, Source] | None:
        self.finds += 1
        return (self.segments[segment], self.source) if segment in self.segments else None

    def blob(self, number: int, decoder: Decoder | None = None) -> PackedSource:
        parts = self.held.blobs[number].parts
        return PackedSource(decoder or Decoder(self), [(part, self.segments[part].size) for part in parts])


@pytest.fixture(scope="module")
def raws() -> list[bytes]:
    base = weights(3 * BLOCK + 4000)
    tune = weights(3 * BLOCK + 4000, step=1e-6)
    return [b"a document " * 50, base, tune, weights(5000, 3), weights(BLOCK, 4)]


@pytest.fixture(scope="module")
def pack(raws: list[bytes]) -> Pack:
    document, base, tune, small, one = raws
    hands = [Hand(document, OPAQUE), Hand(base, FLOATS), Hand(tune, FLOATS, base=1), Hand(small, FLOATS)]
    hands += [Hand(one, FLOATS), Hand(weights(3 * BLOCK + 4000, step=2e-6), FLOATS, base=2, ordered=True)]
    return by_hand(hands, blobs=[[document, base, small, tune, small, one, document]])


@pytest.fixture(scope="module")
def whole(raws: list[bytes]) -> bytes:
    document, base, tune, small, one = raws
    return b"".join([document, base, small, tune, small, one, document])


def shelf(pack: Pack, where: str, folder: Path) -> OneShelf:
    if where == "memory":
        return OneShelf(pack)
    file = folder / "a.pack"
    file.write_bytes(pack.data)
    return OneShelf(pack, FileSource(file))


@pytest.mark.parametrize("where", ["memory", "file"])
def test_a_whole_blob_is_read_into_memory_of_the_callers(pack: Pack, whole: bytes, where: str, tmp_path: Path) -> None:
    source = shelf(pack, where, tmp_path).blob(-1)
    room = bytearray(len(whole) + 10)
    assert source.size == len(whole)
    assert source.read_into(0, memoryview(room)) == len(whole)
    assert room[: len(whole)] == whole
    assert not any(room[len(whole) :])


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_range_is_read(pack: Pack, whole: bytes, chance: st.DataObject) -> None:
    source = OneShelf(pack).blob(-1)
    for _ in range(4):
        offset = chance.draw(st.one_of(st.integers(0, len(whole) + 5), st.sampled_from([0, 550, 550 + BLOCK])))
        length = chance.draw(st.one_of(st.integers(0, 9000), st.integers(0, len(whole))))
        assert source.read(offset, length) == whole[offset : offset + length]


def test_several_bases_are_followed(pack: Pack) -> None:
    deep = OneShelf(pack).blob(5)
    assert deep.read(0, deep.size) == weights(3 * BLOCK + 4000, step=2e-6)
    assert deep.read(BLOCK + 17, 5) == weights(3 * BLOCK + 4000, step=2e-6)[BLOCK + 17 :][:5]


def test_a_small_range_fetches_one_block_and_its_table(pack: Pack, raws: list[bytes]) -> None:
    watched = Watched(pack.data)
    held = OneShelf(pack, watched)
    source = held.blob(1)
    assert source.read(BLOCK + 5, 4096) == raws[1][BLOCK + 5 :][:4096]
    segment = held.segments[held.held.blobs[1].parts[0]]
    assert len(watched.asked) == 2
    assert watched.asked[0][1] == 4 * 36
    assert watched.asked[1][1] < BLOCK
    assert segment.stored > 3 * watched.asked[1][1]


def test_what_was_decoded_a_moment_ago_is_not_decoded_again(pack: Pack, raws: list[bytes]) -> None:
    watched = Watched(pack.data)
    held = OneShelf(pack, watched)
    source = held.blob(1)
    for at in range(0, BLOCK, 64 << 10):
        assert source.read(at, 64 << 10) == raws[1][at : at + (64 << 10)]
    assert len(watched.asked) == 2
    assert held.finds == 1


def test_what_a_store_decoded_a_moment_ago_it_does_not_decode_again(
    tmp_path: Path, raws: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = PackedStore(tmp_path)
    digest = store.add(raws[1])
    store.pack([ToPack(digest, [Stretch(0, len(raws[1]), "tensor", "float32")])])
    decoded, source, decode = list[int](), store.open(digest), codec.decode
    monkeypatch.setattr(codec, "decode", lambda *args, **options: (decoded.append(1), decode(*args, **options)))
    for at in range(0, BLOCK, 64 << 10):
        assert source.read(at, 64 << 10) == raws[1][at : at + (64 << 10)]
    assert len(decoded) == 1


def test_memory_for_what_was_decoded_and_for_tables_is_bounded(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_KEPT_ROWS", 4)
    held = OneShelf(pack)
    decoder = Decoder(held)
    for number in (1, 2, 1, 5, 2, 1):
        blob = held.blob(number, decoder)
        for at in range(0, blob.size, BLOCK // 2):
            blob.read(at, 100)
    assert len(decoder._recent) <= reading._KEPT_BLOCKS
    assert decoder._rows == 4 == sum(map(len, decoder._tables.values()))


def test_neighbours_far_away_are_fetched_together(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [weights(100_000, seed) for seed in range(30)]
    pack = by_hand([Hand(part, FLOATS) for part in parts], blobs=[parts])
    watched = Watched(pack.data)
    assert OneShelf(pack, watched).blob(-1).read(0, 3_000_000) == b"".join(parts)
    assert len(watched.asked) == 1


def test_far_away_many_are_asked_at_once() -> None:
    parts = [weights(4 * BLOCK, seed) for seed in range(8)]
    pack = by_hand([Hand(part, FLOATS) for part in parts], blobs=[parts])
    watched = Watched(pack.data, delay=0.05)
    assert OneShelf(pack, watched).blob(-1).read(0, 32 * BLOCK) == b"".join(parts)
    assert watched.most >= 3
    assert max(length for _, length in watched.asked) <= reading._FAR_RUN + BLOCK


def test_threads_may_read_one_blob_at_once_and_from_threads_that_are_shared(pack: Pack, whole: bytes) -> None:
    source = OneShelf(pack).blob(-1)
    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda at: source.read(at, len(whole)) == whole[at:], range(0, 240, 20)))
    assert all(found)


class Nested:
    """A source that lies in a packed blob itself."""

    def __init__(self, inner: PackedSource) -> None:
        self.inner = inner

    @property
    def size(self) -> int:
        return self.inner.size

    def read(self, offset: int, length: int) -> bytes:
        return self.inner.read(offset, length)


def test_a_pack_within_a_pack_is_read_without_waiting_for_threads_that_wait(pack: Pack, whole: bytes) -> None:
    pieces = [pack.data[at : at + 100_000] for at in range(0, len(pack.data), 100_000)]
    outer = by_hand([Hand(piece, Words(1)) for piece in pieces], blobs=[pieces])
    nested = OneShelf(pack, Nested(OneShelf(outer).blob(-1)))
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda _: nested.blob(-1).read(0, len(whole)) == whole, range(16)))


def test_what_a_place_says_when_it_fails_reaches_the_reader(pack: Pack, whole: bytes) -> None:
    class Failing(Watched):
        def read(self, offset: int, length: int) -> bytes:
            if offset > 2_000_000:
                raise StorageError("the place failed")
            return super().read(offset, length)

    with pytest.raises(StorageError, match="the place failed"):
        OneShelf(pack, Failing(pack.data)).blob(-1).read(0, len(whole))


@pytest.mark.parametrize("where", ["memory", "file"])
def test_damaged_bytes_are_refused_and_the_pack_is_named(pack: Pack, where: str, tmp_path: Path) -> None:
    held = shelf(pack, where, tmp_path)
    segment = held.segments[held.held.blobs[1].parts[0]]
    spoilt = bytearray(pack.data)
    spoilt[segment.offset + 100] ^= 1  # in a raw plane of the first block
    (tmp_path / "a.pack").write_bytes(spoilt)
    held.source = FileSource(tmp_path / "a.pack") if where == "file" else MemorySource(bytes(spoilt))
    with pytest.raises(IntegrityError, match="pack a, segment" if where == "file" else "a pack, segment"):
        held.blob(1).read(0, 100)
    assert held.blob(1).read(BLOCK, 100) == weights(3 * BLOCK + 4000)[BLOCK:][:100]
    with pytest.raises(IntegrityError, match="or one of its 1 bases"):
        held.blob(2).read(0, 3 * BLOCK)


def test_any_damage_is_an_error_and_never_other_bytes(pack: Pack, whole: bytes) -> None:
    chance = np.random.default_rng(7)
    end = directory.read_footer(pack.data[-64:], len(pack.data))[0]
    refused = 0
    for _ in range(40):
        spoilt = bytearray(pack.data)
        for at in chance.integers(8, end, 6):
            spoilt[at] ^= int(chance.integers(1, 256))
        try:
            assert OneShelf(pack, MemorySource(bytes(spoilt))).blob(-1).read(0, len(whole)) == whole
        except (BadFormat, IntegrityError):
            refused += 1
    assert refused > 30


def test_a_pack_that_ends_early_says_so(pack: Pack) -> None:
    for length in (0, 700, 2_000_000):
        with pytest.raises(IntegrityError, match="ends"):
            OneShelf(pack, MemorySource(pack.data[:length])).blob(1).read(0, 3 * BLOCK)


def test_a_segment_that_is_nowhere_is_told(pack: Pack) -> None:
    held = OneShelf(pack)
    base = held.held.blobs[1].parts[0]
    del held.segments[base]
    with pytest.raises(IntegrityError) as told:
        held.blob(2).read(0, 10)
    assert told.value.code == "segment-missing"
    with pytest.raises(IntegrityError) as told:
        PackedSource(Decoder(held), [(base, 3 * BLOCK + 4000)]).read(0, 4 * BLOCK)
    assert told.value.code == "segment-missing"


def other(segment: Segment, **changed: object) -> Segment:
    values = {name: getattr(segment, name) for name in Segment.__slots__} | changed
    return Segment(**values)  # type: ignore[arg-type]


def test_bases_in_a_circle_or_of_another_size_are_refused(pack: Pack) -> None:
    held = OneShelf(pack)
    one, two, small = (held.held.blobs[number].parts[0] for number in (2, 5, 3))
    held.segments[one] = other(held.segments[one], base=two)
    with pytest.raises(IntegrityError, match="no base, or too many"):
        held.blob(2).read(0, 10)
    held.segments[one] = other(held.segments[one], base=small)
    with pytest.raises(IntegrityError, match="another size"):
        held.blob(2).read(0, 10)
    held.segments[one] = other(held.segments[one], base=None, depth=0)
    with pytest.raises(IntegrityError, match="no base, or too many"):
        held.blob(2).read(0, 10)


def test_a_blob_that_says_other_sizes_than_its_segments_have_is_refused(pack: Pack) -> None:
    held = OneShelf(pack)
    base = held.held.blobs[1].parts[0]
    with pytest.raises(BadFormat, match="expected"):
        PackedSource(Decoder(held), [(base, 4 * BLOCK)]).read(3 * BLOCK, BLOCK)


def test_a_block_is_decoded_alone(pack: Pack, raws: list[bytes]) -> None:
    held = OneShelf(pack)
    into = np.empty(4000, np.uint8)
    Decoder(held).block(held.held.blobs[2].parts[0], 3, into)
    assert into.tobytes() == raws[2][3 * BLOCK :]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_reads_as_well(pack: Pack, whole: bytes) -> None:
    source = OneShelf(pack).blob(-1)
    assert source.read(0, len(whole)) == whole  # the threads are there now
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, b"y" if source.read(0, len(whole)) == whole else b"n")
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as said:
        assert said.read() == b"y"
    os.waitpid(child, 0)


def test_memory_does_not_grow_with_what_is_read(pack: Pack, whole: bytes) -> None:
    source = OneShelf(pack, Watched(pack.data)).blob(-1)
    room = memoryview(bytearray(len(whole)))
    for _ in range(3):
        source.read_into(0, room)
    for kept in reading._fetched._rooms:
        assert len(kept) <= reading._FAR_RUN + BLOCK


def test_an_empty_blob_has_nothing_to_read() -> None:
    source = PackedSource(Decoder(OneShelf(by_hand([]))), [])
    assert source.size == 0
    assert source.read(0, 10) == b""


def test_a_table_that_gives_one_block_more_than_a_block_can_have_is_refused_before_it_is_fetched() -> None:
    digests = [bytes([number]) * 32 for number in range(3)]
    lengths = [2 * BLOCK, 6, 6]
    table = write_table(list(zip(digests, lengths, strict=True)))
    held = Segment(segment_id(digests), 3 * BLOCK, Words(), None, 0, 8, sum(lengths) + len(table), bytes(8))
    with pytest.raises(BadFormat, match="at most"):
        read_table(held, table)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_that_was_forked_while_every_thread_decoded_reads(pack: Pack, raws: list[bytes]) -> None:
    taken = 0
    while reading._decoding.acquire(blocking=False):
        taken += 1
    try:
        child = os.fork()
        if not child:
            signal.alarm(60)
            os._exit(7 if OneShelf(pack).blob(0).read(0, 500) == raws[0][:500] else 8)
    finally:
        for _ in range(taken):
            reading._decoding.release()
    assert taken
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
