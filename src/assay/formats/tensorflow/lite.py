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

_SELECT_PREFIX = "Flex"


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
    for name in sorted(set(model.custom))[:100]:
        if name.startswith(_SELECT_PREFIX):
            # TensorFlow's own operations inside a Lite model: judged as in a graph.
            findings += judge_ops({name.removeprefix(_SELECT_PREFIX): model.ops[name]}, path)
        else:
            text = "an operator that the runtime does not have by itself"
            findings.append(Finding("tflite-custom-op", Severity.NOTE, text, path, evidence=name[:200]))
    return findings


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
