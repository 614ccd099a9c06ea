"""Which catalog a home gets."""

from __future__ import annotations

from pathlib import Path

from assay.catalog.journal import FileJournal
from assay.catalog.memory import MemoryCatalog
from assay.catalog.sql import SqlCatalog
from assay.ports.catalog import Catalog


def open_catalog(database: Path, journal: Path, *, writable: bool = True) -> Catalog:
    """The catalog of a home.

    A home that may not be written is read from its journal into memory: SQLite cannot read a write-ahead log safely
    where it may not write.

    Raises:
        StorageError: the journal or the database cannot be read.
    """
    if not writable:
        return MemoryCatalog(FileJournal(journal, writable=False))
    return SqlCatalog(database, FileJournal(journal))
