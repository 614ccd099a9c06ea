"""YAML and JSON files of other systems, as plain JSON values.

They may come from anywhere: what a few bytes of aliases would unfold to is counted before it is unfolded.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import date
from typing import Any

import yaml

from assay.errors import BadFormat, LimitExceeded
from assay.spec.json import Json

MAX_BYTES = 16 << 20
_MAX_VALUES = 500_000
_MAX_DEPTH = 100
_MAX_INTEGER = 1 << 63
# PyYAML lets through what its constructors stumble over ("!!float" without a number is an IndexError).
_WRONG = (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)


def mapping(data: bytes, what: str) -> dict[str, Any]:
    """The mapping that a YAML (or JSON) document is; empty when it is something else.

    Dates become text, and so do numbers that JSON cannot say; keys are text.

    Args:
        data: the document.
        what: names it in messages.

    Raises:
        BadFormat: it is no YAML.
        LimitExceeded: it is too large, or unfolds to more than can be meant.
    """
    if len(data) > MAX_BYTES:
        raise LimitExceeded(f"{what} has {len(data):,} bytes, at most {MAX_BYTES:,} are read")
    try:
        body = _json(data)
        if body is None:
            body = _yaml(data, what)
        return {str(key): _plain(value) for key, value in body.items()} if isinstance(body, Mapping) else {}
    except _WRONG as error:
        raise BadFormat(f"{what} is no YAML: {(str(error).splitlines() or ['nested too deeply'])[0]}") from error


def _json(data: bytes) -> object:
    """What a JSON document says: JSON is YAML, and read a hundred times faster; None for what is none."""
    if not data.lstrip().startswith(b"{"):
        return None
    try:
        return json.loads(data)
    except ValueError:
        return None


def _yaml(data: bytes, what: str) -> object:
    loader = yaml.SafeLoader(data)
    try:
        node = loader.get_single_node()
        if node is None:
            return {}
        _weigh(node, {}, what)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def numbers_of(values: Mapping[str, Json]) -> dict[str, float]:
    """Those of the values that are finite numbers."""
    return {
        key: float(value)
        for key, value in values.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def flat(body: Mapping[str, Json], prefix: str = "") -> dict[str, Json]:
    """Nested mappings under dotted names.

    >>> flat({"train": {"lr": 0.1}, "layers": [1, 2]})
    {'train.lr': 0.1, 'layers': [1, 2]}
    """
    found: dict[str, Json] = {}
    for key, value in body.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _weigh(node: yaml.Node, known: dict[int, int | None], what: str, depth: int = 0) -> int:
    """How many values a node unfolds to; each shared node is walked once."""
    if id(node) in known:
        weight = known[id(node)]
        if weight is None:
            raise BadFormat(f"{what} holds itself")
        return weight
    if depth > _MAX_DEPTH:
        raise LimitExceeded(f"{what} is nested more than {_MAX_DEPTH} deep")
    known[id(node)] = None
    children: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        children = [child for pair in node.value for child in pair]
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    weight = 1 + sum(_weigh(child, known, what, depth + 1) for child in children)
    if weight > _MAX_VALUES:
        raise LimitExceeded(f"{what} unfolds to more than {_MAX_VALUES:,} values")
    known[id(node)] = weight
    return weight


def _plain(value: object) -> Json:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= _MAX_INTEGER:
        return hex(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return value.isoformat() if isinstance(value, date) else str(value)
