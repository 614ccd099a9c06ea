"""The journal: lines that survive, lines that were cut off, lines that are wrong."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.catalog.journal import START, FileJournal, decode, encode
from assay.catalog.memory import MemoryCatalog
from assay.catalog.sql import SqlCatalog
from assay.errors import Conflict, InvalidInput, StorageError
from assay.spec.records import Event, EventKind
from assay.testing.catalog import artifact, everything, push

AT = datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)


def event(sequence: int, actor: str = "ada") -> Event:
    return Event(sequence, EventKind.COPIED, "m", AT, actor, {"manifest": str(artifact(1)), "place": "oci:/x"})


def filled(folder: Path, count: int) -> FileJournal:
    journal = FileJournal(folder / "journal.jsonl")
    mark = START
    with journal.lock():
        for sequence in range(1, count + 1):
            mark = journal.append(mark, [event(sequence)])
    return journal


def test_a_line_is_canonical_json() -> None:
    assert encode(event(7)) == (
        b'{"actor":"ada","at":"2026-01-31T12:00:00.123456Z","data":{"manifest":"'
        + str(artifact(1)).encode()
        + b'","place":"oci:/x"},"kind":"copied","name":"m","sequence":7}\n'
    )


@given(
    name=st.text(st.characters(exclude_categories=["Cs"])),
    actor=st.text(st.characters(exclude_categories=["Cs"])),
    at=st.datetimes(timezones=st.just(UTC)),
    data=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.none() | st.integers() | st.booleans()),
)
def test_every_event_survives_its_line(name: str, actor: str, at: datetime, data: dict[str, int]) -> None:
    written = Event(3, EventKind.PURGED, name, at, actor, data)
    line = encode(written)
    assert line.count(b"\n") == 1
    assert decode(line) == written


def test_text_that_is_no_unicode_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    catalog = MemoryCatalog(FileJournal(tmp_path / "journal.jsonl"))
    with pytest.raises(InvalidInput) as caught:
        catalog.record_copy(artifact(1), "/bad\udcff", name="", actor="ada")
    assert caught.value.code == "invalid-event"
    assert list(catalog.events()) == []


@settings(deadline=None, max_examples=60)
@given(cut=st.integers(0, 400))
def test_a_journal_cut_off_anywhere_gives_its_whole_lines_and_goes_on(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    journal = filled(folder, 2)
    data = journal.file.read_bytes()
    journal.file.write_bytes(data[: len(data) - min(cut, len(data))])

    whole = data[: max(0, len(data) - cut)].count(b"\n")
    found = list(journal.read(START))
    assert [behind.sequence for _, behind in found] == list(range(1, whole + 1))
    mark = found[-1][1] if found else START
    journal.append(mark, [event(whole + 1, "bob")])
    assert [read.actor for read, _ in journal.read(START)] == ["ada"] * whole + ["bob"]


@pytest.mark.parametrize("rubbish", [b"\0" * 300, b"{", encode(event(3))[:-1], b"\0\0\n", b"\n"])
def test_rubbish_at_the_end_is_no_event_and_is_removed_by_the_next_writer(tmp_path: Path, rubbish: bytes) -> None:
    journal = filled(tmp_path, 2)
    before = journal.file.read_bytes()
    with journal.file.open("ab") as handle:
        handle.write(rubbish)
    for catalog in (
        MemoryCatalog(FileJournal(journal.file, writable=False)),
        SqlCatalog(tmp_path / "catalog.sqlite3", journal),
    ):
        assert [found.sequence for found in catalog.events()] == [2, 1]
    push(catalog, "m", 1)
    assert journal.file.read_bytes().startswith(before + b'{"actor"')
    assert len(journal.file.read_bytes().splitlines()) == 3


@pytest.mark.parametrize("rubbish", [b"{}\n", b"\n", b"\0\0\n", encode(event(1)), encode(event(3))])
def test_a_damaged_line_before_the_end_is_an_error_and_never_skipped(tmp_path: Path, rubbish: bytes) -> None:
    journal = filled(tmp_path, 2)
    first, second = journal.file.read_bytes().splitlines(keepends=True)
    journal.file.write_bytes(first + rubbish + second)
    with pytest.raises(StorageError) as caught:
        SqlCatalog(tmp_path / "catalog.sqlite3", journal)
    assert caught.value.code == "journal-damaged"
    with pytest.raises(StorageError):
        MemoryCatalog(journal).events()


@pytest.mark.parametrize("line", [b'{"sequence":3}\n', b"{}\n", encode(event(3)).replace(b"2026", b"later")])
def test_a_complete_last_line_that_is_no_event_is_damage_and_not_a_torn_line(tmp_path: Path, line: bytes) -> None:
    journal = filled(tmp_path, 2)
    with journal.file.open("ab") as handle:
        handle.write(line)
    with pytest.raises(StorageError) as caught:
        SqlCatalog(tmp_path / "catalog.sqlite3", journal)
    assert caught.value.code == "journal-damaged"
    assert journal.file.read_bytes().endswith(line)


def test_an_event_of_a_later_release_is_refused_and_kept(tmp_path: Path) -> None:
    journal = filled(tmp_path, 2)
    later = encode(event(3)).replace(b'"copied"', b'"crowned"')
    with journal.file.open("ab") as handle:
        handle.write(later)
    for open_it in (
        lambda: MemoryCatalog(journal).models(),
        lambda: SqlCatalog(tmp_path / "catalog.sqlite3", journal),
        lambda: push(MemoryCatalog(journal), "m", 1),
    ):
        with pytest.raises(StorageError) as caught:
            open_it()
        assert caught.value.code == "journal-too-new"
    assert journal.file.read_bytes().endswith(later)


def test_an_event_that_means_nothing_is_an_error_in_both_catalogs(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path / "journal.jsonl")
    journal.append(START, [Event(1, EventKind.VERSION_ADDED, "m", AT, "ada", {"number": 5})])
    for open_it in (lambda: MemoryCatalog(journal).models(), lambda: SqlCatalog(tmp_path / "rows", journal)):
        with pytest.raises(StorageError) as caught:
            open_it()
        assert caught.value.code == "journal-damaged"


@pytest.mark.parametrize("loss", ["shorter", "gone", "another"])
def test_a_journal_that_lost_events_is_noticed_and_reindex_goes_on_with_what_is_left(tmp_path: Path, loss: str) -> None:
    journal = FileJournal(tmp_path / "journal.jsonl")
    catalog = SqlCatalog(tmp_path / "catalog.sqlite3", journal)
    for seed in range(3):
        push(catalog, "m", seed)
    catalog.close()
    lines = journal.file.read_bytes().splitlines(keepends=True)
    if loss == "gone":
        journal.file.unlink()
    else:
        journal.file.write_bytes(b"".join(lines[:2] if loss == "shorter" else [lines[0], *reversed(lines[1:])]))

    with pytest.raises(StorageError) as caught:
        SqlCatalog(tmp_path / "catalog.sqlite3", journal)
    assert caught.value.code == "journal-damaged"
    with pytest.raises(StorageError):
        push(catalog, "m", "more")

    if loss == "shorter":
        assert catalog.reindex() == 2
        assert push(catalog, "m", "more").number == 3


def test_a_writer_that_waits_too_long_says_who_holds_it_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.catalog.locking.LOCK_SECONDS", 0.05)
    journal = filled(tmp_path, 1)
    with journal.lock(), pytest.raises(Conflict) as caught, FileJournal(journal.file).lock():
        pass
    assert caught.value.code == "catalog-busy"


def test_a_damaged_database_is_set_aside_and_made_again(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path / "journal.jsonl")
    catalog = SqlCatalog(tmp_path / "catalog.sqlite3", journal)
    push(catalog, "m", 1)
    before = everything(catalog)
    catalog.close()
    (tmp_path / "catalog.sqlite3").write_bytes(b"no database" * 1000)
    for suffix in ("-wal", "-shm"):
        (tmp_path / f"catalog.sqlite3{suffix}").unlink(missing_ok=True)

    assert everything(SqlCatalog(tmp_path / "catalog.sqlite3", journal)) == before
    assert (tmp_path / "catalog.sqlite3.damaged-1").read_bytes().startswith(b"no database")


def test_rows_of_another_release_are_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = FileJournal(tmp_path / "journal.jsonl")
    catalog = SqlCatalog(tmp_path / "catalog.sqlite3", journal)
    push(catalog, "m", 1)
    before = everything(catalog)
    monkeypatch.setattr("assay.catalog.rows.SCHEMA", 2)
    assert everything(SqlCatalog(tmp_path / "catalog.sqlite3", journal)) == before


def test_a_long_gap_between_journal_and_rows_is_closed_in_bulk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = FileJournal(tmp_path / "journal.jsonl")
    ahead = MemoryCatalog(journal)
    for seed in range(20):
        push(ahead, "m", seed)
    monkeypatch.setattr("assay.catalog.sql.REBUILD_BEYOND", 100)
    catalog = SqlCatalog(tmp_path / "catalog.sqlite3", journal)
    assert everything(catalog) == everything(ahead)
    push(ahead, "m", "one more")
    push(ahead, "n", "another")
    assert push(catalog, "m", "last").number == 22
    assert everything(catalog) == everything(ahead)
