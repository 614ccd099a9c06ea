"""Opening a registry in a bucket: its objects, who writes it, and where its names are.

The names lie beside the blobs, written by one machine, or in PostgreSQL, written by many. The client for buckets and
the driver for PostgreSQL are optional libraries, and are imported when a bucket is opened.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.blobs.bucket_home import BucketHome, open_bucket_home, refresh_rules
from assay.catalog.bucket_journal import BucketJournal
from assay.catalog.bucket_writer import MACHINE, POSTGRESQL, BucketWriter, Writer, machine_id, new_machine_id
from assay.errors import Conflict, MissingDependency, StorageError
from assay.later import later
from assay.ports.blobs import BlobStore
from assay.ports.catalog import Catalog
from assay.ports.objects import Objects
from assay.service.registry import Registry
from assay.settings import Settings
from assay.wiring.caching import cached

if TYPE_CHECKING:
    from assay.catalog import sql
else:
    sql = later("assay.catalog.sql")

ROWS = "catalog.sqlite3"
"""File in the local folder of a bucket with the rows of its names."""
_LOCK = "journal.lock"


def open_bucket_registry(
    settings: Settings, *, create: bool = False, warn: Callable[[str], None] = lambda _: None
) -> Registry:
    """The registry in the bucket that the settings name.

    Args:
        settings: name the bucket.
        create: it will be written to: make it when it is not there.
        warn: hears when what is named there must not be used any more, and what is not quite as it should be.

    Raises:
        MissingDependency: a library is not installed.
        NotFound: there is no registry (code ``home-missing``).
        Conflict: it will be written to, and somebody else writes it (code ``bucket-has-writer``).
        StorageError: it cannot be reached or read.
    """
    objects = objects_of(settings)
    home = open_bucket_home(objects, settings.home, create=create)
    if settings.catalog is None:
        writer, catalog = _own_catalog(objects, settings.home)
    else:
        writer, catalog = _database(settings.catalog, objects, home, settings.home, warn)
    if create:
        writer.check()
    raw = _room("blobs.bucket.owned", "s3").OwnedStore(objects, writer.check)
    far: BlobStore = _room("blobs.bucket.packed", "s3").PackedBucket(raw, settings.home, writer.check)
    return Registry(cached(far, home.id), catalog, settings.actor, settings.place, settings.home, warn)


def refresh(settings: Settings) -> None:
    """Bring the rules of a bucket that lie in its local folder up to what they are now.

    Raises:
        StorageError: they cannot be read.
    """
    refresh_rules(objects_of(settings), settings.home)


def writer_of(settings: Settings) -> Writer | None:
    """Who writes a bucket; None as long as nobody does."""
    return BucketWriter(objects_of(settings), MACHINE, "").now()


def take_over(settings: Settings) -> None:
    """Make this machine, or the database that the settings name, the writer of a bucket.

    A database first takes in the names that the bucket has and it lacks.

    Raises:
        NotFound: there is no registry (code ``home-missing``).
        Conflict: somebody else did the same at the same moment (code ``bucket-has-writer``).
        StorageError: the database has other names (code ``journal-damaged``), or something cannot be written.
    """
    objects = objects_of(settings)
    home = open_bucket_home(objects, settings.home)
    if settings.catalog is None:
        BucketWriter(objects, MACHINE, new_machine_id(settings.home)).take_over()
        return
    catalog = _postgres(settings.catalog, objects, home, settings.home, lambda _: None)
    catalog.take_over()
    BucketWriter(objects, POSTGRESQL, catalog.writer).take_over()


def objects_of(settings: Settings) -> Objects:
    """The objects of the bucket that the settings name.

    Raises:
        MissingDependency: the client is not installed.
        StorageError: it cannot be reached.
    """
    assert settings.bucket is not None
    return _opened(settings.bucket, settings.home)


@lru_cache(maxsize=8)
def _opened(url: str, state: Path) -> Objects:  # noqa: ARG001 - the local folder tells endpoints apart
    if url.startswith("file://"):
        objects: Objects = _room("blobs.bucket.folder", "s3").open_folder(url)
    else:
        objects = _room("blobs.bucket.opening", "s3").open_bucket(url)
    return objects


def _own_catalog(objects: Objects, state: Path) -> tuple[BucketWriter, Catalog]:
    writer = BucketWriter(objects, MACHINE, machine_id(state))
    return writer, sql.SqlCatalog(state / ROWS, BucketJournal(objects, state / _LOCK, writer.check))


def _database(
    url: str, objects: Objects, home: BucketHome, state: Path, warn: Callable[[str], None]
) -> tuple[BucketWriter, Catalog]:
    catalog = _postgres(url, objects, home, state, warn)
    writer = BucketWriter(objects, POSTGRESQL, catalog.writer)
    found, behind = writer.now(), catalog.is_behind()
    if (found is None and behind) or (found is not None and found.id != catalog.writer):
        raise Conflict(
            f"the names of {objects.place} are not kept in {catalog.place}, but by {found or 'somebody else'}",
            code="bucket-has-writer",
            hint="unset ASSAY_CATALOG, or move them there: assay reindex --take-over",
        )
    if behind:
        raise Conflict(
            f"{catalog.place} lacks events that {objects.place} has: it was set back to an earlier state",
            code="catalog-behind",
            hint="take them in from the bucket: assay reindex --take-over",
        )
    with suppress(
        Conflict, StorageError
    ):  # what a process left that died in between; the next change says what is wrong
        catalog.export()
    return writer, catalog


def _postgres(url: str, objects: Objects, home: BucketHome, state: Path, warn: Callable[[str], None]) -> Any:
    """The catalog in a database.

    Which of several databases is the registry's own is decided by whom ``writer.json`` names.
    """
    room = _room("catalog.postgres", "postgres")
    journal = BucketJournal(objects, state / _LOCK, lambda: None)
    catalog = room.PostgresCatalog(url, home.id, journal=journal, warn=warn)
    catalog.permit = BucketWriter(objects, POSTGRESQL, catalog.writer).check
    return catalog


def _room(name: str, extra: str) -> Any:
    try:
        return import_module(f"assay.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "assay":
            raise
        raise MissingDependency(
            f"this place needs the library {(error.name or extra).partition('.')[0]}",
            hint=f"pip install 'assay[{extra}]'",
        ) from error
