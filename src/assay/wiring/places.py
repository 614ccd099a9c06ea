"""Opening the places where artifacts are kept."""

from __future__ import annotations

from pathlib import Path

from assay.blobs.directory import DirectoryStore
from assay.blobs.home import open_home
from assay.catalog.opening import open_catalog
from assay.remote.oci_layout import OciLayoutIndex
from assay.service.registry import Registry, read_small
from assay.settings import Settings
from assay.spec.digest import Digest
from assay.spec.manifest import MAX_MANIFEST

SNAPSHOTS = "snapshots"
"""Folder in a home for what frameworks load from."""


def open_registry(settings: Settings, *, create: bool = False) -> Registry:
    """The registry that the settings name.

    Args:
        settings: where it is, and who is asking.
        create: make it when it is not there.

    Raises:
        NotFound: it is not there (code ``home-missing``).
        StorageError: it cannot be made or read, was made by a newer release, or lies on a network file system.
    """
    home = open_home(settings.home, create=create)
    catalog = open_catalog(home.catalog, home.journal, writable=home.writable)
    return Registry(DirectoryStore(home.root), catalog, settings.actor, str(settings.home))


def open_layout(folder: Path) -> tuple[DirectoryStore, OciLayoutIndex]:
    """The blob store and the index of an OCI image layout."""
    store = DirectoryStore(folder)

    def read(digest: Digest) -> bytes:
        return read_small(store, digest, MAX_MANIFEST)

    return store, OciLayoutIndex(folder, read)
