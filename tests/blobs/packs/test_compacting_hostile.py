"""Compaction and deleting where packs are damaged, hostile or many, or change meanwhile."""

from __future__ import annotations

import gc
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3
from packs import id_of

from assay.blobs.packs import compacting
from assay.blobs.packs import folder as folders
from assay.blobs.packs.packer import Packer
from assay.blobs.packs.store import PackedStore
from assay.packing import codec, directory
from assay.packing.codec import WORDS
from assay.packing.directory import Directory
from assay.packing.segments import CHECK, Segment
from assay.ports.packs import Stretch, ToPack
from assay.spec.digest import Digest
from assay.testing.packs import HEAD, read, stretches, weights

SIZE = 70_000


@pytest.fixture
def store(tmp_path: Path) -> PackedStore:
    return PackedStore(tmp_path)


def packed(store: PackedStore, *datas: bytes, near: Sequence[Digest] = ()) -> list[Digest]:
    digests = [store.add(data) for data in datas]
    store.pack([ToPack(one, stretches(data), near) for one, data in zip(digests, datas, strict=True)])
    return digests


def names(store: PackedStore) -> set[str]:
    return {file.stem for file in (store.root / "packs").glob("*.pack")}


def flip_first_tensor(store: PackedStore, data: bytes) -> str:
    """Damage what is stored of the first tensor of ``weights``; the pack that holds it."""
    found = store._folder.index.read(lambda index: index.segment(id_of(data[HEAD : HEAD + SIZE])))
    assert found is not None
    file = store._folder.pack_file(found.pack)
    file.chmod(0o644)
    with file.open("r+b") as handle:
        at = found.segment.offset + found.segment.stored // 2
        handle.seek(at)
        byte = handle.read(1)
        handle.seek(at)
        handle.write(bytes([byte[0] ^ 1]))
    file.chmod(0o444)
    return found.pack


def test_a_pack_with_a_damaged_base_of_what_lies_elsewhere_is_left_and_others_are_compacted(store: PackedStore) -> None:
    base, tune = weights(1), weights(1, tune=1)
    digest, dead = packed(store, base, weights(4))
    packed(store, tune, near=[digest])
    other, kept = packed(store, weights(2), weights(3))
    with_base = flip_first_tensor(store, base)
    store.delete(digest)
    store.delete(dead)
    before = names(store)
    assert store.compact() == 0
    assert names(store) == before
    assert not list((store.root / "staging").iterdir())
    store.delete(other)
    assert store.compact() > 0
    assert with_base in names(store)
    assert len(before - names(store)) == 1
    assert read(store, kept) == weights(3)


def test_compaction_stops_where_it_does_not_know_which_pack_is_damaged(
    store: PackedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, _ = packed(store, weights(1), weights(2))
    store.delete(dead)
    written: list[int] = []

    def elsewhere(writer: object, survey: object) -> set[str]:
        written.append(1)
        return {"elsewhere"} if len(written) < 5 else set()

    monkeypatch.setattr(compacting._Writer, "write", elsewhere)
    assert store.compact() == 0
    assert len(written) == 1


def chain(store: PackedStore, count: int) -> None:
    """Two packs: what each segment is a difference to lies in the other one, and no blob is made of any."""
    raws = [number.to_bytes(4, "little") * 2 for number in range(count)]
    ids = [id_of(raw) for raw in raws]
    for first in (0, 1):
        body, segments = bytearray(directory.MAGIC), []
        for number in range(first, count - 1, 2):
            stored = b"".join(
                bytes(part) for part in codec.encode(np.frombuffer(raws[number], np.uint8), WORDS["float32"])
            )
            check = blake3(stored).digest()[:CHECK]
            segments.append(
                Segment(ids[number], 8, WORDS["float32"], ids[number + 1], 1, len(body), len(stored), check)
            )
            body += stored
        listed = directory.encode(Directory(tuple(segments), (), {}))
        data = bytes(body) + listed + directory.footer(len(body), listed)
        store._folder.pack_file(blake3(listed).hexdigest()).write_bytes(data)
    store._folder.index.refresh()


def test_bases_that_go_on_from_pack_to_pack_without_end_are_counted_and_compacted(store: PackedStore) -> None:
    (digest,) = packed(store, weights(1))
    chain(store, 2500)
    assert store.pack_use().packs == 3
    assert store.compact() > 0
    assert store.pack_use().packs == 1
    assert read(store, digest) == weights(1)


def test_a_base_of_a_base_that_no_blob_is_made_of_is_not_dead(store: PackedStore) -> None:
    datas = [weights(1), weights(1, tune=1), weights(1, tune=2)]
    digests = list[Digest]()
    for data in datas:
        digests += packed(store, data, near=digests[-1:])
    whole = store.pack_use().dead
    store.delete(digests[0])
    store.delete(digests[1])
    heads = store.pack_use().dead - whole
    assert heads < SIZE
    store.delete(digests[2])
    assert store.pack_use().dead > 3 * SIZE


def test_an_open_blob_of_many_packs_keeps_few_of_them_open(store: PackedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "_OPEN", 4)
    tensors = [weights(seed, count=1)[HEAD:] for seed in range(12)]
    for number, tensor in enumerate(tensors):
        store.pack([ToPack(store.add(tensor), [Stretch(0, SIZE, f"layer.{number}", "float32")])])
    whole = store.add(b"".join(tensors))
    named = [Stretch(number * SIZE, SIZE, f"layer.{number}", "float32") for number in range(12)]
    store.pack([ToPack(whole, named)])
    source = store.open(whole)
    assert source.read(0, source.size) == b"".join(tensors)
    gc.collect()
    descriptors = [file for file in Path("/proc/self/fd").iterdir() if file.is_symlink()]
    targets = [str(file.readlink()) for file in descriptors if file.is_symlink()]
    opened = [one for one in targets if one.startswith(str(store.root)) and one.endswith(".pack")]
    assert len(opened) <= 4
    assert source.read(5, 10) == tensors[0][5:15]


def test_what_is_deleted_after_a_packer_saw_it_and_before_it_is_done_stays_deleted(
    store: PackedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, other = weights(1), PackedStore(store.root)
    digest = store.add(data)
    store.pack([ToPack(store.add(weights(2)))])
    deleting = threading.Thread(target=lambda: other.delete(digest))
    seen = Packer._times

    def times(packer: Packer, digests: Sequence[Digest]) -> dict[Digest, int]:
        found = seen(packer, digests)
        if digest in digests and deleting.ident is None:
            deleting.start()
            deleting.join(0.3)  # it waits for the packer, or is done
        return found

    monkeypatch.setattr(Packer, "_times", times)
    store.pack([ToPack(digest, stretches(data))])
    deleting.join()
    assert digest not in set(store.digests())
    assert store.size(digest) is None
