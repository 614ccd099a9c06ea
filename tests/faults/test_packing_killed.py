"""Packing beside pushes and collections of other processes, killed at any moment; hundreds of rounds are run by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("seed", [11, 12])
def test_whatever_is_killed_nothing_is_lost_and_nothing_is_damaged(seed: int) -> None:
    script = Path(__file__).with_name("packing_killed.py")
    command = [sys.executable, script, "--rounds", "4", "--seed", str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 rounds" in done.stdout
