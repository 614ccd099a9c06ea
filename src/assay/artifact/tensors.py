"""The tensors of an artifact: one at a time, all or some at once, or as they arrive."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from assay.artifact.bulk import EVERYTHING, Bringing, Piece, Run, Specs, chosen, no_tensor, runs_of
from assay.artifact.layout import Array
from assay.artifact.ranges import Index
from assay.spec.tensor import TensorSpec
from assay.trees import Tree

AHEAD = 128 << 20
"""Bytes that are fetched before they are asked for, while tensors stream."""


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


class Begin(Protocol):
    """Makes what brings tensors into memory."""

    def __call__(self, *, writable: bool) -> Bringing:
        """With maps of its own where *writable*."""


class Tensors(Mapping[str, Tensor]):
    """Tensors by name; none is read before it is asked for.

    Reading tensors executes nothing of the files, whatever format they have, so no policy is asked.

    Args:
        named: the tensors.
        specs: what describes each.
        tree: the files.
        begin: makes what brings many into memory.
    """

    def __init__(self, named: Mapping[str, Tensor], specs: Specs, tree: Tree, begin: Begin) -> None:
        self._by_name, self._specs, self._tree, self._begin = named, specs, tree, begin

    def load(
        self, only: str | Sequence[str] = (), *, rows: slice | None = None, writable: bool = False
    ) -> dict[str, Array]:
        """All tensors, or some, as arrays.

        Those in local files are views of a memory map and are read ahead while the first are used; others are read,
        by several threads, into the arrays that are returned, and no byte more than they need.

        Args:
            only: shell patterns of names (``encoder.*``), or one.
            rows: these rows of each one's first dimension; scalars come whole.
            writable: arrays may be written to. The file stays as it is: what is mapped is copied page by page as it is
                written.

        Raises:
            NotFound: a pattern fits no tensor (code ``tensor-not-found``).
            InvalidInput: one of them is no plain array (code ``not-plain``), or *rows* go backwards.
            BadFormat, IntegrityError, StorageError: as the message says.
        """
        pieces = chosen(self._specs, only, rows)
        found = {
            piece.name: array
            for piece, array in self._begin(writable=writable).arrays(runs_of(pieces, self._tree), ahead=EVERYTHING)
        }
        return {piece.name: found[piece.name] for piece in pieces}

    def stream(
        self,
        only: str | Sequence[str] = (),
        *,
        rows: slice | None = None,
        writable: bool = False,
        ahead: int = AHEAD,
    ) -> Iterator[tuple[str, Array]]:
        """Names and arrays one after the other, in the order they lie in: the first before the last has arrived.

        Args:
            only: as for ``load``.
            rows: as for ``load``.
            writable: as for ``load``.
            ahead: bytes that may be read before they are asked for; more is in memory only where you keep it.

        Raises:
            As ``load``; what is wrong with the request, before the first.
        """
        runs = runs_of(chosen(self._specs, only, rows), self._tree)
        arrays = self._begin(writable=writable).arrays(runs, ahead=ahead)
        return ((piece.name, array) for piece, array in arrays)

    def runs(self, only: str | Sequence[str] = (), *, rows: slice | None = None) -> list[Run]:
        """How the wanted tensors lie together in the files, for who reads their bytes elsewhere than into arrays.

        Raises:
            As ``load``.
        """
        return runs_of(chosen(self._specs, only, rows), self._tree)

    def arrays(self, runs: Sequence[Run], *, ahead: int = EVERYTHING) -> Iterator[tuple[Piece, Array]]:
        """The pieces of *runs* with their arrays, writable."""
        return self._begin(writable=True).arrays(runs, ahead=ahead)

    def __getitem__(self, name: str) -> Tensor:
        try:
            return self._by_name[name]
        except KeyError:
            raise no_tensor(name, self._by_name) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name
