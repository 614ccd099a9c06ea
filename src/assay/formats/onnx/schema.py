"""What the ONNX schema's numbers and names mean: element types, operator domains, quantising and Python operators.

Data only. Source: onnx.proto (``TensorProto.DataType``), docs/IR.md and docs/Operators.md of onnx, and the contrib
operator list of ONNX Runtime.
"""

from __future__ import annotations

ELEMENT_TYPES: dict[int, tuple[str, int]] = {
    1: ("float32", 32),
    2: ("uint8", 8),
    3: ("int8", 8),
    4: ("uint16", 16),
    5: ("int16", 16),
    6: ("int32", 32),
    7: ("int64", 64),
    8: ("string", 0),
    9: ("bool", 8),
    10: ("float16", 16),
    11: ("float64", 64),
    12: ("uint32", 32),
    13: ("uint64", 64),
    14: ("complex64", 64),
    15: ("complex128", 128),
    16: ("bfloat16", 16),
    17: ("float8_e4m3fn", 8),
    18: ("float8_e4m3fnuz", 8),
    19: ("float8_e5m2", 8),
    20: ("float8_e5m2fnuz", 8),
    21: ("uint4", 4),
    22: ("int4", 4),
    23: ("float4_e2m1fn", 4),
    24: ("float8_e8m0fnu", 8),
    25: ("uint2", 2),
    26: ("int2", 2),
    27: ("float6_e2m3fn", 6),
    28: ("float6_e3m2fn", 6),
}
"""``TensorProto.DataType`` to dtype name and bits per element; 0 bits means that elements have no fixed width."""

QUANTISED_DTYPES = frozenset({"int8", "uint8", "int4", "uint4", "int2", "uint2", "float4_e2m1fn"}) | frozenset(
    name for name, _ in ELEMENT_TYPES.values() if name.startswith(("float8", "float6"))
)
"""Element types that weights have only after quantisation."""

QUANTISING_OPERATORS = frozenset(
    {
        "QuantizeLinear",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "MatMulInteger",
        "ConvInteger",
        "MatMulNBits",
        "MatMulBnb4",
        "MatMulFpQ4",
        "MatMulInteger16",
        "MatMulIntegerToFloat",
        "DynamicQuantizeMatMul",
        "DynamicQuantizeLSTM",
        "GatherBlockQuantized",
        "QAttention",
        "QGemm",
        "QEmbedLayerNormalization",
        "QOrderedMatMul",
    }
)
"""Operators that exist for quantised numbers; every ``QLinear…`` operator is one too."""

PYTHON_OPERATORS = frozenset({"PyOp", "PyCustomOp", "PythonOp", "PythonOpGrad"})
"""Operators that call into a Python interpreter."""

KNOWN_DOMAINS = frozenset(
    {
        "",
        "ai.onnx",
        "ai.onnx.ml",
        "ai.onnx.preview",
        "ai.onnx.preview.training",
        "ai.onnx.training",
        "com.microsoft",
        "com.microsoft.dml",
        "com.microsoft.experimental",
        "com.microsoft.nchwc",
        "com.ms.internal.nhwc",
    }
)
"""Operator domains that ONNX itself or ONNX Runtime implements."""

EXTENSION_DOMAINS = {
    "ai.onnx.contrib": "onnxruntime-extensions",
    "com.microsoft.extensions": "onnxruntime-extensions",
}
"""Operator domains that a published library implements, and its distribution."""

CLASSICAL_DOMAIN = "ai.onnx.ml"

TASKS = {
    "TreeEnsembleClassifier": "classification",
    "TreeEnsembleRegressor": "regression",
    "LinearClassifier": "classification",
    "LinearRegressor": "regression",
    "SVMClassifier": "classification",
    "SVMRegressor": "regression",
}
"""What a classical operator does, where its name says so."""

CLASSICAL_MODELS = (*TASKS, "TreeEnsemble")
"""Classical operators that hold a trained predictor (the others prepare its input)."""
