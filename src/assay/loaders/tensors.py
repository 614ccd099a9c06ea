"""torch tensors over the arrays of an artifact: the same memory, no copy; or on another device.

Nothing of the files is executed: names, types and places come from the tensor index, bytes are taken as numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from assay.artifact.bulk import Piece, Run
from assay.artifact.layout import Array
from assay.errors import InvalidInput
from assay.loaders.devices import device_of
from assay.loaders.frameworks import need
from assay.loaders.staging import Staging, place
from assay.spec.tensor import TensorSpec
from assay.trees import Tree

FRAMEWORKS = ("torch", "numpy")

_VIEWED = {
    "bfloat16": np.uint16,
    "float8_e4m3fn": np.uint8,
    "float8_e4m3fnuz": np.uint8,
    "float8_e5m2": np.uint8,
    "float8_e5m2fnuz": np.uint8,
    "float8_e8m0fnu": np.uint8,
}
"""Types that numpy hands to torch as integers of the same width."""


class Together(Protocol):
    """The tensors of an artifact (``assay.artifact.tensors.Tensors``), as far as they are needed here."""

    def runs(self, only: str | Sequence[str] = (), *, rows: slice | None = None) -> list[Run]:
        """How the wanted tensors lie in the files."""

    def arrays(self, runs: Sequence[Run], *, ahead: int) -> Iterator[tuple[Piece, Array]]:
        """Pieces with their arrays, writable."""


def stream_torch(
    tensors: Together, tree: Tree, runs: Sequence[Run], *, device: object = None, ahead: int
) -> Iterator[tuple[str, Any]]:
    """Names and tensors in the order they lie in.

    Args:
        tensors: the artifact's.
        tree: its files.
        runs: what is wanted.
        device: where to, as torch names it; the processor's memory when None.
        ahead: bytes that may be fetched before they are taken.

    Raises:
        MissingDependency: torch is not installed.
        InvalidInput: torch has no such device, or no such type (codes ``no-device``, ``not-plain``).
    """
    torch = need("torch", extra="torch", what="load tensors")
    target = device_of(torch, device)
    if target.type == "cpu":
        return _shared(torch, tensors.arrays(runs, ahead=ahead))
    return _placed(torch, tensors, tree, runs, target, ahead)


def from_array(torch: Any, array: Array, dtype: str) -> Any:
    """A tensor over the memory of an array that may be written to; a copy only where torch cannot look at it.

    That is where bytes come in the other order, or do not begin at a multiple of an element.

    Raises:
        InvalidInput: torch has no such type (code ``not-plain``).
    """
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if not array.flags.aligned or not array.flags.writeable:
        array = array.copy()
    kind, viewed = torch_dtype(torch, dtype), _VIEWED.get(dtype)
    try:
        tensor = torch.from_numpy(array if viewed is None else array.view(viewed))
    except TypeError as error:
        raise _no_type(dtype) from error
    return tensor if viewed is None else tensor.view(kind)


def torch_dtype(torch: Any, dtype: str) -> Any:
    """Torch's type of a name in the tensor index.

    Raises:
        InvalidInput: it has none (code ``not-plain``).
    """
    kind = getattr(torch, dtype, None)
    if not isinstance(kind, torch.dtype):
        raise _no_type(dtype)
    return kind


def _no_type(dtype: str) -> InvalidInput:
    return InvalidInput(f"torch has no type {dtype}", code="not-plain", hint="framework='numpy' may have it")


def _shared(torch: Any, arrays: Iterable[tuple[Piece, Array]]) -> Iterator[tuple[str, Any]]:
    """What is one tensor under several names stays one."""
    known: dict[object, Any] = {}
    for piece, array in arrays:
        same = _sameness(piece.spec)
        tensor = known.get(same) if same is not None else None
        if tensor is None:
            tensor = from_array(torch, array, piece.spec.dtype)
            if same is not None:
                known[same] = tensor
        yield piece.name, tensor


def _sameness(spec: TensorSpec) -> object | None:
    """What tensors have in common that are the same one; None where nothing tells."""
    return None if spec.extent is None or not spec.size else (spec.extent, spec.dtype, spec.shape, spec.strides)


def _placed(
    torch: Any, tensors: Together, tree: Tree, runs: Sequence[Run], device: Any, ahead: int
) -> Iterator[tuple[str, Any]]:
    if device.type == "meta":
        for piece in (piece for run in runs for piece in run.pieces):
            yield piece.name, torch.empty(piece.spec.shape, dtype=torch_dtype(torch, piece.spec.dtype), device=device)
        return
    straight = [run for run in runs if run.path and not any(_foreign(piece) for piece in run.pieces)]
    rest = [run for run in runs if run not in straight]
    known: dict[object, Any] = {}
    staging = Staging.on(torch, device)
    for piece, flat in place(straight, tree, staging, lambda piece: torch_dtype(torch, piece.spec.dtype)):
        same = _sameness(piece.spec)
        tensor = known.setdefault(same, _view(flat, piece.spec)) if same is not None else _view(flat, piece.spec)
        yield piece.name, tensor
    for name, tensor in _shared(torch, tensors.arrays(rest, ahead=ahead)):
        yield name, tensor.to(device)


def _foreign(piece: Piece) -> bool:
    """Whether the bytes must be changed before a device can use them."""
    return not piece.dtype.isnative


def _view(flat: Any, spec: TensorSpec) -> Any:
    return flat.view(spec.shape) if spec.strides is None or not spec.size else flat.as_strided(spec.shape, spec.strides)
