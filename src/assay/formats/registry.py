"""Which formats there are: ours in order of preference, then those of installed plugins.

A plugin is any distribution with an entry point in the group ``assay.formats`` that names a ``Format`` class or
instance (``docs/how-to/add-a-format.md``). One that cannot be imported is reported by a warning and left out: a broken
plugin must not keep anybody from packing a model.
"""

from __future__ import annotations

from functools import cache
from typing import cast

from assay.formats.boosting.catboost import CatBoostFormat
from assay.formats.boosting.lightgbm import LightGBMFormat
from assay.formats.boosting.xgboost import XGBoostFormat
from assay.formats.coreml.files import CoreMlFormat
from assay.formats.crfsuite import CRFSuiteFormat
from assay.formats.fasttext import FastTextFormat
from assay.formats.ggml import GGMLFormat
from assay.formats.gguf.files import GgufFormat
from assay.formats.hdf5 import Hdf5Format
from assay.formats.huggingface.diffusers import DiffusersFormat
from assay.formats.huggingface.peft import PeftFormat
from assay.formats.huggingface.sentence_transformers import SentenceTransformersFormat
from assay.formats.huggingface.transformers import TransformersFormat
from assay.formats.keras.archive import KerasArchiveFormat
from assay.formats.keras.h5 import KerasH5Format
from assay.formats.mlflow.folder import MLflowFormat
from assay.formats.npz import NpzFormat
from assay.formats.onnx.files import OnnxFormat
from assay.formats.openvino import OpenVinoFormat
from assay.formats.pickles.pickled import JoblibFormat, PickleFormat
from assay.formats.pickles.skops import SkopsFormat
from assay.formats.pmml import PMMLFormat
from assay.formats.pytorch.export import TorchExportFormat
from assay.formats.pytorch.files import PyTorchFormat
from assay.formats.pytorch.package import TorchPackageFormat, TorchServeFormat
from assay.formats.pytorch.script import TorchScriptFormat
from assay.formats.safetensors.files import SafetensorsFormat
from assay.formats.spacy import SpacyFormat
from assay.formats.tensorflow.checkpoint import TensorFlowCheckpointFormat
from assay.formats.tensorflow.frozen import FrozenGraphFormat
from assay.formats.tensorflow.lite import TensorFlowLiteFormat
from assay.formats.tensorflow.savedmodel import SavedModelFormat
from assay.ports.formats import Format
from assay.ports.plugins import plugins

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
    PyTorchFormat,
    TorchScriptFormat,
    TorchExportFormat,
    GgufFormat,
    KerasArchiveFormat,
    KerasH5Format,
    SavedModelFormat,
    TensorFlowCheckpointFormat,
    FrozenGraphFormat,
    TensorFlowLiteFormat,
    OnnxFormat,
    XGBoostFormat,
    LightGBMFormat,
    CatBoostFormat,
    CoreMlFormat,
    OpenVinoFormat,
    PMMLFormat,
    FastTextFormat,
    GGMLFormat,
    CRFSuiteFormat,
    NpzFormat,
    Hdf5Format,
    SkopsFormat,
    JoblibFormat,
    # Formats that ship code.
    TorchPackageFormat,
    TorchServeFormat,
    PickleFormat,
)
"""In order of preference: of one model exported several ways, the first speaks for the whole."""


@cache
def all_formats() -> tuple[Format, ...]:
    """One instance of every format. Order: directory formats, then file formats, ours before plugins'."""
    ours: list[Format] = [form() for form in _BUILTIN]
    names = {form.name for form in ours}

    def refuse(form: object) -> str:
        name = cast("Format", form).name
        if name in names:
            return "its name is taken"
        names.add(name)
        return ""

    return (*ours, *(cast("Format", form) for form in plugins(GROUP, Format, refuse=refuse)))
