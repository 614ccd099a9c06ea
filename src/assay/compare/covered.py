"""Which bytes of a file belong to tensors, whose elements are compared elsewhere, and what lies between them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from assay.compare.sides import Compared
from assay.spec.description import Description
from assay.spec.tensor import ELEMENT_BITS, TensorSpec
from assay.trees import Source, Window

CHUNK = 1 << 20
MAX_READ = 1 << 30
"""Bytes between tensors that are read of one file."""
_COMPARED = frozenset(ELEMENT_BITS)


@dataclass(slots=True)
class Cover:
    """The tensors of one file.

    Args:
        specs: all of them.
        places: offset to end of those that lie plainly, counted in the entry.
        shapes: how many there are per shape, of those that do not.
        complete: whether every tensor is listed.
    """

    specs: tuple[TensorSpec, ...] = ()
    places: dict[int, int] = field(default_factory=dict)
    shapes: Counter[tuple[int, ...]] = field(default_factory=Counter)
    complete: bool = True

    @classmethod
    def of(cls, side: Compared, path: str) -> Cover:
        """The tensors of an entry that are compared: those of the descriptions that hold the model's weights."""
        cover = cls()
        compared = side.inspection.weights or side.inspection.descriptions
        found = [one for one in descriptions(side, path) if any(one is other for other in compared)]
        cover.complete = all(description.complete for description in found)
        specs: list[TensorSpec] = []
        for description in found:
            for spec in description.tensors:
                if spec.extent is not None and spec.extent.path != path:
                    continue
                specs.append(spec)
                if spec.extent is None:
                    cover.shapes[spec.shape] += 1
                else:
                    end = spec.extent.offset + spec.extent.length
                    cover.places[spec.extent.offset] = max(end, cover.places.get(spec.extent.offset, 0))
        cover.specs = tuple(specs)
        return cover

    def holds(self, place: tuple[int, int] | None, shape: tuple[int, ...], dtype: str) -> bool:
        """Whether an array of plain numbers is one of the tensors: by its place (offset, length), else by its shape.

        Taken by shape it is taken once, so that an array nobody lists is not mistaken for one that is.
        """
        if dtype not in _COMPARED:
            return False
        if place is not None and self.places.get(place[0]) == sum(place):
            return True
        if self.shapes[shape] > 0:
            self.shapes[shape] -= 1
            return True
        return False


def descriptions(side: Compared, path: str) -> list[Description]:
    """The descriptions that cover an entry, leading first."""
    return [found for found in side.inspection.descriptions if path in found.paths]


def gaps(cover: Cover, size: int) -> list[tuple[int, int]]:
    """The ranges of a file of *size* bytes that belong to no tensor."""
    found = []
    position = 0
    for start in sorted(cover.places):
        if start > position:
            found.append((position, start))
        position = max(position, cover.places[start])
    if position < size:
        found.append((position, size))
    return found


def rest_digest(source: Source, cover: Cover) -> str | None:
    """A digest of everything in a file that belongs to no tensor, zeros between them left out; None when too much."""
    ranges = gaps(cover, source.size)
    if sum(end - start for start, end in ranges) > MAX_READ:
        return None
    digest = hashlib.sha256()
    for start, end in ranges:
        padding = end - start < 4096 and not source.read(start, end - start).strip(b"\0")
        if padding:
            continue
        digest.update(b"|")
        for block in _blocks(source, start, end):
            digest.update(block)
    return digest.hexdigest()


def holds_tensors_alone(side: Compared, path: str) -> bool:
    """Whether every byte of an entry, padding aside, belongs to a tensor that is compared."""
    cover = Cover.of(side, path)
    plain = bool(cover.places) and cover.complete and not cover.shapes
    return plain and rest_digest(side.tree.source(path), cover) == hashlib.sha256().hexdigest()


def window_digest(window: Window) -> str:
    """A digest of a whole window."""
    digest = hashlib.sha256()
    for at in range(0, window.size, CHUNK):
        digest.update(window.read(at, CHUNK))
    return digest.hexdigest()


def _blocks(source: Source, start: int, end: int) -> Iterator[bytes]:
    while start < end:
        block = source.read(start, min(CHUNK, end - start))
        if not block:
            return
        yield block
        start += len(block)
