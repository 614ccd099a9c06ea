"""Walking an ONNX graph with everything nested in it: subgraphs of If, Loop and Scan, functions, attributes.

One ``GraphWalk`` collects what it meets, so that whatever was understood before a damaged part is kept.

Source of the layout: onnx.proto (``GraphProto``, ``NodeProto``, ``AttributeProto``, ``FunctionProto``).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from assay.containers.protobuf.message import Field
from assay.errors import BadFormat, LimitExceeded
from assay.formats.onnx.schema import CLASSICAL_DOMAIN, CLASSICAL_MODELS, PYTHON_OPERATORS
from assay.formats.onnx.tensors import Place, RawTensor, read_port, read_tensor, to_spec
from assay.formats.onnx.trees import distinct
from assay.spec.description import Component, Port
from assay.spec.finding import Finding, Severity
from assay.spec.json import Json
from assay.spec.tensor import Extent, TensorSpec
from assay.trees import Tree

MAX_DEPTH = 24
"""Graphs inside graphs."""

MAX_NODES = 500_000
MAX_ATTRIBUTES = 1_000
"""Attributes of one operator."""

MAX_TENSORS = 200_000
MAX_COMPONENTS = 200
MAX_PORTS = 10_000
MAX_FINDINGS_PER_RULE = 20
MAX_LISTED = 64
"""Strings of a list attribute that are shown."""

_EFFECTS = {
    Severity.EXECUTE: "run code that the model brings or names",
    Severity.NETWORK: "reach the network",
    Severity.READ: "read a file outside the artifact",
    Severity.EXHAUST: "use up memory or time",
}
_FLOATS, _INTS, _STRINGS = 7, 8, 9
_LIST_WORDS = {_FLOATS: "float", _INTS: "int", _STRINGS: "string"}
_PREPARING = frozenset({"TfIdfVectorizer", "StringNormalizer", "Tokenizer"})
_CONSTANT_LISTS = {
    "value_floats": (_FLOATS, "float32"),
    "value_ints": (_INTS, "int64"),
    "value_strings": (_STRINGS, "string"),
}


@dataclass(slots=True)
class GraphFacts:
    """The outside of one graph: its name, text and signature, and the names of its initialisers."""

    name: str = ""
    doc: str = ""
    inputs: list[Port] = field(default_factory=list)
    outputs: list[Port] = field(default_factory=list)
    initialisers: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Node:
    """One operator: what it is called and what it holds."""

    operator: str = ""
    domain: str = ""
    name: str = ""
    output: str = ""
    attributes: list[Field] = field(default_factory=list)


@dataclass(slots=True)
class _Attribute:
    """One attribute: its scalar, the lengths of its lists, and the messages in it."""

    message: Field
    name: str = ""
    scalar: Json = None
    fixed: Field | None = None
    counts: dict[int, int] = field(default_factory=lambda: {_FLOATS: 0, _INTS: 0, _STRINGS: 0})
    tensors: list[Field] = field(default_factory=list)
    sparse: list[Field] = field(default_factory=list)
    graphs: list[Field] = field(default_factory=list)


class GraphWalk:
    """Everything found in the graphs of one model file.

    Args:
        tree: where side files are looked for.
        path: the model's entry.

    Attributes:
        main: the outside of the main graph.
        operators: how often each (domain, operator) is used; a function's body counts once.
        calls: the same for each function's body, and under None for the graphs.
        functions: names of the functions that the model defines, by (domain, name).
        domains: domains of the functions the model defines: operators of these need no library.
        tensors: every tensor, in file order.
        written: by name, where tensors stand that are written number by number instead of as bytes.
        sparse: dense shape of each sparse tensor.
        components: classical predictors and what prepares their input.
        trees: trees in all tree ensembles.
        trained: numbers that classical predictors hold in their attributes.
        subgraphs: number of nested graphs.
        findings: what was odd.
    """

    def __init__(self, tree: Tree, path: str) -> None:
        self.place = Place(tree, path, self.report)
        self.main = GraphFacts()
        self.operators: Counter[tuple[str, str]] = Counter()
        self.calls: dict[tuple[str, str] | None, Counter[tuple[str, str]]] = {None: Counter()}
        self.functions: list[tuple[str, str]] = []
        self.tensors: list[TensorSpec] = []
        self.written: dict[str, RawTensor | Field] = {}
        self.sparse: dict[str, Json] = {}
        self.components: list[Component] = []
        self.trees = 0
        self.trained = 0
        self.subgraphs = 0
        self.findings: list[Finding] = []
        self._caller: tuple[str, str] | None = None
        self._nodes = 0
        self._names: set[str] = set()
        self._suffixes: Counter[str] = Counter()
        self._reported: Counter[str] = Counter()

    def report(
        self, rule: str, severity: Severity, message: str, offset: int | None = None, evidence: str = ""
    ) -> None:
        """Keep a finding; of one rule only the first ``MAX_FINDINGS_PER_RULE``."""
        self._reported[rule] += 1
        if self._reported[rule] <= MAX_FINDINGS_PER_RULE:
            does = _EFFECTS.get(severity, "")
            self.findings.append(Finding(rule, severity, message, self.place.path, offset, evidence, does))

    def close(self) -> None:
        """Say which rules were broken more often than was reported."""
        for rule, count in self._reported.items():
            if count > MAX_FINDINGS_PER_RULE:
                message = f"{rule}: {count - MAX_FINDINGS_PER_RULE:,} more like these"
                self.findings.append(Finding("onnx-more-findings", Severity.NOTE, message, self.place.path))

    def graph(self, message: Field, facts: GraphFacts, scope: str = "", depth: int = 0) -> None:
        """Walk a ``GraphProto``.

        Args:
            message: the graph.
            facts: filled with its outside.
            scope: prefix of the names of its tensors, ending in ``/`` unless empty.
            depth: number of graphs around it.

        Raises:
            LimitExceeded: there are more fields or tensors than may be visited.
        """
        if depth > MAX_DEPTH:
            self.report(
                "onnx-deep-subgraphs", Severity.INCOMPLETE, f"more than {MAX_DEPTH} nested graphs", message.offset
            )
            return
        nodes = 0
        try:
            for part in message:
                match part.number:
                    case 1:
                        self._tolerant_node(part, scope, nodes, depth)
                        nodes += 1
                    case 2:
                        facts.name = part.text(1024)
                    case 5:
                        self._initialiser(part, facts, scope)
                    case 10:
                        facts.doc = part.text(4096)
                    case 11 if len(facts.inputs) < MAX_PORTS:
                        facts.inputs.append(read_port(part))
                    case 12 if len(facts.outputs) < MAX_PORTS:
                        facts.outputs.append(read_port(part))
                    case 15:
                        facts.initialisers.add(self._sparse(part, scope, "sparse"))
        except LimitExceeded:
            raise
        except BadFormat as error:
            self._malformed(error)

    def function(self, message: Field) -> None:
        """Walk a ``FunctionProto``: its operators and the constants in its body.

        Raises:
            LimitExceeded: there are more fields or tensors than may be visited.
        """
        name = domain = ""
        nodes: list[Field] = []
        try:
            for part in message:
                match part.number:
                    case 1:
                        name = part.text(256)
                    case 7:
                        nodes.append(part)
                    case 10:
                        domain = part.text(256)
        except LimitExceeded:
            raise
        except BadFormat as error:
            self._malformed(error)
        domain = "" if domain == "ai.onnx" else domain
        self.functions.append((domain, name))
        self._caller = (domain, name)
        self.calls.setdefault(self._caller, Counter())
        for index, node in enumerate(nodes):
            self._tolerant_node(node, f"{domain}.{name}/" if domain else f"{name}/", index, 0)
        self._caller = None

    def _malformed(self, error: BadFormat) -> None:
        offset = error.details.get("offset")
        self.report(
            "onnx-malformed", Severity.INCOMPLETE, error.message, offset if isinstance(offset, int) else None, ""
        )

    def _tolerant_node(self, message: Field, scope: str, index: int, depth: int) -> None:
        try:
            self._node(message, scope, index, depth)
        except LimitExceeded:
            raise
        except BadFormat as error:
            self._malformed(error)

    def _node(self, message: Field, scope: str, index: int, depth: int) -> None:
        node = _Node()
        for part in message:
            match part.number:
                case 2 if not node.output:
                    node.output = part.text(512)
                case 3:
                    node.name = part.text(512)
                case 4:
                    node.operator = part.text(256)
                case 5:
                    if len(node.attributes) >= MAX_ATTRIBUTES:
                        raise message.reader.fail(part.start, f"operator with more than {MAX_ATTRIBUTES:,} attributes")
                    node.attributes.append(part)
                case 7:
                    node.domain = part.text(256)
        domain = "" if node.domain == "ai.onnx" else node.domain
        self.operators[domain, node.operator] += 1
        self.calls[self._caller][domain, node.operator] += 1
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise LimitExceeded(f"{self.place.path}: more than {MAX_NODES:,} operators", path=self.place.path)
        if node.operator in PYTHON_OPERATORS:
            self.report(
                "onnx-python-operator",
                Severity.EXECUTE,
                f"operator {node.operator!r} calls Python code",
                message.offset,
                node.name,
            )
        label = node.name or node.output or f"{node.operator}_{index}"
        attributes = [self._attribute(each) for each in node.attributes]
        for attribute in attributes:
            self._attribute_content(attribute, node, scope, label, depth)
        if domain == CLASSICAL_DOMAIN or node.operator in _PREPARING:
            self._classical(node, domain, label, attributes)

    def _attribute(self, message: Field) -> _Attribute:
        found = _Attribute(message)
        for part in message.fields(tally=found.counts):
            match part.number:
                case 1:
                    found.name = part.text(256)
                case 2:
                    found.scalar, found.fixed = _finite(part.real), part
                case 3:
                    found.scalar = part.signed
                case 4:
                    found.scalar = part.text(1024)
                case 5 | 10:
                    found.tensors.append(part)
                case 6 | 11:
                    found.graphs.append(part)
                case 22 | 23:
                    found.sparse.append(part)
        return found

    def _attribute_content(self, attribute: _Attribute, node: _Node, scope: str, label: str, depth: int) -> None:
        constant = node.operator == "Constant"
        name = scope + (node.output or label) if constant else f"{scope}{label}.{attribute.name}"
        for message in attribute.tensors:
            self._tensor(read_tensor(message), name)
        for message in attribute.sparse:
            self._sparse(message, scope, name.removeprefix(scope))
        for message in attribute.graphs:
            self.subgraphs += 1
            self.graph(message, GraphFacts(), f"{scope}{label}/{attribute.name}/", depth + 1)
        if constant and attribute.name.startswith("value_"):
            self._plain_constant(attribute, name)

    def _plain_constant(self, attribute: _Attribute, name: str) -> None:
        """A Constant given as a number, a text or a list of them instead of as a tensor."""
        if attribute.name in _CONSTANT_LISTS:
            number, dtype = _CONSTANT_LISTS[attribute.name]
            self._add(TensorSpec(self._unique(name), dtype, (attribute.counts[number],)), attribute.message)
        elif attribute.name == "value_float" and attribute.fixed is not None:
            extent = Extent(self.place.path, attribute.fixed.offset, attribute.fixed.size)
            self._add(TensorSpec(self._unique(name), "float32", (), extent))
        elif attribute.name in {"value_int", "value_string"}:
            dtype = "int64" if attribute.name == "value_int" else "string"
            self._add(TensorSpec(self._unique(name), dtype, ()), attribute.message)

    def _initialiser(self, message: Field, facts: GraphFacts, scope: str) -> None:
        try:
            tensor = read_tensor(message)
        except LimitExceeded:
            raise
        except BadFormat as error:
            self._malformed(error)
            return
        if tensor.name in facts.initialisers:
            self.report(
                "onnx-duplicate-tensor",
                Severity.MISLEAD,
                f"initialiser {tensor.name[:200]!r} occurs more than once in one graph",
                tensor.offset,
            )
        facts.initialisers.add(tensor.name)
        self._tensor(tensor, scope + tensor.name)

    def _sparse(self, message: Field, scope: str, fallback: str) -> str:
        """Index the values and indices of a ``SparseTensorProto``; returns its name."""
        parts: dict[int, RawTensor] = {}
        dims: list[int] = []
        for part in message:
            if part.number in {1, 2}:
                parts[part.number] = read_tensor(part)
            elif part.number == 3 and len(dims) < MAX_LISTED:
                dims += part.signed_integers()
        name = (parts[1].name if 1 in parts else "") or fallback
        for number, word in ((1, "values"), (2, "indices")):
            if number in parts:
                self._tensor(parts[number], f"{scope}{name}.{word}")
        if len(self.sparse) < MAX_LISTED:
            self.sparse[scope + name] = dims[:MAX_LISTED]
        return name

    def _tensor(self, tensor: RawTensor, name: str) -> None:
        spec = to_spec(tensor, self._unique(name), self.place)
        if spec is not None:
            self._add(spec, tensor)

    def _add(self, spec: TensorSpec, source: RawTensor | Field | None = None) -> None:
        if len(self.tensors) >= MAX_TENSORS:
            raise LimitExceeded(f"{self.place.path}: more than {MAX_TENSORS:,} tensors", path=self.place.path)
        self.tensors.append(spec)
        if spec.extent is None and source is not None:
            self.written[spec.name] = source

    def _unique(self, name: str) -> str:
        found = name or "tensor"
        while found in self._names:
            self._suffixes[name] += 1
            found = f"{name or 'tensor'}#{self._suffixes[name] + 1}"
        self._names.add(found)
        return found

    def _classical(self, node: _Node, domain: str, label: str, attributes: list[_Attribute]) -> None:
        """A classical operator as a component: its settings, the sizes of what training left in it, its trees."""
        settings: dict[str, Json] = {}
        fitted: dict[str, str] = {}
        if node.operator in CLASSICAL_MODELS:
            self.trained += sum(attribute.counts[_FLOATS] for attribute in attributes)
        for attribute in attributes:
            if attribute.scalar is not None:
                settings[attribute.name] = attribute.scalar
            for number, count in attribute.counts.items():
                if count:
                    fitted[attribute.name] = f"{_LIST_WORDS[number]}[{count}]"
            if attribute.name.startswith(("classlabels_", "classes")) and sum(attribute.counts.values()) <= MAX_LISTED:
                settings["classes"] = _listed(attribute.message)
            if attribute.name in {"nodes_treeids", "tree_roots"}:
                trees = len(distinct(attribute.message, _INTS))
                self.trees += trees
                settings["trees"] = trees
        if len(self.components) < MAX_COMPONENTS:
            kind = f"{domain}.{node.operator}" if domain else node.operator
            self.components.append(Component(label, kind, settings, fitted))


def _listed(message: Field) -> list[Json]:
    values: list[Json] = []
    for part in message:
        if part.number == _STRINGS:
            values.append(part.text(200))
        elif part.number == _INTS:
            values += part.signed_integers(MAX_LISTED * 10)
        elif part.number == _FLOATS:
            values += [_finite(value) for value in part.reals(4, MAX_LISTED * 4)]
    return values[:MAX_LISTED]


def _finite(value: float) -> Json:
    return value if abs(value) < float("inf") else str(value)
