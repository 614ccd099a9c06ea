"""Packs whose checksums are right and whose segments are not what they are called: nothing here may rely on one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3
from packs import id_of

from assay.blobs.packs.gone import Gone
from assay.blobs.packs.index import PackIndex
from assay.blobs.packs.store import PackedStore
from assay.errors import BadFormat, IntegrityError
from assay.packing import codec, directory
from assay.packing.codec import WORDS
from assay.packing.directory import Directory, PackedBlob
from assay.packing.segments import CHECK, Segment
from assay.ports.packs import ToPack
from assay.spec.digest import Digest
from assay.testing.packs import HEAD, read, stretches, weights
from assay.trees.window import MemorySource

FLOATS = WORDS["float32"]
SIZE = 70_000
FILE = weights(1)
TENSOR = FILE[HEAD : HEAD + SIZE]
OTHER, THIRD, GARBAGE = (weights(seed)[HEAD : HEAD + SIZE] for seed in (7, 8, 9))


@dataclass(frozen=True)
class Told:
    """A segment as a pack tells of it: whose id it has, and what is stored in truth.

    Args:
        called: the bytes that its id is taken of.
        depth: of it.
        base: the bytes whose id is that of its base.
        truth: what is stored; None: what it is called.
        differs: whether it is stored as the difference to the base, not plain.
    """

    called: bytes
    depth: int = 0
    base: bytes | None = None
    truth: bytes | None = None
    differs: bool = False

    def stored(self) -> bytes:
        under = np.frombuffer(self.base, np.uint8) if self.differs and self.base is not None else None
        raw = np.frombuffer(self.truth or self.called, np.uint8)
        return b"".join(bytes(part) for part in codec.encode(raw, FLOATS, base=under))


def told(*segments: Told, blobs: Sequence[bytes]) -> tuple[bytes, str]:
    """A pack, and its name; each blob is one segment."""
    body, listed = bytearray(directory.MAGIC), []
    for one in segments:
        stored, base = one.stored(), None if one.base is None else id_of(one.base)
        check = blake3(stored).digest()[:CHECK]
        listed.append(Segment(id_of(one.called), SIZE, FLOATS, base, one.depth, len(body), len(stored), check))
        body += stored
    packed = tuple(PackedBlob(Digest.of(blob), len(blob), (id_of(blob),)) for blob in blobs)
    text = directory.encode(Directory(tuple(listed), packed, {}))
    return bytes(body) + text + directory.footer(len(body), text), blake3(text).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> PackedStore:
    """A store where something is packed."""
    store = PackedStore(tmp_path / "store")
    store.pack([ToPack(store.add(b"something" * 1000))])
    return store


def pack(store: PackedStore, data: bytes, *near: Digest) -> Digest:
    digest = store.add(data)
    assert store.pack([ToPack(digest, stretches(data), near)]).packed == (digest,)
    return digest


def refused(store: PackedStore, data: bytes, error: type[Exception] = IntegrityError) -> None:
    before, blobs = store.pack_use(), set(store.digests())
    with pytest.raises(error):
        store.take_in(MemorySource(data))
    assert store.pack_use() == before
    assert set(store.digests()) == blobs


def test_a_pack_is_refused_if_a_base_in_it_is_not_what_it_is_called_though_nothing_is_a_difference_to_it(
    store: PackedStore,
) -> None:
    plain = Told(OTHER, depth=1, base=TENSOR)
    refused(store, told(Told(TENSOR, truth=GARBAGE), plain, blobs=[OTHER])[0])
    digest = pack(store, FILE)
    assert read(store, digest) == FILE
    store.take_in(MemorySource(told(Told(TENSOR), plain, blobs=[OTHER])[0]))
    assert read(store, Digest.of(OTHER)) == OTHER


def test_a_pack_is_refused_if_a_segment_that_nothing_in_it_needs_is_not_what_it_is_called(store: PackedStore) -> None:
    base, tune = FILE, weights(1, tune=1)
    digests = [pack(store, base)]
    digests.append(pack(store, tune, *digests))
    tensor = tune[HEAD : HEAD + SIZE]
    refused(store, told(Told(tensor, truth=GARBAGE), Told(OTHER), blobs=[OTHER])[0])
    store.compact(least=0.0)
    assert [read(store, digest) for digest in digests] == [base, tune]
    store.take_in(MemorySource(told(Told(tensor), Told(OTHER), blobs=[OTHER])[0]))
    assert [read(store, digest) for digest in digests] == [base, tune]


def test_a_pack_is_refused_if_a_base_that_it_names_is_nowhere_though_nothing_is_a_difference_to_it(
    store: PackedStore,
) -> None:
    refused(store, told(Told(OTHER, depth=1, base=TENSOR), blobs=[OTHER])[0])


def test_a_pack_is_refused_if_a_segment_is_not_deeper_than_its_base_here(store: PackedStore) -> None:
    deep = Told(OTHER, depth=1, base=TENSOR, differs=True)
    store.take_in(MemorySource(told(Told(TENSOR), deep, blobs=[OTHER])[0]))
    refused(store, told(Told(THIRD, depth=1, base=OTHER, differs=True), blobs=[THIRD])[0], BadFormat)
    store.take_in(MemorySource(told(Told(THIRD, depth=2, base=OTHER, differs=True), blobs=[THIRD])[0]))
    assert read(store, Digest.of(THIRD)) == THIRD


Lay = Callable[[bytes, str], None]


@pytest.fixture
def lay(tmp_path: Path) -> Lay:
    """Puts a pack into the store's folder, as somebody does who copies it there."""

    def put(data: bytes, name: str) -> None:
        (tmp_path / f"store/packs/{name}.pack").write_bytes(data)

    return put


def test_a_raw_copy_goes_only_if_segments_that_are_there_already_are_what_they_are_called(
    store: PackedStore, lay: Lay
) -> None:
    lay(*told(Told(TENSOR, truth=GARBAGE), Told(OTHER), blobs=[OTHER]))
    digest = pack(store, FILE)
    assert not store.is_raw(digest)
    assert read(store, digest) == FILE
    assert read(store, Digest.of(OTHER)) == OTHER
    store.reindex_packs()
    store.compact(least=0.0)
    assert read(store, digest) == FILE


def test_a_raw_copy_goes_only_if_what_is_there_already_is_a_difference_to_what_it_is_called(
    store: PackedStore, lay: Lay
) -> None:
    lay(*told(Told(OTHER, truth=GARBAGE), Told(TENSOR, depth=1, base=OTHER, differs=True), blobs=[]))
    digest = pack(store, FILE)
    assert not store.is_raw(digest)
    assert read(store, digest) == FILE
    store.reindex_packs()
    assert read(store, digest) == FILE


def test_what_is_plain_and_names_a_base_that_is_not_what_it_is_called_may_be_relied_on(
    store: PackedStore, lay: Lay
) -> None:
    lay(*told(Told(OTHER, truth=GARBAGE), Told(TENSOR, depth=1, base=OTHER), blobs=[]))
    digest = pack(store, FILE)
    store.compact(least=0.0)
    assert read(store, digest) == FILE


def test_a_pack_that_was_laid_here_takes_the_place_of_no_other_with_what_is_not_what_it_is_called(
    store: PackedStore, lay: Lay
) -> None:
    tune = weights(1, tune=1)
    digests = [pack(store, FILE)]
    digests.append(pack(store, tune, *digests))
    lay(*told(Told(tune[HEAD : HEAD + SIZE], truth=GARBAGE), Told(OTHER), blobs=[OTHER]))
    store.compact(least=0.0)
    assert [read(store, digest) for digest in digests] == [FILE, tune]


def test_a_copy_that_is_not_right_takes_the_place_of_no_other() -> None:
    index = PackIndex(None)
    base = Segment(id_of(TENSOR), SIZE, FLOATS, None, 0, 8, 100, bytes(8))
    good = Segment(id_of(OTHER), SIZE, FLOATS, base.id, 1, 108, 100, bytes(8))
    copy = Segment(id_of(OTHER), SIZE, FLOATS, None, 0, 8, 100, bytes(8))
    with index.change():
        index.take_in_segments("good", 1000, Directory((base, good), ()), Gone())
        index.take_in_segments("bad", 1000, Directory((copy,), ()), Gone(), lambda one: one != copy)
    found = index.segment(good.id)
    assert found is not None
    assert (found.segment, found.pack) == (good, "good")
    assert [(row.kept, row.spare) for row in index.packs().values()] == [(200, 0), (0, 100)]
    with index.change():
        index.take_in_segments("right", 1000, Directory((copy,), ()), Gone(), lambda one: one == copy)
    found = index.segment(good.id)
    assert found is not None
    assert (found.segment, found.pack) == (copy, "right")
