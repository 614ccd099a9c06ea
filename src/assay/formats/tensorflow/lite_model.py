"""The model inside a TensorFlow Lite flatbuffer: tensors, buffers, operators, signatures.

Source: the field slots of the TensorFlow Lite schema, version 3.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from math import isfinite

from assay.containers.flatbuffers import FlatBuffer, Table
from assay.errors import BadFormat
from assay.formats.tensorflow.lite_ops import BUILTIN_OPS, CUSTOM, TYPES
from assay.spec.description import Port
from assay.spec.finding import Finding, Severity
from assay.spec.json import Json
from assay.spec.tensor import ELEMENT_BITS, Extent, TensorSpec
from assay.trees import Window

MAX_TENSORS = 500_000
"""Tensors of one model, all subgraphs together."""

MAX_SUBGRAPHS = 10_000
"""Subgraphs of one model."""

MAX_RANK = 64
"""Dimensions of one tensor."""

MAX_NAME = 4096
"""Bytes of one name."""

MAX_FINDINGS = 100
"""Findings of one model; more of them say nothing new."""

MAX_SHOWN = 16
"""Scales and zero points that are shown of one port."""

_QUANTIZED = frozenset({"int8", "uint8", "int16", "int4", "uint4", "int2", "int32"})


@dataclass(frozen=True, slots=True)
class Quantization:
    """How whole numbers stand for real ones: real = scale * (number - zero point).

    Args:
        scales, zero_points: one for the tensor, or one for each index of *axis*.
        axis: the dimension they belong to.
    """

    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int

    def to_json(self) -> Json:
        """As a JSON object, cut short."""
        return {
            "scale": [scale if isfinite(scale) else str(scale) for scale in self.scales[:MAX_SHOWN]],
            "zero_point": list(self.zero_points[:MAX_SHOWN]),
            **({"axis": self.axis} if len(self.scales) > 1 else {}),
        }


@dataclass(frozen=True, slots=True)
class Value:
    """One tensor of a subgraph, with or without bytes in the file.

    Args:
        name, dtype: as the file says.
        shape: per dimension a size, or None for any size.
        sizes: the shape it was written with.
        buffer: number of its buffer.
        quantization: None when its numbers are meant as they are.
        sparse: stored without its zeros.
        external: stored in another file.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    sizes: tuple[int, ...]
    buffer: int
    quantization: Quantization | None = None
    sparse: bool = False
    external: bool = False


@dataclass(slots=True)
class LiteModel:
    """What a model holds.

    Args:
        version: of the schema.
        description: what the converter noted.
        weights: tensors with bytes in the file.
        quantized: names of those weights that are quantised.
        parameters: trained numbers: buffers counted once, index tensors left out.
        activations: number of tensors that are computed.
        ops: operator to how often it occurs.
        custom: operators the file names itself.
        subgraphs: number of subgraphs.
        inputs, outputs: of the first signature, else of the first subgraph.
        port_quantization: port name to how its numbers are meant.
        signatures: key to inputs and outputs.
        metadata: name to size in bytes, and to text where it is short text.
        findings: what is odd.
    """

    version: int = 0
    description: str | None = None
    weights: dict[str, TensorSpec] = field(default_factory=dict)
    quantized: set[str] = field(default_factory=set)
    parameters: int = 0
    activations: int = 0
    ops: Counter[str] = field(default_factory=Counter)
    custom: list[str] = field(default_factory=list)
    subgraphs: int = 0
    inputs: tuple[Port, ...] = ()
    outputs: tuple[Port, ...] = ()
    port_quantization: dict[str, Json] = field(default_factory=dict)
    signatures: dict[str, Json] = field(default_factory=dict)
    metadata: dict[str, Json] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def read_lite_model(window: Window) -> LiteModel:
    """Read a model.

    Returns:
        Everything up to the first damage, which is a finding.

    Raises:
        BadFormat: there is no model table.
    """
    model = LiteModel()
    reader = _Reader(window, FlatBuffer(window).root(), model)
    try:
        reader.run()
    except BadFormat as error:
        reader.report("tflite-damaged", Severity.INCOMPLETE, "the model is damaged", error.message)
    return model


class _Reader:
    """Reads the parts of a model that refer to each other by number."""

    def __init__(self, window: Window, root: Table, model: LiteModel) -> None:
        self.window = window
        self.root = root
        self.model = model
        self.extents: list[Extent | None] = []
        self.op_names: list[str] = []
        self.graphs: list[tuple[str, list[Value], tuple[int, ...], tuple[int, ...]]] = []
        self.counted: set[int] = set()

    def run(self) -> None:
        model, root = self.model, self.root
        model.version = root.integer(0, "I")
        model.description = root.string(3, limit=MAX_NAME)
        self.extents = [self._buffer(table) for table in root.tables(4, limit=MAX_TENSORS)]
        self.op_names = [self._operator_code(table) for table in root.tables(1, limit=MAX_TENSORS)]
        for table in root.tables(2, limit=MAX_SUBGRAPHS):
            self._subgraph(table)
        if 8 in root or 9 in root:
            self.report("tflite-external-buffer", Severity.INCOMPLETE, "weights lie in another file", "")
        self._metadata()
        self._signatures()

    def report(self, rule: str, severity: Severity, text: str, evidence: str) -> None:
        if len(self.model.findings) < MAX_FINDINGS:
            self.model.findings.append(Finding(rule, severity, text, self.window.path, evidence=evidence[:200]))

    def _buffer(self, table: Table) -> Extent | None:
        offset, size = table.integer(1, "Q"), table.integer(2, "Q")
        if offset > 1 and size:
            # Models beyond 2 GB keep their buffers behind the flatbuffer.
            if offset + size > self.window.size:
                self.report("tflite-outside-file", Severity.INCOMPLETE, "a buffer lies outside the file", f"{offset}")
                return None
            return Extent(self.window.path, self.window.start + offset, size)
        vector = table.vector(0, 1)
        if vector is None or vector.count == 0:
            return None
        return Extent(self.window.path, self.window.start + vector.offset, vector.count)

    def _operator_code(self, table: Table) -> str:
        # The old field is one byte; numbers from 127 stand in the new one.
        code = max(table.integer(0, "b"), table.integer(3, "i"))
        if code == CUSTOM:
            name = table.string(1, limit=MAX_NAME) or "CUSTOM"
            self.model.custom.append(name)
            return name
        return BUILTIN_OPS[code] if 0 <= code < len(BUILTIN_OPS) else f"BUILTIN_{code}"

    def _subgraph(self, table: Table) -> None:
        model = self.model
        number = model.subgraphs
        model.subgraphs += 1
        label = table.string(4, limit=MAX_NAME) or str(number)
        values = []
        for item in table.tables(0, limit=MAX_TENSORS):
            value = _value(item)
            values.append(value)
            self._weight(value, f"{label}/" if number else "")
            if len(model.weights) + model.activations > MAX_TENSORS:
                raise BadFormat(f"{self.window.path}: more than {MAX_TENSORS:,} tensors", path=self.window.path)
        self.graphs.append((label, values, table.integers(1), table.integers(2)))
        for item in table.tables(3, limit=MAX_TENSORS):
            index = item.integer(0, "I")
            known = index < len(self.op_names)
            model.ops[self.op_names[index] if known else "?"] += 1
            if not known:
                self.report("tflite-damaged", Severity.MISLEAD, "an operator has no code", f"code {index}")

    def _weight(self, value: Value, prefix: str) -> None:
        model = self.model
        extent = self.extents[value.buffer] if value.buffer < len(self.extents) else None
        if extent is None:
            model.activations += 1
            return
        name = prefix + (value.name or f"tensor {len(model.weights)}")
        if name in model.weights:
            name = f"{name}#{len(model.weights)}"
        spec = TensorSpec(name, value.dtype, value.sizes, extent)
        if value.dtype in ELEMENT_BITS and spec.nbytes != extent.length:
            if not value.sparse:
                text = f"{name!r} has {extent.length:,} bytes, its shape says {spec.nbytes:,}"
                self.report("tflite-size", Severity.MISLEAD, text, "")
            spec = TensorSpec(name, value.dtype, value.sizes)
        model.weights[name] = spec
        if value.quantization is not None:
            model.quantized.add(name)
        index_like = value.dtype in {"int32", "int64", "string", "bool"} and value.quantization is None
        if value.buffer not in self.counted and not index_like:
            self.counted.add(value.buffer)
            model.parameters += spec.size

    def _metadata(self) -> None:
        for table in self.root.tables(6, limit=1000):
            name = (table.string(0, limit=MAX_NAME) or "")[:200]
            number = table.integer(1, "I")
            extent = self.extents[number] if number < len(self.extents) else None
            if extent is None:
                self.model.metadata[name] = None
                continue
            self.model.metadata[name] = extent.length
            if extent.length <= 64:
                data = self.window.read(extent.offset - self.window.start, extent.length).rstrip(b"\0")
                text = data.decode("utf-8", "replace")
                if text.isprintable() and text.isascii() and text:
                    self.model.metadata[name] = text

    def _signatures(self) -> None:
        model = self.model
        for table in self.root.tables(7, limit=1000):
            number = table.integer(4, "I")
            if number >= len(self.graphs):
                self.report("tflite-damaged", Severity.MISLEAD, "a signature has no subgraph", f"subgraph {number}")
                continue
            values = self.graphs[number][1]
            sides = [self._ports(self._mapped(table, slot), values) for slot in (0, 1)]
            key = (table.string(2, limit=MAX_NAME) or "")[:200]
            model.signatures[key] = {
                "inputs": {port.name: _shown(port) for port in sides[0]},
                "outputs": {port.name: _shown(port) for port in sides[1]},
            }
            if not model.inputs and not model.outputs:
                model.inputs, model.outputs = sides
        if self.graphs and not model.signatures:
            _, values, inputs, outputs = self.graphs[0]
            model.inputs = self._ports([("", index) for index in inputs], values)
            model.outputs = self._ports([("", index) for index in outputs], values)

    def _mapped(self, table: Table, slot: int) -> list[tuple[str, int]]:
        pairs = [
            (item.string(0, limit=MAX_NAME) or "", item.integer(1, "I")) for item in table.tables(slot, limit=10_000)
        ]
        return sorted(pairs)

    def _ports(self, named: list[tuple[str, int]], values: list[Value]) -> tuple[Port, ...]:
        ports = []
        for name, index in named[:10_000]:
            if not 0 <= index < len(values):
                self.report("tflite-damaged", Severity.MISLEAD, "an input or output is no tensor", f"tensor {index}")
                continue
            value = values[index]
            ports.append(Port(name or value.name, value.dtype, value.shape))
            if value.quantization is not None:
                self.model.port_quantization[name or value.name] = value.quantization.to_json()
        return tuple(ports)


def _value(table: Table) -> Value:
    sizes = table.integers(0, limit=MAX_RANK)
    signature = table.integers(7, limit=MAX_RANK)
    number = table.integer(1, "b")
    shape = signature if len(signature) == len(sizes) else sizes
    return Value(
        name=table.string(3, limit=MAX_NAME) or "",
        dtype=TYPES.get(number, f"type {number}"),
        shape=tuple(None if size < 0 else size for size in shape),
        sizes=tuple(max(0, size) for size in sizes),
        buffer=table.integer(2, "I"),
        quantization=_quantization(table),
        sparse=6 in table,
    )


def _quantization(table: Table) -> Quantization | None:
    source = table.table(4)
    if source is None or TYPES.get(table.integer(1, "b")) not in _QUANTIZED:
        return None
    scales = source.numbers(2, "f")
    return Quantization(scales, source.integers(3, "q"), source.integer(6, "i")) if scales else None


def _shown(port: Port) -> str:
    return f"{port.dtype}[{', '.join('?' if size is None else str(size) for size in port.shape or ())}]"
