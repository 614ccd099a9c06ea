"""JSON as a value: the type of any document, and its one canonical byte form.

Canonical form: UTF-8, keys sorted by code point, no white space, non-ASCII characters unescaped, no NaN. Written once
here because manifests and statements are identified by these bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

Json = bool | int | float | str | None | Sequence["Json"] | Mapping[str, "Json"]


def canonical(value: Json) -> bytes:
    r"""The canonical bytes of *value*.

    Raises:
        ValueError: the value holds NaN or an infinity, which JSON cannot say.

    >>> canonical({"b": 1, "a": [True, None, "é"]})
    b'{"a":[true,null,"\xc3\xa9"],"b":1}'
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
    return text.encode("utf-8")


def read_scalar(text: str) -> Json:
    """A value out of a text that somebody typed or stored: a number or a truth value where it reads as one, else text.

    >>> [read_scalar(text) for text in ("3", "0.1", "true", "nan", "adam")]
    [3, 0.1, True, 'nan', 'adam']
    """
    if text.lower() in {"true", "false"}:
        return text.lower() == "true"
    for kind in (int, float):
        try:
            value = kind(text)
            if math.isfinite(value):
                return value
        except (ValueError, OverflowError):
            continue
    return text
