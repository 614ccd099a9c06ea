"""HDF5 files that are not Keras': their datasets as tensors, their attributes as metadata."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from assay.containers.guard import guarded
from assay.containers.hdf5.file import AttributeValue, File, is_hdf5
from assay.errors import BadFormat
from assay.formats.hdf5_tensors import sought_tensor, tensors
from assay.formats.keras.weights import is_keras
from assay.spec.description import Description
from assay.spec.json import Json
from assay.spec.tensor import TensorSpec
from assay.trees import Tree

MAX_SHOWN = 100
"""Attributes that are shown, and values and characters of one."""


class Hdf5Format:
    """The format of plain HDF5 files; what Keras wrote is left to ``KerasH5``."""

    name = "hdf5"
    covers = "file"

    def detect(self, tree: Tree) -> Sequence[tuple[str, ...]]:
        """HDF5 files without Keras' attributes or groups, damaged ones included."""
        return [(path,) for path in tree if is_hdf5(tree.head(path)) and not _is_keras(tree, path)]

    def describe(self, tree: Tree, paths: tuple[str, ...]) -> Description:
        """Say everything one HDF5 file says.

        Raises:
            BadFormat: the superblock or the root group is not readable.
        """
        path = paths[0]
        with guarded("an HDF5 file", path):
            file = File(tree.open(path))
            specs, groups = tensors(file)
            attributes = {
                name[:MAX_SHOWN]: _shown(value) for name, value in list(file.root.attributes.items())[:MAX_SHOWN]
            }
            return Description(
                format=self.name,
                paths=(path,),
                format_version=f"superblock {file.reader.superblock.version}",
                tensors=tuple(specs),
                parameter_count=sum(spec.size for spec in specs if spec.trained),
                metadata={"groups": len(groups), **({"attributes": attributes} if attributes else {})},
                findings=tuple(file.findings),
            )

    def tensor(self, tree: Tree, spec: TensorSpec) -> bytes:
        """The elements of one dataset, also when chunked and compressed.

        Raises:
            NotFound: no HDF5 file of the tree has it.
            BadFormat: its bytes are not there or do not decode.
        """
        return sought_tensor(tree, spec, self.detect, lambda path: File(tree.open(path)))


def _is_keras(tree: Tree, path: str) -> bool:
    try:
        with guarded("an HDF5 file", path):
            return is_keras(File(tree.open(path)))
    except BadFormat:
        return False


def _shown(value: AttributeValue) -> Json:
    if isinstance(value, list):
        return [_shown(item) for item in value[:MAX_SHOWN]]
    if isinstance(value, float) and not isfinite(value):
        return str(value)
    return value[:MAX_SHOWN] if isinstance(value, str) else value
