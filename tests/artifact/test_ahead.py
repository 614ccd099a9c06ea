"""Which stretches of a file the system is asked to bring into its page cache."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from assay.artifact.ahead import STEP, read_ahead


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []

    def advise(descriptor: int, offset: int, length: int, advice: int) -> None:
        assert os.fstat(descriptor).st_size > 0
        assert advice == os.POSIX_FADV_WILLNEED
        found.append((offset, length))

    monkeypatch.setattr(os, "posix_fadvise", advise)
    return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_bytes(b"x")
    os.truncate(path, 5 * STEP)
    return path


def in_cache(monkeypatch: pytest.MonkeyPatch, waited: list[int], is_there: Callable[[int], bool]) -> None:
    """Let the page cache have what it should."""

    def look(_: int, buffers: list[bytearray], offset: int, flags: int = 0) -> int:
        if flags == 0:
            waited.append(offset)
        elif not is_there(offset):
            raise BlockingIOError
        return len(buffers[0])

    monkeypatch.setattr(os, "preadv", look)


def ask(file: Path, *ranges: tuple[int, int]) -> None:
    read_ahead(file, ranges)
    for thread in threading.enumerate():
        if thread.name == "assay-read-ahead":
            thread.join()


def test_what_is_not_in_the_page_cache_is_asked_for_in_order_a_step_after_the_other_has_come(
    file: Path, asked: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[int] = []
    in_cache(monkeypatch, waited, lambda _: False)
    ask(file, (10, 2 * STEP), (3 * STEP, 3 * STEP + 5))
    assert asked == [(10, STEP), (10 + STEP, STEP - 10), (3 * STEP, 5)]
    assert waited == [9 + STEP, 2 * STEP - 1, 3 * STEP + 4]


def test_what_is_in_the_page_cache_is_not_asked_for(
    file: Path, asked: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    in_cache(monkeypatch, [], lambda offset: offset < 2 * STEP + STEP // 2 or offset >= 4 * STEP)
    ask(file, (0, 5 * STEP))
    assert asked == [(2 * STEP, STEP), (3 * STEP, STEP)]


def test_a_file_system_that_cannot_tell_is_asked_and_a_file_that_has_gone_is_no_error(
    file: Path, asked: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "RWF_NOWAIT")
    ask(file, (0, STEP))
    assert asked == [(0, STEP)]
    file.unlink()
    ask(file, (0, STEP))
    assert len(asked) == 1
