"""The catalog contract over every catalog in the package, and over crashes between journal and rows."""

from __future__ import annotations

import shutil
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from assay.catalog.journal import FileJournal
from assay.catalog.memory import MemoryCatalog
from assay.catalog.sql import SqlCatalog
from assay.ports.catalog import Catalog
from assay.testing.catalog import CatalogContract, everything
from assay.testing.catalog_machine import CatalogMachine

_KEPT: dict[Path, MemoryCatalog] = {}


def in_memory(folder: Path) -> Catalog:
    return _KEPT.setdefault(folder, MemoryCatalog())


def in_journal(folder: Path) -> Catalog:
    return MemoryCatalog(FileJournal(folder / "journal.jsonl"))


def in_sql(folder: Path) -> SqlCatalog:
    return SqlCatalog(folder / "catalog.sqlite3", FileJournal(folder / "journal.jsonl"))


class TestMemoryCatalog(CatalogContract):
    def open_catalog(self, folder: Path) -> Catalog:
        return in_memory(folder)


class TestJournalCatalog(CatalogContract):
    def open_catalog(self, folder: Path) -> Catalog:
        return in_journal(folder)


class TestSqlCatalog(CatalogContract):
    def open_catalog(self, folder: Path) -> Catalog:
        return in_sql(folder)


class MemoryMachine(CatalogMachine):
    def open_catalog(self, folder: Path) -> Catalog:
        return in_memory(folder)


class JournalMachine(CatalogMachine):
    def open_catalog(self, folder: Path) -> Catalog:
        return in_journal(folder)


class SqlMachine(CatalogMachine):
    """Also loses the rows, or goes back to older ones, as a crash between journal and commit does."""

    def open_catalog(self, folder: Path) -> Catalog:
        return in_sql(folder)

    def _close(self) -> None:
        assert isinstance(self.catalog, SqlCatalog)
        self.catalog.close()

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
    def agree_with_a_reading_of_the_journal_in_memory(self) -> None:
        assert everything(self.catalog) == everything(MemoryCatalog(FileJournal(self.folder / "journal.jsonl")))

    @rule()
    def lose_the_rows(self) -> None:
        self._close()
        (self.folder / "catalog.sqlite3").unlink()
        self.catalog = self.open_catalog(self.folder)

    @rule(rubbish=st.binary(min_size=1, max_size=40))
    def leave_a_torn_line(self, rubbish: bytes) -> None:
        self._close()
        with (self.folder / "journal.jsonl").open("ab") as handle:
            handle.write(b'{"actor":"ada",' + rubbish.replace(b"\n", b""))
        self.catalog = self.open_catalog(self.folder)


_FAST = settings(deadline=None, stateful_step_count=25, suppress_health_check=[HealthCheck.too_slow])
TestMemoryMachine = MemoryMachine.TestCase
TestJournalMachine = JournalMachine.TestCase
TestSqlMachine = SqlMachine.TestCase
TestMemoryMachine.settings = settings(_FAST, max_examples=60)
TestJournalMachine.settings = settings(_FAST, max_examples=25)
TestSqlMachine.settings = settings(_FAST, max_examples=25)
