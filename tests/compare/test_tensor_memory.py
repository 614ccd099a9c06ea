"""Digests of tensors are kept between comparisons, and memory stays bounded within one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tensor_sides import of_arrays, weights

from assay.artifact.reader import Artifact
from assay.compare.sides import Options
from assay.compare.tensors import compare_tensors
from assay.spec.changes import State


def read_tensors(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the tensors whose elements are opened from now on."""
    read: list[str] = []
    elements = Artifact.elements

    def spy(self, found, spec, dtype=None):
        read.append(spec.name)
        return elements(self, found, spec, dtype)

    monkeypatch.setattr(Artifact, "elements", spy)
    return read


def pair() -> tuple[dict, dict]:
    old = {"frozen": weights(1, 50, 50), "moved": weights(2, 50, 50)}
    return old, {**old, "moved": weights(3, 50, 50)}


def test_tensors_of_one_blob_are_equal_unread(monkeypatch) -> None:
    old, _ = pair()
    sides = of_arrays(old, pushed=True), of_arrays(old, pushed=True)
    read = read_tensors(monkeypatch)

    found = compare_tensors(*sides, Options())

    assert {change.state for change in found.changes} == {State.EQUAL}
    assert read == []


def test_equal_tensors_are_not_read_again_by_the_next_comparison(tmp_path: Path, monkeypatch) -> None:
    sides = tuple(of_arrays(tensors, pushed=True) for tensors in pair())
    options = Options(memory=tmp_path / "tensors", ranks=False)
    first = compare_tensors(*sides, options)
    read = read_tensors(monkeypatch)

    again = compare_tensors(*sides, options)

    assert again == first
    assert set(read) == {"moved"}


def test_what_is_remembered_holds_for_other_files_too(tmp_path: Path, monkeypatch) -> None:
    options = Options(memory=tmp_path, ranks=False)
    base, first = pair()
    second = {**base, "moved": weights(4, 50, 50)}
    for new in (first, second):
        compare_tensors(of_arrays(base, pushed=True), of_arrays(new, pushed=True), options)
    read = read_tensors(monkeypatch)

    found = compare_tensors(of_arrays(first, pushed=True), of_arrays(second, pushed=True), options)

    assert [change.state for change in found.changes] == [State.EQUAL, State.CHANGED]
    assert set(read) == {"moved"}


@pytest.mark.parametrize("damage", ["", "{", '{"schema": 9}', '{"schema": 1, "tensors": {"x": 3}}', "[1]"])
def test_damaged_memory_is_made_again(damage, tmp_path: Path) -> None:
    sides = tuple(of_arrays(tensors, pushed=True) for tensors in pair())
    options = Options(memory=tmp_path)
    first = compare_tensors(*sides, options)
    kept = {file.name: file.read_text() for file in tmp_path.iterdir()}
    for file in tmp_path.iterdir():
        file.write_text(damage)

    assert compare_tensors(*sides, options) == first
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == kept
    assert len(kept) == 2


def test_memory_of_another_layout_is_not_believed(tmp_path: Path) -> None:
    sides = tuple(of_arrays(tensors, pushed=True) for tensors in pair())
    options = Options(memory=tmp_path)
    compare_tensors(*sides, options)
    for file in tmp_path.iterdir():
        file.write_text(file.read_text().replace('"schema":1', '"schema":2'))

    compare_tensors(*sides, options)

    assert [json.loads(file.read_text())["schema"] for file in tmp_path.iterdir()] == [1, 1]


def test_a_wrong_digest_in_memory_hides_nothing_that_has_no_twin(tmp_path: Path) -> None:
    sides = tuple(of_arrays(tensors, pushed=True) for tensors in pair())
    options = Options(memory=tmp_path)
    compare_tensors(*sides, options)
    for number, file in enumerate(sorted(tmp_path.iterdir())):
        body = json.loads(file.read_text())
        body["tensors"] = dict.fromkeys(body["tensors"], f"sha256:{number:064}")
        file.write_text(json.dumps(body))

    assert [change.state for change in compare_tensors(*sides, options).changes] == [State.EQUAL, State.CHANGED]


def test_a_place_that_cannot_be_written_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    sides = tuple(of_arrays(tensors, pushed=True) for tensors in pair())

    found = compare_tensors(*sides, Options(memory=tmp_path / "file" / "tensors"))

    assert [change.state for change in found.changes] == [State.EQUAL, State.CHANGED]


def test_files_that_were_not_pushed_leave_nothing_behind(tmp_path: Path) -> None:
    old, new = pair()

    compare_tensors(of_arrays(old), of_arrays(new), Options(memory=tmp_path / "tensors"))

    assert not (tmp_path / "tensors").exists()


SCRIPT = """
import sys
from pathlib import Path
from tensor_sides import of_path
from assay.compare.sides import Options
from assay.compare.tensors import compare_tensors

warm = compare_tensors(of_path(Path(sys.argv[3])), of_path(Path(sys.argv[3])), Options(workers=2))
def peak():  # of this program alone: ru_maxrss begins with what the parent had when it forked
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])

before = peak()
found = compare_tensors(of_path(Path(sys.argv[1])), of_path(Path(sys.argv[2])), Options(workers=2))
after = peak()
print([change.state.value for change in found.changes], (after - before) >> 10)
"""


def sparse(path: Path, size: int, last: bytes) -> Path:
    """A safetensors file of one matrix of zeros that takes no room on the disk."""
    rows = size // 4096
    text = json.dumps({"w": {"dtype": "F32", "shape": [rows, 1024], "data_offsets": [0, rows * 4096]}}).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as handle:
        handle.write(len(text).to_bytes(8, "little") + text)
        handle.seek(rows * 4096 - 4, os.SEEK_CUR)
        handle.write(last)
    return path


def test_memory_does_not_grow_with_the_model(tmp_path: Path) -> None:
    one = sparse(tmp_path / "one.safetensors", 1 << 29, b"\0\0\0\0")
    other = sparse(tmp_path / "other.safetensors", 1 << 29, b"\0\0\x80\x3f")
    small = sparse(tmp_path / "small.safetensors", 1 << 16, b"\0\0\0\0")
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    places = [str(Path(__file__).parents[1] / "builders"), os.environ.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(places)

    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(one), str(other), str(small)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )

    assert run.returncode == 0, run.stderr
    states, grown = run.stdout.rsplit(" ", 1)
    assert states == "['changed']"
    assert int(grown) < 160  # MiB, of 1024 MiB that are read
