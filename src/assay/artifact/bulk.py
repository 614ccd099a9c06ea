"""Many tensors at once: which are wanted, how they lie together in files, and bringing them into memory once.

Concept: wanted tensors become runs, stretches of a file that hold one or several tensors. A run of a local file is a
view of a memory map and is only read ahead; any other is fetched straight into the memory that its tensors then are.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from assay.artifact.ahead import in_order, read_ahead
from assay.artifact.layout import Array, check_extent, check_rows, cut, numpy_dtype, shaped, span
from assay.artifact.ranges import fill
from assay.errors import NotFound, StorageError
from assay.spec.description import Description
from assay.spec.tensor import TensorSpec
from assay.trees import Source, Tree
from assay.trees.window import FileSource

RUN = 16 << 20
"""Bytes up to which neighbouring tensors are fetched together: a journey for each small one would take longest."""

GAP = 64 << 10
"""Bytes between neighbours that are fetched with them."""

EVERYTHING = 1 << 62

Decode = Callable[[Tree, Description, TensorSpec], bytes]
"""Gives the elements of a tensor that has no extent, in C order and little-endian."""

Specs = Mapping[str, tuple[Description, TensorSpec]]


@dataclass(frozen=True, slots=True)
class Piece:
    """A tensor that is wanted, or the rows of it that are.

    Args:
        name: what it is called in the artifact.
        found: what describes it.
        spec: shape and extent of what is wanted.
        dtype: of its elements.
        rows: rows that are still to be taken once it was decoded; None where the extent says it all.
        whole: what is decoded for that, where it is more than is wanted.
    """

    name: str
    found: Description
    spec: TensorSpec
    dtype: np.dtype[np.generic]
    rows: slice | None = None
    whole: TensorSpec | None = None

    @property
    def stored(self) -> TensorSpec:
        """What has to be brought into memory."""
        return self.whole or self.spec

    @property
    def place(self) -> tuple[int, int]:
        """First byte, and the byte after the last one."""
        assert self.spec.extent is not None
        start = self.spec.extent.offset
        return start, start + span(self.spec) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Run:
    """A stretch of a file, and the tensors in it.

    Args:
        path: the entry; empty for a tensor that is decoded by its format.
        start: first byte.
        stop: the byte after the last one.
        pieces: in the order they lie in.
    """

    path: str
    start: int
    stop: int
    pieces: tuple[Piece, ...]

    @property
    def nbytes(self) -> int:
        """Bytes that it takes in memory."""
        return self.stop - self.start


def chosen(specs: Specs, only: str | Sequence[str], rows: slice | None) -> list[Piece]:
    """The tensors that shell patterns name, all without one; in the order of the index.

    Raises:
        NotFound: a pattern names none (code ``tensor-not-found``).
        InvalidInput: one is not a plain array (code ``not-plain``), or *rows* go backwards (code ``bad-rows``).
    """
    check_rows(rows)
    patterns = (only,) if isinstance(only, str) else tuple(only)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in specs):
            raise no_tensor(pattern, specs)
    found = []
    for name, (description, spec) in specs.items():
        if patterns and not any(fnmatchcase(name, pattern) for pattern in patterns):
            continue
        dtype = numpy_dtype(spec)
        if spec.extent is None:
            plain = TensorSpec(spec.name, spec.dtype, spec.shape)
            dtype = numpy_dtype(plain)
            if rows is None or not spec.shape:
                found.append(Piece(name, description, plain, dtype))
            else:
                found.append(Piece(name, description, cut(plain, dtype, rows), dtype, rows, plain))
        else:
            found.append(Piece(name, description, spec if rows is None else cut(spec, dtype, rows), dtype))
    return found


def no_tensor(name: str, known: Iterable[str]) -> NotFound:
    """The error for a name or pattern that fits no tensor; names that come near are in its hint."""
    names = list(known)
    bare = name.strip("*?.")
    near = [one for one in names if bare and (bare in one or one in bare)][:3]
    near = near or get_close_matches(name, names, 3, 0.5)
    hint = f"near: {', '.join(near)}" if near else f"there are {', '.join(names[:3])} …" if names else None
    return NotFound(f"no tensor {name!r:.200}", code="tensor-not-found", hint=hint)


def runs_of(pieces: Sequence[Piece], tree: Tree) -> list[Run]:
    """Pieces as they lie together, in the order of the files; what overlaps is never parted.

    Raises:
        BadFormat: one does not fit its extent.
    """
    files: dict[str, list[Piece]] = {}
    runs: list[Run] = []
    for piece in pieces:
        if piece.spec.extent is None:
            size = piece.stored.size * piece.dtype.itemsize
            runs.append(Run("", 0, size, (piece,)))
            continue
        check_extent(piece.spec, piece.spec.extent, tree.source(piece.spec.extent.path), piece.dtype)
        files.setdefault(piece.spec.extent.path, []).append(piece)
    return [run for path, held in files.items() for run in _together(path, held)] + runs


def _together(path: str, pieces: Sequence[Piece]) -> Iterator[Run]:
    held: list[Piece] = []
    start = stop = 0
    for (begin, end), piece in sorted(((one.place, one) for one in pieces), key=lambda placed: placed[0]):
        overlaps = begin < stop
        joins = begin - stop <= GAP and max(stop, end) - start <= RUN
        if held and not overlaps and not joins:
            yield Run(path, start, stop, tuple(held))
            held = []
        if not held:
            start = stop = begin
        held.append(piece)
        stop = max(stop, end)
    if held:
        yield Run(path, start, stop, tuple(held))


class Bringing:
    """Brings runs into memory.

    Args:
        tree: the files.
        decode: reads tensors without an extent.
        shared: the read-only map of a file that several readers share.
        writable: gives arrays that may be written to: what is mapped is copied page by page as it is written, and the
            file stays as it is. The maps of one such object are its own.
    """

    def __init__(
        self, tree: Tree, decode: Decode, shared: Callable[[str, FileSource], mmap.mmap], *, writable: bool
    ) -> None:
        self._tree, self._decode, self._shared, self._writable = tree, decode, shared, writable
        self._private: dict[str, mmap.mmap | None] = {}

    def arrays(self, runs: Sequence[Run], *, ahead: int = EVERYTHING) -> Iterator[tuple[Piece, Array]]:
        """Every piece with its array, in the order of *runs*.

        Args:
            runs: what is wanted.
            ahead: bytes that may be fetched before they are taken.
        """
        mapped = {run.path: found for run in runs if (found := self._map(run.path)) is not None}
        for path in mapped:
            source = self._tree.source(path)
            assert isinstance(source, FileSource)
            read_ahead(source.file, _merged(run for run in runs if run.path == path))
        for together in _grouped(runs, mapped):
            held = mapped.get(together[0].path)
            if held is not None:
                for piece in (piece for run in together for piece in run.pieces):
                    yield piece, shaped(held, piece.place[0], piece.spec, piece.dtype)
                continue
            for run, data in in_order(together, self._fetch, ahead=ahead):
                yield from self._pieces(run, data)
                del data

    def _pieces(self, run: Run, data: NDArray[np.uint8] | bytes) -> Iterator[tuple[Piece, Array]]:
        for piece in run.pieces:
            start = piece.place[0] - run.start if run.path else 0
            array = shaped(data, start, piece.stored, piece.dtype)
            if piece.rows is not None:
                array = array[piece.rows]
            if not array.flags.writeable and self._writable:
                array = array.copy()
            if not self._writable:
                array.flags.writeable = False
            yield piece, array

    def _fetch(self, run: Run) -> NDArray[np.uint8] | bytes:
        if not run.path:
            piece = run.pieces[0]
            return self._decode(self._tree, piece.found, piece.stored)
        data = np.empty(run.nbytes, np.uint8)
        fill(self._tree.source(run.path), run.start, data, run.path)
        return data

    def _map(self, path: str) -> mmap.mmap | None:
        source: Source | None = self._tree.source(path) if path else None
        if not isinstance(source, FileSource) or not source.size:
            return None
        if not self._writable:
            return self._shared(path, source)
        if path not in self._private:
            self._private[path] = _copy_on_write(source)
        return self._private[path]


def _copy_on_write(source: FileSource) -> mmap.mmap | None:
    """A private map; None when the file has gone and the source reads from elsewhere."""
    try:
        with source.file.open("rb") as handle:
            mapped = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_COPY)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StorageError(f"cannot map {source.file}: {error}", code="unreadable") from error
    return check_length(mapped, source, str(source.file))


def check_length(mapped: mmap.mmap, source: Source, path: str) -> mmap.mmap:
    """See that a map reaches as far as its file did when it was looked at.

    Raises:
        StorageError: it has become shorter (code ``unreadable``).
    """
    if len(mapped) < source.size:
        raise StorageError(
            f"{path} became shorter while it was open: {source.size:,} bytes before, {len(mapped):,} now",
            code="unreadable",
            path=path,
        )
    return mapped


def _merged(runs: Iterable[Run]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for run in runs:
        if found and run.start - found[-1][1] <= GAP:
            found[-1] = (found[-1][0], run.stop)
        else:
            found.append((run.start, run.stop))
    return found


def _grouped(runs: Sequence[Run], mapped: Mapping[str, object]) -> Iterator[list[Run]]:
    """Runs of one mapped file, or neighbours that are all fetched."""
    held: list[Run] = []
    for run in runs:
        if held and (run.path in mapped or held[0].path in mapped) and held[0].path != run.path:
            yield held
            held = []
        held.append(run)
    if held:
        yield held
