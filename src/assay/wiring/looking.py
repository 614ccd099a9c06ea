"""Looking at what a person named: a path or a reference, through every format there is."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from assay.artifact.collect import collect, tree_of
from assay.errors import NotFound
from assay.later import later
from assay.ports.formats import TensorReader
from assay.service.examine import inspect
from assay.service.registry import Registry
from assay.settings import expanded
from assay.spec.description import Description
from assay.spec.inspection import Inspection
from assay.spec.manifest import Manifest
from assay.spec.records import Version
from assay.spec.reference import Reference, is_path
from assay.spec.tensor import TensorSpec
from assay.trees import Tree

if TYPE_CHECKING:
    from assay.artifact import reader
    from assay.formats import registry as formats
else:
    reader = later("assay.artifact.reader")
    formats = later("assay.formats.registry")

_DECODING = "decoding"
"""Under which a tree remembers what decodes its tensors."""


def look(registry: Registry | None, text: str) -> tuple[Tree, Inspection]:
    """Inspect what a path or a reference names.

    Raises:
        NotFound: it is not there.
        InvalidInput: the files cannot be an artifact, or the reference is malformed.
    """
    if is_path(text) or registry is None:
        tree = tree_of(collect(expanded(text)))
    else:
        tree, _ = tree_of_version(registry, registry.resolve(Reference.parse(text)))
    return tree, inspect(tree, formats.all_formats())


def open_artifact(registry: Registry | None, text: str) -> reader.Artifact:
    """Open what a path or a reference names, for lazy reading.

    Raises:
        As ``look``.
    """
    if is_path(text) or registry is None:
        tree, inspection = look(None, text)
        return reader.Artifact(tree, inspection, manifest=None, decode=decode)
    return open_version(registry, registry.resolve(Reference.parse(text)))


def open_version(registry: Registry, version: Version) -> reader.Artifact:
    """Open a version for lazy reading: who let it in opens this one, wherever its aliases point meanwhile.

    Raises:
        NotFound: files of it are missing.
    """
    tree, manifest = tree_of_version(registry, version)
    return reader.Artifact(tree, inspect(tree, formats.all_formats()), manifest=manifest, decode=decode)


def tree_of_version(registry: Registry, version: Version) -> tuple[Tree, Manifest]:
    """The files of a version, all of them here, and the manifest that lists them.

    Raises:
        NotFound: some are missing, or were purged or removed.
    """
    manifest = registry.manifest(version)
    registry.check_present(version, manifest.entries())
    return registry.tree(manifest), manifest


def decode(tree: Tree, found: Description, spec: TensorSpec) -> bytes:
    """Read a tensor without an extent through the format that described it.

    Each call has a budget of its own: that of *tree* is for describing it, and who reads all tensors, or some again
    and again, reads more.

    Raises:
        NotFound: that format cannot give single tensors (code ``tensor-not-readable``).
    """
    for form in formats.all_formats():
        if form.name == found.format and isinstance(form, TensorReader):
            return form.tensor(_afresh(tree), spec)
    raise NotFound(
        f"tensor {spec.name!r} does not lie plainly in the file, and {found.format} cannot decode single tensors",
        code="tensor-not-readable",
        hint="assay.load builds the framework's own object",
    )


def _afresh(tree: Tree) -> Tree:
    """The same files with a whole budget; each thread has its own, and what it found out about archives stays."""
    own = tree.remember(_DECODING, threading.local)
    if not hasattr(own, "tree"):
        own.tree = Tree({path: tree.source(path) for path in tree.paths})
    found: Tree = own.tree
    found.budget.used = 0
    return found
