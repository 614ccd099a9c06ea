"""Which converters there are, the one that is wanted first when nobody says which."""

from __future__ import annotations

from functools import cache

from assay.conversion.frameworks import InSandbox
from assay.conversion.torch_files import TorchToSafetensors
from assay.ports.converters import Converter


@cache
def all_converters() -> tuple[Converter, ...]:
    """One instance of every converter."""
    return (
        TorchToSafetensors(),
        InSandbox(("pickle", "joblib"), "skops", "skops", ".skops"),
        InSandbox(("keras-h5",), "keras", "keras", ".keras"),
        InSandbox(("xgboost",), "ubj", "xgboost", ".ubj"),
        InSandbox(("pickle", "joblib"), "onnx", "onnx", ".onnx"),
    )
