"""ONNX models: the graph up to the names of its values, operators, attributes, opsets, and what stands beside it.

Two graphs are the same when their nodes are, one by one, with values numbered in order of appearance. Names of tensors
that both sides have are kept, because by them the comparison of tensors pairs what it compares; renamed ones must hold
their content in the same places. Field numbers are those of ``onnx.proto``.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from assay.compare.archives import Part
from assay.compare.gathering import Gathered, Judgement, examples
from assay.compare.noise import noise
from assay.compare.values import Change, changes
from assay.containers.guard import guarded
from assay.containers.protobuf.message import BYTES, Field, message
from assay.errors import AssayError
from assay.spec.changes import Area, Effect, ItemKind

MAX_NODES = 500_000
MAX_DEPTH = 32
MAX_ATTRIBUTE = 1 << 24
"""Bytes of one attribute that are read."""
SAMPLED = 1 << 18
"""Bytes of a long tensor that are read to tell it from others."""
SHOWN_NODES = 12

_HEAD = {1: "ir_version", 2: "producer_name", 3: "producer_version", 4: "domain", 5: "model_version", 6: "doc_string"}
_STAMP = Judgement(Area.METADATA, Effect.NOTE, "what the exporter says about itself")
_GRAPH = Judgement(Area.GRAPH)
_SETTING = Judgement(Area.METADATA, Effect.BEHAVIOUR, "programs read settings and labels from here")
_SHAPES = Judgement(Area.METADATA, Effect.NOTE, "shapes of values inside, which runtimes work out for themselves")
_TENSOR_FIELDS = frozenset({4, 5, 6, 7, 9, 10, 11, 13, 14})
"""Fields of a TensorProto that hold or place its elements."""


@dataclass(slots=True)
class Node:
    """One node.

    Args:
        op: operator, with its domain where that is not the default one.
        wires: names of what goes in and what comes out, before numbering.
        outputs: how many of the wires come out.
        attributes: by name, as bytes or a subgraph.
        name: as the file calls it.
    """

    op: str
    wires: list[str] = field(default_factory=list)
    outputs: int = 0
    attributes: dict[str, Any] = field(default_factory=dict)
    name: str = ""


@dataclass(slots=True)
class Graph:
    """One graph: names of inputs, outputs and tensors, and its nodes."""

    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    tensors: dict[str, str] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    rest: list[str] = field(default_factory=list)
    shapes: str = ""


@dataclass(slots=True)
class Model:
    """One model: what stands beside the graph, and the graph."""

    head: dict[str, Any] = field(default_factory=dict)
    opsets: dict[str, int] = field(default_factory=dict)
    properties: dict[str, str] = field(default_factory=dict)
    rest: list[str] = field(default_factory=list)
    graph: Graph = field(default_factory=Graph)


def compare_onnx(gathered: Gathered, part: Part) -> None:
    """Note what changed between two ONNX models."""
    try:
        with guarded("an ONNX model", part.path):
            old, new = read_model(message(part.old)), read_model(message(part.new))
            _heads(gathered, old, new, part.path)
            _graphs(gathered, old.graph, new.graph, part.path)
    except AssayError as error:
        gathered.unread(part.path, error.message, Area.GRAPH)


def read_model(body: Field) -> Model:
    """A ModelProto without the elements of its tensors."""
    model = Model()
    for one in body:
        if one.number in _HEAD:
            model.head[_HEAD[one.number]] = one.text() if one.wire == BYTES else one.signed
        elif one.number == 7:
            model.graph = _graph(one, 0)
        elif one.number == 8:
            parts = {inner.number: inner for inner in one}
            domain = parts[1].text() if 1 in parts else ""
            model.opsets[domain or "ai.onnx"] = parts[2].signed if 2 in parts else 0
        elif one.number == 14:
            parts = {inner.number: inner for inner in one}
            model.properties[parts[1].text() if 1 in parts else ""] = parts[2].text() if 2 in parts else ""
        else:
            model.rest.append(_digest(one))
    return model


def _graph(body: Field, depth: int) -> Graph:
    if depth > MAX_DEPTH:
        raise ValueError(f"subgraphs nested deeper than {MAX_DEPTH}")
    graph = Graph()
    shapes = hashlib.sha256()
    for one in body:
        if one.number == 1:
            if len(graph.nodes) >= MAX_NODES:
                raise ValueError(f"more than {MAX_NODES:,} nodes")
            graph.nodes.append(_node(one, depth))
        elif one.number == 5:
            name, said = _tensor(one, sampled=True)
            graph.tensors[name] = said
        elif one.number in {11, 12}:
            parts = {inner.number: inner for inner in one}
            (graph.inputs if one.number == 11 else graph.outputs).append(parts[1].text() if 1 in parts else "")
        elif one.number in {13, 16}:
            shapes.update(one.read())
        elif one.number not in {2, 10}:
            graph.rest.append(_digest(one))
    graph.shapes = shapes.hexdigest()
    return graph


def _node(body: Field, depth: int) -> Node:
    node = Node("")
    domain, overload = "", ""
    outputs: list[str] = []
    for one in body:
        if one.number == 1:
            node.wires.append(one.text())
        elif one.number == 2:
            outputs.append(one.text())
        elif one.number == 3:
            node.name = one.text()
        elif one.number == 4:
            node.op = one.text()
        elif one.number == 5:
            name, value = _attribute(one, depth)
            node.attributes[name] = value
        elif one.number == 7:
            domain = one.text()
        elif one.number == 8:
            overload = one.text()
    node.wires.extend(outputs)
    node.outputs = len(outputs)
    node.op = ".".join(filter(None, ("" if domain == "ai.onnx" else domain, node.op, overload)))
    return node


def _attribute(body: Field, depth: int) -> tuple[str, Any]:
    """Name and value: a graph, a tensor's type and shape with a digest of its elements, numbers, or a digest."""
    name, value = "", None
    parts: list[Any] = []
    for one in body:
        if one.number == 1:
            name = one.text()
        elif one.number in {6, 11}:
            value = _graph(one, depth + 1)
            parts.append(value)
        elif one.number == 5:
            parts.append(Tensor(*_tensor(one)))
        elif one.number in {2, 3, 4, 7, 8, 9}:
            parts.append(_plain(one))
        elif one.number not in {13, 20}:
            parts.append(_digest(one))
    return name, parts[0] if len(parts) == 1 else parts


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor in an attribute: its name, and type, shape and digest of its elements."""

    name: str
    said: str


def _plain(one: Field) -> Any:
    if one.wire != BYTES:
        return one.signed if one.number in {3, 8} else one.real
    data = one.read(MAX_ATTRIBUTE)
    return data.decode("utf-8", "replace") if len(data) <= 200 and one.number in {4, 9} else _said(data)


def _said(data: bytes) -> str:
    return f"{len(data):,} bytes {hashlib.sha256(data).hexdigest()[:16]}"


def _tensor(body: Field, *, sampled: bool = False) -> tuple[str, str]:
    """Name of a tensor, and its type and shape, then a digest of its elements.

    Long ones are *sampled* at both ends where the digest only tells which of many tensors one is.
    """
    name, dtype = "", 0
    dims: list[int] = []
    digest = hashlib.sha256()
    for one in body:
        if one.number == 1:
            dims.extend(one.signed_integers() if one.wire == BYTES else [one.signed])
        elif one.number == 2:
            dtype = one.signed
        elif one.number == 8:
            name = one.text()
        elif one.number in _TENSOR_FIELDS:
            digest.update(f"{one.number}".encode())
            if one.wire == BYTES and sampled and one.size > SAMPLED:
                window = one.reader.window
                digest.update(window.read(one.start, SAMPLED // 2) + window.read(one.end - SAMPLED // 2, SAMPLED // 2))
            elif one.wire == BYTES:
                _feed(digest, one)
            else:
                digest.update(str(one.value).encode())
    return name, f"type {dtype} {dims}|{digest.hexdigest()}"


def _feed(digest: Any, one: Field) -> None:
    window = one.reader.window
    for start in range(one.start, one.end, 1 << 20):
        digest.update(window.read(start, min(1 << 20, one.end - start)))


def _digest(one: Field) -> str:
    digest = hashlib.sha256(f"{one.number}:".encode())
    if one.wire == BYTES:
        _feed(digest, one)
    else:
        digest.update(str(one.value).encode())
    return digest.hexdigest()


def _heads(gathered: Gathered, old: Model, new: Model, path: str) -> None:
    found, _ = changes(old.head, new.head)
    gathered.changes(path, found, lambda _: _STAMP)
    found, _ = changes({"opset": old.opsets}, {"opset": new.opsets})
    gathered.changes(path, found, lambda _: Judgement(Area.GRAPH, Effect.BEHAVIOUR, "what operators mean is up to it"))
    found, _ = changes({"metadata": old.properties}, {"metadata": new.properties})

    def judge(change: Change) -> Judgement:
        why = noise(path, change)
        return Judgement(Area.METADATA, Effect.NOTE, why) if why else _SETTING

    gathered.changes(path, found, judge)
    if sorted(old.rest) != sorted(new.rest):
        gathered.add(_GRAPH, f"{path}: functions", ItemKind.CHANGED, text="functions or training information differ")


def _graphs(gathered: Gathered, old: Graph, new: Graph, path: str) -> None:
    before, after = Numbering(old, _tensor_names(new)), Numbering(new, _tensor_names(old))
    one, other = list(before.lines()), list(after.lines())
    ops = [Counter(line[0] for line in lines) for lines in (one, other)]
    if ops[0] != ops[1]:
        added, removed = ops[1] - ops[0], ops[0] - ops[1]
        told = [f"{name} +{count}" for name, count in added.most_common()]
        told += [f"{name} -{count}" for name, count in removed.most_common()]
        gathered.add(_GRAPH, f"{path}: nodes", ItemKind.CHANGED, len(one), len(other), examples(told, 16))
    elif one != other:
        _nodes(gathered, one, other, path)
    elif before.rest != after.rest:
        gathered.add(_GRAPH, path, ItemKind.CHANGED, text="what else the graph says differs")
    elif before.outputs != after.outputs:
        gathered.add(_GRAPH, f"{path}: outputs", ItemKind.CHANGED, text="other values of the graph come out")
    elif before.fixed != after.fixed and sorted(before.fixed) == sorted(after.fixed):
        gathered.add(_GRAPH, path, ItemKind.CHANGED, text="renamed tensors changed places")
    elif before.shapes != after.shapes:
        gathered.add(_SHAPES, path, ItemKind.CHANGED)
    elif before.names != after.names:
        why = "names inside the graph, which nothing outside of it uses"
        text = (
            f"{sum(a != b for a, b in zip(before.names, after.names, strict=False)):,} names of nodes or values changed"
        )
        gathered.add(Judgement(Area.METADATA, Effect.NOTE, why), path, ItemKind.CHANGED, text=text)


def _nodes(gathered: Gathered, old: list[Line], new: list[Line], path: str) -> None:
    """The same operators: which nodes differ, in what."""
    differ = [at for at, (one, other) in enumerate(zip(old, new, strict=True)) if one != other]
    for at in differ[:SHOWN_NODES]:
        one, other = old[at], new[at]
        if one[0] != other[0]:
            break
        found, _ = changes(dict(one[2]), dict(other[2]))
        if one[1] != other[1]:
            found.append(Change((), ItemKind.CHANGED, text="other values go in or come out"))
        gathered.changes(f"{path}: node {at} {one[0]}", found, lambda _: _GRAPH)
    else:
        differ = differ[SHOWN_NODES:]
    if differ:
        gathered.add(
            _GRAPH, f"{path}: nodes", ItemKind.CHANGED, text=f"{len(differ):,} nodes differ or stand elsewhere"
        )


Line = tuple[str, tuple[str, ...], tuple[tuple[str, Any], ...]]
"""A node: operator, numbered wires, attributes."""


class Numbering:
    """A graph with its values numbered in order of appearance.

    Args:
        graph: it.
        others: names of tensors of the other side; those that both have keep their names.

    Attributes:
        names: of nodes and values, in order.
        fixed: digests of the tensors that do not keep their names, in order of use.
        outputs: what comes out.
        rest, shapes: what else the graphs say.
    """

    def __init__(self, graph: Graph, others: frozenset[str]) -> None:
        self.graph = graph
        self.kept = _tensor_names(graph) & others
        self.names: list[str] = []
        self.fixed: list[str] = []
        self.outputs: list[str] = []
        self.rest: list[str] = []
        self.shapes: list[str] = []

    def lines(self) -> Iterator[Line]:
        """Every node of the graph, and of the graphs in its attributes behind the node that has them."""
        yield from self._lines(self.graph, {})

    def _lines(self, graph: Graph, outer: dict[str, str]) -> Iterator[Line]:
        known = dict(outer)
        self.rest.extend(sorted(graph.rest))
        self.shapes.append(graph.shapes)
        for name in graph.inputs:
            if name not in graph.tensors:
                known[name] = f"%{len(known)}"
        for node in graph.nodes:
            self.names.append(node.name)
            wires = tuple(self._number(name, graph, known) for name in node.wires)
            attributes = []
            inner: list[Graph] = []
            for name, value in sorted(node.attributes.items()):
                attributes.append((name, self._value(value, node, inner)))
            yield node.op, (*wires, f"{node.outputs} out"), tuple(attributes)
            for at, sub in enumerate(inner):
                yield f"(graph {at} of {node.op})", (str(len(sub.inputs)),), ()
                yield from self._lines(sub, known)
        self.outputs.extend(self._number(name, graph, known) for name in graph.outputs)
        self.names.extend(graph.tensors)

    def _number(self, name: str, graph: Graph, known: dict[str, str]) -> str:
        if not name:
            return ""
        if name in self.kept:
            return f"={name}"
        found = known.get(name)
        if found is None:
            found = known[name] = f"%{len(known)}"
            said = graph.tensors.get(name)
            if said is not None:
                self.fixed.append(said)
                found = known[name] = f"{found} {said.partition('|')[0]}"
            else:
                self.names.append(name)
        return found

    def _value(self, value: Any, node: Node, inner: list[Graph]) -> Any:
        if isinstance(value, Graph):
            inner.append(value)
            return f"graph {len(inner)}"
        if isinstance(value, Tensor):
            kept = bool(node.wires) and node.wires[-1] in self.kept
            if node.op == "Constant" and not kept:
                self.fixed.append(value.said)
            return value.said.partition("|")[0] if node.op == "Constant" else value.said
        if isinstance(value, list):
            return [self._value(one, node, inner) for one in value]
        return value


def _tensor_names(graph: Graph) -> frozenset[str]:
    """Names of initialisers and constants, in this graph and those inside."""
    names: set[str] = set()
    stack = [graph]
    while stack:
        one = stack.pop()
        names.update(one.tensors)
        for node in one.nodes:
            if node.op == "Constant" and node.wires:
                names.add(node.wires[-1])
            stack.extend(_inside(node.attributes.values()))
    return frozenset(names)


def _inside(values: Iterable[Any]) -> list[Graph]:
    found = []
    for value in values:
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, Graph):
                found.append(one)  # noqa: PERF401 - two loops in one line read worse
    return found
