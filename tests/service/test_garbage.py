"""What nothing needs goes, with its reason; what is needed, young or in somebody's hands stays."""

from __future__ import annotations

import errno
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from store_faults import damage

from assay.catalog.journal import FileJournal
from assay.catalog.memory import MemoryCatalog
from assay.errors import Conflict, InvalidInput, NotFound, StorageError
from assay.ports.progress import SILENT
from assay.service import garbage, purge, removing, verify
from assay.service.derived import Folders
from assay.service.garbage import Why
from assay.service.publish import Claims
from assay.service.reachability import Reachability
from assay.service.registry import Registry
from assay.service.snapshots import snapshot
from assay.spec.digest import Digest
from assay.spec.records import EventKind
from assay.spec.reference import Reference
from assay.spec.statement import Statement
from assay.testing.blobs import Counter

NOW = timedelta()
LATER = timedelta(days=2)


@pytest.fixture
def two(push, registry: Registry, model: Path):
    """Two versions that share all files but one."""
    first = push(model, claims=Claims(note="first")).version
    (model / "settings.json").write_text("{}")
    return first, push(model, claims=Claims(note="second")).version


def collect(registry: Registry, **options) -> garbage.Collected:
    return garbage.collect(registry, garbage.plan(registry, **options))


def test_what_versions_and_statements_need_is_never_garbage(two, registry: Registry) -> None:
    planned = garbage.plan(registry, grace=NOW)

    assert (planned.doomed, planned.kept, planned.freed) == ((), (), 0)
    assert planned.needed == len(list(registry.blobs.digests()))
    assert planned.needed_bytes == sum(found.size for found in registry.blobs.inventory())


def test_a_removed_version_gives_back_what_nothing_else_needs_and_says_why(two, registry: Registry) -> None:
    first, second = two
    alone = set(registry.blobs.digests())
    removing.remove(registry, first, reason="bad data")

    planned = garbage.plan(registry, grace=NOW)

    assert {one.why for one in planned.doomed} == {Why.REMOVED, Why.STATEMENT}
    assert {(one.of, one.reason) for one in planned.doomed} == {("team/model:1", "bad data")}
    assert first.manifest in {one.digest for one in planned.doomed}
    done = garbage.collect(registry, planned)
    assert (done.freed, done.removed, done.spared) == (planned.freed, len(planned.doomed), 0)
    assert set(registry.blobs.digests()) == alone - {one.digest for one in planned.doomed}
    assert verify.verify(registry, second).ok
    assert len(registry.statements(second.manifest)) == 3
    assert registry.catalog.referrers(first.manifest) == []


def test_a_plan_changes_nothing(two, registry: Registry) -> None:
    removing.remove(registry, two[0], reason="old")
    before, events = set(registry.blobs.digests()), registry.catalog.events()

    garbage.plan(registry, grace=NOW)

    assert set(registry.blobs.digests()) == before
    assert registry.catalog.events() == events


def test_what_would_be_removed_counts_as_removed_in_a_plan(two, registry: Registry) -> None:
    planned = garbage.plan(registry, grace=NOW, without={"team/model:1": "retention: too old"})
    removing.remove(registry, two[0], reason="retention: too old")

    really = garbage.plan(registry, grace=NOW)

    assert {(one.digest, one.why, one.reason) for one in planned.doomed} == {
        (one.digest, one.why, one.reason) for one in really.doomed
    }


def test_the_grace_period_keeps_what_was_added_within_it_and_says_until_when(two, registry: Registry) -> None:
    removing.remove(registry, two[0], reason="old")

    planned = garbage.plan(registry, grace=timedelta(hours=24))

    assert planned.doomed == ()
    assert all(one.until is not None and one.until >= one.added + timedelta(hours=24) for one in planned.kept)
    assert collect(registry).removed == 0
    later = datetime.now(UTC) + LATER
    assert {one.digest for one in garbage.plan(registry, now=later).doomed} == {one.digest for one in planned.kept}
    assert collect(registry, now=later).removed == len(planned.kept)


def test_what_a_young_manifest_names_stays_with_it(two, registry: Registry) -> None:
    first, _ = two
    own = [found.digest for found in registry.blobs.inventory()]
    removing.remove(registry, first, reason="old")
    doomed = {one.digest for one in garbage.plan(registry, grace=NOW).doomed}
    for digest in set(own) & doomed - {first.manifest}:
        file = registry.blobs.local_file(digest)
        assert file is not None
        os.utime(file, (1, 1))

    planned = garbage.plan(registry)

    kept = {one.digest for one in planned.kept}
    manifest = registry.manifest(registry.catalog.versions("team/model")[0])
    assert first.manifest in kept
    assert Digest.of(b'{"threshold": 0.5}') in kept
    assert manifest.digest not in kept
    assert doomed - kept == {one.digest for one in planned.doomed}


def test_names_in_quarantine_are_names(push, registry: Registry, model: Path) -> None:
    version = push(model, "quarantine/team/model").version

    assert garbage.plan(registry, grace=NOW).doomed == ()
    assert verify.verify(registry, version).ok


def test_a_version_under_two_names_lives_until_the_last_is_given_up(push, registry: Registry, model: Path) -> None:
    first, second = push(model, "a").version, push(model, "b").version
    removing.remove(registry, first, reason="old")
    assert collect(registry, grace=NOW).removed == 0
    assert verify.verify(registry, second).ok

    removing.remove(registry, second, reason="old")

    assert collect(registry, grace=NOW).removed > 0
    assert list(registry.blobs.digests()) == []


def test_who_may_only_read_a_home_sees_what_would_go_and_is_told_when_it_cannot(
    two, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.blobs.add(b"never named")
    planned = garbage.plan(registry, grace=NOW)

    def refuse(path: Path, **_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(StorageError) as caught:
        garbage.collect(registry, planned)
    assert caught.value.code == "store-read-only"


def test_what_was_never_named_is_left_by_an_interrupted_push(registry: Registry) -> None:
    digest = registry.blobs.add(b"stored, then the power went")

    (one,) = garbage.plan(registry, grace=NOW).doomed

    assert (one.digest, one.why, one.of, one.size) == (digest, Why.UNNAMED, None, 27)


def test_a_statement_about_what_no_version_is_goes_and_can_be_said_again(push, registry: Registry, model: Path) -> None:
    version = push(model).version
    stranger = Digest.of(b"nobody has it")
    said = Statement(stranger, "note", {"text": "of a stranger"}, datetime.now(UTC))
    registry.attach(said, registry.manifest(version))

    planned = garbage.plan(registry, grace=NOW)

    assert {(one.why, one.of) for one in planned.doomed} == {(Why.STATEMENT, None)}
    assert len(planned.doomed) == 2
    garbage.collect(registry, planned)
    assert registry.statements(stranger) == []
    assert registry.attach(said, registry.manifest(version))
    assert [found.predicate for found in registry.statements(stranger)] == [{"text": "of a stranger"}]


def test_an_artifact_pushed_again_after_a_collection_is_whole_with_its_statements(
    push, registry: Registry, model: Path
) -> None:
    first = push(model, claims=Claims(note="good")).version
    removing.remove(registry, first, reason="old")
    collect(registry, grace=NOW)
    assert list(registry.blobs.digests()) == []

    again = push(model, claims=Claims(note="good")).version

    assert (again.number, again.manifest) == (2, first.manifest)
    assert verify.verify(registry, again).ok
    assert sorted(found.kind for found in registry.statements(again.manifest)) == ["audit", "description", "note"]
    assert garbage.plan(registry, grace=NOW).unreadable == ()


class During(Counter):
    """Progress that does something when the files are stored and nothing names them yet."""

    def __init__(self, does) -> None:
        super().__init__()
        self.does = does

    def finish(self) -> None:
        self.does()


def test_a_push_under_way_keeps_what_it_found_there_already_even_without_grace(
    push, registry: Registry, model: Path
) -> None:
    (model / "large.bin").write_bytes(bytes(range(256)) * (9 << 12))  # large enough to be recognised, not copied
    removing.remove(registry, push(model, claims=Claims(note="good")).version, reason="old")
    collected = []

    version = push(
        model, claims=Claims(note="good"), progress=During(lambda: collected.append(collect(registry, grace=NOW)))
    ).version

    assert verify.verify(registry, version).ok
    assert len(registry.statements(version.manifest, "note")) == 1
    assert collected[0].removed > 0  # what the first push alone had


def test_what_is_named_between_plan_and_sweep_is_spared(push, registry: Registry, model: Path) -> None:
    version = push(model).version
    removing.remove(registry, version, reason="old")
    planned = garbage.plan(registry, grace=NOW)
    # Named again without adding a byte, as by a writer that knows nothing of holds.
    again, _ = registry.catalog.add_version("other", version.manifest, size=1, entries=1, actor="ada")

    done = garbage.collect(registry, planned)

    assert (done.removed, done.spared) == (0, len(planned.doomed))
    assert verify.verify(registry, again).ok


def test_what_is_named_while_a_sweep_goes_on_is_spared(
    push, registry: Registry, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = push(model).version
    removing.remove(registry, version, reason="old")
    planned = garbage.plan(registry, grace=NOW)
    update = Reachability.update

    def name_it_first(reach: Reachability) -> None:
        registry.catalog.add_version("other", version.manifest, size=1, entries=1, actor="ada")
        update(reach)

    monkeypatch.setattr(Reachability, "update", name_it_first)

    assert garbage.collect(registry, planned).removed == 0
    (again,) = registry.catalog.versions("other")
    assert verify.verify(registry, again).ok


def test_names_that_come_while_the_latest_ones_are_read_hide_none(
    push, registry: Registry, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = push(model).version
    removing.remove(registry, version, reason="old")
    planned = garbage.plan(registry, grace=NOW)
    update, events = Reachability.update, registry.catalog.events

    def named_and_more_to_come(reach: Reachability) -> None:
        registry.catalog.add_version("other", version.manifest, size=1, entries=1, actor="ada")
        monkeypatch.setattr(registry.catalog, "events", late)
        update(reach)

    def late(**options):
        found = events(**options)
        monkeypatch.setattr(registry.catalog, "events", events)
        removing.pin(registry, registry.catalog.versions("other")[0], reason="meanwhile")
        return found

    monkeypatch.setattr(Reachability, "update", named_and_more_to_come)

    assert garbage.collect(registry, planned).removed == 0
    (again,) = registry.catalog.versions("other")
    assert verify.verify(registry, again).ok


def test_what_a_push_named_that_was_killed_before_others_see_it_is_spared(
    push, registry: Registry, model: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = push(model).version
    removing.remove(registry, version, reason="old")
    planned = garbage.plan(registry, grace=NOW)
    update = Reachability.update

    def journalled_first(reach: Reachability) -> None:
        # As by a push that dies between the journal and its rows, and with it the hold on the store.
        monkeypatch.setattr(Reachability, "update", update)
        MemoryCatalog(FileJournal(home / "journal.jsonl")).add_version(
            "other", version.manifest, size=1, entries=1, actor="ada"
        )
        update(reach)

    monkeypatch.setattr(Reachability, "update", journalled_first)

    assert garbage.collect(registry, planned).removed == 0
    (again,) = registry.catalog.versions("other")
    assert verify.verify(registry, again).ok


def test_a_statement_that_may_not_be_read_stops_a_collection(two, registry: Registry, monkeypatch) -> None:
    said = registry.catalog.referrers(two[1].manifest)[0].manifest
    before, opened = set(registry.blobs.digests()), registry.blobs.open

    def refuse(digest: Digest):
        if digest == said:
            raise StorageError(f"cannot open blob {digest}: Permission denied")
        return opened(digest)

    monkeypatch.setattr(registry.blobs, "open", refuse)
    with pytest.raises(StorageError, match=r"about team/model:2 .* Permission denied; nothing was freed") as caught:
        collect(registry, grace=NOW)

    assert caught.value.code == "reachability-unknown"
    assert set(registry.blobs.digests()) == before


def test_manifests_go_before_what_they_name(two, registry: Registry) -> None:
    removing.remove(registry, two[0], reason="old")
    planned = garbage.plan(registry, grace=NOW)
    order = [one.digest for one in planned.doomed]

    for manifest, closure in planned.closures.items():
        behind = [order.index(digest) for digest in closure if digest in order and digest not in planned.closures]
        assert all(order.index(manifest) < place for place in behind)


def test_a_version_whose_manifest_is_lost_stops_a_collection_until_it_is_repaired_or_given_up(
    two, push, registry: Registry, model: Path
) -> None:
    first, second = two
    registry.blobs.add(b"garbage")
    damage(registry, registry.manifest(second).data)
    before = set(registry.blobs.digests())

    with pytest.raises(StorageError, match=r"cannot tell which blobs team/model:2 needs") as caught:
        garbage.plan(registry, grace=NOW)

    assert caught.value.code == "reachability-unknown"
    assert set(registry.blobs.digests()) == before
    push(model)
    assert len(garbage.plan(registry, grace=NOW).doomed) == 1
    damage(registry, registry.manifest(second).data)
    removing.remove(registry, second, reason="beyond repair")
    collect(registry, grace=NOW)
    assert verify.verify(registry, first).ok


def test_a_statement_that_cannot_be_followed_is_told(two, registry: Registry) -> None:
    lost = registry.catalog.referrers(two[1].manifest)[0]
    registry.blobs.delete(lost.manifest)

    planned = garbage.plan(registry, grace=NOW)

    assert planned.unreadable == (f"{lost.artifact_type} about team/model:2",)


def test_what_a_purge_took_is_no_fault(two, push, registry: Registry, model: Path) -> None:
    purge.purge(registry, two[1], reason="leaked")
    again = push(model).version

    planned = garbage.plan(registry, grace=NOW)

    assert planned.unreadable == ()
    assert verify.verify(registry, again).ok
    garbage.collect(registry, planned)
    assert verify.verify(registry, again).ok
    assert verify.verify(registry, two[0]).ok


def test_what_an_interrupted_purge_left_goes_with_its_reason(two, registry: Registry) -> None:
    registry.catalog.mark_purged(two[0].manifest, reason="leaked", actor="ada")

    planned = garbage.plan(registry, grace=NOW)

    assert {one.reason for one in planned.doomed} == {"leaked"}
    assert Why.PURGED in {one.why for one in planned.doomed}


def test_snapshots_of_what_is_gone_go_and_their_bytes_come_back(two, registry: Registry, home: Path) -> None:
    first, second = two
    folders = Folders(home / "snapshots", (home / "sketches",), (home / "sketches",))
    for version in two:
        with snapshot(registry.blobs, registry.manifest(version), folders.snapshots):
            pass
        sketch = home / f"sketches/1/{version.manifest.hex[:2]}/{version.manifest.hex}.sketch"
        sketch.parent.mkdir(parents=True, exist_ok=True)
        sketch.write_bytes(b"sketch")
    (folders.snapshots / ".making-1").mkdir()
    (folders.snapshots / ".making-1/part").write_bytes(bytes(100))
    (folders.snapshots / "notes").mkdir()
    removing.remove(registry, first, reason="old")

    planned = garbage.plan(registry, folders=folders, grace=NOW)

    assert sum(item.size for item in planned.derived) == 106
    assert garbage.collect(registry, planned).freed == planned.freed
    assert {path.name for path in folders.snapshots.iterdir()} == {second.manifest.hex, "notes"}
    assert [path.stem for path in (home / "sketches").rglob("*.sketch")] == [second.manifest.hex]
    linked = folders.snapshots / second.manifest.hex / "model.safetensors"
    assert linked.stat().st_nlink == 2


def test_a_young_half_made_snapshot_may_still_be_under_way(registry: Registry, home: Path) -> None:
    folders = Folders(home / "snapshots")
    (folders.snapshots / ".making-1").mkdir(parents=True)

    assert garbage.plan(registry, folders=folders).derived == ()
    assert len(garbage.plan(registry, folders=folders, now=datetime.now(UTC) + LATER).derived) == 1


def test_what_killed_writers_left_half_written_is_told_and_goes(registry: Registry, home: Path) -> None:
    (home / "staging").mkdir(exist_ok=True)
    (home / "staging/abc").write_bytes(bytes(50))

    planned = garbage.plan(registry)

    assert [(left.name, left.size) for left in planned.leftovers] == [("staging/abc", 50)]
    assert (home / "staging/abc").exists()
    assert garbage.collect(registry, planned).freed == 50
    assert not (home / "staging/abc").exists()


def test_removing_needs_a_reason_and_a_version_and_nothing_that_holds_it(two, registry: Registry) -> None:
    first, second = two
    registry.catalog.move_alias("team/model", "champion", 1, expect=None, actor="ada")
    removing.pin(registry, second, reason="audit of 2027")

    with pytest.raises(InvalidInput) as caught:
        removing.remove(registry, first, reason="  ")
    assert caught.value.code == "reason-missing"
    for version, code in ((first, "alias-holds"), (second, "version-pinned")):
        with pytest.raises(Conflict) as refused:
            removing.remove(registry, version, reason="old")
        assert refused.value.code == code
    with pytest.raises(InvalidInput) as unnamed:
        removing.resolve_one(registry, Reference.parse("team/model"))
    assert unnamed.value.code == "version-not-named"
    assert removing.unpin(registry, second).pinned is None
    removing.remove(registry, second, reason="old")
    with pytest.raises(NotFound):
        removing.resolve_one(registry, Reference.parse("team/model:2"))
    assert [event.kind for event in registry.catalog.events(limit=3)] == [
        EventKind.REMOVED,
        EventKind.UNPINNED,
        EventKind.PINNED,
    ]


def test_progress_hears_of_every_byte_that_goes(two, registry: Registry) -> None:
    removing.remove(registry, two[0], reason="old")
    planned, heard = garbage.plan(registry, grace=NOW), Counter()

    garbage.collect(registry, planned, progress=heard)

    assert heard.count == planned.freed > 0
    assert SILENT is not heard
