"""Proving that two descriptions hold the same tensors, each read through its own format's tensor index."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from assay.artifact.reader import Artifact, Decode, Tensor
from assay.errors import IntegrityError
from assay.ports.converters import MAX_DIGESTS, Proof
from assay.spec.description import Description
from assay.spec.inspection import Inspection
from assay.trees import Tree

_ROWS = 1 << 24
# Bytes that are copied at a time where elements do not lie in order.


def same_tensors(
    source: tuple[Tree, Description], result: tuple[Tree, Description], names: Mapping[str, str], *, decode: Decode
) -> Proof:
    """Compare tensors bit for bit.

    Args:
        source: files and what they hold.
        result: files that were made of it, and what they hold.
        names: tensor of the result to tensor of the source; the result must hold exactly these.
        decode: reads tensors without an extent.

    Raises:
        IntegrityError: they differ; the message names the first tensor that does (code ``not-equal``).
    """
    before, after = (_opened(tree, found, decode) for tree, found in (source, result))
    if set(after.tensors) != set(names):
        odd = sorted(set(after.tensors) ^ set(names))
        raise _unequal(f"the result holds {len(after.tensors)} tensors, expected {len(names)}: {odd[0]!r:.200} is odd")
    total = hashlib.sha256()
    digests: dict[str, str] = {}
    for name in sorted(names):
        theirs, ours = before.tensors[names[name]], after.tensors[name]
        if (theirs.dtype, theirs.shape) != (ours.dtype, ours.shape):
            raise _unequal(f"tensor {name!r:.200} is {ours}, its source {theirs}")
        digest = _digest(ours)
        if digest != _digest(theirs):
            raise _unequal(f"tensor {name!r:.200} does not have the bits of its source")
        total.update(f"{name}\0{ours.dtype}\0{ours.shape}\0{digest}\n".encode())
        if len(digests) < MAX_DIGESTS:
            digests[name] = digest
    return Proof("tensors", tensors=len(names), digests=digests, digest=total.hexdigest())


def _opened(tree: Tree, found: Description, decode: Decode) -> Artifact:
    return Artifact(tree, Inspection((found,), (), (), {}), manifest=None, decode=decode)


def _digest(tensor: Tensor) -> str:
    """The sha256 of the elements in C order, little-endian."""
    digest = hashlib.sha256()
    array = tensor.numpy()
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    if array.flags.c_contiguous or array.ndim == 0 or array.size == 0:
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        return digest.hexdigest()
    step = max(1, _ROWS // max(1, array[0].nbytes))
    for start in range(0, len(array), step):
        block = np.ascontiguousarray(array[start : start + step])
        digest.update(block.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _unequal(message: str) -> IntegrityError:
    return IntegrityError(
        message,
        code="not-equal",
        hint="nothing was written; the source is as it was. Please report this with the file, if it may be shown",
    )
