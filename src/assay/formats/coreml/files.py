"""Core ML: one protocol-buffer file (``.mlmodel``), or a package folder with a manifest and a weight file.

Source of the layout: Model.proto and FeatureTypes.proto of coremltools; ``Manifest.json`` of ``.mlpackage``.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Sequence
from typing import ClassVar

from assay.containers.foreign import is_foreign
from assay.containers.guard import guarded
from assay.containers.locations import escaping
from assay.containers.protobuf.message import BYTES, VARINT, Field, message
from assay.errors import BadFormat, LimitExceeded
from assay.formats.coreml.index import MAX_DEPTH, Index
from assay.formats.coreml.networks import read_linear, read_network, read_trees
from assay.formats.coreml.programs import read_program
from assay.formats.coreml.schema import ARRAY_TYPES, MODEL_KINDS
from assay.spec.description import Description, Port
from assay.spec.finding import Severity
from assay.spec.json import Json
from assay.trees import Tree

MAX_PORTS = 10_000
MAX_PROPERTIES = 256
MAX_TEXT = 400
"""Characters of one text that are shown."""

MAX_MANIFEST = 1 << 20
"""Bytes of a package's ``Manifest.json``."""

MAX_RANK = 64

_LARGEST_SPECIFICATION = 1_000
_DETECT_FIELDS = 10_000
_SOURCE = "com.github.apple.coremltools.source"
_VERSION = "com.github.apple.coremltools.version"
_TASKS = {"Classifier": "classification", "Regressor": "regression"}
_UNNAMED = frozenset({"mlProgram", "neuralNetwork", "neuralNetworkClassifier", "neuralNetworkRegressor"})
"""Kinds that hold a network of any architecture."""

_PIPELINES = frozenset({"pipeline", "pipelineClassifier", "pipelineRegressor"})


class CoreMlFormat:
    """The Core ML format; a group is a model file, then its package's manifest and weight files."""

    name: ClassVar[str] = "coreml"
    covers: ClassVar[str] = "file"

    def detect(self, tree: Tree) -> Sequence[tuple[str, ...]]:
        """Files whose outermost fields are a specification version, a description and one kind of model."""
        models = [path for path in tree if _looks_like_coreml(tree, path)]
        manifests = {path: _manifest_paths(tree, path) for path in tree.named("Manifest.json")}
        taken = set(models)
        groups: list[tuple[str, ...]] = []
        for path in models:
            folder = posixpath.dirname(path)
            beside: set[str] = set()
            for manifest, items in manifests.items():
                if path in items:
                    beside.add(manifest)
                    beside.update(entry for item in items for entry in (item, *tree.under(item)) if entry in tree)
            if tree.under(f"{folder}/weights" if folder else "weights"):
                index = Index(tree, path)
                _read(index, _Facts())
                beside |= {side for side in index.side_files if not is_foreign(tree.head(side))}
            beside -= taken
            taken |= beside
            groups.append((path, *sorted(beside)))
        return groups

    def describe(self, tree: Tree, paths: tuple[str, ...]) -> Description:
        """Kind, signature, layers or operations, weights and authorship of one model.

        Raises:
            BadFormat: it is no Core ML model.
        """
        path = paths[0]
        with guarded("a Core ML model", path):
            index, facts = Index(tree, path), _Facts()
            _read(index, facts)
            if facts.kind is None:
                raise BadFormat(f"{path}: no kind of Core ML model in it", path=path, offset=0)
            return _description(index, facts, paths)


class _Facts:
    """The outside of a model: version, kind, signature and authorship."""

    def __init__(self) -> None:
        self.version: int | None = None
        self.kind: str | None = None
        self.inputs: list[Port] = []
        self.outputs: list[Port] = []
        self.texts: dict[int, str] = {}
        self.properties: dict[str, str] = {}
        self.updatable = False


def _looks_like_coreml(tree: Tree, path: str) -> bool:
    if tree.head(path)[:1] != b"\x08":
        return False
    seen: set[int] = set()
    try:
        for part in message(tree.open(path), max_fields=_DETECT_FIELDS, clip=True):
            number = part.number
            known = number in {1, 2, 10} or number in MODEL_KINDS
            if not known or part.wire != (VARINT if number in {1, 10} else BYTES):
                return False
            if number == 1 and not 0 < part.value < _LARGEST_SPECIFICATION:
                return False
            if number == 2:
                # A description holds features and texts only.
                inner = {each.number for each in part if each.wire != BYTES or each.number > 200}
                if inner:
                    return False
            seen.add(number)
    except BadFormat:
        return False
    return {1, 2} <= seen and len(seen & MODEL_KINDS.keys()) == 1


def _manifest_paths(tree: Tree, path: str) -> frozenset[str]:
    """Entries that a package's manifest names; empty when it is no such manifest."""
    if tree.size(path) > MAX_MANIFEST:
        return frozenset()
    try:
        document = json.loads(tree.open(path).read())
        items = document["itemInfoEntries"].values()
        folder = tree.sibling(path, "Data")
        return frozenset(f"{folder}/{item['path']}" for item in items if isinstance(item.get("path"), str))
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return frozenset()


def _read(index: Index, facts: _Facts) -> None:
    root = message(index.tree.open(index.path), clip=True)
    try:
        _read_model(root, index, facts, "", 0)
    except BadFormat as error:
        index.damaged(error)
    if root.reader.cut is not None:
        text = "the file ends in the middle of a field"
        index.report("coreml-truncated", Severity.INCOMPLETE, text, root.reader.cut)


def _read_model(model: Field, index: Index, facts: _Facts, scope: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise model.reader.fail(model.start, f"more than {MAX_DEPTH} nested models")
    for part in model:
        if part.number == 1:
            facts.version = part.signed
        elif part.number == 2:
            try:
                _read_description(part, facts)
            except LimitExceeded:
                raise
            except BadFormat as error:
                index.damaged(error)
        elif part.number == 10:
            facts.updatable = bool(part.integer)
        elif part.number in MODEL_KINDS and part.wire == BYTES:
            facts.kind = MODEL_KINDS[part.number]
            try:
                _read_kind(part, facts.kind, index, scope, depth)
            except LimitExceeded:
                raise
            except BadFormat as error:
                index.damaged(error)
        else:
            text = f"unknown kind of model or field {part.number}"
            index.report("coreml-unknown-field", Severity.INCOMPLETE, text, part.offset)


def _read_kind(part: Field, kind: str, index: Index, scope: str, depth: int) -> None:
    if kind.startswith("neuralNetwork"):
        read_network(part, index, scope, 0)
    elif kind == "mlProgram":
        read_program(part, index, scope)
    elif kind.startswith("treeEnsemble"):
        read_trees(part, index)
    elif kind.startswith("glm"):
        read_linear(part, index, scope)
    elif kind in _PIPELINES:
        pipeline = part if kind == "pipeline" else next((each for each in part if each.number == 1), None)
        names = [each.text(256) for each in pipeline or () if each.number == 2]
        models = [each for each in pipeline or () if each.number == 1]
        for position, model in enumerate(models):
            facts = _Facts()
            name = names[position] if position < len(names) else f"model-{position}"
            _read_model(model, index, facts, f"{scope}{name}/", depth + 1)
            index.component(f"{scope}{name}", facts.kind or "unknown")
    elif kind == "customModel":
        # The class is compiled into the application: the file can neither bring it nor say where to get it.
        index.report("coreml-outside", Severity.NOTE, "a customModel needs the application's own class", part.offset)
    elif kind == "linkedModel":
        _linked(part, index)
    elif part.size > MAX_TEXT:
        text = f"the parameters of a {kind} are not listed"
        index.report("coreml-unlisted-weights", Severity.INCOMPLETE, text, part.offset)


def _linked(part: Field, index: Index) -> None:
    """A model that points to another file: name and search path, each with a default value."""
    names = [word for inner in part for given in inner for word in _words(given) if word]
    reason = next((why for why in map(escaping, names) if why), None)
    if reason:
        text = f"a linkedModel points to another model file: its place {reason}"
        index.report("coreml-external-escape", Severity.READ, text, part.offset)
    else:
        text = "a linkedModel points to another model file, which was not looked at"
        index.report("coreml-linked-model", Severity.INCOMPLETE, text, part.offset)


def _words(given: Field) -> list[str]:
    return [word.text(4096) for word in given if word.number == 1 and word.wire == BYTES]


def _read_description(description: Field, facts: _Facts) -> None:
    for part in description:
        if part.number == 1 and len(facts.inputs) < MAX_PORTS:
            facts.inputs.append(_read_port(part))
        elif part.number == 10 and len(facts.outputs) < MAX_PORTS:
            facts.outputs.append(_read_port(part))
        elif part.number == 100:
            for each in part:
                if each.number in {1, 2, 3, 4}:
                    facts.texts[each.number] = each.text(4096)
                elif each.number == 100 and len(facts.properties) < MAX_PROPERTIES:
                    words = {inner.number: inner.text(4096) for inner in each if inner.number in {1, 2}}
                    facts.properties[words.get(1, "")] = words.get(2, "")


def _read_port(feature: Field) -> Port:
    name, dtype = "", "unknown"
    shape: tuple[int | str | None, ...] | None = None
    for part in feature:
        if part.number == 1:
            name = part.text(512)
        elif part.number == 3:
            for each in part:
                if each.number in _FEATURES:
                    dtype, shape = _FEATURES[each.number], () if each.number <= 2 else None
                elif each.number == 4:
                    sizes = {inner.number: inner.integer for inner in each if inner.number in {1, 2}}
                    dtype, shape = "image", (sizes.get(2), sizes.get(1))
                elif each.number == 5:
                    dtype, shape = _read_array(each)
    return Port(name, dtype, shape)


_FEATURES = {1: "int64", 2: "float64", 3: "string", 6: "dictionary", 7: "sequence", 8: "state"}


def _read_array(array: Field) -> tuple[str, tuple[int | str | None, ...] | None]:
    """Element type and shape of a multi-array; a dimension with a range of sizes is None."""
    dtype = "unknown"
    shape: list[int] = []
    open_dimensions: list[bool] = []
    for part in array:
        if part.number == 1:
            shape += part.signed_integers(MAX_RANK * 10)
        elif part.number == 2:
            dtype = ARRAY_TYPES.get(part.integer, f"coreml-type-{part.integer}")
        elif part.number == 31:
            for size_range in part:
                bounds = {each.number: each.signed for each in size_range if each.number in {1, 2}}
                open_dimensions.append(bounds.get(1, 0) != bounds.get(2, 0))
    if len(open_dimensions) == len(shape):
        return dtype, tuple(None if is_open else size for size, is_open in zip(shape, open_dimensions, strict=True))
    return dtype, tuple(shape) or None


def _description(index: Index, facts: _Facts, paths: tuple[str, ...]) -> Description:
    kind = facts.kind or ""
    task = next((word for suffix, word in _TASKS.items() if kind.endswith(suffix)), None)
    short, version, author, license_text = (facts.texts.get(number, "") for number in (1, 2, 3, 4))
    found: dict[str, Json] = {
        "specification_version": facts.version,
        "kind": kind,
        "ops": dict(index.operators.most_common()),
        "description": _shortened(short),
        "version": _shortened(version),
        "author": _shortened(author),
        "source": facts.properties.get(_SOURCE, ""),
        "updatable": facts.updatable,
        **index.facts,
        "properties": {_shortened(key): _shortened(value) for key, value in facts.properties.items()},
    }
    return Description(
        format="coreml",
        paths=tuple(sorted(paths)),
        format_version=None if facts.version is None else str(facts.version),
        framework="coreml",
        framework_version=facts.properties.get(_VERSION),
        architecture=None if kind in _UNNAMED else kind or None,
        task=task,
        tensors=tuple(index.tensors),
        inputs=tuple(facts.inputs),
        outputs=tuple(facts.outputs),
        components=tuple(index.components),
        requirements=("coremltools",),
        licenses=(_shortened(license_text),) if license_text else (),
        metadata={key: value for key, value in found.items() if value not in (None, "", False, {}, [])},
        findings=tuple(index.findings),
    )


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}… ({len(text):,} characters)"
