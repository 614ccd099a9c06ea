"""Which tensors count as trained numbers."""

from __future__ import annotations

import pytest

from assay.spec.description import Description
from assay.spec.tensor import TensorSpec


@pytest.mark.parametrize(
    ("name", "dtype", "trained"),
    [
        ("layer.weight", "float32", True),
        ("layer.weight", "bfloat16", True),
        ("layer.weight", "float8_e4m3fn", True),
        ("layer.weight", "int8", True),
        ("layer.weight", "q4_k", True),
        ("position_ids", "int64", False),
        ("axes", "int32", False),
        ("mask", "bool", False),
        ("vocabulary", "string", False),
        ("layer.qweight", "int32", True),
        ("layer.weight_packed", "int32", True),
    ],
)
def test_floats_and_quantised_weights_are_trained_shapes_indices_and_masks_are_not(
    name: str, dtype: str, trained: bool
) -> None:
    assert TensorSpec(name, dtype, (2, 3)).trained is trained


def test_a_description_counts_the_tensors_that_may_be_trained_unless_it_knows_better() -> None:
    tensors = (TensorSpec("w", "float16", (4, 5)), TensorSpec("shape", "int64", (2,)))

    assert Description(format="f", paths=("m",), tensors=tensors).parameters == 20
    assert Description(format="f", paths=("m",), tensors=tensors, parameter_count=7).parameters == 7
    assert Description(format="f", paths=("m",)).parameters is None
