"""OpenVINO IR: an XML file with the network, and a ``.bin`` file of the same name with its constants.

Source of the layout: the OpenVINO documentation of the IR (``net``, ``layers``, ``layer``, ``data``, ``port``,
``edges``, ``rt_info``; versions 10 and 11, and the ``blobs`` of versions before).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import ClassVar

from assay.containers.foreign import is_foreign
from assay.containers.guard import guarded
from assay.containers.markup import DoctypeRefused, includes, root_element, walk
from assay.errors import BadFormat, LimitExceeded
from assay.spec.description import Description, Port
from assay.spec.finding import Finding, Severity
from assay.spec.json import Json
from assay.spec.tensor import Extent, TensorSpec
from assay.trees import Tree

MAX_TENSORS = 200_000
MAX_FINDINGS_PER_RULE = 20
MAX_PROPERTIES = 512
MAX_TEXT = 400
"""Characters of one property that are shown."""

MAX_RANK = 64
HUGE_BYTES = 1 << 32

_EFFECTS = {Severity.READ: "read a file outside the artifact", Severity.EXHAUST: "use up memory"}
_LARGEST_SIZE = 1 << 63
_BODIES = frozenset({"body", "then_body", "else_body"})
_OPSETS = frozenset({f"opset{number}" for number in range(1, 40)}) | {"", "experimental"}
_ELEMENTS: dict[str, tuple[str, int]] = {
    "f64": ("float64", 64),
    "f32": ("float32", 32),
    "f16": ("float16", 16),
    "bf16": ("bfloat16", 16),
    "f8e4m3": ("float8_e4m3fn", 8),
    "f8e5m2": ("float8_e5m2", 8),
    "f8e8m0": ("float8_e8m0fnu", 8),
    "f4e2m1": ("float4_e2m1fn", 4),
    "nf4": ("nf4", 4),
    "i64": ("int64", 64),
    "i32": ("int32", 32),
    "i16": ("int16", 16),
    "i8": ("int8", 8),
    "i4": ("int4", 4),
    "u64": ("uint64", 64),
    "u32": ("uint32", 32),
    "u16": ("uint16", 16),
    "u8": ("uint8", 8),
    "u4": ("uint4", 4),
    "u2": ("uint2", 2),
    "u1": ("uint1", 1),
    "boolean": ("bool", 8),
    "string": ("string", 0),
}
_PRECISIONS = {"FP": "f", "BF": "bf", "I": "i", "U": "u", "BOOL": "boolean", "BIN": "u1"}


class OpenVinoFormat:
    """The OpenVINO IR format; a group is the XML file and, when it is there, its ``.bin`` file."""

    name: ClassVar[str] = "openvino"
    covers: ClassVar[str] = "file"

    def detect(self, tree: Tree) -> Sequence[tuple[str, ...]]:
        """XML files whose outermost element is a ``net`` with a version."""
        groups: list[tuple[str, ...]] = []
        for path in tree:
            root = root_element(tree.head(path))
            if root is None or root.name != "net":
                continue
            if root.doctype or root.attributes.get("version", "").isdecimal():
                weights = _weights_path(path)
                own = weights in tree and not is_foreign(tree.head(weights))
                groups.append((path, weights) if own else (path,))
        return groups

    def describe(self, tree: Tree, paths: tuple[str, ...]) -> Description:
        """Operators, signature, constants and conversion settings of one network.

        Raises:
            BadFormat: it is no OpenVINO network.
        """
        path = paths[0]
        with guarded("an OpenVINO network", path):
            network = _Network(tree, path)
            try:
                walk(tree.open(path), network)
            except DoctypeRefused as error:
                network.report("openvino-doctype", Severity.READ, error.message)
                network.report("openvino-malformed", Severity.INCOMPLETE, "nothing after the declaration was read")
            except BadFormat as error:
                rule = "openvino-limit" if isinstance(error, LimitExceeded) else "openvino-malformed"
                offset = error.details.get("offset")
                network.report(rule, Severity.INCOMPLETE, error.message, offset if isinstance(offset, int) else None)
            network.judge()
            return _description(network, paths)


@dataclass(slots=True)
class _Layer:
    """One layer while it is read: its attributes, its ``data`` and its last port."""

    name: str
    kind: str
    version: str
    scope: str
    data: Mapping[str, str] = field(default_factory=dict)
    precision: str = ""
    dims: list[str] | None = None


class _Network:
    """Everything found in one network; takes the elements of the document."""

    def __init__(self, tree: Tree, path: str) -> None:
        self.path = path
        self.weights = _weights_path(path)
        self.weights_size = tree.size(self.weights) if self.weights in tree else None
        self.name = self.version = ""
        self.operators: Counter[str] = Counter()
        self.opsets: Counter[str] = Counter()
        self.inputs: list[Port] = []
        self.outputs: list[Port] = []
        self.tensors: list[TensorSpec] = []
        self.properties: dict[str, Json] = {}
        self.findings: list[Finding] = []
        self._stack: list[str] = []
        self._layers: list[_Layer] = []
        self._scope = ""
        self._text = ""
        self._names: Counter[str] = Counter()
        self._reported: Counter[str] = Counter()

    def report(self, rule: str, severity: Severity, message: str, offset: int | None = None) -> None:
        """Keep a finding; of one rule only the first ``MAX_FINDINGS_PER_RULE``."""
        self._reported[rule] += 1
        if self._reported[rule] <= MAX_FINDINGS_PER_RULE:
            does = _EFFECTS.get(severity, "")
            self.findings.append(Finding(rule, severity, message, self.path, offset, effect=does))

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        """An element begins."""
        parent = self._stack[-1] if self._stack else ""
        self._stack.append(name)
        self._text = ""
        layer = self._layers[-1] if self._layers else None
        if includes(name, attributes):
            text = "an element is put in from another document"
            self.report("openvino-include", Severity.READ, text)
        if not parent:
            self.name, self.version = attributes.get("name", "")[:512], attributes.get("version", "")[:32]
        elif name == "layer" and parent == "layers":
            layer_name, kind, opset = (attributes.get(key, "")[:512] for key in ("name", "type", "version"))
            self._layers.append(_Layer(layer_name, kind, opset, self._scope))
        elif name in _BODIES and layer is not None:
            self._scope = f"{layer.scope}{layer.name}/{'' if name == 'body' else name + '/'}"[:4096]
        elif layer is not None and parent == "layer" and name == "data":
            layer.data = attributes
        elif layer is not None and name == "port" and parent in {"input", "output"}:
            layer.precision, layer.dims = attributes.get("precision", layer.precision), []
        elif layer is not None and parent == "blobs":
            self._blob(layer, name, attributes)
        elif self._stack[1] in {"rt_info", "meta_data"} and "value" in attributes:
            self._property("/".join(self._stack[2:]), attributes["value"])

    def end(self, name: str) -> None:
        """The innermost element ends."""
        self._stack.pop()
        layer = self._layers[-1] if self._layers else None
        if layer is None:
            return
        if name == "layer" and self._stack and self._stack[-1] == "layers":
            self._layers.pop()
            self._finish(layer)
        elif name in _BODIES:
            self._scope = layer.scope
        elif name == "dim" and layer.dims is not None and len(layer.dims) < MAX_RANK:
            layer.dims.append(self._text.strip())

    def text(self, text: str) -> None:
        """Text inside an element: only dimensions have some."""
        if self._stack and self._stack[-1] == "dim" and len(self._text) < 64:
            self._text += text[:64]

    def judge(self) -> None:
        """Report what only shows when the whole network was seen."""
        if self.tensors and self.weights_size is None:
            text = f"its weights {self.weights.rpartition('/')[2]!r} are missing"
            self.report("openvino-weights-missing", Severity.INCOMPLETE, text)
        for opset in sorted(self.opsets):
            if opset not in _OPSETS:
                text = f"{self.opsets[opset]:,} operators of {opset!r} need an OpenVINO extension library"
                self.report("openvino-extension", Severity.INCOMPLETE, text)

    def _property(self, key: str, value: str) -> None:
        if len(self.properties) < MAX_PROPERTIES:
            self.properties[key[:MAX_TEXT]] = (
                value if len(value) <= MAX_TEXT else f"{value[:MAX_TEXT]}… ({len(value):,} characters)"
            )

    def _finish(self, layer: _Layer) -> None:
        self.operators[layer.kind] += 1
        self.opsets[layer.version] += 1
        outermost = not layer.scope
        if layer.kind == "Const":
            self._constant(layer)
        elif layer.kind == "Parameter" and outermost:
            shape = layer.data.get("shape")
            dims = layer.dims if shape is None else [word for word in shape.split(",") if word.strip()]
            dtype = _dtype(layer.data.get("element_type") or _element(layer.precision))
            self.inputs.append(Port(layer.name, dtype, None if dims is None else _shape(dims)))
        elif layer.kind == "Input" and outermost:  # versions before 10
            self.inputs.append(Port(layer.name, _dtype(_element(layer.precision)), _shape(layer.dims or [])))
        elif layer.kind == "Result" and outermost:
            name = layer.name.partition("/sink_port_")[0]
            self.outputs.append(Port(name, _dtype(_element(layer.precision)), _shape(layer.dims or [])))

    def _constant(self, layer: _Layer) -> None:
        data = layer.data
        element = data.get("element_type", "")
        try:
            shape = tuple(_whole(word) for word in data.get("shape", "").split(",") if word.strip())
            offset, length = _whole(data.get("offset", "")), _whole(data.get("size", ""))
        except BadFormat as error:
            text = f"constant {layer.name!r}: {error.message}"
            self.report("openvino-constant", Severity.INCOMPLETE, text)
            return
        if element not in _ELEMENTS:
            text = f"constant {layer.name!r} has the unknown element type {element[:80]!r}"
            self.report("openvino-unknown-dtype", Severity.INCOMPLETE, text)
        dtype, bits = _ELEMENTS.get(element, (element[:80].lower() or "unknown", 0))
        self._tensor(layer.scope + layer.name, dtype, bits, shape, offset, length)

    def _blob(self, layer: _Layer, name: str, attributes: Mapping[str, str]) -> None:
        """Weights of a layer in versions before 10: no shape, so a flat array."""
        dtype, bits = _ELEMENTS.get(_element(attributes.get("precision", "FP32")), ("unknown", 0))
        try:
            offset, length = _whole(attributes.get("offset", "")), _whole(attributes.get("size", ""))
        except BadFormat as error:
            text = f"weights of layer {layer.name!r}: {error.message}"
            self.report("openvino-constant", Severity.INCOMPLETE, text)
            return
        count = length * 8 // bits if bits else length
        self._tensor(f"{layer.scope}{layer.name}.{name}", dtype, bits, (count,), offset, length)

    def _tensor(self, name: str, dtype: str, bits: int, shape: tuple[int, ...], offset: int, length: int) -> None:
        if len(self.tensors) >= MAX_TENSORS:
            raise LimitExceeded(f"{self.path}: more than {MAX_TENSORS:,} tensors", path=self.path)
        count = prod(shape)
        if len(shape) > MAX_RANK or count >= _LARGEST_SIZE:
            self.report("openvino-huge-tensor", Severity.EXHAUST, f"constant {name!r} states {count:.3g} elements")
            return
        self._names[name] += 1
        unique = name if self._names[name] == 1 else f"{name}#{self._names[name]}"
        expected = (count * bits + 7) // 8 if bits else None
        extent = None
        if expected is not None and length != expected:
            rule, severity = "openvino-data-length", Severity.MISLEAD
            if expected >= HUGE_BYTES:
                rule, severity = "openvino-huge-tensor", Severity.EXHAUST
            text = f"constant {name!r} needs {expected:,} bytes for its shape, it states {length:,}"
            self.report(rule, severity, text)
        elif self.weights_size is not None and offset + length > self.weights_size:
            text = f"constant {name!r} ends at {offset + length:,}, the weights have {self.weights_size:,} bytes"
            self.report("openvino-data-range", Severity.MISLEAD, text)
        elif self.weights_size is not None and expected is not None:
            extent = Extent(self.weights, offset, length)
        self.tensors.append(TensorSpec(unique, dtype, shape, extent))


def _weights_path(path: str) -> str:
    stem, dot, _ = path.rpartition(".")
    return f"{stem if dot else path}.bin"


def _whole(text: str) -> int:
    text = text.strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise BadFormat(f"expected a whole number, found {text[:40]!r}")
    return int(text)


def _element(precision: str) -> str:
    """``FP32`` as ports say it, to ``f32`` as data says it."""
    letters = precision.rstrip("0123456789")
    return _PRECISIONS.get(letters, precision.lower()[:80]) + precision[len(letters) :]


def _dtype(element: str) -> str:
    return _ELEMENTS.get(element, (element[:80] or "unknown", 0))[0]


def _shape(words: Sequence[str]) -> tuple[int | str | None, ...]:
    """Sizes; ``?`` and ``-1`` are any size, ``1..8`` is a range and stays as it is written."""
    dims: list[int | str | None] = []
    for word in list(words)[:MAX_RANK]:
        text = word.strip()
        if text.isascii() and text.isdigit() and len(text) <= 19:
            dims.append(int(text))
        else:
            dims.append(None if text in {"?", "-1", ""} else text[:64])
    return tuple(dims)


def _description(network: _Network, paths: tuple[str, ...]) -> Description:
    properties = network.properties
    version = properties.get("Runtime_version") or properties.get("MO_version")
    source = properties.get("conversion_parameters/framework") or properties.get("cli_parameters/framework")
    opsets: dict[str, Json] = {word: count for word, count in network.opsets.most_common() if word}
    found: dict[str, Json] = {
        "ir_version": network.version,
        "name": network.name,
        "ops": dict(network.operators.most_common()),
        "opsets": opsets,
        "converted_from": source,
        "properties": properties,
    }
    return Description(
        format="openvino",
        paths=tuple(sorted(paths)),
        format_version=network.version or None,
        framework="openvino",
        framework_version=str(version).partition("-")[0] if version else None,
        tensors=tuple(network.tensors),
        inputs=tuple(network.inputs),
        outputs=tuple(network.outputs),
        requirements=("openvino",),
        metadata={key: value for key, value in found.items() if value not in (None, "", {})},
        findings=tuple(network.findings),
    )
