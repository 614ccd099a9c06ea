"""MLflow's model signature: JSON texts inside the YAML of ``MLmodel``, as ports.

Columns are ``{"type": "double", "name": "a", "required": true}``; tensors are
``{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 28]}}``. Source: MLflow documentation, "Model
Signatures", and ``mlflow/types/schema.py``.
"""

from __future__ import annotations

from typing import Any

from assay.containers.documents import parse_json, plain
from assay.formats.boosting.tabular import MAX_NAME
from assay.spec.description import Port
from assay.spec.json import Json

MAX_FIELDS = 4096
_DTYPES = {"double": "float64", "float": "float32", "long": "int64", "integer": "int32", "boolean": "bool"}


def ports(text: object, fallback: str, path: str) -> tuple[Port, ...]:
    """The fields of ``signature.inputs`` or ``signature.outputs``; *fallback* names those without a name.

    Raises:
        BadFormat: the text is not a JSON list.
    """
    return tuple(_port(field, fallback, index) for index, field in enumerate(_fields(text, path)))


def parameters(text: object, path: str) -> Json:
    """The inference parameters of ``signature.params`` with type and default.

    Raises:
        BadFormat: the text is not a JSON list.
    """
    return [plain(field) for field in _fields(text, path)] or None


def _fields(text: object, path: str) -> list[Any]:
    if not isinstance(text, str):
        return []
    value = parse_json(text.encode("utf-8", "replace"), path).value
    return list(value[:MAX_FIELDS]) if isinstance(value, list) else []


def _port(field: Any, fallback: str, index: int) -> Port:
    body = field if isinstance(field, dict) else {}
    name = body.get("name")
    label = str(name)[:MAX_NAME] if name not in (None, "") else f"{fallback}{index or ''}"
    spec = body.get("tensor-spec")
    if isinstance(spec, dict):
        shape = spec.get("shape")
        sizes = shape[:64] if isinstance(shape, list) else []
        return Port(label, str(spec.get("dtype"))[:MAX_NAME], tuple(_size(size) for size in sizes))
    return Port(label, _dtype(body, 4), (None,))


def _size(size: Any) -> int | str | None:
    return size if isinstance(size, int) and size >= 0 else None


def _dtype(body: Any, depth: int) -> str:
    kind = body.get("type") if isinstance(body, dict) else body
    if isinstance(kind, str) and kind == "array" and depth:
        return f"sequence({_dtype(body.get('items'), depth - 1)})"
    return _DTYPES.get(kind, kind[:MAX_NAME]) if isinstance(kind, str) else "unknown"
