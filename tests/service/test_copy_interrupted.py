"""Copies that break off anywhere, again and again: nothing half is visible, and what was moved is not moved again."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rounds import kills

from assay.blobs.directory import DirectoryStore
from assay.blobs.memory import MemoryStore
from assay.cli.main import invoke
from assay.errors import IntegrityError, StorageError
from assay.service.transfer.moving import Figures, move
from assay.service.transfer.plan import make_plan
from assay.spec.digest import Digest
from assay.spec.manifest import Entry, Manifest, build
from assay.streams.bringing import bring
from assay.streams.copying import STEP
from assay.trees.window import MemorySource

LARGE = os.urandom(5 * STEP + 1234)
FEW = settings(max_examples=25, deadline=None)


class Flaky:
    """Blobs that can be read so many times, or so far, then no more; counts what was read."""

    def __init__(self, store: MemoryStore, reads: int = 10_000, *, upto: int = len(LARGE)) -> None:
        self._store, self.reads, self.upto, self.bytes = store, reads, upto, 0

    def size(self, digest: Digest) -> int | None:
        return self._store.size(digest)

    def local_file(self, digest: Digest) -> None:
        return None

    def open(self, digest: Digest):
        return FlakySource(self, self._store.open(digest))


class FlakySource:
    def __init__(self, owner: Flaky, source) -> None:
        self._owner, self._source, self.size = owner, source, source.size

    def read(self, offset: int, length: int) -> bytes:
        self._owner.reads -= 1
        if self._owner.reads < 0 or offset >= self._owner.upto:
            raise StorageError("the network broke", code="place-unreachable")
        data = self._source.read(offset, length)
        self._owner.bytes += len(data)
        return data


def artifact(store: MemoryStore, contents: list[bytes]) -> Manifest:
    entries = [Entry(f"{at}.bin", store.add(data), len(data)) for at, data in enumerate(contents)]
    manifest, config = build(entries)
    store.add(config)
    return manifest


@FEW
@given(
    sizes=st.lists(st.integers(0, len(LARGE)), min_size=1, max_size=4, unique=True),
    breaks=st.lists(st.integers(0, 12), max_size=6),
)
def test_whatever_breaks_off_the_next_copy_goes_on_and_ends_with_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], breaks: list[int]
) -> None:
    source, folder = MemoryStore(), tmp_path_factory.mktemp("target")
    contents = [LARGE[:size] for size in sizes]
    manifest = artifact(source, contents)
    read = 0
    for reads in [*breaks, 10_000]:
        target = DirectoryStore(folder)
        flaky = Flaky(source, reads)
        plan = make_plan([manifest], target.renew)
        done = {blob.digest for blob in plan.there}
        with suppress(StorageError):
            move(flaky, target, plan, spool=folder / "spool", repair="")
        for digest in target.digests():  # whatever is visible is whole
            assert target.check(digest)
        assert done <= set(target.digests())
        read += flaky.bytes
    target = DirectoryStore(folder)
    assert {target.open(Digest.of(data)).read(0, len(data)) for data in contents} == set(contents)
    assert list((folder / "staging").iterdir()) == []
    # Per break at most what was under way is read again: six blocks of each of four blobs, and small blobs whole.
    assert read <= sum(sizes) + 2000 + len(breaks) * 4 * 8 * STEP


def test_a_large_blob_is_not_read_again_from_its_beginning(tmp_path: Path) -> None:
    source = MemoryStore()
    manifest = artifact(source, [LARGE])
    target = DirectoryStore(tmp_path)
    with pytest.raises(StorageError):
        move(Flaky(source, upto=3 * STEP), target, make_plan([manifest], target.renew), spool=tmp_path / "s", repair="")

    flaky = Flaky(source)
    figures = move(flaky, target, make_plan([manifest], target.renew), spool=tmp_path / "s", repair="")

    assert figures.resumed == 3 * STEP
    assert flaky.bytes == figures.moved - figures.resumed


def test_a_store_that_wants_files_gets_them_through_one_that_is_gone_on_with(tmp_path: Path) -> None:
    source, target = MemoryStore(), MemoryStore()
    manifest = artifact(source, [LARGE, LARGE[:100]])
    with pytest.raises(StorageError):
        move(Flaky(source, upto=3 * STEP), target, make_plan([manifest], target.renew), spool=tmp_path / "s", repair="")
    assert [path.name for path in (tmp_path / "s").iterdir()] == [f"part-{Digest.of(LARGE).hex}"]

    figures = move(source, target, make_plan([manifest], target.renew), spool=tmp_path / "s", repair="")

    assert figures.resumed == 3 * STEP
    assert target.open(Digest.of(LARGE)).read(0, len(LARGE)) == LARGE
    assert list((tmp_path / "s").iterdir()) == []


@pytest.mark.parametrize("through", ["store", "files"])
def test_bytes_that_do_not_match_are_kept_nowhere(tmp_path: Path, through: str) -> None:
    source = MemoryStore()
    manifest = artifact(source, [LARGE])
    source._blobs[Digest.of(LARGE)] = LARGE[:-1] + bytes([LARGE[-1] ^ 1])
    target = DirectoryStore(tmp_path / "t") if through == "store" else MemoryStore()

    for _ in range(2):
        with pytest.raises(IntegrityError, match="no version and no tag was made") as caught:
            move(source, target, make_plan([manifest], target.renew), spool=tmp_path / "s", repair="mend it")
        assert caught.value.hint == "mend it"
    assert target.size(Digest.of(LARGE)) is None


def test_a_beginning_with_other_bytes_costs_a_second_reading_and_nothing_else(tmp_path: Path) -> None:
    source, target = MemoryStore(), DirectoryStore(tmp_path)
    manifest = artifact(source, [LARGE])
    (tmp_path / "staging").mkdir()
    (tmp_path / f"staging/part-{Digest.of(LARGE).hex}").write_bytes(b"x" + LARGE[1 : 3 * STEP])

    move(source, target, make_plan([manifest], target.renew), spool=tmp_path / "s", repair="")

    assert target.check(Digest.of(LARGE))


def test_a_beginning_that_nobody_went_on_with_is_removed_after_a_week(tmp_path: Path) -> None:
    (tmp_path / "staging").mkdir(parents=True)
    young, old = tmp_path / "staging/part-young", tmp_path / "staging/part-old"
    for file in (young, old):
        file.write_bytes(b"x")
    week = time.time() - 8 * 86400
    os.utime(old, (week, week))
    store = DirectoryStore(tmp_path)

    assert [found.name for found in store.leftovers()] == ["staging/part-old"]
    store.add(b"anything")
    assert [path.name for path in (tmp_path / "staging").iterdir()] == ["part-young"]


def test_ranges_that_fail_are_replaced_by_reading_in_order(tmp_path: Path) -> None:
    class Lanes(MemorySource):
        """Fails while more than one range is asked for at once."""

        failures = 0

        def read(self, offset: int, length: int) -> bytes:
            if self.failures < 4 and offset:
                self.failures += 1
                raise StorageError("too many at once", code="place-stalled")
            return super().read(offset, length)

    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    try:
        arrived = bring(Lanes(LARGE), descriptor)
    finally:
        os.close(descriptor)

    assert (arrived.digest, arrived.plain) == (Digest.of(LARGE), True)


def test_what_several_manifests_need_is_asked_for_once_and_moved_large_first() -> None:
    store = MemoryStore()
    first, second = artifact(store, [LARGE[:10], LARGE[:30]]), artifact(store, [LARGE[:10], LARGE[:20]])
    asked: list[Digest] = []

    def ask(digest: Digest, /) -> int | None:
        asked.append(digest)
        return 10 if digest == Digest.of(LARGE[:10]) else None

    plan = make_plan([first, second], ask)

    assert len(asked) == len(set(asked)) == 5
    assert [blob.size for blob in plan.there] == [10]
    assert [blob.size for blob in plan.lacking] == sorted((blob.size for blob in plan.lacking), reverse=True)
    assert plan.moved == plan.travels == sum(blob.size for blob in plan.lacking)


def test_a_blob_of_another_length_counts_as_lacking() -> None:
    store = MemoryStore()
    manifest = artifact(store, [b"abc"])

    plan = make_plan([manifest], lambda digest: 2)

    assert Digest.of(b"abc") in {blob.digest for blob in plan.lacking}


def test_figures_add_up() -> None:
    total = Figures()
    total.add(Figures(moved=10, resumed=2, saved=3, seconds=2.5))
    total.add(Figures(moved=5, skipped=7, seconds=0.5))

    assert (total.moved, total.skipped, total.seconds) == (15, 7, 3.0)
    assert total.rate == pytest.approx(10 / 3)


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """``run(home, *arguments)``: what a command that succeeds prints; in this process, where starting takes no time."""

    def do(home: Path, *arguments: object) -> str:
        capfd.readouterr()
        status = invoke(["--home", str(home), *(str(argument) for argument in arguments)])
        out, err = capfd.readouterr()
        assert status == 0, (arguments, out, err)
        return out

    return do


def killed(command: list[str], target: Path, after: float) -> None:
    """Start a copy, and kill it some time after it began to write, unless it was faster."""
    staging = target / "staging"
    before = set(staging.iterdir()) if staging.exists() else None
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and (set(staging.iterdir()) if staging.exists() else None) == before:
        time.sleep(0.002)
    try:
        process.wait(timeout=after)
    except subprocess.TimeoutExpired:
        process.kill()
    _, said = process.communicate()
    assert process.returncode in {0, -9}, said


def test_copies_between_homes_that_are_killed_are_finished_by_running_them_again(run, tmp_path: Path) -> None:
    home, other, moments = tmp_path / "home", tmp_path / "other", random.Random(20261128)
    (tmp_path / "m").mkdir()
    for number in range(3):
        (tmp_path / f"m/{number}.bin").write_bytes(moments.randbytes(12 << 20))
    run(home, "push", tmp_path / "m", "m")
    copy = ["copy", "m", f"home:{other}"]
    command = [sys.executable, "-m", "assay", "--home", str(home), *copy]

    for _ in range(kills(3)):
        if other.exists() and DirectoryStore(other).size(Digest.of((tmp_path / "m/2.bin").read_bytes())):
            shutil.rmtree(other)  # it got through, or far: from the beginning
        killed(command, other, moments.uniform(0, 0.5))
        if (other / "assay.json").exists():
            run(other, "verify", "--all")
        store = DirectoryStore(other)
        assert all(store.check(digest) for digest in store.digests())
    run(home, *copy)

    run(other, "verify", "--all")
    assert run(other, "ls", "m", "--json").count('"version"') == 1
    assert [path for path in (other / "staging").iterdir() if path.name.startswith("part-")] == []


def test_moving_much_takes_little_memory(tmp_path: Path) -> None:
    """A gigabyte of a source that gives ranges, into a home, in a process of its own; by hand with more."""
    gib = float(os.environ.get("ASSAY_MEMORY_GIB", "0.5"))
    script = f"""
import hashlib, os
from pathlib import Path
from assay.blobs.directory import DirectoryStore
from assay.service.transfer.moving import move
from assay.service.transfer.plan import Plan
from assay.spec.descriptor import Descriptor
from assay.spec.digest import Digest

SIZE, COUNT = int({gib} * (1 << 30)) // 4, 4
BLOCK = bytes(range(256)) * 4096

class Source:
    def __init__(self, first): self.first, self.size = first, SIZE
    def read(self, offset, length):
        length = min(length, SIZE - offset)
        at = offset % 256
        data = (BLOCK * (length // len(BLOCK) + 2))[at : at + length]
        return bytes([self.first]) + data[1:] if offset == 0 else data

class Blobs:
    def size(self, digest): return SIZE
    def local_file(self, digest): return None
    def open(self, digest): return Source(known[digest])

def digest(first):
    state, source, at = hashlib.sha256(), Source(first), 0
    while at < SIZE:
        data = source.read(at, 1 << 22); state.update(data); at += len(data)
    return Digest("sha256", state.hexdigest())

known = {{digest(first): first for first in range(COUNT)}}
def peak():  # of this program alone: ru_maxrss begins with what the parent had when it forked
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])

before = peak()
blobs = tuple(Descriptor("x", one, SIZE) for one in known)
move(Blobs(), DirectoryStore(Path({str(tmp_path)!r})), Plan(blobs, ()), spool=Path("/nonexistent"), repair="")
print(before >> 10, peak() >> 10)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    before, peak = (int(word) for word in done.stdout.split())

    assert peak < 400, (before, peak)
