"""Frozen TensorFlow graphs: a bare GraphDef in one ``.pb`` file, its weights in constants."""

from __future__ import annotations

from collections.abc import Sequence

from assay.containers.guard import guarded
from assay.containers.protobuf.message import message
from assay.errors import BadFormat
from assay.formats.tensorflow.graph import first_node, read_graph
from assay.formats.tensorflow.ops import histogram, judge_ops, known_ops
from assay.spec.description import Description
from assay.spec.finding import Finding, Severity
from assay.trees import Tree

_FIRST_FIELD = 0x0A


class FrozenGraphFormat:
    """The format of bare GraphDef files."""

    name = "tensorflow-graph"
    covers = "file"

    def detect(self, tree: Tree) -> Sequence[tuple[str, ...]]:
        """Files whose first field is a node with an operation that TensorFlow has."""
        return [(path,) for path in tree if tree.head(path)[:1] == bytes([_FIRST_FIELD]) and _is_graph(tree, path)]

    def describe(self, tree: Tree, paths: tuple[str, ...]) -> Description:
        """Say everything one graph says.

        Raises:
            BadFormat: it is not a GraphDef message.
        """
        path = paths[0]
        with guarded("a TensorFlow graph", path):
            source = message(tree.open(path), clip=True)
            graph = read_graph(source, constants=True)
            if source.reader.cut is not None:
                text = "the graph ends early"
                graph.findings.append(Finding("tensorflow-unreadable", Severity.INCOMPLETE, text, path))
            tensors = tuple(graph.constants.values())
            findings = [*judge_ops(graph.ops, path, graph.library), *graph.findings, *graph.names.judge((), path)]
            return Description(
                format=self.name,
                paths=(path,),
                framework="tensorflow",
                tensors=tensors,
                parameter_count=sum(spec.size for spec in tensors if spec.trained),
                inputs=tuple(graph.placeholders),
                outputs=tuple(graph.sinks()),
                requirements=("tensorflow",),
                metadata={"ops": histogram(graph.ops), "nodes": graph.nodes, "functions": graph.functions},
                findings=tuple(findings),
            )


def _is_graph(tree: Tree, path: str) -> bool:
    try:
        node = first_node(message(tree.open(path), max_fields=1000, clip=True))
    except BadFormat:
        return False
    return node is not None and node[1] in known_ops()
