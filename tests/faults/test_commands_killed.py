"""Whole commands under real faults: killed at random moments, on a full disk, on a read-only home, all at once."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from rounds import kills

from assay.cli.main import invoke


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def assay(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """``assay(home, *arguments)``: run a command that nobody kills, in this process: a start of its own takes time."""
    monkeypatch.setenv("ASSAY_ACTOR", "tester")

    def do(home: Path, *arguments: object) -> Ended:
        capfd.readouterr()
        return Ended(invoke(["--home", str(home), *(str(argument) for argument in arguments)]), *capfd.readouterr())

    return do


def started(home: Path, *arguments: object) -> subprocess.Popen[str]:
    """Start a command in a process of its own."""
    command = [sys.executable, "-m", "assay", "--home", str(home), *(str(argument) for argument in arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def folder(path: Path, seed: int, *, files: int = 6, size: int = 3 << 20) -> Path:
    path.mkdir()
    source = random.Random(seed)
    for number in range(files):
        (path / f"part-{number}.bin").write_bytes(source.randbytes(size))
    (path / "config.json").write_text(json.dumps({"seed": seed}))
    return path


def unfinished(folder: Path) -> list[tuple[str, int]]:
    """What pulls into *folder* have written that did not end."""
    with suppress(FileNotFoundError):  # it ended just now
        return [(path.name, path.stat().st_mtime_ns) for path in sorted(folder.glob(".*assay-pull*/*"))]
    return []


def killed(home: Path, *arguments: object, after: float, pulling: Path | None = None) -> int:
    """Start a command and kill it, unless it was faster; where it is *pulling*, the time counts from its first byte.

    Returns its exit status.
    """
    before = unfinished(pulling) if pulling else []
    with started(home, *arguments) as process:
        while pulling and process.poll() is None and unfinished(pulling) == before:
            time.sleep(0.002)
        try:
            process.wait(timeout=after)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.returncode


def test_pushes_killed_at_random_moments_leave_a_valid_home_and_lose_nothing(assay, tmp_path: Path) -> None:
    home, moments, times = tmp_path / "home", random.Random(20261123), kills(6)
    first = folder(tmp_path / "first", 0)
    begun = time.monotonic()
    assert killed(home, "push", first, "m", after=120) == 0
    whole = time.monotonic() - begun

    for attempt in range(1, times + 1):
        killed(home, "push", folder(tmp_path / f"m{attempt}", attempt), "m", after=moments.uniform(0.2, 1.1) * whole)
        assert assay(home, "verify", "--all").returncode == 0

    listed = json.loads(assay(home, "ls", "m", "--json").stdout)["versions"]
    numbers = [version["version"] for version in listed]
    assert numbers == list(range(len(numbers), 0, -1))
    for attempt in range(1, times + 1):
        assert assay(home, "push", tmp_path / f"m{attempt}", "m").returncode == 0
    assert assay(home, "verify", "--all").returncode == 0
    assert list((home / "staging").iterdir()) == []


def test_a_killed_pull_shows_nothing_and_the_next_one_goes_on(assay, tmp_path: Path) -> None:
    home, moments = tmp_path / "home", random.Random(7)
    source = folder(tmp_path / "model", 1, files=8, size=6 << 20)
    assert assay(home, "push", source, "m").returncode == 0

    for attempt in range(kills(6)):
        killed(home, "pull", "m", tmp_path / "out", after=moments.uniform(0, 0.1), pulling=tmp_path)
        if (tmp_path / "out").exists():
            assert len(list((tmp_path / "out").iterdir())) == 9, attempt
    if not (tmp_path / "out").exists():
        assert assay(home, "pull", "m", tmp_path / "out").returncode == 0

    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == {
        path.name: path.read_bytes() for path in source.iterdir()
    }
    assert [path for path in tmp_path.iterdir() if "assay-pull" in path.name] == []


def test_pushes_of_one_name_at_once_all_get_their_own_number(assay, tmp_path: Path) -> None:
    home = tmp_path / "home"
    sources = [folder(tmp_path / f"m{number}", number, files=2, size=1 << 20) for number in range(5)]
    running = [started(home, "push", source, "m") for source in sources]
    answers = [process.communicate(timeout=120)[0].split() for process in running]

    assert sorted(answer[0] for answer in answers) == [f"m:{number}" for number in range(1, 6)]
    assert len({answer[1] for answer in answers}) == 5
    assert assay(home, "verify", "--all").returncode == 0


@pytest.mark.root
def test_a_full_disk_is_a_clear_error_and_the_push_works_after_making_room(assay, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)], check=True)
    try:
        home = disk / "home"
        assert assay(home, "push", folder(tmp_path / "small", 1, files=1), "m").returncode == 0
        (disk / "ballast").write_bytes(bytes(8 << 20))
        large = folder(tmp_path / "large", 2, files=4, size=4 << 20)

        full = assay(home, "push", large, "m")

        assert full.returncode == 2
        assert "error: " in full.stderr
        assert "hint: " in full.stderr
        assert "Traceback" not in full.stderr
        assert json.loads(assay(home, "ls", "m", "--json").stdout)["versions"][0]["version"] == 1
        assert assay(home, "verify", "--all").returncode == 0
        (disk / "ballast").unlink()
        assert assay(home, "push", large, "m").stdout.startswith("m:2 ")
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.mark.root
def test_a_read_only_home_is_read_and_refuses_to_be_written(assay, tmp_path: Path) -> None:
    home, view = tmp_path / "home", tmp_path / "view"
    source = folder(tmp_path / "model", 1, files=2)
    assert assay(home, "push", source, "m", "--note", "seen").returncode == 0
    view.mkdir()
    subprocess.run(["mount", "--bind", str(home), str(view)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(view)], check=True)
        (source / "config.json").write_text("{}")

        for arguments in (("ls",), ("show", "m"), ("verify", "m"), ("history", "m"), ("pull", "m", tmp_path / "out")):
            done = assay(view, *arguments)
            assert done.returncode == 0, (arguments, done.stderr)
        refused = assay(view, "push", source, "m")
        assert refused.returncode == 2
        assert "Traceback" not in refused.stderr
        assert "hint: " in refused.stderr
    finally:
        subprocess.run(["umount", "--lazy", str(view)], check=True)
