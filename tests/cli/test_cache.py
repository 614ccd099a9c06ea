"""``cache`` on the command line: what it shows, what it frees, and the JSON of it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import jsonschema
import pytest

from assay.blobs.cache.store import CachedStore
from assay.blobs.memory import MemoryStore
from assay.spec.digest import Digest
from assay.wiring.caching import open_cache

_NUMBERS = ("bytes", "bound", "blobs", "blocks", "unfinished", "in_use", "freed")
SCHEMA = {
    "type": "object",
    "properties": {"folder": {"type": "string"}, **{name: {"type": "integer"} for name in _NUMBERS}},
    "required": ["folder", *_NUMBERS],
    "additionalProperties": False,
}


@pytest.fixture(autouse=True)
def filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Digest:
    """A cache with two whole blobs, the older of 2 MiB, the other of 3 MiB, and one block of a third."""
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ASSAY_CACHE_SIZE", "1GB")
    monkeypatch.setattr("assay.blobs.cache.keeper.LATER", 0)
    far, folder = MemoryStore(), open_cache()
    store = CachedStore(far, folder, "far")
    older = store.fetch_file(far.add(bytes(2 << 20)))
    os.utime(older, ns=(10**18, older.stat().st_mtime_ns))
    newest = far.add(bytes(3 << 20))
    store.fetch_file(newest)
    store.open(far.add(bytes(range(256)) * 20_000)).read(0, 10)
    while folder._pins:  # what the end of a process does
        os.close(folder._pins.popitem()[1])
    return newest


def shown(run, *arguments: str) -> dict:
    status, out, err = run("cache", "--json", *arguments)
    assert status == 0, err
    body = json.loads(out)
    jsonschema.validate(body, SCHEMA)
    return body


def test_it_shows_what_is_there_and_the_bound(run, tmp_path: Path) -> None:
    found = shown(run)
    assert found["folder"] == str(tmp_path / "cache")
    assert (found["blobs"], found["blocks"], found["bound"], found["freed"]) == (2, 1, 10**9, 0)
    assert found["bytes"] == 6 * (1 << 20) + 32
    status, out, _ = run("cache")
    assert status == 0
    assert "6.29 MB of at most 1.00 GB, 2 blobs and 1 block of others" in out


def test_it_frees_what_was_used_longest_ago(run, filled: Digest) -> None:
    found = shown(run, "--free", "1MB")
    assert (found["freed"], found["blobs"]) == (2 << 20, 1)
    assert open_cache().blob(filled).exists()


def test_it_clears_all_that_nobody_uses(run, filled: Digest) -> None:
    folder = open_cache()
    assert folder.pin(filled) is not None
    found = shown(run, "--clear")
    assert (found["blobs"], found["blocks"], found["bytes"], found["in_use"]) == (1, 0, 3 << 20, 3 << 20)


def test_what_is_no_size_is_refused(run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("cache", "--free", "much")[0] == 2
    assert run("cache", "--free", "1GB", "--clear")[0] == 64
    monkeypatch.setenv("ASSAY_CACHE_SIZE", "some")
    assert run("cache")[0] == 2
