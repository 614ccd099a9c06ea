"""The catalog in PostgreSQL over a real server: the contract, many writers, the copy in the bucket, loss of either."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import rule
from objects_in_memory import MemoryObjects
from postgres_server import running
from sqlalchemy import create_engine, text, update

from assay.catalog.bucket_journal import BucketJournal, key_of
from assay.catalog.journal import START
from assay.catalog.memory import MemoryCatalog
from assay.catalog.postgres import PostgresCatalog, _engine
from assay.catalog.tables import SCHEMA, applied, events
from assay.errors import AssayError, Conflict, InvalidInput, StorageError
from assay.ports.catalog import Catalog
from assay.testing.catalog import CatalogContract, artifact, everything, push
from assay.testing.catalog_machine import CatalogMachine

pytestmark = pytest.mark.root

_SERVER: list[str] = []
_BUCKETS: dict[Path, MemoryObjects] = {}


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[str]:
    with running() as url:
        _SERVER[:] = [url]
        yield url


def home_of(folder: Path) -> str:
    return hashlib.sha256(str(folder).encode()).hexdigest()[:32]


def journal_of(folder: Path) -> BucketJournal:
    objects = _BUCKETS.setdefault(folder, MemoryObjects())
    return BucketJournal(objects, folder / "journal.lock", lambda: None)


def opened(folder: Path, **options) -> PostgresCatalog:
    return PostgresCatalog(_SERVER[0], home_of(folder), journal=journal_of(folder), **options)


def run(folder: Path, statement: str) -> None:
    engine = create_engine(_SERVER[0].replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(text(f'SET search_path TO "assay_{home_of(folder)[:16]}"'))
        connection.execute(text(statement))
    engine.dispose()


def drop(folder: Path) -> None:
    run(folder, f'DROP SCHEMA "assay_{home_of(folder)[:16]}" CASCADE')


class TestPostgresCatalog(CatalogContract):
    def open_catalog(self, folder: Path) -> Catalog:
        return opened(folder)


class PostgresMachine(CatalogMachine):
    """Also compares the copy in the bucket, and loses the database."""

    def open_catalog(self, folder: Path) -> Catalog:
        if hasattr(self, "catalog"):
            self.catalog.close()
        return opened(folder)

    def teardown(self) -> None:
        self.catalog.close()
        super().teardown()

    @rule()
    def agree_with_the_copy_in_the_bucket(self) -> None:
        assert everything(self.catalog) == everything(MemoryCatalog(journal_of(self.folder)))

    @rule()
    def lose_the_database(self) -> None:
        before = everything(self.catalog)
        self.catalog.close()
        drop(self.folder)
        self.catalog = opened(self.folder)
        assert self.catalog.take_over() == self.events
        assert everything(self.catalog) == before


TestPostgresMachine = PostgresMachine.TestCase
TestPostgresMachine.settings = settings(
    deadline=None, stateful_step_count=25, max_examples=8, suppress_health_check=[HealthCheck.too_slow]
)


def test_registries_in_one_database_do_not_see_each_other(tmp_path: Path) -> None:
    first, second = opened(tmp_path / "a"), opened(tmp_path / "b")
    push(first, "m", 1)
    assert list(second.models()) == []
    assert first.writer != second.writer
    assert opened(tmp_path / "a").writer == first.writer


_WRITER = """
import sys
from pathlib import Path
from assay.catalog.postgres import PostgresCatalog
from assay.errors import Conflict
from assay.testing.catalog import push
url, home, own = sys.argv[1:]
catalog = PostgresCatalog(url, home)
for number in range(20):
    version = push(catalog, "m", (own, number))
    while True:
        now = catalog.alias("m", "champion")
        try:
            catalog.move_alias("m", "champion", version.number, expect=now and now.number, actor=own)
            break
        except Conflict:
            continue
"""


def test_several_processes_number_and_promote_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _WRITER, _SERVER[0], home_of(tmp_path)]
    writers = [subprocess.Popen([*command, str(own)]) for own in range(3)]
    assert [writer.wait(120) for writer in writers] == [0, 0, 0]
    catalog = opened(tmp_path)
    assert [version.number for version in catalog.versions("m")] == list(range(60, 0, -1))
    assert [event.sequence for event in catalog.events()] == list(range(120, 0, -1))
    place = None
    for event in reversed(catalog.events(name="m")):
        if event.kind == "alias-moved":
            assert event.data["from"] == place
            place = event.data["number"]
    assert catalog.alias("m", "champion").number == place
    catalog.export()
    assert everything(MemoryCatalog(journal_of(tmp_path))) == everything(catalog)


def test_a_writer_that_is_killed_within_a_change_leaves_nothing_and_blocks_nobody(tmp_path: Path) -> None:
    catalog = opened(tmp_path)
    push(catalog, "m", 1)
    script = (
        "import os, sys\nfrom assay.catalog.postgres import PostgresCatalog\n"
        "from assay.testing.catalog import artifact\nfrom assay.spec.records import EventKind\n"
        "catalog = PostgresCatalog(*sys.argv[1:])\n"
        "with catalog._change() as change:\n"
        "    data = {'number': 2, 'manifest': str(artifact(2)), 'size': 1, 'entries': 1}\n"
        "    change.record(EventKind.VERSION_ADDED, 'm', 'ada', data)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, _SERVER[0], home_of(tmp_path)])
    assert done.returncode == -9
    assert catalog.version("m").number == 1
    assert push(catalog, "m", 3).number == 2
    assert [event.sequence for event in catalog.events()] == [2, 1]


def test_a_copy_that_fails_is_told_and_made_up_for_by_the_next_change(tmp_path: Path) -> None:
    told: list[str] = []
    catalog = opened(tmp_path, warn=told.append)
    objects = _BUCKETS[tmp_path]

    def failing(key: str, data: bytes) -> bool:
        raise StorageError("the bucket is away")

    objects.put_if_absent = failing
    assert push(catalog, "m", 1).number == 1
    assert told == ["the copy of the journal in the bucket is behind: the bucket is away"]
    assert objects.kept == {}
    del objects.put_if_absent
    push(catalog, "m", 2)
    assert list(objects.kept) == [key_of(1, 2)]
    assert everything(MemoryCatalog(journal_of(tmp_path))) == everything(catalog)


def test_the_copy_is_merged_and_exact(tmp_path: Path) -> None:
    catalog = opened(tmp_path)
    for seed in range(130):
        push(catalog, "m", seed)
    assert sorted(_BUCKETS[tmp_path].kept) == [key_of(1, 64), key_of(65, 128), key_of(129, 129), key_of(130, 130)]
    assert [event.sequence for event, _ in journal_of(tmp_path).read(START)] == list(range(1, 131))


def test_reindex_makes_rows_and_the_copy_again(tmp_path: Path) -> None:
    catalog = opened(tmp_path)
    for seed in range(5):
        push(catalog, "m", seed)
    catalog.move_alias("m", "champion", 2, expect=None, actor="ada")
    before = everything(catalog)
    run(tmp_path, "DELETE FROM aliases; UPDATE versions SET size = 1; DELETE FROM event_names")
    objects = _BUCKETS[tmp_path]
    for key in (key_of(4, 4), key_of(5, 5), key_of(6, 6)):
        del objects.kept[key]
    assert everything(catalog) != before
    assert catalog.reindex() == 6
    assert everything(catalog) == before
    assert everything(MemoryCatalog(journal_of(tmp_path))) == before


def test_a_database_that_was_set_back_is_noticed_and_filled_from_the_bucket(tmp_path: Path) -> None:
    catalog = opened(tmp_path)
    for seed in range(3):
        push(catalog, "m", seed)
    before = everything(catalog)
    assert not catalog.is_behind()
    catalog.close()
    drop(tmp_path)
    again = opened(tmp_path)
    assert again.is_behind()
    assert again.take_over() == 3
    assert everything(again) == before
    assert not again.is_behind()


def test_another_history_in_the_database_is_not_mixed_with_the_bucket_s(tmp_path: Path) -> None:
    catalog = opened(tmp_path)
    push(catalog, "m", 1)
    push(catalog, "m", 2)
    catalog.close()
    drop(tmp_path)
    other = PostgresCatalog(_SERVER[0], home_of(tmp_path))
    push(other, "other", 1)
    other.close()
    again = opened(tmp_path)
    with pytest.raises(StorageError) as caught:
        again.take_over()
    assert caught.value.code == "journal-damaged"
    assert [model.name for model in again.models()] == ["other"]


def test_an_older_layout_is_made_anew_and_a_newer_one_refused(tmp_path: Path) -> None:
    catalog = opened(tmp_path)
    push(catalog, "m", 1)
    before = everything(catalog)
    run(tmp_path, f"ALTER TABLE versions DROP COLUMN pinned; UPDATE applied SET schema = {SCHEMA - 1}")
    assert everything(opened(tmp_path)) == before
    run(tmp_path, f"UPDATE applied SET schema = {SCHEMA + 1}")
    with pytest.raises(StorageError) as caught:
        opened(tmp_path)
    assert caught.value.code == "catalog-too-new"
    run(tmp_path, f"UPDATE applied SET schema = {SCHEMA}; UPDATE events SET kind = 'of-tomorrow'")
    with pytest.raises(StorageError) as caught:
        opened(tmp_path).events()
    assert caught.value.code == "journal-too-new"


def test_a_process_of_an_older_release_that_is_still_running_writes_nothing_into_a_newer_layout(tmp_path: Path) -> None:
    catalog = opened(tmp_path)
    push(catalog, "m", 1)
    run(tmp_path, f"UPDATE applied SET schema = {SCHEMA + 1}")
    with pytest.raises(StorageError) as caught:
        push(catalog, "m", 2)
    assert caught.value.code == "catalog-too-new"


def test_a_database_that_was_taken_over_from_changes_nothing_any_more(tmp_path: Path) -> None:
    catalog = opened(tmp_path)
    push(catalog, "m", 1)

    def refuse() -> None:
        raise Conflict("another one writes", code="bucket-has-writer")

    catalog.permit = refuse
    with pytest.raises(Conflict):
        push(catalog, "m", 2)
    assert [version.number for version in opened(tmp_path).versions("m")] == [1]


def test_what_was_taken_in_from_the_bucket_is_not_exported_again(tmp_path: Path) -> None:
    catalog = opened(tmp_path)
    for seed in range(3):
        push(catalog, "m", seed)
    catalog.close()
    drop(tmp_path)
    before = dict(_BUCKETS[tmp_path].kept)
    again = opened(tmp_path)
    again.take_over()
    again.export()
    assert _BUCKETS[tmp_path].kept == before
    push(again, "m", 4)
    assert _BUCKETS[tmp_path].kept.keys() - before.keys() == {key_of(4, 4)}


def test_names_are_ordered_by_code_point_whatever_the_database_speaks(tmp_path: Path) -> None:
    catalog = opened(tmp_path)
    for name in ("b", "a-b", "ab", "a/b", "a.b", "a_b", "a"):
        push(catalog, name, 1)
    assert [model.name for model in catalog.models()] == sorted(["b", "a-b", "ab", "a/b", "a.b", "a_b", "a"])


def test_text_that_no_database_takes_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    catalog = opened(tmp_path)
    push(catalog, "m", 1)
    with pytest.raises(InvalidInput) as caught:
        catalog.mark_purged(artifact(1), reason="nul \0 byte", actor="ada")
    assert caught.value.code == "invalid-event"
    assert len(catalog.events()) == 1


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("postgresql://assay:secret@127.0.0.1:1/postgres", "catalog-unreachable"),
        ("postgresql://nobody-of-that-name:secret@/postgres?host={}", "catalog-denied"),
        ("postgresql://assay:secret@/no_such_database?host={}", "catalog-unreachable"),
        ("postgresql://assay:secret@host:port/x", "bad-catalog"),
    ],
)
def test_what_is_wrong_with_a_database_is_told_without_its_password(url: str, code: str, tmp_path: Path) -> None:
    with pytest.raises(AssayError) as caught:
        PostgresCatalog(url.format(_SERVER[0].partition("host=")[2]), home_of(tmp_path))
    assert caught.value.code == code
    assert "secret" not in f"{caught.value.message} {caught.value.hint} {caught.value.details}"


def test_a_writer_that_waits_too_long_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.catalog.postgres._LOCK", "200ms")
    first, second = opened(tmp_path), opened(tmp_path)
    with first._change(), pytest.raises(AssayError) as caught:
        push(second, "m", 1)
    assert caught.value.code == "catalog-busy"


def test_damaged_events_are_told_by_their_number(tmp_path: Path) -> None:
    catalog = opened(tmp_path)
    push(catalog, "m", 1)
    engine, _ = _engine(_SERVER[0], f"assay_{home_of(tmp_path)[:16]}")
    with engine.begin() as connection:
        connection.execute(update(events).values(data="{}"))
        assert connection.execute(applied.select()).one().sequence == 1
    engine.dispose()
    with pytest.raises(StorageError) as caught:
        catalog.reindex()
    assert caught.value.code == "journal-damaged"
    assert catalog.version("m", 1) is not None
