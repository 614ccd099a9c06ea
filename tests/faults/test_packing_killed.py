"""Packing beside pushes and collections of other processes, killed at any moment; hundreds of rounds are run by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from rounds import kills


def test_whatever_is_killed_nothing_is_lost_and_nothing_is_damaged() -> None:
    rounds = str(kills(6))
    script = Path(__file__).with_name("packing_killed.py")
    command = [sys.executable, script, "--rounds", rounds, "--seed", "11"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{rounds} rounds" in done.stdout
