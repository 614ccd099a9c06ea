"""Elements a stretch at a time, wherever they lie."""

from __future__ import annotations

import numpy as np
import pytest

from assay.artifact.elements import SMALL, RangeElements
from assay.errors import BadFormat
from assay.trees.window import MemorySource


class Counting(MemorySource):
    """Notes how many bytes were read."""

    count = 0

    def read(self, offset: int, length: int) -> bytes:
        self.count += length
        return super().read(offset, length)


def far(size: int) -> tuple[RangeElements, Counting]:
    source = Counting(bytes(3) + np.arange(size, dtype="<i4").tobytes())
    return RangeElements(source, 3, (size,), np.dtype("<i4")), source


@pytest.mark.parametrize("size", [100, SMALL], ids=["small", "large"])
@pytest.mark.parametrize(
    "places", [[0], [1, 2, 3, 50, 51, 99], [99, 1, 2], list(range(0, 100, 2)), []], ids=lambda places: str(len(places))
)
def test_single_places_of_a_far_tensor_are_its_elements(size, places) -> None:
    elements, _ = far(size)

    assert elements.pick(np.array(places, np.int64)).tolist() == places


def test_a_few_places_of_a_large_tensor_do_not_cost_all_of_it() -> None:
    elements, source = far(SMALL)

    elements.pick(np.array([5, 6, 7, SMALL - 1], np.int64))

    assert source.count == 16


def test_a_source_that_ends_before_its_tensor_is_told() -> None:
    elements = RangeElements(MemorySource(bytes(30)), 0, (10,), np.dtype("<i4"))

    with pytest.raises(BadFormat, match="expected 16 bytes of a tensor, found 6"):
        elements.stretch(6, 10)
