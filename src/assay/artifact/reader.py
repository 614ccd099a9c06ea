"""Reading one artifact lazily: its description, its files, and its tensors as numpy arrays.

A tensor whose bytes lie plainly in a local file is a view of a memory map: opening costs nothing, a slice touches only
its pages. Elsewhere the rows a slice names are read, or the whole tensor when it is stored compressed.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Self

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from assay.artifact.elements import ArrayElements, Elements, RangeElements, check_whole, releasing
from assay.errors import BadFormat, InvalidInput, NotFound
from assay.spec.description import Description
from assay.spec.inspection import Inspection
from assay.spec.manifest import Manifest
from assay.spec.tensor import Extent, TensorSpec
from assay.trees import Source, Tree
from assay.trees.window import FileSource

Decode = Callable[[Tree, Description, TensorSpec], bytes]
"""Gives the elements of a tensor that has no extent, in C order and little-endian."""

Index = int | slice | tuple[int | slice, ...]


class Tensor:
    """One tensor, read when it is indexed.

    Args:
        spec: name, dtype, shape and extent.
        view: gives the elements behind the extent, or decodes them.

    >>> import numpy as np
    >>> tensor = Tensor(TensorSpec("w", "float32", (2, 2)), lambda rows: np.eye(2, dtype="float32")[rows])
    >>> tensor[1].tolist()
    [0.0, 1.0]
    """

    __slots__ = ("_view", "spec")

    def __init__(self, spec: TensorSpec, view: Callable[[Index], NDArray[np.generic]]) -> None:
        self.spec = spec
        self._view = view

    @property
    def shape(self) -> tuple[int, ...]:
        """Elements per dimension."""
        return self.spec.shape

    @property
    def dtype(self) -> str:
        """Name of the elements' type, as numpy or ml_dtypes have it, or the format's own storage type."""
        return self.spec.dtype

    def __getitem__(self, index: Index) -> NDArray[np.generic]:
        """The elements that *index* names; a read-only view where they are mapped.

        Raises:
            InvalidInput: the storage type is not a plain array (code ``not-plain``).
        """
        return self._view(index)

    def numpy(self) -> NDArray[np.generic]:
        """All elements."""
        return self._view(())

    def __array__(self, dtype: object = None, copy: bool | None = None) -> NDArray[np.generic]:  # noqa: FBT001 - numpy's protocol
        """Let ``numpy.asarray`` take the tensor as it is."""
        return np.array(self.numpy(), dtype=dtype, copy=copy)  # type: ignore[call-overload,no-any-return]

    def __repr__(self) -> str:
        return f"Tensor({self.spec.name!r}, {self.spec.dtype}, {list(self.spec.shape)})"


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
        tensors = ((name, self._tensor(found, spec)) for name, (found, spec) in self._specs.items())
        self.tensors: Mapping[str, Tensor] = _Tensors(tensors)

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
            return ArrayElements(_shaped(data, 0, TensorSpec(spec.name, spec.dtype, shape), plain))
        source, extent = self.tree.source(spec.extent.path), spec.extent
        seen = TensorSpec(spec.name, "uint8", (extent.length // kind.itemsize,), extent) if raw else spec
        _check_extent(seen, extent, source, kind)
        if isinstance(source, FileSource) and source.size:
            mapped = self._map(extent.path, source)
            view = _shaped(mapped, extent.offset, seen, kind)
            return ArrayElements(view, releasing(mapped), (extent.offset, extent.offset + extent.length))
        if seen.strides is None:
            return RangeElements(source, extent.offset, seen.shape, kind)
        check_whole(extent.length)
        return ArrayElements(_shaped(source.read(extent.offset, extent.length), 0, seen, kind))

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

    def _tensor(self, found: Description, spec: TensorSpec) -> Tensor:
        def view(index: Index) -> NDArray[np.generic]:
            return self._elements(found, spec, index)

        return Tensor(spec, view)

    def _elements(self, found: Description, spec: TensorSpec, index: Index) -> NDArray[np.generic]:
        dtype = numpy_dtype(spec)
        if spec.extent is None:
            data = self._decode(self.tree, found, spec)
            plain = TensorSpec(spec.name, spec.dtype, spec.shape)
            return _shaped(data, 0, plain, numpy_dtype(plain))[index]
        source = self.tree.source(spec.extent.path)
        _check_extent(spec, spec.extent, source, dtype)
        if isinstance(source, FileSource) and source.size:
            return _shaped(self._map(spec.extent.path, source), spec.extent.offset, spec, dtype)[index]
        if spec.strides is None and spec.shape and isinstance(index, (int, slice)):
            return _rows(source, spec, dtype, index)
        return _shaped(source.read(spec.extent.offset, spec.extent.length), 0, spec, dtype)[index]

    def _map(self, path: str, source: FileSource) -> mmap.mmap:
        if path not in self._maps:
            self._maps[path] = source.map()
        return self._maps[path]


class _Tensors(Mapping[str, Tensor]):
    """Tensors by name."""

    def __init__(self, named: Iterator[tuple[str, Tensor]]) -> None:
        self._by_name = dict(named)

    def __getitem__(self, name: str) -> Tensor:
        try:
            return self._by_name[name]
        except KeyError:
            near = [known for known in self._by_name if name in known][:3]
            raise NotFound(
                f"no tensor {name!r}", code="tensor-not-found", hint=f"near: {', '.join(near)}" if near else None
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name


def numpy_dtype(spec: TensorSpec) -> np.dtype[np.generic]:
    """The numpy dtype that views a tensor's elements, byte order included.

    Raises:
        InvalidInput: there is none (code ``not-plain``).
    """
    try:
        named = getattr(ml_dtypes, spec.dtype, None) if spec.plain else None
        dtype: np.dtype[np.generic] = np.dtype(named if named is not None else spec.dtype)
    except TypeError:
        dtype = np.dtype(object)
    if not spec.plain or dtype.hasobject or dtype.kind not in "biufcV":
        raise InvalidInput(
            f"tensor {spec.name!r} is stored as {spec.dtype}, which numpy cannot view",
            code="not-plain",
            hint="its bytes are at .spec.extent; assay.load builds the framework's own object",
        )
    return dtype.newbyteorder(">") if spec.big_endian and dtype.itemsize > 1 else dtype


def _check_extent(spec: TensorSpec, extent: Extent, source: Source, dtype: np.dtype[np.generic]) -> None:
    span = _span(spec) * dtype.itemsize
    if span > extent.length or extent.offset + extent.length > source.size:
        raise BadFormat(
            f"tensor {spec.name!r} does not fit its extent: {span} bytes wanted at offset {extent.offset}, "
            f"extent of {extent.length} in {source.size} bytes",
            path=extent.path,
            offset=extent.offset,
        )


def _span(spec: TensorSpec) -> int:
    """Elements from the first to the last one of the tensor, both included."""
    if spec.size == 0:
        return 0
    if spec.strides is None:
        return spec.size
    if len(spec.strides) != len(spec.shape) or any(step < 0 for step in spec.strides):
        raise BadFormat(f"tensor {spec.name!r} has strides {spec.strides} for shape {spec.shape}")
    return 1 + sum((size - 1) * step for size, step in zip(spec.shape, spec.strides, strict=True))


def _shaped(data: bytes | mmap.mmap, offset: int, spec: TensorSpec, dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
    flat = np.frombuffer(data, dtype, count=_span(spec), offset=offset)
    if spec.strides is None or spec.size == 0:
        return flat.reshape(spec.shape)
    steps = tuple(step * dtype.itemsize for step in spec.strides)
    return np.lib.stride_tricks.as_strided(flat, spec.shape, steps, writeable=False)


def _rows(source: Source, spec: TensorSpec, dtype: np.dtype[np.generic], index: int | slice) -> NDArray[np.generic]:
    """Read only the rows that an index on the first dimension touches."""
    assert spec.extent is not None
    total = spec.shape[0]
    rows = range(total)[index] if isinstance(index, slice) else range(total)[index : index + 1 or None]
    if isinstance(index, int) and not -total <= index < total:
        raise IndexError(f"row {index} of {total}")
    low, high = (min(rows[0], rows[-1]), max(rows[0], rows[-1]) + 1) if len(rows) else (0, 0)
    width = spec.size // total * dtype.itemsize if total else 0
    data = source.read(spec.extent.offset + low * width, (high - low) * width)
    block = np.frombuffer(data, dtype).reshape((high - low, *spec.shape[1:]))
    return block[[row - low for row in rows]] if isinstance(index, slice) else block[0]
