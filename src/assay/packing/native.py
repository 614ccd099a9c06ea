"""The functions of ``planes``, compiled (``_planes.c``): the same bytes, about five times as fast.

The library is built when the package is installed where there is a C compiler (``hatch_build.py``), and is not missed
otherwise. ``ASSAY_NATIVE=0`` in the environment leaves it alone: for comparisons, and to be sure where it is suspected.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from assay.packing import planes
from assay.packing.planes import Counts, Kernels

Bytes = NDArray[np.uint8]

LIBRARY = Path(__file__).with_name("_planes.so")
VERSION = 2
"""What the library must say of itself: one left over from another release is not used."""

_AS_IT_IS, _ROTATED, _ORDERED = 0, 1, 2
_WIDTHS = (1, 2, 4, 8)


class Native:
    """The compiled kernels.

    Args:
        library: the file.

    Raises:
        OSError: it cannot be loaded here.
        ValueError: it is of another release.
    """

    def __init__(self, library: Path = LIBRARY) -> None:
        loaded = ctypes.CDLL(str(library))
        if sys.byteorder != "little" or loaded.assay_planes_version() != VERSION:
            raise ValueError(f"{library} was not built for this release")
        address, number, count = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
        self._split, self._join = loaded.assay_split, loaded.assay_join
        self._match, self._survey = loaded.assay_match, loaded.assay_survey
        self._split.argtypes = [address, address, address, count, number, number]
        self._join.argtypes = self._match.argtypes = [address, address, address, count, number, number]
        self._survey.argtypes = [address, count, number, address]
        self._split.restype = self._join.restype = None
        self._match.restype = ctypes.c_int
        self._survey.restype = ctypes.c_uint

    def split(
        self, words: Bytes, width: int, *, rotate: bool, base: Bytes | None, ordered: bool = False, into: Bytes
    ) -> None:
        """See ``planes.split``."""
        count = _count(words, width, base)
        if into.shape != (width, count):
            raise ValueError(f"planes of shape {into.shape} for {count} words of {width} bytes")
        how = _how(base, rotate=rotate, ordered=ordered)
        self._split(_read(words), None if base is None else _read(base), _written(into), count, width, how)

    def join(
        self,
        planes: Sequence[Bytes],
        width: int,
        *,
        rotate: bool,
        base: Bytes | None,
        ordered: bool = False,
        into: Bytes,
    ) -> None:
        """See ``planes.join``."""
        count = _count(into, width, base)
        how = _how(base, rotate=rotate, ordered=ordered)
        lanes = _lanes(planes, width, count)
        self._join(lanes, None if base is None else _read(base), _written(into), count, width, how)

    def match(
        self,
        planes: Sequence[Bytes],
        width: int,
        *,
        rotate: bool,
        base: Bytes | None,
        ordered: bool = False,
        words: Bytes,
    ) -> bool:
        """See ``planes.match``."""
        count = _count(words, width, base)
        how = _how(base, rotate=rotate, ordered=ordered)
        lanes = _lanes(planes, width, count)
        return bool(self._match(lanes, None if base is None else _read(base), _read(words), count, width, how))

    def survey(self, planes: Bytes) -> tuple[int, Counts]:
        """See ``planes.survey``."""
        width, count = planes.shape
        counts = np.empty((width, 256), np.uint32)
        return self._survey(_read(planes), count, width, counts.ctypes.data), counts


def kernels() -> Kernels:
    """The fastest kernels that there are here."""
    if os.environ.get("ASSAY_NATIVE") == "0":
        return planes
    try:
        return Native()
    except (OSError, ValueError):
        return planes


def _how(base: Bytes | None, *, rotate: bool, ordered: bool) -> int:
    if base is not None:
        return _ORDERED if ordered else _AS_IT_IS
    return _ROTATED if rotate else _AS_IT_IS


def _count(words: Bytes, width: int, base: Bytes | None) -> int:
    """How many words there are; the library trusts what is checked here."""
    if width not in _WIDTHS or len(words) % width or (base is not None and len(base) != len(words)):
        raise ValueError(f"{len(words)} bytes as words of {width}, base {None if base is None else len(base)}")
    return len(words) // width


def _lanes(planes: Sequence[Bytes], width: int, count: int) -> ctypes.Array[ctypes.c_void_p]:
    if len(planes) != width or any(len(plane) != count for plane in planes):
        raise ValueError(f"{len(planes)} planes for {count} words of {width} bytes")
    return (ctypes.c_void_p * width)(*[_read(plane) for plane in planes])


def _read(array: Bytes) -> int:
    if array.dtype != np.uint8 or not array.flags.c_contiguous:
        raise ValueError("bytes that do not lie one after the other")
    return array.ctypes.data


def _written(array: Bytes) -> int:
    if not array.flags.writeable:
        raise ValueError("memory that cannot be written")
    return _read(array)
