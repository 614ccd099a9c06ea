"""Packing a registry: which files become small, in which order, and what stays as it is."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from model_files import safetensors

from assay.blobs.memory import MemoryStore
from assay.errors import InvalidInput, NotFound
from assay.ports.packs import Effort, Packing
from assay.service import packing, packing_plan, removing
from assay.service.packing_estimate import estimate
from assay.service.packing_order import families
from assay.service.packing_plan import LEAST, Plan, Why, Wish
from assay.service.publish import Base, Claims
from assay.service.registry import Registry
from assay.spec.digest import Digest
from assay.spec.lineage import Edge, Relation, Source
from assay.spec.records import Version
from assay.wiring import packing as wired
from assay.wiring.packing import named

NOW = datetime(2031, 1, 1, tzinfo=UTC)


def weights(seed: int, *, steps: int = 0, words: int = 60_000) -> bytes:
    values = np.random.default_rng(seed).normal(0, 0.05, words).astype("<f4")
    for step in range(steps):
        values += np.random.default_rng(100 + step).normal(0, 1e-6, words).astype("<f4")
    return values.tobytes()


@pytest.fixture
def add(registry: Registry, push, tmp_path: Path):
    """``add(name, raw, **options)``: a version with these weights and a small settings file."""

    def do(name: str, raw: bytes, **options) -> Version:
        folder = tmp_path / "pushed"
        folder.mkdir(exist_ok=True)
        (folder / "model.safetensors").write_bytes(safetensors(weight=("F32", [len(raw) // 4], raw)))
        (folder / "settings.json").write_text(f'{{"of": "{name}"}}')
        return push(folder, name, **options).version

    return do


def made_from(subject: Version, base: Version) -> Edge:
    return Edge(
        subject=subject.manifest,
        relation=Relation.FINETUNED_FROM,
        name="x",
        manifest=base.manifest,
        source=Source.GIVEN,
    )


def blob_of(registry: Registry, version: Version) -> Digest:
    return next(e.digest for e in registry.manifest(version).entries() if e.path == "model.safetensors")


def planned(registry: Registry, *references: str, **wish) -> Plan:
    found = wired.named_wish(registry, references, Wish(**wish))
    return wired.plan(registry, found)


def bytes_of(registry: Registry, version: Version) -> bytes:
    source = registry.blobs.open(blob_of(registry, version))
    return source.read(0, source.size)


def store(registry: Registry) -> Packing:
    return packing_plan.packing_of(registry)


def reasons(plan: Plan) -> set[tuple[Why, str]]:
    return {(one.why, one.of) for one in plan.spared}


def test_files_become_small_and_read_as_before(registry: Registry, add) -> None:
    base = add("a", weights(1))
    tune = add("b", weights(1, steps=1), claims=Claims(bases=(Base("a:1"),)))
    before = {version.reference: bytes_of(registry, version) for version in (base, tune)}

    done = packing.pack(registry, planned(registry))

    assert (done.blobs, len(done.damaged)) == (2, 0)
    assert done.raw == sum(len(data) for data in before.values())
    assert done.stored < 0.75 * done.raw
    assert done.differing == 4 * 60_000
    for version in (base, tune):
        assert store(registry).is_packed(blob_of(registry, version))
        assert not store(registry).is_raw(blob_of(registry, version))
        assert bytes_of(registry, version) == before[version.reference]
    again = planned(registry)
    assert (again.jobs, again.already) == ((), (2, done.raw))


def test_manifests_configurations_statements_and_small_files_stay_raw(registry: Registry, add) -> None:
    version = add("a", weights(1), claims=Claims(note="n" * 2 * LEAST))
    plan = planned(registry)
    packing.pack(registry, plan)
    packed = {found.digest for found in registry.blobs.inventory() if store(registry).is_packed(found.digest)}
    assert packed == {blob_of(registry, version)}
    assert reasons(plan) == {(Why.SMALL, "")}


def test_what_an_alias_points_at_stays_raw_in_every_model(registry: Registry, add) -> None:
    hot = [add("a", weights(1)), add("b", weights(2))]
    add("a", weights(1, steps=1))
    add("c", weights(2))  # the same file as b's
    for version in hot:
        registry.catalog.move_alias(version.name, "live", version.number, actor="tester", reason="", expect=None)
    plan = planned(registry, keep_raw=["live"])
    assert [job.version.reference for job in plan.jobs] == ["a:2"]
    assert {(Why.KEPT, "a:live"), (Why.KEPT, "b:live")} <= reasons(plan)
    with pytest.raises(NotFound) as caught:
        planned(registry, keep_raw=["lvie"])
    assert caught.value.code == "alias-not-found"


def test_what_a_young_version_has_stays_raw_although_an_old_one_has_it_too(registry: Registry, add) -> None:
    add("a", weights(1))
    plan = planned(registry, older_than=timedelta(days=1))
    assert (plan.jobs, (Why.YOUNG, "a:1") in reasons(plan)) == ((), True)
    wish = Wish(older_than=timedelta(days=1))
    assert len(packing_plan.plan(registry, wish, (), (), now=datetime.now(UTC) + timedelta(days=2)).jobs) == 1


def test_references_narrow_it_and_a_name_means_all_versions(registry: Registry, add) -> None:
    for seed in (1, 2):
        add("a", weights(seed))
    add("b", weights(3))
    assert [job.version.reference for job in planned(registry, "a").jobs] == ["a:1", "a:2"]
    assert [job.version.reference for job in planned(registry, "b:1", "a:2").jobs] == ["a:2", "b:1"]
    removing.remove(registry, registry.catalog.version("a", 1), reason="old")  # type: ignore[arg-type]
    assert [version.reference for version in named(registry, ["a"])] == ["a:2"]
    with pytest.raises(NotFound):
        planned(registry, "nobody")


def test_versions_that_are_gone_are_left_to_the_collection(registry: Registry, add) -> None:
    version = add("a", weights(1))
    removing.remove(registry, version, reason="old")
    assert planned(registry).jobs == ()


def test_a_version_whose_manifest_is_missing_is_told_and_the_others_are_packed(registry: Registry, add) -> None:
    lost = add("a", weights(1))
    add("b", weights(2))
    registry.blobs.delete(lost.manifest)
    plan = planned(registry)
    assert [job.version.reference for job in plan.jobs] == ["b:1"]
    assert (Why.UNREADABLE, "a:1") in reasons(plan)


def test_a_missing_file_is_told(registry: Registry, add) -> None:
    version = add("a", weights(1))
    registry.blobs.delete(blob_of(registry, version))
    assert (Why.MISSING, "") in reasons(planned(registry))


def test_a_damaged_file_stays_as_it_is_and_is_named(registry: Registry, add) -> None:
    version = add("a", weights(1))
    file = registry.blobs.local_file(blob_of(registry, version))
    assert file is not None
    spoiled = bytearray(file.read_bytes())
    spoiled[-5] ^= 1
    file.chmod(0o644)
    file.write_bytes(spoiled)
    done = packing.pack(registry, planned(registry))
    assert [one.files for one in done.damaged] == [("a:1 model.safetensors",)]
    assert (done.blobs, file.read_bytes()) == (0, bytes(spoiled))


def test_a_file_that_would_be_cut_into_too_many_parts_stays_raw(
    registry: Registry, add, monkeypatch: pytest.MonkeyPatch
) -> None:
    add("a", weights(1))
    monkeypatch.setattr(packing_plan, "MOST_OTHERS", 1000)
    assert len(planned(registry).jobs) == 1  # nearly all of it is a tensor
    monkeypatch.setattr(packing_plan, "MOST_OTHERS", 10)
    plan = planned(registry)
    assert (plan.jobs, (Why.LARGE, "") in reasons(plan)) == ((), True)


def test_bases_are_packed_before_what_was_made_from_them(registry: Registry, add) -> None:
    tune = add("tune", weights(1, steps=1))
    add("other", weights(9))
    base = add("base", weights(1))
    plan = packing_plan.plan(registry, Wish(), (), [made_from(tune, base)], now=NOW)
    assert [job.version.reference for job in plan.jobs] == ["base:1", "tune:1", "other:1"]
    assert plan.jobs[1].wanted[0].near == (blob_of(registry, base),)


def numbered(count: int) -> list[Version]:
    """Versions of seven models."""
    moments = [NOW + timedelta(seconds=number) for number in range(count)]
    return [
        Version(f"m{at % 7}", at // 7 + 1, Digest.of(str(at).encode()), moments[at], "a", 1, 1) for at in range(count)
    ]


def ordered(line: list[Version], edges: list[Edge]) -> list[Digest]:
    return [family.version.manifest for family in families(line, edges, {one.manifest for one in line})]


def test_every_artifact_comes_once_whatever_the_edges_say() -> None:
    line = numbered(60)
    chance = np.random.default_rng(5)
    for count in range(0, 90, 3):
        edges = [made_from(line[a], line[b]) for a, b in chance.integers(0, 60, (count, 2))]
        assert sorted(ordered(line, edges), key=str) == sorted((one.manifest for one in line), key=str)


def test_an_artifact_comes_after_what_it_was_made_from() -> None:
    line = numbered(60)
    pairs = np.sort(np.random.default_rng(6).integers(0, 60, (50, 2)), axis=1)
    edges = [made_from(line[b], line[a]) for a, b in pairs if a != b]
    place = {manifest: at for at, manifest in enumerate(ordered(line, edges))}
    assert all(place[edge.manifest] < place[edge.subject] for edge in edges if edge.manifest)


def test_a_long_line_of_tunes_is_put_in_order_without_recursion() -> None:
    moments = [NOW + timedelta(seconds=number) for number in range(5000)]
    line = [Version(f"m{at}", 1, Digest.of(str(at).encode()), moment, "a", 1, 1) for at, moment in enumerate(moments)]
    edges = [made_from(one, after) for one, after in pairwise(line)]
    assert ordered(line, edges) == [one.manifest for one in reversed(line)]


def test_the_estimate_is_an_upper_bound_close_to_what_single_models_take(registry: Registry, add) -> None:
    add("a", weights(1, words=600_000))
    plan = planned(registry)
    guess = estimate(registry, plan)
    assert 0.7 * plan.bytes < guess < 0.95 * plan.bytes
    done = packing.pack(registry, plan)
    assert abs(done.stored - guess) < 0.05 * plan.bytes


def test_raw_copies_can_be_made_again(registry: Registry, add) -> None:
    version = add("a", weights(1))
    blob, before = blob_of(registry, version), bytes_of(registry, version)
    packing.pack(registry, planned(registry))
    assert registry.blobs.local_file(blob) is None
    assert packing.unpack(registry, version) == (1, len(before))
    file = registry.blobs.local_file(blob)
    assert file is not None
    assert file.read_bytes() == before
    assert packing.unpack(registry, version) == (0, 0)
    done = packing.pack(registry, planned(registry, effort=Effort.SMALLEST))
    assert (done.blobs, done.stored, registry.blobs.local_file(blob)) == (1, 0, None)


def test_a_store_that_cannot_pack_says_so(registry: Registry) -> None:
    with pytest.raises(InvalidInput) as caught:
        packing_plan.packing_of(replace(registry, blobs=MemoryStore()))
    assert caught.value.code == "cannot-pack"
