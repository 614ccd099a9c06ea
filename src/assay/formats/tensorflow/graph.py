"""TensorFlow graphs in protobuf: operations, constants, signatures, without TensorFlow.

Source: the field numbers of ``graph.proto``, ``node_def.proto``, ``function.proto``, ``attr_value.proto``,
``tensor.proto`` and ``meta_graph.proto``.

Not here: the objects of a SavedModel (``objects``), what operations can do (``ops``).
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from assay.containers.protobuf.message import BYTES, Field
from assay.errors import BadFormat
from assay.formats.tensorflow.file_names import FileNames, Node
from assay.formats.tensorflow.nodes import MAX_TEXT, attributes, calls, pair, reaching, texts
from assay.formats.tensorflow.types import dtype_name, fixed_shape, read_shape
from assay.spec.description import Port
from assay.spec.finding import Finding, Severity
from assay.spec.json import Json
from assay.spec.tensor import ELEMENT_BITS, Extent, TensorSpec

MAX_CONSTANTS = 200_000
"""Constants that are listed."""

MAX_PORTS = 10_000
"""Inputs and outputs of one signature, and signatures of one graph."""

_VERSION = re.compile(r"\d+(\.\d+)+", re.ASCII)
MAX_SINKS = 100
"""Outputs that are guessed."""

_NO_OUTPUTS = frozenset({"Const", "NoOp", "Assert", "Placeholder", "SaveV2", "RestoreV2", "VarHandleOp"})
_INIT_SIGNATURE = "__saved_model_init_op"
_CONSTANTS = frozenset({"Const", "HostConst"})


@dataclass(slots=True)
class Graph:
    """What a GraphDef holds.

    Args:
        ops: operation to how often it occurs, functions included.
        nodes: number of nodes of the main graph.
        functions: number of functions in its library.
        library: their names.
        constants: by name (``function/node`` in a function), with extents where they lie plainly.
        placeholders: inputs of the main graph.
        findings: what is odd.
        produced: nodes of the main graph, when asked for.
        consumed: names of the nodes that others use, when asked for.
        names: where the names of files come from.
    """

    ops: Counter[str] = field(default_factory=Counter)
    nodes: int = 0
    functions: int = 0
    library: set[str] = field(default_factory=set)
    constants: dict[str, TensorSpec] = field(default_factory=dict)
    placeholders: list[Port] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    produced: dict[str, tuple[str, Field]] = field(default_factory=dict)
    consumed: set[str] = field(default_factory=set)
    names: FileNames = field(default_factory=FileNames)

    def sinks(self) -> list[Port]:
        """Nodes of the main graph that no other uses: its outputs, when nothing else says which they are.

        Raises:
            BadFormat: an attribute of such a node is malformed.
        """
        ports: list[Port] = []
        for name, (op, node) in self.produced.items():
            if name not in self.consumed and op not in _NO_OUTPUTS and len(ports) < MAX_SINKS:
                ports.append(Port(name, _result_type(node)))
        return ports

    def damaged(self, error: BadFormat, path: str) -> None:
        """Note that the message could not be read to its end."""
        text = "the graph ends early or is damaged"
        self.findings.append(
            Finding("tensorflow-unreadable", Severity.INCOMPLETE, text, path, evidence=error.message[:200])
        )


@dataclass(frozen=True, slots=True)
class Signature:
    """One way to call a graph."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    method: str

    def to_json(self) -> Json:
        """The signature as a JSON object."""
        return {
            "method": self.method,
            "inputs": {port.name: _shown(port) for port in self.inputs},
            "outputs": {port.name: _shown(port) for port in self.outputs},
        }


@dataclass(slots=True)
class MetaGraph:
    """What a MetaGraphDef holds.

    Args:
        tags: what the graph is for (``serve``).
        version, git_version: of the TensorFlow that wrote it.
        graph: its operations.
        signatures: by name.
        assets: file names below ``assets``.
        asset_tensors: what takes their names when the graph is loaded.
        saver_tensor: what takes the name of the checkpoint when the saver is called.
        objects: the object graph, unread.
    """

    tags: list[str] = field(default_factory=list)
    version: str | None = None
    git_version: str | None = None
    graph: Graph = field(default_factory=Graph)
    signatures: dict[str, Signature] = field(default_factory=dict)
    assets: list[str] = field(default_factory=list)
    asset_tensors: list[str] = field(default_factory=list)
    saver_tensor: str = ""
    objects: Field | None = None

    @property
    def given(self) -> list[str]:
        """Tensors that the loader fills with names of files."""
        return [*self.asset_tensors, *([self.saver_tensor] if self.saver_tensor else [])]

    @property
    def main(self) -> Signature | None:
        """The signature a caller means who names none."""
        for name in ("serving_default", "serve", "default"):
            if name in self.signatures:
                return self.signatures[name]
        return next((s for n, s in self.signatures.items() if n != _INIT_SIGNATURE and (s.inputs or s.outputs)), None)


def read_meta_graph(source: Field, *, constants: bool = False) -> MetaGraph:
    """Read a MetaGraphDef.

    Args:
        source: the message.
        constants: whether to list constants.

    Returns:
        Everything up to the first damage, which is a finding of the graph.
    """
    meta = MetaGraph()
    try:
        for part in source:
            if part.number == 1:
                _read_info(part, meta)
            elif part.number == 2:
                meta.graph = read_graph(part, constants=constants)
            elif part.number == 3 and part.wire == BYTES:
                meta.saver_tensor = next((inner.text(MAX_TEXT) for inner in part if inner.number == 1), "")
            elif part.number == 5 and len(meta.signatures) < MAX_PORTS:
                name, value = pair(part)
                if value is not None:
                    meta.signatures[name] = _signature(value)
            elif part.number == 6 and len(meta.assets) < MAX_PORTS:
                _read_asset(part, meta)
            elif part.number == 7:
                meta.objects = part
    except BadFormat as error:
        meta.graph.damaged(error, source.reader.window.path)
    return meta


def read_graph(source: Field, *, constants: bool = False) -> Graph:
    """Read a GraphDef.

    Args:
        source: the message.
        constants: whether to list constants, and to keep what ``Graph.sinks`` needs.

    Returns:
        Everything up to the first damage, which is a finding of the graph.
    """
    graph = Graph()
    try:
        for part in source:
            if part.number == 1:
                graph.nodes += 1
                _read_node(part, graph, "", constants=constants)
            elif part.number == 2:
                for function in part:
                    if function.number == 1:
                        graph.functions += 1
                        _read_function(function, graph, constants=constants)
    except BadFormat as error:
        graph.damaged(error, source.reader.window.path)
    return graph


def requirement(version: str | None) -> str:
    """The distribution that runs a graph written by a version of TensorFlow."""
    return f"tensorflow=={version}" if version and _VERSION.fullmatch(version) else "tensorflow"


def first_node(source: Field) -> tuple[str, str] | None:
    """Name and operation of the first node of what may be a GraphDef, or None when it is none.

    Raises:
        BadFormat: it is no protobuf message.
    """
    part = next(iter(source), None)
    if part is None or part.number != 1 or part.wire != BYTES:
        return None
    name = op = ""
    for inner in part:
        if inner.number > 7 or inner.wire != BYTES:
            return None
        if inner.number == 1:
            name = inner.text(MAX_TEXT)
        elif inner.number == 2:
            op = inner.text(MAX_TEXT)
    return (name, op) if name and op else None


def _read_info(source: Field, meta: MetaGraph) -> None:
    for part in source:
        if part.number == 4 and len(meta.tags) < 100:
            meta.tags.append(part.text(MAX_TEXT))
        elif part.number == 5:
            meta.version = part.text(100) or None
        elif part.number == 6:
            # Builds outside its repository wrote the repr of a bytes object.
            meta.git_version = part.text(200).removeprefix("b'").removesuffix("'") or None


def _read_asset(source: Field, meta: MetaGraph) -> None:
    for part in source:
        if part.number == 1:
            meta.asset_tensors.extend(inner.text(MAX_TEXT) for inner in part if inner.number == 1)
        elif part.number == 2:
            meta.assets.append(part.text(MAX_TEXT))


def _read_function(source: Field, graph: Graph, *, constants: bool) -> None:
    prefix = ""
    for part in source:
        if part.number == 1:
            name = next((inner.text(MAX_TEXT) for inner in part if inner.number == 1), "")
            graph.library.add(name)
            prefix = f"{name}/"
        elif part.number == 3:
            _read_node(part, graph, prefix, constants=constants)


def _read_node(source: Field, graph: Graph, prefix: str, *, constants: bool) -> None:
    name = op = ""
    inputs: list[str] = []
    for part in source:
        if part.number == 1:
            name = part.text(MAX_TEXT)
        elif part.number == 2:
            op = part.text(MAX_TEXT)
        elif part.number == 3:
            inputs.append(part.text(MAX_TEXT))
    if constants and not prefix:
        graph.consumed.update(given.removeprefix("^").partition(":")[0] for given in inputs)
    graph.ops[op] += 1
    data = [given.partition(":")[0] for given in inputs if not given.startswith("^")]
    words = texts(source) if op in _CONSTANTS else []
    graph.names.add(prefix.removesuffix("/"), name, Node(op, data, words, calls(source)))
    if constants and not prefix:
        graph.produced[name] = (op, source)
    if op in _CONSTANTS and constants and len(graph.constants) < MAX_CONSTANTS:
        spec = _constant(source, prefix + name)
        if spec is not None:
            graph.constants.setdefault(spec.name, spec)
    elif op == "Placeholder" and not prefix and len(graph.placeholders) < MAX_PORTS:
        graph.placeholders.append(_placeholder(source, name))
    graph.findings += reaching(op, source)


def _constant(node: Field, name: str) -> TensorSpec | None:
    for key, value in attributes(node):
        if key == "value":
            for part in value:
                if part.number == 8:
                    return _tensor(part, name)
    return None


def _tensor(source: Field, name: str) -> TensorSpec:
    dtype, extent = "float32", None
    shape: tuple[int, ...] = ()
    shape_field: Field | None = None
    for part in source:
        if part.number == 1:
            dtype = dtype_name(part.integer)
        elif part.number == 2:
            shape_field = part
        elif part.number == 4:
            extent = Extent(source.reader.window.path, part.offset, part.size)
    if shape_field is not None:
        shape = fixed_shape(shape_field)
    spec = TensorSpec(name, dtype, shape, extent)
    # A shorter content repeats its last element: no plain array.
    plain = extent is not None and dtype in ELEMENT_BITS and spec.nbytes == extent.length
    return spec if plain else TensorSpec(name, dtype, shape)


def _result_type(node: Field) -> str:
    for key, value in attributes(node):
        if key in {"T", "dtype", "Tout", "DstT", "out_type"}:
            number = next((part.integer for part in value if part.number == 6 and part.wire != BYTES), 0)
            if number:
                return dtype_name(number)
    return "tensor"


def _placeholder(node: Field, name: str) -> Port:
    dtype, shape = "float32", None
    for key, value in attributes(node):
        for part in value:
            if key == "dtype" and part.number == 6:
                dtype = dtype_name(part.integer)
            elif key == "shape" and part.number == 7:
                shape = read_shape(part)
    return Port(name, dtype, shape)


def _signature(source: Field) -> Signature:
    ports: dict[int, list[Port]] = {1: [], 2: []}
    method = ""
    for part in source:
        if part.number in ports and len(ports[part.number]) < MAX_PORTS:
            name, value = pair(part)
            if value is not None:
                ports[part.number].append(_port(name, value))
        elif part.number == 3:
            method = part.text(MAX_TEXT)
    inputs, outputs = (tuple(sorted(ports[side], key=lambda port: port.name)) for side in (1, 2))
    return Signature(inputs, outputs, method)


def _port(name: str, source: Field) -> Port:
    dtype, shape = "float32", None
    for part in source:
        if part.number == 2:
            dtype = dtype_name(part.integer)
        elif part.number == 3:
            shape = read_shape(part)
    return Port(name, dtype, shape)


def _shown(port: Port) -> str:
    sizes = "?" if port.shape is None else ", ".join("?" if size is None else str(size) for size in port.shape)
    return f"{port.dtype}[{sizes}]"
