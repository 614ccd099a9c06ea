"""A file that several threads read: it is opened once, and closed once."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from assay.trees import window
from assay.trees.window import FileSource


def test_threads_that_open_a_file_at_once_leave_one_descriptor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"content")
    source, together, opened = FileSource(tmp_path / "file"), threading.Barrier(4), list[int]()
    really = os.open

    def slowly(*args: Any, **options: Any) -> int:
        descriptor = really(*args, **options)
        if args[0] == source.file:
            together.wait(10)  # none of them has shared its own yet
            opened.append(descriptor)
        return descriptor

    monkeypatch.setattr(os, "open", slowly)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: source.read(0, 7), range(4))) == [b"content"] * 4
    assert len(opened) == 4
    assert sum(is_open(descriptor) for descriptor in opened) == 1
    source.close()
    assert not any(is_open(descriptor) for descriptor in opened)
    assert source.file.read_bytes() == b"content"


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_that_was_forked_while_a_file_was_opened_opens_files(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    with window._sharing:
        child = os.fork()
        if not child:
            signal.alarm(60)
            os._exit(7 if FileSource(tmp_path / "file").read(0, 7) == b"content" else 8)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
