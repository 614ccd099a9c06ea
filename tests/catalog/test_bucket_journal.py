"""A journal in a bucket: numbered objects, larger ones, two machines, and whatever stops in between."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule
from objects_in_memory import MemoryObjects

from assay.catalog import bucket_journal
from assay.catalog.bucket_journal import TIERS, BucketJournal, key_of
from assay.catalog.bucket_writer import KEY, BucketWriter, machine_id, new_machine_id
from assay.catalog.journal import START, Mark, encode
from assay.catalog.memory import MemoryCatalog
from assay.catalog.sql import SqlCatalog
from assay.errors import AssayError, Conflict, StorageError
from assay.ports.catalog import Catalog
from assay.ports.objects import Objects
from assay.spec.records import Event, EventKind
from assay.testing.catalog import CatalogContract, everything, push
from assay.testing.catalog_machine import CatalogMachine

_BUCKETS: dict[Path, MemoryObjects] = {}


def bucket_of(folder: Path) -> MemoryObjects:
    return _BUCKETS.setdefault(folder, MemoryObjects())


def journal_in(objects: Objects, folder: Path, permit=lambda: None) -> BucketJournal:
    return BucketJournal(objects, folder / "journal.lock", permit)


def machine(objects: MemoryObjects, folder: Path) -> SqlCatalog:
    """A catalog as one machine has it, with its local folder."""
    folder.mkdir(exist_ok=True)
    writer = BucketWriter(objects, "machine", machine_id(folder))
    return SqlCatalog(folder / "catalog.sqlite3", journal_in(objects, folder, writer.check))


def event(sequence: int, name: str = "m") -> Event:
    data = {"number": sequence, "manifest": "sha256:" + f"{sequence:064x}", "size": 1, "entries": 1}
    return Event(sequence, EventKind.VERSION_ADDED, name, datetime(2026, 1, 1, tzinfo=UTC), "ada", data)


def filled(objects: MemoryObjects, folder: Path, count: int) -> tuple[BucketJournal, Mark]:
    journal, mark = journal_in(objects, folder), START
    for sequence in range(1, count + 1):
        mark = journal.append(mark, [event(sequence)])
    return journal, mark


def sequences(journal: BucketJournal, after: Mark = START) -> list[int]:
    return [found.sequence for found, _ in journal.read(after)]


def names(objects: MemoryObjects) -> list[str]:
    return sorted(key for key in objects.kept if key.startswith("journal/"))


class TestSqlCatalogInABucket(CatalogContract):
    def open_catalog(self, folder: Path) -> Catalog:
        return SqlCatalog(folder / "catalog.sqlite3", journal_in(bucket_of(folder), folder))


class TestMemoryCatalogInABucket(CatalogContract):
    def open_catalog(self, folder: Path) -> Catalog:
        return MemoryCatalog(journal_in(bucket_of(folder), folder))


class BucketMachine(CatalogMachine):
    """Also loses rows, merges objects at any time, leaves what a merge that was killed leaves, and reads elsewhere."""

    def open_catalog(self, folder: Path) -> Catalog:
        return machine(bucket_of(folder), folder)

    def _close(self) -> None:
        assert isinstance(self.catalog, SqlCatalog)
        self.catalog.close()

    @rule()
    def lose_the_rows(self) -> None:
        self._close()
        (self.folder / "catalog.sqlite3").unlink()
        self.catalog = self.open_catalog(self.folder)

    @rule()
    def keep_a_copy_of_the_rows(self) -> None:
        self._close()
        shutil.copy(self.folder / "catalog.sqlite3", self.folder / "older")

    @rule()
    def go_back_to_the_copy(self) -> None:
        self._close()
        if (self.folder / "older").exists():
            shutil.copy(self.folder / "older", self.folder / "catalog.sqlite3")
        self.catalog = self.open_catalog(self.folder)

    @rule()
    def merge(self) -> None:
        journal_in(bucket_of(self.folder), self.folder).compact()

    @rule(chosen=st.data())
    def leave_parts_of_a_larger_object(self, chosen: st.DataObject) -> None:
        kept = bucket_of(self.folder).kept
        larger = [key for key in names(bucket_of(self.folder)) if key[8:24] != key[25:41]]
        for key in larger:
            for line, number in zip(kept[key].splitlines(keepends=True), range(int(key[25:41]), 10**6), strict=False):
                if chosen.draw(st.booleans()):
                    kept[key_of(number, number)] = line

    @rule()
    def another_machine_reads_the_same(self) -> None:
        other = self.folder / "other"
        assert everything(machine(bucket_of(self.folder), other)) == everything(self.catalog)


@pytest.fixture(autouse=True)
def small_runs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "Machine" in request.node.nodeid:
        monkeypatch.setattr(bucket_journal, "TIERS", (4, 12))


TestBucketMachine = BucketMachine.TestCase
TestBucketMachine.settings = settings(
    deadline=None, stateful_step_count=30, max_examples=15, suppress_health_check=[HealthCheck.too_slow]
)


def test_every_event_is_an_object_and_runs_become_larger_ones(tmp_path: Path) -> None:
    objects = MemoryObjects()
    journal, mark = filled(objects, tmp_path, TIERS[0] * 2 + 3)
    first, second = key_of(1, 64), key_of(65, 128)
    assert names(objects) == [first, second, *(key_of(number, number) for number in (129, 130, 131))]
    assert sequences(journal) == list(range(1, 132))
    assert b"".join(objects.kept[name] for name in names(objects)) == b"".join(
        encode(event(number)) for number in range(1, 132)
    )
    assert (mark.sequence, journal.end(mark)) == (131, mark.offset)


def test_sixty_four_runs_become_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket_journal, "TIERS", (4, 16))
    objects = MemoryObjects()
    journal, _ = filled(objects, tmp_path, 37)
    assert names(objects) == [key_of(1, 16), key_of(17, 32), key_of(33, 36), key_of(37, 37)]
    assert sequences(journal) == list(range(1, 38))


def test_nothing_new_is_one_listing_of_what_is_known(tmp_path: Path) -> None:
    objects = MemoryObjects()
    catalog = machine(objects, tmp_path / "a")
    for seed in range(130):
        push(catalog, "m", seed)
    objects.requests.clear()
    machine(objects, tmp_path / "a")
    assert objects.requests == [f"LIST journal/ journal/{129:016d}-~"]


@pytest.mark.parametrize("known", [0, 1, 63, 64, 65, 100, 127, 128, 129, 130])
def test_who_knows_some_events_reads_the_others(tmp_path: Path, known: int) -> None:
    objects = MemoryObjects()
    journal, mark = filled(objects, tmp_path, known)
    for sequence in range(known + 1, 131):
        journal.append(Mark(0, sequence - 1), [event(sequence)])
    assert sequences(journal, mark) == list(range(known + 1, 131))
    assert (journal.end(mark) == mark.offset) is (known == 130)


def test_a_second_machine_reads_and_does_not_write(tmp_path: Path) -> None:
    objects = MemoryObjects()
    first, second = machine(objects, tmp_path / "a"), machine(objects, tmp_path / "b")
    push(first, "m", 1)
    second.catch_up()
    assert everything(second) == everything(first)
    before = dict(objects.kept)
    with pytest.raises(Conflict) as caught:
        push(second, "m", 2)
    assert caught.value.code == "bucket-has-writer"
    assert "reindex --take-over" in (caught.value.hint or "")
    assert objects.kept == before
    assert push(first, "m", 3).number == 2


def test_of_two_machines_that_come_first_one_becomes_the_writer(tmp_path: Path) -> None:
    objects = MemoryObjects()
    first, second = machine(objects, tmp_path / "a"), machine(objects, tmp_path / "b")
    push(second, "m", 1)
    with pytest.raises(Conflict):
        push(first, "m", 2)
    assert machine_id(tmp_path / "b").encode() in objects.kept[KEY]


def test_who_took_over_writes_and_the_former_writer_does_not(tmp_path: Path) -> None:
    objects = MemoryObjects()
    first = machine(objects, tmp_path / "a")
    push(first, "m", 1)
    new_machine_id(tmp_path / "a")  # the id of before is worth nothing any more
    with pytest.raises(Conflict):
        push(machine(objects, tmp_path / "a"), "m", 2)
    BucketWriter(objects, "machine", machine_id(tmp_path / "a")).take_over()
    assert push(machine(objects, tmp_path / "a"), "m", 2).number == 2
    with pytest.raises(Conflict):
        push(first, "m", 3)


def test_a_writer_that_slept_through_a_take_over_and_a_merge_replaces_nothing(tmp_path: Path) -> None:
    objects = MemoryObjects()
    slow, mark = filled(objects, tmp_path, 10)
    quick, there = journal_in(objects, tmp_path / "b"), mark
    for sequence in range(11, 71):
        there = quick.append(there, [event(sequence, "other")])
    assert key_of(11, 11) not in objects.kept
    before = dict(objects.kept)
    with pytest.raises(Conflict) as caught:
        slow.append(mark, [event(11)])
    assert caught.value.code == "journal-moved"
    assert objects.kept == before
    assert sequences(quick) == list(range(1, 71))


def test_an_answer_that_never_comes_may_have_been_a_yes_and_is_told_so(tmp_path: Path) -> None:
    objects = MemoryObjects()
    catalog = machine(objects, tmp_path / "a")
    push(catalog, "m", 1)

    def unanswered(key: str, data: bytes) -> bool:
        objects.put(key, data)
        raise StorageError("no answer", code="bucket-unreachable", hint="look at the network")

    objects.put_if_absent = unanswered
    with pytest.raises(StorageError) as caught:
        push(catalog, "m", 2)
    assert "assay history" in (caught.value.hint or "")
    del objects.put_if_absent
    assert push(catalog, "m", 3).number == 3
    assert [version.number for version in machine(objects, tmp_path / "b").versions("m")] == [3, 2, 1]


@pytest.mark.parametrize("other_writes", [False, True])
def test_a_change_under_way_while_another_machine_takes_over_is_kept_or_refused(
    tmp_path: Path, other_writes: bool
) -> None:
    objects = MemoryObjects()
    first, second = machine(objects, tmp_path / "a"), machine(objects, tmp_path / "b")
    push(first, "m", 1)
    create = objects.put_if_absent

    def late(key: str, data: bytes) -> bool:
        objects.put_if_absent = create
        BucketWriter(objects, "machine", machine_id(tmp_path / "b")).take_over()
        if other_writes:
            assert push(second, "m", "theirs").number == 2
        return create(key, data)

    objects.put_if_absent = late
    if other_writes:
        with pytest.raises(Conflict) as caught:
            push(first, "m", "ours")
        assert caught.value.code == "journal-moved"
    else:
        assert push(first, "m", "ours").number == 2
    with pytest.raises(Conflict):
        push(first, "m", "later")
    assert push(second, "m", "later").number == 3
    assert everything(machine(objects, tmp_path / "a")) == everything(second)


def test_an_event_that_was_written_and_not_answered_counts(tmp_path: Path) -> None:
    objects = MemoryObjects()
    journal, mark = filled(objects, tmp_path, 3)
    objects.kept[key_of(4, 4)] = encode(event(4))
    assert journal.append(mark, [event(4)]).sequence == 4
    objects.kept[key_of(5, 5)] = encode(event(5, "other"))
    with pytest.raises(Conflict):
        journal.append(journal.append(mark, [event(4)]), [event(5)])


def test_an_event_that_is_part_of_a_larger_object_by_now_counts(tmp_path: Path) -> None:
    objects = MemoryObjects()
    journal, mark = filled(objects, tmp_path, 63)
    lines = b"".join(encode(event(number)) for number in range(1, 65))
    objects.kept[key_of(1, 64)] = lines  # a process of the same identity merged between writing and looking
    assert journal.append(mark, [event(64)]).sequence == 64
    assert sequences(journal) == list(range(1, 65))


@pytest.mark.parametrize("step", range(66))
def test_a_merge_that_is_stopped_anywhere_leaves_every_event(tmp_path: Path, step: int) -> None:
    objects = MemoryObjects()
    journal, _ = filled(objects, tmp_path, 63)
    objects.kept[key_of(64, 64)] = encode(event(64))

    class Stopped(Exception):
        pass

    done = 0

    def counting(call):
        def counted(*args):
            nonlocal done
            if done == step:
                raise Stopped
            done += 1
            return call(*args)

        return counted

    objects.put_if_absent, objects.delete = counting(objects.put_if_absent), counting(objects.delete)
    try:
        journal.compact()
    except Stopped:
        assert sequences(journal) == list(range(1, 65))
    again = MemoryObjects()
    again.kept = objects.kept
    journal_in(again, tmp_path).compact()
    assert names(again) == [key_of(1, 64)]
    assert sequences(journal_in(again, tmp_path)) == list(range(1, 65))


def test_a_reader_goes_on_when_objects_are_merged_under_its_hands(tmp_path: Path) -> None:
    objects = MemoryObjects()
    journal, _ = filled(objects, tmp_path, 63)
    reading = journal.read(START)
    found = [next(reading)[0].sequence for _ in range(20)]
    journal.append(Mark(0, 63), [event(64)])
    assert len(names(objects)) == 1
    assert found + [one.sequence for one, _ in reading] == list(range(1, 65))


@pytest.mark.parametrize(
    "damage",
    [
        lambda kept: kept.pop(key_of(2, 2)),
        lambda kept: kept.__setitem__(key_of(2, 2), kept[key_of(2, 2)][:-1]),
        lambda kept: kept.__setitem__(key_of(2, 2), kept[key_of(3, 3)]),
        lambda kept: kept.__setitem__(key_of(2, 2), b"no event\n"),
        lambda kept: kept.__setitem__(key_of(2, 2), b""),
    ],
)
def test_a_journal_with_a_gap_or_rubbish_is_damaged(tmp_path: Path, damage) -> None:
    objects = MemoryObjects()
    journal, _ = filled(objects, tmp_path, 3)
    damage(objects.kept)
    with pytest.raises(StorageError) as caught:
        sequences(journal)
    assert caught.value.code == "journal-damaged"


def test_a_shorter_or_another_journal_than_the_rows_know_is_damaged(tmp_path: Path) -> None:
    objects = MemoryObjects()
    journal, mark = filled(objects, tmp_path, 3)
    kept = dict(objects.kept)
    del objects.kept[key_of(3, 3)]
    with pytest.raises(StorageError) as caught:
        journal.end(mark)
    assert "assay reindex" in (caught.value.hint or "")
    objects.kept.update(kept)
    objects.kept[key_of(3, 3)] = encode(event(3, "another"))
    with pytest.raises(StorageError):
        journal.end(mark)
    objects.kept[key_of(3, 3)] = encode(event(3, "n"))
    objects.kept[key_of(4, 4)] = encode(event(4))
    with pytest.raises(StorageError):
        sequences(journal, mark)


def test_what_else_lies_in_the_folder_is_no_event(tmp_path: Path) -> None:
    objects = MemoryObjects()
    journal, mark = filled(objects, tmp_path, 3)
    for stranger in ("journal/notes.txt", f"journal/{2:016d}-{3:016d}.jsonl", f"journal/{0:016d}-{0:016d}.jsonl"):
        objects.kept[stranger] = b"?"
    assert sequences(journal) == [1, 2, 3]
    assert journal.end(mark) == mark.offset


def test_rows_without_a_writer_are_made_and_read_by_everybody(tmp_path: Path) -> None:
    objects = MemoryObjects()
    first = machine(objects, tmp_path / "a")
    for seed in range(5):
        push(first, "m", seed)
    objects.kept.pop(KEY)
    other = machine(objects, tmp_path / "b")
    assert everything(other) == everything(first)
    assert KEY not in objects.kept


def test_exported_events_may_be_exported_again_and_no_others(tmp_path: Path) -> None:
    objects = MemoryObjects()
    journal = journal_in(objects, tmp_path)
    events = [event(number) for number in range(1, 71)]
    journal.export(events[:40])
    journal.export(events[:40])
    journal.export(events[30:])
    assert sequences(journal) == list(range(1, 71))
    with pytest.raises(Conflict):
        journal.export([event(number, "other") for number in range(1, 41)])
    journal.compact()
    assert sequences(journal) == list(range(1, 71))
    assert key_of(1, 64) in objects.kept


def test_an_identity_is_drawn_once_per_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    drawn = machine_id(tmp_path / "a")
    assert len(drawn) == 32
    assert machine_id(tmp_path / "a") == drawn
    assert new_machine_id(tmp_path / "a", replace=False) == drawn
    assert machine_id(tmp_path / "b") != drawn
    assert new_machine_id(tmp_path / "a") == machine_id(tmp_path / "a") != drawn
    assert [found.name for found in (tmp_path / "a").iterdir()] == ["writer-id"]


def test_a_writer_object_that_says_nothing_is_told_and_can_be_taken_over(tmp_path: Path) -> None:
    objects = MemoryObjects()
    objects.kept[KEY] = b"{}"
    writer = BucketWriter(objects, "machine", "id")
    with pytest.raises(AssayError) as caught:
        writer.check()
    assert caught.value.code == "bucket-damaged"
    writer.take_over()
    writer.check()
