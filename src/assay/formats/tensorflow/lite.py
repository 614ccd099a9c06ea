"""TensorFlow Lite models (``.tflite``): one flatbuffer with graph and weights."""

from __future__ import annotations

from collections.abc import Sequence

from assay.containers.guard import guarded
from assay.formats.tensorflow.lite_model import LiteModel, read_lite_model
from assay.formats.tensorflow.ops import histogram, judge_ops
from assay.spec.description import Description
from assay.spec.finding import Finding, Severity
from assay.spec.json import Json
from assay.trees import Tree

IDENTIFIER = b"TFL3"

MAX_CUSTOM = 100
"""Custom operators that are looked at one by one."""

MAX_FINDINGS = 300

_SELECT_PREFIX = "Flex"
_RUNTIME_CUSTOM = frozenset({"TFLite_Detection_PostProcess", "Mfcc", "AudioSpectrogram", "NumericVerify"})
"""Operators without a number that the runtime registers by itself."""

_MEDIAPIPE = frozenset(
    {
        "Convolution2DTransposeBias",
        "MaxPoolingWithArgmax2D",
        "MaxUnpooling2D",
        "Resampler",
        "TransformTensorBilinear",
        "TransformLandmarks",
        "Landmarks2TransformMatrix",
        "KmeansEmbeddingLookup",
    }
)


class TensorFlowLiteFormat:
    """The format of TensorFlow Lite flatbuffers."""

    name = "tflite"
    covers = "file"

    def detect(self, tree: Tree) -> Sequence[tuple[str, ...]]:
        """Files with the identifier of the schema."""
        return [(path,) for path in tree if tree.head(path)[4:8] == IDENTIFIER]

    def describe(self, tree: Tree, paths: tuple[str, ...]) -> Description:
        """Say everything one model says.

        Raises:
            BadFormat: there is no model table.
        """
        path = paths[0]
        with guarded("a TensorFlow Lite model", path):
            model = read_lite_model(tree.open(path))
            return Description(
                format=self.name,
                paths=(path,),
                format_version=str(model.version),
                framework="tensorflow-lite",
                framework_version=None,
                tensors=tuple(model.weights.values()),
                parameter_count=model.parameters,
                inputs=model.inputs,
                outputs=model.outputs,
                requirements=("ai-edge-litert",),
                metadata=_metadata(model),
                findings=(*model.findings, *_judge(model, path)),
            )


def _judge(model: LiteModel, path: str) -> list[Finding]:
    findings = []
    for name in sorted(set(model.custom))[:MAX_CUSTOM]:
        if name.startswith(_SELECT_PREFIX):
            # TensorFlow's own operations inside a Lite model: judged as in a graph.
            findings += judge_ops({name.removeprefix(_SELECT_PREFIX): model.ops[name]}, path)
        elif name in _RUNTIME_CUSTOM:
            continue
        elif name in _MEDIAPIPE:
            text = "an operator that the library mediapipe has"
            findings.append(Finding("tflite-library-op", Severity.NOTE, text, path, evidence=name))
        else:
            text = "an operator that the runtime does not have by itself"
            findings.append(Finding("tflite-custom-op", Severity.INCOMPLETE, text, path, evidence=name[:200]))
    if len(set(model.custom)) > MAX_CUSTOM:
        text = f"more than {MAX_CUSTOM} operators that the runtime does not have by itself"
        findings.append(Finding("tflite-custom-op", Severity.INCOMPLETE, text, path))
    for name in sorted(model.ops):
        if name.startswith("BUILTIN_") or name == "STABLEHLO_CUSTOM_CALL":
            text = "an operator that is not known here, or calls native code by name"
            findings.append(Finding("tflite-unknown-op", Severity.INCOMPLETE, text, path, evidence=name[:200]))
    return findings[:MAX_FINDINGS]


def _metadata(model: LiteModel) -> dict[str, Json]:
    optional: dict[str, Json] = {
        "description": model.description[:1000] if model.description else None,
        "ops": histogram(model.ops),
        "custom_ops": sorted({name[:200] for name in model.custom})[:100],
        "subgraphs": model.subgraphs,
        "activations": model.activations,
        "quantized_tensors": len(model.quantized),
        "port_quantization": model.port_quantization,
        "signatures": model.signatures,
        "properties": model.metadata,
    }
    return {"quantized": bool(model.quantized), **{key: value for key, value in optional.items() if value}}
