"""Copies between homes carry digest, files, statements and numbers, and move an alias through the gates there."""

from __future__ import annotations

from pathlib import Path

import pytest
from store_faults import contents, damage

from assay.errors import IntegrityError, InvalidInput
from assay.ports.progress import SILENT
from assay.service import evaluations, fetch, garbage, purge, removing, transfer, verify
from assay.service.publish import Claims
from assay.service.registry import Registry
from assay.settings import Settings
from assay.spec.records import EventKind
from assay.spec.reference import Reference
from assay.wiring import homes
from assay.wiring.auditing import guard_of
from assay.wiring.places import open_registry


@pytest.fixture
def other(tmp_path: Path) -> Registry:
    return open_registry(Settings(tmp_path / "other", "somebody"), create=True)


@pytest.fixture
def three(push, registry: Registry, model: Path):
    made = []
    for number in (1, 2, 3):
        (model / "settings.json").write_text(f'{{"number": {number}}}')
        (model / "README.md").write_text("# A model\n" + "word " * 1000)
        made.append(push(model, claims=Claims(note=f"number {number}")).version)
    evaluations.give(registry, made[1], {"auc": 0.9}, dataset="holdout")
    return made


def copy_all(registry: Registry, other: Registry, name: str = "team/model") -> list[transfer.Brought]:
    versions = homes.chosen(registry, registry.resolve(Reference.parse("team/model")), every=True)
    return homes.copy_home(registry, versions, other, name)


def test_every_version_arrives_with_number_digest_files_and_statements(
    three, registry: Registry, other: Registry, model: Path, tmp_path: Path
) -> None:
    brought = copy_all(registry, other)

    assert [(one.version.reference, one.new) for one in brought] == [(f"team/model:{n}", True) for n in (1, 2, 3)]
    for version in three:
        copied = other.catalog.version("team/model", version.number)
        assert copied is not None
        assert (copied.manifest, copied.size, copied.entries) == (version.manifest, version.size, version.entries)
        assert other.manifest(copied).data == registry.manifest(version).data
        assert [(said.kind, said.predicate) for said in other.statements(version.manifest)] == [
            (said.kind, said.predicate) for said in registry.statements(version.manifest)
        ]
        assert [found.manifest for found in other.referrers(version.manifest)] == [
            found.manifest for found in registry.referrers(version.manifest)
        ]
        assert verify.verify(other, copied).ok
    fetch.pull(other, other.resolve(Reference.parse("team/model:3")), tmp_path / "out")
    assert contents(tmp_path / "out") == contents(model)


def test_copying_again_moves_and_records_nothing_and_what_was_said_since_goes_along(
    three, registry: Registry, other: Registry
) -> None:
    first = copy_all(registry, other)
    events = (len(registry.catalog.events()), len(other.catalog.events()))

    again = copy_all(registry, other)

    assert sum(one.moved for one in first) > 0
    assert [(one.moved, one.new, one.statements) for one in again] == [(0, False, 0)] * 3
    assert (len(registry.catalog.events()), len(other.catalog.events())) == events
    evaluations.give(registry, three[0], {"auc": 0.7}, dataset="holdout")
    assert [one.statements for one in copy_all(registry, other)] == [1, 0, 0]
    assert len(other.statements(three[0].manifest, "evaluation")) == 1


def test_what_versions_share_is_moved_once(three, registry: Registry, other: Registry) -> None:
    first, second, _ = copy_all(registry, other)

    assert 0 < second.moved < first.moved
    assert second.skipped > 0


def test_a_copy_that_was_interrupted_goes_on(
    three, registry: Registry, other: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = type(other.catalog).add_version
    monkeypatch.setattr(type(other.catalog), "add_version", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        copy_all(registry, other)
    assert other.catalog.models() == []
    monkeypatch.setattr(type(other.catalog), "add_version", add)

    brought = copy_all(registry, other)

    assert brought[0].moved == 0
    assert [one.version.number for one in brought] == [1, 2, 3]


def test_damaged_bytes_number_nothing_there(three, registry: Registry, other: Registry, model: Path) -> None:
    damage(registry, (model / "model.safetensors").read_bytes())

    with pytest.raises(IntegrityError, match=r"assay verify|does not match"):
        transfer.bring(registry, three[2], other, "team/model")

    assert other.catalog.models() == []


def test_the_history_of_both_homes_says_it_and_each_knows_of_the_other_copy(
    three, registry: Registry, other: Registry
) -> None:
    transfer.bring(registry, three[1], other, "copies/model")

    here = registry.catalog.events(name="team/model", limit=1)[0]
    there = other.catalog.events(name="copies/model", limit=1)[0]
    assert (here.kind, here.data["place"]) == (EventKind.COPIED, f"home:{other.place} copies/model:1")
    assert (there.kind, there.data["place"]) == (EventKind.COPIED, f"home:{registry.place} team/model:2")
    assert there.actor == "somebody"
    damage(other, other.manifest(other.resolve(Reference.parse("copies/model:1"))).data)
    found = verify.verify(other, other.resolve(Reference.parse("copies/model:1")))
    assert found.copies == (f"home:{registry.place} team/model:2",)


def test_versions_that_are_gone_keep_their_numbers_where_these_are_free(
    three, push, registry: Registry, other: Registry, model: Path
) -> None:
    removing.remove(registry, three[0], reason="bad data")
    purge.purge(registry, three[1], reason="leaked")
    (model / "settings.json").write_text('{"number": 1}')
    assert push(model).version.number == 4  # what was removed, pushed again

    brought = copy_all(registry, other)

    assert [one.version.number for one in brought] == [3, 4]
    versions = other.catalog.versions("team/model")
    assert [version.gone for version in versions] == [False, False, True, True]
    assert versions[3].removed == f"given up at home:{registry.place}: bad data"
    assert versions[2].removed == f"given up at home:{registry.place}: leaked"
    assert garbage.plan(other).unreadable == ()
    events = len(other.catalog.events())
    copy_all(registry, other)
    assert len(other.catalog.events()) == events


def test_a_number_that_is_taken_there_becomes_another_one(
    three, push, registry: Registry, other: Registry, model: Path
) -> None:
    transfer.bring(registry, three[2], other, "team/model")

    brought = copy_all(registry, other)

    assert [(one.source.number, one.version.number) for one in brought] == [(1, 2), (2, 3), (3, 1)]
    removing.remove(registry, three[0], reason="old")
    copy_all(registry, other)
    assert [version.gone for version in other.catalog.versions("team/model")] == [False, False, False]


def test_a_yank_goes_along_and_a_pin_does_not(three, registry: Registry, other: Registry) -> None:
    registry.catalog.mark("team/model", 1, EventKind.YANKED, reason="wrong labels", actor="ada")
    registry.catalog.mark("team/model", 2, EventKind.PINNED, reason="audit", actor="ada")

    copy_all(registry, other)

    assert [version.yanked for version in other.catalog.versions("team/model")] == [None, None, "wrong labels"]
    assert [version.pinned for version in other.catalog.versions("team/model")] == [None, None, None]


def test_aliases_stay_behind_unless_asked_for_and_then_pass_the_gates_there(
    three, registry: Registry, other: Registry
) -> None:
    for alias, number in (("champion", 2), ("beta", 3)):
        registry.catalog.move_alias("team/model", alias, number, expect=None, actor="ada")
    brought = copy_all(registry, other)
    assert other.catalog.aliases("team/model") == []
    # Rules of the destination, not of the source.
    (Path(other.place) / "promotion.toml").write_text(
        '[[promotion]]\nalias = "champion"\n[[promotion.metrics]]\nname = "auc"\ndataset = "holdout"\nmin = 0.95\n'
    )
    guard = guard_of(Settings(Path(other.place), "somebody"))

    moved = homes.copy_aliases(registry, brought, other, guard)

    assert {one.alias: one.moved for one in moved} == {"beta": True, "champion": False}
    assert {alias.alias: alias.number for alias in other.catalog.aliases("team/model")} == {"beta": 3}
    refused = next(one for one in moved if one.alias == "champion").refused
    assert refused is not None
    assert "auc" in refused
    event = other.catalog.events(kinds=[EventKind.ALIAS_MOVED])[0]
    assert event.data["reason"] == f"copied from home:{registry.place} team/model:3"
    again = homes.copy_aliases(registry, brought, other, guard)
    assert {one.alias: one.refused is None for one in again} == {"beta": True, "champion": False}


def test_a_home_is_not_copied_into_itself_or_into_a_folder_of_other_things(
    three, registry: Registry, tmp_path: Path
) -> None:
    settings = Settings(Path(registry.place), "tester")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")

    for text, code in (
        (f"home:{registry.place}/../home", "same-home"),
        (f"home:{registry.place}/team", "nested-home"),
        (f"home:{registry.place}/..", "nested-home"),
        ("home:", "invalid-reference"),
        (f"home:{tmp_path}/mine", "not-a-home"),
    ):
        with pytest.raises(InvalidInput) as caught:
            homes.open_other(text, settings, registry)
        assert caught.value.code == code
    there, applies = homes.open_other(f"home:{tmp_path}/new", settings, registry)
    assert (there.place, applies.home, there.actor) == (f"{tmp_path}/new", tmp_path / "new", "tester")


def test_what_is_being_copied_in_is_safe_from_a_collection_there(
    three, registry: Registry, other: Registry, model: Path
) -> None:
    transfer.bring(registry, three[0], other, "old")
    removing.remove(other, other.resolve(Reference.parse("old:1")), reason="old")

    class Collecting(type(SILENT)):
        def advance(self, count: int) -> None:
            from datetime import timedelta

            garbage.collect(other, garbage.plan(other, grace=timedelta()))

    brought = transfer.bring(registry, three[0], other, "new", progress=Collecting())

    assert verify.verify(other, brought.version).ok
    assert len(other.statements(three[0].manifest)) == len(registry.statements(three[0].manifest))
