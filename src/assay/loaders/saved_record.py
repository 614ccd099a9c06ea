"""``assay_model.json``: what a saver knew of a live object that its files do not say.

A JSON object with ``schema`` (1), ``framework``, ``class`` (module and name of the live object's class),
``hyperparameters`` and ``notes``. It never makes a loader import what it names: ``class`` only chooses among classes
that the loader knows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path

from assay.loaders.frameworks import imported
from assay.loaders.hazards import settings
from assay.spec.json import Json

NAME = "assay_model.json"
MAX_TEXT = 1000
MAX_ITEMS = 1000
MAX_DEPTH = 6


def write_record(
    folder: Path, *, framework: str, model: object, hyperparameters: Mapping[str, Json], notes: Sequence[str] = ()
) -> None:
    """Write the record of a live object."""
    body = {
        "schema": 1,
        "framework": framework,
        "class": class_name(model),
        "hyperparameters": dict(hyperparameters),
        "notes": list(notes),
    }
    text = json.dumps(body, ensure_ascii=False, allow_nan=False, indent=1, sort_keys=True)
    (folder / NAME).write_text(f"{text}\n", "utf-8")


def recorded_class(folder: Path) -> str | None:
    """The class a record in *folder* names, or None."""
    found = settings(folder / NAME).get("class")
    return found if isinstance(found, str) else None


def class_name(model: object) -> str:
    """Module and qualified name of a value's class.

    >>> class_name(1)
    'builtins.int'
    """
    return f"{type(model).__module__}.{type(model).__qualname__}"


def plain(value: object, depth: int = 0) -> Json:
    """A setting as a JSON value: what JSON cannot say becomes its class's name, long texts and lists are shortened."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if isfinite(value) else str(value)
    if isinstance(value, str):
        return value[:MAX_TEXT]
    if depth < MAX_DEPTH:
        if isinstance(value, Mapping):
            items = list(value.items())[:MAX_ITEMS]
            return {str(key)[:MAX_TEXT]: plain(item, depth + 1) for key, item in items}
        if isinstance(value, (list, tuple)):
            return [plain(item, depth + 1) for item in value[:MAX_ITEMS]]
    numpy = imported("numpy")
    if numpy is not None and isinstance(value, numpy.generic):
        return plain(value.item(), depth + 1)
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    return f"<{class_name(value)}>"
