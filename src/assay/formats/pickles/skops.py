"""The ``skops`` format: scikit-learn estimators in a zip of a JSON schema and arrays, loadable without pickle.

What the schema says is in ``skops_schema``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from assay.containers.archive import Archive, is_archive, open_archive
from assay.containers.documents import parse_json
from assay.containers.guard import guarded
from assay.errors import AssayError, BadFormat
from assay.formats.pickles import story as estimator_story
from assay.formats.pickles.arrays import Arrays
from assay.formats.pickles.skops_audit import audit
from assay.formats.pickles.skops_schema import Schema
from assay.formats.pickles.tensors import index
from assay.spec.description import Description
from assay.spec.json import Json
from assay.trees import Tree, Window

MAX_SCHEMA = 256 << 20
MAX_TYPES = 500

_SCHEMA = "schema.json"
_TRUSTED_LIBRARIES = frozenset({"builtins", "numpy", "collections", "datetime", "zoneinfo"})
_TRUSTED_HELPERS = frozenset({"sklearn.ensemble._hist_gradient_boosting.binning._BinMapper"})


class SkopsFormat:
    """Describes ``.skops`` files."""

    name = "skops"
    covers = "file"

    def detect(self, tree: Tree) -> Sequence[tuple[str, ...]]:
        """One group per archive that has a skops schema."""
        return [(path,) for path in tree if is_archive(tree.head(path)) and _is_skops(tree, path)]

    def describe(self, tree: Tree, paths: tuple[str, ...]) -> Description:
        """The estimators of one archive, as for pickles; ``untrusted_types`` are those skops asks a person about.

        Raises:
            BadFormat: the schema is not readable.
        """
        window = tree.open(paths[0])
        with guarded("a skops archive", paths[0]):
            archive = open_archive(tree, paths[0])
            document = parse_json(archive.read(_SCHEMA, MAX_SCHEMA), window.path).value
            if not isinstance(document, dict) or "__loader__" not in document:
                raise BadFormat(f"{window.path}: its schema holds no object", path=window.path)
            return _described(archive, document, window, paths)


def _described(archive: Archive, document: dict[str, Json], window: Window, paths: tuple[str, ...]) -> Description:
    schema = Schema(archive)
    root = schema.value(document)
    arrays = Arrays(window)
    graph = index(root, arrays, window.path)
    specs = graph.specs(window, plain_bytes=True)
    modules = [name.module for name in schema.types.values()]
    story = estimator_story.tell(root, arrays, graph, specs, window=window, modules=modules)
    protocol = document.get("protocol")
    untrusted = [name for name in schema.types if _asks(name, schema)]
    metadata: dict[str, Json] = {
        "protocol": protocol if isinstance(protocol, int) else None,
        "skops_version": str(document.get("_skops_version"))[:40],
        "types": [*schema.types][:MAX_TYPES],
        "untrusted_types": untrusted[:MAX_TYPES],
        **story.metadata,
    }
    return replace(
        story.description("skops", paths, specs),
        format_version=f"protocol {protocol}" if isinstance(protocol, int) else None,
        requirements=tuple(sorted({"skops", *story.requirements})),
        metadata=metadata,
        findings=(*archive.findings, *audit(document, window.path), *schema.findings, *graph.findings, *story.findings),
    )


def _is_skops(tree: Tree, path: str) -> bool:
    try:
        archive = open_archive(tree, path)
        if _SCHEMA not in archive:
            return False
        head = archive.open(_SCHEMA, MAX_SCHEMA).read(0, 65536)
    except AssayError:
        return False
    return b'"__loader__"' in head and b'"__class__"' in head


def _asks(name: str, schema: Schema) -> bool:
    """Whether skops would ask a person about a type.

    It trusts plain containers, NumPy's values, universal functions, sparse matrices, and scikit-learn's public
    estimators and losses; it asks about everything else, also scikit-learn's own helpers.
    """
    top, _, rest = name.partition(".")
    if name in schema.plain:
        return False
    if top == "sklearn":
        public = name in schema.estimators and not rest.rpartition(".")[2].startswith("_")
        return not (public or rest.startswith("_loss.") or name in _TRUSTED_HELPERS)
    if name in schema.functions:
        return not _is_ufunc(top, rest)
    return top not in _TRUSTED_LIBRARIES or name == "numpy.dtype"


def _is_ufunc(top: str, rest: str) -> bool:
    if top == "scipy":
        return rest.startswith("special.")
    return top == "numpy" and isinstance(getattr(np, rest, None), np.ufunc)
