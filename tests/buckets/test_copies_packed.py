"""A packed fine-tune goes to a bucket and comes from one as its differences: counted in bytes that cross the line."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from assay.blobs.bucket.objects import BucketObjects

SHARE = 0.6
"""What may travel of a fine-tune at most; its differences here take about half."""


class Line:
    """Bytes that were sent to each bucket and fetched from it, in objects of blobs and packs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent, self.fetched = Counter[str](), Counter[str]()
        put, put_parts, read_into = BucketObjects.put, BucketObjects.put_parts, BucketObjects.read_into

        def counted_put(objects: BucketObjects, key: str, data: bytes) -> None:
            self.sent[objects.place] += len(data)
            put(objects, key, data)

        def counted_parts(objects: BucketObjects, key: str, parts, size: int) -> None:
            def counted() -> Iterable[bytes]:
                for part in parts():
                    self.sent[objects.place] += len(part)
                    yield part

            put_parts(objects, key, counted, size)

        def counted_read(objects: BucketObjects, key: str, offset: int, into: memoryview) -> None:
            self.fetched[objects.place] += len(into)
            read_into(objects, key, offset, into)

        monkeypatch.setattr(BucketObjects, "put", counted_put)
        monkeypatch.setattr(BucketObjects, "put_parts", counted_parts)
        monkeypatch.setattr(BucketObjects, "read_into", counted_read)

    def begin(self) -> None:
        """Count from here."""
        self.sent.clear()
        self.fetched.clear()


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Line:
    return Line(monkeypatch)


@pytest.fixture
def tuned(run, tmp_path: Path) -> str:
    """A home with a base, version 1, and a fine-tune of it, version 2; both are packed."""
    chance = np.random.default_rng(3)
    layers = {f"layer.{n}": chance.normal(0, 0.02, (512, 1024)).astype(np.float32) for n in range(4)}
    home = str(tmp_path / "local")
    for tune in range(2):
        (tmp_path / f"m{tune}").mkdir()
        noise = {name: chance.normal(0, 1e-6, layer.shape).astype(np.float32) for name, layer in layers.items()}
        save_file({name: layers[name] + tune * noise[name] for name in layers}, tmp_path / f"m{tune}/model.safetensors")
        assert run("--home", home, "push", tmp_path / f"m{tune}", "m")[0] == 0
    assert run("--home", home, "pack-store")[0] == 0
    return home


def based(run, home: str, place: str) -> None:
    """Bring the base to a place, and pack it there."""
    status, _, err = run("--home", home, "copy", "m:1", f"home:{place}")
    assert status == 0, err
    assert run("--home", place, "pack-store")[0] == 0


def test_a_fine_tune_goes_to_a_bucket_and_from_there_to_folders_and_buckets_as_its_differences(
    owned: str, run, tuned: str, tmp_path: Path, line: Line
) -> None:
    second = f"{owned}-2"
    for place in (owned, second, f"{tmp_path}/back"):
        based(run, tuned, place)

    line.begin()
    status, out, err = run("--home", tuned, "copy", "m:2", f"home:{owned}", "--json")
    assert status == 0, err
    moved = json.loads(out)
    assert moved["verified"] == moved["moved"] > 8 << 20
    assert line.sent[owned] < SHARE * moved["moved"]
    assert moved["saved"] > (1 - SHARE) * moved["moved"]
    assert run("--home", owned, "verify", "--all")[0] == 0

    line.begin()
    status, _, err = run("--home", owned, "copy", "m:2", f"home:{tmp_path}/back")
    assert status == 0, err
    assert line.fetched[owned] < SHARE * moved["moved"]
    assert run("--home", f"{tmp_path}/back", "verify", "--all")[0] == 0

    line.begin()
    status, _, err = run("--home", owned, "copy", "m:2", f"home:{second}")
    assert status == 0, err
    assert line.fetched[owned] < SHARE * moved["moved"]
    assert line.sent[second] < SHARE * moved["moved"]
    assert run("--home", second, "verify", "--all")[0] == 0


def test_a_bucket_that_never_packed_gets_plain_blobs(owned: str, run, tuned: str, line: Line) -> None:
    assert run("--home", tuned, "copy", "m:1", f"home:{owned}")[0] == 0
    line.begin()
    moved = json.loads(run("--home", tuned, "copy", "m:2", f"home:{owned}", "--json")[1])
    assert moved["saved"] == 0
    assert line.sent[owned] >= moved["moved"]
    assert run("--home", owned, "verify", "--all")[0] == 0


def test_a_dry_run_says_how_much_would_travel_to_a_bucket(owned: str, run, tuned: str) -> None:
    based(run, tuned, owned)
    status, out, err = run("--home", tuned, "copy", "m:2", f"home:{owned}", "--dry-run")
    assert status == 0, err
    assert "as packed segments they are" in out + err
