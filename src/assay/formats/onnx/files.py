"""ONNX: one protocol-buffer file, perhaps with side files that hold its tensors' bytes.

A file is read like an index: operators, signature and tensors of the main graph and of everything nested in it; the
tensors' bytes are located, never read.

Source of the layout: onnx.proto (``ModelProto``), docs/IR.md and docs/ExternalData.md of onnx.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import ClassVar

from assay.containers.foreign import is_foreign
from assay.containers.guard import guarded
from assay.containers.protobuf.message import BYTES, VARINT, Field, message
from assay.errors import BadFormat, LimitExceeded, NotFound
from assay.formats.onnx.elements import elements
from assay.formats.onnx.graph import GraphFacts, GraphWalk
from assay.formats.onnx.operators import judge_functions, judge_operators
from assay.formats.onnx.schema import (
    CLASSICAL_DOMAIN,
    CLASSICAL_MODELS,
    EXTENSION_DOMAINS,
    QUANTISED_DTYPES,
    QUANTISING_OPERATORS,
    TASKS,
)
from assay.formats.onnx.tensors import read_pair
from assay.spec.description import Description, Port
from assay.spec.finding import Finding, Severity
from assay.spec.json import Json
from assay.spec.tensor import TensorSpec
from assay.trees import Tree

MAX_PROPERTIES = 256
"""Entries of ``metadata_props`` that are shown."""

MAX_TEXT = 400
"""Characters of one property or documentation text that are shown."""

MAX_OPSETS = 256
MAX_FUNCTIONS = 1_000
"""Names of functions that are shown; their bodies are all walked."""

_PRODUCER, _PRODUCER_VERSION, _DOMAIN, _DOC = 2, 3, 4, 6
_MODEL_WIRES = {
    1: VARINT,
    2: BYTES,
    3: BYTES,
    4: BYTES,
    5: VARINT,
    6: BYTES,
    7: BYTES,
    8: BYTES,
    14: BYTES,
    20: BYTES,
    25: BYTES,
    26: BYTES,
}
_FIRST_TAGS = frozenset(number << 3 | wire for number, wire in _MODEL_WIRES.items() if number < 16)
_GRAPH_FIELDS = frozenset({1, 2, 5, 10, 11, 12, 13, 14, 15, 16})
_NODE_FIELDS = frozenset(range(1, 11))
_DETECT_FIELDS = 20_000
_LARGEST_IR_VERSION = 1_000


class OnnxFormat:
    """The ONNX format; a group is a model file followed by the side files that hold its tensors."""

    name: ClassVar[str] = "onnx"
    covers: ClassVar[str] = "file"

    def detect(self, tree: Tree) -> Sequence[tuple[str, ...]]:
        """Files whose outermost fields are those of a ``ModelProto`` with a graph."""
        models = [path for path in tree if _looks_like_onnx(tree, path)]
        taken = set(models)
        groups: list[tuple[str, ...]] = []
        for path in models:
            folder = path.rpartition("/")[0]
            if all(other in taken for other in tree.under(folder)):
                groups.append((path,))
                continue
            walk = _walk(tree, path)[0]
            # A pickle or an archive that a model names as its data is still looked at for itself.
            side_files = sorted(side for side in walk.place.side_files - taken if not is_foreign(tree.head(side)))
            taken.update(side_files)
            groups.append((path, *side_files))
        return groups

    def describe(self, tree: Tree, paths: tuple[str, ...]) -> Description:
        """Operators, opsets, signature, tensors, classical models and producer of one model file.

        Raises:
            BadFormat: it is no ONNX model.
        """
        path = paths[0]
        with guarded("an ONNX model", path):
            walk, model = _walk(tree, path)
            if not model.has_graph and not walk.functions:
                raise BadFormat(f"{path}: no graph in it", path=path, offset=0)
            _judge(walk, model)
            walk.close()
            return _description(walk, model, paths)

    def tensor(self, tree: Tree, spec: TensorSpec) -> bytes:
        """The elements of one tensor that is written number by number, in C order and little-endian.

        Raises:
            BadFormat: there are more or fewer than its shape says.
            NotFound: no model of the tree writes such a tensor so (code ``tensor-not-readable``).
        """
        for path in (group[0] for group in self.detect(tree)):
            with guarded("an ONNX model", path):
                walk = tree.remember(("onnx-written", path), partial(_walked, tree, path))
                if spec.name in walk.written and spec in walk.tensors:
                    return elements(walk.written[spec.name], spec)
        raise NotFound(f"no ONNX model here writes a tensor {spec.name!r} out", code="tensor-not-readable")


class _Model:
    """The outermost fields of a ``ModelProto``."""

    def __init__(self) -> None:
        self.ir_version: int | None = None
        self.texts = dict.fromkeys((_PRODUCER, _PRODUCER_VERSION, _DOMAIN, _DOC), "")
        self.version: int | None = None
        self.opsets: dict[str, int] = {}
        self.properties: dict[str, str] = {}
        self.property_sizes: dict[str, int] = {}
        self.has_graph = False
        self.training = 0


def _looks_like_onnx(tree: Tree, path: str) -> bool:
    head = tree.head(path)
    if len(head) < 4 or head[0] not in _FIRST_TAGS:
        return False
    seen: set[int] = set()
    try:
        for part in message(tree.open(path), max_fields=_DETECT_FIELDS, clip=True):
            if _MODEL_WIRES.get(part.number, part.wire) != part.wire or part.number >= 100:
                return False
            if part.number == 1 and not 0 < part.value < _LARGEST_IR_VERSION:
                return False
            if part.number == 7 and not _looks_like_graph(part):
                return False
            seen.add(part.number)
    except LimitExceeded:
        pass
    except BadFormat:
        # Damage after a graph that was recognised is for describe to report.
        return 7 in seen and 1 in seen
    return 7 in seen and bool(seen & {1, 8})


def _looks_like_graph(graph: Field) -> bool:
    seen = 0
    try:
        for part in graph:
            if part.wire != BYTES or part.number not in _GRAPH_FIELDS:
                return False
            if part.number == 1 and not all(inner.number in _NODE_FIELDS and inner.wire == BYTES for inner in part):
                return False
            seen += 1
            if seen >= 8:
                break
    except BadFormat:
        return seen > 0
    return seen > 0


def _walked(tree: Tree, path: str) -> GraphWalk:
    return _walk(tree, path)[0]


def _walk(tree: Tree, path: str) -> tuple[GraphWalk, _Model]:
    walk, model = GraphWalk(tree, path), _Model()
    root = message(tree.open(path), clip=True)
    try:
        for part in root:
            _model_field(part, walk, model)
    except BadFormat as error:
        offset = error.details.get("offset")
        rule = "onnx-limit" if isinstance(error, LimitExceeded) else "onnx-malformed"
        walk.report(rule, Severity.INCOMPLETE, error.message, offset if isinstance(offset, int) else None)
    if root.reader.cut is not None:
        walk.report("onnx-truncated", Severity.INCOMPLETE, "the file ends in the middle of a field", root.reader.cut)
    return walk, model


def _model_field(part: Field, walk: GraphWalk, model: _Model) -> None:
    match part.number:
        case 1:
            model.ir_version = part.signed
        case number if number in model.texts:
            model.texts[part.number] = part.text(4096)
        case 5:
            model.version = part.signed
        case 7:
            if model.has_graph:
                walk.report("onnx-second-graph", Severity.MISLEAD, "the file holds a second main graph", part.offset)
            model.has_graph = True
            walk.graph(part, walk.main)
        case 8:
            _opset(part, walk, model)
        case 14:
            if len(model.properties) < MAX_PROPERTIES:
                key, value = read_pair(part)
                model.properties[key] = value
                model.property_sizes[key] = part.size
        case 20:
            model.training += 1
            _training(part, walk)
        case 25:
            walk.function(part)
        case 26:
            pass  # how to spread the model over devices: nothing about the model itself
        case _:
            message_text = f"unknown field {part.number} in the outermost message"
            walk.report("onnx-unknown-field", Severity.NOTE, message_text, part.offset)


def _training(part: Field, walk: GraphWalk) -> None:
    for graph in part:
        if graph.number in {1, 2}:
            walk.subgraphs += 1
            walk.graph(graph, GraphFacts(), f"training/{graph.number}/", 1)


def _opset(part: Field, walk: GraphWalk, model: _Model) -> None:
    domain, version = "", 0
    for inner in part:
        if inner.number == 1:
            domain = inner.text(256)
        elif inner.number == 2:
            version = inner.signed
    domain = "" if domain == "ai.onnx" else domain
    if model.opsets.get(domain, version) != version:
        text = f"operator set {domain or 'ai.onnx'} is imported twice, as {model.opsets[domain]} and as {version}"
        walk.report("onnx-duplicate-opset", Severity.MISLEAD, text, part.offset)
    if len(model.opsets) < MAX_OPSETS:
        model.opsets[domain] = version


def _judge(walk: GraphWalk, model: _Model) -> None:
    """Report what only shows when the whole file was seen."""
    judge_operators(walk.operators, set(walk.functions), walk.report)
    judge_functions(walk.calls, walk.report)
    used = Counter[str]()
    for (domain, _), count in walk.operators.items():
        used[domain] += count
    for domain in sorted(used):
        if domain not in model.opsets and model.opsets:
            text = f"operators of domain {domain or 'ai.onnx'!r} are used, but the domain is not imported"
            walk.report("onnx-domain-not-imported", Severity.MISLEAD, text, None, domain)


def _description(walk: GraphWalk, model: _Model, paths: tuple[str, ...]) -> Description:
    findings: tuple[Finding, ...] = tuple(walk.findings)
    initialisers = walk.main.initialisers
    inputs: tuple[Port, ...] = tuple(port for port in walk.main.inputs if port.name not in initialisers)
    predictors = [name for (domain, name) in walk.operators if domain == CLASSICAL_DOMAIN and name in CLASSICAL_MODELS]
    properties = model.properties
    requirements = ["onnxruntime"]
    domains = {domain for domain, _ in walk.operators}
    requirements += sorted({EXTENSION_DOMAINS[domain] for domain in domains & EXTENSION_DOMAINS.keys()})
    task = properties.get("task") or (TASKS.get(predictors[0]) if predictors else None)
    return Description(
        format="onnx",
        paths=tuple(sorted(paths)),
        format_version=None if model.ir_version is None else str(model.ir_version),
        framework=model.texts[_PRODUCER] or "onnx",
        framework_version=model.texts[_PRODUCER_VERSION] or None,
        # Graph names are the exporter's (`main_graph`, `Model from PaddlePaddle.`): they name no architecture.
        architecture=predictors[0] if predictors else None,
        task=task,
        tensors=tuple(walk.tensors),
        parameter_count=(walk.trained + sum(s.size for s in walk.tensors if s.trained)) if walk.trained else None,
        inputs=inputs,
        outputs=tuple(walk.main.outputs),
        components=tuple(walk.components),
        requirements=tuple(requirements),
        licenses=(properties["license"][:200],) if properties.get("license") else (),
        metadata=_metadata(walk, model),
        findings=findings,
    )


def _metadata(walk: GraphWalk, model: _Model) -> dict[str, Json]:
    operators = {
        f"{domain}.{name}" if domain else name: count for (domain, name), count in walk.operators.most_common()
    }
    found: dict[str, Json] = {
        "ir_version": model.ir_version,
        "opsets": {domain or "ai.onnx": version for domain, version in sorted(model.opsets.items())},
        "producer": " ".join(filter(None, (model.texts[_PRODUCER], model.texts[_PRODUCER_VERSION]))),
        "domain": model.texts[_DOMAIN],
        "model_version": model.version,
        "name": walk.main.name,
        "ops": operators,
        "nodes": walk.operators.total(),
        "subgraphs": walk.subgraphs,
        "functions": [f"{domain}.{name}" if domain else name for domain, name in walk.functions[:MAX_FUNCTIONS]],
        "trees": walk.trees,
        "sparse": walk.sparse,
        "quantization": _quantization(walk),
        "description": _shortened(model.texts[_DOC]),
        "graph_description": _shortened(walk.main.doc),
        "training_graphs": model.training,
        "properties": {
            _shortened(key): _shortened(value, model.property_sizes[key]) for key, value in model.properties.items()
        },
    }
    return {key: value for key, value in found.items() if value not in (None, "", 0, {}, [])}


def _quantization(walk: GraphWalk) -> dict[str, Json]:
    operators: dict[str, Json] = {
        name: count
        for (_, name), count in walk.operators.items()
        if name in QUANTISING_OPERATORS or name.startswith("QLinear")
    }
    dtypes: dict[str, Json] = dict(Counter(spec.dtype for spec in walk.tensors if spec.dtype in QUANTISED_DTYPES))
    return {"operators": operators, "dtypes": dtypes} if operators else {}


def _shortened(text: str, size: int = 0) -> str:
    if len(text) <= MAX_TEXT:
        return text
    return f"{text[:MAX_TEXT]}… ({max(size, len(text)):,} bytes)"
