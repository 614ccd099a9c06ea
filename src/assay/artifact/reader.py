"""Reading one artifact lazily: its description, its files, and its tensors as numpy arrays.

A tensor whose bytes lie plainly in a local file is a view of a memory map: opening costs nothing, a slice touches only
its pages. Elsewhere the rows a slice names are read, or the whole tensor when it is stored compressed.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import numpy as np

from assay.artifact.bulk import Bringing, Decode, check_length
from assay.artifact.elements import ArrayElements, Elements, RangeElements, check_whole, releasing
from assay.artifact.layout import Array, check_extent, numpy_dtype, shaped
from assay.artifact.ranges import Index, indexed
from assay.artifact.tensors import Tensor, Tensors
from assay.errors import StorageError
from assay.spec.description import Description
from assay.spec.inspection import Inspection
from assay.spec.manifest import Manifest
from assay.spec.tensor import TensorSpec
from assay.trees import Tree
from assay.trees.window import FileSource

__all__ = ["Artifact", "Decode", "Index", "Tensor", "numpy_dtype"]

SOON = (256 << 10, 64 << 20)
"""Bytes of a view from and up to which its pages are asked for at once: faults alone bring in little at a time."""


class Artifact:
    """An artifact or a folder of model files, opened for reading; leaving the context gives maps back.

    Args:
        tree: the files.
        inspection: what was understood.
        manifest: the artifact's manifest; None for files that were not pushed.
        decode: reads tensors without an extent.
    """

    def __init__(self, tree: Tree, inspection: Inspection, *, manifest: Manifest | None, decode: Decode) -> None:
        self.tree = tree
        self.inspection = inspection
        self.manifest = manifest
        self._decode = decode
        self._maps: dict[str, mmap.mmap] = {}
        self._specs = dict(self._named())
        named = {name: self._tensor(found, spec) for name, (found, spec) in self._specs.items()}
        self.tensors = Tensors(named, self._specs, tree, self._bringing)

    @property
    def description(self) -> Description | None:
        """The description that names the whole."""
        return self.inspection.leading

    @property
    def files(self) -> tuple[str, ...]:
        """Entry paths."""
        return self.tree.paths

    def read(self, path: str) -> bytes:
        """The whole of one file.

        Raises:
            NotFound: there is no such file.
        """
        source = self.tree.source(path)
        return source.read(0, source.size)

    def weights(self) -> Iterator[tuple[str, Description, TensorSpec]]:
        """The tensors of the model's weights by name, each with what describes it; of everything where none are known.

        Names are those of ``tensors``.
        """
        wanted = self.inspection.weights or self.inspection.descriptions
        for name, (found, spec) in self._specs.items():
            if any(found is one for one in wanted):
                yield name, found, spec

    def elements(self, found: Description, spec: TensorSpec, dtype: np.dtype[np.generic] | None = None) -> Elements:
        """The elements of one tensor, to be read a stretch at a time.

        Args:
            found: what describes it.
            spec: the tensor.
            dtype: reads the stored bytes as a flat array of it instead, whatever the tensor's own type.

        Raises:
            InvalidInput: the storage type is not a plain array (code ``not-plain``), and no *dtype* is given.
            BadFormat: it does not fit its extent.
            LimitExceeded: it would have to be decoded into memory, and is too large.
        """
        raw = dtype is not None
        kind = dtype if dtype is not None else numpy_dtype(spec)
        if spec.extent is None:
            check_whole(spec.size * kind.itemsize)
            data = self._decode(self.tree, found, spec)
            plain = kind if raw else numpy_dtype(TensorSpec(spec.name, spec.dtype, spec.shape))
            shape = (len(data) // plain.itemsize,) if raw else spec.shape
            return ArrayElements(shaped(data, 0, TensorSpec(spec.name, spec.dtype, shape), plain))
        source, extent = self.tree.source(spec.extent.path), spec.extent
        seen = TensorSpec(spec.name, "uint8", (extent.length // kind.itemsize,), extent) if raw else spec
        check_extent(seen, extent, source, kind)
        if isinstance(source, FileSource) and source.size:
            mapped = self._map(extent.path, source)
            view = shaped(mapped, extent.offset, seen, kind)
            return ArrayElements(view, releasing(mapped), (extent.offset, extent.offset + extent.length))
        if seen.strides is None:
            return RangeElements(source, extent.offset, seen.shape, kind)
        check_whole(extent.length)
        return ArrayElements(shaped(source.read(extent.offset, extent.length), 0, seen, kind))

    def close(self) -> None:
        """Give memory maps back; views of tensors that are still held keep theirs alive."""
        self._maps.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _named(self) -> Iterator[tuple[str, tuple[Description, TensorSpec]]]:
        """Tensors of the weights by name; where two files use one name, as ``path::name``."""
        taken: set[str] = set()
        weights = self.inspection.weights
        rest = (found for found in self.inspection.descriptions if found not in weights)
        for found in (*weights, *rest):
            for spec in found.tensors:
                name = spec.name if spec.name not in taken else f"{found.paths[0]}::{spec.name}"
                taken.add(name)
                yield name, (found, spec)

    def _bringing(self, *, writable: bool) -> Bringing:
        return Bringing(self.tree, self._decode, self._map, writable=writable)

    def _tensor(self, found: Description, spec: TensorSpec) -> Tensor:
        def view(index: Index) -> Array:
            return self._elements(found, spec, index)

        return Tensor(spec, view)

    def _elements(self, found: Description, spec: TensorSpec, index: Index) -> Array:
        dtype = numpy_dtype(spec)
        if spec.extent is None:
            data = self._decode(self.tree, found, spec)
            plain = TensorSpec(spec.name, spec.dtype, spec.shape)
            return shaped(data, 0, plain, numpy_dtype(plain))[index]
        source = self.tree.source(spec.extent.path)
        check_extent(spec, spec.extent, source, dtype)
        if isinstance(source, FileSource) and source.size:
            mapped = self._map(spec.extent.path, source)
            whole = shaped(mapped, spec.extent.offset, spec, dtype)
            return _soon(mapped, whole, spec.extent.offset, whole[index])
        return indexed(source, spec, dtype, index)

    def _map(self, path: str, source: FileSource) -> mmap.mmap:
        if path not in self._maps:
            try:
                mapped = source.map()
            except (OSError, ValueError) as error:
                raise StorageError(f"cannot map {path}: {error}", code="unreadable", path=path) from error
            self._maps[path] = check_length(mapped, source, path)
        return self._maps[path]


def _soon(mapped: mmap.mmap, whole: Array, offset: int, view: Array) -> Array:
    """The same view; its pages are on their way."""
    least, most = SOON
    if least <= view.nbytes <= most and view.flags.c_contiguous and hasattr(mmap, "MADV_WILLNEED"):
        start = offset + view.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
        begin = start - start % mmap.PAGESIZE
        if start >= 0 and start + view.nbytes <= len(mapped):
            mapped.madvise(mmap.MADV_WILLNEED, begin, start + view.nbytes - begin)
    return view
