"""Looking at what a person named: a path or a reference, through every format there is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from assay.artifact.collect import collect, tree_of
from assay.errors import NotFound
from assay.later import later
from assay.ports.formats import TensorReader
from assay.service.examine import inspect
from assay.service.registry import Registry
from assay.spec.description import Description
from assay.spec.inspection import Inspection
from assay.spec.reference import Reference, is_path
from assay.spec.tensor import TensorSpec
from assay.trees import Tree

if TYPE_CHECKING:
    from assay.artifact import reader
    from assay.formats import registry as formats
else:
    reader = later("assay.artifact.reader")
    formats = later("assay.formats.registry")


def look(registry: Registry | None, text: str) -> tuple[Tree, Inspection]:
    """Inspect what a path or a reference names.

    Raises:
        NotFound: it is not there.
        InvalidInput: the files cannot be an artifact, or the reference is malformed.
    """
    if is_path(text) or registry is None:
        tree = tree_of(collect(Path(text).expanduser()))
    else:
        version = registry.resolve(Reference.parse(text))
        manifest = registry.manifest(version)
        registry.check_present(version, manifest.entries())
        tree = registry.tree(manifest)
    return tree, inspect(tree, formats.all_formats())


def open_artifact(registry: Registry | None, text: str) -> reader.Artifact:
    """Open what a path or a reference names, for lazy reading.

    Raises:
        As ``look``.
    """
    tree, inspection = look(registry, text)
    manifest = None
    if not is_path(text) and registry is not None:
        manifest = registry.manifest(registry.resolve(Reference.parse(text)))
    return reader.Artifact(tree, inspection, manifest=manifest, decode=decode)


def decode(tree: Tree, found: Description, spec: TensorSpec) -> bytes:
    """Read a tensor without an extent through the format that described it.

    Raises:
        NotFound: that format cannot give single tensors (code ``tensor-not-readable``).
    """
    for form in formats.all_formats():
        if form.name == found.format and isinstance(form, TensorReader):
            return form.tensor(tree, spec)
    raise NotFound(
        f"tensor {spec.name!r} does not lie plainly in the file, and {found.format} cannot decode single tensors",
        code="tensor-not-readable",
        hint="assay.load builds the framework's own object",
    )
