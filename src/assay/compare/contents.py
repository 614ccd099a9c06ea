"""The tensors of one side: which of them are compared, and how their elements are reached."""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass, field
from math import prod

import numpy as np

from assay.artifact.elements import Elements
from assay.artifact.reader import Artifact, numpy_dtype
from assay.compare.quantised import BLOCK_TYPES, BlockElements, BlockType
from assay.compare.sides import Compared
from assay.errors import BadFormat, InvalidInput
from assay.spec.description import Description
from assay.spec.tensor import TensorSpec

_TRAINING = re.compile(
    r"(?:^|[./])(?:optimizer|optimizers|optimizer_states?|optimizer_weights|optim|opt_state|lr_schedulers?"
    r"|grad_scaler)(?:[./]|$)"
    r"|(?:^|/)\.OPTIMIZER_SLOT/"
    r"|/(?:Adam|AdamW|Adamax|Nadam|Momentum|RMSProp|Adagrad|Adadelta|Ftrl|LAMB|LARS)(?:_\d+)?$"
    r"|(?:^|/)(?:beta[12]_power(?:_\d+)?|global_step|save_counter)(?:/\.ATTRIBUTES/.*)?$"
)
"""Names of what an optimizer remembers: nothing that the model computes depends on it."""

NO_NUMBERS = frozenset({"void", "object", "string", "bytes", "opaque", "compound", "datetime64", "timedelta64"})
BY_BYTES = frozenset({"pickle", "joblib", "skops"})
"""Formats whose arrays of records, texts and objects are compared beside the tensors, field by field or by bytes."""

_DECODING = threading.Lock()
"""Formats decode one tensor at a time: their budget is no matter of several threads, and memory is bounded so."""


@dataclass(frozen=True, slots=True)
class Content:
    """One tensor of a side.

    Args:
        name: unique on its side.
        spec: as the file has it.
        found: what describes it.
        artifact: where it is read.
        key: says which bytes these are, over all artifacts; None where files were not pushed.
    """

    name: str
    spec: TensorSpec
    found: Description
    artifact: Artifact = field(repr=False, compare=False)
    key: tuple[str, str] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Elements per dimension."""
        return self.spec.shape

    @property
    def blocks(self) -> BlockType | None:
        """How its numbers lie in blocks; None when they do not, or in no way that is understood."""
        return BLOCK_TYPES.get(self.spec.dtype) if self.spec.extent is not None else None

    @property
    def dtype(self) -> np.dtype[np.generic] | None:
        """What its elements are, as numpy has it, byte order aside; None for no plain numbers."""
        try:
            return numpy_dtype(TensorSpec(self.name, self.spec.dtype, ()))
        except InvalidInput:
            return None

    @property
    def comparable(self) -> bool:
        """Whether its elements can be taken as numbers."""
        dtype = self.dtype
        return self.blocks is not None or (dtype is not None and not (dtype.kind == "V" and dtype.itemsize > 4))

    @property
    def floating(self) -> bool:
        """Whether its elements are floats, or stand for floats."""
        dtype = self.dtype
        return self.blocks is not None or (dtype is not None and dtype.kind in "fVc" and "int" not in self.spec.dtype)

    @property
    def nbytes(self) -> int:
        """Bytes to go through."""
        return self.spec.nbytes or 0

    def elements(self) -> Elements:
        """Its elements as numbers.

        Raises:
            AssayError: they cannot be read.
        """
        if self.blocks is not None:
            return BlockElements(self.stored(), self.shape, self.blocks)
        if self.spec.extent is None:
            with _DECODING:
                return self.artifact.elements(self.found, self.spec)
        _check_repeats(self.spec)
        return self.artifact.elements(self.found, self.spec)

    def stored(self) -> Elements:
        """Its bytes as they are stored.

        Raises:
            AssayError: they cannot be read.
        """
        if self.spec.extent is None:
            with _DECODING:
                return self.artifact.elements(self.found, self.spec, np.dtype(np.uint8))
        return self.artifact.elements(self.found, self.spec, np.dtype(np.uint8))


def contents(side: Compared) -> tuple[list[Content], int]:
    """The tensors of a side that are compared, and how many of an optimizer are not.

    Tensors without elements hold nothing and are left out.
    """
    kept, left = [], 0
    for name, found, spec in side.artifact.weights():
        if _TRAINING.search(name):
            left += 1
        elif spec.size and not (found.format in BY_BYTES and spec.dtype in NO_NUMBERS):
            kept.append(Content(name, spec, found, side.artifact, _key(side, found, spec)))
    return kept, left


def _key(side: Compared, found: Description, spec: TensorSpec) -> tuple[str, str] | None:
    """Digest of the blob and place in it; digest of all blobs and the name, where the bytes lie in no one place."""
    paths = (spec.extent.path,) if spec.extent is not None else found.paths
    digests = [side.digests.get(path) for path in paths]
    if not digests or None in digests:
        return None
    place = [spec.extent.offset, spec.extent.length] if spec.extent is not None else [spec.name]
    kind = [spec.dtype, list(spec.shape), spec.big_endian, list(spec.strides) if spec.strides else None]
    return "+".join(str(digest) for digest in digests), json.dumps([place, kind], separators=(",", ":"))


def _check_repeats(spec: TensorSpec) -> None:
    """An expanded tensor may state any number of elements over few bytes: going through them would have no end."""
    if spec.strides is None or spec.extent is None or spec.size <= 1 << 24:
        return
    if spec.size > 8 * spec.extent.length:
        raise BadFormat(f"tensor {spec.name!r} states {spec.size:,} elements over {spec.extent.length:,} bytes")


def same_size(old: Content, new: Content) -> bool:
    """Whether both have as many elements."""
    return prod(old.shape) == prod(new.shape)
