"""Forked children and buckets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("forking.py")


def run(folder: Path, use: str) -> list[str]:
    """What the child said of everything it did, and the parent after that."""
    command = [sys.executable, SCRIPT, folder, use]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def test_a_bucket_used_before_a_fork_says_so_in_the_child_and_goes_on_in_the_parent(tmp_path: Path) -> None:
    assert run(tmp_path, "used") == [" ".join(["bucket-forked"] * 5), "done"]


def test_a_bucket_that_was_not_used_before_a_fork_can_be_used_in_the_child(tmp_path: Path) -> None:
    assert run(tmp_path, "unused") == ["done done done", "done"]
