"""Machines that share a bucket and pack, take in, compact, delete and collect at once; some are killed meanwhile."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path
from secrets import token_hex

import packing_much
import pytest
from bucket_builders import BUCKET
from packing_much import FILES, MINE, machine, wanted
from rounds import kills

from assay.testing.packs import read

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(params=["folder", pytest.param("server", marks=pytest.mark.root)])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty bucket."""
    if request.param == "folder":
        return f"file://{tmp_path}/bucket"
    for name, value in request.getfixturevalue("bucket_server").items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{token_hex(8)}"


def start(url: str, state: Path, seed: int, own: int) -> subprocess.Popen[str]:
    command = [sys.executable, packing_much.__file__, url, state, str(seed), "2", str(own)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def prepare(url: str, state: Path) -> None:
    """Two packs, the second relies on the first."""
    store = machine(url, state)
    for data in FILES.values():
        store.add(data)
    store.pack(wanted(*MINE[:2]))
    store.pack(wanted(MINE[2]))


def test_machines_that_change_packs_at_once_and_are_killed_lose_nothing(url: str, tmp_path: Path) -> None:
    prepare(url, tmp_path / "first")
    chance = random.Random(11)
    for number in range(kills(2)):
        running = [start(url, tmp_path / f"machine-{own}", 10 * number + own, own) for own in range(3)]
        for one in running:
            assert one.stdout is not None
            one.stdout.readline()
        time.sleep(chance.uniform(0.1, 1.5))
        running[number % 3].kill()
        said = [one.communicate()[1] for one in running]
        for own, one in enumerate(running):
            assert one.returncode in ({0} if own != number % 3 else {0, -9}), said[own]
        fresh = machine(url, tmp_path / f"fresh-{number}")
        assert {digest: read(fresh, digest) for digest in MINE} == {digest: FILES[digest] for digest in MINE}
        assert all(read(fresh, digest) == FILES[digest] for digest in fresh.digests())
        assert list(fresh.check_packs()) == []
    last = machine(url, tmp_path / "machine-0")
    last.pack(wanted(*last.digests()))
    last.compact(least=0.0)
    assert {digest: read(last, digest) for digest in last.digests()}.items() <= FILES.items()
    assert last.pack_use().dead == 0
