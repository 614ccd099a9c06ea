"""What packing would store, told from a few blocks: at most so much, because equal and alike tensors cost less."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from assay.errors import AssayError
from assay.packing import codec
from assay.packing.codec import BLOCK, OPAQUE, WORDS, Words
from assay.ports.packs import Stretch, ToPack
from assay.service.packing_plan import Plan
from assay.service.registry import Registry
from assay.trees import Source

_SAMPLES = 16
"""Blocks that are encoded per kind of words: about a hundredth of a second each."""
_SAMPLED = 256 << 10
"""Bytes of one of them."""
_TENSORS = 4
"""Tensors of a file of which a block is encoded: the largest."""


def estimate(registry: Registry, planned: Plan) -> int:
    """Bytes that would be stored if no two tensors were equal or alike; encodes a few blocks, reads no whole file."""
    bytes_of: dict[str, int] = defaultdict(int)
    read: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for job in planned.jobs:
        for wanted, size in zip(job.wanted, job.sizes, strict=True):
            numbers = 0
            for tensor in wanted.tensors:
                if tensor.offset + tensor.length <= size and numbers + tensor.length <= size:
                    bytes_of[_kind(tensor)] += tensor.length
                    numbers += tensor.length
            bytes_of[""] += size - numbers
            _sample(registry, wanted, size - numbers, read)
    return sum(int(size * _share(read[kind])) for kind, size in bytes_of.items())


def _kind(tensor: Stretch) -> str:
    return tensor.dtype if tensor.dtype in WORDS else "bytes"


def _share(read: Sequence[int]) -> float:
    _, raw, stored = read
    return min(1.0, stored / raw) if raw else 1.0


def _sample(registry: Registry, wanted: ToPack, others: int, read: dict[str, list[int]]) -> None:
    """Encode a few blocks of a file, as far as there are too few of their kind."""
    try:
        source = registry.blobs.open(wanted.digest)
        for kind, words, offset, length in _places(wanted, source.size, others):
            seen = read[kind]
            if seen[0] < _SAMPLES and length:
                seen[0] += 1
                seen[1] += length
                seen[2] += _encoded(source, offset, length, words)
    except AssayError:
        return  # packing will say what is wrong with it


def _places(wanted: ToPack, size: int, others: int) -> Iterator[tuple[str, Words, int, int]]:
    largest = sorted(wanted.tensors, key=lambda one: -one.length)[:_TENSORS]
    for tensor in largest:
        words = WORDS.get(tensor.dtype, Words())
        middle = tensor.length // 2 // words.width * words.width
        length = min(_SAMPLED, tensor.length - middle) // words.width * words.width
        if tensor.offset + tensor.length <= size:
            yield _kind(tensor), words, tensor.offset + middle, length
    if not largest:
        yield "", OPAQUE, size // 2, min(_SAMPLED, size - size // 2)
    elif others > BLOCK:
        ends = sorted(tensor.offset + tensor.length for tensor in wanted.tensors)
        yield "", OPAQUE, ends[-1], max(0, min(_SAMPLED, size - ends[-1]))


def _encoded(source: Source, offset: int, length: int, words: Words) -> int:
    raw = np.frombuffer(source.read(offset, length), np.uint8)
    return sum(len(part) for part in codec.encode(raw, words))
