"""Copies and pulls that somebody interrupts, and two copies of the same at once."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from assay.blobs.directory import DirectoryStore
from assay.blobs.memory import MemoryStore
from assay.errors import IntegrityError, NotFound, StorageError
from assay.ports.progress import SILENT
from assay.service import fetch
from assay.service.transfer.moving import MAX_SMALL, move
from assay.service.transfer.plan import Plan
from assay.spec.descriptor import Descriptor
from assay.spec.digest import Digest
from assay.spec.manifest import Entry

SIZE, BLOCKS = 800 << 20, 200
BAD = Digest.of(b"damaged")


class Long:
    """Blobs that take long, and somebody who loses patience at the first bytes."""

    def __init__(self, *, impatient: bool) -> None:
        self.impatient, self.reads, self.size_of = impatient, 0, {BAD: MAX_SMALL}

    def size(self, digest: Digest) -> int:
        return self.size_of.get(digest, SIZE)

    def local_file(self, digest: Digest) -> None:
        return None

    def open(self, digest: Digest):
        return LongSource(self, self.size(digest), wait=digest != BAD)


class LongSource:
    def __init__(self, owner: Long, size: int, *, wait: bool) -> None:
        self._owner, self.size, self._wait = owner, size, wait

    def read(self, offset: int, length: int) -> bytes:
        owner = self._owner
        owner.reads += 1
        if owner.impatient and owner.reads == 5:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        if self._wait:
            time.sleep(0.2)  # long enough that whoever gives up gets round to it, however busy the machine is
        return bytes(min(length, self.size - offset))


def large(number: int) -> Descriptor:
    return Descriptor("x", Digest.of(bytes([number])), SIZE)


@pytest.mark.parametrize("wants_files", [False, True])
def test_who_interrupts_a_copy_does_not_wait_for_the_large_blobs(tmp_path: Path, wants_files: bool) -> None:
    source, target = Long(impatient=True), MemoryStore() if wants_files else DirectoryStore(tmp_path / "t")

    with pytest.raises(KeyboardInterrupt):
        move(source, target, Plan((large(1), large(2)), ()), spool=tmp_path / "s", repair="")

    assert source.reads < BLOCKS / 2
    assert list(target.digests()) == []


def test_who_interrupts_a_pull_does_not_wait_for_the_large_files(tmp_path: Path) -> None:
    source = Long(impatient=True)
    entries = [Entry(f"{number}.bin", large(number).digest, SIZE) for number in range(3)]

    with pytest.raises(KeyboardInterrupt):
        fetch._write_all(source, tmp_path, entries, link=False, progress=SILENT)

    assert source.reads < BLOCKS / 2


def test_a_damaged_blob_ends_a_copy_at_once(tmp_path: Path) -> None:
    source = Long(impatient=False)
    blobs = (large(1), Descriptor("x", BAD, MAX_SMALL))

    with pytest.raises(IntegrityError):
        move(source, DirectoryStore(tmp_path / "t"), Plan(blobs, ()), spool=tmp_path / "s", repair="")

    assert source.reads < BLOCKS / 2


class Slow(MemoryStore):
    """Takes its time with a file, and looks at it again before it is kept."""

    def add_file(self, file: Path, **how):
        time.sleep(0.2)
        return super().add_file(file, **how)


def test_two_copies_through_one_folder_bring_a_large_blob_once(tmp_path: Path) -> None:
    data = bytes(range(256)) * (40 << 10)
    source, target, reads = MemoryStore(), Slow(), []
    blob = Descriptor("x", source.add(data), len(data))
    original = source.open(blob.digest)

    class Counting:
        size = len(data)

        def read(self, offset: int, length: int) -> bytes:
            reads.append(offset)
            return original.read(offset, length)

    source.open = lambda digest: Counting()
    with ThreadPoolExecutor(3) as pool:
        copies = [pool.submit(move, source, target, Plan((blob,), ()), spool=tmp_path, repair="") for _ in range(3)]
        figures = [copy.result() for copy in copies]

    assert sorted(one.resumed for one in figures) == [0, len(data), len(data)]
    assert target.open(blob.digest).read(0, len(data)) == data
    assert len(reads) == len(set(reads))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wants_files", "size"), [(False, 1000), (False, 9 << 20), (False, 40 << 20), (True, 9 << 20), (True, 40 << 20)]
)
def test_a_target_that_disappears_is_told_and_no_blob_appears(tmp_path: Path, wants_files: bool, size: int) -> None:
    data = bytes(range(250)) * (size // 250)
    source, folder = MemoryStore(), tmp_path / "folder"
    blob = Descriptor("x", source.add(data), len(data))
    original = source.open(blob.digest)

    class Removing:
        size = len(data)

        def read(self, offset: int, length: int) -> bytes:
            shutil.rmtree(folder, ignore_errors=True)
            return original.read(offset, length)

    source.open = lambda digest: Removing()
    target = MemoryStore() if wants_files else DirectoryStore(folder)

    with pytest.raises((StorageError, NotFound)):
        move(source, target, Plan((blob,), ()), spool=folder, repair="")

    assert target.size(blob.digest) is None
