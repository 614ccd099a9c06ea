"""What another machine packed just now is here: looks at packs are believed for a while, but not for a no."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bucket_builders import bucket_in_memory

from assay.blobs.bucket.objects import BucketObjects
from assay.blobs.bucket.packed import PackedBucket
from assay.blobs.bucket.store import BucketStore
from assay.errors import NotFound
from assay.ports.blobs import Stored
from assay.ports.packs import ToPack
from assay.spec.digest import Digest

WEIGHTS, OTHERS = b"weights" * 1000, b"others" * 1000


@pytest.fixture
def machines(tmp_path: Path) -> tuple[PackedBucket, PackedBucket]:
    """Two, of one bucket."""
    objects = bucket_in_memory()
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    here, there = (PackedBucket(BucketStore(objects), tmp_path / name) for name in ("here", "there"))
    return here, there


ASKING: dict[str, Callable[[PackedBucket, Digest], object]] = {
    "size": lambda store, digest: store.size(digest),
    "open": lambda store, digest: store.open(digest).size,
    "renew": lambda store, digest: store.renew(digest),
    "inventory": lambda store, digest: {one.digest: one.size for one in store.inventory()}[digest],
    "digests": lambda store, digest: len(WEIGHTS) if digest in set(store.digests()) else None,
}


@pytest.mark.parametrize("packed_before", [False, True])
@pytest.mark.parametrize("asked", ASKING)
def test_what_another_machine_packed_after_one_looked_is_here(
    machines: tuple[PackedBucket, PackedBucket], asked: str, packed_before: bool
) -> None:
    here, there = machines
    if packed_before:
        here.pack([ToPack(here.add(OTHERS))])
    digest = here.add(WEIGHTS)
    assert not there.is_packed(digest)
    here.pack([ToPack(digest)])
    assert ASKING[asked](there, digest) == len(WEIGHTS)


def test_what_another_machine_packed_after_one_looked_is_deleted_and_is_unpacked(
    machines: tuple[PackedBucket, PackedBucket],
) -> None:
    here, there = machines
    digest = here.add(WEIGHTS)
    assert not there.is_packed(digest)
    here.pack([ToPack(digest)])
    assert there.unpack(digest)
    assert there.delete(digest)
    assert there.size(digest) is None


def test_what_is_packed_while_an_inventory_is_taken_is_in_it(
    machines: tuple[PackedBucket, PackedBucket], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = machines
    here.pack([ToPack(here.add(OTHERS))])
    digest = here.add(WEIGHTS)
    inventory = BucketStore.inventory

    def meanwhile(store: BucketStore) -> Iterator[Stored]:
        monkeypatch.undo()
        here.pack([ToPack(digest)])
        return inventory(store)

    monkeypatch.setattr(BucketStore, "inventory", meanwhile)
    assert {one.digest for one in there.inventory()} == {digest, Digest.of(OTHERS)}


def test_a_blob_that_is_found_costs_no_look_at_packs(
    machines: tuple[PackedBucket, PackedBucket], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = machines
    packed = here.add(OTHERS)
    here.pack([ToPack(packed)])
    raw = here.add(WEIGHTS)
    assert there.size(packed) == len(OTHERS)
    listed = BucketObjects.list

    def counted(objects: BucketObjects, prefix: str, **named: str) -> Iterator[object]:
        looks.append(prefix)
        return listed(objects, prefix, **named)

    looks: list[str] = []
    monkeypatch.setattr(BucketObjects, "list", counted)
    for digest, size in ((raw, len(WEIGHTS)), (packed, len(OTHERS))):
        assert there.size(digest) == there.open(digest).size == size
    assert looks == []
    with pytest.raises(NotFound, match="no such blob"):
        there.open(Digest.of(b"nowhere"))
    assert looks


def test_two_threads_that_look_at_once_may_both_forget_a_pack_that_went(
    machines: tuple[PackedBucket, PackedBucket],
) -> None:
    class Forgotten(dict[str, Any]):
        """What is open, of which another thread forgot one since its names were asked."""

        def keys(self) -> Any:
            return {"gone": None}.keys()

    folder = machines[0]._folder
    folder._sources = Forgotten()
    assert folder.names() == {}
