"""TensorFlow checkpoints, of TensorFlow 1 and 2.

    X.index                     names, shapes and places (``bundle``)
    X.data-00000-of-00001       elements
    X.meta                      the graph, TensorFlow 1
    checkpoint                  text file that names the newest checkpoint of the folder

``X`` may be empty: then the names begin with a dot.

Not here: the ``variables`` of a SavedModel, which are a bundle too but belong to ``savedmodel``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from posixpath import basename, dirname

from assay.containers.guard import guarded
from assay.containers.protobuf.message import message
from assay.containers.sstable import entries, is_table
from assay.errors import BadFormat
from assay.formats.tensorflow.bundle import (
    OBJECT_GRAPH,
    Bundle,
    is_optimizer,
    parameter_count,
    read_bundle,
    shard_paths,
)
from assay.formats.tensorflow.graph import MetaGraph, read_meta_graph, requirement
from assay.formats.tensorflow.ops import histogram, judge_ops
from assay.spec.description import Description
from assay.spec.finding import Finding
from assay.spec.json import Json
from assay.trees import Tree

STATE = "checkpoint"

_NEWEST = re.compile(r'^model_checkpoint_path:\s*"([^"\n]{0,4096})"', re.MULTILINE)


class TensorFlowCheckpointFormat:
    """The format of TensorFlow checkpoints: one group is an index with its shards, graph and state file."""

    name = "tensorflow-checkpoint"
    covers = "file"

    def detect(self, tree: Tree) -> Sequence[tuple[str, ...]]:
        """Indexes that begin with the header of a tensor bundle, outside SavedModels."""
        indexes = [path for path in tree if path.endswith(".index") and _is_bundle(tree, path)]
        states = {tree.sibling(path, STATE): _newest(tree, tree.sibling(path, STATE)) for path in indexes}
        groups = []
        for path in indexes:
            prefix = path.removesuffix(".index")
            state = tree.sibling(path, STATE)
            alone = sum(dirname(other) == dirname(path) for other in indexes) == 1
            newest = states[state]
            files = [path, *shard_paths(tree, path)]
            if f"{prefix}.meta" in tree:
                files.append(f"{prefix}.meta")
            if newest is not None and (alone or basename(newest) == basename(prefix)):
                files.append(state)
            groups.append(tuple(files))
        return groups

    def describe(self, tree: Tree, paths: tuple[str, ...]) -> Description:
        """Say everything one checkpoint says.

        Raises:
            BadFormat: the index is not readable at all.
        """
        index = paths[0]
        with guarded("a TensorFlow checkpoint", index):
            bundle = read_bundle(tree, index)
            findings = list(bundle.findings)
            meta = _graph(tree, f"{index.removesuffix('.index')}.meta", paths, findings)
            signature = meta.main
            return Description(
                format=self.name,
                paths=tuple(sorted(paths)),
                format_version=str(bundle.version) if bundle.version else None,
                framework="tensorflow",
                framework_version=meta.version,
                tensors=bundle.tensors,
                parameter_count=parameter_count(bundle.tensors),
                inputs=signature.inputs if signature else tuple(meta.graph.placeholders),
                outputs=signature.outputs if signature else (),
                requirements=(requirement(meta.version),),
                metadata=_metadata(bundle, meta),
                findings=tuple(findings),
            )


def _is_bundle(tree: Tree, path: str) -> bool:
    folder = dirname(path)
    if basename(path) == "variables.index" and basename(folder) == "variables":
        model = tree.sibling(folder, "saved_model.pb")
        if model in tree:
            return False
    try:
        window = tree.open(path)
        return is_table(window) and next((not key for key, _ in entries(window)), False)
    except BadFormat:
        return False


def _newest(tree: Tree, state: str) -> str | None:
    """The checkpoint that a state file names, None when there is no such file."""
    if state not in tree:
        return None
    found = _NEWEST.search(tree.head(state).decode("utf-8", "replace"))
    return found[1] if found else None


def _graph(tree: Tree, path: str, paths: Sequence[str], findings: list[Finding]) -> MetaGraph:
    if path not in paths:
        return MetaGraph()
    meta = read_meta_graph(message(tree.open(path)))
    graph = meta.graph
    findings += [*judge_ops(graph.ops, path, graph.library), *graph.findings]
    findings += graph.names.judge(meta.given, path)
    return meta


def _metadata(bundle: Bundle, meta: MetaGraph) -> dict[str, Json]:
    optimizer = [spec for spec in bundle.tensors if is_optimizer(spec.name)]
    optional: dict[str, Json] = {
        "shards": bundle.shards,
        "optimizer_tensors": len(optimizer),
        "optimizer_parameters": sum(spec.size for spec in optimizer),
        "sliced_tensors": bundle.sliced,
        "has_object_graph": any(spec.name == OBJECT_GRAPH for spec in bundle.tensors),
        "tags": list(meta.tags),
        "git_version": meta.git_version,
        "ops": histogram(meta.graph.ops),
        "nodes": meta.graph.nodes,
        "functions": meta.graph.functions,
        "signatures": {name: signature.to_json() for name, signature in meta.signatures.items()},
    }
    return {key: value for key, value in optional.items() if value}
