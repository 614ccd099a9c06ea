"""The composition root: the only room that knows everyone. Everything else is handed what it needs from here."""

from __future__ import annotations

from pathlib import Path

from assay.artifact.collect import collect, tree_of
from assay.artifact.reader import Artifact
from assay.blobs.directory import DirectoryStore
from assay.blobs.home import open_home
from assay.catalog.sql import open_catalog
from assay.errors import NotFound
from assay.formats.registry import all_formats
from assay.ports.formats import TensorReader
from assay.remote.oci_layout import OciLayoutIndex
from assay.service.examine import inspect
from assay.service.registry import Registry, read_small
from assay.settings import Settings
from assay.spec.description import Description
from assay.spec.digest import Digest
from assay.spec.inspection import Inspection
from assay.spec.manifest import MAX_MANIFEST
from assay.spec.reference import Reference
from assay.spec.tensor import TensorSpec
from assay.trees import Tree

SNAPSHOTS = "snapshots"


def open_registry(settings: Settings) -> Registry:
    """The registry that the settings name; made when it is not there.

    Raises:
        StorageError: the home cannot be made or read.
        CouldNot: it was made by a newer release, or lies on a network file system.
    """
    home = open_home(settings.home)
    catalog = open_catalog(home.catalog, home.journal, writable=home.writable)
    return Registry(DirectoryStore(home.root), catalog, settings.actor, str(settings.home))


def open_layout(folder: Path) -> tuple[DirectoryStore, OciLayoutIndex]:
    """The blob store and the index of an OCI image layout."""
    store = DirectoryStore(folder)

    def read(digest: Digest) -> bytes:
        return read_small(store, digest, MAX_MANIFEST)

    return store, OciLayoutIndex(folder, read)


def is_path(text: str) -> bool:
    """Whether a person means a path: it starts with ``/``, ``.`` or ``~``; everything else is a reference."""
    return text.startswith(("/", ".", "~"))


def look(registry: Registry | None, text: str) -> tuple[Tree, Inspection]:
    """Inspect what a path or a reference names.

    Raises:
        NotFound: it is not there.
        InvalidInput: the files cannot be an artifact, or the reference is malformed.
    """
    if is_path(text) or registry is None:
        tree = tree_of(collect(Path(text).expanduser()))
    else:
        tree = registry.tree(registry.manifest(registry.resolve(Reference.parse(text))))
    return tree, inspect(tree, all_formats())


def open_artifact(registry: Registry | None, text: str) -> Artifact:
    """Open what a path or a reference names, for lazy reading.

    Raises:
        As ``look``.
    """
    tree, inspection = look(registry, text)
    manifest = None
    if not is_path(text) and registry is not None:
        manifest = registry.manifest(registry.resolve(Reference.parse(text)))
    return Artifact(tree, inspection, manifest=manifest, decode=decode)


def decode(tree: Tree, found: Description, spec: TensorSpec) -> bytes:
    """Read a tensor without an extent through the format that described it.

    Raises:
        NotFound: that format cannot give single tensors (code ``tensor-not-readable``).
    """
    for form in all_formats():
        if form.name == found.format and isinstance(form, TensorReader):
            return form.tensor(tree, spec)
    raise NotFound(
        f"tensor {spec.name!r} does not lie plainly in the file, and {found.format} cannot decode single tensors",
        code="tensor-not-readable",
        hint="assay.load builds the framework's own object",
    )
