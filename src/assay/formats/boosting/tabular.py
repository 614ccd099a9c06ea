"""What models over tables of features share: ports from feature names, and plain values from text.

Not here: any one format.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from assay.containers.documents import plain
from assay.spec.description import Port
from assay.spec.json import Json

MAX_PORTS = 4096
"""Features that are listed one by one; beyond that they are one port of that width."""
MAX_NAME = 500
"""Characters of a feature's name that are kept."""

_INTEGER = re.compile(r"-?(?:0|[1-9]\d{0,17})", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:\d{1,40}\.\d{0,40}|\.\d{1,40}|\d{1,18}(?=[eE]))(?:[eE][-+]?\d{1,3})?", re.ASCII)


def feature_ports(
    names: Sequence[str], types: Sequence[str] = (), *, width: int | None = None, default: str = "float32"
) -> tuple[Port, ...]:
    """One port per named feature, or one port ``features`` of the width when there are no (or too many) names.

    Args:
        names: feature names in column order.
        types: dtype per feature; *default* where it is shorter.
        width: number of features when there are no names.
        default: dtype of features without one.
    """
    if names and len(names) <= MAX_PORTS:
        return tuple(
            Port(name[:MAX_NAME], types[index] if index < len(types) else default, (None,))
            for index, name in enumerate(names)
        )
    count = len(names) or width
    return (Port("features", default, (None, count)),) if count else ()


def setting(value: object) -> Json:
    """A setting as a JSON value: as ``documents.plain``, and numbers that were written as text become numbers."""
    if isinstance(value, str):
        return _number(value)
    if isinstance(value, Mapping):
        return plain({key: setting(item) if isinstance(item, str) else item for key, item in value.items()})
    return plain(value)


def _number(text: str) -> Json:
    # Text that a number would not give back (leading zeros, underscores) is an identifier, not a number.
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        value = float(text)
        if math.isfinite(value):
            return value
    return plain(text)
