"""Builders of skops archives around any node; nothing in them does harm if it were built."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any


def node(loader: str, content: Any = None, kind: str = "builtins.dict", **more: Any) -> dict[str, Any]:
    """A node of a schema."""
    module, _, name = kind.rpartition(".")
    return {"__class__": name, "__module__": module, "__loader__": loader, "content": content, **more}


def estimator(**attributes: Any) -> dict[str, Any]:
    """An ordinary estimator."""
    return node("ObjectNode", node("DictNode", attributes), "sklearn.svm._classes.SVC")


def archive(schema: Any) -> bytes:
    """An archive with a schema."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("schema.json", json.dumps({**schema, "protocol": 2, "_skops_version": "0.12.0"}))
    return buffer.getvalue()
