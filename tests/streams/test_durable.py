"""Bytes and names that are to survive."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from assay.streams.durable import flush, write_all, write_at


def test_a_system_that_takes_a_part_at_a_time_gets_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
    with (tmp_path / "file").open("wb") as file:
        write_all(file.fileno(), b"ten bytes.")
    assert (tmp_path / "file").read_bytes() == b"ten bytes."


def test_bytes_go_to_their_place_whatever_part_the_system_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, offset: write(descriptor, data[:3], offset))
    with (tmp_path / "file").open("wb") as file:
        file.write(b"....")
        file.flush()
        assert write_at(file.fileno(), b"ten bytes.", 2) == 12
    assert (tmp_path / "file").read_bytes() == b"..ten bytes."


def test_files_and_folders_are_flushed_and_no_descriptor_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(os.fstat(descriptor).st_ino))
    before = len([*Path("/proc/self/fd").iterdir()])
    flush(tmp_path / "file")
    flush(tmp_path)
    assert flushed == [(tmp_path / "file").stat().st_ino, tmp_path.stat().st_ino]
    assert len([*Path("/proc/self/fd").iterdir()]) == before


def test_what_is_gone_cannot_be_flushed(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        flush(tmp_path / "nothing")
