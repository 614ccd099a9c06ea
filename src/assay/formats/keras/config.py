"""What a Keras model configuration says: layers, inputs and outputs, training settings.

The same JSON document stands in HDF5 attributes (``model_config``, ``training_config``) and in ``config.json`` of a
``.keras`` archive, in the dialects of Keras 1 to 3.

Not here: what loading the configuration could do (``audit``).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite

from assay.formats.keras.shapes import UNKNOWN, Shape, output_shape, shape_of
from assay.spec.description import Component, Port
from assay.spec.json import Json

MAX_LAYERS = 50_000
"""Layers of one model, nested ones included."""

MAX_DEPTH = 24
"""Models inside models, and settings inside settings."""

MAX_SETTING = 200
"""Characters of one text setting, and values of one list setting."""

_BOILERPLATE = frozenset(
    {"name", "layers", "input_layers", "output_layers", "batch_input_shape", "batch_shape", "build_input_shape"}
)
_PARTS = ("layer", "forward_layer", "backward_layer", "cell", "cells", "layers")
"""Settings whose values are layers themselves."""

_MODELS = frozenset({"Functional", "Model", "Sequential"})
_TASKS = {
    "binary_crossentropy": "binary-classification",
    "categorical_crossentropy": "classification",
    "sparse_categorical_crossentropy": "classification",
    "mean_squared_error": "regression",
    "mean_absolute_error": "regression",
    "mse": "regression",
    "mae": "regression",
}


@dataclass(slots=True)
class Model:
    """What a configuration says.

    Args:
        kind: class of the model (``Functional``, ``Sequential``, or a class of the author's).
        name: the model's name.
        components: its layers in order.
        inputs, outputs: where it says them.
        layers: number of layers at the top.
        classes: layer class to how often it occurs, nested models included.
        truncated: whether there were more layers, or deeper ones, than are read.
    """

    kind: str
    name: str | None = None
    components: tuple[Component, ...] = ()
    inputs: tuple[Port, ...] = ()
    outputs: tuple[Port, ...] = ()
    layers: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    truncated: bool = False


def parse(text: str) -> Json:
    """A JSON document of Keras; NaN and infinities become text.

    Raises:
        ValueError: it is not JSON, or nested too deeply.
    """
    try:
        value: Json = json.loads(text, parse_constant=str)
    except RecursionError:
        raise ValueError("JSON is nested too deeply") from None
    return value


def read_model(document: Json, weights: Mapping[str, Mapping[str, str]]) -> Model | None:
    """The model of a configuration, or None when it is no serialised object.

    Args:
        document: the parsed configuration.
        weights: layer name to its weights, each as short text (``float32[3, 2]``).
    """
    if not isinstance(document, Mapping) or not isinstance(document.get("class_name"), str):
        return None
    kind = str(document["class_name"])
    config = document.get("config")
    name = config.get("name") if isinstance(config, Mapping) else None
    model = Model(kind, str(name)[:MAX_SETTING] if isinstance(name, str) else None)
    layers = _layers(config)
    model.truncated = len(layers) > MAX_LAYERS
    layers = layers[:MAX_LAYERS]
    model.components = tuple(_component(item, model, weights, 1) for item in layers)
    model.layers = len(layers)
    if kind.rpartition(">")[2] in _MODELS or layers:
        model.inputs, model.outputs = _ports(config, layers)
    return model


def read_training(document: Json) -> tuple[dict[str, Json], str | None]:
    """Training settings (optimizer, loss, metrics) and the task that the loss speaks of, if any."""
    if not isinstance(document, Mapping):
        return {}, None
    settings: dict[str, Json] = {}
    for source, key in (("optimizer_config", "optimizer"), ("optimizer", "optimizer"), ("loss", "loss")):
        value = setting(document.get(source))
        if value not in (None, [], {}):
            settings[key] = value
    for key in ("metrics", "weighted_metrics", "loss_weights", "sample_weight_mode", "jit_compile"):
        value = setting(document.get(key))
        if value not in (None, [], {}, False):
            settings[key] = value
    loss = settings.get("loss")
    if isinstance(loss, Mapping) and len(loss) == 1:
        loss = next(iter(loss))
    words = "".join(f"_{c.lower()}" if c.isupper() else c for c in loss).strip("_") if isinstance(loss, str) else ""
    return settings, _TASKS.get(words)


def setting(value: Json, depth: int = 0) -> Json:
    """A setting in the words a person would use: ``{"class_name": "Zeros", "config": {}}`` is ``"Zeros"``."""
    if depth > MAX_DEPTH:
        return "…"
    if isinstance(value, str):
        return value if len(value) <= MAX_SETTING else value[: MAX_SETTING - 1] + "…"
    if isinstance(value, float) and not isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        name = value.get("class_name")
        if isinstance(name, str) and "config" in value:
            return _object(name, value["config"], depth)
        pairs = list(value.items())[:MAX_SETTING]
        return {str(key)[:MAX_SETTING]: setting(item, depth + 1) for key, item in pairs}
    if isinstance(value, list):
        return [setting(item, depth + 1) for item in value[:MAX_SETTING]]
    return value


def _object(name: str, config: Json, depth: int) -> Json:
    if name == "__tuple__" and isinstance(config, list):
        return setting(config, depth + 1)
    if isinstance(config, str):
        return setting(config, depth + 1)
    if not isinstance(config, Mapping):
        return name
    if "Policy" in name and isinstance(config.get("name"), str):
        return str(config["name"])
    inner = {k: setting(v, depth + 1) for k, v in list(config.items())[:MAX_SETTING] if v is not None and k != "name"}
    return {name: inner} if inner else name


def _layers(config: Json) -> list[Mapping[str, Json]]:
    # Keras before 2.2.3 wrote a Sequential model's configuration as the bare list of its layers.
    listed = config.get("layers") if isinstance(config, Mapping) else config
    return [item for item in listed if isinstance(item, Mapping)] if isinstance(listed, list) else []


def _component(
    item: Mapping[str, Json], model: Model, weights: Mapping[str, Mapping[str, str]], depth: int
) -> Component:
    kind = str(item.get("class_name") or "object")[:MAX_SETTING]
    config = item.get("config")
    inner = config if isinstance(config, Mapping) else {}
    name = str(item.get("name") or inner.get("name") or kind)[:MAX_SETTING]
    model.classes[kind] += 1
    children: list[Component] = []
    parts = [(key, part) for key in _PARTS for part in _parts(inner.get(key))]
    if not inner and isinstance(config, list):
        parts = [("layers", part) for part in _layers(config)]
    for key, part in parts:
        if depth >= MAX_DEPTH or model.classes.total() >= MAX_LAYERS:
            model.truncated = True
            break
        child = _component(part, model, weights, depth + 1)
        children.append(child if key in {"layers", "cells"} else Component(key, child.kind, child.hyperparameters))
    settings = {
        key: setting(value)
        for key, value in inner.items()
        if value is not None
        and key not in _BOILERPLATE
        and not (key == "trainable" and value is True)
        and not (key in _PARTS and _parts(value))
    }
    return Component(name, kind, settings, weights.get(name, {}), tuple(children))


def _parts(value: Json) -> list[Mapping[str, Json]]:
    items = value if isinstance(value, list) else [value]
    return [item for item in items if isinstance(item, Mapping) and "class_name" in item and "config" in item]


def _ports(config: Json, layers: list[Mapping[str, Json]]) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    shapes: dict[str, Shape | None] = {}
    by_name: dict[str, Mapping[str, Json]] = {}
    previous: Shape | None = None
    sequential = not (isinstance(config, Mapping) and "input_layers" in config)
    build = shape_of(config.get("build_input_shape")) if isinstance(config, Mapping) else None
    first: Port | None = None
    for item in layers:
        inner = item.get("config")
        inner = inner if isinstance(inner, Mapping) else {}
        name = str(item.get("name") or inner.get("name") or "")
        by_name[name] = inner
        own = shape_of(inner.get("batch_shape")) or shape_of(inner.get("batch_input_shape"))
        if sequential:
            given = own or previous or (build if first is None else None)
        else:
            given = own or _given(item.get("inbound_nodes"), shapes)
        kind = str(item.get("class_name") or "")
        shapes[name] = previous = given if kind == "InputLayer" else output_shape(kind, inner, given)
        if first is None:
            first = Port(name, _dtype(inner), given)
    if sequential:
        last = next(reversed(by_name), None)
        outputs = (Port(last, _dtype(by_name[last]), _known(shapes[last])),) if last is not None else ()
        return ((first,) if first and first.shape else ()), outputs
    inner = config if isinstance(config, Mapping) else {}
    ports = [
        tuple(
            Port(name, _dtype(by_name.get(name, {})), _known(shapes.get(name))) for name in _endpoints(inner.get(key))
        )
        for key in ("input_layers", "output_layers")
    ]
    return ports[0], ports[1]


def _known(shape: Shape | None) -> Shape | None:
    return None if shape is None or UNKNOWN in shape else shape


def _given(nodes: Json, shapes: dict[str, Shape | None]) -> Shape | None:
    """The shape of the first input of a layer, from its first inbound node."""
    stack: list[Json] = [nodes[0]] if isinstance(nodes, list) and nodes else []
    for _ in range(10_000):
        if not stack:
            break
        value = stack.pop()
        if isinstance(value, Mapping):
            if value.get("class_name") == "__keras_tensor__" and isinstance(value.get("config"), Mapping):
                config = value["config"]
                return shape_of(config.get("shape")) if isinstance(config, Mapping) else None
            stack.extend(reversed(list(value.values())))
        elif isinstance(value, list):
            if len(value) >= 3 and isinstance(value[0], str) and isinstance(value[1], int):
                return shapes.get(value[0])
            stack.extend(reversed(value))
    return None


def _endpoints(value: Json) -> list[str]:
    """Layer names in a nest of ``[name, node, tensor]`` triples."""
    names: list[str] = []
    stack: list[Json] = [value]
    while stack and len(names) < MAX_LAYERS:
        item = stack.pop()
        if isinstance(item, Mapping):
            stack.extend(reversed(list(item.values())))
        elif isinstance(item, list):
            if len(item) == 3 and isinstance(item[0], str) and all(isinstance(part, int) for part in item[1:]):
                names.append(item[0][:MAX_SETTING])
            else:
                stack.extend(reversed(item))
    return names


def _dtype(config: Mapping[str, Json]) -> str:
    value = setting(config.get("dtype"))
    return value if isinstance(value, str) and value else "float32"
