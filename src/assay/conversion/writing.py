"""Writing safetensors files: a header, then the tensors' bytes as they come, so that memory stays small.

Source of the layout: the format section of the safetensors README. Tensors are ordered as its own library does, the
widest elements first, so that every tensor is aligned to its elements.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from assay.errors import InvalidInput, StorageError
from assay.formats.safetensors.header import DTYPES, MAX_HEADER
from assay.spec.tensor import ELEMENT_BITS, TensorSpec

WORDS = {ours: theirs for theirs, ours in DTYPES.items() if ELEMENT_BITS[ours] % 8 == 0}
"""Our names of element types of whole bytes, and the format's."""

_ALIGN = 8

Pieces = Callable[[TensorSpec], Iterator[bytes]]
"""Gives a tensor's elements in C order, little-endian, piece by piece."""


def write_safetensors(
    file: Path, tensors: Sequence[TensorSpec], pieces: Pieces, *, metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors into one file.

    Args:
        file: written anew.
        tensors: name, element type and shape of each.
        pieces: gives their bytes.
        metadata: what the header says besides.

    Raises:
        InvalidInput: an element type has no word in the format, or there are too many tensors (code
            ``not-convertible``).
        StorageError: it cannot be written.
    """
    ordered = sorted(tensors, key=lambda spec: (-ELEMENT_BITS.get(spec.dtype, 0), spec.name))
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    offset = 0
    for spec in ordered:
        if spec.dtype not in WORDS:
            raise InvalidInput(
                f"tensor {spec.name!r:.200} holds {spec.dtype}, which safetensors has no type for",
                code="not-convertible",
            )
        size = spec.size * ELEMENT_BITS[spec.dtype] // 8
        header[spec.name] = {
            "dtype": WORDS[spec.dtype],
            "shape": list(spec.shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGN)
    if len(text) > MAX_HEADER:
        raise InvalidInput(
            f"{len(ordered):,} tensors need a header of {len(text):,} bytes, safetensors allows {MAX_HEADER:,}",
            code="not-convertible",
        )
    try:
        with file.open("xb") as handle:
            handle.write(len(text).to_bytes(8, "little") + text)
            for spec in ordered:
                for piece in pieces(spec):
                    handle.write(piece)
    except OSError as error:
        raise StorageError.of(error, f"cannot write {file}") from error
