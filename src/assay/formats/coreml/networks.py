"""Core ML neural networks: layers and their weights, and the simple classical models beside them.

Source of the layout: NeuralNetwork.proto, TreeEnsemble.proto and GLMClassifier.proto of coremltools.
"""

from __future__ import annotations

from math import prod

from assay.containers.protobuf.message import BYTES, Field
from assay.formats.coreml.index import MAX_DEPTH, Index
from assay.formats.coreml.schema import LAYER_KINDS, LSTM_WEIGHTS, NESTED_WEIGHT_FIELDS, WEIGHT_FIELDS
from assay.spec.finding import Severity
from assay.spec.json import Json
from assay.spec.tensor import Extent

MAX_LABELS = 64
"""Class labels that are shown."""

_LARGEST_UNREAD = 4096
_LARGEST_SIZES = 640
_SIZE_FIELDS: dict[str, tuple[int, ...]] = {
    "convolution": (1, 2, 10, 20, 60),
    **dict.fromkeys(("innerProduct", "embedding", "embeddingND", "uniDirectionalLSTM", "biDirectionalLSTM"), (1, 2)),
    **dict.fromkeys(("scale", "bias", "loadConstant", "loadConstantND"), (1,)),
    **dict.fromkeys(("gru", "simpleRecurrent"), (1, 2)),
}
_NETWORK_FIELDS = {"branch": (1, 2), "loop": (3, 4)}
_FLOAT32, _FLOAT16, _RAW, _INT8_RAW, _QUANTISATION = 1, 2, 30, 31, 40


def read_network(message: Field, index: Index, scope: str, depth: int) -> None:
    """Layers and labels of a ``NeuralNetwork`` (or its classifier and regressor forms).

    Raises:
        LimitExceeded: there are more fields or tensors than may be visited.
        BadFormat: networks nest deeper than ``MAX_DEPTH``, or this is no such message.
    """
    if depth > MAX_DEPTH:
        raise message.reader.fail(message.start, f"more than {MAX_DEPTH} nested networks")
    for part in message:
        if part.number == 1 and part.wire == BYTES:
            index.layer(part, lambda layer: _read_layer(layer, index, scope, depth))
        elif part.number in {100, 101} and depth == 0:
            read_labels(part, index)


def read_labels(message: Field, index: Index) -> None:
    """Class labels: a ``StringVector`` or ``Int64Vector``.

    Raises:
        BadFormat: it is no such message.
    """
    labels: list[Json] = []
    count = 0
    for part in message:
        if message.number == 100:
            count += 1
            if len(labels) < MAX_LABELS:
                labels.append(part.text(200))
        else:
            numbers = part.signed_integers()
            count += len(numbers)
            labels += numbers[: MAX_LABELS - len(labels)]
    index.facts["class_names"] = labels
    index.facts["classes"] = count


def read_trees(message: Field, index: Index) -> None:
    """Number of trees and nodes of a ``TreeEnsembleClassifier`` or ``TreeEnsembleRegressor``.

    Raises:
        LimitExceeded: there are more fields than may be visited.
        BadFormat: it is no such message.
    """
    trees: set[int] = set()
    nodes = 0
    for part in message:
        if part.number == 1:
            for node in part:
                if node.number == 1:
                    nodes += 1
                    trees.add(next((each.integer for each in node if each.number == 1), 0))
        elif part.number in {100, 101}:
            read_labels(part, index)
    index.facts["trees"] = len(trees)
    index.facts["nodes"] = nodes


def read_linear(message: Field, index: Index, scope: str) -> None:
    """Coefficients of a ``GLMClassifier`` or ``GLMRegressor``: one row of float64 per class or output.

    Raises:
        BadFormat: it is no such message.
    """
    rows = 0
    for part in message:
        if part.number == 1:
            for values in part:
                if values.number == 1 and values.wire == BYTES and values.size % 8 == 0:
                    extent = Extent(index.path, values.offset, values.size)
                    index.add(f"{scope}weights.{rows}", "float64", (values.size // 8,), extent)
            rows += 1
        elif part.number == 2 and part.wire == BYTES and part.size % 8 == 0:
            index.add(f"{scope}offset", "float64", (part.size // 8,), Extent(index.path, part.offset, part.size))
        elif part.number in {100, 101}:
            read_labels(part, index)


def _read_layer(message: Field, index: Index, scope: str, depth: int) -> None:
    name, body = "", None
    for part in message:
        if part.number == 1:
            name = part.text(512)
        elif part.number >= 100 and part.wire == BYTES:
            body = part
    if body is None:
        raise message.reader.fail(message.start, "layer without a kind")
    kind = LAYER_KINDS.get(body.number, f"layer-{body.number}")
    shown = _read_body(body, kind, f"{scope}{name}", index, depth)
    index.component(f"{scope}{name}", shown)


def _read_body(body: Field, kind: str, name: str, index: Index, depth: int) -> str:
    """Weights and nested networks of a layer; returns the kind to show."""
    fields = WEIGHT_FIELDS.get(kind, {})
    nested = NESTED_WEIGHT_FIELDS.get(kind)
    shown, custom, seen = kind, 0, 0
    sizes: dict[int, list[int]] = {}
    found: list[tuple[str, str, Field]] = []
    for part in body:
        if part.number in fields and part.wire == BYTES:
            word = fields[part.number]
            found.append((f"{name}.{word}.{custom}" if kind == "custom" else f"{name}.{word}", word, part))
            custom += 1
        elif part.number == nested:
            for each in part:
                word = LSTM_WEIGHTS.get(each.number, f"weights-{each.number}")
                found.append((f"{name}.{word}" if seen == 0 else f"{name}.backward.{word}", word, each))
            seen += 1
        elif part.number in _NETWORK_FIELDS.get(kind, ()):
            read_network(part, index, f"{name}/{part.number}/", depth + 1)
        elif kind == "custom" and part.number == 10:
            shown = f"custom:{part.text(200)}"
            text = f"layer {name!r} needs the application's own class {shown[7:]!r}"
            index.report("coreml-custom-layer", Severity.NOTE, text, part.offset)
        elif part.number in _SIZE_FIELDS.get(kind, ()):
            sizes.setdefault(part.number, []).extend(part.integers(_LARGEST_SIZES))
        elif part.wire == BYTES and part.size > _LARGEST_UNREAD and not fields:
            text = f"weights of layer {name!r} ({kind}) are not listed"
            index.report("coreml-unlisted-weights", Severity.INCOMPLETE, text, part.offset)
    for full, word, part in found:
        _weights(part, full, _expected_shape(kind, word, sizes), index)
    return shown


def _expected_shape(kind: str, word: str, sizes: dict[int, list[int]]) -> tuple[int, ...] | None:
    """The shape that a layer's settings give to its weights, outermost dimension first."""
    first, second = sizes.get(1, [0]), sizes.get(2, [0])
    if word == "weights" and kind == "convolution":
        if sizes.get(60) == [1]:  # a deconvolution stores its weights the other way round
            return (second[0], first[0] // max(1, sizes.get(10, [1])[0]), *sizes.get(20, []))
        return (first[0], second[0], *sizes.get(20, []))
    if word == "weights" and kind in {"innerProduct", "embedding", "embeddingND"}:
        return (second[0], first[0])
    if word in {"scale", "bias", "data"} and kind in {"scale", "bias", "loadConstant", "loadConstantND"}:
        return tuple(first)
    if kind in {"uniDirectionalLSTM", "biDirectionalLSTM", "gru", "simpleRecurrent"}:
        if word.endswith("weights"):
            return (second[0], first[0])
        if word.endswith("recursion"):
            return (second[0], second[0])
    return None


def _weights(message: Field, name: str, shape: tuple[int, ...] | None, index: Index) -> None:
    """Index a ``WeightParams``: floats as they are, quantised numbers as unsigned integers of their width."""
    payload: tuple[str, int, Field] | None = None
    raw: Field | None = None
    bits = 8
    for part in message:
        if part.number == _FLOAT32 and part.wire == BYTES:
            payload = ("float32", 32, part)
        elif part.number == _FLOAT16 and part.size:
            payload = ("float16", 16, part)
        elif part.number == _INT8_RAW and part.size:
            payload = ("int8", 8, part)
        elif part.number == _RAW and part.size:
            raw = part
        elif part.number == _QUANTISATION:
            bits = next((each.integer for each in part if each.number == 1), 8)
    if payload is None and raw is not None and 1 <= bits <= 8:
        payload = (f"uint{bits}", bits, raw)
    if payload is None:
        return
    dtype, width, data = payload
    count = data.size * 8 // width
    if shape is not None and (prod(shape) * width + 7) // 8 == data.size:
        index.add(name, dtype, shape, Extent(index.path, data.offset, data.size))
        return
    if data.size * 8 % width and width >= 8:
        index.report("coreml-data-length", Severity.MISLEAD, f"weights of {name!r} end inside a number", data.offset)
        return
    index.add(name, dtype, (count,), Extent(index.path, data.offset, data.size))
