"""ONNX: an ONNX Runtime session on the CPU; live ``ModelProto`` objects as they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from assay.errors import BadFormat
from assay.loaders.frameworks import is_instance, need, reason
from assay.loaders.hazards import refuse_hazards
from assay.loaders.places import main_file
from assay.ports.loaders import Saved
from assay.spec.description import Description

MAX_SINGLE = 1_900_000_000
"""Bytes of a model that is saved as one file: protocol buffers end at two gigabytes."""


class OnnxLoader:
    """ONNX models with their side files."""

    formats: ClassVar[Sequence[str]] = ("onnx",)

    def load(self, folder: Path, description: Description, descriptions: Sequence[Description]) -> object:  # noqa: ARG002 - the port's shape
        """An ``onnxruntime.InferenceSession`` on the CPU.

        Raises:
            Refused: it names side files outside the artifact, or could not be read whole (code ``unsafe-model``).
            BadFormat: ONNX Runtime cannot read it.
            MissingDependency: onnxruntime is not installed.
        """
        refuse_hazards(
            description,
            hint="load the folder that holds its side files too, or export it with tensors inside",
            whole=True,
        )
        runtime = need("onnxruntime", extra="onnx", what="load an ONNX model")
        file = main_file(folder, description, ".onnx")
        options = runtime.SessionOptions()
        options.log_severity_level = 3  # errors only: warnings about a model are no help to who loads it
        try:
            return runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise BadFormat(f"ONNX Runtime cannot load {file.name} ({reason(error)})", path=file.name) from error


class OnnxSaver:
    """Live ``onnx.ModelProto`` objects."""

    framework = "onnx"

    def accepts(self, model: object) -> bool:
        """An ``onnx.ModelProto``."""
        return is_instance(model, "onnx.onnx_ml_pb2.ModelProto", "onnx.ModelProto")

    def save(self, model: object, folder: Path) -> Saved:
        """Write ``model.onnx``, and ``model.onnx.data`` when it is too large for one file."""
        proto: Any = model
        if proto.ByteSize() < MAX_SINGLE:
            (folder / "model.onnx").write_bytes(proto.SerializeToString(deterministic=True))
            return Saved(("onnx", "onnxruntime"))
        onnx = need("onnx", extra="onnx", what="save an ONNX model")
        copy = type(proto)()
        copy.CopyFrom(proto)  # saving moves the tensors out of the object it is given
        onnx.save_model(copy, str(folder / "model.onnx"), save_as_external_data=True, location="model.onnx.data")
        return Saved(("onnx", "onnxruntime"))
