"""Elements that an ONNX model writes number by number are those that the onnx package reads."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from assay.errors import NotFound
from assay.formats.onnx.files import OnnxFormat
from assay.spec.tensor import TensorSpec
from assay.trees import Tree

TYPED = [
    helper.make_tensor("int8", TensorProto.INT8, [3], [-1, 0, 127]),
    helper.make_tensor("uint8", TensorProto.UINT8, [3], [1, 0, 255]),
    helper.make_tensor("int32", TensorProto.INT32, [2, 2], [-(2**31), 1, 2, 3]),
    helper.make_tensor("int64", TensorProto.INT64, [2], [-(2**62), 5]),
    helper.make_tensor("uint64", TensorProto.UINT64, [2], [2**63 + 1, 5]),
    helper.make_tensor("bool", TensorProto.BOOL, [3], [True, False, True]),
    helper.make_tensor("float16", TensorProto.FLOAT16, [3], [0.5, -2.0, 65504.0]),
]


def model(tensors: list[TensorProto], nodes: list[onnx.NodeProto]) -> Tree:
    out = [helper.make_tensor_value_info("y", TensorProto.INT64, None)]
    graph = helper.make_graph([*nodes, helper.make_node("Identity", ["x"], ["y"])], "g", [], out, tensors)
    return Tree.of({"m.onnx": helper.make_model(graph).SerializeToString()})


def found(tree: Tree, name: str) -> TensorSpec:
    form = OnnxFormat()
    (paths,) = form.detect(tree)
    return next(spec for spec in form.describe(tree, paths).tensors if spec.name == name)


@pytest.mark.parametrize("tensor", TYPED, ids=lambda tensor: tensor.name)
def test_typed_data_is_read(tensor: TensorProto) -> None:
    tree = model([tensor], [])
    spec = found(tree, tensor.name)

    assert spec.extent is None
    assert OnnxFormat().tensor(tree, spec) == numpy_helper.to_array(tensor).tobytes()


@pytest.mark.parametrize(
    ("given", "dtype"),
    [({"value_int": -7}, np.int64), ({"value_ints": [1, -2, 3]}, np.int64), ({"value_floats": [0.5, 2.0]}, np.float32)],
    ids=["int", "ints", "floats"],
)
def test_numbers_of_a_constant_are_read(given, dtype) -> None:
    tree = model([], [helper.make_node("Constant", [], ["c"], **given)])

    data = OnnxFormat().tensor(tree, found(tree, "c"))

    assert data == np.array(next(iter(given.values())), dtype).tobytes()


def test_what_the_model_does_not_write_out_is_told() -> None:
    with pytest.raises(NotFound) as caught:
        OnnxFormat().tensor(model(TYPED, []), TensorSpec("other", "int64", ()))

    assert caught.value.code == "tensor-not-readable"
