"""Which formats there are: ours in order of preference, then those of installed plugins.

A plugin is any distribution with an entry point in the group ``assay.formats`` that names a ``Format`` class or
instance (``docs/how-to/add-a-format.md``). One that cannot be imported is reported by a warning and left out: a broken
plugin must not keep anybody from packing a model.
"""

from __future__ import annotations

import warnings
from functools import cache
from importlib.metadata import entry_points

from assay.formats.catboost import CatBoostFormat
from assay.formats.coreml import CoreMl
from assay.formats.crfsuite import CRFSuiteFormat
from assay.formats.fasttext import FastTextFormat
from assay.formats.ggml import GGMLFormat
from assay.formats.gguf import GgufFormat
from assay.formats.hdf5 import Hdf5
from assay.formats.hf_diffusers import DiffusersFormat
from assay.formats.hf_peft import PeftFormat
from assay.formats.huggingface import TransformersFormat
from assay.formats.keras_h5 import KerasH5
from assay.formats.keras_zip import KerasArchive
from assay.formats.lightgbm import LightGBMFormat
from assay.formats.mlflow import MLflowFormat
from assay.formats.npz import NpzFormat
from assay.formats.onnx import Onnx
from assay.formats.openvino import OpenVino
from assay.formats.pickled import JoblibFormat, PickleFormat
from assay.formats.pmml import PMMLFormat
from assay.formats.pytorch import PyTorch
from assay.formats.pytorch_export import TorchExport
from assay.formats.safetensors import SafetensorsFormat
from assay.formats.savedmodel import SavedModel
from assay.formats.sentence_transformers import SentenceTransformersFormat
from assay.formats.skops import SkopsFormat
from assay.formats.spacy import SpacyFormat
from assay.formats.tf_checkpoint import TensorFlowCheckpoint
from assay.formats.tf_frozen import FrozenGraph
from assay.formats.tflite import TensorFlowLite
from assay.formats.torch_package import TorchPackage, TorchServe
from assay.formats.torchscript import TorchScript
from assay.formats.xgboost import XGBoostFormat
from assay.ports.formats import Format

GROUP = "assay.formats"

_BUILTIN: tuple[type[Format], ...] = (
    # What a folder of files means together, the most specific first.
    MLflowFormat,
    SentenceTransformersFormat,
    DiffusersFormat,
    PeftFormat,
    TransformersFormat,
    SpacyFormat,
    # Single files with their side files, safest and most complete first.
    SafetensorsFormat,
    PyTorch,
    TorchScript,
    TorchExport,
    GgufFormat,
    KerasArchive,
    KerasH5,
    SavedModel,
    TensorFlowCheckpoint,
    FrozenGraph,
    TensorFlowLite,
    Onnx,
    XGBoostFormat,
    LightGBMFormat,
    CatBoostFormat,
    CoreMl,
    OpenVino,
    PMMLFormat,
    FastTextFormat,
    GGMLFormat,
    CRFSuiteFormat,
    NpzFormat,
    Hdf5,
    SkopsFormat,
    JoblibFormat,
    # Formats that ship code.
    TorchPackage,
    TorchServe,
    PickleFormat,
)
"""In order of preference: of one model exported several ways, the first speaks for the whole."""


@cache
def all_formats() -> tuple[Format, ...]:
    """One instance of every format. Order: directory formats, then file formats, ours before plugins'."""
    found: list[Format] = [form() for form in _BUILTIN]
    names = {form.name for form in found}
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        try:
            loaded = point.load()
            form = loaded() if isinstance(loaded, type) else loaded
        except Exception as error:  # noqa: BLE001 - a plugin may fail in any way
            warnings.warn(f"format plugin {point.name} ({point.value}) is left out: {error}", stacklevel=2)
            continue
        if not isinstance(form, Format) or form.name in names:
            reason = "it is not a Format" if not isinstance(form, Format) else "its name is taken"
            warnings.warn(f"format plugin {point.name} ({point.value}) is left out: {reason}", stacklevel=2)
            continue
        names.add(form.name)
        found.append(form)
    return tuple(found)
