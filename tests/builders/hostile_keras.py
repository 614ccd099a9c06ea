"""Builders of Keras files: archives and HDF5 models around any configuration, hostile ones inert if they ran."""

from __future__ import annotations

import base64
import io
import json
import marshal
import zipfile
from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np

CODE = base64.b64encode(marshal.dumps(compile("lambda x: x", "<inert>", "eval"))).decode()
"""Marshalled code that does nothing, as Keras keeps a Lambda's function."""


def obj(name: str, module: str | None = "keras.layers", config: Any = None, **more: Any) -> dict[str, Any]:
    """A serialised object of Keras 3."""
    return {"class_name": name, "module": module, "config": {} if config is None else config, **more}


def dense(name: str = "dense", **config: Any) -> dict[str, Any]:
    """An ordinary layer."""
    return obj("Dense", config={"name": name, "units": 3, "activation": "relu", **config}, registered_name=None)


def sequential(*layers: Any, **more: Any) -> dict[str, Any]:
    """A model of layers."""
    return obj("Sequential", "keras", {"name": "net", "layers": list(layers)}, registered_name=None, **more)


def wrapped(inner: Any) -> list[dict[str, Any]]:
    """The places an object can hide in: a layer, a wrapped one, a nested model, a setting deep in a configuration."""
    return [
        sequential(dense("a"), inner),
        sequential(obj("TimeDistributed", config={"name": "t", "layer": inner})),
        sequential(obj("Bidirectional", config={"name": "b", "layer": dense(), "backward_layer": inner})),
        sequential(sequential(sequential(inner))),
        sequential(dense(kernel_initializer=obj("Constant", "keras.initializers", {"value": {"deep": [[inner]]}}))),
        sequential(dense(), compile_config={"optimizer": "adam", "loss": {"out": [inner]}}),
        sequential(dense(), build_config={"input_shape": [None, 4], "extra": {"a": inner}}),
    ]


def archive(config: Any, members: Mapping[str, bytes] | None = None, *, metadata: bool = True) -> bytes:
    """A ``.keras`` file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        if metadata:
            file.writestr("metadata.json", json.dumps({"keras_version": "3.9.0", "date_saved": "2025-01-02@03:04:05"}))
        file.writestr("config.json", config if isinstance(config, str) else json.dumps(config))
        file.writestr("model.weights.h5", weights())
        for name, data in (members or {}).items():
            file.writestr(name, data)
    return buffer.getvalue()


def weights() -> bytes:
    """Weights of one layer as Keras 3 writes them."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        variables = file.create_group("layers/dense/vars")
        variables["0"], variables["1"] = np.zeros((4, 3), "f4"), np.zeros(3, "f4")
    return buffer.getvalue()


def h5(config: Any = None, training: Any = None) -> bytes:
    """A full model in HDF5."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.attrs["keras_version"], file.attrs["backend"] = "2.15.0", "tensorflow"
        for key, value in (("model_config", config), ("training_config", training)):
            if value is not None:
                file.attrs[key] = json.dumps(value)
        file["model_weights/dense/dense/kernel:0"] = np.zeros((4, 3), "f4")
    return buffer.getvalue()


def external_link() -> bytes:
    """Weights whose layer lies in another file."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["layers/dense/vars/0"] = np.zeros(3, "f4")
        file["layers/dense_1"] = h5py.ExternalLink("/nonexistent/inert.h5", "/x")
    return buffer.getvalue()


def external_storage() -> bytes:
    """Weights whose elements lie in another file."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        group = file.create_group("layers/dense/vars")
        group.create_dataset("0", (3,), "f4", external=[("/nonexistent/inert.bin", 0, 12)])
    return buffer.getvalue()


def virtual() -> bytes:
    """Weights put together from another file."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver="latest") as file:
        layout = h5py.VirtualLayout((3,), "f4")
        layout[:] = h5py.VirtualSource("/nonexistent/inert.h5", "x", (3,))
        file.create_group("layers/dense/vars").create_virtual_dataset("0", layout)
    return buffer.getvalue()
