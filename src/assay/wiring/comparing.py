"""Comparing what people name: paths, references and OCI image layouts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from assay.artifact.collect import collect, tree_of
from assay.compare.sides import DEFAULT, Compared, Options
from assay.errors import AssayError, NotFound
from assay.later import later
from assay.service.audit import report
from assay.service.examine import inspect
from assay.service.registry import Registry, files_of, read_manifest
from assay.service.transfer import choose_tag
from assay.settings import Settings, expanded
from assay.spec.changes import Comparison
from assay.spec.inspection import Inspection
from assay.spec.manifest import Manifest
from assay.spec.records import Version
from assay.spec.reference import Reference, is_path
from assay.spec.report import Report
from assay.trees import Tree
from assay.wiring.looking import decode, tree_of_version
from assay.wiring.places import LAYOUT_SCHEME, TENSORS, open_layout, open_registry, parse_layout

if TYPE_CHECKING:
    from assay.artifact import reader
    from assay.compare import comparing
    from assay.formats import registry as formats
    from assay.wiring import auditors
else:
    reader = later("assay.artifact.reader")
    comparing = later("assay.compare.comparing")
    formats = later("assay.formats.registry")
    auditors = later("assay.wiring.auditors")


def diff(old: str, new: str, settings: Settings, options: Options = DEFAULT) -> Comparison:
    """What changed from one path, reference or ``oci:DIR[:TAG]`` to another.

    Raises:
        NotFound: one of them is not there.
        InvalidInput: one of them cannot be an artifact, or is no reference.
    """
    with_memory = options
    if options.memory is None and settings.home.is_dir():
        with_memory = replace(options, memory=settings.home / TENSORS)
    before, after = open_side(old, settings), open_side(new, settings)
    with before.artifact, after.artifact:
        return comparing.compare(before, after, with_memory)


def open_side(text: str, settings: Settings) -> Compared:
    """One side of a comparison by its name.

    Raises:
        As ``diff``.
    """
    if text.startswith(LAYOUT_SCHEME):
        return _layout(text)
    if is_path(text):
        tree = tree_of(collect(expanded(text), everything=True))
        return _side(text, tree, None)
    try:
        registry = open_registry(settings)
        version = registry.resolve(Reference.parse(text))
    except AssayError as error:
        if isinstance(error, NotFound) and Path(text).exists():
            error.hint = f"./{text} means the file or folder of that name here"
        raise
    return version_side(registry, version, label=text)


def version_side(registry: Registry, version: Version, *, label: str | None = None) -> Compared:
    """A version as one side of a comparison.

    Raises:
        NotFound: its bytes are missing, or were purged or removed.
    """
    tree, manifest = tree_of_version(registry, version)
    side = _side(label or version.reference, tree, manifest)
    return replace(side, version=version, statements=tuple(registry.statements(manifest.digest)))


def _layout(text: str) -> Compared:
    folder, tag = parse_layout(text)
    blobs, index = open_layout(folder)
    _, descriptor = choose_tag(index, tag)
    manifest = read_manifest(blobs, descriptor.digest)
    return _side(text, files_of(blobs, manifest), manifest)


def _side(label: str, tree: Tree, manifest: Manifest | None) -> Compared:
    inspection: Inspection = inspect(tree, formats.all_formats())

    def audit() -> Report:
        return report(tree, inspection, auditors.auditing())

    return Compared(
        label=label,
        artifact=reader.Artifact(tree, inspection, manifest=manifest, decode=decode),
        digests={entry.path: entry.digest for entry in manifest.entries()} if manifest else {},
        audit=audit,
    )
