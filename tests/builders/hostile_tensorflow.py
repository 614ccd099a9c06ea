"""Builders of TensorFlow files whose graphs reach outside: every operation stands alone, wired to nothing that runs."""

from __future__ import annotations

import json
from typing import Any

from tensorflow_files import bundle, constant, graph, meta_graph, node, proto, saved_model, shape

TEXT = "string"


def text_constant(*texts: str) -> bytes:
    """The value attribute of a constant of text."""
    return proto((8, proto((1, 7), (2, shape(len(texts))), *((8, text) for text in texts))))


def with_op(op: str, *inputs: str, **attributes: bytes) -> bytes:
    """A graph with one operation beside ordinary ones."""
    return graph(node("x", "Placeholder"), node("y", "Relu", "x"), node("z", op, *inputs, **attributes))


def in_function(op: str) -> bytes:
    """A graph whose function library has the operation."""
    call = proto((10, proto((1, "f"))))
    main = [node("x", "Placeholder"), node("call", "PartitionedCall", "x", f=call)]
    return graph(*main, functions={"f": [node("y", op, "x")]})


def model(graph_def: bytes, files: dict[str, bytes] | None = None, **more: Any) -> dict[str, bytes]:
    """A SavedModel with variables around a graph."""
    index, data = bundle({"w": ("float32", (2,), bytes(8))})
    return {
        "m/saved_model.pb": saved_model(meta_graph(graph_def, **more)),
        "m/variables/variables.index": index,
        "m/variables/variables.data-00000-of-00001": data,
        **(files or {}),
    }


def checkpoint(graph_def: bytes) -> dict[str, bytes]:
    """A checkpoint of TensorFlow 1 with its graph."""
    index, data = bundle({"w": ("float32", (2,), bytes(8))})
    return {"c.index": index, "c.data-00000-of-00001": data, "c.meta": meta_graph(graph_def)}


def everywhere(op: str) -> list[dict[str, bytes]]:
    """The places an operation can stand in."""
    plain, nested = with_op(op, "x"), in_function(op)
    second = saved_model(meta_graph(graph(node("x", "Placeholder"))), meta_graph(plain, tags=("train",)))
    return [
        model(plain),
        model(nested),
        {"m/saved_model.pb": second},
        {"frozen.pb": plain},
        {"frozen.pb": nested},
        checkpoint(plain),
        checkpoint(nested),
    ]


def saver(file_name: str | None = None) -> bytes:
    """The saver of every SavedModel; with *file_name* it brings its own name along."""
    given = node("file", "Placeholder")
    if file_name is not None:
        given = node("file", "Const", value=text_constant(file_name))
    names = node("names", "Const", value=text_constant("w"))
    return graph(
        node("x", "Placeholder"),
        given,
        names,
        node("save", "SaveV2", "file", "names", "names", "x"),
        node("restore", "RestoreV2", "file", "names", "names"),
    )


def old_saver() -> bytes:
    """The saver of TensorFlow 1."""
    return graph(
        node("save/filename/input", "Const", value=text_constant("model")),
        node("save/filename", "PlaceholderWithDefault", "save/filename/input"),
        node("save/Const", "PlaceholderWithDefault", "save/filename"),
        node("part", "Const", value=text_constant("_temp_0123/part")),
        node("save/StringJoin", "StringJoin", "save/Const", "part"),
        node("save/SaveV2", "SaveV2", "save/StringJoin", "part", "part", "w"),
        node("save/Save", "SaveSlices", "save/Const", "part", "part", "w"),
        node("save/RestoreV2", "RestoreV2", "save/Const", "part", "part"),
        node("w", "VariableV2"),
    )


def printing(stream: str) -> bytes:
    """A graph that prints to a stream."""
    return with_op("PrintV2", "x", output_stream=proto((2, stream)))


def compiled(module: bytes) -> bytes:
    """A graph that runs a compiled module."""
    return with_op("XlaCallModule", "x", module=proto((2, module)))


def notes(*objects: Any) -> bytes:
    """A ``keras_metadata.pb`` with notes about objects."""
    return proto(
        *((1, proto((2, number), (4, "_tf_keras_layer"), (5, json.dumps(item)))) for number, item in enumerate(objects))
    )


def weight(name: str) -> bytes:
    """A constant of numbers."""
    return node(name, "Const", value=constant("float32", (2,), bytes(8)))
