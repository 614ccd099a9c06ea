"""TensorFlow SavedModel directories: graphs, signatures, variables, objects.

    saved_model.pb                     SavedModel: schema version, one graph per set of tags
    keras_metadata.pb                  Keras' notes about its layers (TensorFlow 2.5 to 2.15)
    fingerprint.pb                     hashes and an id (TensorFlow 2.11 and later)
    variables/variables.index          tensor bundle (``bundle``)
    variables/variables.data-0000…
    assets/…, assets.extra/…           vocabularies and the like

Source: the field numbers of ``saved_model.proto`` and ``fingerprint.proto``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from posixpath import basename

from assay.containers.foreign import is_foreign
from assay.containers.guard import guarded
from assay.containers.protobuf.message import BYTES, message
from assay.errors import BadFormat
from assay.formats.keras.config import Model, read_model, read_training
from assay.formats.keras.documents import counts, document_of, model_of
from assay.formats.tensorflow.bundle import (
    OBJECT_GRAPH,
    Bundle,
    is_optimizer,
    parameter_count,
    read_bundle,
    shard_paths,
)
from assay.formats.tensorflow.file_names import leads_away
from assay.formats.tensorflow.graph import MetaGraph, read_meta_graph, requirement
from assay.formats.tensorflow.objects import Objects, is_layer, read_keras_metadata, read_objects
from assay.formats.tensorflow.ops import histogram, judge_ops
from assay.spec.description import Component, Description
from assay.spec.finding import Finding, Severity
from assay.spec.json import Json
from assay.spec.tensor import TensorSpec
from assay.trees import Tree

MAX_GRAPHS = 100
"""Graphs of one SavedModel."""

MAX_ASSETS = 10_000
"""Names of assets that are looked for."""

MAX_NOTES = 32 << 20
"""Characters of Keras' notes about all objects."""

MAX_FINDINGS = 500
"""Findings about one SavedModel's objects."""

_MAIN = "saved_model.pb"
_BEGINNING = b"\x08\x01\x12"
_VARIABLES = "variables/variables.index"
_SIDE_FILES = ("keras_metadata.pb", "fingerprint.pb", "saved_model.pbtxt")


class SavedModelFormat:
    """The format of SavedModel directories: one group is a ``saved_model.pb`` with everything that belongs to it."""

    name = "tensorflow-savedmodel"
    covers = "file"

    def detect(self, tree: Tree) -> Sequence[tuple[str, ...]]:
        """Files that hold a SavedModel message, each with the files beside it that belong to it."""
        groups = []
        for path in tree:
            if tree.head(path).startswith(_BEGINNING) and _is_saved_model(tree, path):
                side = [tree.sibling(path, name) for name in _SIDE_FILES]
                files = [name for name in side if name in tree]
                index = tree.sibling(path, _VARIABLES)
                files += [name for name in (index,) if name in tree] + list(shard_paths(tree, index))
                files += _assets(tree, path)
                # A renamed file is a SavedModel too, but only the right name has a directory around it.
                groups.append((path, *files) if basename(path) == _MAIN else (path,))
        return groups

    def describe(self, tree: Tree, paths: tuple[str, ...]) -> Description:
        """Say everything one SavedModel says.

        Raises:
            BadFormat: ``saved_model.pb`` is not a SavedModel message.
        """
        path = paths[0]
        with guarded("a SavedModel", path):
            findings: list[Finding] = []
            version, graphs = _read_graphs(tree, path, findings)
            meta = next((graph for graph in graphs if "serve" in graph.tags), graphs[0] if graphs else MetaGraph())
            bundle = _variables(tree, path, paths, findings)
            objects = _objects(tree, path, paths, meta, findings)
            documents = _documents(objects, path, findings)
            model, training, task = _keras(documents, path, findings)
            for graph in graphs:
                found = [
                    *judge_ops(graph.graph.ops, path, graph.graph.library),
                    *graph.graph.findings,
                    *_names(graph, path),
                ]
                findings += [finding for finding in found if finding not in findings]
            tensors = bundle.tensors or tuple(meta.graph.constants.values())
            signature = meta.main
            return Description(
                format=self.name,
                paths=tuple(sorted(paths)),
                format_version=str(version),
                framework="tensorflow",
                framework_version=meta.version,
                architecture=model.kind if model else None,
                task=task,
                tensors=tensors,
                parameter_count=parameter_count(_counted(tensors)),
                inputs=signature.inputs if signature else (),
                outputs=signature.outputs if signature else (),
                hyperparameters=training,
                components=model.components if model else _layers(documents),
                requirements=(requirement(meta.version),),
                metadata={
                    **_metadata(graphs, meta, bundle, objects),
                    **counts(model),
                    **_fingerprint(tree, path, paths),
                },
                findings=tuple(findings),
            )


def _assets(tree: Tree, path: str) -> list[str]:
    """Files that the graphs name as assets; others of the folder, and files of other kinds, stand for themselves."""
    names: set[str] = set()
    try:
        for graph in message(tree.open(path), clip=True):
            for part in graph if graph.number == 2 and graph.wire == BYTES else ():
                if part.number == 6 and part.wire == BYTES and len(names) < MAX_ASSETS:
                    names.update(inner.text(1000) for inner in part if inner.number == 2 and inner.wire == BYTES)
    except BadFormat:
        pass  # describing the file says so
    found = (tree.sibling(path, f"assets/{name}") for name in sorted(names) if name and not leads_away(name))
    return [name for name in found if name in tree and not is_foreign(tree.head(name))]


def _names(meta: MetaGraph, path: str) -> list[Finding]:
    """Findings about files that the graph names: assets outside their folder, and names it brings along."""
    found = meta.graph.names.judge(meta.given, path)
    for name in meta.assets:
        if leads_away(name):
            text = "an asset lies outside the folder of assets"
            effect = "read a file outside the artifact"
            found.append(
                Finding("tensorflow-asset-escape", Severity.READ, text, path, evidence=name[:200], effect=effect)
            )
    return found


def _is_saved_model(tree: Tree, path: str) -> bool:
    """Whether a message has a schema version and then a graph that begins with notes about who wrote it."""
    try:
        for part in message(tree.open(path), max_fields=1000, clip=True):
            if part.number == 2 and part.wire == BYTES:
                info = next(iter(part), None)
                if info is None or info.number != 1 or info.wire != BYTES:
                    return False
                numbers = {inner.number for inner in info}
                return bool(numbers & {2, 4, 5}) and numbers <= set(range(1, 10))
    except BadFormat:
        return False
    return False


def _read_graphs(tree: Tree, path: str, findings: list[Finding]) -> tuple[int, list[MetaGraph]]:
    version = 0
    graphs: list[MetaGraph] = []
    source = message(tree.open(path), clip=True)
    try:
        for part in source:
            if part.number == 1 and part.wire != BYTES:
                version = part.integer
            elif part.number == 2:
                if len(graphs) >= MAX_GRAPHS:
                    findings.append(_incomplete("tensorflow-limit", f"more than {MAX_GRAPHS} graphs", path))
                    break
                graphs.append(read_meta_graph(part, constants=True))
    except BadFormat as error:
        findings.append(_incomplete("tensorflow-unreadable", "the SavedModel message is damaged", path, error.message))
    if source.reader.cut is not None:
        findings.append(_incomplete("tensorflow-unreadable", "the SavedModel message ends early", path))
    return version, graphs


def _variables(tree: Tree, path: str, paths: Sequence[str], findings: list[Finding]) -> Bundle:
    index = tree.sibling(path, _VARIABLES)
    if index not in paths:
        if shard_paths(tree, index):
            findings.append(_incomplete("tf-checkpoint-index", "variables have data but no index", path))
        return Bundle()
    try:
        bundle = read_bundle(tree, index)
    except BadFormat as error:
        findings.append(
            _incomplete("tf-checkpoint-index", "the index of the variables is damaged", index, error.message)
        )
        return Bundle()
    findings += bundle.findings
    return bundle


def _objects(tree: Tree, path: str, paths: Sequence[str], meta: MetaGraph, findings: list[Finding]) -> Objects:
    objects = Objects()
    notes = tree.sibling(path, "keras_metadata.pb")
    place = path
    try:
        if meta.objects is not None:
            objects = read_objects(meta.objects)
        if notes in paths:
            place = notes
            read_keras_metadata(message(tree.open(notes)), objects)
    except BadFormat as error:
        findings.append(_incomplete("tensorflow-unreadable", "the object graph is damaged", place, error.message))
    if objects.truncated:
        findings.append(_incomplete("tensorflow-limit", "the object graph has more notes than are read", place))
    return objects


def _documents(objects: Objects, path: str, findings: list[Finding]) -> dict[int, Json]:
    """Keras' notes by object, every one of them audited."""
    documents: dict[int, Json] = {}
    left = MAX_NOTES
    for number, text in sorted(objects.notes.items()):
        left -= len(text)
        if left < 0 or len(findings) >= MAX_FINDINGS:
            why = "the objects have more notes, or more findings about them, than are looked at"
            findings.append(_incomplete("tensorflow-limit", why, path))
            break
        documents[number] = document_of(text, f"the notes of object {number}", path, findings, needed=False)
    return documents


def _keras(
    documents: Mapping[int, Json], path: str, findings: list[Finding]
) -> tuple[Model | None, dict[str, Json], str | None]:
    """The Keras model at the root of the objects, if there is one."""
    document = documents.get(0)
    if not isinstance(document, Mapping) or not is_layer(document):
        return None, {}, None
    training, task = read_training(document.get("training_config"))
    model = model_of(document, {}, path, findings)
    return (model if model and model.components else None), training, task


def _counted(tensors: Sequence[TensorSpec]) -> Sequence[TensorSpec]:
    """The tensors that are parameters, of a model that Keras 3 exported.

    Its export keeps a second copy of every variable, and the states of random generators (two whole numbers each)
    stand among the weights without a name of their own.
    """
    if not any(spec.name.startswith("variables/") for spec in tensors):
        return tensors
    seeds = {("int64", (2,)), ("uint32", (2,))}
    return [
        spec
        for spec in tensors
        if not spec.name.startswith("_all_variables/") and (spec.dtype, spec.shape) not in seeds
    ]


def _layers(documents: Mapping[int, Json]) -> tuple[Component, ...]:
    """Layers by the notes about each, for models that have no configuration of their own."""
    layers: list[Component] = []
    for number, document in documents.items():
        if number and isinstance(document, Mapping) and is_layer(document):
            layer = read_model({"class_name": "Notes", "config": {"layers": [document]}}, {})
            layers += layer.components if layer else ()
    return tuple(layers)


def _metadata(graphs: Sequence[MetaGraph], meta: MetaGraph, bundle: Bundle, objects: Objects) -> dict[str, Json]:
    graph = meta.graph
    optimizer = [spec for spec in bundle.tensors if is_optimizer(spec.name)]
    shown: dict[str, Json] = {
        "tags": [list(graph.tags) for graph in graphs],
        "signatures": {name: signature.to_json() for name, signature in meta.signatures.items()},
        "ops": histogram(graph.ops),
        "nodes": graph.nodes,
        "functions": graph.functions,
    }
    optional: dict[str, Json] = {
        "git_version": meta.git_version,
        "assets": list(meta.assets),
        "objects": {name[:200]: count for name, count in objects.kinds.most_common(50)},
        "variables": objects.variables,
        "trainable_variables": objects.trainable,
        "optimizer_tensors": len(optimizer),
        "constants": len(graph.constants) if bundle.tensors else 0,
        "shards": bundle.shards,
        "has_object_graph": any(spec.name == OBJECT_GRAPH for spec in bundle.tensors),
    }
    return {**shown, **{key: value for key, value in optional.items() if value}}


def _fingerprint(tree: Tree, path: str, paths: Sequence[str]) -> dict[str, Json]:
    name = tree.sibling(path, "fingerprint.pb")
    if name not in paths:
        return {}
    try:
        for part in message(tree.open(name), max_fields=100):
            if part.number == 7 and part.wire == BYTES:
                return {"fingerprint": part.text(100)}
    except BadFormat:
        # It is a convenience for caches: a damaged one says nothing about the model.
        return {}
    return {}


def _incomplete(rule: str, text: str, path: str, evidence: str = "") -> Finding:
    return Finding(rule, Severity.INCOMPLETE, text, path, evidence=evidence[:200])
