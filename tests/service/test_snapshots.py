"""Snapshots of what does not lie in files: brought once, hashed, trusted only while it looks the same."""

from __future__ import annotations

import errno
import gc
import json
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import assay
from assay.blobs.memory import MemoryStore
from assay.errors import IntegrityError, NotFound, StorageError
from assay.ports.packs import Packing, ToPack
from assay.service import loading
from assay.service.registry import Registry
from assay.service.snapshots import drop_snapshot, scratch, snapshot
from assay.settings import read_settings
from assay.spec.digest import Digest
from assay.spec.manifest import Manifest
from assay.trees import Source
from assay.wiring.places import open_registry


@pytest.fixture
def packed(tmp_path: Path) -> tuple[Registry, Manifest]:
    folder = tmp_path / "model"
    folder.mkdir()
    np.savez(folder / "weights.npz", w=np.random.default_rng(1).normal(size=(600, 1000)).astype("float32"))
    (folder / "notes.txt").write_text("what it is")
    version = assay.push(folder, "m", home=tmp_path / "home")
    registry = open_registry(read_settings(home=tmp_path / "home"))
    manifest = registry.manifest(version)
    assert isinstance(registry.blobs, Packing)
    registry.blobs.pack([ToPack(entry.digest) for entry in manifest.entries()])
    return registry, manifest


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {path.name: (path.stat().st_ino, path.read_bytes()) for path in folder.iterdir()}


def test_what_lies_in_a_pack_is_brought_once_and_used_again(packed: Any, tmp_path: Path) -> None:
    registry, manifest = packed
    with snapshot(registry.blobs, manifest, tmp_path / "s") as folder:
        first = files(folder)
    with snapshot(registry.blobs, manifest, tmp_path / "s") as folder:
        again = files(folder)

    assert first == again
    assert first["weights.npz"][1] == (tmp_path / "model" / "weights.npz").read_bytes()
    assert not os.access(folder / "notes.txt", os.W_OK) or (folder / "notes.txt").stat().st_mode & 0o222 == 0


@pytest.mark.parametrize("harm", ["other bytes", "another file", "no record", "damaged record"])
def test_what_looks_different_is_brought_again(packed: Any, tmp_path: Path, harm: str) -> None:
    registry, manifest = packed
    with snapshot(registry.blobs, manifest, tmp_path / "s") as folder:
        before = files(folder)
    record = tmp_path / "s" / f"{manifest.digest.hex}.json"
    file = folder / "notes.txt"
    if harm == "other bytes":
        file.chmod(0o644)
        file.write_bytes(b"WHAT IT IS")  # of the same length
    elif harm == "another file":
        shutil.copy2(file, tmp_path / "copy")
        (tmp_path / "copy").replace(file)
    elif harm == "no record":
        record.unlink()
    else:
        record.write_text("[1, 2")

    with snapshot(registry.blobs, manifest, tmp_path / "s") as folder:
        after = files(folder)

    assert {name: data for name, (_, data) in after.items()} == {name: data for name, (_, data) in before.items()}
    assert after["notes.txt"][0] != before["notes.txt"][0] or harm == "other bytes"
    assert set(json.loads(record.read_text())) == {"notes.txt", "weights.npz"}


def test_a_snapshot_that_goes_takes_its_record_with_it(packed: Any, tmp_path: Path) -> None:
    registry, manifest = packed
    with snapshot(registry.blobs, manifest, tmp_path / "s"):
        pass

    drop_snapshot(tmp_path / "s", manifest.digest)

    assert [path.name for path in (tmp_path / "s").iterdir() if path.suffix != ".lock"] == []
    drop_snapshot(tmp_path / "s", manifest.digest)


class _Wrong(MemoryStore):
    """A store that lost a bit."""

    def open(self, digest: Digest) -> Source:
        source: Any = super().open(digest)
        return _Flipped(source)


class _Flipped:
    def __init__(self, source: Source) -> None:
        self._source, self.size = source, source.size

    def read(self, offset: int, length: int) -> bytes:
        data = bytearray(self._source.read(offset, length))
        if data and offset == 0:
            data[0] ^= 1
        return bytes(data)


def _manifest_over(store: MemoryStore, data: bytes, like: Manifest) -> Manifest:
    digest = store.add(data)
    document = json.loads(like.data)
    document["layers"] = [layer for layer in document["layers"] if layer["annotations"]][:1]
    document["layers"][0] |= {"digest": str(digest), "size": len(data)}
    return Manifest.parse(json.dumps(document).encode())


def test_damaged_bytes_never_become_a_snapshot(packed: Any, tmp_path: Path) -> None:
    store = _Wrong()
    manifest = _manifest_over(store, b"some bytes", packed[1])

    with pytest.raises(IntegrityError, match="do not match"), snapshot(store, manifest, tmp_path / "s"):
        pass

    assert [path.name for path in (tmp_path / "s").iterdir() if path.suffix != ".lock"] == []


def test_bytes_that_are_nowhere_are_missed_by_name(packed: Any, tmp_path: Path) -> None:
    manifest = packed[1]

    with pytest.raises(NotFound) as caught, snapshot(MemoryStore(), manifest, tmp_path / "s"):
        pass

    assert caught.value.code == "blob-missing"


def test_of_many_that_ask_at_once_one_brings_the_bytes(packed: Any, tmp_path: Path) -> None:
    registry, manifest = packed
    found: list[dict[str, tuple[int, bytes]]] = []

    def load() -> None:
        with snapshot(registry.blobs, manifest, tmp_path / "s") as folder:
            found.append(files(folder))

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 4
    assert all(one == found[0] for one in found)


def test_a_model_that_was_packed_loads_and_its_tensors_too(packed: Any, tmp_path: Path) -> None:
    home = tmp_path / "home"

    loaded: Any = assay.load("m", home=home)
    with assay.open("m", home=home) as artifact:
        rows = artifact.tensors["w"][100:110, 5]
        whole = artifact.tensors.load()

    np.testing.assert_array_equal(loaded["w"][100:110, 5], rows)
    np.testing.assert_array_equal(loaded["w"], whole["w"])
    assert assay.load_tensors("m", home=home, framework="numpy", rows=slice(2))["w"].shape == (2, 1000)


class Model:
    """Reads its file when it is used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder


@pytest.mark.parametrize("pushed", [True, False])
def test_a_model_in_a_temporary_folder_keeps_it_as_long_as_it_lives(
    packed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pushed: bool
) -> None:
    monkeypatch.setattr(loading, "build", lambda folder, *given, **named: Model(folder))
    monkeypatch.setattr("assay.service.snapshots._make", lambda *given: False)  # no place for a shared snapshot
    (tmp_path / "model" / ".assayignore").write_text("notes.txt\n")

    model: Any = assay.load("m", home=tmp_path / "home") if pushed else assay.load(tmp_path / "model")

    folder = model.folder
    assert (folder / "weights.npz").read_bytes() == (tmp_path / "model" / "weights.npz").read_bytes()
    del model
    gc.collect()
    assert not folder.exists()


def test_what_cannot_be_watched_keeps_no_folder(packed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "build", lambda folder, *given, **named: {"folder": folder})
    (tmp_path / "model" / ".assayignore").write_text("notes.txt\n")

    found: Any = assay.load(tmp_path / "model")

    assert not found["folder"].exists()


def test_a_process_that_was_forked_leaves_the_folder_to_the_one_that_made_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with scratch("files") as folder:
        pass
    assert not folder.exists()

    with scratch("files") as folder:
        monkeypatch.setattr(os, "getpid", lambda: -1)
    assert folder.exists()
    folder.rmdir()


def test_a_full_disk_while_files_are_laid_out_is_told(
    packed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, manifest = packed

    def full(*given: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("assay.service.snapshots.write_all", full)

    with (
        pytest.raises(StorageError, match="cannot lay out") as caught,
        snapshot(registry.blobs, manifest, tmp_path / "s"),
    ):
        pass

    assert caught.value.code == "store-full"
