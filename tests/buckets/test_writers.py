"""Who writes to a bucket: one machine's processes, killed ones, whoever takes over, and many through a database."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from postgres_server import running

from assay.catalog.bucket_journal import BucketJournal
from assay.catalog.memory import MemoryCatalog
from assay.settings import read_settings
from assay.testing.catalog import everything
from assay.wiring.buckets import objects_of, writer_of
from assay.wiring.places import open_registry

_WRITER = """
import sys
from assay.settings import read_settings
from assay.testing.catalog import push
from assay.wiring.places import open_registry
catalog = open_registry(read_settings(), create=True).catalog
for number in range(int(sys.argv[2])):
    version = push(catalog, "m", (sys.argv[1], number))
    print(version.number, version.manifest, flush=True)
"""
_PUSHER = """
import sys
from assay.cli.main import invoke
print("begun", flush=True)
lost = [path for path in sys.argv[1:] if invoke(["push", path, "team/m", "--alias", "champion"])]
sys.exit(bool(lost))
"""


def start(script: str, *arguments: object, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})


def push_and_be_killed(paths: list[Path], dice: random.Random, times: int) -> None:
    """Push them all, again and again, and be killed at some moment; earlier from when on one was done before."""
    longest = 2.0
    for _ in range(times):
        pusher = start(_PUSHER, *paths)
        assert pusher.stdout is not None
        assert pusher.stdout.readline() == "begun\n"
        time.sleep(dice.uniform(0, longest))
        if pusher.poll() is not None:
            longest /= 2
        pusher.kill()
        pusher.communicate()


def catalog():
    return open_registry(read_settings()).catalog


def in_the_bucket(tmp_path: Path) -> dict[str, object]:
    """What the journal beside the blobs says."""
    journal = BucketJournal(objects_of(read_settings()), tmp_path / "lock", lambda: None)
    return everything(MemoryCatalog(journal))


def test_several_processes_of_one_machine_write_in_turns(owned: str, tmp_path: Path) -> None:
    writers = [start(_WRITER, own, 25) for own in range(3)]
    said = [writer.communicate(timeout=120)[0] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    numbers = sorted(int(line.split()[0]) for text in said for line in text.splitlines())
    assert numbers == list(range(1, 76))
    assert everything(catalog()) == in_the_bucket(tmp_path)


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_writer_loses_nothing_that_it_was_told_is_done(owned: str, tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    done: dict[int, str] = {}
    for turn in range(4):
        writer = start(_WRITER, f"{seed}-{turn}", 200)
        assert writer.stdout is not None
        done.update([_said(writer.stdout.readline())])  # it has begun
        time.sleep(dice.uniform(0, 0.6))
        writer.kill()
        lines = writer.communicate()[0].split("\n")[:-1]
        done.update(map(_said, lines))
    found = {version.number: str(version.manifest) for version in catalog().versions("m")}
    assert done.items() <= found.items()
    assert sorted(found) == list(range(1, len(found) + 1))
    assert len(found) <= len(done) + 4
    shutil.rmtree(tmp_path / "machine-1")
    assert {version.number: str(version.manifest) for version in catalog().versions("m")} == found


def _said(line: str) -> tuple[int, str]:
    number, manifest = line.split()
    return int(number), manifest


@pytest.mark.parametrize("seed", range(2))
def test_a_killed_push_leaves_a_bucket_where_nothing_is_wrong(owned: str, model, run, seed: int) -> None:
    dice = random.Random(seed)
    paths = [model(float(number)) for number in range(6)]
    assert run("push", paths[0], "team/m")[0] == 0
    push_and_be_killed(paths, dice, 3)
    assert run("verify", "--all")[0] == 0
    assert run("push", paths[-1], "team/m", "--alias", "champion")[0] == 0
    assert run("verify", "--all")[0] == 0


def test_a_copied_identity_cannot_replace_an_event(
    owned: str, run, model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("push", model(1.0), "team/m")[0] == 0
    shutil.copytree(tmp_path / "machine-1", tmp_path / "machine-2")  # as a clone of a virtual machine does
    assert run("push", model(2.0), "team/m")[0] == 0
    monkeypatch.setenv("ASSAY_STATE", str(tmp_path / "machine-2"))
    assert run("push", model(3.0), "team/m")[0] == 0
    monkeypatch.setenv("ASSAY_STATE", str(tmp_path / "machine-1"))
    assert [version.number for version in catalog().versions("team/m")] == [3, 2, 1]


def test_two_machines_push_and_promote_at_once(shared: str, model, run, tmp_path: Path) -> None:
    paths = [model(float(number)) for number in range(6)]
    assert run("push", paths[0], "team/m")[0] == 0
    pushers = [
        start(_PUSHER, *paths[own::2], ASSAY_STATE=str(tmp_path / f"machine-{own}"), ASSAY_ACTOR=f"user-{own}")
        for own in range(2)
    ]
    for pusher in pushers:
        pusher.communicate(timeout=120)
    assert {pusher.returncode for pusher in pushers} <= {0, 1}  # who loses an alias to the other is told so
    for path in paths:
        assert run("push", path, "team/m")[0] == 0
    assert [version.number for version in catalog().versions("team/m")] == list(range(6, 0, -1))
    assert {event.actor for event in catalog().events(name="team/m")} >= {"user-0", "user-1"}
    assert run("verify", "--all")[0] == 0
    assert in_the_bucket(tmp_path) == everything(catalog())


def test_a_killed_push_into_a_database_leaves_nothing_wrong(shared: str, model, run, tmp_path: Path) -> None:
    dice = random.Random(1)
    paths = [model(float(number)) for number in range(4)]
    assert run("push", paths[0], "team/m")[0] == 0
    push_and_be_killed(paths, dice, 4)
    assert run("push", paths[-1], "team/m", "--alias", "champion")[0] == 0
    assert run("verify", "--all")[0] == 0
    assert in_the_bucket(tmp_path) == everything(catalog())


def test_a_machine_without_the_database_reads_the_bucket_and_writes_nothing(
    shared: str, run, answer, model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("push", model(1.0), "team/m", "--alias", "champion")[0] == 0
    monkeypatch.delenv("ASSAY_CATALOG")
    monkeypatch.setenv("ASSAY_STATE", str(tmp_path / "machine-2"))
    assert answer("show", "team/m:champion")["reference"] == "team/m:1"
    error = answer("push", model(2.0), "team/m", status=2)["error"]
    assert error["code"] == "bucket-has-writer"
    assert "ASSAY_CATALOG" in error["hint"]


def test_a_lost_database_is_made_again_from_the_bucket(
    shared: str, run, answer, model, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value in (1.0, 2.0):
        assert run("push", model(value), "team/m", "--alias", "champion", "--note", "n")[0] == 0
    before = everything(catalog())
    with running() as other:
        monkeypatch.setenv("ASSAY_CATALOG", other)
        assert answer("ls", status=2)["error"]["code"] == "bucket-has-writer"
        assert answer("reindex", "--take-over", "--yes")["events"] == len(before["events"])
        assert everything(catalog()) == before
        assert run("push", model(3.0), "team/m")[0] == 0
        assert run("verify", "--all")[0] == 0


def test_names_move_from_a_machine_into_a_database_and_back_to_another(
    shared: str, run, answer, model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = os.environ["ASSAY_CATALOG"]
    monkeypatch.delenv("ASSAY_CATALOG")
    assert run("push", model(1.0), "team/m", "--alias", "champion")[0] == 0
    assert writer_of(read_settings()).kind == "machine"

    monkeypatch.setenv("ASSAY_CATALOG", database)
    assert answer("push", model(2.0), "team/m", status=2)["error"]["code"] == "bucket-has-writer"
    assert answer("reindex", "--take-over", "--yes")["took_over"]
    assert writer_of(read_settings()).kind == "postgresql"
    assert run("push", tmp_path / "model-2.0", "team/m")[0] == 0

    monkeypatch.delenv("ASSAY_CATALOG")
    assert run("push", model(3.0), "team/m")[0] == 2
    monkeypatch.setenv("ASSAY_STATE", str(tmp_path / "machine-2"))
    assert run("reindex", "--take-over", "--yes")[0] == 0
    assert run("push", tmp_path / "model-3.0", "team/m")[0] == 0
    assert [row["version"] for row in answer("ls", "team/m")["versions"]] == [3, 2, 1]

    monkeypatch.setenv("ASSAY_CATALOG", database)
    assert answer("ls", status=2)["error"]["code"] == "bucket-has-writer"
    assert run("reindex", "--take-over", "--yes")[0] == 0
    assert [row["version"] for row in answer("ls", "team/m")["versions"]] == [3, 2, 1]


def test_gc_beside_pushes_of_other_machines_frees_nothing_that_is_needed(
    shared: str, model, run, tmp_path: Path
) -> None:
    paths = [model(float(number)) for number in range(6)]
    assert run("push", paths[0], "team/m")[0] == 0
    pushers = [start(_PUSHER, *paths[own::2], ASSAY_STATE=str(tmp_path / f"machine-{own}")) for own in range(2)]
    while any(pusher.poll() is None for pusher in pushers):
        assert run("gc", "--grace", "0", "--yes")[0] == 0
    for pusher in pushers:
        pusher.communicate()
    assert run("verify", "--all")[0] == 0
