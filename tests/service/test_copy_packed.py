"""A packed fine-tune travels as the segments that the other home lacks, and counts when every blob was compared.

Between folders and buckets, each with the other.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from model_files import safetensors

from assay.artifact.collect import collect
from assay.blobs.packs import exchange
from assay.service import garbage, publish, removing, transfer, verify
from assay.service.registry import Registry
from assay.settings import Settings
from assay.wiring import homes
from assay.wiring.auditing import guard_of
from assay.wiring.packing import pack_store
from assay.wiring.places import open_registry

SIZE = 1 << 20
PAIRS = ["folder to folder", "folder to bucket", "bucket to folder", "bucket to bucket"]


def opened(place: Path, kind: str, actor: str) -> Registry:
    """A registry in a folder, or in a folder that is used like a bucket."""
    bucket = f"file://{place}-bucket" if kind == "bucket" else None
    return open_registry(Settings(place, actor, bucket=bucket), create=True)


def where(registry: Registry) -> Path:
    """The folder that holds its packs."""
    return Path(registry.place.removeprefix("file://")) / "packs"


@pytest.fixture(params=PAIRS)
def kinds(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """What the registry is, and what the other one is."""
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    here, _, there = request.param.partition(" to ")
    return here, there


@pytest.fixture
def registry(home: Path, kinds: tuple[str, str]) -> Registry:
    return opened(home, kinds[0], "tester")


@pytest.fixture
def other(tmp_path: Path, kinds: tuple[str, str]) -> Registry:
    return opened(tmp_path / "other", kinds[1], "somebody")


@pytest.fixture
def another(tmp_path: Path, kinds: tuple[str, str]) -> Callable[[], Registry]:
    """``another()``: the other one as another process has it."""
    return lambda: opened(tmp_path / "other", kinds[1], "somebody else")


def weights(folder: Path, *, tuned: bool) -> Path:
    random = np.random.default_rng(3)
    base = {f"layer.{at}": random.standard_normal(SIZE // 4).astype(np.float32) * 0.02 for at in range(3)}
    if tuned:
        base = {
            name: (value + random.standard_normal(len(value)).astype(np.float32) * 1e-6) for name, value in base.items()
        }
    folder.mkdir(exist_ok=True)
    tensors = {name: ("F32", [len(value)], value.tobytes()) for name, value in base.items()}
    (folder / "model.safetensors").write_bytes(safetensors(**tensors))
    (folder / "config.json").write_text("{}")
    return folder


@pytest.fixture
def tuned(push, registry: Registry, tmp_path: Path):
    """Version 1 is a base, version 2 a fine-tune of it; both are packed."""
    base = push(weights(tmp_path / "m", tuned=False)).version
    tune = push(weights(tmp_path / "m", tuned=True)).version
    pack_store(registry)
    return base, tune


@pytest.fixture
def based(tuned, registry: Registry, other: Registry):
    """The other home has the base, packed."""
    transfer.bring(registry, tuned[0], other, "m")
    pack_store(other)
    return tuned


def test_only_the_differences_travel_where_the_base_is_there(based, registry: Registry, other: Registry) -> None:
    plan = transfer.plan_bring(registry, based[1], other)

    brought = transfer.bring(registry, based[1], other, "m")

    raw = brought.figures.moved
    assert plan.travels < 0.6 * raw
    assert brought.figures.saved == raw - plan.travels
    assert brought.figures.verified == raw
    assert verify.verify(other, brought.version).ok
    blob = max(other.manifest(brought.version).layers, key=lambda layer: layer.size).digest
    assert other.blobs.open(blob).read(0, 1 << 30) == registry.blobs.open(blob).read(0, 1 << 30)
    assert other.blobs.is_packed(blob)
    assert not other.blobs.is_raw(blob)


def test_what_was_brought_as_segments_stays_when_the_index_is_made_again(based, registry, other: Registry) -> None:
    brought = transfer.bring(registry, based[1], other, "m")
    other.blobs.reindex_packs()

    assert verify.verify(other, brought.version).ok
    assert list(other.blobs.check_packs()) == []


def test_the_base_travels_along_where_that_is_still_less(tuned, push, registry, other: Registry, tmp_path) -> None:
    # Something else is packed there, so packs are taken; nothing of the base is.
    (tmp_path / "x").write_bytes(b"x" * 100_000)
    publish.push(other, collect(tmp_path / "x"), "x", guard=guard_of(Settings(tmp_path / "other", "s")))
    pack_store(other)

    brought = transfer.bring(registry, tuned[0], other, "m")

    assert brought.figures.saved > 0
    assert verify.verify(other, brought.version).ok
    again = transfer.bring(registry, tuned[1], other, "m")
    assert again.figures.saved > 0.4 * again.figures.moved


def test_a_home_that_never_packed_gets_plain_blobs(tuned, registry: Registry, other: Registry) -> None:
    brought = transfer.bring(registry, tuned[1], other, "m")

    assert brought.figures.saved == 0
    assert verify.verify(other, brought.version).ok
    assert not other.blobs.takes_packs()


def test_a_home_that_never_packed_keeps_packed_what_is_packed_here_when_that_is_asked_for(
    tuned, registry: Registry, other: Registry
) -> None:
    plans = homes.plan_home(registry, tuned, other, packed=True)
    unmade = homes.plan_home(registry, tuned, None, packed=True)
    assert not other.blobs.takes_packs()

    brought = homes.copy_home(registry, tuned, other, "m", packed=True)

    travelled = sum(one.figures.moved - one.figures.saved for one in brought)
    assert [plan.travels for plan in plans] == [plan.travels for plan in unmade]
    assert sum(plan.travels for plan in plans) == travelled < 0.8 * sum(one.figures.moved for one in brought)
    for one in brought:
        assert verify.verify(other, one.version).ok
        blob = max(other.manifest(one.version).layers, key=lambda layer: layer.size).digest
        assert other.blobs.is_packed(blob)
        assert not other.blobs.is_raw(blob)


def test_what_packing_saves_nothing_on_is_packed_too_when_that_is_asked_for_as_later_versions_rest_on_it(
    push, registry: Registry, other: Registry, tmp_path: Path
) -> None:
    noise = np.random.default_rng(5).integers(0, 256, SIZE, np.uint8)
    (tmp_path / "n").mkdir()
    versions = []
    for at in range(3):
        noise[at :: SIZE // 64] += 1
        tensors = {"layer": ("I8", [SIZE], noise.tobytes())}
        (tmp_path / "n" / "model.safetensors").write_bytes(safetensors(**tensors))
        versions.append(push(tmp_path / "n").version)
    pack_store(registry)

    brought = homes.copy_home(registry, versions, other, "m", packed=True)

    assert sum(one.figures.moved - one.figures.saved for one in brought) < 1.2 * SIZE
    for one in brought:
        assert verify.verify(other, one.version).ok


def test_where_the_base_lies_raw_fine_tunes_are_packed_when_that_is_asked_for(
    tuned, registry: Registry, other: Registry
) -> None:
    transfer.bring(registry, tuned[0], other, "m")

    brought = transfer.bring(registry, tuned[1], other, "m", packed=True)

    blob = max(other.manifest(brought.version).layers, key=lambda layer: layer.size).digest
    assert other.blobs.is_packed(blob)
    assert verify.verify(other, brought.version).ok


def test_a_base_that_is_damaged_there_makes_the_bytes_travel_instead(based, registry, other: Registry) -> None:
    (pack,) = where(other).glob("*.pack")
    pack.chmod(0o644)
    data = bytearray(pack.read_bytes())
    data[200_000:200_100] = bytes(100)
    pack.write_bytes(data)

    brought = transfer.bring(registry, based[1], other, "m")

    assert brought.figures.saved == 0
    assert verify.verify(other, brought.version).ok


def test_a_pack_that_was_changed_on_the_way_does_not_count(based, registry, other: Registry, monkeypatch) -> None:
    original = exchange.Joined.read_into

    def changed(self, offset, into):
        count = original(self, offset, into)
        if offset < 100_000 < offset + count:
            into[100_000 - offset] ^= 1
        return count

    monkeypatch.setattr(exchange.Joined, "read_into", changed)
    before = set(where(other).glob("*.pack"))

    brought = transfer.bring(registry, based[1], other, "m")

    assert brought.figures.saved == 0
    assert verify.verify(other, brought.version).ok
    assert set(where(other).glob("*.pack")) == before


def test_a_pack_that_broke_off_is_gone_on_with(based, registry, other: Registry, monkeypatch) -> None:
    monkeypatch.setattr(exchange.Exchange, "_checked", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        transfer.bring(registry, based[1], other, "m")
    monkeypatch.undo()
    assert other.catalog.version("m", 2) is None
    assert [path.name[:5] for path in (other.state / "staging").iterdir()] == ["part-"]

    brought = transfer.bring(registry, based[1], other, "m")

    assert brought.figures.saved > 0
    assert verify.verify(other, brought.version).ok
    assert list((other.state / "staging").iterdir()) == []


def test_a_dry_run_says_what_travels_and_changes_nothing(based, registry, other: Registry) -> None:
    files = sorted(where(other).iterdir())
    (plan,) = homes.plan_home(registry, [based[1]], other)

    assert 0 < plan.travels < plan.moved
    assert other.catalog.version("m", 2) is None
    assert sorted(where(other).iterdir()) == files


def test_what_is_removed_there_goes_with_the_next_collection(based, registry, other: Registry) -> None:
    brought = transfer.bring(registry, based[1], other, "m")
    removing.remove(other, brought.version, reason="old")
    garbage.collect(other, garbage.plan(other, grace=timedelta()))

    blob = max(registry.manifest(based[1]).layers, key=lambda layer: layer.size).digest
    assert other.blobs.size(blob) is None
    assert transfer.bring(registry, based[1], other, "n").figures.moved > 0
    assert other.blobs.size(blob) is not None


def test_a_collection_between_the_segments_and_the_version_takes_nothing(
    based, registry: Registry, other: Registry, another: Callable[[], Registry], monkeypatch: pytest.MonkeyPatch
) -> None:
    freed = []

    def collecting(catalog, *arguments, **named):
        monkeypatch.undo()
        for one in (other, another()):
            freed.append(garbage.collect(one, garbage.plan(one, grace=timedelta())))
            one.blobs.compact(least=0.0)
        return catalog.add_version(*arguments, **named)

    monkeypatch.setattr(type(other.catalog), "add_version", collecting)

    brought = transfer.bring(registry, based[1], other, "m")

    assert brought.figures.saved > 0
    assert len(freed) == 2
    assert verify.verify(other, brought.version).ok
    assert verify.verify(another(), brought.version).ok


def test_another_process_that_has_the_registry_open_sees_what_was_brought(
    based, registry: Registry, other: Registry, another: Callable[[], Registry]
) -> None:
    reader = another()
    assert verify.verify(reader, reader.catalog.version("m")).ok

    brought = transfer.bring(registry, based[1], other, "m")

    assert brought.figures.saved > 0
    assert verify.verify(reader, brought.version).ok
