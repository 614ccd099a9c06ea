"""The same elements in another order: transposed by a conversion, reshaped, rows of attention heads interleaved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations
from math import prod

import numpy as np
from numpy.typing import NDArray

from assay.artifact.elements import Array

HEADS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 15, 16, 18, 20, 24, 25, 28, 30, 32, 36, 40, 48, 56, 64, 71, 80, 96, 128)
"""Numbers of attention heads that are tried."""

MAX_PERMUTED = 4
"""Dimensions up to which every order of axes is tried."""

_KERNELS = ((4, 3, 0, 1, 2), (2, 3, 4, 1, 0))
"""Orders of a three-dimensional convolution's axes between the conventions (out, in, …) and (…, in, out)."""


@dataclass(frozen=True, slots=True)
class Arrangement:
    """How the old elements are laid out to be compared with the new ones.

    Args:
        transform: what it is called in a diff; None for nothing.
        axes: order of the old axes.
        split: heads, and the two numbers whose order is changed in the rows of each (rotary embeddings are stored
            as two halves or interleaved).
        shared: block at the origin that both have.
    """

    transform: str | None = None
    axes: tuple[int, ...] | None = None
    split: tuple[int, int, int] | None = None
    shared: tuple[int, ...] | None = None

    def apply(self, old: Array) -> Array:
        """The old elements, arranged; a view."""
        if self.axes is not None:
            return old.transpose(self.axes)
        if self.split is not None:
            return old.reshape((*self.split, *old.shape[1:])).swapaxes(1, 2)
        return self.cut(old)

    def undo(self, new: Array) -> Array:
        """The new elements in the order of the old ones; a view."""
        if self.axes is not None:
            return new.transpose(tuple(int(axis) for axis in np.argsort(self.axes)))
        if self.split is not None:
            heads, first, second = self.split
            return new.reshape((heads, second, first, *new.shape[1:])).swapaxes(1, 2)
        return self.cut(new)

    def cut(self, array: Array) -> Array:
        """The shared block; all of it where nothing is cut."""
        if self.shared is None:
            return array
        return array[tuple(slice(size) for size in self.shared)]

    @property
    def moves(self) -> bool:
        """Whether it is more than reading flat arrays side by side."""
        return self.axes is not None or self.split is not None or self.shared is not None

    def old_places(self, new: NDArray[np.int64], old_shape: tuple[int, ...]) -> NDArray[np.int64]:
        """Where in the flat old array the elements at flat places of the new one lie."""
        if self.axes is not None:
            shape = tuple(old_shape[axis] for axis in self.axes)
            index = np.unravel_index(new, shape)
            back: list[NDArray[np.int64]] = [new] * len(shape)
            for at, axis in enumerate(self.axes):
                back[axis] = index[at]
            return np.ravel_multi_index(tuple(back), old_shape).astype(np.int64)
        if self.split is not None:
            heads, first, second = self.split
            rest = prod(old_shape) // (heads * first * second)
            head, row, column, place = np.unravel_index(new, (heads, second, first, rest))
            return np.ravel_multi_index((head, column, row, place), (heads, first, second, rest)).astype(np.int64)
        return new


SAME = Arrangement()
RESHAPED = Arrangement("reshaped")


def plain_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape without dimensions of one."""
    return tuple(size for size in shape if size != 1)


def transpositions(old: tuple[int, ...], new: tuple[int, ...]) -> Iterator[Arrangement]:
    """Every order of the old axes that gives the new shape, the identity left out."""
    if len(old) != len(new) or sorted(old) != sorted(new) or len(old) < 2:
        return
    orders = permutations(range(len(old))) if len(old) <= MAX_PERMUTED else iter(_KERNELS)
    seen = {plain_order(range(len(old)), old)}
    for axes in orders:
        order = plain_order(axes, old)
        if len(axes) == len(old) and order not in seen and tuple(old[axis] for axis in axes) == new:
            seen.add(order)
            yield Arrangement("transposed", axes=tuple(axes))


def plain_order(axes: tuple[int, ...] | range, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The order of the axes that are longer than one: only these move elements."""
    return tuple(axis for axis in axes if shape[axis] != 1)


def interleavings(shape: tuple[int, ...]) -> Iterator[Arrangement]:
    """Rows of attention heads, from two halves to interleaved and back."""
    if not shape:
        return
    for heads in HEADS:
        width, rest = divmod(shape[0], heads)
        if rest or width < 4 or width % 2:
            continue
        yield Arrangement("heads interleaved", split=(heads, 2, width // 2))
        yield Arrangement("heads interleaved", split=(heads, width // 2, 2))


def shared_block(old: tuple[int, ...], new: tuple[int, ...]) -> Arrangement | None:
    """The block at the origin that two tensors of one rank have in common; None when there is none."""
    if len(old) != len(new) or not old:
        return None
    block = tuple(min(pair) for pair in zip(old, new, strict=True))
    return Arrangement(shared=block) if all(block) else None
