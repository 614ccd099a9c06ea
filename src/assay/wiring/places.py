"""Opening the places where artifacts are kept."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from assay.blobs.home import open_home, raise_format
from assay.errors import InvalidInput, StorageError
from assay.later import later
from assay.service.registry import Registry, read_small
from assay.settings import Settings, expanded
from assay.spec.digest import Digest
from assay.spec.manifest import MAX_MANIFEST

if TYPE_CHECKING:
    from assay.blobs import directory
    from assay.blobs.packs import store as packs
    from assay.catalog import opening as catalogs
    from assay.remote import oci_layout
    from assay.wiring import buckets
else:
    directory = later("assay.blobs.directory")
    packs = later("assay.blobs.packs.store")
    catalogs = later("assay.catalog.opening")
    oci_layout = later("assay.remote.oci_layout")
    buckets = later("assay.wiring.buckets")

SNAPSHOTS = "snapshots"
"""Folder in a home for what frameworks load from."""
AUDITS = "audits"
"""Folder in a home for findings that are remembered."""
TENSORS = "tensors"
"""Folder in a home for digests of tensors that are remembered."""
DECLARED = "lineage"
"""Folder in a home for what statements say about lineage."""
SKETCHES = "sketches"
"""Folder in a home for sketches of weights."""
LAYOUT_SCHEME = "oci:"
"""How a text begins that names an OCI image layout."""
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)


def open_registry(
    settings: Settings, *, create: bool = False, warn: Callable[[str], None] = lambda _: None
) -> Registry:
    """The registry that the settings name.

    Args:
        settings: where it is, and who is asking.
        create: make it when it is not there.
        warn: hears when what is named there must not be used any more.

    Raises:
        NotFound: it is not there (code ``home-missing``).
        Conflict: it is made or written to, and somebody else writes it (code ``bucket-has-writer``).
        StorageError: it cannot be made or read, was made by a newer release, or lies on a network file system.
    """
    if settings.bucket is not None:
        return buckets.open_bucket_registry(settings, create=create, warn=warn)
    home = open_home(settings.home, create=create)
    catalog = catalogs.open_catalog(home.catalog, home.journal, writable=home.writable)
    blobs = packs.PackedStore(home.root, before_packing=lambda: raise_format(home.root))
    return Registry(blobs, catalog, settings.actor, str(settings.home), home.root, warn)


def reindex(settings: Settings) -> int:
    """Make every row of the catalog again from the journal; the number of events.

    Rows that know more than the journal holds do not stop it: they are kept in ``backups/``, and what is left of the
    journal counts.

    Raises:
        NotFound: there is no registry (code ``home-missing``).
        StorageError: the journal cannot be read; rows and journal are as they were.
    """
    try:
        return open_registry(settings).catalog.reindex()
    except StorageError as error:
        if error.code != "journal-damaged" or (settings.bucket and settings.catalog):
            raise
    root = settings.home if settings.bucket is not None else open_home(settings.home, create=False).root
    database = root / buckets.ROWS
    kept = root / "backups" / f"rows-{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
    kept.mkdir(parents=True)
    rows = [database.with_name(database.name + end) for end in ("", "-wal", "-shm")]
    moved = [(row, row.rename(kept / row.name)) for row in rows if row.exists()]
    try:
        return open_registry(settings).catalog.reindex()
    except BaseException:
        for row in rows:  # what the attempt made: a log of other rows must not meet these
            row.unlink(missing_ok=True)
        for row, backup in moved:
            backup.replace(row)
        kept.rmdir()
        raise


def open_layout(folder: Path) -> tuple[directory.DirectoryStore, oci_layout.OciLayoutIndex]:
    """The blob store and the index of an OCI image layout."""
    store = directory.DirectoryStore(folder)

    def read(digest: Digest) -> bytes:
        return read_small(store, digest, MAX_MANIFEST)

    return store, oci_layout.OciLayoutIndex(folder, read, store.add)


def parse_layout(text: str) -> tuple[Path, str | None]:
    """Folder and tag of ``oci:DIR[:TAG]``; a trailing part that holds a slash belongs to the folder.

    Raises:
        InvalidInput: there is no folder, or the tag cannot be one (codes ``invalid-reference``, ``invalid-tag``).
    """
    rest = text.removeprefix(LAYOUT_SCHEME)
    folder, colon, tag = rest.rpartition(":")
    if colon and "/" not in tag:
        if not _TAG.fullmatch(tag):
            raise InvalidInput(f"not an OCI tag: {tag!r}", code="invalid-tag", hint="letters, digits, '_', '.', '-'")
        return expanded(folder), tag
    if not rest:
        raise InvalidInput("oci: needs a folder: oci:DIR or oci:DIR:TAG", code="invalid-reference")
    return expanded(rest), None
