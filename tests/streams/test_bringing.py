"""Files that hold a beginning already, large ones that are written past the page cache among them."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, repeat
from pathlib import Path

import pytest

from assay.blobs.directory import DirectoryStore
from assay.errors import StorageError
from assay.spec.digest import Digest
from assay.streams.bringing import bring
from assay.streams.copying import DIRECT, STEP
from assay.trees.window import MemorySource

MIB = 1 << 20
BYTES = os.urandom(MIB)


def content(size: int) -> bytes:
    """Bytes of which no two blocks are equal."""
    blocks = (number.to_bytes(8, "big") + BYTES[8:] for number in range(-(-size // MIB)))
    return b"".join(blocks)[:size]


@pytest.mark.parametrize("size", [40 * MIB, 100 * MIB + 1, DIRECT - 1])
def test_a_large_file_goes_on_from_any_beginning(tmp_path: Path, size: int) -> None:
    data, file = content(size), tmp_path / "file"
    for have in (1, 5 * MIB + 511, size - 1, size + 5):
        file.write_bytes(data[:have] + b"x" * (have - size))
        descriptor = os.open(file, os.O_RDWR)
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        arrived = bring(MemorySource(data), descriptor, have=have)

        assert arrived.digest == Digest.of(data), have
        assert (arrived.size, arrived.resumed) == (size, min(have, size) // STEP * STEP)
        assert fcntl.fcntl(descriptor, fcntl.F_GETFL) == flags
        os.close(descriptor)
        assert file.read_bytes() == data


@pytest.mark.parametrize("size", [40 * MIB, 100 * MIB + 12_345])
@pytest.mark.parametrize("damaged", [False, True])
def test_a_store_goes_on_with_a_large_blob_that_was_cut_at_an_odd_byte(
    tmp_path: Path, size: int, *, damaged: bool
) -> None:
    data, store = content(size), DirectoryStore(tmp_path)
    digest = Digest.of(data)
    (tmp_path / "staging").mkdir()
    beginning = bytearray(data[: 37 * MIB + 13])
    beginning[5 * MIB] ^= damaged
    (tmp_path / f"staging/part-{digest.hex}").write_bytes(beginning)

    received = store.receive(digest, MemorySource(data))

    assert received.resumed == (0 if damaged else 36 * MIB)
    assert store.check(digest)
    assert list((tmp_path / "staging").iterdir()) == []


class Endless(MemorySource):
    """Gives no ranges, and more than it says."""

    def read(self, offset: int, length: int) -> bytes:
        raise StorageError("no ranges", code="ranges-refused")

    @contextmanager
    def stream(self, offset: int) -> Iterator[Iterator[bytes]]:
        yield chain([super().read(offset, self.size)], repeat(bytes(MIB)))


@pytest.mark.parametrize("size", [10, STEP, 9 * MIB])
def test_a_source_that_gives_more_than_it_says_fills_no_disk(tmp_path: Path, size: int) -> None:
    data = content(size)
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    arrived = bring(Endless(data), descriptor)
    os.close(descriptor)

    assert (arrived.digest, arrived.plain) == (Digest.of(data), True)
    assert (tmp_path / "file").stat().st_size == size
